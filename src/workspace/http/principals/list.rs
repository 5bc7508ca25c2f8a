//! `GET /scoregate/v1/principals`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::Api;
use super::super::access::{Access, Endpoint};
use super::super::description::{Description, Group};
use super::{PATH, PrincipalObject};
use crate::workspace::Role;

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Principals, "listPrincipals", "List who may do what")
        .answer::<PrincipalList>(StatusCode::OK, "All principals, without their credentials.");
    Endpoint::new(MethodFilter::GET, PATH, Access::Role(Role::Owner), list, description)
}

/// Principals.
#[derive(Serialize, ToSchema)]
struct PrincipalList {
    value: Vec<PrincipalObject>,
}

async fn list(State(api): State<Api>) -> Json<PrincipalList> {
    let principals = api.workspace.principals();
    Json(PrincipalList { value: principals.into_iter().map(Into::into).collect() })
}
