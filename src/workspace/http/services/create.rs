//! `POST {workspace}/services`: makes a service, which can be read at once, or changes one where `overwrite` says so.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::MethodFilter;
use scoregate_authz::PlainKey;

use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::body::JsonBody;
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::operation::accepted;
use crate::workspace::http::service_request::{CreateRequest, NewServiceBody};
use crate::workspace::{Origin, Role, ServiceRecord, WorkspaceError};

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Services, "createService", "Make a service")
        .detail("It can be read at once. With `overwrite`, a service of this name is changed instead and keeps its keys.")
        .body::<NewServiceBody>("The service. Members that are not known are ignored.")
        .accepted("It is there; the operation ends when every connected gate knows it.")
        .refusal(StatusCode::CONFLICT, "The name is taken, or another service is at this host and path.");
    Endpoint::in_workspace(MethodFilter::POST, "/services", Role::Contributor, create, description)
}

async fn create(
    State(api): State<Api>,
    origin: Origin,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let request = CreateRequest::read(&body)?;
    let existing = if request.overwrite { existing(&api, &request).await? } else { None };
    let (_, operation) = match existing {
        Some(service) => {
            api.workspace.update_service_at_gates(&origin, &service.name, request.into_patch()).await?
        }
        None => api.workspace.create_service(&origin, request.new).await?,
    };
    Ok(accepted(&api, &operation))
}

/// The service that is to be overwritten, if there is one.
pub(in crate::workspace::http) async fn existing(
    api: &Api,
    request: &CreateRequest,
) -> Result<Option<ServiceRecord>, ApiError> {
    let service = match api.workspace.service(request.new.name.as_str()).await {
        Ok(service) => service,
        Err(WorkspaceError::UnknownService(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if service.compute_type != request.new.compute_type {
        return Err(ApiError::invalid("computeType", "cannot be changed: delete the service first"));
    }
    check_keys(api, &service, &request.new.keys)?;
    Ok(Some(service))
}

/// Keys are replaced one by one and never by the way: a request may name them only as they are.
fn check_keys(
    api: &Api,
    service: &ServiceRecord,
    (primary, secondary): &(Option<PlainKey>, Option<PlainKey>),
) -> Result<(), ApiError> {
    if primary.is_none() && secondary.is_none() {
        return Ok(());
    }
    let keys = api.workspace.keys(service.name.as_str())?;
    let is_same = |chosen: &Option<PlainKey>, present: &PlainKey| {
        chosen.as_ref().is_none_or(|chosen| chosen.expose() == present.expose())
    };
    if is_same(primary, &keys.primary) && is_same(secondary, &keys.secondary) {
        return Ok(());
    }
    Err(ApiError::invalid("keys", "cannot be changed by overwriting a service: regenerate them"))
}
