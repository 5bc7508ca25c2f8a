//! Principals.

use sqlx::SqlitePool;

use super::audit;
use super::rows::{self, millis};
use super::write::Tx;
use crate::terms::Role;
use crate::workspace::audit::AuditRecord;
use crate::workspace::domain::Principal;
use crate::workspace::store::{CredentialHash, PrincipalError, StoreError};

pub(super) async fn create(
    writer: &SqlitePool,
    principal: &Principal,
    credential: &CredentialHash,
    record: &AuditRecord,
) -> Result<(), PrincipalError> {
    let mut change = begin(writer).await?;
    let query = sqlx::query(
        "INSERT INTO principals (name, role, credential_hash, created_at) VALUES (?, ?, ?, ?) \
         ON CONFLICT (name) DO NOTHING",
    );
    let done = bind(query, principal, credential).execute(&mut *change).await.map_err(StoreError::from)?;
    if done.rows_affected() == 0 {
        return Err(PrincipalError::NameTaken);
    }
    Ok(commit(change, record).await?)
}

pub(super) async fn replace(
    writer: &SqlitePool,
    principal: &Principal,
    credential: &CredentialHash,
    record: &AuditRecord,
) -> Result<(), StoreError> {
    let mut change = begin(writer).await?;
    let query = sqlx::query(
        "INSERT INTO principals (name, role, credential_hash, created_at) VALUES (?, ?, ?, ?) \
         ON CONFLICT (name) DO UPDATE SET role = excluded.role, credential_hash = excluded.credential_hash",
    );
    bind(query, principal, credential).execute(&mut *change).await?;
    commit(change, record).await
}

pub(super) async fn delete(
    writer: &SqlitePool,
    name: &str,
    mut record: AuditRecord,
) -> Result<Role, PrincipalError> {
    let mut change = begin(writer).await?;
    let query = sqlx::query("DELETE FROM principals WHERE name = ? RETURNING name, role, created_at");
    let deleted = query.bind(name).fetch_optional(&mut *change).await.map_err(StoreError::from)?;
    let deleted = deleted.as_ref().map(rows::principal).transpose()?.ok_or(PrincipalError::Unknown)?;
    let owners: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM principals WHERE role = 'owner'")
        .fetch_one(&mut *change)
        .await
        .map_err(StoreError::from)?;
    if deleted.role == Role::Owner && owners == 0 {
        // Dropping the transaction takes the deletion back.
        return Err(PrincipalError::LastOwner);
    }
    record.details.insert("role".to_owned(), deleted.role.as_str().into());
    commit(change, &record).await?;
    Ok(deleted.role)
}

async fn begin(writer: &SqlitePool) -> Result<Tx, StoreError> {
    Ok(writer.begin_with("BEGIN IMMEDIATE").await?)
}

/// Gates hear nothing of principals: the record has no version.
async fn commit(mut change: Tx, record: &AuditRecord) -> Result<(), StoreError> {
    audit::insert(&mut change, record, None).await?;
    Ok(change.commit().await?)
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

fn bind<'q>(query: Query<'q>, principal: &Principal, credential: &CredentialHash) -> Query<'q> {
    query
        .bind(principal.name.clone())
        .bind(principal.role.as_str())
        .bind(credential.to_vec())
        .bind(millis(principal.created_at))
}
