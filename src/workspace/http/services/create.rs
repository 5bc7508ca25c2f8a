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
use crate::workspace::{Operation, Origin, Role, ServiceRecord, WorkspaceError};

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Services, "createService", "Make a service")
        .detail("It can be read at once. With `overwrite`, a service of this name is changed instead and keeps its keys.")
        .body::<NewServiceBody>("The service. Members that are not known are ignored.")
        .waits()
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
    let operation = if request.overwrite {
        let first = create_or_update(&api, &origin, request.clone()).await;
        if is_overtaken(&first) { create_or_update(&api, &origin, request).await? } else { first? }
    } else {
        api.workspace.create_service(&origin, request.new).await?.1
    };
    Ok(accepted(&api, &operation))
}

async fn create_or_update(api: &Api, origin: &Origin, request: CreateRequest) -> Result<Operation, ApiError> {
    let (_, operation) = match existing(api, &request).await? {
        Some(service) => {
            api.workspace.update_service_at_gates(origin, &service.name, request.into_patch()).await?
        }
        None => api.workspace.create_service(origin, request.new).await?,
    };
    Ok(operation)
}

/// Whether another client made or deleted the service between the look at it and the change. What is there then is
/// found by a second try.
pub(in crate::workspace::http) fn is_overtaken<T>(outcome: &Result<T, ApiError>) -> bool {
    use WorkspaceError::{ServiceExists, UnknownService};
    matches!(outcome, Err(ApiError::Workspace(ServiceExists(_) | UnknownService(_))))
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
