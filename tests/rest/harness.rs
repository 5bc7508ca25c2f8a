//! A workspace on a port of its own, and a client for it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode, header};
use scoregate::admin::Health;
use scoregate::clock::ManualClock;
use scoregate::config::{MasterKeys, WorkspaceConfig, WorkspaceScope};
use scoregate::listen::{ListenAddress, Listener};
use scoregate::metrics::Metrics;
use scoregate::proto::scoregate::policy::v1 as wire;
use scoregate::shutdown::Shutdown;
use scoregate::statement::PolicyKey;
use scoregate::tls::ServerTls;
use scoregate::workspace::http::{self, PublicUrls};
use scoregate::workspace::{Origin, Role, Workspace};
use scoregate_authz::{Pepper, Slot, TokenAlgorithm};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use crate::contract::Given;

/// 2024-05-01T10:00:00Z: the clock of every test stands here until the test moves it.
pub(crate) const START: u64 = 1_714_557_600;

const PEPPER: [u8; 32] = [7; 32];

const SCOPE: &str = "/subscriptions/sub/resourceGroups/group\
    /providers/Microsoft.MachineLearningServices/workspaces/ws";

/// A workspace that serves until it is dropped.
pub(crate) struct TestWorkspace {
    pub(crate) workspace: Workspace,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) base: String,
    pub(crate) owner: String,
    http: reqwest::Client,
    shutdown: Shutdown,
    data_dir: tempfile::TempDir,
}

