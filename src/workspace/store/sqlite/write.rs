//! The one transaction that changes policy, and the one that founds the workspace.

use scoregate_authz::{ServiceName, ServiceUid, Version};
use sqlx::{Sqlite, SqlitePool, Transaction};

use super::audit;
use super::rows::{self, integer, json, millis};
use crate::workspace::audit::AuditRecord;
use crate::workspace::domain::{OperationTarget, ServiceRecord};
use crate::workspace::keyring::Sealed;
use crate::workspace::store::{
    Change, CommitError, EntryWrite, OperationRow, ServiceWrite, SigningKeyRow, SigningKeyWrite, StoreError,
    WorkspaceRow,
};

pub(super) type Tx = Transaction<'static, Sqlite>;

/// INVARIANT: a transaction that is dropped is rolled back, so that each early return leaves nothing behind.
pub(super) async fn commit(
    writer: &SqlitePool,
    change: Change,
    after: Option<Version>,
) -> Result<Version, CommitError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await.map_err(StoreError::from)?;
    let version = next_version(&mut tx).await?;
    check_follows(version, after)?;
    for record in &change.audit {
        audit::insert(&mut tx, record, Some(version)).await?;
    }
    if let Some(issuer) = change.issuer {
        write_issuer(&mut tx, &issuer).await?;
    }
    for service in change.services {
        write_service(&mut tx, service, version.revision).await?;
    }
    for (uid, sealed) in change.keys {
        write_keys(&mut tx, &uid, sealed).await?;
    }
    for key in change.signing_keys {
        write_signing_key(&mut tx, key, version.revision).await?;
    }
    for entry in change.entries {
        write_entry(&mut tx, entry, version.revision).await?;
    }
    if let Some(operation) = change.operation {
        insert_operation(&mut tx, operation, version.revision).await?;
    }
    tx.commit().await.map_err(StoreError::from)?;
    Ok(version)
}

/// First in the transaction: the row is locked from here on, also where a database has many writers.
async fn next_version(tx: &mut Tx) -> Result<Version, StoreError> {
    let row = sqlx::query("UPDATE workspace SET revision = revision + 1 RETURNING epoch, revision")
        .fetch_one(&mut **tx)
        .await?;
    rows::version(&row)
}

fn check_follows(version: Version, after: Option<Version>) -> Result<(), StoreError> {
    let found = Version { revision: version.revision - 1, ..version };
    match after {
        Some(expected) if expected != found => Err(StoreError::OutOfStep { expected, found }),
        _ => Ok(()),
    }
}

/// Makes the workspace, at epoch 1 and revision 0.
pub(super) async fn found(
    writer: &SqlitePool,
    workspace: &WorkspaceRow,
    record: &AuditRecord,
) -> Result<(), StoreError> {
    let version = Version { epoch: 1, revision: 0 };
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query(
        "INSERT INTO workspace \
         (singleton, id, epoch, revision, issuer, pepper_id, master_key_check, created_at) \
         VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(workspace.id.to_string())
    .bind(integer(version.epoch))
    .bind(integer(version.revision))
    .bind(&workspace.issuer)
    .bind(&workspace.pepper_id)
    .bind(&workspace.master_key_check)
    .bind(millis(workspace.created_at))
    .execute(&mut *tx)
    .await?;
    audit::insert(&mut tx, record, Some(version)).await?;
    Ok(tx.commit().await?)
}

/// Revisions go on: an entry's says when it was changed last.
pub(super) async fn begin_epoch(
    writer: &SqlitePool,
    epoch: u64,
    record: &AuditRecord,
) -> Result<Version, StoreError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    let row = sqlx::query("UPDATE workspace SET epoch = ? WHERE epoch < ? RETURNING epoch, revision")
        .bind(integer(epoch))
        .bind(integer(epoch))
        .fetch_one(&mut *tx)
        .await?;
    let version = rows::version(&row)?;
    audit::insert(&mut tx, record, Some(version)).await?;
    tx.commit().await?;
    Ok(version)
}

async fn write_issuer(tx: &mut Tx, issuer: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE workspace SET issuer = ?").bind(issuer).execute(&mut **tx).await?;
    Ok(())
}

