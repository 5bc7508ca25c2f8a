//! `POST /scoregate/v1/principals`: the answer has the credential, which is shown this once only.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::super::Api;
use super::super::access::{Access, Endpoint};
use super::super::body::JsonBody;
use super::super::description::{Description, Group};
use super::super::error::ApiError;
use super::super::members::Members;
use super::{PATH, roles};
use crate::workspace::{Origin, Principal, Role};

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Principals, "createPrincipal", "Make a principal")
        .body::<NewPrincipal>("Who may do what.")
        .answer::<PrincipalWithCredential>(StatusCode::CREATED, "The principal, with its credential.")
        .refusal(StatusCode::CONFLICT, "A principal of this name exists already.");
    Endpoint::new(MethodFilter::POST, PATH, Access::Role(Role::Owner), create, description)
}

/// Someone who is to be able to do something.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "a description: bodies are read by `Members`, which tells the place of an error"
)]
struct NewPrincipal {
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
    name: String,
    #[schema(schema_with = roles)]
    role: String,
}

/// A new principal and its credential, which is shown this once only.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PrincipalWithCredential {
    name: String,
    #[schema(schema_with = roles)]
    role: &'static str,
    #[schema(format = DateTime)]
    created_time: String,
    /// What it sends as `Authorization: Bearer ...`.
    #[schema(value_type = String)]
    #[serde(serialize_with = "shown")]
    credential: SecretString,
}

fn shown<S: Serializer>(credential: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(credential.expose_secret())
}

async fn create(
    State(api): State<Api>,
    origin: Origin,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<PrincipalWithCredential>), ApiError> {
    let members = Members::of_body(&body)?;
    let name = members.required_text("name")?;
    let role = members.required_text("role")?.parse();
    let role = role.map_err(|rule| ApiError::invalid("role", format!("cannot be this: {rule}")))?;
    let (principal, credential) = api.workspace.create_principal(&origin, name, role).await?;
    let Principal { name, role, created_at } = principal;
    let created_time = created_at.to_string();
    let principal = PrincipalWithCredential { name, role: role.as_str(), created_time, credential };
    Ok((StatusCode::CREATED, Json(principal)))
}
