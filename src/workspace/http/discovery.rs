//! `GET /discovery` and `GET /discovery/workspaces/{id}`: where Azure's clients find the parts of a workspace. They ask
//! without a credential. The second is what Azure's own address looks like; the first can be written down by heart.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::access::{Access, Endpoint, Name};
use super::description::{Description, Group};
use super::error::ApiError;

/// The base URL of each part of a workspace. All six must be there, or Azure's clients fail, though web services use
/// `modelmanagement` only.
#[derive(Serialize, ToSchema)]
struct Discovery {
    api: String,
    experimentation: String,
    history: String,
    hyperdrive: String,
    modelmanagement: String,
    studio: String,
}

pub(super) fn endpoints() -> [Endpoint; 2] {
    let short = Description::new(Group::Discovery, "discover", "Find the parts of the workspace")
        .answer::<Discovery>(StatusCode::OK, "Base URLs.");
    let long = Description::new(Group::Discovery, "discoverById", "Find the parts of a workspace by its id")
        .path("name", "The workspace's id.")
        .answer::<Discovery>(StatusCode::OK, "Base URLs.");
    [
        Endpoint::new(MethodFilter::GET, "/discovery", Access::Anonymous, discover, short),
        Endpoint::new(
            MethodFilter::GET,
            "/discovery/workspaces/{name}",
            Access::Anonymous,
            discover_by_id,
            long,
        ),
    ]
}

async fn discover(State(api): State<Api>) -> Json<Discovery> {
    let base = || api.urls.base.clone();
    Json(Discovery {
        api: base(),
        experimentation: base(),
        history: base(),
        hyperdrive: base(),
        modelmanagement: base(),
        studio: base(),
    })
}

async fn discover_by_id(state: State<Api>, Name(id): Name) -> Result<Json<Discovery>, ApiError> {
    if !id.eq_ignore_ascii_case(&state.workspace.id().to_string()) {
        return Err(ApiError::UnknownPath);
    }
    Ok(discover(state).await)
}
