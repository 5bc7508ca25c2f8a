//! `POST {workspace}/services/validate/resource`: whether a service could be made of this create request.

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::Value;

use super::{answer, check_create};
use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::body::JsonBody;

pub(super) fn endpoint() -> Endpoint {
    let path = "/services/validate/resource";
    Endpoint::in_workspace(MethodFilter::POST, path, Role::Contributor, validate)
}

async fn validate(State(api): State<Api>, JsonBody(payload): JsonBody) -> Json<Value> {
    answer(check_create(&api, &payload).await)
}
