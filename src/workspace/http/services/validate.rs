//! `{workspace}/services/validate...`: a look ahead, the one place where Azure's clients show a plain message.
//!
//! 200 with `{}` lets them go on, 200 with `{"error":{"message"}}` stops them with that message. `{"error":null}` would
//! crash them, and they repeat a 5xx for most of a minute, so that a store that does not work is not told here: the
//! call that follows tells it.

mod name;
mod request;
mod resource;

use axum::Json;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::workspace::WorkspaceError;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::error::ApiError;
use crate::workspace::http::service_request::CreateRequest;

pub(super) fn endpoints() -> [Endpoint; 3] {
    [request::endpoint(), resource::endpoint(), name::endpoint()]
}

/// Empty if it would be carried out.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Validation {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<ValidationError>,
}

/// Why it would not be carried out.
#[derive(Debug, Serialize, ToSchema)]
struct ValidationError {
    message: String,
}

fn answer(outcome: Result<(), ApiError>) -> Json<Validation> {
    match outcome {
        Ok(()) => Json(Validation::default()),
        Err(ApiError::Workspace(WorkspaceError::Store(cause))) => {
            let error: &dyn std::error::Error = &*cause;
            tracing::error!(error, "the store does not work: nothing was validated");
            Json(Validation::default())
        }
        Err(error) => Json(Validation { error: Some(ValidationError { message: error.to_string() }) }),
    }
}

/// Whether a service could be made of this.
async fn check_create(api: &Api, payload: &Value) -> Result<(), ApiError> {
    let CreateRequest { new, overwrite } = CreateRequest::read(payload)?;
    if overwrite { Ok(()) } else { check_free(api, new.name.as_str()).await }
}

async fn check_free(api: &Api, name: &str) -> Result<(), ApiError> {
    match api.workspace.service(name).await {
        Ok(service) => Err(WorkspaceError::ServiceExists(service.name).into()),
        Err(WorkspaceError::UnknownService(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
