//! `DELETE {workspace}/onlineEndpoints/{name}`: 204 where there is none, as Resource Manager has it.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;

use super::EndpointName;
use super::operation::enforced_or_accepted;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::{Origin, Role};

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::OnlineEndpoints, "deleteEndpoint", "Delete an endpoint")
        .path("name", "The endpoint's name, which is the service's, in any letter case.")
        .empty_answer(StatusCode::OK, "Every connected gate refuses its callers.")
        .empty_answer(StatusCode::ACCEPTED, "It is gone, but a gate has not confirmed it within 2 s.")
        .header(StatusCode::ACCEPTED, "Azure-AsyncOperation", "The operation's URL.")
        .header(StatusCode::ACCEPTED, "Retry-After", "In seconds.")
        .empty_answer(StatusCode::NO_CONTENT, "There was none.");
    Endpoint::in_resource(
        MethodFilter::DELETE,
        "/onlineEndpoints/{name}",
        Role::Contributor,
        delete,
        description,
    )
}

async fn delete(
    State(api): State<Api>,
    origin: Origin,
    EndpointName(name): EndpointName,
) -> Result<Response, ApiError> {
    match api.workspace.delete_service(&origin, &name).await? {
        Some(operation) => enforced_or_accepted(&api, &operation).await,
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}
