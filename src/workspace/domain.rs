//! What a workspace is about, in types that neither the store nor the wire owns.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use scoregate_authz::{
    AuthMode, AuthModeError, ComputeType, InvalidKey, PlainKey, ServiceName, ServiceUid, Slot,
};
use secrecy::SecretString;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::issues::Issue;
use crate::terms::Role;
use crate::tls::PeerIdentity;

/// A service, without its keys.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceRecord {
    /// Identity for life.
    pub uid: ServiceUid,
    /// Unique among the services that exist.
    pub name: ServiceName,
    /// AKS or ACI; immutable.
    pub compute_type: ComputeType,
    /// How callers prove themselves.
    pub auth_mode: AuthMode,
    /// Tokens issued before this Unix second are revoked.
    pub tokens_not_before: u64,
    /// Free text.
    pub description: Option<String>,
    /// `kvTags`.
    pub tags: BTreeMap<String, String>,
    /// `properties`: they are added, never changed.
    pub properties: BTreeMap<String, String>,
    /// Hosts under which gates find it, in canonical form.
    pub hosts: Vec<String>,
    /// Path prefixes under which gates find it.
    pub path_prefixes: Vec<String>,
    /// Until when gates let refused credentials through, and count them. May have passed.
    pub shadow_until: Option<Timestamp>,
    /// Members of Azure's service object that are only kept and shown: `computeName`, `numReplicas`,
    /// `containerResourceRequirements` and the like.
    pub attributes: Map<String, Value>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The revision that made it what it is.
    pub revision: u64,
}

/// What was said of key and token authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuthFlags {
    /// `authEnabled`.
    pub key: Option<bool>,
    /// `aadAuthEnabled`.
    pub token: Option<bool>,
}

/// A service to be made.
#[derive(Debug, Clone)]
pub struct NewService {
    /// Its name.
    pub name: ServiceName,
    /// AKS or ACI.
    pub compute_type: ComputeType,
    /// Authentication; what is unsaid follows the compute type.
    pub auth: AuthFlags,
    /// Chosen keys; random where `None`.
    pub keys: (Option<PlainKey>, Option<PlainKey>),
    /// Free text.
    pub description: Option<String>,
    /// `kvTags`.
    pub tags: BTreeMap<String, String>,
    /// `properties`.
    pub properties: BTreeMap<String, String>,
    /// Hosts in canonical form.
    pub hosts: Vec<String>,
    /// Path prefixes; where empty, the AKS scoring path, or `/score` for a service of ACI that has hosts.
    pub path_prefixes: Vec<String>,
    /// For how long gates are to let refused credentials through.
    pub shadow_for: Option<Duration>,
    /// Kept and shown.
    pub attributes: Map<String, Value>,
}

/// A change of a service. All of it or nothing; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct Patch {
    /// Authentication; the mode that results must be one.
    pub auth: AuthFlags,
    /// `Some(None)` clears it.
    pub description: Option<Option<String>>,
    /// The whole map.
    pub tags: Option<BTreeMap<String, String>>,
    /// The whole map.
    pub properties: Option<BTreeMap<String, String>>,
    /// Added to those that are there.
    pub add_properties: BTreeMap<String, String>,
    /// The whole list.
    pub hosts: Option<Vec<String>>,
    /// The whole list.
    pub path_prefixes: Option<Vec<String>>,
    /// For how long from now on gates are to let refused credentials through; `Some(None)` ends it.
    pub shadow_for: Option<Option<Duration>>,
    /// Members to set; nested objects member by member.
    pub attributes: Map<String, Value>,
}

impl Patch {
    /// Whether gates have to know of it.
    #[must_use]
    pub fn is_policy(&self) -> bool {
        self.auth != AuthFlags::default()
            || self.hosts.is_some()
            || self.path_prefixes.is_some()
            || self.shadow_for.is_some()
    }
}

/// What a key is replaced by.
#[derive(Debug, Clone)]
pub enum NewKey {
    /// A random one.
    Random,
    /// A random one, if the present one is this: whoever asks may have seen an older one.
    RandomFor(SecretString),
    /// This one.
    Chosen(PlainKey),
}

/// Both keys of a service.
#[derive(Debug, Clone)]
pub struct KeyPair {
    /// The primary key.
    pub primary: PlainKey,
    /// The secondary key.
    pub secondary: PlainKey,
}

/// Both keys of a service for somebody who asked for them, and what may be said of it.
#[derive(Debug, Clone)]
pub struct ListedKeys {
    /// The keys.
    pub keys: KeyPair,
    /// For the log.
    pub issue: Issue,
}

/// Order of a list of services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Newest first.
    #[default]
    CreatedAtDesc,
    /// Oldest first.
    CreatedAtAsc,
    /// Last changed first.
    UpdatedAtDesc,
    /// Last changed last.
    UpdatedAtAsc,
}

/// Which services a list has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceFilter {
    /// Of this name.
    pub name: Option<String>,
    /// Of this type.
    pub compute_type: Option<ComputeType>,
    /// Each tag is there, and has the value where one is given.
    pub tags: Vec<(String, Option<String>)>,
    /// Each property likewise.
    pub properties: Vec<(String, Option<String>)>,
    /// Order of the list.
    pub order: Order,
}

