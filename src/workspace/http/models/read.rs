//! `GET {workspace}/models/{id}`: the model that an id names.

use axum::Json;
use axum::http::StatusCode;
use axum::routing::MethodFilter;

use crate::workspace::Role;
use crate::workspace::http::access::{Endpoint, Name};
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::model_id::{ModelId, ModelObject};

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Models, "readModel", "Get the stand-in for a model by its id")
        .path("name", "`name:version`, or `name` for version 1.")
        .answer::<ModelObject>(StatusCode::OK, "The stand-in.")
        .refusal(StatusCode::NOT_FOUND, "No model can have this id.");
    Endpoint::in_workspace(MethodFilter::GET, "/models/{name}", Role::Reader, read, description)
}

async fn read(Name(id): Name) -> Result<Json<ModelObject>, ApiError> {
    match ModelId::read(&id) {
        Some(model) => Ok(Json(model.stand_in())),
        None => Err(ApiError::Unknown { kind: "model", name: id }),
    }
}
