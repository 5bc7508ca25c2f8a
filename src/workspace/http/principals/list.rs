//! `GET /scoregate/v1/principals`

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::super::Api;
use super::super::access::{Access, Endpoint};
use super::{PATH, principal_object};
use crate::workspace::Role;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(MethodFilter::GET, PATH, Access::Role(Role::Owner), list)
}

async fn list(State(api): State<Api>) -> Json<Value> {
    let principals = api.workspace.principals();
    let objects: Vec<Value> = principals.iter().map(principal_object).collect();
    Json(json!({ "value": objects }))
}
