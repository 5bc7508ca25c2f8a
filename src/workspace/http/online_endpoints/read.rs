//! `GET {workspace}/onlineEndpoints/{name}`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;

use super::EndpointName;
use super::endpoint_object::{EndpointObject, endpoint_object};
use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::OnlineEndpoints, "readEndpoint", "Read an endpoint")
        .path("name", "The endpoint's name, which is the service's, in any letter case.")
        .answer::<EndpointObject>(StatusCode::OK, "The endpoint. Its keys are never part of it.")
        .refusal(StatusCode::NOT_FOUND, "No service has this name.");
    Endpoint::in_resource(MethodFilter::GET, "/onlineEndpoints/{name}", Role::Reader, read, description)
}

async fn read(
    State(api): State<Api>,
    EndpointName(name): EndpointName,
) -> Result<Json<EndpointObject>, ApiError> {
    let service = api.workspace.service(&name).await?;
    Ok(Json(endpoint_object(&api, &service)))
}
