//! `POST {workspace}/onlineEndpoints/{name}/regenerateKeys`: replaces one key by a random one.
//!
//! The SDK reads the keys first and sends the present one back as `keyValue`. So another value is a key that somebody has
//! replaced in between, and setting it would bring a revoked key back to life. Who wants to choose a key has SDK v1's
//! route for it.

use axum::extract::State;
use axum::response::Response;
use axum::routing::MethodFilter;
use scoregate_authz::{PlainKey, Slot};

use super::EndpointName;
use super::operation::enforced_or_accepted;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::body::JsonBody;
use crate::workspace::http::error::ApiError;
use crate::workspace::http::members::Members;
use crate::workspace::http::services::slot;
use crate::workspace::{Origin, Role};

pub(super) fn endpoint() -> Endpoint {
    let path = "/onlineEndpoints/{name}/regenerateKeys";
    Endpoint::in_resource(MethodFilter::POST, path, Role::Contributor, regenerate_key)
}

async fn regenerate_key(
    State(api): State<Api>,
    origin: Origin,
    EndpointName(name): EndpointName,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let members = Members::of_body(&body)?;
    let slot = slot(&members)?;
    if let Some(value) = members.text("keyValue")?
        && value != present_key(&api, &name, slot)?.expose()
    {
        return Err(ApiError::StaleKey { name, slot });
    }
    let operation = api.workspace.regenerate_key(&origin, &name, slot, None).await?;
    enforced_or_accepted(&api, &operation).await
}

fn present_key(api: &Api, name: &str, slot: Slot) -> Result<PlainKey, ApiError> {
    let keys = api.workspace.keys(name)?;
    Ok(match slot {
        Slot::Primary => keys.primary,
        Slot::Secondary => keys.secondary,
    })
}
