//! `GET /scoregate/v1/services/{name}/uses`: how often its keys and tokens were accepted, and when last. Our own: whoever
//! regenerates a key wants to know whether the old one is still in use.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use scoregate_authz::Slot;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use crate::workspace::http::Api;
use crate::workspace::http::access::{Access, Endpoint, Name};
use crate::workspace::http::description::{Description, Group, words};
use crate::workspace::http::error::ApiError;
use crate::workspace::{CredentialUse, Role};

const TOKEN: &str = "token";

pub(super) fn endpoint() -> Endpoint {
    let path = "/scoregate/v1/services/{name}/uses";
    let description =
        Description::new(Group::Credentials, "listUses", "Tell how often keys and tokens were accepted")
            .detail(
                "As far as gates have said so: each does once a minute at most. A key that is regenerated begins anew.",
            )
            .path("name", "The service's name.")
            .answer::<UseList>(StatusCode::OK, "Both keys, and all tokens together.")
            .refusal(StatusCode::NOT_FOUND, "No service has this name.");
    Endpoint::new(MethodFilter::GET, path, Access::Role(Role::Contributor), uses, description)
}

/// Uses of the keys and tokens of a service.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UseList {
    /// The workspace's time.
    #[schema(format = DateTime)]
    as_of: String,
    value: Vec<UseObject>,
}

/// Uses of one key, or of all tokens.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CredentialUse)]
struct UseObject {
    #[schema(schema_with = credentials)]
    credential: &'static str,
    /// How many requests it was accepted for, since it was made.
    count: u64,
    /// When last; null if never.
    #[schema(required, format = DateTime)]
    last_time: Option<String>,
}

fn credentials() -> Object {
    words([Slot::Primary.as_str(), Slot::Secondary.as_str(), TOKEN])
}

impl UseObject {
    fn new(credential: &'static str, used: CredentialUse) -> Self {
        Self { credential, count: used.count, last_time: used.last_used.map(|time| time.to_string()) }
    }
}

async fn uses(State(api): State<Api>, Name(name): Name) -> Result<Json<UseList>, ApiError> {
    let uses = api.workspace.uses(&name)?;
    let value = vec![
        UseObject::new(Slot::Primary.as_str(), uses.primary),
        UseObject::new(Slot::Secondary.as_str(), uses.secondary),
        UseObject::new(TOKEN, uses.token),
    ];
    Ok(Json(UseList { as_of: uses.as_of.to_string(), value }))
}
