//! `GET {workspace}/operations/{id}`, and the answers that send clients there.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::Api;
use super::access::{Endpoint, Name};
use super::error::ApiError;
use crate::workspace::{Operation, Role};

const OPERATION_LOCATION: HeaderName = HeaderName::from_static("operation-location");

pub(super) fn endpoint() -> Endpoint {
    Endpoint::in_workspace(MethodFilter::GET, "/operations/{name}", Role::Reader, read)
}

async fn read(State(api): State<Api>, Name(id): Name) -> Result<Json<Value>, ApiError> {
    let Ok(id) = id.parse() else {
        return Err(ApiError::Unknown { kind: "operation", name: id });
    };
    let operation = api.workspace.operation(id).await?;
    Ok(Json(operation_object(&api, &operation)))
}

/// 202 with the operation, and with its URL in `Operation-Location`: without that header the clients fail.
pub(super) fn accepted(api: &Api, operation: &Operation) -> Response {
    let location = format!("{}/operations/{}", api.workspace_url(), operation.id);
    let body = Json(operation_object(api, operation));
    (StatusCode::ACCEPTED, [(OPERATION_LOCATION, location)], body).into_response()
}

fn operation_object(api: &Api, operation: &Operation) -> Value {
    let error = operation.error.as_ref().map(|message| json!({ "code": "NotEnforced", "message": message }));
    json!({
        "id": operation.id.to_string(),
        "operationType": operation.operation_type,
        "state": operation.state.as_str(),
        "error": error,
        "createdTime": operation.created_at.to_string(),
        "endTime": operation.ended_at.map(|time| time.to_string()),
        "resourceLocation": format!("{}/services/{}", api.workspace_url(), operation.service),
    })
}