async fn write_service(tx: &mut Tx, service: ServiceWrite, revision: u64) -> Result<(), CommitError> {
    match service {
        ServiceWrite::Create(record) => {
            insert_service(tx, &record, revision).await?;
            write_places(tx, &record).await
        }
        ServiceWrite::Update { record, expected } => {
            update_service(tx, &record, expected, revision).await?;
            write_places(tx, &record).await
        }
        ServiceWrite::Delete { uid, expected, .. } => delete_service(tx, &uid, expected).await,
    }
}

async fn insert_service(tx: &mut Tx, record: &ServiceRecord, revision: u64) -> Result<(), CommitError> {
    let done = sqlx::query(
        "INSERT INTO services (uid, name, compute_type, auth_mode, tokens_not_before, description, tags, \
         properties, hosts, path_prefixes, attributes, shadow_until, created_at, updated_at, revision) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
    )
    .bind(record.uid.as_str())
    .bind(record.name.as_str())
    .bind(record.compute_type.as_str())
    .bind(record.auth_mode.as_str())
    .bind(integer(record.tokens_not_before))
    .bind(record.description.as_deref())
    .bind(json(&record.tags)?)
    .bind(json(&record.properties)?)
    .bind(json(&record.hosts)?)
    .bind(json(&record.path_prefixes)?)
    .bind(json(&record.attributes)?)
    .bind(record.shadow_until.map(millis))
    .bind(millis(record.created_at))
    .bind(millis(record.updated_at))
    .bind(integer(revision))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::from)?;
    if done.rows_affected() == 0 { Err(CommitError::NameTaken(record.name.clone())) } else { Ok(()) }
}

async fn update_service(
    tx: &mut Tx,
    record: &ServiceRecord,
    expected: u64,
    revision: u64,
) -> Result<(), CommitError> {
    let done = sqlx::query(
        "UPDATE services SET auth_mode = ?, tokens_not_before = ?, description = ?, tags = ?, properties = ?, \
         hosts = ?, path_prefixes = ?, attributes = ?, shadow_until = ?, updated_at = ?, revision = ? \
         WHERE uid = ? AND revision = ?",
    )
    .bind(record.auth_mode.as_str())
    .bind(integer(record.tokens_not_before))
    .bind(record.description.as_deref())
    .bind(json(&record.tags)?)
    .bind(json(&record.properties)?)
    .bind(json(&record.hosts)?)
    .bind(json(&record.path_prefixes)?)
    .bind(json(&record.attributes)?)
    .bind(record.shadow_until.map(millis))
    .bind(millis(record.updated_at))
    .bind(integer(revision))
    .bind(record.uid.as_str())
    .bind(integer(expected))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::from)?;
    if done.rows_affected() == 0 { Err(CommitError::Stale) } else { Ok(()) }
}

async fn delete_service(tx: &mut Tx, uid: &ServiceUid, expected: u64) -> Result<(), CommitError> {
    // Keys and places go with it, by their foreign keys.
    let done = sqlx::query("DELETE FROM services WHERE uid = ? AND revision = ?")
        .bind(uid.as_str())
        .bind(integer(expected))
        .execute(&mut **tx)
        .await
        .map_err(StoreError::from)?;
    if done.rows_affected() == 0 { Err(CommitError::Stale) } else { Ok(()) }
}

async fn write_places(tx: &mut Tx, record: &ServiceRecord) -> Result<(), CommitError> {
    sqlx::query("DELETE FROM places WHERE service_uid = ?")
        .bind(record.uid.as_str())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::from)?;
    for host in &record.hosts {
        for prefix in &record.path_prefixes {
            write_place(tx, host, prefix, &record.uid).await?;
        }
    }
    Ok(())
}

async fn write_place(tx: &mut Tx, host: &str, prefix: &str, uid: &ServiceUid) -> Result<(), CommitError> {
    let done = sqlx::query(
        "INSERT INTO places (host, prefix, service_uid) VALUES (?, ?, ?) ON CONFLICT (host, prefix) DO NOTHING",
    )
    .bind(host)
    .bind(prefix)
    .bind(uid.as_str())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::from)?;
    if done.rows_affected() == 1 {
        return Ok(());
    }
    let owner = place_owner(tx, host, prefix).await?;
    Err(CommitError::PlaceTaken { host: host.to_owned(), prefix: prefix.to_owned(), owner })
}

