//! `GET /.well-known/jwks.json`: the public keys that prove the workspace's tokens (RFC 7517).

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde_json::Value;
use utoipa::ToSchema;

use super::Api;
use super::access::{Access, Endpoint};
use super::description::{Description, Group};

/// Where the keys are, below the base.
pub(super) const PATH: &str = "/.well-known/jwks.json";

/// A JSON Web Key Set (RFC 7517, section 5).
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description of what the signer writes")]
struct JwkSet {
    /// Public keys, each with `kid` and `alg`.
    keys: Vec<BTreeMap<String, Value>>,
}

pub(super) fn endpoint() -> Endpoint {
    let description =
        Description::new(Group::Discovery, "listSigningKeys", "List the keys that prove tokens")
            .detail("Verifiers fetch it again when a token names a `kid` that they do not know.")
            .answer::<JwkSet>(StatusCode::OK, "The public keys.");
    Endpoint::new(MethodFilter::GET, PATH, Access::Anonymous, keys, description)
}

async fn keys(State(api): State<Api>) -> Json<Value> {
    Json(api.workspace.jwks())
}
