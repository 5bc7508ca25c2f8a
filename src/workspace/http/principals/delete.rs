//! `DELETE /scoregate/v1/principals/{name}`: its credential is refused from then on.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;

use super::super::Api;
use super::super::access::{Access, Endpoint, Name};
use super::super::error::ApiError;
use super::PATH;
use crate::workspace::{Origin, Role};

pub(super) fn endpoint() -> Endpoint {
    let path = format!("{PATH}/{{name}}");
    Endpoint::new(MethodFilter::DELETE, path, Access::Role(Role::Owner), delete)
}

async fn delete(State(api): State<Api>, origin: Origin, Name(name): Name) -> Result<StatusCode, ApiError> {
    api.workspace.delete_principal(&origin, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
