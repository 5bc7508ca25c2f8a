//! `PATCH {workspace}/services/{name}`: all of a change or nothing; the next read sees it.
//!
//! 200 with the service when every connected gate enforces it too, 202 with the operation when one has not confirmed it
//! yet: Azure's clients do not wait by themselves after an update, and call the service right away.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;

use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::body::JsonPatchBody;
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::operation::{PATIENCE, accepted};
use crate::workspace::http::service_object::{ServiceObject, service_object};
use crate::workspace::http::{Api, json_patch};
use crate::workspace::{OperationState, Origin, Role, WorkspaceError};

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Services, "updateService", "Change a service")
        .detail("All of a change or nothing; the next read sees it.")
        .path("name", "The service's name.")
        .patch_body::<json_patch::JsonPatch>("The subset of RFC 6902 that Azure's clients write.")
        .answer::<ServiceObject>(StatusCode::OK, "Every connected gate enforces the change.")
        .waits()
        .accepted("It is changed, but a gate has not confirmed it within 2 s.")
        .refusal(StatusCode::NOT_FOUND, "No service has this name.")
        .refusal(StatusCode::CONFLICT, "Another service is at this host and path.");
    Endpoint::in_workspace(MethodFilter::PATCH, "/services/{name}", Role::Contributor, update, description)
}

async fn update(
    State(api): State<Api>,
    origin: Origin,
    Name(name): Name,
    JsonPatchBody(document): JsonPatchBody,
) -> Result<Response, ApiError> {
    let patch = json_patch::read(&document)?;
    if !patch.is_policy() {
        let service = api.workspace.update_service(&origin, &name, patch).await?;
        return Ok(Json(service_object(&service, &api.urls)).into_response());
    }
    let name = name.parse().map_err(|_| WorkspaceError::UnknownService(name))?;
    let (service, operation) = api.workspace.update_service_at_gates(&origin, &name, patch).await?;
    let operation = api.workspace.operation_within(operation.id, PATIENCE).await?;
    Ok(match operation.state {
        OperationState::Succeeded => Json(service_object(&service, &api.urls)).into_response(),
        OperationState::Running | OperationState::TimedOut => accepted(&api, &operation),
    })
}
