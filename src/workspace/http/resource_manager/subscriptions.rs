//! `GET /subscriptions`: those of the caller, which is the workspace's. Clients look for the one that they were told of.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde::Serialize;
use utoipa::ToSchema;

use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Access, Endpoint};
use crate::workspace::http::description::{Description, Group};

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::ResourceManager, "listSubscriptions", "List subscriptions")
        .answer::<SubscriptionList>(StatusCode::OK, "The workspace's.");
    Endpoint::new(MethodFilter::GET, "/subscriptions", Access::Role(Role::Reader), list, description)
}

/// Subscriptions.
#[derive(Serialize, ToSchema)]
struct SubscriptionList {
    value: [Subscription; 1],
}

/// A name by which Azure's clients find workspaces.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Subscription {
    id: String,
    subscription_id: String,
    tenant_id: String,
    display_name: &'static str,
    state: &'static str,
}

async fn list(State(api): State<Api>) -> Json<SubscriptionList> {
    let id = &api.workspace.scope().subscription;
    let subscription = Subscription {
        id: format!("/subscriptions/{id}"),
        subscription_id: id.clone(),
        tenant_id: api.workspace.id().to_string(),
        display_name: "scoregate",
        state: "Enabled",
    };
    Json(SubscriptionList { value: [subscription] })
}
