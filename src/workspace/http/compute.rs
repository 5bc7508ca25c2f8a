//! `GET /rp/workspaces/.../computes/{name}`: a stand-in for the cluster that a client wants to deploy to.
//!
//! `Model.deploy(..., deployment_target=AksCompute(ws, "my-cluster"))` asks for the cluster first. Nothing is run here, so
//! each one is there, attached, and of AKS; a service keeps the name as its `computeName`.

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::Api;
use super::access::{Access, Endpoint, Name};
use super::error::ApiError;
use super::urls::LOCATION;
use crate::workspace::Role;

const PATH: &str = "/rp/workspaces/subscriptions/{subscription}/resourceGroups/{resource_group}/providers\
    /Microsoft.MachineLearningServices/workspaces/{workspace}/computes/{name}";

/// Longest name, in bytes. Longer than all of Azure's.
const MAX_NAME: usize = 64;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(MethodFilter::GET, PATH, Access::Role(Role::Reader), read)
}

async fn read(State(api): State<Api>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    if !is_name(&name) {
        return Err(ApiError::Unknown { kind: "compute target", name });
    }
    Ok(Json(json!({
        "id": format!("{}/computes/{name}", api.workspace.scope()),
        "name": name,
        "type": "Microsoft.MachineLearningServices/workspaces/computes",
        "location": LOCATION,
        "tags": {},
        "properties": {
            "computeType": "AKS",
            "computeLocation": LOCATION,
            "description": "A stand-in: scoregate runs nothing. It is there to be named in a deployment.",
            "provisioningState": "Succeeded",
            "provisioningErrors": null,
            "isAttachedCompute": true,
            "resourceId": null,
            "properties": null,
        },
    })))
}

fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_plain)
}
