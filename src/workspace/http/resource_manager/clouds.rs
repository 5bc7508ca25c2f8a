//! `GET /metadata/endpoints`: the clouds that there are, which is this one. Clients ask without a credential, to learn where
//! they can get one.

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use crate::workspace::http::Api;
use crate::workspace::http::access::{Access, Endpoint};

/// What clients call this cloud.
const NAME: &str = "Scoregate";

/// What cannot be found anywhere (RFC 2606, section 2): there is no storage in this cloud.
const NOWHERE: &str = "scoregate.invalid";

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(MethodFilter::GET, "/metadata/endpoints", Access::Anonymous, list)
}

async fn list(State(api): State<Api>) -> Json<Value> {
    let base = api.urls.base.as_str();
    Json(json!([{
        "name": NAME,
        "portal": base,
        "resourceManager": base,
        "authentication": {
            "loginEndpoint": base,
            "audiences": [base],
            "tenant": api.workspace.id().to_string(),
            "identityProvider": "AAD",
        },
        "graphAudience": base,
        "suffixes": { "storage": NOWHERE },
    }]))
}
