//! `POST {workspace}/onlineEndpoints/{name}/listKeys`: both keys, in every mode.

use axum::extract::State;
use axum::routing::MethodFilter;
use axum::{Extension, Json};
use serde_json::Value;

use super::EndpointName;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Caller, Endpoint};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::services::key_pair;
use crate::workspace::{Issue, ListedKeys, Role};

pub(super) fn endpoint() -> Endpoint {
    let path = "/onlineEndpoints/{name}/listKeys";
    Endpoint::in_resource(MethodFilter::POST, path, Role::Contributor, list_keys)
}

async fn list_keys(
    State(api): State<Api>,
    Caller(principal): Caller,
    EndpointName(name): EndpointName,
) -> Result<(Extension<Issue>, Json<Value>), ApiError> {
    let ListedKeys { keys, issue } = api.workspace.list_keys(&name, &principal)?;
    Ok((Extension(issue), Json(key_pair(&keys))))
}
