//! `POST {workspace}/onlineEndpoints/{name}/listKeys`: both keys, in every mode.

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::Value;

use super::EndpointName;
use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::error::ApiError;
use crate::workspace::http::services::key_pair;

pub(super) fn endpoint() -> Endpoint {
    let path = "/onlineEndpoints/{name}/listKeys";
    Endpoint::in_resource(MethodFilter::POST, path, Role::Contributor, list_keys)
}

async fn list_keys(
    State(api): State<Api>,
    EndpointName(name): EndpointName,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(key_pair(&api.workspace.keys(&name)?)))
}
