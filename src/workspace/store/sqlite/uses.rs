//! Uses of credentials.

use scoregate_authz::{KeyFingerprint, Slot, UsedCredential, Uses};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqlitePool};

use super::rows::{self, integer, unsigned};
use crate::workspace::store::{StoreError, UseRow};

const TOKEN: &str = "token";

pub(super) async fn all(readers: &SqlitePool) -> Result<Vec<UseRow>, StoreError> {
    let query =
        sqlx::query("SELECT service_uid, credential, fingerprint, uses, last_used FROM credential_uses");
    query.fetch_all(readers).await?.iter().map(read).collect()
}

/// One transaction: each by itself would be synced by itself.
pub(super) async fn keep(writer: &SqlitePool, rows: &[UseRow]) -> Result<(), StoreError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    for UseRow { service, uses } in rows {
        let (credential, fingerprint) = match uses.credential {
            UsedCredential::Key(slot, fingerprint) => (slot.as_str(), Some(fingerprint)),
            UsedCredential::Token => (TOKEN, None),
        };
        sqlx::query(
            "INSERT INTO credential_uses (service_uid, credential, fingerprint, uses, last_used) \
             SELECT uid, ?, ?, ?, ? FROM services WHERE uid = ? \
             ON CONFLICT (service_uid, credential) DO UPDATE SET fingerprint = excluded.fingerprint, \
             uses = excluded.uses, last_used = excluded.last_used",
        )
        .bind(credential)
        .bind(fingerprint.as_ref().map(|fingerprint| fingerprint.as_bytes().as_slice()))
        .bind(integer(uses.count))
        .bind(integer(uses.last_used))
        .bind(service.as_str())
        .execute(&mut *tx)
        .await?;
    }
    Ok(tx.commit().await?)
}

fn read(row: &SqliteRow) -> Result<UseRow, StoreError> {
    let fingerprint: Option<&[u8]> = row.try_get("fingerprint")?;
    let fingerprint = fingerprint.and_then(KeyFingerprint::from_bytes);
    let name: &str = row.try_get("credential")?;
    let slot = Slot::ALL.into_iter().find(|slot| slot.as_str() == name);
    let credential = match (slot, fingerprint) {
        (Some(slot), Some(fingerprint)) => UsedCredential::Key(slot, fingerprint),
        (None, None) if name == TOKEN => UsedCredential::Token,
        _ => return Err(StoreError::Corrupt { column: "credential" }),
    };
    let uses = Uses { credential, count: unsigned(row, "uses")?, last_used: unsigned(row, "last_used")? };
    Ok(UseRow { service: rows::parsed(row, "service_uid")?, uses })
}
