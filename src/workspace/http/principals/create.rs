//! `POST /scoregate/v1/principals`: the answer has the credential, which is shown this once only.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use secrecy::ExposeSecret;
use serde_json::Value;

use super::super::Api;
use super::super::access::{Access, Endpoint};
use super::super::body::JsonBody;
use super::super::error::ApiError;
use super::super::members::Members;
use super::{PATH, principal_object};
use crate::workspace::{Origin, Role};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(MethodFilter::POST, PATH, Access::Role(Role::Owner), create)
}

async fn create(
    State(api): State<Api>,
    origin: Origin,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let members = Members::of_body(&body)?;
    let name = members.required_text("name")?;
    let role = members.required_text("role")?.parse();
    let role = role.map_err(|rule| ApiError::invalid("role", format!("cannot be this: {rule}")))?;
    let (principal, credential) = api.workspace.create_principal(&origin, name, role).await?;
    let mut object = principal_object(&principal);
    object["credential"] = credential.expose_secret().into();
    Ok((StatusCode::CREATED, Json(object)))
}
