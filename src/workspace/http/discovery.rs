//! `GET /discovery` and `GET /discovery/workspaces/{id}`: where Azure's clients find the parts of a workspace. They ask
//! without a credential. The second is what Azure's own address looks like; the first can be written down by heart.

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::{Map, Value};

use super::Api;
use super::access::{Access, Endpoint, Name};
use super::error::ApiError;

/// All six must be there, or the clients fail, though web services use `modelmanagement` only.
const NAMES: [&str; 6] = ["api", "experimentation", "history", "hyperdrive", "modelmanagement", "studio"];

pub(super) fn endpoints() -> [Endpoint; 2] {
    [
        Endpoint::new(MethodFilter::GET, "/discovery", Access::Anonymous, discover),
        Endpoint::new(MethodFilter::GET, "/discovery/workspaces/{name}", Access::Anonymous, discover_by_id),
    ]
}

async fn discover(State(api): State<Api>) -> Json<Value> {
    let base = |name: &str| (name.to_owned(), Value::from(api.urls.base.as_str()));
    Json(Value::Object(NAMES.map(base).into_iter().collect::<Map<_, _>>()))
}

async fn discover_by_id(state: State<Api>, Name(id): Name) -> Result<Json<Value>, ApiError> {
    if !id.eq_ignore_ascii_case(&state.workspace.id().to_string()) {
        return Err(ApiError::UnknownPath);
    }
    Ok(discover(state).await)
}
