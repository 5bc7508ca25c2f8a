//! A workspace in a directory of its own, and a gate that follows its feed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use scoregate_authz::{
    ComputeType, CredentialHeaders, Pepper, Peppers, Policy, PortRule, Reason, RequestView, Rules, Snapshot,
    StateHash, TargetSource, TokenAlgorithm, UnixTime, Version, check,
};
use secrecy::{ExposeSecret, SecretString};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};
use zeroize::Zeroizing;

use crate::admin::Health;
use crate::clock::{Clock, ManualClock};
use crate::config::{MasterKeys, WorkspaceConfig, WorkspaceScope};
use crate::listen::{ListenAddress, Listener};
use crate::metrics::Metrics;
use crate::policy_wire;
use crate::proto::scoregate::policy::v1 as wire;
use crate::shutdown::Shutdown;
use crate::statement::PolicyKey;
use crate::workspace::{AuthFlags, NewService, OpenError, Origin, Role, Workspace};
use wire::policy_feed_client::PolicyFeedClient;
use wire::workspace_message::Message;

/// 2026-01-01.
pub(super) const START: u64 = 1_767_225_600;

pub(super) struct Fixture {
    dir: TempDir,
    pub(super) clock: Arc<ManualClock>,
    pub(super) metrics: Metrics,
    pub(super) config: WorkspaceConfig,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let config = config(dir.path().to_owned());
        Self { dir, clock: Arc::new(ManualClock::at(START)), metrics: Metrics::default(), config }
    }

    pub(super) async fn try_open(&self) -> Result<Workspace, OpenError> {
        Workspace::open(&self.config, self.clock.clone(), &self.metrics).await
    }

    pub(super) async fn open(&self) -> Workspace {
        self.try_open().await.unwrap()
    }

    pub(super) fn database(&self) -> PathBuf {
        self.dir.path().join("workspace.db")
    }

    /// Runs a statement on the database, past the workspace.
    pub(super) async fn execute(&self, statement: &'static str) {
        let options = SqliteConnectOptions::new().filename(self.database());
        let mut connection = options.connect().await.unwrap();
        sqlx::query(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// All bytes of all files, database and log included.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.dir.path()).unwrap();
        files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }

    pub(super) fn metrics_line(&self, name: &str) -> String {
        let text = self.metrics.render();
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        line.to_owned()
    }
}

fn config(data_dir: PathBuf) -> WorkspaceConfig {
    let listen: ListenAddress = "127.0.0.1:0".parse().unwrap();
    WorkspaceConfig {
        data_dir,
        workspace_listen: listen.clone(),
        feed_listen: listen.clone(),
        admin_listen: listen,
        scope: WorkspaceScope {
            subscription: "s".to_owned(),
            resource_group: "g".to_owned(),
            name: "w".to_owned(),
        },
        public_url: None,
        scoring_base_url: None,
        issuer: None,
        token_refresh_after: Duration::from_hours(1),
        token_lifetime: Duration::from_hours(12),
        token_algorithm: TokenAlgorithm::Es256,
        pepper: pepper(7),
        policy_key: Arc::new(PolicyKey::from_pem(&PolicyKey::generate().unwrap()).unwrap()),
        master_keys: master_keys(&[("m1", 1)]),
        enforcement_timeout: Duration::from_secs(10),
        signing_key_rotation: Some(Duration::from_hours(30 * 24)),
        audit_retention: Some(Duration::from_hours(400 * 24)),
        tls: None,
        feed_tls: None,
        admin_tls: None,
    }
}

pub(super) fn pepper(fill: u8) -> Pepper {
    Pepper::new(&[fill; 32]).unwrap()
}

/// The first is the current one.
pub(super) fn master_keys(keys: &[(&str, u8)]) -> MasterKeys {
    let by_id = |(id, fill): &(&str, u8)| ((*id).to_owned(), Zeroizing::new([*fill; 32]));
    MasterKeys { current: keys[0].0.to_owned(), keys: keys.iter().map(by_id).collect::<HashMap<_, _>>() }
}

