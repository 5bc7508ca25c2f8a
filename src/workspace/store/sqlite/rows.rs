//! Rows to values and back. A value that cannot be one is an error that names its column, never a default.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use scoregate_authz::{AuthMode, EntryId, TokenAlgorithm, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::workspace::audit::{AuditEntry, AuditRecord, AuditTarget, Origin};
use crate::workspace::domain::{Operation, OperationState, OperationTarget, Principal, ServiceRecord};
use crate::workspace::keyring::Sealed;
use crate::workspace::signing_keys::SigningKeyState;
use crate::workspace::store::{
    CredentialHash, EntryRow, IssuingRow, OperationRow, SigningKeyRow, StoreError, WorkspaceRow,
};

/// As SQLite has integers. Revisions and seconds never come near the limit.
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// Lists and maps are stored as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Database(error.into()))
}

pub(super) fn unsigned(row: &SqliteRow, column: &'static str) -> Result<u64, StoreError> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| StoreError::Corrupt { column })
}

fn optional_time(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
    let millis: Option<i64> = row.try_get(column)?;
    millis.map(|_| time(row, column)).transpose()
}

fn time(row: &SqliteRow, column: &'static str) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(row.try_get(column)?).map_err(|_| StoreError::Corrupt { column })
}

pub(super) fn parsed<T: FromStr>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    row.try_get::<&str, _>(column)?.parse().map_err(|_| StoreError::Corrupt { column })
}

fn decoded<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(row.try_get(column)?).map_err(|_| StoreError::Corrupt { column })
}

/// The one of a closed set of words.
fn word<T: Copy>(
    row: &SqliteRow,
    column: &'static str,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<T, StoreError> {
    let text: &str = row.try_get(column)?;
    all.iter().copied().find(|one| name(*one) == text).ok_or(StoreError::Corrupt { column })
}

pub(super) fn workspace(row: &SqliteRow) -> Result<WorkspaceRow, StoreError> {
    Ok(WorkspaceRow {
        id: parsed(row, "id")?,
        issuer: row.try_get("issuer")?,
        pepper_id: row.try_get("pepper_id")?,
        master_key_check: row.try_get("master_key_check")?,
        created_at: time(row, "created_at")?,
    })
}

pub(super) fn version(row: &SqliteRow) -> Result<Version, StoreError> {
    Ok(Version { epoch: unsigned(row, "epoch")?, revision: unsigned(row, "revision")? })
}

const MODES: [AuthMode; 3] = [AuthMode::Disabled, AuthMode::Key, AuthMode::Token];

pub(super) fn issuing(row: &SqliteRow) -> Result<IssuingRow, StoreError> {
    Ok(IssuingRow {
        uid: parsed(row, "uid")?,
        name: parsed(row, "name")?,
        auth_mode: word(row, "auth_mode", &MODES, AuthMode::as_str)?,
        tokens_not_before: unsigned(row, "tokens_not_before")?,
        sealed: row.try_get("sealed")?,
    })
}

pub(super) fn service(row: &SqliteRow) -> Result<ServiceRecord, StoreError> {
    Ok(ServiceRecord {
        uid: parsed(row, "uid")?,
        name: parsed(row, "name")?,
        compute_type: parsed(row, "compute_type")?,
        auth_mode: word(row, "auth_mode", &MODES, AuthMode::as_str)?,
        tokens_not_before: unsigned(row, "tokens_not_before")?,
        description: row.try_get("description")?,
        tags: decoded(row, "tags")?,
        properties: decoded(row, "properties")?,
        hosts: decoded(row, "hosts")?,
        path_prefixes: decoded(row, "path_prefixes")?,
        shadow_until: optional_time(row, "shadow_until")?,
        attributes: decoded(row, "attributes")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        revision: unsigned(row, "revision")?,
    })
}

pub(super) fn signing_key(row: &SqliteRow) -> Result<SigningKeyRow, StoreError> {
    let algorithms = [TokenAlgorithm::Es256, TokenAlgorithm::Rs256, TokenAlgorithm::EdDsa];
    Ok(SigningKeyRow {
        id: row.try_get("kid")?,
        algorithm: word(row, "algorithm", &algorithms, TokenAlgorithm::as_str)?,
        jwk: row.try_get("jwk")?,
        sealed: Sealed { master_key_id: row.try_get("master_key_id")?, bytes: row.try_get("sealed")? },
        created_at: time(row, "created_at")?,
        revision: unsigned(row, "revision")?,
        state: signing_key_state(row)?,
        longest_lifetime: Duration::from_secs(unsigned(row, "longest_lifetime")?),
    })
}

