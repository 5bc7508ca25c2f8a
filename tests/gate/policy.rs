//! Policy as a workspace writes it: services, keys, and tokens that it signed.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use scoregate::proto::scoregate::policy::v1 as wire;
use scoregate::statement::{PolicyKey, Statement};
use scoregate_authz::{
    EntryId, Pepper, Peppers, PlainKey, StateHash, TOKEN_TYPE, UnixTime, Version, entry_hash, state_hash,
};
use serde_json::json;

pub(crate) const WORKSPACE: &str = "ws-1";
pub(crate) const ISSUER: &str = "https://ws-1.scoregate.invalid";
/// What the clock of each gate says, in Unix seconds.
pub(crate) const NOW: u64 = 1_800_000_000;

fn pepper() -> Pepper {
    Pepper::new(&[9; 32]).unwrap()
}

pub(crate) fn peppers() -> Peppers {
    Peppers::new(vec![pepper()]).unwrap()
}

pub(crate) fn key(name: &str, slot: &str, generation: u32) -> String {
    format!("{slot}-key-of-{name}-{generation}")
}

/// A service with a primary and a secondary key of these generations.
pub(crate) fn key_service(name: &str, generations: (u32, u32)) -> wire::Entry {
    let digest = |slot: &str, generation| {
        let key = PlainKey::choose(&key(name, slot, generation)).unwrap();
        let digest = pepper().digest(&uid(name).parse().unwrap(), &key);
        Some(wire::KeyDigest { digest: digest.as_bytes().to_vec(), pepper_id: pepper().id().to_owned() })
    };
    let (primary, secondary) = (digest("primary", generations.0), digest("secondary", generations.1));
    service(name, wire::AuthMode::Key, primary, secondary)
}

/// The same service in shadow until this second.
pub(crate) fn in_shadow(entry: &wire::Entry, until: u64) -> wire::Entry {
    let mut policy = wire::ServicePolicy::decode(entry.content.as_slice()).unwrap();
    policy.shadow_until = until;
    wire::Entry { content: policy.encode_to_vec(), ..entry.clone() }
}

pub(crate) fn token_service(name: &str) -> wire::Entry {
    service(name, wire::AuthMode::Token, None, None)
}

pub(crate) fn open_service(name: &str) -> wire::Entry {
    service(name, wire::AuthMode::Disabled, None, None)
}

fn uid(name: &str) -> String {
    format!("uid-{name}")
}

fn service(
    name: &str,
    mode: wire::AuthMode,
    primary: Option<wire::KeyDigest>,
    secondary: Option<wire::KeyDigest>,
) -> wire::Entry {
    let policy = wire::ServicePolicy {
        compute_type: wire::ComputeType::Aks.into(),
        auth_mode: mode.into(),
        primary,
        secondary,
        hosts: vec![format!("{name}.example.com")],
        path_prefixes: vec!["/score".to_owned()],
        ..wire::ServicePolicy::default()
    };
    wire::Entry {
        kind: wire::EntryKind::Service.into(),
        id: uid(name),
        name: name.to_owned(),
        content: policy.encode_to_vec(),
        deleted: false,
    }
}

/// A key that signs tokens.
pub(crate) struct Signer(EcdsaKeyPair);

impl Signer {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn entry(&self) -> wire::Entry {
        let point = self.0.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        let jwk = json!({ "kid": "k1", "kty": "EC", "crv": "P-256", "alg": "ES256", "x": x, "y": y });
        let key = wire::VerificationKey {
            jwk: jwk.to_string(),
            issuer: ISSUER.to_owned(),
            max_lifetime_seconds: 86_400,
        };
        wire::Entry {
            kind: wire::EntryKind::VerificationKey.into(),
            id: "k1".to_owned(),
            name: String::new(),
            content: key.encode_to_vec(),
            deleted: false,
        }
    }

    /// A token for the service, issued now.
    pub(crate) fn token(&self, name: &str, subject: &str) -> String {
        self.sign(&json!({ "alg": "ES256", "kid": "k1", "typ": TOKEN_TYPE }), name, subject)
    }