/// A part of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next part begins; `None` on the last.
    pub next: Option<String>,
}

/// A token, its times, and what may be said of it.
#[derive(Clone)]
pub struct IssuedToken {
    /// The JSON Web Token.
    pub token: String,
    /// When a new one should be fetched, in Unix seconds.
    pub refresh_after: u64,
    /// When it expires, in Unix seconds.
    pub expires_at: u64,
    /// For the log.
    pub issue: Issue,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { token: _, refresh_after, expires_at, issue } = self;
        f.debug_struct("IssuedToken")
            .field("refresh_after", refresh_after)
            .field("expires_at", expires_at)
            .field("issue", issue)
            .finish_non_exhaustive()
    }
}

/// A change whose enforcement by the gates can be waited for.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Identifies it.
    pub id: Uuid,
    /// `RegenerateKeys`, `Create`, `Delete` and the like.
    pub operation_type: String,
    /// How far it is.
    pub state: OperationState,
    /// What went wrong, for people.
    pub error: Option<String>,
    /// What it is about.
    pub target: OperationTarget,
    /// The revision to be enforced.
    pub revision: u64,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// What an operation is about. It may not exist any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationTarget {
    /// A service, by name.
    Service(ServiceName),
    /// A signing key, by id.
    SigningKey(String),
}

impl std::fmt::Display for OperationTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(name) => name.fmt(f),
            Self::SigningKey(id) => write!(f, "signing key {id}"),
        }
    }
}

/// State of an operation, in the contract's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationState {
    /// Gates are still missing.
    Running,
    /// Every connected gate enforces it.
    Succeeded,
    /// It was done, but not every gate confirmed it in time.
    TimedOut,
}

impl OperationState {
    /// The contract's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::TimedOut => "TimedOut",
        }
    }
}

/// Someone who may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Unique.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Principal {
    /// The gate that a certificate proves. Whom the listener lets in is a gate; its name is none that a principal of the
    /// workspace could have.
    pub(super) fn of_certificate(identity: &PeerIdentity) -> Self {
        let name = format!("{CERTIFICATE}{identity}");
        Self { name, role: Role::Gate, created_at: Timestamp::UNIX_EPOCH }
    }

    /// Whether it is that of a certificate.
    pub(super) fn is_of_certificate(&self) -> bool {
        Self::is_name_of_certificate(&self.name)
    }

    /// Whether a principal of this name is that of a certificate.
    pub(super) fn is_name_of_certificate(name: &str) -> bool {
        name.starts_with(CERTIFICATE)
    }
}

/// Before the names of gates that a certificate proves.
const CERTIFICATE: &str = "certificate:";

/// Why a workspace did not do as it was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// No such service.
    #[error("no service is named `{0}`")]
    UnknownService(String),
    /// No such principal.
    #[error("no principal is named `{0}`")]
    UnknownPrincipal(String),
    /// No such signing key.
    #[error("there is no signing key `{0}`")]
    UnknownSigningKey(String),
    /// No such operation.
    #[error("there is no operation `{0}`")]
    UnknownOperation(Uuid),
    /// Whoever asked for a change was deleted before it was its turn.
    #[error("the principal `{0}` is not there any more")]
    PrincipalGone(String),
    /// A key was replaced since it was read.
    #[error("the {slot} key of `{name}` has changed since it was read: read the keys again")]
    StaleKey {
        /// The service.
        name: ServiceName,
        /// Which key.
        slot: Slot,
    },
    /// The name is taken.
    #[error("a service named `{0}` exists already")]
    ServiceExists(ServiceName),
    /// The name is taken.
    #[error("a principal named `{0}` exists already")]
    PrincipalExists(String),
    /// The last owner cannot be deleted.
    #[error("`{0}` is the only owner: without one nobody could manage this workspace")]
    LastOwner(String),
    /// The authentication flags contradict each other or the compute type.
    #[error(transparent)]
    AuthMode(#[from] AuthModeError),
    /// A token of a service that takes none.
    #[error("`{name}` is in {mode} mode: it has no tokens")]
    NotInTokenMode {
        /// The service.
        name: ServiceName,
        /// Its mode.
        mode: AuthMode,
    },
    /// A chosen key that cannot be one.
    #[error("the {slot} key of `{name}` cannot be used: {source}")]
    Key {
        /// The service.
        name: ServiceName,
        /// Which key.
        slot: Slot,
        /// Why not.
        source: InvalidKey,
    },
    /// Both keys would be the same.
    #[error("the primary and the secondary key of `{0}` would be the same")]
    EqualKeys(ServiceName),
    /// A place that another service has.
    #[error("`{host}{prefix}` belongs to the service `{owner}`")]
    PlaceTaken {
        /// The host.
        host: String,
        /// The path prefix.
        prefix: String,
        /// Who has it.
        owner: ServiceName,
    },
    /// A member of the request that cannot be as it is.
    #[error("`{field}`: {problem}")]
    Invalid {
        /// The member.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// The store failed. The message for the client does not say how.
    #[error("the store does not work")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}
