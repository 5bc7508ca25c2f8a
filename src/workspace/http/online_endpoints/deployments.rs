//! `GET {workspace}/onlineEndpoints/{name}/deployments`: none, but the SDK asks whenever it reads an endpoint.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::EndpointName;
use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;

pub(super) fn endpoint() -> Endpoint {
    let path = "/onlineEndpoints/{name}/deployments";
    let description = Description::new(Group::OnlineEndpoints, "listDeployments", "List no deployments")
        .path("name", "The endpoint's name, which is the service's, in any letter case.")
        .answer::<DeploymentList>(StatusCode::OK, "None: deployments are not kept here.")
        .refusal(StatusCode::NOT_FOUND, "No service has this name.");
    Endpoint::in_resource(MethodFilter::GET, path, Role::Reader, list, description)
}

/// No deployments.
#[derive(Serialize, ToSchema)]
struct DeploymentList {
    #[schema(value_type = Vec<Value>)]
    value: [Value; 0],
}

async fn list(
    State(api): State<Api>,
    EndpointName(name): EndpointName,
) -> Result<Json<DeploymentList>, ApiError> {
    api.workspace.service(&name).await?;
    Ok(Json(DeploymentList { value: [] }))
}
