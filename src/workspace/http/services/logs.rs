//! `GET {workspace}/services/{name}/logs`: clients want a text, and the truth is that there are no logs here.

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::error::ApiError;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::in_workspace(MethodFilter::GET, "/services/{name}/logs", Role::Reader, logs)
}

async fn logs(State(api): State<Api>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    let service = api.workspace.service(&name).await?;
    let content = format!(
        "scoregate does not host `{}`: it decides who may score it. The logs are those of the model server, and of the proxy in front of it.\n",
        service.name
    );
    Ok(Json(json!({ "content": content })))
}
