//! `GET {workspace}/onlineEndpoints/{name}`

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::Value;

use super::EndpointName;
use super::endpoint_object::endpoint_object;
use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::error::ApiError;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::in_resource(MethodFilter::GET, "/onlineEndpoints/{name}", Role::Reader, read)
}

async fn read(State(api): State<Api>, EndpointName(name): EndpointName) -> Result<Json<Value>, ApiError> {
    let service = api.workspace.service(&name).await?;
    Ok(Json(endpoint_object(&api, &service)))
}