    /// The same that names another key, and where that is to be had.
    pub(crate) fn token_under(&self, kid: &str, keys: &str, name: &str) -> String {
        let header = json!({ "alg": "ES256", "kid": kid, "typ": TOKEN_TYPE, "jku": keys, "x5u": keys });
        self.sign(&header, name, "eve")
    }

    fn sign(&self, header: &serde_json::Value, name: &str, subject: &str) -> String {
        let claims = json!({
            "iss": ISSUER, "aud": format!("urn:scoregate:service:{}", uid(name)), "sub": subject,
            "iat": NOW, "nbf": NOW, "exp": NOW + 3600,
        });
        let [header, claims] = [header, &claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let message = format!("{header}.{claims}");
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

pub(crate) fn hash_of(entries: &[wire::Entry]) -> Vec<u8> {
    let mut hashes: Vec<_> = entries
        .iter()
        .map(|entry| {
            let id = EntryId { kind: u32::try_from(entry.kind).unwrap(), id: entry.id.as_str().into() };
            let hash = entry_hash(&id, &entry.name, &entry.content);
            (id, hash)
        })
        .collect();
    hashes.sort();
    state_hash(hashes.iter().map(|(_, hash)| hash)).0.to_vec()
}

/// A complete snapshot in parts of `size` entries.
pub(crate) fn parts(
    epoch: u64,
    revision: u64,
    entries: &[wire::Entry],
    size: usize,
) -> Vec<wire::SnapshotPart> {
    let state_hash = hash_of(entries);
    let part = |offset: usize, some: &[wire::Entry]| wire::SnapshotPart {
        workspace: WORKSPACE.to_owned(),
        epoch,
        revision,
        total: entries.len() as u64,
        offset: offset as u64,
        entries: some.to_vec(),
        state_hash: state_hash.clone(),
        statement: (offset == 0).then(|| statement(WORKSPACE, (epoch, revision), &state_hash)),
    };
    match entries {
        [] => vec![part(0, &[])],
        _ => entries.chunks(size).enumerate().map(|(index, some)| part(index * size, some)).collect(),
    }
}

/// The change by `entries` within epoch 1, after which there are `all`.
pub(crate) fn change(from: u64, to: u64, entries: &[wire::Entry], all: &[wire::Entry]) -> wire::Change {
    wire::Change {
        epoch: 1,
        from_revision: from,
        revision: to,
        entries: entries.to_vec(),
        state_hash: hash_of(all),
        committed_at: None,
        statement: Some(statement(WORKSPACE, (1, to), &hash_of(all))),
    }
}

/// The private key that gates trust: the example of RFC 8410, section 10.3.
pub(crate) fn policy_key() -> PolicyKey {
    let key = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    PolicyKey::from_pem(key).unwrap()
}

/// Issued now.
pub(crate) fn statement(workspace: &str, version: (u64, u64), state_hash: &[u8]) -> wire::Statement {
    statement_at(&policy_key(), workspace, version, state_hash, NOW)
}

pub(crate) fn statement_at(
    key: &PolicyKey,
    workspace: &str,
    (epoch, revision): (u64, u64),
    state_hash: &[u8],
    seconds: u64,
) -> wire::Statement {
    key.sign(&Statement {
        workspace: workspace.to_owned(),
        version: Version { epoch, revision },
        state_hash: StateHash(state_hash.try_into().unwrap()),
        issued_at: UnixTime::from_secs(seconds),
    })
}

/// One whose statement was issued at this Unix second.
pub(crate) fn heartbeat_at(epoch: u64, revision: u64, all: &[wire::Entry], seconds: u64) -> wire::Heartbeat {
    let state_hash = hash_of(all);
    let statement = statement_at(&policy_key(), WORKSPACE, (epoch, revision), &state_hash, seconds);
    wire::Heartbeat { epoch, revision, state_hash, sent_at: None, statement: Some(statement) }
}

pub(crate) fn tombstone(entry: &wire::Entry) -> wire::Entry {
    wire::Entry { content: Vec::new(), deleted: true, ..entry.clone() }
}

pub(crate) fn heartbeat(epoch: u64, revision: u64, all: &[wire::Entry]) -> wire::Heartbeat {
    heartbeat_at(epoch, revision, all, NOW)
}
