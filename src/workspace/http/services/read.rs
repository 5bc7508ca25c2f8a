//! `GET {workspace}/services/{name}`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde_json::Value;

use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::service_object::{ServiceObject, service_object};

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Services, "readService", "Read a service")
        .path("name", "The service's name.")
        .answer::<ServiceObject>(StatusCode::OK, "The service. Its keys are never part of it.")
        .refusal(StatusCode::NOT_FOUND, "No service has this name.");
    Endpoint::in_workspace(MethodFilter::GET, "/services/{name}", Role::Reader, read, description)
}

async fn read(State(api): State<Api>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    let service = api.workspace.service(&name).await?;
    Ok(Json(service_object(&service, &api.urls)))
}
