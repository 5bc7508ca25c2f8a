//! `POST {workspace}/services/{name}/listkeys`: both keys, in every mode.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use axum::{Extension, Json};
use scoregate_authz::PlainKey;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::workspace::http::Api;
use crate::workspace::http::access::{Caller, Endpoint, Name};
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::{Issue, KeyPair, ListedKeys, Role};

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Credentials, "listKeys", "Get both keys of a service")
        .detail("In every mode; gates accept keys in key mode only.")
        .path("name", "The service's name.")
        .answer::<KeyPairObject>(StatusCode::OK, "The keys.")
        .refusal(StatusCode::NOT_FOUND, "No service has this name.");
    let path = "/services/{name}/listkeys";
    Endpoint::in_workspace(MethodFilter::POST, path, Role::Contributor, list_keys, description)
}

/// The keys of a service. Gates accept either.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = KeyPair)]
pub(in crate::workspace::http) struct KeyPairObject {
    #[schema(value_type = String)]
    #[serde(serialize_with = "shown")]
    primary_key: PlainKey,
    #[schema(value_type = String)]
    #[serde(serialize_with = "shown")]
    secondary_key: PlainKey,
}

impl From<KeyPair> for KeyPairObject {
    fn from(KeyPair { primary, secondary }: KeyPair) -> Self {
        Self { primary_key: primary, secondary_key: secondary }
    }
}

fn shown<S: Serializer>(key: &PlainKey, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(key.expose())
}

async fn list_keys(
    State(api): State<Api>,
    Caller(principal): Caller,
    Name(name): Name,
) -> Result<(Extension<Issue>, Json<KeyPairObject>), ApiError> {
    let ListedKeys { keys, issue } = api.workspace.list_keys(&name, &principal)?;
    Ok((Extension(issue), Json(keys.into())))
}
