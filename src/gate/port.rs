//! What the check port serves: checks, gRPC health and, where it is wanted, reflection.

use std::convert::Infallible;
use std::sync::{Arc, Once};

use hyper::body::Incoming;
use hyper::service::Service as HyperService;
use hyper::{Request, Response};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::service::Routes;

use super::check::{CheckService, Decider};
use crate::admin::Health;
use crate::proto::DESCRIPTORS;
use crate::proto::envoy::service::auth::v3::authorization_server::AuthorizationServer;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Greatest `CheckRequest`, in bytes. Envoy's own limit of headers is 60 KiB, and some of it comes twice.
const MAX_REQUEST_SIZE: usize = 256 * 1024;

/// The services of the check port. Checks do not pass the router: it costs as much as they do.
#[derive(Debug, Clone)]
pub(crate) struct CheckPort {
    checks: AuthorizationServer<CheckService<Decider>>,
    others: axum::Router,
}

impl CheckPort {
    pub(crate) fn new(checks: CheckService<Decider>, others: axum::Router) -> Self {
        let checks = AuthorizationServer::from_arc(Arc::new(checks));
        Self { checks: checks.max_decoding_message_size(MAX_REQUEST_SIZE), others }
    }
}

impl HyperService<Request<Incoming>> for CheckPort {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let path = request.uri().path();
        if path == CHECK {
            return self.checks.clone().call(request);
        }
        if path.starts_with("/envoy.service.auth.v2") {
            warn_of_v2();
        }
        let mut others = self.others.clone();
        Box::pin(async move { Ok(others.call(request).await?.map(Body::new)) })
    }
}

/// Health, and reflection where it is wanted; everything else is answered UNIMPLEMENTED.
///
/// # Errors
/// The descriptors are not in order.
pub(crate) fn other_services(
    health: &Health,
    reflection: bool,
) -> Result<axum::Router, tonic_reflection::server::Error> {
    let routes = Routes::new(health.grpc());
    if !reflection {
        return Ok(routes.into_axum_router());
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    Ok(routes.add_service(reflection).into_axum_router())
}

fn warn_of_v2() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::warn!(
            "Envoy asks in the language of ext_authz v2, which is not understood: set `transport_api_version: V3`"
        );
    });
}
