//! A snapshot as a file that a gate without a workspace can decide by.

use std::collections::BTreeMap;

use prost::Message;
use scoregate_authz::{Entry, InvalidPolicy, Snapshot};
use serde::Serialize;
use serde_json::Value;

use super::digest::Digest;
use super::shape::VERSION;
use crate::proto::scoregate::policy::v1 as wire;

/// A file, and what could not go into it.
#[derive(Debug)]
pub(crate) struct Exported {
    pub(crate) yaml: String,
    /// A sentence for each. What is left out makes a gate stricter, never laxer.
    pub(crate) left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: &'static str,
    services: Vec<Service>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    verification_keys: Vec<VerificationKeys>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    name: String,
    uid: String,
    compute_type: &'static str,
    auth_mode: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<String>,
    path_prefixes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Keys>,
    #[serde(skip_serializing_if = "is_zero")]
    tokens_not_before: u64,
}

#[derive(Debug, Serialize)]
struct Keys {
    primary: Digest,
    secondary: Digest,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct VerificationKeys {
    issuer: String,
    max_lifetime: String,
    jwks: KeySet,
}

#[derive(Debug, Serialize)]
struct KeySet {
    keys: Vec<Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Writes a snapshot. A service for which a gate could decide nothing is left out: it stays refused, and a file with it
/// would be refused as a whole.
///
/// # Errors
/// It cannot be written as YAML.
pub(crate) fn export(snapshot: &Snapshot) -> Result<Exported, serde_saphyr::SerializeError> {
    let problems: BTreeMap<_, _> = snapshot
        .services()
        .filter_map(|service| Some((service.uid().as_str(), service.problem()?)))
        // Whoever exports need not have the pepper.
        .filter(|(_, problem)| !matches!(problem, InvalidPolicy::UnknownPepper { .. }))
        .collect();
    let (mut services, mut sets, mut left_out) = (Vec::new(), BTreeMap::new(), Vec::new());
    for entry in snapshot.entries() {
        let kind = i32::try_from(entry.id().kind).unwrap_or_default();
        let taken = match wire::EntryKind::try_from(kind) {
            Ok(wire::EntryKind::Service) => match problems.get(&*entry.id().id) {
                Some(problem) => Err(problem.to_string()),
                None => service(&entry).map(|service| services.push(service)),
            },
            Ok(wire::EntryKind::VerificationKey) => add_key(&entry, &mut sets),
            Ok(wire::EntryKind::Unspecified) | Err(_) => {
                Err("this version does not know its kind".to_owned())
            }
        };
        if let Err(reason) = taken {
            left_out.push(format!("`{}` was left out: {reason}", name_of(&entry)));
        }
    }
    for service in snapshot.shadows() {
        left_out.push(format!("that `{}` is in shadow was left out: refusals are enforced", service.name()));
    }
    services.sort_by(|one, other| one.name.cmp(&other.name));
    let verification_keys = sets.into_iter().map(|(rules, keys)| rules.with(keys)).collect();
    let document = Document { version: VERSION, services, verification_keys };
    let from = format!("# Workspace {}, version {}.\n", snapshot.workspace(), snapshot.version());
    Ok(Exported { yaml: from + &serde_saphyr::to_string(&document)?, left_out })
}

fn name_of(entry: &Entry) -> &str {
    if entry.name().is_empty() { &entry.id().id } else { entry.name() }
}

fn service(entry: &Entry) -> Result<Service, String> {
    let policy = wire::ServicePolicy::decode(entry.content()).map_err(|error| error.to_string())?;
    let compute_type = match policy.compute_type() {
        wire::ComputeType::Aks => "AKS",
        wire::ComputeType::Aci => "ACI",
        wire::ComputeType::Unspecified => return Err(InvalidPolicy::ComputeType.to_string()),
    };
    let auth_mode = match policy.auth_mode() {
        wire::AuthMode::Key => "key",
        wire::AuthMode::Token => "token",
        wire::AuthMode::Disabled => "disabled",
        wire::AuthMode::Unspecified => return Err(InvalidPolicy::AuthMode.to_string()),
    };
    let digest = |digest: &wire::KeyDigest| Digest::new(&digest.digest, &digest.pepper_id);
    let keys = match (&policy.primary, &policy.secondary) {
        (Some(primary), Some(secondary)) if policy.auth_mode() == wire::AuthMode::Key => {
            Some(Keys { primary: digest(primary), secondary: digest(secondary) })
        }
        _ => None,
    };
    Ok(Service {
        name: entry.name().to_owned(),
        uid: entry.id().id.to_string(),
        compute_type,
        auth_mode,
        hosts: policy.hosts,
        path_prefixes: policy.path_prefixes,
        keys,
        tokens_not_before: policy.tokens_not_before,
    })
}

/// What keys have in common.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rules {
    issuer: String,
    lifetime: u64,
}

impl Rules {
    fn with(self, keys: Vec<Value>) -> VerificationKeys {
        let max_lifetime = format!("{}s", self.lifetime);
        VerificationKeys { issuer: self.issuer, max_lifetime, jwks: KeySet { keys } }
    }
}

fn add_key(entry: &Entry, sets: &mut BTreeMap<Rules, Vec<Value>>) -> Result<(), String> {
    let key = wire::VerificationKey::decode(entry.content()).map_err(|error| error.to_string())?;
    let jwk = serde_json::from_str(&key.jwk).map_err(|error| error.to_string())?;
    sets.entry(Rules { issuer: key.issuer, lifetime: key.max_lifetime_seconds }).or_default().push(jwk);
    Ok(())
}
