//! `POST {workspace}/services/validate`: whether a create, update or delete that is about to come would be carried out.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::{Validation, answer, check_create};
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::body::JsonBody;
use crate::workspace::http::description::{Description, Group, words};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::members::Members;
use crate::workspace::http::service_request::NewServiceBody;
use crate::workspace::http::{Api, json_patch};
use crate::workspace::{Role, WorkspaceError};

/// The route is that of a service, because a service may be named `validate`: a fixed word here would take its other
/// methods away.
pub(super) fn endpoint() -> Endpoint {
    let description =
        Description::new(Group::Validation, "validateChange", "Ask whether a change would be carried out")
            .path_word("name", "validate", "A fixed word.")
            .body::<ChangeRequest>("The change.")
            .answer::<Validation>(StatusCode::OK, "Whether it would.");
    Endpoint::in_workspace(MethodFilter::POST, "/services/{name}", Role::Contributor, validate, description)
}

/// A change that is about to be asked for.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "a description: bodies are read by `Members`, which tells the place of an error"
)]
struct ChangeRequest {
    #[serde(rename = "type")]
    #[schema(schema_with = kinds)]
    kind: String,
    /// Needed for `Update`.
    service_name: Option<String>,
    /// Needed for `Create`.
    create_request: Option<NewServiceBody>,
    /// Needed for `Update`.
    update_request: Option<json_patch::JsonPatch>,
}

fn kinds() -> Object {
    words(["Create", "Update", "Delete"])
}

async fn validate(
    State(api): State<Api>,
    Name(name): Name,
    JsonBody(body): JsonBody,
) -> Result<Json<Validation>, ApiError> {
    if name != "validate" {
        return Err(ApiError::UnknownPath);
    }
    Ok(answer(check(&api, &body).await))
}

async fn check(api: &Api, body: &Value) -> Result<(), ApiError> {
    let members = Members::of_body(body)?;
    let request = |name: &str| members.present(name).ok_or_else(|| ApiError::invalid(name, "is missing"));
    match members.required_text("type")? {
        "Create" => check_create(api, request("createRequest")?).await,
        "Update" => check_update(api, members.required_text("serviceName")?, request("updateRequest")?).await,
        // A service that is not there is deleted already.
        "Delete" => Ok(()),
        _ => Err(ApiError::invalid("type", "must be `Create`, `Update` or `Delete`")),
    }
}

async fn check_update(api: &Api, name: &str, document: &Value) -> Result<(), ApiError> {
    let patch = json_patch::read(document)?;
    let service = api.workspace.service(name).await?;
    let mode = service.auth_mode.on_update(service.compute_type, patch.auth.key, patch.auth.token);
    mode.map(|_| ()).map_err(|error| WorkspaceError::from(error).into())
}
