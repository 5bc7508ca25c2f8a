//! The audit.

use jiff::Timestamp;
use scoregate_authz::Version;
use sqlx::{QueryBuilder, Sqlite, SqlitePool};

use super::rows::{self, integer, json, millis};
use super::write::Tx;
use crate::terms::Role;
use crate::workspace::audit::{AuditEntry, AuditFilter, AuditRecord, AuditedService};
use crate::workspace::store::{AuditQuery, StoreError};

/// Most records that are deleted at once: the writer is to wait for milliseconds, not for a year of them.
const PRUNED_AT_ONCE: i64 = 5000;

/// Part of the transaction that makes the change.
pub(super) async fn insert(
    tx: &mut Tx,
    record: &AuditRecord,
    version: Option<Version>,
) -> Result<(), StoreError> {
    let AuditRecord { at, origin, action, target, details } = record;
    sqlx::query(
        "INSERT INTO audit (at, action, target_kind, target, service_uid, principal, role, remote, request_id, \
         epoch, revision, details) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(millis(*at))
    .bind(action.as_str())
    .bind(target.kind())
    .bind(target.name())
    .bind(target.uid().map(ToString::to_string))
    .bind(&origin.principal)
    .bind(origin.role.map(Role::as_str))
    .bind(&origin.remote)
    .bind(origin.request_id.map(|id| id.to_string()))
    .bind(version.map(|version| integer(version.epoch)))
    .bind(version.map(|version| integer(version.revision)))
    .bind(json(details)?)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn list(readers: &SqlitePool, query: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT * FROM audit WHERE 1 = 1");
    push_filter(&mut sql, &query.filter);
    if let Some(before) = query.before {
        sql.push(" AND sequence < ").push_bind(integer(before));
    }
    sql.push(" ORDER BY sequence DESC LIMIT ").push_bind(query.limit);
    sql.build().fetch_all(readers).await?.iter().map(rows::audit_entry).collect()
}

fn push_filter(sql: &mut QueryBuilder<Sqlite>, filter: &AuditFilter) {
    match &filter.service {
        Some(AuditedService::Named(name)) => {
            sql.push(" AND target_kind = 'service' AND target = ").push_bind(name.to_string());
        }
        Some(AuditedService::Uid(uid)) => {
            sql.push(" AND service_uid = ").push_bind(uid.to_string());
        }
        None => {}
    }
    if let Some(principal) = &filter.principal {
        sql.push(" AND principal = ").push_bind(principal.clone());
    }
    if let Some(action) = filter.action {
        sql.push(" AND action = ").push_bind(action.as_str());
    }
    if let Some(since) = filter.since {
        sql.push(" AND at >= ").push_bind(millis(since));
    }
    if let Some(until) = filter.until {
        sql.push(" AND at < ").push_bind(millis(until));
    }
}

pub(super) async fn prune(writer: &SqlitePool, before: Timestamp) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "DELETE FROM audit WHERE sequence IN (SELECT sequence FROM audit WHERE at < ? ORDER BY at LIMIT ?)",
    )
    .bind(millis(before))
    .bind(PRUNED_AT_ONCE)
    .execute(writer)
    .await?;
    Ok(done.rows_affected())
}
