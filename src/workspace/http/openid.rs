//! `GET /.well-known/openid-configuration`: what verifies tokens elsewhere asks for (OpenID Connect Discovery 1.0).
//!
//! There is no authorization endpoint: tokens are issued to principals by the workspace's own route.

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::access::{Access, Endpoint};
use super::{Api, jwks};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(MethodFilter::GET, "/.well-known/openid-configuration", Access::Anonymous, configuration)
}

async fn configuration(State(api): State<Api>) -> Json<Value> {
    Json(json!({
        "issuer": api.workspace.issuer(),
        "jwks_uri": format!("{}{}", api.urls.base, jwks::PATH),
        "id_token_signing_alg_values_supported": algorithms(&api.workspace.jwks()),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
    }))
}

/// Each `alg` of the keys once.
fn algorithms(jwks: &Value) -> Vec<&str> {
    let keys = jwks["keys"].as_array().map_or(&[][..], Vec::as_slice);
    let mut algorithms: Vec<&str> = keys.iter().filter_map(|key| key["alg"].as_str()).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    algorithms
}
