//! `GET .../workspaces` of a resource group, and `GET /subscriptions/{subscription}/resources`: what `Workspace.list` asks
//! for with and without one. The one resource that there is, is the workspace.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde::Serialize;
use utoipa::ToSchema;

use super::WORKSPACE_TYPE;
use super::workspace::{WorkspaceResource, resource};
use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Access, Endpoint};
use crate::workspace::http::description::{Description, Group};

const OF_SUBSCRIPTION: &str = "/subscriptions/{subscription}/resources";
const OF_RESOURCE_GROUP: &str = "/subscriptions/{subscription}/resourceGroups/{resource_group}/providers\
    /Microsoft.MachineLearningServices/workspaces";

pub(super) fn endpoints() -> [Endpoint; 2] {
    let ids = [(OF_SUBSCRIPTION, "listResources"), (OF_RESOURCE_GROUP, "listWorkspaces")];
    ids.map(|(path, id)| {
        Endpoint::new(MethodFilter::GET, path, Access::Role(Role::Reader), list, description(id))
    })
}

fn description(id: &'static str) -> Description {
    Description::new(Group::ResourceManager, id, "List resources, of which there is the workspace")
        .query("$filter", "Matches where it names the type of workspaces.")
        .answer::<ResourceList>(StatusCode::OK, "The workspace, or nothing.")
}

/// Resources.
#[derive(Serialize, ToSchema)]
struct ResourceList {
    value: Vec<WorkspaceResource>,
}

async fn list(State(api): State<Api>, RawQuery(query): RawQuery) -> Json<ResourceList> {
    let is_wanted = asks_for_workspaces(&query.unwrap_or_default());
    Json(ResourceList { value: is_wanted.then(|| resource(&api)).into_iter().collect() })
}

/// Whether a `$filter`, such as `resourceType eq 'Microsoft.MachineLearningServices/workspaces'`, names the type.
fn asks_for_workspaces(query: &str) -> bool {
    let wanted = WORKSPACE_TYPE.to_ascii_lowercase();
    form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "$filter")
        .all(|(_, filter)| filter.to_ascii_lowercase().contains(&wanted))
}
