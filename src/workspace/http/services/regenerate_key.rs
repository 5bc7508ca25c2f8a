//! `POST {workspace}/services/{name}/regenerateKeys`: replaces one key; the operation ends when every gate enforces it.

use axum::extract::State;
use axum::response::Response;
use axum::routing::MethodFilter;
use scoregate_authz::Slot;
use serde_json::Value;

use crate::workspace::http::Api;
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::body::JsonBody;
use crate::workspace::http::error::ApiError;
use crate::workspace::http::members::Members;
use crate::workspace::http::operation::accepted;
use crate::workspace::http::service_request::chosen_key;
use crate::workspace::{Origin, Role};

pub(super) fn endpoint() -> Endpoint {
    let path = "/services/{name}/regenerateKeys";
    Endpoint::in_workspace(MethodFilter::POST, path, Role::Contributor, regenerate_key)
}

async fn regenerate_key(
    State(api): State<Api>,
    origin: Origin,
    Name(name): Name,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let members = Members::of_body(&body)?;
    let slot = slot(&members)?;
    let chosen = chosen_key(&members, "keyValue")?;
    let operation = api.workspace.regenerate_key(&origin, &name, slot, chosen).await?;
    Ok(accepted(&api, &operation))
}

/// The SDK sends the word, clients generated from Azure's description the number.
pub(in crate::workspace::http) fn slot(members: &Members<'_>) -> Result<Slot, ApiError> {
    match members.present("keyType") {
        Some(Value::String(word)) if word.eq_ignore_ascii_case("Primary") => Ok(Slot::Primary),
        Some(Value::String(word)) if word.eq_ignore_ascii_case("Secondary") => Ok(Slot::Secondary),
        Some(Value::Number(number)) if number.as_u64() == Some(0) => Ok(Slot::Primary),
        Some(Value::Number(number)) if number.as_u64() == Some(1) => Ok(Slot::Secondary),
        _ => Err(ApiError::invalid("keyType", "must be `Primary` or `Secondary`")),
    }
}
