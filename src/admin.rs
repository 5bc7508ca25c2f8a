//! The admin listener: metrics, liveness, readiness and gRPC health, for people and probes. No request goes through it.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;
use tonic::Status;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as GrpcHealth, HealthServer};
use tonic_health::server::{HealthReporter, HealthService};

use crate::http_server;
use crate::listen::Listener;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::tls::{PeerIdentity, ServerTls};

/// Whether this process can do its work. Shared by the parts that know and those who ask.
#[derive(Clone)]
pub struct Health {
    ready: watch::Sender<Result<(), String>>,
    /// What does not work though the process can do its work.
    remark: watch::Sender<Option<String>>,
    reporter: HealthReporter,
    service: HealthServer<HealthService>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("ready", &self.ready).finish_non_exhaustive()
    }
}

impl Health {
    /// Not ready, for this reason.
    pub async fn not_ready(reason: &str) -> Self {
        let (reporter, service) = reporter_and_service();
        let ready = watch::Sender::new(Err(reason.to_owned()));
        let health = Self { ready, remark: watch::Sender::new(None), reporter, service };
        health.report(Err(reason.to_owned())).await;
        health
    }

    /// The same with the remarks of another part of the process, for one that shows both.
    #[must_use]
    pub fn with_remarks_of(self, other: &Self) -> Self {
        Self { remark: other.remark.clone(), ..self }
    }

    /// Ready, or why not.
    pub async fn report(&self, ready: Result<(), String>) {
        let status = if ready.is_ok() { ServingStatus::Serving } else { ServingStatus::NotServing };
        // The empty name is the server as a whole.
        for service in ["", "envoy.service.auth.v3.Authorization", "scoregate.policy.v1.PolicyFeed"] {
            self.reporter.set_service_status(service, status).await;
        }
        let _before = self.ready.send_replace(ready);
    }

    /// What does not work though the process can do its work; `None` if all works.
    pub fn remark(&self, remark: Option<String>) {
        let _before = self.remark.send_replace(remark);
    }

    /// Ready, or why not.
    pub fn is_ready(&self) -> Result<(), String> {
        self.ready.borrow().clone()
    }

    /// Resolves when it is ready.
    pub async fn ready(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.ready.subscribe().wait_for(Result::is_ok).await;
    }

    /// `grpc.health.v1`, for any number of servers.
    #[must_use]
    pub fn grpc(&self) -> HealthServer<impl GrpcHealth> {
        self.service.clone()
    }
}

fn reporter_and_service() -> (HealthReporter, HealthServer<HealthService>) {
    let reporter = HealthReporter::new();
    let service = HealthService::from_health_reporter(reporter.clone());
    (reporter, HealthServer::new(service))
}

/// Serves until the shutdown stops. Where clients are known by their certificates, all but what probes ask is for those
/// only: kubelet has none.
pub async fn serve(listener: Listener, tls: Option<ServerTls>, routes: Router, shutdown: Shutdown) {
    let is_asked = tls.as_ref().is_some_and(ServerTls::knows_clients) && !listener.is_unix();
    let routes = if is_asked { routes.layer(from_fn(known_or_probe)) } else { routes };
    http_server::serve(listener, tls, routes, shutdown).await;
}

async fn known_or_probe(request: Request, next: Next) -> Response {
    let is_probe = matches!(request.uri().path(), "/livez" | "/readyz" | "/grpc.health.v1.Health/Check");
    if is_probe || request.extensions().get::<PeerIdentity>().is_some() {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "a client certificate is needed here\n").into_response()
}

/// What every role shows; a role merges its own routes into it.
pub fn router(health: Health, metrics: Metrics) -> Router {
    let grpc = tonic::service::Routes::new(health.grpc()).into_axum_router();
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .with_state(health)
        .route("/metrics", get(show_metrics).with_state(metrics))
        .merge(grpc)
        .fallback(nothing_here)
}

/// In the words of who asks: tonic's own answer would look like a success to everybody else.
async fn nothing_here(request: Request) -> Response {
    let content_type = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if content_type.starts_with(b"application/grpc") {
        return Status::unimplemented("there is no such method").into_http();
    }
    (StatusCode::NOT_FOUND, "nothing is here: see /livez, /readyz and /metrics\n").into_response()
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    match health.is_ready() {
        Ok(()) => match health.remark.borrow().as_deref() {
            None => (StatusCode::OK, "ready\n".to_owned()),
            Some(remark) => (StatusCode::OK, format!("ready, but {remark}\n")),
        },
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

async fn show_metrics(State(metrics): State<Metrics>) -> impl IntoResponse {
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, openmetrics)], metrics.render())
}
