//! `GET {workspace}/models`: the model of a name. Without a name there is none: a workspace keeps no models.

use axum::Json;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde::Serialize;
use utoipa::ToSchema;

use crate::workspace::Role;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::model_id::{ModelId, ModelObject};

pub(super) fn endpoint() -> Endpoint {
    let description =
        Description::new(Group::Models, "listModels", "Get the stand-in for a model by its name")
            .query("name", "The model's name. Without it the list is empty.")
            .answer::<ModelList>(StatusCode::OK, "One model, or none where the name cannot be one.");
    Endpoint::in_workspace(MethodFilter::GET, "/models", Role::Reader, list, description)
}

/// Models.
#[derive(Serialize, ToSchema)]
struct ModelList {
    value: Vec<ModelObject>,
}

async fn list(RawQuery(query): RawQuery) -> Json<ModelList> {
    let query = query.unwrap_or_default();
    let name = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "name");
    let model = name.and_then(|(_, name)| ModelId::read(&name).map(ModelId::stand_in));
    Json(ModelList { value: model.into_iter().collect() })
}
