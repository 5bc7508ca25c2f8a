//! `GET {workspace}/operationsStatus/{id}`, and the answers that send clients there.
//!
//! The operations are those of the whole workspace, in the words of Resource Manager.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use crate::workspace::http::Api;
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::description::{Description, Group, words};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::operation::{OperationError, PATIENCE, operation_of};
use crate::workspace::{Operation, OperationState, Role};

const AZURE_ASYNC_OPERATION: HeaderName = HeaderName::from_static("azure-asyncoperation");

/// In seconds. Without it in every answer Azure's clients look again after 30 s only; they take 0 for none.
const RETRY_AFTER: &str = "1";

/// Where the end of an operation is asked for.
type OperationHeaders = [(HeaderName, String); 2];

pub(super) fn endpoint() -> Endpoint {
    let description =
        Description::new(Group::OnlineEndpoints, "readOperationStatus", "Wait for a change to be enforced")
            .detail("Answers when the operation has ended, or after 2 s.")
            .path("name", "The operation's id.")
            .answer::<OperationStatus>(StatusCode::OK, "The operation as it is.")
            .header(StatusCode::OK, "Retry-After", "In seconds.")
            .refusal(StatusCode::NOT_FOUND, "There is no operation of this id.");
    Endpoint::in_resource(MethodFilter::GET, "/operationsStatus/{name}", Role::Reader, read, description)
}

/// A change on its way to every connected gate, in the words of Resource Manager.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OperationStatus {
    id: String,
    name: String,
    /// `Failed`: it was done, but not every gate confirmed it in time; `error` names those.
    #[schema(schema_with = statuses)]
    status: &'static str,
    #[schema(format = DateTime)]
    start_time: String,
    #[schema(format = DateTime, required)]
    end_time: Option<String>,
    #[schema(required)]
    error: Option<OperationError>,
}

fn statuses() -> Object {
    use OperationState::{Running, Succeeded, TimedOut};
    words([Running, Succeeded, TimedOut].map(status))
}

async fn read(State(api): State<Api>, Name(id): Name) -> Result<Response, ApiError> {
    let operation = operation_of(&api, &id).await?;
    Ok(([(header::RETRY_AFTER, RETRY_AFTER)], Json(operation_object(&api, &operation))).into_response())
}

/// 200 when every connected gate enforces a change, 202 with the operation's URL where one has not confirmed it yet.
pub(super) async fn enforced_or_accepted(api: &Api, operation: &Operation) -> Result<Response, ApiError> {
    let headers = headers_unless_enforced(api, operation).await?;
    let status = if headers.is_some() { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, headers, ()).into_response())
}

/// Waits a little for the gates. What an answer needs beside its body where one of them has not confirmed by then.
pub(super) async fn headers_unless_enforced(
    api: &Api,
    operation: &Operation,
) -> Result<Option<OperationHeaders>, ApiError> {
    let operation = api.workspace.operation_within(operation.id, PATIENCE).await?;
    let url = format!("{}/operationsStatus/{}", api.resource_url(), operation.id);
    Ok(match operation.state {
        OperationState::Succeeded => None,
        OperationState::Running | OperationState::TimedOut => {
            Some([(AZURE_ASYNC_OPERATION, url), (header::RETRY_AFTER, RETRY_AFTER.to_owned())])
        }
    })
}

fn operation_object(api: &Api, operation: &Operation) -> OperationStatus {
    OperationStatus {
        id: format!("{}/operationsStatus/{}", api.workspace.scope(), operation.id),
        name: operation.id.to_string(),
        status: status(operation.state),
        start_time: operation.created_at.to_string(),
        end_time: operation.ended_at.map(|time| time.to_string()),
        error: OperationError::of(operation),
    }
}

/// Every word but the last two is polled again.
fn status(state: OperationState) -> &'static str {
    match state {
        OperationState::Running => "InProgress",
        OperationState::Succeeded => "Succeeded",
        OperationState::TimedOut => "Failed",
    }
}
