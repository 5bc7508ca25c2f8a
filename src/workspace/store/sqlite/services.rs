//! Reading services.

use sqlx::{QueryBuilder, Sqlite, SqlitePool};

use super::rows::{self, millis};
use crate::workspace::domain::{Order, ServiceRecord};
use crate::workspace::store::{ServiceQuery, StoreError};

pub(super) async fn named(readers: &SqlitePool, name: &str) -> Result<Option<ServiceRecord>, StoreError> {
    let query = sqlx::query("SELECT * FROM services WHERE name = ?").bind(name);
    query.fetch_optional(readers).await?.as_ref().map(rows::service).transpose()
}

pub(super) async fn list(
    readers: &SqlitePool,
    query: &ServiceQuery,
) -> Result<Vec<ServiceRecord>, StoreError> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT * FROM services WHERE 1 = 1");
    if let Some(name) = &query.name {
        sql.push(" AND name = ").push_bind(name.clone());
    }
    if let Some(compute_type) = query.compute_type {
        sql.push(" AND compute_type = ").push_bind(compute_type.as_str());
    }
    push_members(&mut sql, "tags", &query.tags);
    push_members(&mut sql, "properties", &query.properties);
    push_order(&mut sql, query);
    sql.push(" LIMIT ").push_bind(query.limit);
    sql.build().fetch_all(readers).await?.iter().map(rows::service).collect()
}

/// Each member is there, with its value where one is given. `column` is never input.
fn push_members(sql: &mut QueryBuilder<Sqlite>, column: &str, members: &[(String, Option<String>)]) {
    for (key, value) in members {
        sql.push(format_args!(
            " AND EXISTS (SELECT 1 FROM json_each({column}) AS member WHERE member.key = "
        ));
        sql.push_bind(key.clone());
        if let Some(value) = value {
            sql.push(" AND member.value = ").push_bind(value.clone());
        }
        sql.push(")");
    }
}

/// The rows after the position, in order.
fn push_order(sql: &mut QueryBuilder<Sqlite>, query: &ServiceQuery) {
    let (time, comparison, direction) = match query.order {
        Order::CreatedAtDesc => ("created_at", "<", "DESC"),
        Order::CreatedAtAsc => ("created_at", ">", "ASC"),
        Order::UpdatedAtDesc => ("updated_at", "<", "DESC"),
        Order::UpdatedAtAsc => ("updated_at", ">", "ASC"),
    };
    if let Some(after) = &query.after {
        sql.push(format_args!(" AND ({time}, uid) {comparison} ("));
        sql.push_bind(millis(after.time)).push(", ").push_bind(after.uid.clone()).push(")");
    }
    sql.push(format_args!(" ORDER BY {time} {direction}, uid {direction}"));
}
