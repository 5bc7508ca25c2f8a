//! `POST {workspace}/services/{name}/token`: a token for the caller. Clients ask before every scoring request.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::workspace::http::Api;
use crate::workspace::http::access::{Caller, Endpoint, Name};
use crate::workspace::http::body::OptionalJsonBody;
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::members::Members;
use crate::workspace::{Issue, Role};

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Credentials, "issueToken", "Get a token for scoring a service")
        .detail("The same token is handed out again while it is fresh, so asking before every call is fine. Ask again from \
            `refreshAfter` on; where the workspace is away then, the token that is held is good until `expiryOn`.")
        .path("name", "The service's name.")
        .optional_body::<TokenRequest>("How long it is to be good for.")
        .answer::<TokenObject>(StatusCode::CREATED, "A token in the caller's name.")
        .refusal(StatusCode::NOT_FOUND, "No service has this name.")
        .refusal(StatusCode::CONFLICT, "The service is not in token mode.");
    let path = "/services/{name}/token";
    Endpoint::in_workspace(MethodFilter::POST, path, Role::Reader, issue_token, description)
}

/// What a token is to be like. Azure's clients send no body.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "a description: bodies are read by `Members`, which tells the place of an error"
)]
struct TokenRequest {
    /// Seconds from issue to expiry; the configured lifetime at most, and without it.
    #[schema(minimum = 1)]
    expires_in: Option<u64>,
}

/// A token and its times.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Token)]
struct TokenObject {
    /// What callers of the service send as `Authorization: Bearer ...`.
    access_token: String,
    token_type: &'static str,
    /// When gates begin to refuse it, in seconds since 1970.
    expiry_on: u64,
    /// When to ask for the next one, in seconds since 1970.
    refresh_after: u64,
}

async fn issue_token(
    State(api): State<Api>,
    Caller(principal): Caller,
    Name(name): Name,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<(StatusCode, Extension<Issue>, Json<TokenObject>), ApiError> {
    let lifetime = body.as_ref().map_or(Ok(None), lifetime)?;
    let issued = api.workspace.issue_token(&name, &principal, lifetime)?;
    let token = TokenObject {
        access_token: issued.token,
        token_type: "Bearer",
        expiry_on: issued.expires_at,
        refresh_after: issued.refresh_after,
    };
    Ok((StatusCode::CREATED, Extension(issued.issue), Json(token)))
}

/// `expiresIn`, in seconds, is ours: Azure's clients send no body.
fn lifetime(body: &Value) -> Result<Option<Duration>, ApiError> {
    match Members::of_body(body)?.present("expiresIn") {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(seconds) if seconds > 0 => Ok(Some(Duration::from_secs(seconds))),
            _ => Err(ApiError::invalid("expiresIn", "must be a number of seconds, 1 or more")),
        },
    }
}
