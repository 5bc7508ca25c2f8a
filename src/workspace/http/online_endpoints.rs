//! `{workspace}/onlineEndpoints`: the services as Azure's SDK v2 sees them, in Azure's tree of resources.
//!
//! A service of AKS is a Kubernetes online endpoint, one of ACI a managed one. Deployments are not kept here: an endpoint
//! has none, and is complete without.

mod attributes;
mod create_or_update;
mod delete;
mod deployments;
mod endpoint_object;
mod endpoint_request;
mod issue_token;
mod list;
mod list_keys;
mod operation;
mod read;
mod regenerate_key;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::Api;
use super::access::{Endpoint, Name};
use super::error::ApiError;

pub(super) use attributes::ATTRIBUTE;

pub(super) fn endpoints() -> [Endpoint; 9] {
    [
        list::endpoint(),
        read::endpoint(),
        create_or_update::endpoint(),
        delete::endpoint(),
        list_keys::endpoint(),
        regenerate_key::endpoint(),
        issue_token::endpoint(),
        deployments::endpoint(),
        operation::endpoint(),
    ]
}

/// The parameter `{name}` of a route. Azure's names of resources are the same in any letter case, and those of services
/// are in lower case.
struct EndpointName(String);

impl FromRequestParts<Api> for EndpointName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let Name(name) = Name::from_request_parts(parts, api).await?;
        Ok(Self(name.to_ascii_lowercase()))
    }
}