impl TestWorkspace {
    pub(crate) async fn start() -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(START));
        let config = config(data_dir.path());
        let workspace = Workspace::open(&config, clock.clone(), &Metrics::default()).await.unwrap();
        let owner = workspace.ensure_owner().await.unwrap().unwrap();
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let base = format!("http://{}", listener.address());
        let urls = PublicUrls { base: base.clone(), scoring_base: Some("https://models.example".into()) };
        let shutdown = Shutdown::default();
        tokio::spawn(http::serve(listener, None, http::router(workspace.clone(), urls), shutdown.clone()));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let owner = owner.expose_secret().to_owned();
        Self { workspace, clock, base, owner, http, shutdown, data_dir }
    }

    /// A path below the workspace's own.
    pub(crate) fn path(path: &str) -> String {
        format!("/modelmanagement/v1.0{SCOPE}{path}")
    }

    /// The credential of a new principal.
    pub(crate) async fn principal(&self, role: Role) -> String {
        let name = format!("a-{}", role.as_str());
        let (_, credential) = self.workspace.create_principal(&Origin::local(), &name, role).await.unwrap();
        credential.expose_secret().to_owned()
    }

    /// A service with these members besides its name; an AKS service where they do not say.
    pub(crate) async fn create(&self, name: &str, members: Value) -> Answer {
        let mut body = json!({ "name": name, "computeType": "AKS" });
        for (member, value) in members.as_object().unwrap() {
            body[member] = value.clone();
        }
        let answer = self.post("/services", &body).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer
    }

    /// Serves the feed, and connects a gate that never confirms anything.
    pub(crate) async fn silent_gate(&self) -> SilentGate {
        self.gate_saying(Vec::new()).await
    }

    /// The same, but for a word of its own: keys of a service, by slot, that it has accepted so many times at this second.
    pub(crate) async fn gate_that_accepted(&self, service: &str, uses: &[(Slot, u64, u64)]) -> SilentGate {
        let uid = self.workspace.service(service).await.unwrap().uid;
        let keys = self.workspace.keys(service).unwrap();
        let used = |(slot, count, last_used): &(Slot, u64, u64)| {
            let (kind, key) = match slot {
                Slot::Primary => (wire::CredentialKind::PrimaryKey, &keys.primary),
                Slot::Secondary => (wire::CredentialKind::SecondaryKey, &keys.secondary),
            };
            let fingerprint = Pepper::new(&PEPPER).unwrap().digest(&uid, key).fingerprint();
            wire::CredentialUse {
                service_uid: uid.to_string(),
                kind: kind.into(),
                key_fingerprint: fingerprint.as_bytes().to_vec(),
                count: *count,
                last_used: *last_used,
            }
        };
        let usage = wire::Usage { uses: uses.iter().map(used).collect() };
        let gate = self.gate_saying(vec![wire::gate_message::Message::Usage(usage)]).await;
        while self.workspace.uses(service).unwrap().primary.count == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gate
    }

    async fn gate_saying(&self, words: Vec<wire::gate_message::Message>) -> SilentGate {
        let feed = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}", feed.address());
        let (workspace, shutdown) = (self.workspace.clone(), self.shutdown.clone());
        let health = Health::not_ready("starting").await;
        tokio::spawn(async move { workspace.run(feed, None, health, shutdown).await });
        let credential = self.principal(Role::Gate).await;
        let gate = SilentGate::connect(url, &credential, words).await;
        while self.workspace.gates().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gate
    }

    /// Serves the same REST over TLS, on another port.
    pub(crate) async fn serve_tls(&self, tls: ServerTls) -> SocketAddr {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let ListenAddress::Tcp(address) = *listener.address() else { unreachable!("it is TCP") };
        let urls = PublicUrls { base: format!("https://{address}"), scoring_base: None };
        let router = http::router(self.workspace.clone(), urls);
        tokio::spawn(http::serve(listener, Some(tls), router, self.shutdown.clone()));
        address
    }

    /// Moves the clock on until the next signing key is published, which is to sign in a day.
    pub(crate) async fn publish_key_for_tomorrow(&self) {
        self.clock.advance(Duration::from_hours(29 * 24));
        self.workspace.advance_signing_keys().await;
    }

    /// The directory of its database.
    pub(crate) fn data_dir(&self) -> &std::path::Path {
        self.data_dir.path()
    }

    /// A path below the workspace's place in Azure's tree of resources.
    pub(crate) fn resource(path: &str) -> String {
        format!("{SCOPE}{path}")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, &Self::path(path)).send().await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::POST, &Self::path(path)).json(body).send().await
    }

    /// `POST` without a body.
    pub(crate) async fn post_nothing(&self, path: &str) -> Answer {
        self.request(Method::POST, &Self::path(path)).send().await
    }

    pub(crate) async fn patch(&self, name: &str, operations: Value) -> Answer {
        let path = Self::path(&format!("/services/{name}"));
        self.request(Method::PATCH, &path)
            .body("application/json-patch+json", operations.to_string())
            .send()
            .await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, &Self::path(path)).send().await
    }

    /// Any request below the base, as the owner.
    pub(crate) fn request(&self, method: Method, path: &str) -> Request {
        let builder = self.http.request(method.clone(), format!("{}{path}", self.base));
        Request { builder, method, credential: Some(self.owner.clone()), base: self.base.clone() }
    }
}

impl Drop for TestWorkspace {
    fn drop(&mut self) {
        self.shutdown.stopping_token().cancel();
    }
}

/// A gate that listens to the feed and never confirms anything.
pub(crate) struct SilentGate {
    _messages: tonic::Streaming<wire::WorkspaceMessage>,
}

