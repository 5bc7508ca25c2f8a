//! `GET /scoregate/v1/workspace`: what the CLI must know of a workspace of which it has the base URL only.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::access::{Access, Endpoint};
use super::description::{Description, Group};
use crate::workspace::Role;

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Workspace, "readWorkspace", "Read what the workspace is")
        .answer::<AboutWorkspace>(StatusCode::OK, "Its names.");
    let path = "/scoregate/v1/workspace";
    Endpoint::new(MethodFilter::GET, path, Access::Role(Role::Reader), show, description)
}

/// The names of a workspace.
#[derive(Serialize, ToSchema)]
#[schema(as = Workspace)]
struct AboutWorkspace {
    /// A UUID.
    id: String,
    /// Its path in Azure's tree of resources, below `/modelmanagement/v1.0`.
    scope: String,
    /// `iss` of its tokens.
    issuer: String,
    /// Of scoregate.
    version: &'static str,
}

async fn show(State(api): State<Api>) -> Json<AboutWorkspace> {
    Json(AboutWorkspace {
        id: api.workspace.id().to_string(),
        scope: api.workspace.scope().to_string(),
        issuer: api.workspace.issuer().to_owned(),
        version: env!("CARGO_PKG_VERSION"),
    })
}
