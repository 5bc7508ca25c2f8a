//! `GET {workspace}/models/{id}`: no models are kept here, and a client that asks for one is told so.

use axum::routing::MethodFilter;

use super::access::{Endpoint, Name};
use super::error::ApiError;
use crate::workspace::Role;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::in_workspace(MethodFilter::GET, "/models/{name}", Role::Reader, read)
}

async fn read(Name(name): Name) -> ApiError {
    ApiError::Unknown { kind: "model", name }
}