async fn place_owner(tx: &mut Tx, host: &str, prefix: &str) -> Result<ServiceName, StoreError> {
    let name: String = sqlx::query_scalar(
        "SELECT name FROM services JOIN places ON service_uid = uid WHERE host = ? AND prefix = ?",
    )
    .bind(host)
    .bind(prefix)
    .fetch_one(&mut **tx)
    .await?;
    name.parse().map_err(|_| StoreError::Corrupt { column: "name" })
}

async fn write_keys(tx: &mut Tx, uid: &ServiceUid, sealed: Sealed) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO service_keys (service_uid, master_key_id, sealed) VALUES (?, ?, ?) \
         ON CONFLICT (service_uid) DO UPDATE SET master_key_id = excluded.master_key_id, sealed = excluded.sealed",
    )
    .bind(uid.as_str())
    .bind(sealed.master_key_id)
    .bind(sealed.bytes)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn write_signing_key(tx: &mut Tx, key: SigningKeyWrite, revision: u64) -> Result<(), StoreError> {
    match key {
        SigningKeyWrite::Create(key) => insert_signing_key(tx, key, revision).await,
        SigningKeyWrite::Update { id, state, longest_lifetime } => {
            sqlx::query(
                "UPDATE signing_keys SET state = ?, since = ?, until = ?, longest_lifetime = ? WHERE kid = ?",
            )
            .bind(state.as_str())
            .bind(millis(state.since()))
            .bind(rows::until(state))
            .bind(integer(longest_lifetime.as_secs()))
            .bind(id)
            .execute(&mut **tx)
            .await?;
            Ok(())
        }
        SigningKeyWrite::Delete(id) => {
            sqlx::query("DELETE FROM signing_keys WHERE kid = ?").bind(id).execute(&mut **tx).await?;
            Ok(())
        }
    }
}

async fn insert_signing_key(tx: &mut Tx, key: SigningKeyRow, revision: u64) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO signing_keys (kid, algorithm, jwk, master_key_id, sealed, created_at, revision, state, since, \
         until, longest_lifetime) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(key.id)
    .bind(key.algorithm.as_str())
    .bind(key.jwk)
    .bind(key.sealed.master_key_id)
    .bind(key.sealed.bytes)
    .bind(millis(key.created_at))
    .bind(integer(revision))
    .bind(key.state.as_str())
    .bind(millis(key.state.since()))
    .bind(rows::until(key.state))
    .bind(integer(key.longest_lifetime.as_secs()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn write_entry(tx: &mut Tx, entry: EntryWrite, revision: u64) -> Result<(), StoreError> {
    let deleted = entry.content.is_none();
    sqlx::query(
        "INSERT INTO entries (kind, id, name, content, revision, deleted) VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT (kind, id) DO UPDATE SET name = excluded.name, content = excluded.content, \
         revision = excluded.revision, deleted = excluded.deleted",
    )
    .bind(i64::from(entry.id.kind))
    .bind(entry.id.id.as_ref())
    .bind(entry.name)
    .bind(entry.content.unwrap_or_default())
    .bind(integer(revision))
    .bind(deleted)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn insert_operation(tx: &mut Tx, row: OperationRow, revision: u64) -> Result<(), StoreError> {
    let OperationRow { operation, effect, waiting_for, timeout } = row;
    let (service, signing_key) = match operation.target {
        OperationTarget::Service(name) => (name.to_string(), None),
        OperationTarget::SigningKey(id) => (String::new(), Some(id)),
    };
    sqlx::query(
        "INSERT INTO operations (id, operation_type, state, error, service, revision, effect, waiting_for, \
         created_at, ended_at, signing_key, timeout) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(operation.id.to_string())
    .bind(operation.operation_type)
    .bind(operation.state.as_str())
    .bind(operation.error)
    .bind(service)
    .bind(integer(revision))
    .bind(effect)
    .bind(json(&waiting_for)?)
    .bind(millis(operation.created_at))
    .bind(operation.ended_at.map(millis))
    .bind(signing_key)
    .bind(timeout.map(|timeout| integer(timeout.as_millis().try_into().unwrap_or(u64::MAX))))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
