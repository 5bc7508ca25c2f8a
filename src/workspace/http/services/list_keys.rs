//! `POST {workspace}/services/{name}/listkeys`: both keys, in every mode.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;
use serde::Serialize;
use utoipa::ToSchema;

use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Credentials, "listKeys", "Get both keys of a service")
        .detail("In every mode; gates accept keys in key mode only.")
        .path("name", "The service's name.")
        .answer::<KeyPair<'_>>(StatusCode::OK, "The keys.")
        .refusal(StatusCode::NOT_FOUND, "No service has this name.");
    let path = "/services/{name}/listkeys";
    Endpoint::in_workspace(MethodFilter::POST, path, Role::Contributor, list_keys, description)
}

/// The keys of a service. Gates accept either.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct KeyPair<'a> {
    primary_key: &'a str,
    secondary_key: &'a str,
}

async fn list_keys(State(api): State<Api>, Name(name): Name) -> Result<Response, ApiError> {
    let keys = api.workspace.keys(&name).await?;
    let (primary_key, secondary_key) = (keys.primary.expose(), keys.secondary.expose());
    Ok(Json(KeyPair { primary_key, secondary_key }).into_response())
}
