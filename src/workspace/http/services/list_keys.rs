//! `POST {workspace}/services/{name}/listkeys`: both keys, in every mode.

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::error::ApiError;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::in_workspace(MethodFilter::POST, "/services/{name}/listkeys", Role::Contributor, list_keys)
}

async fn list_keys(State(api): State<Api>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    let keys = api.workspace.keys(&name)?;
    Ok(Json(json!({ "primaryKey": keys.primary.expose(), "secondaryKey": keys.secondary.expose() })))
}