fn signing_key_state(row: &SqliteRow) -> Result<SigningKeyState, StoreError> {
    let since = time(row, "since")?;
    Ok(match row.try_get("state")? {
        "published" => SigningKeyState::Published { since, signs_from: time(row, "until")? },
        "signing" => SigningKeyState::Signing { since },
        "retired" => SigningKeyState::Retired { since, until: time(row, "until")? },
        _ => return Err(StoreError::Corrupt { column: "state" }),
    })
}

/// `until` as it is stored.
pub(super) fn until(state: SigningKeyState) -> Option<i64> {
    match state {
        SigningKeyState::Signing { .. } => None,
        SigningKeyState::Published { signs_from: until, .. } | SigningKeyState::Retired { until, .. } => {
            Some(millis(until))
        }
    }
}

pub(super) fn entry(row: &SqliteRow) -> Result<EntryRow, StoreError> {
    let kind = u32::try_from(row.try_get::<i64, _>("kind")?);
    Ok(EntryRow {
        id: EntryId {
            kind: kind.map_err(|_| StoreError::Corrupt { column: "kind" })?,
            id: row.try_get::<&str, _>("id")?.into(),
        },
        name: row.try_get("name")?,
        content: row.try_get("content")?,
        revision: unsigned(row, "revision")?,
        deleted: row.try_get("deleted")?,
    })
}

pub(super) fn operation(row: &SqliteRow) -> Result<Operation, StoreError> {
    let states = [OperationState::Running, OperationState::Succeeded, OperationState::TimedOut];
    Ok(Operation {
        id: parsed(row, "id")?,
        operation_type: row.try_get("operation_type")?,
        state: word(row, "state", &states, OperationState::as_str)?,
        error: row.try_get("error")?,
        target: operation_target(row)?,
        revision: unsigned(row, "revision")?,
        created_at: time(row, "created_at")?,
        ended_at: optional_time(row, "ended_at")?,
    })
}

fn operation_target(row: &SqliteRow) -> Result<OperationTarget, StoreError> {
    Ok(match row.try_get("signing_key")? {
        Some(id) => OperationTarget::SigningKey(id),
        None => OperationTarget::Service(parsed(row, "service")?),
    })
}

pub(super) fn operation_row(row: &SqliteRow) -> Result<OperationRow, StoreError> {
    let timeout: Option<i64> = row.try_get("timeout")?;
    Ok(OperationRow {
        operation: operation(row)?,
        effect: row.try_get("effect")?,
        waiting_for: decoded(row, "waiting_for")?,
        timeout: timeout.map(|_| unsigned(row, "timeout").map(Duration::from_millis)).transpose()?,
    })
}

pub(super) fn audit_entry(row: &SqliteRow) -> Result<AuditEntry, StoreError> {
    let role: Option<&str> = row.try_get("role")?;
    let revision: Option<i64> = row.try_get("revision")?;
    let request_id: Option<&str> = row.try_get("request_id")?;
    let origin = Origin {
        principal: row.try_get("principal")?,
        role: role.map(|_| parsed(row, "role")).transpose()?,
        since: None,
        remote: row.try_get("remote")?,
        request_id: request_id.map(|_| parsed(row, "request_id")).transpose()?,
        patience: None,
    };
    Ok(AuditEntry {
        sequence: unsigned(row, "sequence")?,
        version: revision.map(|_| version(row)).transpose()?,
        record: AuditRecord {
            at: time(row, "at")?,
            origin,
            action: parsed(row, "action")?,
            target: audit_target(row)?,
            details: decoded(row, "details")?,
        },
    })
}

fn audit_target(row: &SqliteRow) -> Result<AuditTarget, StoreError> {
    Ok(match row.try_get("target_kind")? {
        "workspace" => AuditTarget::Workspace(parsed(row, "target")?),
        "signing_key" => AuditTarget::SigningKey(row.try_get("target")?),
        "service" => AuditTarget::Service(parsed(row, "target")?, parsed(row, "service_uid")?),
        "principal" => AuditTarget::Principal(row.try_get("target")?),
        _ => return Err(StoreError::Corrupt { column: "target_kind" }),
    })
}

pub(super) fn credential(row: &SqliteRow) -> Result<(CredentialHash, Principal), StoreError> {
    let hash: &[u8] = row.try_get("credential_hash")?;
    let hash = hash.try_into().map_err(|_| StoreError::Corrupt { column: "credential_hash" })?;
    Ok((hash, principal(row)?))
}

pub(super) fn principal(row: &SqliteRow) -> Result<Principal, StoreError> {
    Ok(Principal {
        name: row.try_get("name")?,
        role: parsed(row, "role")?,
        created_at: time(row, "created_at")?,
    })
}