impl SilentGate {
    async fn connect(url: String, credential: &str, words: Vec<wire::gate_message::Message>) -> Self {
        let hello = wire::Hello {
            gate: "silent".into(),
            pepper_ids: vec![Pepper::new(&PEPPER).unwrap().id().to_owned()],
            ..wire::Hello::default()
        };
        let words = std::iter::once(wire::gate_message::Message::Hello(hello)).chain(words);
        let words: Vec<_> = words.map(|word| wire::GateMessage { message: Some(word) }).collect();
        let says = tokio_stream::iter(words).chain(tokio_stream::pending());
        let mut request = tonic::Request::new(says);
        let bearer = format!("Bearer {credential}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let mut client = wire::policy_feed_client::PolicyFeedClient::connect(url).await.unwrap();
        Self { _messages: client.subscribe(request).await.unwrap().into_inner() }
    }
}

fn config(data_dir: &std::path::Path) -> WorkspaceConfig {
    let anywhere = || "127.0.0.1:0".parse().unwrap();
    WorkspaceConfig {
        data_dir: data_dir.to_owned(),
        workspace_listen: anywhere(),
        feed_listen: anywhere(),
        admin_listen: anywhere(),
        scope: WorkspaceScope {
            subscription: "sub".into(),
            resource_group: "group".into(),
            name: "ws".into(),
        },
        public_url: None,
        scoring_base_url: None,
        issuer: Some("https://issuer.example".into()),
        token_refresh_after: Duration::from_secs(3600),
        token_lifetime: Duration::from_secs(12 * 3600),
        token_algorithm: TokenAlgorithm::Es256,
        pepper: Pepper::new(&PEPPER).unwrap(),
        policy_key: Arc::new(PolicyKey::from_pem(&PolicyKey::generate().unwrap()).unwrap()),
        master_keys: MasterKeys {
            current: "test".into(),
            keys: HashMap::from([("test".to_owned(), zeroize::Zeroizing::new([9; 32]))]),
        },
        enforcement_timeout: Duration::from_secs(10),
        signing_key_rotation: Some(Duration::from_hours(30 * 24)),
        audit_retention: Some(Duration::from_hours(400 * 24)),
        tls: None,
        feed_tls: None,
        admin_tls: None,
    }
}

/// A request that is being put together.
pub(crate) struct Request {
    builder: reqwest::RequestBuilder,
    method: Method,
    credential: Option<String>,
    base: String,
}

impl Request {
    /// As somebody else than the owner.
    pub(crate) fn bearer(mut self, credential: &str) -> Self {
        self.credential = Some(credential.to_owned());
        self
    }

    /// As nobody.
    pub(crate) fn anonymous(mut self) -> Self {
        self.credential = None;
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    pub(crate) fn json(mut self, body: &Value) -> Self {
        self.builder = self.builder.json(body);
        self
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<reqwest::Body>) -> Self {
        self.builder = self.builder.header(header::CONTENT_TYPE, content_type).body(body);
        self
    }

    /// Sends it. The answer is one that docs/openapi.json promises, or the test fails.
    pub(crate) async fn send(self) -> Answer {
        let builder = match &self.credential {
            Some(credential) => self.builder.bearer_auth(credential),
            None => self.builder,
        };
        let response = builder.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let path = response.url().path().to_owned();
        let bytes = response.bytes().await.unwrap();
        let body = match bytes.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&bytes).expect("every answer is JSON"),
        };
        let given = Given { method: &self.method, path: &path, status, headers: &headers, body: &body };
        given.check().unwrap_or_else(|problem| panic!("{problem}"));
        Answer { status, headers, body, base: self.base }
    }
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: header::HeaderMap,
    pub(crate) body: Value,
    base: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body, fit for a snapshot: the same in every run.
    pub(crate) fn stable(&self) -> Value {
        stable(&self.body, &self.base)
    }

    /// The same, with a member that is new in every run left to the imagination.
    pub(crate) fn stable_without(&self, member: &str) -> Value {
        let mut body = self.stable();
        assert!(body[member].is_string());
        body[member] = "{...}".into();
        body
    }

    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().or(self.body["error"]["message"].as_str()).unwrap_or_default()
    }
}

fn stable(value: &Value, base: &str) -> Value {
    match value {
        Value::String(text) => without_uuids(&text.replace(base, "{base}")).into(),
        Value::Array(items) => items.iter().map(|item| stable(item, base)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), stable(value, base))).collect()
        }
        other => other.clone(),
    }
}

fn without_uuids(text: &str) -> String {
    let part = |part: &str| if uuid::Uuid::try_parse(part).is_ok() { "{uuid}" } else { part }.to_owned();
    text.split('/').map(part).collect::<Vec<_>>().join("/")
}
