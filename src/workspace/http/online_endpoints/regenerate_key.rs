//! `POST {workspace}/onlineEndpoints/{name}/regenerateKeys`: replaces one key by a random one.
//!
//! The SDK reads the keys first and sends the present one back as `keyValue`. So another value is a key that somebody has
//! replaced in between, and setting it would bring a revoked key back to life. Who wants to choose a key has SDK v1's
//! route for it.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::MethodFilter;
use utoipa::ToSchema;

use super::EndpointName;
use super::operation::enforced_or_accepted;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::body::JsonBody;
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::members::Members;
use crate::workspace::http::services::{slot, slot_schema};
use crate::workspace::{NewKey, Origin, Role};

pub(super) fn endpoint() -> Endpoint {
    let path = "/onlineEndpoints/{name}/regenerateKeys";
    let description =
        Description::new(Group::OnlineEndpoints, "regenerateEndpointKey", "Replace one key of an endpoint")
            .path("name", "The endpoint's name, which is the service's, in any letter case.")
            .body::<RegenerateEndpointKeyRequest>("Which key.")
            .empty_answer(StatusCode::OK, "Every connected gate refuses the old key.")
            .empty_answer(StatusCode::ACCEPTED, "It is replaced, but a gate has not confirmed it within 2 s.")
            .header(StatusCode::ACCEPTED, "Azure-AsyncOperation", "The operation's URL.")
            .header(StatusCode::ACCEPTED, "Retry-After", "In seconds.")
            .refusal(StatusCode::NOT_FOUND, "No service has this name.")
            .refusal(StatusCode::CONFLICT, "The key has changed since it was read.");
    Endpoint::in_resource(MethodFilter::POST, path, Role::Contributor, regenerate_key, description)
}

/// Which key is to be replaced, by a random one.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "a description: bodies are read by `Members`, which tells the place of an error"
)]
struct RegenerateEndpointKeyRequest {
    #[schema(schema_with = slot_schema)]
    key_type: String,
    /// The present key.
    key_value: Option<String>,
}

async fn regenerate_key(
    State(api): State<Api>,
    origin: Origin,
    EndpointName(name): EndpointName,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let members = Members::of_body(&body)?;
    let slot = slot(&members)?;
    let expected = members.text("keyValue")?;
    let new = expected.map_or(NewKey::Random, |expected| NewKey::RandomFor(expected.into()));
    let operation = api.workspace.regenerate_key(&origin, &name, slot, new).await?;
    enforced_or_accepted(&api, &operation).await
}