pub(super) fn new_service(name: &str) -> NewService {
    NewService {
        name: name.parse().unwrap(),
        compute_type: ComputeType::Aks,
        auth: AuthFlags::default(),
        keys: (None, None),
        description: None,
        tags: [].into(),
        properties: [].into(),
        hosts: Vec::new(),
        path_prefixes: Vec::new(),
        shadow_for: None,
        attributes: serde_json::Map::new(),
    }
}

pub(super) fn flags(key: bool, token: bool) -> AuthFlags {
    AuthFlags { key: Some(key), token: Some(token) }
}

/// A workspace that serves its feed.
pub(super) struct Served {
    pub(super) workspace: Workspace,
    pub(super) address: String,
    shutdown: Shutdown,
    pub(super) credential: SecretString,
}

impl Served {
    pub(super) async fn start(fixture: &Fixture) -> Self {
        let workspace = fixture.open().await;
        // One for each start, because its credential is not kept.
        let name = format!("gate-{}", workspace.principals().len());
        let (_, credential) = workspace.create_principal(&Origin::local(), &name, Role::Gate).await.unwrap();
        let listener = Listener::bind(&fixture.config.feed_listen).await.unwrap();
        let address = format!("http://{}", listener.address());
        let shutdown = Shutdown::default();
        let health = Health::not_ready("starting").await;
        shutdown.spawn({
            let (workspace, shutdown) = (workspace.clone(), shutdown.clone());
            async move { workspace.run(listener, None, health, shutdown).await }
        });
        Self { workspace, address, shutdown, credential }
    }

    pub(super) async fn gate(&self, name: &str) -> TestGate {
        self.gate_holding(name, None).await
    }

    /// One of several processes of this name.
    pub(super) async fn gate_of(&self, name: &str, process: u64) -> TestGate {
        let mut gate = TestGate::silent(&self.address, self.credential.expose_secret(), None).await.unwrap();
        gate.hello_of(name, process).await;
        gate
    }

    /// A gate that holds what it got before.
    pub(super) async fn gate_holding(&self, name: &str, held: Option<Snapshot>) -> TestGate {
        let connected = TestGate::connect(&self.address, self.credential.expose_secret(), name, held).await;
        connected.unwrap()
    }

    pub(super) async fn stop(self) {
        assert!(self.shutdown.run(Duration::ZERO, Duration::from_secs(5)).await, "tasks are left");
    }
}

/// A gate: the core's snapshot, fed by this feed.
pub(super) struct TestGate {
    peppers: Peppers,
    pub(super) snapshot: Option<Snapshot>,
    outgoing: mpsc::Sender<wire::GateMessage>,
    incoming: Streaming<wire::WorkspaceMessage>,
}

impl TestGate {
    pub(super) async fn connect(
        address: &str,
        credential: &str,
        name: &str,
        held: Option<Snapshot>,
    ) -> Result<Self, Status> {
        let mut gate = Self::silent(address, credential, held).await?;
        gate.hello(name).await;
        Ok(gate)
    }

