//! An authorization server that gives the answer a test asks for, in the gate's own words (`scoregate::gate`'s wire
//! code): for reasons that real policy hardly ever produces.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message;
use scoregate::config::UndecidedAnswer;
use scoregate::gate::{Answers, HttpView};
use scoregate::policy_wire;
use scoregate::proto::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use scoregate::proto::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use scoregate::proto::scoregate::policy::v1 as wire;
use scoregate_authz::{
    AllowReason, CredentialHeaders, Decision, Denial, DenyReason, Pepper, Peppers, PlainKey, Policy,
    PortRule, Reason, Rules, Service, Snapshot, TargetSource, Verdict, Version, check, entry_hash,
    state_hash,
};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Response, Status};

use super::{block_on, spawn};

/// The service that every verdict is about, and that Envoy's route names.
pub(crate) const SERVICE: &str = "forecast";
const KEY: &str = "a-key-of-the-stub-server";
const REVISION: u64 = 42;

/// A running one.
#[derive(Debug)]
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    checks: Arc<Mutex<HashMap<String, Vec<CheckRequest>>>>,
}

impl Stub {
    /// Decides by the path's last segment, which is the label of a [`Reason`].
    pub(crate) fn start(undecided: UndecidedAnswer) -> Self {
        let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let checks = Arc::default();
        let answers = Answers::new("scoregate", &CredentialHeaders::default(), undecided);
        let server = Server { answers, checks: Arc::clone(&checks) };
        spawn(async move {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let server = tonic::transport::Server::builder().add_service(AuthorizationServer::new(server));
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self { address, checks }
    }

    /// The checks that it was asked for a path.
    pub(crate) fn checks(&self, path: &str) -> Vec<CheckRequest> {
        self.checks.lock().unwrap().get(path).cloned().unwrap_or_default()
    }

    /// How many of them were about this method.
    pub(crate) fn checks_with_method(&self, path: &str, method: &str) -> usize {
        let method_of = |check: &CheckRequest| {
            Some(check.attributes.as_ref()?.request.as_ref()?.http.as_ref()?.method.clone())
        };
        self.checks(path).iter().filter(|check| method_of(check).as_deref() == Some(method)).count()
    }
}

#[derive(Debug)]
struct Server {
    answers: Answers,
    checks: Arc<Mutex<HashMap<String, Vec<CheckRequest>>>>,
}

#[tonic::async_trait]
impl Authorization for Server {
    async fn check(&self, request: tonic::Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let request = request.into_inner();
        let view = HttpView::new(&request).ok_or_else(|| Status::invalid_argument("no HTTP"))?;
        let path = scoregate_authz::RequestView::path(&view);
        self.checks.lock().unwrap().entry(path.to_owned()).or_default().push(request.clone());
        let label = path.rsplit('/').next().unwrap_or_default();
        let reason = Reason::all().find(|reason| reason.metric_label() == label);
        let reason = reason.ok_or_else(|| Status::not_found("no such reason"))?;
        Ok(Response::new(self.answers.answer(&verdict(reason), Some(view))))
    }
}

/// A verdict with this reason.
pub(crate) fn verdict(reason: Reason) -> Verdict {
    match reason {
        Reason::Allow(AllowReason::Ok) => allowed(&key_policy()),
        Reason::Allow(AllowReason::Open) => allowed(&open_policy()),
        Reason::Allow(AllowReason::Shadow) => allowed(&shadow_policy()),
        Reason::Deny(reason) => Verdict {
            decision: Decision::Deny(Denial { reason, credential_presented: presents_credential(reason) }),
            service: has_service(reason).then(|| Arc::new(service())),
            finding: None,
            revision: REVISION,
        },
        Reason::Undecided(reason) => {
            let decision = Decision::Undecided(reason);
            Verdict { decision, service: None, finding: None, revision: REVISION }
        }
    }
}

fn presents_credential(reason: DenyReason) -> bool {
    use DenyReason::{AmbiguousPath, EmptyCredential, MissingCredential, NoHttp};
    !matches!(reason, MissingCredential | EmptyCredential | AmbiguousPath | NoHttp)
}

fn has_service(reason: DenyReason) -> bool {
    !matches!(reason, DenyReason::UnknownService | DenyReason::AmbiguousPath | DenyReason::NoHttp)
}

/// Only the core can allow: it is given a policy by which it does.
fn allowed(policy: &wire::ServicePolicy) -> Verdict {
    let rules = Rules {
        target: TargetSource::ContextExtensions,
        ports: PortRule::Any,
        credential_headers: CredentialHeaders::default(),
        clock_skew: Duration::ZERO,
        peppers: peppers(),
    };
    let entry = policy_wire::entry(entry(policy), &peppers()).unwrap();
    let hash = state_hash(std::iter::once(&entry_hash(entry.id(), entry.name(), entry.content())));
    let version = Version { epoch: 1, revision: REVISION };
    let snapshot = Snapshot::new("stub".into(), version, vec![entry], hash).unwrap();
    check(&rules, Policy::Current(&snapshot), Some(&KeyedRequest), Duration::ZERO, &(), &mut ())
}

/// A request with the right key.
struct KeyedRequest;

impl scoregate_authz::RequestView for KeyedRequest {
    fn service(&self) -> Option<&str> {
        Some(SERVICE)
    }

    fn host(&self) -> &'static str {
        "models.test"
    }

    fn path(&self) -> &'static str {
        "/score"
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        std::iter::once(("authorization", b"Bearer a-key-of-the-stub-server".as_slice()))
    }

    fn raw_headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        std::iter::empty()
    }
}

fn service() -> Service {
    Service::new(UID.parse().unwrap(), SERVICE.parse().unwrap(), None, &peppers())
}

const UID: &str = "00000000-0000-7000-8000-000000000000";

fn entry(policy: &wire::ServicePolicy) -> wire::Entry {
    wire::Entry {
        kind: wire::EntryKind::Service.into(),
        id: UID.to_owned(),
        name: SERVICE.to_owned(),
        content: policy.encode_to_vec(),
        deleted: false,
    }
}

fn key_policy() -> wire::ServicePolicy {
    let digest = |key: &str| wire::KeyDigest {
        digest: pepper().digest(&UID.parse().unwrap(), &PlainKey::choose(key).unwrap()).as_bytes().to_vec(),
        pepper_id: pepper().id().to_owned(),
    };
    wire::ServicePolicy {
        auth_mode: wire::AuthMode::Key.into(),
        primary: Some(digest(KEY)),
        secondary: Some(digest("the-other-key-of-the-stub")),
        ..open_policy()
    }
}

/// The right key is not among its keys.
fn shadow_policy() -> wire::ServicePolicy {
    let primary = key_policy().secondary;
    let mut secondary = primary.clone().unwrap();
    secondary.digest[0] ^= 1;
    wire::ServicePolicy { primary, secondary: Some(secondary), shadow_until: 1_000, ..key_policy() }
}

fn open_policy() -> wire::ServicePolicy {
    wire::ServicePolicy {
        compute_type: wire::ComputeType::Aks.into(),
        auth_mode: wire::AuthMode::Disabled.into(),
        ..wire::ServicePolicy::default()
    }
}

fn pepper() -> Pepper {
    Pepper::new(b"the pepper of the stub authorization server").unwrap()
}

fn peppers() -> Peppers {
    Peppers::new(vec![pepper()]).unwrap()
}
