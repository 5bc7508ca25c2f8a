//! `GET .../providers/Microsoft.MachineLearningServices/workspaces` of a subscription or a resource group: what
//! `Workspace.list` asks for. There is one.

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::workspace::resource;
use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Access, Endpoint};

const OF_SUBSCRIPTION: &str =
    "/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/workspaces";
const OF_RESOURCE_GROUP: &str = "/subscriptions/{subscription}/resourceGroups/{resource_group}/providers\
    /Microsoft.MachineLearningServices/workspaces";

pub(super) fn endpoints() -> [Endpoint; 2] {
    [OF_SUBSCRIPTION, OF_RESOURCE_GROUP]
        .map(|path| Endpoint::new(MethodFilter::GET, path, Access::Role(Role::Reader), list))
}

async fn list(State(api): State<Api>) -> Json<Value> {
    Json(json!({ "value": [resource(&api)] }))
}
