//! Three services at one gate: one with keys, one with tokens, one that is open.

use std::sync::LazyLock;
use std::time::Duration;

use prost::Message;
use scoregate::gate::HttpView;
use scoregate::policy_wire;
use scoregate::proto::envoy::config::core::v3::{HeaderMap, HeaderValue};
use scoregate::proto::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use scoregate::proto::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use scoregate::proto::scoregate::policy::v1 as wire;
use scoregate_authz::{
    CredentialHeaders, Decision, Entry, Pepper, Peppers, PlainKey, PortRule, Rules, Snapshot, StateHash,
    TargetSource, Verdict, Version, entry_hash, state_hash,
};

use crate::signer::{EDDSA, ES256, Signer};

/// The second at which all is decided.
pub const NOW: u64 = 1_999_990_000;
pub const ISSUER: &str = "https://good.example";
pub const MAX_LIFETIME: u64 = 12 * 3600;

pub const KEY_SERVICE: &str = "scorer";
pub const TOKEN_SERVICE: &str = "minter";
pub const OPEN_SERVICE: &str = "public";

pub const PRIMARY: &str = "primary-key-of-scorer";
pub const SECONDARY: &str = "secondary-key-of-scorer";

/// The only snapshot that there is.
pub static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let entries = entries().into_iter().map(|entry| policy_wire::entry(entry, &peppers()).unwrap());
    let entries: Vec<_> = entries.collect();
    let stated = hash_of(entries.iter());
    Snapshot::new("a-workspace".into(), Version { epoch: 1, revision: 1 }, entries, stated).unwrap()
});

pub fn rules(target: TargetSource) -> Rules {
    Rules {
        target,
        ports: PortRule::Any,
        credential_headers: CredentialHeaders::default(),
        clock_skew: Duration::ZERO,
        peppers: peppers(),
    }
}

/// Decides about a request whose route names the service.
pub fn decide(request: &CheckRequest) -> Decision {
    verdict(&rules(TargetSource::ContextExtensions), &SNAPSHOT, request).decision
}

pub fn verdict(rules: &Rules, snapshot: &Snapshot, request: &CheckRequest) -> Verdict {
    let view = HttpView::new(request);
    let policy = scoregate_authz::Policy::Current(snapshot);
    scoregate_authz::check(rules, policy, view.as_ref(), Duration::from_secs(NOW), &(), &mut ())
}

/// A request to a service, by the name in the route, with an `authorization` as raw bytes.
pub fn request_in_list(service: &str, authorization: &[u8]) -> CheckRequest {
    let key = "authorization".to_owned();
    let header = HeaderValue { key, value: String::new(), raw_value: authorization.to_vec() };
    let header_map = Some(HeaderMap { headers: vec![header] });
    request(service, HttpRequest { header_map, ..HttpRequest::default() })
}

/// The same in the other encoding, which has texts only.
pub fn request_in_map(service: &str, authorization: &str) -> CheckRequest {
    let headers = [("authorization".to_owned(), authorization.to_owned())].into();
    request(service, HttpRequest { headers, ..HttpRequest::default() })
}

fn request(service: &str, http: HttpRequest) -> CheckRequest {
    let http = HttpRequest { host: host(service), path: "/score".to_owned(), ..http };
    let context_extensions = [("service".to_owned(), service.to_owned())].into();
    let attributes = AttributeContext { request: Some(Request { http: Some(http) }), context_extensions };
    CheckRequest { attributes: Some(attributes) }
}

pub fn uid(service: &str) -> String {
    format!("uid-{service}")
}

pub fn host(service: &str) -> String {
    format!("{service}.example.com")
}

fn pepper() -> Pepper {
    Pepper::new(&[7; 32]).unwrap()
}

pub fn peppers() -> Peppers {
    Peppers::new(vec![pepper()]).unwrap()
}

/// The hash that a workspace would state of these entries.
pub fn hash_of<'a>(entries: impl Iterator<Item = &'a Entry>) -> StateHash {
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(|entry| entry.id());
    let hashes: Vec<_> =
        entries.iter().map(|entry| entry_hash(entry.id(), entry.name(), entry.content())).collect();
    state_hash(hashes.iter())
}

/// All of the policy, as a workspace sends it.
pub fn entries() -> Vec<wire::Entry> {
    let keys = [PRIMARY, SECONDARY].map(|key| Some(digest(KEY_SERVICE, key)));
    let [primary, secondary] = keys;
    let with_keys = wire::ServicePolicy { primary, secondary, ..policy(KEY_SERVICE, wire::AuthMode::Key) };
    vec![
        service_entry(KEY_SERVICE, &with_keys),
        service_entry(TOKEN_SERVICE, &policy(TOKEN_SERVICE, wire::AuthMode::Token)),
        service_entry(OPEN_SERVICE, &policy(OPEN_SERVICE, wire::AuthMode::Disabled)),
        key_entry(&EDDSA),
        key_entry(&ES256),
    ]
}

fn policy(service: &str, auth_mode: wire::AuthMode) -> wire::ServicePolicy {
    wire::ServicePolicy {
        compute_type: wire::ComputeType::Aks.into(),
        auth_mode: auth_mode.into(),
        hosts: vec![host(service)],
        path_prefixes: vec!["/".to_owned()],
        ..wire::ServicePolicy::default()
    }
}

fn digest(service: &str, key: &str) -> wire::KeyDigest {
    let digest = pepper().digest(&uid(service).parse().unwrap(), &PlainKey::choose(key).unwrap());
    wire::KeyDigest { digest: digest.as_bytes().to_vec(), pepper_id: pepper().id().to_owned() }
}

fn service_entry(service: &str, policy: &wire::ServicePolicy) -> wire::Entry {
    wire::Entry {
        kind: wire::EntryKind::Service.into(),
        id: uid(service),
        name: service.to_owned(),
        content: policy.encode_to_vec(),
        deleted: false,
    }
}

fn key_entry(signer: &Signer) -> wire::Entry {
    let key = wire::VerificationKey {
        jwk: signer.jwk().to_string(),
        issuer: ISSUER.to_owned(),
        max_lifetime_seconds: MAX_LIFETIME,
    };
    wire::Entry {
        kind: wire::EntryKind::VerificationKey.into(),
        id: signer.kid().to_owned(),
        name: String::new(),
        content: key.encode_to_vec(),
        deleted: false,
    }
}
