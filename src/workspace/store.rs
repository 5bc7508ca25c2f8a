//! What a workspace keeps: one narrow interface, so that the domain does not know which database is behind it.
//!
//! Reads see one committed state each. All that changes policy goes through [`Store::commit`], which gives it the next
//! revision in its own transaction, under a lock on the workspace's row: the order of commits is the order of revisions.

mod sqlite;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use scoregate_authz::{
    AuthMode, ComputeType, EntryId, ServiceName, ServiceUid, TokenAlgorithm, Uses, Version,
};
use uuid::Uuid;

use super::audit::{AuditEntry, AuditFilter, AuditRecord};
use super::domain::{Operation, OperationState, Order, Principal, ServiceRecord};
use super::keyring::Sealed;
use super::signing_keys::SigningKeyState;
use crate::terms::Role;

pub(super) use sqlite::{SqliteFile, SqliteStore};

/// A database that does not work, or holds what it should not.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or failed.
    #[error("the database failed")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A value that this version cannot have written.
    #[error("the database holds an impossible `{column}`")]
    Corrupt {
        /// Where.
        column: &'static str,
    },
    /// The file is not where it was, or another one is in its place.
    #[error("the database is not the file that was opened: it was moved, deleted or replaced")]
    Gone,
    /// Another process wrote to it, or it is a copy of another moment.
    #[error("the database is at {found}, and not at {expected} as this process left it")]
    OutOfStep {
        /// As memory has it.
        expected: Version,
        /// As the database has it.
        found: Version,
    },
    /// It has not worked lately, and is not tried again before it is known to.
    #[error("the database does not work: {0}")]
    Down(String),
    /// Written by a later version of scoregate.
    #[error("the database has schema version {found}, and this scoregate knows up to {known}")]
    Newer {
        /// The version found.
        found: i64,
        /// The latest that is known.
        known: i64,
    },
}

/// What is true of the workspace as a whole.
#[derive(Debug, Clone)]
pub(super) struct WorkspaceRow {
    pub(super) id: Uuid,
    pub(super) issuer: String,
    pub(super) pepper_id: String,
    pub(super) master_key_check: Vec<u8>,
    pub(super) created_at: Timestamp,
}

/// A signing key, its private half sealed.
#[derive(Debug, Clone)]
pub(super) struct SigningKeyRow {
    pub(super) id: String,
    pub(super) algorithm: TokenAlgorithm,
    pub(super) jwk: String,
    pub(super) sealed: Sealed,
    pub(super) created_at: Timestamp,
    /// Assigned by the commit.
    pub(super) revision: u64,
    pub(super) state: SigningKeyState,
    /// Of the tokens that it may have signed.
    pub(super) longest_lifetime: Duration,
}

/// What happens to a signing key.
#[derive(Debug, Clone)]
pub(super) enum SigningKeyWrite {
    Create(SigningKeyRow),
    Update {
        id: String,
        state: SigningKeyState,
        longest_lifetime: Duration,
    },
    /// With its private half.
    Delete(String),
}

/// A policy entry as gates get it, or its tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntryRow {
    pub(super) id: EntryId,
    pub(super) name: String,
    pub(super) content: Vec<u8>,
    /// That last changed it.
    pub(super) revision: u64,
    pub(super) deleted: bool,
}

/// A policy entry to be written; `None` leaves a tombstone.
#[derive(Debug, Clone)]
pub(super) struct EntryWrite {
    pub(super) id: EntryId,
    pub(super) name: String,
    pub(super) content: Option<Vec<u8>>,
}

/// What happens to a service. `expected` is the revision at which its record was read.
#[derive(Debug, Clone)]
pub(super) enum ServiceWrite {
    Create(Box<ServiceRecord>),
    Update { record: Box<ServiceRecord>, expected: u64 },
    Delete { uid: ServiceUid, name: ServiceName, expected: u64 },
}

/// What must be known of a service to issue its keys and tokens.
#[derive(Debug, Clone)]
pub(super) struct IssuingRow {
    pub(super) uid: ServiceUid,
    pub(super) name: ServiceName,
    pub(super) auth_mode: AuthMode,
    pub(super) tokens_not_before: u64,
    /// Both keys.
    pub(super) sealed: Vec<u8>,
}

/// Uses of one credential of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UseRow {
    pub(super) service: ServiceUid,
    /// All that there were.
    pub(super) uses: Uses,
}

/// All that is held in memory, as of one moment.
#[derive(Debug)]
pub(super) struct State {
    pub(super) version: Version,
    /// With tombstones.
    pub(super) entries: Vec<EntryRow>,
    pub(super) services: Vec<IssuingRow>,
    pub(super) principals: Vec<(CredentialHash, Principal)>,
}

/// An operation with what is only kept to finish it.
#[derive(Debug, Clone)]
pub(super) struct OperationRow {
    pub(super) operation: Operation,
    /// What was done, in words.
    pub(super) effect: String,
    /// Gates that were connected when it was committed.
    pub(super) waiting_for: Vec<String>,
    /// For how long it waits for gates; `None` for the configured time.
    pub(super) timeout: Option<Duration>,
}

/// All that one commit changes.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// INVARIANT: there is one for each thing that is changed.
    pub(super) audit: Vec<AuditRecord>,
    /// Another `iss` of tokens.
    pub(super) issuer: Option<String>,
    pub(super) services: Vec<ServiceWrite>,
    pub(super) keys: Vec<(ServiceUid, Sealed)>,
    pub(super) signing_keys: Vec<SigningKeyWrite>,
    pub(super) entries: Vec<EntryWrite>,
    pub(super) operation: Option<OperationRow>,
}

