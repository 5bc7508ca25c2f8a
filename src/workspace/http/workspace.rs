//! `GET /scoregate/v1/workspace`: what the CLI must know of a workspace of which it has the base URL only.

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::Api;
use super::access::{Access, Endpoint};
use crate::workspace::Role;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(MethodFilter::GET, "/scoregate/v1/workspace", Access::Role(Role::Reader), show)
}

async fn show(State(api): State<Api>) -> Json<Value> {
    Json(json!({
        "id": api.workspace.id().to_string(),
        "scope": api.workspace.scope().to_string(),
        "issuer": api.workspace.issuer(),
        "version": env!("CARGO_PKG_VERSION"),
    }))
}
