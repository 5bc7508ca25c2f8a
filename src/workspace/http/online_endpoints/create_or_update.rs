//! `PUT {workspace}/onlineEndpoints/{name}`: makes an endpoint, or makes the one that is there what is asked for. Its keys
//! stay.
//!
//! The answer has the operation's URL where a gate has not confirmed the change yet; without it clients are done.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;
use scoregate_authz::ComputeType;

use super::EndpointName;
use super::endpoint_object::{EndpointObject, endpoint_object};
use super::endpoint_request::{self, NewEndpoint};
use super::operation::headers_unless_enforced;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::body::JsonBody;
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::service_request::CreateRequest;
use crate::workspace::http::services::{existing, is_overtaken};
use crate::workspace::{Operation, Origin, Role, ServiceRecord};

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::OnlineEndpoints, "createOrUpdateEndpoint", "Make or change an endpoint")
        .detail("Keys of one that is there stay. Where a gate has not confirmed the change within 2 s, the answer has the \
            operation's URL in `Azure-AsyncOperation`.")
        .path("name", "The endpoint's name, which is the service's, in any letter case.")
        .body::<NewEndpoint>("The endpoint. Members that are not known are ignored.")
        .answer::<EndpointObject>(StatusCode::OK, "It was there and is what was asked for.")
        .answer::<EndpointObject>(StatusCode::CREATED, "It is made.")
        .refusal(StatusCode::CONFLICT, "Another service is at this path.");
    let path = "/onlineEndpoints/{name}";
    Endpoint::in_resource(MethodFilter::PUT, path, Role::Contributor, create_or_update, description)
}

async fn create_or_update(
    State(api): State<Api>,
    origin: Origin,
    EndpointName(name): EndpointName,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let request = endpoint_request::read(&name, &body)?;
    let first = write(&api, &origin, request.clone()).await;
    let written = if is_overtaken(&first) { write(&api, &origin, request).await } else { first };
    let (status, (service, operation)) = written?;
    let headers = headers_unless_enforced(&api, &operation).await?;
    Ok((status, headers, Json(endpoint_object(&api, &service))).into_response())
}

async fn write(
    api: &Api,
    origin: &Origin,
    request: CreateRequest,
) -> Result<(StatusCode, (ServiceRecord, Operation)), ApiError> {
    let Some(service) = existing(api, &request).await? else {
        return Ok((StatusCode::CREATED, create(api, origin, request).await?));
    };
    let changed = api.workspace.update_service_at_gates(origin, &service.name, request.into_patch()).await?;
    Ok((StatusCode::OK, changed))
}

async fn create(
    api: &Api,
    origin: &Origin,
    request: CreateRequest,
) -> Result<(ServiceRecord, Operation), ApiError> {
    if request.new.compute_type == ComputeType::Aci {
        let problem = "is missing: scoregate has no managed online endpoints. Make a `KubernetesOnlineEndpoint`, \
            with any name as its `compute`";
        return Err(ApiError::invalid("properties.compute", problem));
    }
    Ok(api.workspace.create_service(origin, request.new).await?)
}
