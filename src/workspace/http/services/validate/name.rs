//! `POST {workspace}/services/validate/name/{name}`: whether a new service could have this name.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;

use super::{Validation, answer, check_free};
use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::service_request::service_name;

pub(super) fn endpoint() -> Endpoint {
    let path = "/services/validate/name/{name}";
    let description =
        Description::new(Group::Validation, "validateName", "Ask whether a new service could have a name")
            .path("name", "The name.")
            .answer::<Validation>(StatusCode::OK, "Whether it could.");
    Endpoint::in_workspace(MethodFilter::POST, path, Role::Contributor, validate, description)
}

async fn validate(State(api): State<Api>, Name(name): Name) -> Json<Validation> {
    answer(check(&api, &name).await)
}

async fn check(api: &Api, name: &str) -> Result<(), ApiError> {
    check_free(api, service_name("name", name)?.as_str()).await
}
