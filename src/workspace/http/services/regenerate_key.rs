//! `POST {workspace}/services/{name}/regenerateKeys`: replaces one key; the operation ends when every gate enforces it.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::MethodFilter;
use scoregate_authz::Slot;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType};

use crate::workspace::http::Api;
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::body::JsonBody;
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::members::Members;
use crate::workspace::http::operation::accepted;
use crate::workspace::http::service_request::chosen_key;
use crate::workspace::{NewKey, Origin, Role};

pub(super) fn endpoint() -> Endpoint {
    let path = "/services/{name}/regenerateKeys";
    let description = Description::new(Group::Credentials, "regenerateKey", "Replace one key of a service")
        .detail("The other key works throughout.")
        .path("name", "The service's name.")
        .body::<RegenerateKeyRequest>("Which key, and by what.")
        .waits()
        .accepted("It is replaced; the operation ends when every connected gate refuses the old key.")
        .refusal(StatusCode::NOT_FOUND, "No service has this name.");
    Endpoint::in_workspace(MethodFilter::POST, path, Role::Contributor, regenerate_key, description)
}

/// Which key is to be replaced.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "a description: bodies are read by `Members`, which tells the place of an error"
)]
struct RegenerateKeyRequest {
    #[schema(schema_with = slot_schema)]
    key_type: String,
    /// The new key; a random one without it.
    #[schema(pattern = "^[A-Za-z0-9._~+/-]+=*$", min_length = 16, max_length = 512)]
    key_value: Option<String>,
}

/// Clients generated from Azure's description send the numbers.
pub(in crate::workspace::http) fn slot_schema() -> Object {
    let slots = [json!("Primary"), json!("Secondary"), json!(0), json!(1)];
    ObjectBuilder::new().schema_type(SchemaType::AnyValue).enum_values(Some(slots)).build()
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
    let new = chosen.map_or(NewKey::Random, NewKey::Chosen);
    let operation = api.workspace.regenerate_key(&origin, &name, slot, new).await?;
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
