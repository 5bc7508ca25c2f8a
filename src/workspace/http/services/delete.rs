//! `DELETE {workspace}/services/{name}`: 204 where there is none, because Azure's clients take 404 for a failure.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;

use crate::workspace::http::Api;
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::operation::accepted;
use crate::workspace::{Origin, Role};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::in_workspace(MethodFilter::DELETE, "/services/{name}", Role::Contributor, delete)
}

async fn delete(State(api): State<Api>, origin: Origin, Name(name): Name) -> Result<Response, ApiError> {
    let operation = api.workspace.delete_service(&origin, &name).await?;
    Ok(match operation {
        Some(operation) => accepted(&api, &operation),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}
