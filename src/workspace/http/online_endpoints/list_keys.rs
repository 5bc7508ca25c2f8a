//! `POST {workspace}/onlineEndpoints/{name}/listKeys`: both keys, in every mode.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use axum::{Extension, Json};

use super::EndpointName;
use crate::workspace::http::Api;
use crate::workspace::http::access::{Caller, Endpoint};
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::services::KeyPairObject;
use crate::workspace::{Issue, ListedKeys, Role};

pub(super) fn endpoint() -> Endpoint {
    let path = "/onlineEndpoints/{name}/listKeys";
    let description =
        Description::new(Group::OnlineEndpoints, "listEndpointKeys", "Get both keys of an endpoint")
            .path("name", "The endpoint's name, which is the service's, in any letter case.")
            .answer::<KeyPairObject>(StatusCode::OK, "The keys.")
            .refusal(StatusCode::NOT_FOUND, "No service has this name.");
    Endpoint::in_resource(MethodFilter::POST, path, Role::Contributor, list_keys, description)
}

async fn list_keys(
    State(api): State<Api>,
    Caller(principal): Caller,
    EndpointName(name): EndpointName,
) -> Result<(Extension<Issue>, Json<KeyPairObject>), ApiError> {
    let ListedKeys { keys, issue } = api.workspace.list_keys(&name, &principal)?;
    Ok((Extension(issue), Json(keys.into())))
}
