//! `POST {workspace}/services/validate/resource`: whether a service could be made of this create request.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;

use super::{Validation, answer, check_create};
use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::body::JsonBody;
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::service_request::NewServiceBody;

pub(super) fn endpoint() -> Endpoint {
    let path = "/services/validate/resource";
    let description =
        Description::new(Group::Validation, "validateService", "Ask whether a service could be made")
            .body::<NewServiceBody>("What would be sent to make it.")
            .answer::<Validation>(StatusCode::OK, "Whether it could.");
    Endpoint::in_workspace(MethodFilter::POST, path, Role::Contributor, validate, description)
}

async fn validate(State(api): State<Api>, JsonBody(payload): JsonBody) -> Json<Validation> {
    answer(check_create(&api, &payload).await)
}
