//! `GET .../workspaces` of a resource group, and `GET /subscriptions/{subscription}/resources`: what `Workspace.list` asks
//! for with and without one. The one resource that there is, is the workspace.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::WORKSPACE_TYPE;
use super::workspace::resource;
use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Access, Endpoint};

const OF_SUBSCRIPTION: &str = "/subscriptions/{subscription}/resources";
const OF_RESOURCE_GROUP: &str = "/subscriptions/{subscription}/resourceGroups/{resource_group}/providers\
    /Microsoft.MachineLearningServices/workspaces";

pub(super) fn endpoints() -> [Endpoint; 2] {
    [OF_SUBSCRIPTION, OF_RESOURCE_GROUP]
        .map(|path| Endpoint::new(MethodFilter::GET, path, Access::Role(Role::Reader), list))
}

async fn list(State(api): State<Api>, RawQuery(query): RawQuery) -> Json<Value> {
    let is_wanted = asks_for_workspaces(&query.unwrap_or_default());
    let resources: Vec<Value> = is_wanted.then(|| resource(&api)).into_iter().collect();
    Json(json!({ "value": resources }))
}

/// Whether a `$filter`, such as `resourceType eq 'Microsoft.MachineLearningServices/workspaces'`, names the type.
fn asks_for_workspaces(query: &str) -> bool {
    let wanted = WORKSPACE_TYPE.to_ascii_lowercase();
    form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "$filter")
        .all(|(_, filter)| filter.to_ascii_lowercase().contains(&wanted))
}
