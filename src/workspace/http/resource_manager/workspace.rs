//! `GET {workspace}`: the workspace as a resource. Clients go on from its `discoveryUrl`.

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::WORKSPACE_TYPE;
use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::urls::LOCATION;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::in_resource(MethodFilter::GET, "", Role::Reader, read)
}

async fn read(State(api): State<Api>) -> Json<Value> {
    Json(resource(&api))
}

/// The workspace as Azure's clients see one.
pub(super) fn resource(api: &Api) -> Value {
    let (scope, id) = (api.workspace.scope(), api.workspace.id());
    json!({
        "id": scope.to_string(),
        "name": scope.name,
        "type": WORKSPACE_TYPE,
        "location": LOCATION,
        "tags": {},
        "sku": { "name": "Basic", "tier": "Basic" },
        "properties": {
            "workspaceId": id.to_string(),
            "discoveryUrl": api.urls.discovery(id),
            "friendlyName": scope.name,
            "description": "A workspace of scoregate",
            "provisioningState": "Succeeded",
        },
    })
}
