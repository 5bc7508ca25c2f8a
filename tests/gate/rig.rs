//! A gate as the command line would run it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use scoregate::admin::{self, Health};
use scoregate::clock::ManualClock;
use scoregate::config::{GateConfig, UndecidedAnswer};
use scoregate::gate::{self, GateHandle, Listeners};
use scoregate::listen::{ListenAddress, Listener, SocketAccess};
use scoregate::metrics::Metrics;
use scoregate::proto::scoregate::policy::v1 as wire;
use scoregate::shutdown::Shutdown;
use scoregate::statement::TrustedPolicyKeys;
use scoregate_authz::{CredentialHeaders, PortRule, TargetSource, Version};
use tempfile::TempDir;
use tokio::time::timeout;
use tower::ServiceExt;

use crate::envoy::Envoy;
use crate::policy::{self, NOW};
use crate::workspace::{Session, Workspace};

pub(crate) const CREDENTIAL: &str = "the-gates-own-credential";
pub(crate) const MAX_POLICY_AGE: Duration = Duration::from_hours(24);
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Rig {
    /// Where other gates may read its policy.
    pub(crate) peer_url: String,
    pub(crate) tcp: ListenAddress,
    pub(crate) unix: ListenAddress,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) health: Health,
    pub(crate) shutdown: Shutdown,
    handle: GateHandle,
    metrics: Metrics,
    _sockets: TempDir,
}

pub(crate) fn config(feed: &ListenAddress, data_dir: &Path) -> GateConfig {
    let anywhere: ListenAddress = "127.0.0.1:0".parse().unwrap();
    GateConfig {
        name: "gate-1".to_owned(),
        ext_authz_listen: Vec::new(),
        admin_listen: anywhere,
        fixed_policy: None,
        feed: feed.clone().into(),
        credential: Some(CREDENTIAL.into()),
        data_dir: data_dir.join("gate"),
        workers: 2,
        target: TargetSource::ContextExtensions,
        ports: PortRule::Any,
        credential_headers: CredentialHeaders::default(),
        clock_skew: Duration::from_secs(5),
        peppers: policy::peppers(),
        policy_keys: TrustedPolicyKeys::new([policy::policy_key().public()]).unwrap(),
        policy_sources: Vec::new(),
        peer_listen: None,
        tls: None,
        peer_tls: None,
        admin_tls: None,
        feed_tls: None,
        source_tls: None,
        socket_access: SocketAccess::default(),
        max_policy_age: Some(MAX_POLICY_AGE),
        undecided: UndecidedAnswer::DeniedResponse,
        realm: "scoregate".to_owned(),
        proof_cache_capacity: 1_000,
        max_connection_age: None,
        reflection: true,
        traces: None,
    }
}

impl Rig {
    pub(crate) async fn start(feed: &ListenAddress, data_dir: &Path) -> Self {
        Self::start_with(config(feed, data_dir)).await
    }

    pub(crate) async fn start_with(config: GateConfig) -> Self {
        let sockets = tempfile::tempdir().unwrap();
        let unix = ListenAddress::Unix(sockets.path().join("check.sock"));
        let unix = Listener::bind(&unix).await.unwrap();
        let tcp = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addresses = [tcp.address().clone(), unix.address().clone()];
        let (health, metrics) = (Health::not_ready("no policy yet").await, Metrics::default());
        let (clock, shutdown) = (Arc::new(ManualClock::at(NOW)), Shutdown::default());
        let peers = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let peer_url = format!("http://{}/policy/snapshot", peers.address());
        let listeners = Listeners { check_ports: vec![tcp, unix], peers: Some(peers) };
        let handle =
            gate::start(config, listeners, health.clone(), &metrics, clock.clone(), &shutdown).await.unwrap();
        let [tcp, unix] = addresses;
        Self { peer_url, tcp, unix, clock, health, shutdown, handle, metrics, _sockets: sockets }
    }

    /// A gate that has this policy, at revision 1 of epoch 1.
    pub(crate) async fn with_policy(entries: &[wire::Entry], data_dir: &Path) -> (Self, Workspace, Session) {
        let mut workspace = Workspace::start().await;
        let rig = Self::start(&workspace.address, data_dir).await;
        let mut session = workspace.session().await;
        session.send_parts(policy::parts(1, 1, entries, 2)).await;
        assert_eq!(session.ack().await, (1, 1));
        (rig, workspace, session)
    }

    pub(crate) async fn envoy(&self) -> Envoy {
        Envoy::connect(&self.tcp).await
    }

    pub(crate) async fn wait_for(&self, epoch: u64, revision: u64) {
        let mut applied = self.handle.applied();
        let wanted = Some(Version { epoch, revision });
        let waiting = applied.wait_for(|version| *version == wanted);
        timeout(PATIENCE, waiting).await.expect("the version was never in force").unwrap();
    }

    pub(crate) async fn wait_until_ready(&self) {
        timeout(PATIENCE, async {
            while self.health.is_ready().is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("never ready");
    }

    /// The value of a series, by its name and labels as they are shown.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no `{series}` in {text}")).parse().unwrap()
    }

    /// The names and labels of all series.
    pub(crate) fn series(&self) -> Vec<String> {
        let text = self.metrics.render();
        let series =
            text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        series.map(|(series, _)| series.to_owned()).collect()
    }

    pub(crate) async fn wait_for_metric(&self, series: &str, value: f64) {
        timeout(PATIENCE, async {
            while self.metric(series) != value {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("`{series}` is {} and never {value}", self.metric(series)));
    }

    /// Asks the admin listener for the refusals that are remembered.
    pub(crate) async fn refusals(&self, query: &str) -> (u16, serde_json::Value) {
        let request = http::Request::get(format!("/refusals{query}")).body(Body::empty()).unwrap();
        let response = self.handle.admin_routes().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Asks the admin listener's routes.
    pub(crate) async fn explain(&self, content_type: &str, body: Vec<u8>) -> (u16, serde_json::Value) {
        let router =
            admin::router(self.health.clone(), self.metrics.clone()).merge(self.handle.admin_routes());
        let request = http::Request::post("/explain").header("content-type", content_type);
        let response = router.oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// Ends the gate; whether it ended in time.
    pub(crate) async fn stop(self) -> bool {
        self.shutdown.run(Duration::ZERO, Duration::from_secs(5)).await
    }
}
