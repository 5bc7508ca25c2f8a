//! A collector of OTLP, by the generated server of `opentelemetry-proto`: it keeps what it is sent, or never answers. A real
//! one is a Go program of some hundred modules, and says no more about a span than this.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use scoregate::shutdown::Shutdown;
use scoregate::tls::{AllowedPeers, Clients, ServerTls, TlsFiles};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

use crate::support::{Identity, block_on, spawn, wait_for};

/// A running one.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    exports: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

#[derive(Debug, Clone)]
struct Server {
    exports: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    hangs: bool,
}

impl Collector {
    pub(crate) fn start() -> Self {
        Self::with(false, None)
    }

    /// One that never answers.
    pub(crate) fn hanging() -> Self {
        Self::with(true, None)
    }

    /// One that speaks TLS, with clients of this CA that are called `gate-1`.
    pub(crate) fn with_tls(identity: &Identity, clients: &Path) -> Self {
        let files = TlsFiles { certificate: identity.certificate.clone(), key: identity.key.clone() };
        let allowed = AllowedPeers::new(["dns:gate-1"]).unwrap();
        let clients = Clients { ca: clients.to_owned(), allowed, optional: false };
        Self::with(false, Some(ServerTls::load(files, Some(clients)).unwrap()))
    }

    fn with(hangs: bool, tls: Option<ServerTls>) -> Self {
        let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let exports = Arc::default();
        let server = Server { exports: Arc::clone(&exports), hangs };
        spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let (server, tls) = (server.clone(), tls.as_ref().map(ServerTls::current));
                tokio::spawn(async move {
                    match tls {
                        None => serve(connection, server).await,
                        Some(tls) => {
                            if let Some((connection, _)) = tls.accept(connection, &Shutdown::default()).await
                            {
                                serve(connection, server).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, exports }
    }

    /// As `telemetry.otlp_endpoint` has it.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans of a service, by the name that it gives itself.
    pub(crate) fn spans_of(&self, service: &str) -> Vec<Span> {
        let exports = self.exports.lock().unwrap();
        let resources = exports.iter().flat_map(|export| &export.resource_spans);
        let named = resources.filter(|spans| {
            let resource = spans.resource.as_ref().unwrap();
            text(&resource.attributes, "service.name").as_deref() == Some(service)
        });
        named.flat_map(|spans| &spans.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    /// Waits until there are so many spans of a service.
    pub(crate) fn wait_for(&self, service: &str, count: usize) -> Vec<Span> {
        let spans = || Some(self.spans_of(service)).filter(|spans| spans.len() >= count);
        wait_for(&format!("{count} spans of {service}"), Duration::from_secs(20), spans)
    }

    /// Everything that it was sent, as a text to look for something in.
    pub(crate) fn everything(&self) -> String {
        format!("{:?}", self.exports.lock().unwrap())
    }
}

async fn serve(connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, server: Server) {
    let service = TowerToHyperService::new(TraceServiceServer::new(server));
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(connection), service).await;
}

#[tonic::async_trait]
impl TraceService for Server {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        self.exports.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// An attribute, as a text.
pub(crate) fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("`{key}` is {other:?}"),
    }
}
