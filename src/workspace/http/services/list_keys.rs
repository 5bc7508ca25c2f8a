//! `POST {workspace}/services/{name}/listkeys`: both keys, in every mode.

use axum::extract::State;
use axum::routing::MethodFilter;
use axum::{Extension, Json};
use serde_json::{Value, json};

use crate::workspace::http::Api;
use crate::workspace::http::access::{Caller, Endpoint, Name};
use crate::workspace::http::error::ApiError;
use crate::workspace::{Issue, KeyPair, ListedKeys, Role};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::in_workspace(MethodFilter::POST, "/services/{name}/listkeys", Role::Contributor, list_keys)
}

async fn list_keys(
    State(api): State<Api>,
    Caller(principal): Caller,
    Name(name): Name,
) -> Result<(Extension<Issue>, Json<Value>), ApiError> {
    let ListedKeys { keys, issue } = api.workspace.list_keys(&name, &principal)?;
    Ok((Extension(issue), Json(key_pair(&keys))))
}

/// Keys as clients read them.
pub(in crate::workspace::http) fn key_pair(keys: &KeyPair) -> Value {
    json!({ "primaryKey": keys.primary.expose(), "secondaryKey": keys.secondary.expose() })
}
