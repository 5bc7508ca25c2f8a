//! `POST /scoregate/v1/signing-keys`: the next key, published at once; the operation ends when every gate knows it.

use axum::extract::State;
use axum::response::Response;
use axum::routing::MethodFilter;

use super::super::Api;
use super::super::access::{Access, Endpoint};
use super::super::description::{Description, Group};
use super::super::error::ApiError;
use super::super::operation::accepted;
use super::PATH;
use crate::workspace::{Origin, Role};

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::SigningKeys, "rotateSigningKey", "Publish the next signing key")
        .detail("It signs when every gate knows it and `workspace.enforcement_timeout` is over. Tokens of the present key \
            stay good until they expire. A key that is published already does not wait for its time any longer, so that \
            asking again makes no further key.")
        .waits()
        .accepted("It is published; the operation ends when every connected gate knows it.");
    Endpoint::new(MethodFilter::POST, PATH, Access::Role(Role::Owner), rotate, description)
}

async fn rotate(State(api): State<Api>, origin: Origin) -> Result<Response, ApiError> {
    let operation = api.workspace.rotate_signing_key(&origin).await?;
    Ok(accepted(&api, &operation))
}