    /// One that has not said anything yet.
    pub(super) async fn silent(
        address: &str,
        credential: &str,
        held: Option<Snapshot>,
    ) -> Result<Self, Status> {
        let mut client = PolicyFeedClient::connect(address.to_owned()).await.unwrap();
        let (outgoing, messages) = mpsc::channel(8);
        let mut request = Request::new(ReceiverStream::new(messages));
        let bearer = format!("Bearer {credential}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let incoming = client.subscribe(request).await?.into_inner();
        Ok(Self { peppers: Peppers::new(vec![pepper(7)]).unwrap(), snapshot: held, outgoing, incoming })
    }

    pub(super) async fn hello(&mut self, name: &str) {
        self.hello_of(name, 0).await;
    }

    /// Of one of several processes of this name.
    pub(super) async fn hello_of(&mut self, name: &str, process: u64) {
        let held = self.snapshot.as_ref();
        let version = held.map(Snapshot::version).unwrap_or_default();
        let hello = wire::Hello {
            gate: name.to_owned(),
            version: "test".to_owned(),
            workspace: held.map_or("", |held| held.workspace()).to_owned(),
            epoch: version.epoch,
            revision: version.revision,
            state_hash: held.map_or(Vec::new(), |held| held.state_hash().0.to_vec()),
            pepper_ids: vec![pepper(7).id().to_owned()],
            policy_key_ids: Vec::new(),
            process,
        };
        self.say(wire::gate_message::Message::Hello(hello)).await;
    }

    pub(super) async fn say(&mut self, message: wire::gate_message::Message) {
        self.outgoing.send(wire::GateMessage { message: Some(message) }).await.unwrap();
    }

    /// The next message, or why the feed ended.
    pub(super) async fn next(&mut self) -> Result<Message, Status> {
        let next = tokio::time::timeout(Duration::from_secs(10), self.incoming.message()).await;
        let message = next.expect("the workspace is silent")?;
        Ok(message.expect("the feed ended").message.unwrap())
    }

    /// The next message that is no heartbeat, applied.
    pub(super) async fn take(&mut self) -> Message {
        loop {
            let message = self.next().await.unwrap();
            match &message {
                Message::Heartbeat(_) => continue,
                Message::SnapshotPart(part) => self.apply_snapshot(part),
                Message::Change(change) => self.apply_change(change),
            }
            return message;
        }
    }

    /// Applies what comes until it holds a revision.
    pub(super) async fn follow_to(&mut self, revision: u64) {
        while self.version().revision < revision {
            self.take().await;
        }
    }

    pub(super) async fn ack(&mut self) {
        let Version { epoch, revision } = self.version();
        self.say(wire::gate_message::Message::Ack(wire::Ack { epoch, revision })).await;
    }

    pub(super) fn version(&self) -> Version {
        self.snapshot.as_ref().map(Snapshot::version).unwrap_or_default()
    }

    fn apply_snapshot(&mut self, part: &wire::SnapshotPart) {
        let version = Version { epoch: part.epoch, revision: part.revision };
        assert_eq!(part.total, part.entries.len() as u64, "more than one part");
        let entries = part.entries.iter().cloned();
        let entries = entries.map(|entry| policy_wire::entry(entry, &self.peppers).unwrap()).collect();
        let snapshot =
            Snapshot::new(part.workspace.as_str().into(), version, entries, hash(&part.state_hash));
        self.snapshot = Some(snapshot.unwrap());
    }

    fn apply_change(&mut self, change: &wire::Change) {
        let from = Version { epoch: change.epoch, revision: change.from_revision };
        let to = Version { epoch: change.epoch, revision: change.revision };
        let entries = change.entries.iter().cloned();
        let changes = entries.map(|entry| policy_wire::change(entry, &self.peppers).unwrap()).collect();
        let held = self.snapshot.take().expect("a change before a snapshot");
        self.snapshot = Some(held.apply(from, to, changes, hash(&change.state_hash)).unwrap());
    }

    /// The code of the core's decision, as a gate without tolerance for clocks makes it.
    pub(super) fn decide(&self, service: &str, credential: &str, now: UnixTime) -> &'static str {
        let rules = Rules {
            target: TargetSource::ContextExtensions,
            ports: PortRule::Any,
            credential_headers: CredentialHeaders::default(),
            clock_skew: Duration::ZERO,
            peppers: self.peppers.clone(),
        };
        let request = Call { service, authorization: format!("Bearer {credential}") };
        let policy = self.snapshot.as_ref().map_or(Policy::None, Policy::Current);
        let verdict = check(&rules, policy, Some(&request), now, &(), &mut ());
        match verdict.decision.reason() {
            Reason::Allow(reason) => reason.code(),
            Reason::Deny(reason) => reason.code(),
            Reason::Undecided(reason) => reason.code(),
        }
    }
}

fn hash(bytes: &[u8]) -> StateHash {
    StateHash(bytes.try_into().unwrap())
}

struct Call<'a> {
    service: &'a str,
    authorization: String,
}

impl RequestView for Call<'_> {
    fn service(&self) -> Option<&str> {
        Some(self.service)
    }

    fn host(&self) -> &str {
        "localhost"
    }

    fn path(&self) -> &str {
        "/score"
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        std::iter::once(("authorization", self.authorization.as_bytes()))
    }

    fn raw_headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        std::iter::empty()
    }
}

pub(super) fn now(fixture: &Fixture) -> UnixTime {
    fixture.clock.now()
}

/// Waits until something holds.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..200 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never: {what}");
}
