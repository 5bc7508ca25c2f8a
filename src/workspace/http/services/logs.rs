//! `GET {workspace}/services/{name}/logs`: clients want a text, and the truth is that there are no logs here.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde::Serialize;
use utoipa::ToSchema;

use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Services, "readLogs", "Be told where the logs are")
        .path("name", "The service's name.")
        .answer::<Logs>(StatusCode::OK, "A text that says so.")
        .refusal(StatusCode::NOT_FOUND, "No service has this name.");
    Endpoint::in_workspace(MethodFilter::GET, "/services/{name}/logs", Role::Reader, logs, description)
}

/// What Azure's clients show as the logs of a service.
#[derive(Serialize, ToSchema)]
struct Logs {
    content: String,
}

async fn logs(State(api): State<Api>, Name(name): Name) -> Result<Json<Logs>, ApiError> {
    let service = api.workspace.service(&name).await?;
    let content = format!(
        "scoregate does not host `{}`: it decides who may score it. The logs are those of the model server, and of the proxy in front of it.\n",
        service.name
    );
    Ok(Json(Logs { content }))
}
