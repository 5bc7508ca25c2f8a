//! `DELETE /scoregate/v1/signing-keys/{id}`: for a key that leaked. The operation ends when every gate refuses its tokens.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::MethodFilter;

use super::super::Api;
use super::super::access::{Access, Endpoint, Name};
use super::super::description::{Description, Group};
use super::super::error::ApiError;
use super::super::operation::accepted;
use super::PATH;
use crate::workspace::{Origin, Role};

pub(super) fn endpoint() -> Endpoint {
    let path = format!("{PATH}/{{name}}");
    let description = Description::new(Group::SigningKeys, "withdrawSigningKey", "Withdraw a signing key")
        .detail("For a key that leaked: its tokens are refused with the next revision, and the sessions that it signed are \
            over. Where it signs, the next key takes over at once.")
        .path("name", "The key's id.")
        .waits()
        .accepted("It is gone; the operation ends when every connected gate refuses its tokens.")
        .refusal(StatusCode::NOT_FOUND, "There is no signing key of this id.");
    Endpoint::new(MethodFilter::DELETE, path, Access::Role(Role::Owner), withdraw, description)
}

async fn withdraw(State(api): State<Api>, origin: Origin, Name(id): Name) -> Result<Response, ApiError> {
    let operation = api.workspace.withdraw_signing_key(&origin, &id).await?;
    Ok(accepted(&api, &operation))
}
