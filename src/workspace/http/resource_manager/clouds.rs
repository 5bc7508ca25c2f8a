//! `GET /metadata/endpoints`: the clouds that there are, which is this one. Clients ask without a credential, to learn where
//! they can get one.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde::Serialize;
use utoipa::ToSchema;

use crate::workspace::http::Api;
use crate::workspace::http::access::{Access, Endpoint};
use crate::workspace::http::description::{Description, Group};

/// What clients call this cloud.
const NAME: &str = "Scoregate";

/// What cannot be found anywhere (RFC 2606, section 2): there is no storage in this cloud.
const NOWHERE: &str = "scoregate.invalid";

/// Where people would log in. Nothing is there. The name has clients look for nothing but this address: for another they
/// would ask Azure whether it is a good one.
const NO_LOGIN: &str = "/adfs";

pub(super) fn endpoint() -> Endpoint {
    let description =
        Description::new(Group::ResourceManager, "listClouds", "List the clouds that there are")
            .answer::<Clouds>(StatusCode::OK, "This one.");
    Endpoint::new(MethodFilter::GET, "/metadata/endpoints", Access::Anonymous, list, description)
}

/// Clouds.
#[derive(Serialize, ToSchema)]
struct Clouds([Cloud; 1]);

/// Where the parts of a cloud are.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Cloud {
    name: &'static str,
    portal: String,
    resource_manager: String,
    authentication: Authentication,
    graph_audience: String,
    suffixes: Suffixes,
}

/// Where people would log in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Authentication {
    login_endpoint: String,
    audiences: [String; 1],
    tenant: String,
    identity_provider: &'static str,
}

/// What the names of its hosts end with.
#[derive(Serialize, ToSchema)]
struct Suffixes {
    storage: &'static str,
}

async fn list(State(api): State<Api>) -> Json<Clouds> {
    let base = || api.urls.base.clone();
    Json(Clouds([Cloud {
        name: NAME,
        portal: base(),
        resource_manager: base(),
        authentication: Authentication {
            login_endpoint: format!("{}{NO_LOGIN}", api.urls.base),
            audiences: [base()],
            tenant: api.workspace.id().to_string(),
            identity_provider: "AAD",
        },
        graph_audience: base(),
        suffixes: Suffixes { storage: NOWHERE },
    }]))
}
