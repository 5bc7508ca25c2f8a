//! `GET /.well-known/openid-configuration`: what verifies tokens elsewhere asks for (OpenID Connect Discovery 1.0).
//!
//! There is no authorization endpoint: tokens are issued to principals by the workspace's own route.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::access::{Access, Endpoint};
use super::description::{Description, Group};
use super::{Api, jwks};

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(
        Group::Discovery,
        "readOpenIdConfiguration",
        "Read the issuer and its keys",
    )
    .answer::<OpenIdConfiguration>(StatusCode::OK, "OpenID Connect Discovery 1.0, as far as it applies.");
    let path = "/.well-known/openid-configuration";
    Endpoint::new(MethodFilter::GET, path, Access::Anonymous, configuration, description)
}

/// What verifiers of tokens need to know.
#[derive(Serialize, ToSchema)]
struct OpenIdConfiguration {
    /// `iss` of tokens.
    issuer: String,
    /// Where the keys are.
    jwks_uri: String,
    /// `alg` of tokens.
    id_token_signing_alg_values_supported: Vec<String>,
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
}

async fn configuration(State(api): State<Api>) -> Json<OpenIdConfiguration> {
    Json(OpenIdConfiguration {
        issuer: api.workspace.issuer().to_owned(),
        jwks_uri: format!("{}{}", api.urls.base, jwks::PATH),
        id_token_signing_alg_values_supported: algorithms(&api.workspace.jwks()),
        response_types_supported: ["id_token"],
        subject_types_supported: ["public"],
    })
}

/// Each `alg` of the keys once.
fn algorithms(jwks: &Value) -> Vec<String> {
    let keys = jwks["keys"].as_array().map_or(&[][..], Vec::as_slice);
    let mut algorithms: Vec<String> =
        keys.iter().filter_map(|key| key["alg"].as_str().map(str::to_owned)).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    algorithms
}
