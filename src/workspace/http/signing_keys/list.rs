//! `GET /scoregate/v1/signing-keys`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::super::Api;
use super::super::access::{Access, Endpoint};
use super::super::description::{Description, Group, words};
use super::PATH;
use crate::workspace::{Role, SigningKeyState, SigningKeyStatus};

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(
        Group::SigningKeys,
        "listSigningKeyStates",
        "List the keys that sign tokens",
    )
    .answer::<SigningKeyList>(StatusCode::OK, "All keys, oldest first, without their private halves.");
    Endpoint::new(MethodFilter::GET, PATH, Access::Role(Role::Owner), list, description)
}

/// Signing keys, oldest first.
#[derive(Serialize, ToSchema)]
struct SigningKeyList {
    value: Vec<SigningKeyObject>,
}

/// A key that signs tokens, will, or did.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SigningKey)]
struct SigningKeyObject {
    /// The `kid` of its tokens.
    id: String,
    algorithm: &'static str,
    /// `published` to gates before it signs, `signing`, `retired` until its last token has expired.
    #[schema(schema_with = states)]
    state: &'static str,
    #[schema(format = DateTime)]
    created_time: String,
    /// Since when it is in its state.
    #[schema(format = DateTime)]
    since: String,
    /// Of a published key: it signs nothing before.
    #[schema(format = DateTime, required)]
    signs_from: Option<String>,
    /// Of a retired key: when it is dropped.
    #[schema(format = DateTime, required)]
    dropped_from: Option<String>,
    /// Names of the gates that do not know it yet. A published key does not sign before they do.
    waiting_for: Vec<String>,
}

fn states() -> Object {
    words(SigningKeyState::WORDS)
}

async fn list(State(api): State<Api>) -> Json<SigningKeyList> {
    Json(SigningKeyList { value: api.workspace.signing_keys().into_iter().map(Into::into).collect() })
}

impl From<SigningKeyStatus> for SigningKeyObject {
    fn from(SigningKeyStatus { id, algorithm, created_at, state, waiting_for }: SigningKeyStatus) -> Self {
        let (signs_from, dropped_from) = match state {
            SigningKeyState::Published { signs_from, .. } => (Some(signs_from), None),
            SigningKeyState::Signing { .. } => (None, None),
            SigningKeyState::Retired { until, .. } => (None, Some(until)),
        };
        Self {
            id,
            algorithm: algorithm.as_str(),
            state: state.as_str(),
            created_time: created_at.to_string(),
            since: state.since().to_string(),
            signs_from: signs_from.map(|time| time.to_string()),
            dropped_from: dropped_from.map(|time| time.to_string()),
            waiting_for,
        }
    }
}
