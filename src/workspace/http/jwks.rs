//! `GET /.well-known/jwks.json`: the public keys that prove the workspace's tokens (RFC 7517).

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::Value;

use super::Api;
use super::access::{Access, Endpoint};

/// Where the keys are, below the base.
pub(super) const PATH: &str = "/.well-known/jwks.json";

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(MethodFilter::GET, PATH, Access::Anonymous, keys)
}

async fn keys(State(api): State<Api>) -> Json<Value> {
    Json(api.workspace.jwks())
}
