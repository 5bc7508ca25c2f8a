//! `PATCH {workspace}/services/{name}`: all of a change or nothing; the next read sees it.

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::Value;

use crate::workspace::Role;
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::body::JsonPatchBody;
use crate::workspace::http::error::ApiError;
use crate::workspace::http::service_object::service_object;
use crate::workspace::http::{Api, json_patch};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::in_workspace(MethodFilter::PATCH, "/services/{name}", Role::Contributor, update)
}

async fn update(
    State(api): State<Api>,
    Name(name): Name,
    JsonPatchBody(document): JsonPatchBody,
) -> Result<Json<Value>, ApiError> {
    let patch = json_patch::read(&document)?;
    let service = api.workspace.update_service(&name, patch).await?;
    Ok(Json(service_object(&service, &api.urls)))
}
