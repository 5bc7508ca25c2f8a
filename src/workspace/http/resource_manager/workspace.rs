//! `GET {workspace}`: the workspace as a resource. Clients go on from its `discoveryUrl`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::WORKSPACE_TYPE;
use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::urls::LOCATION;

pub(super) fn endpoint() -> Endpoint {
    let description =
        Description::new(Group::ResourceManager, "readWorkspaceResource", "Read the workspace as a resource")
            .answer::<WorkspaceResource>(StatusCode::OK, "The workspace.");
    Endpoint::in_resource(MethodFilter::GET, "", Role::Reader, read, description)
}

/// The workspace in Azure's tree of resources.
#[derive(Serialize, ToSchema)]
pub(super) struct WorkspaceResource {
    id: String,
    name: String,
    r#type: &'static str,
    location: &'static str,
    tags: Map<String, Value>,
    sku: Sku,
    properties: WorkspaceProperties,
}

/// Azure's word for a price.
#[derive(Serialize, ToSchema)]
struct Sku {
    name: &'static str,
    tier: &'static str,
}

/// Where clients go on.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WorkspaceProperties {
    workspace_id: String,
    discovery_url: String,
    friendly_name: String,
    description: &'static str,
    provisioning_state: &'static str,
}

async fn read(State(api): State<Api>) -> Json<WorkspaceResource> {
    Json(resource(&api))
}

/// The workspace as Azure's clients see one.
pub(super) fn resource(api: &Api) -> WorkspaceResource {
    let (scope, id) = (api.workspace.scope(), api.workspace.id());
    WorkspaceResource {
        id: scope.to_string(),
        name: scope.name.clone(),
        r#type: WORKSPACE_TYPE,
        location: LOCATION,
        tags: Map::new(),
        sku: Sku { name: "Basic", tier: "Basic" },
        properties: WorkspaceProperties {
            workspace_id: id.to_string(),
            discovery_url: api.urls.discovery(id),
            friendly_name: scope.name.clone(),
            description: "A workspace of scoregate",
            provisioning_state: "Succeeded",
        },
    }
}
