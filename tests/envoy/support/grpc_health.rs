//! `grpc.health.v1`, as kubelet and Envoy ask it.

use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::block_on;

/// A client of one server.
#[derive(Debug, Clone)]
pub(crate) struct GrpcHealth(HealthClient<Channel>);

/// A watch that was begun.
#[derive(Debug)]
pub(crate) struct HealthWatch(Streaming<HealthCheckResponse>);

impl GrpcHealth {
    pub(crate) fn connect(address: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self(HealthClient::new(block_on(async { endpoint.connect().await.unwrap() })))
    }

    /// Over a Unix socket.
    pub(crate) fn connect_unix(path: &std::path::Path) -> Self {
        let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).unwrap();
        Self(HealthClient::new(block_on(async { endpoint.connect().await.unwrap() })))
    }

    /// The status of a service; the empty name is the server.
    pub(crate) fn check(&self, service: &str) -> ServingStatus {
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut client = self.0.clone();
        block_on(async { client.check(request).await.unwrap().into_inner().status() })
    }

    pub(crate) fn watch(&self, service: &str) -> HealthWatch {
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut client = self.0.clone();
        HealthWatch(block_on(async { client.watch(request).await.unwrap().into_inner() }))
    }
}

impl HealthWatch {
    /// Waits for the next status.
    pub(crate) fn next(&mut self) -> ServingStatus {
        block_on(async { self.0.message().await.unwrap().expect("another status").status() })
    }
}
