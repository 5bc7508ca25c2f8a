//! `GET {workspace}/onlineEndpoints/{name}/deployments`: none, but the SDK asks whenever it reads an endpoint.

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::EndpointName;
use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::error::ApiError;

pub(super) fn endpoint() -> Endpoint {
    let path = "/onlineEndpoints/{name}/deployments";
    Endpoint::in_resource(MethodFilter::GET, path, Role::Reader, list)
}

async fn list(State(api): State<Api>, EndpointName(name): EndpointName) -> Result<Json<Value>, ApiError> {
    api.workspace.service(&name).await?;
    Ok(Json(json!({ "value": [] })))
}
