//! `POST {workspace}/onlineEndpoints/{name}/listKeys`: both keys, in every mode.

use axum::routing::MethodFilter;

use crate::workspace::Role;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::services::list_keys;

pub(super) fn endpoint() -> Endpoint {
    let path = "/onlineEndpoints/{name}/listKeys";
    Endpoint::in_resource(MethodFilter::POST, path, Role::Contributor, list_keys)
}
