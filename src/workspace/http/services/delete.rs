//! `DELETE {workspace}/services/{name}`: 204 where there is none, because Azure's clients take 404 for a failure.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;

use crate::workspace::http::Api;
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::operation::accepted;
use crate::workspace::{Origin, Role};

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Services, "deleteService", "Delete a service")
        .detail("A service that is made again under its name accepts none of its keys and tokens.")
        .path("name", "The service's name.")
        .waits()
        .accepted("It is gone; the operation ends when every connected gate refuses its callers.")
        .empty_answer(StatusCode::NO_CONTENT, "There was none.");
    Endpoint::in_workspace(MethodFilter::DELETE, "/services/{name}", Role::Contributor, delete, description)
}

async fn delete(State(api): State<Api>, origin: Origin, Name(name): Name) -> Result<Response, ApiError> {
    let operation = api.workspace.delete_service(&origin, &name).await?;
    Ok(match operation {
        Some(operation) => accepted(&api, &operation),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}
