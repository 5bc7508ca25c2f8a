//! `GET /rp/workspaces/.../computes/{name}`: a stand-in for the cluster that a client wants to deploy to.
//!
//! `Model.deploy(..., deployment_target=AksCompute(ws, "my-cluster"))` asks for the cluster first. Nothing is run here, so
//! each one is there, attached, and of AKS; a service keeps the name as its `computeName`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Api;
use super::access::{Access, Endpoint, Name};
use super::description::{Description, Group};
use super::error::ApiError;
use super::urls::LOCATION;
use crate::workspace::Role;

const PATH: &str = "/rp/workspaces/subscriptions/{subscription}/resourceGroups/{resource_group}/providers\
    /Microsoft.MachineLearningServices/workspaces/{workspace}/computes/{name}";

/// Longest name, in bytes. Longer than all of Azure's.
const MAX_NAME: usize = 64;

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Models, "readCompute", "Get the stand-in for a compute target")
        .path("name", "The compute target's name.")
        .answer::<ComputeObject>(StatusCode::OK, "The stand-in.")
        .refusal(StatusCode::NOT_FOUND, "No compute target can have this name.");
    Endpoint::new(MethodFilter::GET, PATH, Access::Role(Role::Reader), read, description)
}

/// A cluster that is there to be named in a deployment.
#[derive(Serialize, ToSchema)]
#[schema(as = Compute)]
struct ComputeObject {
    id: String,
    name: String,
    r#type: &'static str,
    location: &'static str,
    tags: Map<String, Value>,
    properties: ComputeProperties,
}

/// What only a real one would have is null.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ComputeProperties {
    compute_type: &'static str,
    compute_location: &'static str,
    description: &'static str,
    provisioning_state: &'static str,
    #[schema(required)]
    provisioning_errors: Option<Value>,
    is_attached_compute: bool,
    #[schema(required)]
    resource_id: Option<String>,
    #[schema(required)]
    properties: Option<Value>,
}

async fn read(State(api): State<Api>, Name(name): Name) -> Result<Json<ComputeObject>, ApiError> {
    if !is_name(&name) {
        return Err(ApiError::Unknown { kind: "compute target", name });
    }
    Ok(Json(ComputeObject {
        id: format!("{}/computes/{name}", api.workspace.scope()),
        name,
        r#type: "Microsoft.MachineLearningServices/workspaces/computes",
        location: LOCATION,
        tags: Map::new(),
        properties: ComputeProperties {
            compute_type: "AKS",
            compute_location: LOCATION,
            description: "A stand-in: scoregate runs nothing. It is there to be named in a deployment.",
            provisioning_state: "Succeeded",
            provisioning_errors: None,
            is_attached_compute: true,
            resource_id: None,
            properties: None,
        },
    }))
}

fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_plain)
}
