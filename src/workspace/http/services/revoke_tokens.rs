//! `POST /scoregate/v1/services/{name}/revokeTokens`: ends all tokens of a service; the operation ends when no gate accepts
//! them any more. Our own: Azure has no such call.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::MethodFilter;

use crate::workspace::http::Api;
use crate::workspace::http::access::{Access, Endpoint, Name};
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::operation::accepted;
use crate::workspace::{Origin, Role};

pub(super) fn endpoint() -> Endpoint {
    let path = "/scoregate/v1/services/{name}/revokeTokens";
    let description = Description::new(Group::Credentials, "revokeTokens", "Revoke all tokens of a service")
        .detail("All that were issued until now. Clients that ask again get new ones.")
        .path("name", "The service's name.")
        .waits()
        .accepted("They are revoked; the operation ends when every connected gate refuses them.")
        .refusal(StatusCode::NOT_FOUND, "No service has this name.");
    Endpoint::new(MethodFilter::POST, path, Access::Role(Role::Contributor), revoke, description)
}

async fn revoke(State(api): State<Api>, origin: Origin, Name(name): Name) -> Result<Response, ApiError> {
    let operation = api.workspace.revoke_tokens(&origin, &name).await?;
    Ok(accepted(&api, &operation))
}
