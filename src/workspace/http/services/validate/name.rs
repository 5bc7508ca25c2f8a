//! `POST {workspace}/services/validate/name/{name}`: whether a new service could have this name.

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::Value;

use super::{answer, check_free};
use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::service_request::service_name;

pub(super) fn endpoint() -> Endpoint {
    let path = "/services/validate/name/{name}";
    Endpoint::in_workspace(MethodFilter::POST, path, Role::Contributor, validate)
}

async fn validate(State(api): State<Api>, Name(name): Name) -> Json<Value> {
    answer(check(&api, &name).await)
}

async fn check(api: &Api, name: &str) -> Result<(), ApiError> {
    check_free(api, service_name("name", name)?.as_str()).await
}
