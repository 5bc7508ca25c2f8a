//! Operations.

use jiff::Timestamp;
use sqlx::SqlitePool;
use uuid::Uuid;

use super::rows::{self, millis};
use crate::workspace::domain::{Operation, OperationState};
use crate::workspace::store::{OperationRow, StoreError};

pub(super) async fn by_id(readers: &SqlitePool, id: Uuid) -> Result<Option<Operation>, StoreError> {
    let query = sqlx::query("SELECT * FROM operations WHERE id = ?").bind(id.to_string());
    query.fetch_optional(readers).await?.as_ref().map(rows::operation).transpose()
}

pub(super) async fn running(readers: &SqlitePool) -> Result<Vec<OperationRow>, StoreError> {
    let query = sqlx::query("SELECT * FROM operations WHERE state = 'Running' ORDER BY created_at");
    query.fetch_all(readers).await?.iter().map(rows::operation_row).collect()
}

pub(super) async fn end(
    writer: &SqlitePool,
    id: Uuid,
    state: OperationState,
    error: Option<&str>,
    at: Timestamp,
) -> Result<(), StoreError> {
    // A finished operation never changes again.
    sqlx::query(
        "UPDATE operations SET state = ?, error = ?, ended_at = ? WHERE id = ? AND state = 'Running'",
    )
    .bind(state.as_str())
    .bind(error)
    .bind(millis(at))
    .bind(id.to_string())
    .execute(writer)
    .await?;
    Ok(())
}

pub(super) async fn prune(writer: &SqlitePool, before: Timestamp) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM operations WHERE created_at < ? AND state <> 'Running'")
        .bind(millis(before))
        .execute(writer)
        .await?;
    Ok(())
}
