//! `GET {workspace}/models/{id}`: the model that an id names.

use axum::Json;
use axum::routing::MethodFilter;
use serde_json::Value;

use crate::workspace::Role;
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::model_id::ModelId;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::in_workspace(MethodFilter::GET, "/models/{name}", Role::Reader, read)
}

async fn read(Name(id): Name) -> Result<Json<Value>, ApiError> {
    match ModelId::read(&id) {
        Some(model) => Ok(Json(model.stand_in())),
        None => Err(ApiError::Unknown { kind: "model", name: id }),
    }
}
