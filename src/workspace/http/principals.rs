//! `/scoregate/v1/principals`: who may do what. Our own, for the CLI.

mod create;
mod delete;
mod list;

use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::access::Endpoint;
use super::description::words;
use crate::workspace::{Principal, Role};

const PATH: &str = "/scoregate/v1/principals";

pub(super) fn endpoints() -> [Endpoint; 3] {
    [list::endpoint(), create::endpoint(), delete::endpoint()]
}

/// Someone who may do something.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Principal)]
struct PrincipalObject {
    name: String,
    #[schema(schema_with = roles)]
    role: &'static str,
    #[schema(format = DateTime)]
    created_time: String,
}

impl From<Principal> for PrincipalObject {
    fn from(Principal { name, role, created_at }: Principal) -> Self {
        Self { name, role: role.as_str(), created_time: created_at.to_string() }
    }
}

fn roles() -> Object {
    use Role::{Contributor, Gate, Owner, Reader};
    words([Reader, Contributor, Owner, Gate].map(Role::as_str))
}
