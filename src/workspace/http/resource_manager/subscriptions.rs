//! `GET /subscriptions`: those of the caller, which is the workspace's. Clients look for the one that they were told of.

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Access, Endpoint};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(MethodFilter::GET, "/subscriptions", Access::Role(Role::Reader), list)
}

async fn list(State(api): State<Api>) -> Json<Value> {
    let id = &api.workspace.scope().subscription;
    Json(json!({
        "value": [{
            "id": format!("/subscriptions/{id}"),
            "subscriptionId": id,
            "tenantId": api.workspace.id().to_string(),
            "displayName": "scoregate",
            "state": "Enabled",
        }],
    }))
}
