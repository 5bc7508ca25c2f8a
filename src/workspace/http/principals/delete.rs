//! `DELETE /scoregate/v1/principals/{name}`: its credential is refused from then on.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;

use super::super::Api;
use super::super::access::{Access, Endpoint, Name};
use super::super::description::{Description, Group};
use super::super::error::ApiError;
use super::PATH;
use crate::workspace::{Origin, Role};

pub(super) fn endpoint() -> Endpoint {
    let path = format!("{PATH}/{{name}}");
    let description = Description::new(Group::Principals, "deletePrincipal", "Delete a principal")
        .detail("Its credential is refused from then on. Tokens that it has live until they expire.")
        .path("name", "The principal's name.")
        .empty_answer(StatusCode::NO_CONTENT, "It is gone.")
        .refusal(StatusCode::NOT_FOUND, "No principal has this name.")
        .refusal(StatusCode::CONFLICT, "It is the last owner.");
    Endpoint::new(MethodFilter::DELETE, path, Access::Role(Role::Owner), delete, description)
}

async fn delete(State(api): State<Api>, origin: Origin, Name(name): Name) -> Result<StatusCode, ApiError> {
    api.workspace.delete_principal(&origin, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
