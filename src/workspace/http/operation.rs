//! `GET {workspace}/operations/{id}`, and the answers that send clients there.

use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::Api;
use super::access::{Endpoint, Name};
use super::description::{Description, Group, words};
use super::error::ApiError;
use super::signing_keys;
use crate::workspace::{Operation, OperationState, OperationTarget, Role};

/// How long a request for an operation waits for its end. A gate confirms within milliseconds, and Azure's clients look
/// again only after 5 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

const OPERATION_LOCATION: HeaderName = HeaderName::from_static("operation-location");

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Operations, "readOperation", "Wait for a change to be enforced")
        .detail("Answers when the operation has ended, or after 2 s; so it can be asked again at once. Finished operations \
            are kept for 7 days.")
        .path("name", "The operation's id.")
        .query_number("offset", 0, "How many characters of the log are known and left out.")
        .answer::<OperationObject>(StatusCode::OK, "The operation as it is.")
        .refusal(StatusCode::NOT_FOUND, "There is no operation of this id.");
    Endpoint::in_workspace(MethodFilter::GET, "/operations/{name}", Role::Reader, read, description)
}

/// A change on its way to every connected gate.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Operation)]
pub(super) struct OperationObject {
    id: String,
    /// Such as `Create` or `RegenerateKeys`.
    operation_type: String,
    /// `TimedOut`: it was done, but not every gate confirmed it in time; `error` names those.
    #[schema(schema_with = states)]
    state: &'static str,
    #[schema(required)]
    error: Option<OperationError>,
    #[schema(format = DateTime)]
    created_time: String,
    #[schema(format = DateTime, required)]
    end_time: Option<String>,
    /// The URL of the service or the signing key.
    resource_location: String,
    /// What happened so far: `yyyymmddHHMMSS|text`, separated by `#`.
    streaming_operation_log: String,
}

/// Why a change is not confirmed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OperationError {
    /// `NotEnforced`.
    code: &'static str,
    message: String,
}

impl OperationError {
    pub(super) fn of(operation: &Operation) -> Option<Self> {
        operation.error.clone().map(|message| Self { code: "NotEnforced", message })
    }
}

fn states() -> Object {
    use OperationState::{Running, Succeeded, TimedOut};
    words([Running, Succeeded, TimedOut].map(OperationState::as_str))
}

async fn read(
    State(api): State<Api>,
    Name(id): Name,
    RawQuery(query): RawQuery,
) -> Result<Json<OperationObject>, ApiError> {
    let operation = operation_of(&api, &id).await?;
    Ok(Json(operation_object(&api, &operation, offset(query.as_deref().unwrap_or_default()))))
}

/// The operation of this id, when it has ended, or as it is when the patience has.
pub(super) async fn operation_of(api: &Api, id: &str) -> Result<Operation, ApiError> {
    let unknown = |_| ApiError::Unknown { kind: "operation", name: id.to_owned() };
    Ok(api.workspace.operation_within(id.parse().map_err(unknown)?, PATIENCE).await?)
}

/// 202 with the operation, and with its URL in `Operation-Location`: without that header the clients fail.
pub(super) fn accepted(api: &Api, operation: &Operation) -> Response {
    let location = format!("{}/operations/{}", api.workspace_url(), operation.id);
    let body = Json(operation_object(api, operation, 0));
    (StatusCode::ACCEPTED, [(OPERATION_LOCATION, location)], body).into_response()
}

/// How much of the log a client has shown already, in characters.
fn offset(query: &str) -> usize {
    let found = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "offset");
    found.and_then(|(_, value)| value.parse().ok()).unwrap_or_default()
}

fn operation_object(api: &Api, operation: &Operation, offset: usize) -> OperationObject {
    OperationObject {
        id: operation.id.to_string(),
        operation_type: operation.operation_type.clone(),
        state: operation.state.as_str(),
        error: OperationError::of(operation),
        created_time: operation.created_at.to_string(),
        end_time: operation.ended_at.map(|time| time.to_string()),
        resource_location: match &operation.target {
            OperationTarget::Service(name) => format!("{}/services/{name}", api.workspace_url()),
            OperationTarget::SigningKey(id) => format!("{}{}/{id}", api.urls.base, signing_keys::PATH),
        },
        streaming_operation_log: log(operation).chars().skip(offset).collect(),
    }
}

/// What happened so far, as Azure's clients show it while they wait: `yyyymmddHHMMSS|text`, separated by `#`.
fn log(operation: &Operation) -> String {
    let target = &operation.target;
    let begun = match operation.operation_type.as_str() {
        "Create" => format!(
            "{target} is registered with its authentication; scoregate builds no image and starts no pod: the model \
             server runs behind your own Envoy"
        ),
        _ => format!("the change of {target} is committed; the gates are to confirm it"),
    };
    let mut log = log_line(operation.created_at, &begun);
    if let Some(time) = operation.ended_at {
        let text = operation.error.as_deref().unwrap_or("every connected gate enforces it");
        log.push('#');
        log.push_str(&log_line(time, text));
    }
    log
}

fn log_line(time: Timestamp, text: &str) -> String {
    format!("{}|{}", time.strftime("%Y%m%d%H%M%S"), text.replace(['#', '|'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    fn operation(ended_at: Option<Timestamp>, error: Option<&str>) -> Operation {
        Operation {
            id: uuid::Uuid::nil(),
            operation_type: "Create".into(),
            state: OperationState::Running,
            error: error.map(str::to_owned),
            target: OperationTarget::Service("svc".parse().unwrap()),
            revision: 1,
            created_at: "2024-05-01T10:00:00Z".parse().unwrap(),
            ended_at,
        }
    }

    #[test]
    fn log_says_that_nothing_is_started() {
        insta::assert_snapshot!(
            log(&operation(None, None)),
            @"20240501100000|svc is registered with its authentication; scoregate builds no image and starts no pod: the model server runs behind your own Envoy"
        );
    }

    #[test]
    fn log_has_no_separators_in_its_texts() {
        let ended_at = Some("2024-05-01T10:00:09Z".parse().unwrap());
        let log = log(&operation(ended_at, Some("these gates are missing: `a#b|c`")));
        let (_, last) = log.split_once('#').unwrap();
        assert_eq!(last, "20240501100009|these gates are missing: `a b c`");
    }

    #[test]
    fn offset_is_read_from_the_query() {
        assert_eq!((offset("offset=7"), offset("x=1"), offset("offset=x")), (7, 0, 0));
    }
}
