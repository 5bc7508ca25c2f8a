//! The gRPC code generated from `proto/`.

/// Descriptors of all of them, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                tonic::include_proto!("envoy.config.core.v3");
            }
        }
    }
    pub mod service {
        pub mod auth {
            #[expect(
                clippy::allow_attributes,
                clippy::allow_attributes_without_reason,
                reason = "generated code"
            )]
            pub mod v3 {
                tonic::include_proto!("envoy.service.auth.v3");
            }
        }
    }
    pub mod r#type {
        pub mod v3 {
            tonic::include_proto!("envoy.r#type.v3");
        }
    }
}

pub mod google {
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

pub mod scoregate {
    pub mod policy {
        #[expect(
            clippy::allow_attributes,
            clippy::allow_attributes_without_reason,
            reason = "generated code"
        )]
        pub mod v1 {
            tonic::include_proto!("scoregate.policy.v1");
        }
    }
}
