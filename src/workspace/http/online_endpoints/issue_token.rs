//! `POST {workspace}/onlineEndpoints/{name}/token`: a token for the caller.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;
use axum::{Extension, Json};
use scoregate_authz::AuthMode;
use serde::Serialize;
use utoipa::ToSchema;

use super::EndpointName;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Caller, Endpoint};
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::{Role, WorkspaceError};

pub(super) fn endpoint() -> Endpoint {
    let path = "/onlineEndpoints/{name}/token";
    let description =
        Description::new(Group::OnlineEndpoints, "issueEndpointToken", "Get a token for scoring an endpoint")
            .path("name", "The endpoint's name, which is the service's, in any letter case.")
            .answer::<EndpointToken>(
                StatusCode::OK,
                "A token in the caller's name; nulls for an open endpoint.",
            )
            .refusal(StatusCode::NOT_FOUND, "No service has this name.")
            .refusal(StatusCode::CONFLICT, "The endpoint has keys.");
    Endpoint::in_resource(MethodFilter::POST, path, Role::Reader, issue_token, description)
}

/// A token and its times.
#[derive(Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EndpointToken {
    #[schema(required)]
    access_token: Option<String>,
    #[schema(required)]
    token_type: Option<&'static str>,
    /// Seconds since 1970.
    #[schema(required)]
    expiry_time_utc: Option<u64>,
    /// Seconds since 1970.
    #[schema(required)]
    refresh_after_time_utc: Option<u64>,
}

async fn issue_token(
    State(api): State<Api>,
    Caller(principal): Caller,
    EndpointName(name): EndpointName,
) -> Result<Response, ApiError> {
    match api.workspace.issue_token(&name, &principal, None) {
        Ok(issued) => {
            let token = EndpointToken {
                access_token: Some(issued.token),
                token_type: Some("Bearer"),
                expiry_time_utc: Some(issued.expires_at),
                refresh_after_time_utc: Some(issued.refresh_after),
            };
            Ok((Extension(issued.issue), Json(token)).into_response())
        }
        // The SDK knows no open endpoints: it asks for a token before it scores one, and sends none where it gets none.
        Err(WorkspaceError::NotInTokenMode { mode: AuthMode::Disabled, .. }) => {
            Ok(Json(EndpointToken::default()).into_response())
        }
        Err(error) => Err(error.into()),
    }
}
