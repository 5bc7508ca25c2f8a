//! `GET {workspace}/models`: the model of a name. Without a name there is none: a workspace keeps no models.

use axum::Json;
use axum::extract::RawQuery;
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use crate::workspace::Role;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::model_id::ModelId;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::in_workspace(MethodFilter::GET, "/models", Role::Reader, list)
}

async fn list(RawQuery(query): RawQuery) -> Json<Value> {
    let query = query.unwrap_or_default();
    let name = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "name");
    let models: Vec<Value> =
        name.and_then(|(_, name)| ModelId::read(&name).map(ModelId::stand_in)).into_iter().collect();
    Json(json!({ "value": models }))
}
