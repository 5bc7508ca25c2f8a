//! `POST {workspace}/services/{name}/token`: a token for the caller. Clients ask before every scoring request.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Caller, Endpoint, Name};
use crate::workspace::http::body::OptionalJsonBody;
use crate::workspace::http::error::ApiError;
use crate::workspace::http::members::Members;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::in_workspace(MethodFilter::POST, "/services/{name}/token", Role::Reader, issue_token)
}

async fn issue_token(
    State(api): State<Api>,
    Caller(principal): Caller,
    Name(name): Name,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let lifetime = body.as_ref().map_or(Ok(None), lifetime)?;
    let issued = api.workspace.issue_token(&name, &principal, lifetime)?;
    let body = json!({
        "accessToken": issued.token,
        "tokenType": "Bearer",
        "expiryOn": issued.expires_at,
        "refreshAfter": issued.refresh_after,
    });
    Ok((StatusCode::CREATED, Json(body)))
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
