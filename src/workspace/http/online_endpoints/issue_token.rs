//! `POST {workspace}/onlineEndpoints/{name}/token`: a token for the caller.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;
use axum::{Extension, Json};
use scoregate_authz::AuthMode;
use serde_json::{Value, json};

use super::EndpointName;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Caller, Endpoint};
use crate::workspace::http::error::ApiError;
use crate::workspace::{Role, WorkspaceError};

pub(super) fn endpoint() -> Endpoint {
    let path = "/onlineEndpoints/{name}/token";
    Endpoint::in_resource(MethodFilter::POST, path, Role::Reader, issue_token)
}

async fn issue_token(
    State(api): State<Api>,
    Caller(principal): Caller,
    EndpointName(name): EndpointName,
) -> Result<Response, ApiError> {
    match api.workspace.issue_token(&name, &principal, None) {
        Ok(issued) => {
            let body = json!({
                "accessToken": issued.token,
                "tokenType": "Bearer",
                "expiryTimeUtc": issued.expires_at,
                "refreshAfterTimeUtc": issued.refresh_after,
            });
            Ok((Extension(issued.issue), Json(body)).into_response())
        }
        Err(WorkspaceError::NotInTokenMode { mode: AuthMode::Disabled, .. }) => {
            Ok(Json(no_token()).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// The SDK knows no open endpoints: it asks for a token before it scores one, and sends none where it gets none.
fn no_token() -> Value {
    json!({ "accessToken": null, "tokenType": null, "expiryTimeUtc": null, "refreshAfterTimeUtc": null })
}
