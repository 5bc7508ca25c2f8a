//! `GET {workspace}/services/{name}`

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::Value;

use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::service_object::service_object;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::in_workspace(MethodFilter::GET, "/services/{name}", Role::Reader, read)
}

async fn read(State(api): State<Api>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    let service = api.workspace.service(&name).await?;
    Ok(Json(service_object(&service, &api.urls)))
}