impl Change {
    /// A change of nothing yet, with the records of what it will be.
    pub(super) fn recorded(audit: Vec<AuditRecord>) -> Self {
        Self {
            audit,
            issuer: None,
            services: Vec::new(),
            keys: Vec::new(),
            signing_keys: Vec::new(),
            entries: Vec::new(),
            operation: None,
        }
    }
}

/// Why a change was not committed. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommitError {
    /// Another service has the name.
    #[error("the name `{0}` is taken")]
    NameTaken(ServiceName),
    /// Another service has a place.
    #[error("`{host}{prefix}` belongs to `{owner}`")]
    PlaceTaken { host: String, prefix: String, owner: ServiceName },
    /// The service is not what it was when it was read.
    #[error("the service was changed by another process")]
    Stale,
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a principal was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrincipalError {
    /// The name is taken.
    #[error("the name is taken")]
    NameTaken,
    /// There is none of that name.
    #[error("no such principal")]
    Unknown,
    /// It is the only owner.
    #[error("it is the only owner")]
    LastOwner,
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which services a list has, and where in it to begin.
#[derive(Debug, Clone, Default)]
pub(super) struct ServiceQuery {
    pub(super) name: Option<String>,
    pub(super) compute_type: Option<ComputeType>,
    pub(super) tags: Vec<(String, Option<String>)>,
    pub(super) properties: Vec<(String, Option<String>)>,
    pub(super) order: Order,
    /// Begins after this one, exclusively.
    pub(super) after: Option<ListPosition>,
    pub(super) limit: u32,
}

/// A place in a list of services: the time by which it is ordered, and the uid among equals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListPosition {
    pub(super) time: Timestamp,
    pub(super) uid: String,
}

/// Which audit records a list has, newest first, and where in it to begin.
#[derive(Debug, Clone, Default)]
pub(super) struct AuditQuery {
    pub(super) filter: AuditFilter,
    /// Begins below this sequence number.
    pub(super) before: Option<u64>,
    pub(super) limit: u32,
}

/// SHA-256 of a principal's credential.
pub(super) type CredentialHash = [u8; 32];

/// The database of a workspace.
#[async_trait]
pub(super) trait Store: Debug + Send + Sync {
    /// The workspace itself; `None` before it is founded.
    async fn workspace(&self) -> Result<Option<WorkspaceRow>, StoreError>;

    /// Makes the workspace, at epoch 1 and revision 0.
    async fn found(&self, workspace: &WorkspaceRow, audit: &AuditRecord) -> Result<(), StoreError>;

    /// Ids of all master keys that sealed values need.
    async fn master_key_ids(&self) -> Result<Vec<String>, StoreError>;

    /// Commits a change, and says which version it made: the one next to `after`, where that is said.
    async fn commit(&self, change: Change, after: Option<Version>) -> Result<Version, CommitError>;

    /// All that is held in memory.
    async fn state(&self) -> Result<State, StoreError>;

    /// Whether changes would be stored: their lock can be had and, if it is to `write`, something is written. Says which
    /// version is stored.
    async fn probe(&self, write: bool) -> Result<Version, StoreError>;

    /// A service by name.
    async fn service(&self, name: &str) -> Result<Option<ServiceRecord>, StoreError>;

    /// A part of the list of services.
    async fn services(&self, query: &ServiceQuery) -> Result<Vec<ServiceRecord>, StoreError>;

    /// Both keys of a service, sealed.
    async fn sealed_keys(&self, uid: &ServiceUid) -> Result<Option<Vec<u8>>, StoreError>;

    /// All signing keys, oldest first.
    async fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, StoreError>;

    /// An operation.
    async fn operation(&self, id: Uuid) -> Result<Option<Operation>, StoreError>;

    /// Those that nobody has finished.
    async fn running_operations(&self) -> Result<Vec<OperationRow>, StoreError>;

    /// Finishes an operation.
    async fn end_operation(
        &self,
        id: Uuid,
        state: OperationState,
        error: Option<&str>,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// Forgets finished operations that began before a time.
    async fn prune_operations(&self, before: Timestamp) -> Result<(), StoreError>;

    /// Notes that a gate is connected, by the connection of this number.
    async fn remember_gate(&self, name: &str, connection: u64) -> Result<(), StoreError>;

    /// Notes that it is not any more, unless it has another connection.
    async fn forget_gate(&self, name: &str, connection: u64) -> Result<(), StoreError>;

    /// The gates that were connected when the workspace ended. They are forgotten with this.
    async fn take_gates(&self) -> Result<Vec<String>, StoreError>;

    /// Uses of credentials, as far as they were kept.
    async fn uses(&self) -> Result<Vec<UseRow>, StoreError>;

    /// Keeps uses of credentials, in place of those that were kept of them; those of services that are gone are left out.
    async fn keep_uses(&self, rows: &[UseRow]) -> Result<(), StoreError>;

    /// Makes a principal.
    async fn create_principal(
        &self,
        principal: &Principal,
        credential: &CredentialHash,
        audit: &AuditRecord,
    ) -> Result<(), PrincipalError>;

    /// Makes a principal, or gives the one of that name this role and credential.
    async fn replace_principal(
        &self,
        principal: &Principal,
        credential: &CredentialHash,
        audit: &AuditRecord,
    ) -> Result<(), StoreError>;

    /// Deletes a principal, unless it is the only one of role owner; says which role it had, here and in the record.
    async fn delete_principal(&self, name: &str, audit: AuditRecord) -> Result<Role, PrincipalError>;

    /// A part of the audit, newest first.
    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError>;

    /// Deletes audit records from before a time, some thousands at most; says how many.
    async fn prune_audit(&self, before: Timestamp) -> Result<u64, StoreError>;
}
