//! `/scoregate/v1/principals`: who may do what. Our own, for the CLI.

mod create;
mod delete;
mod list;

use serde_json::{Value, json};

use super::access::Endpoint;
use crate::workspace::Principal;

const PATH: &str = "/scoregate/v1/principals";

pub(super) fn endpoints() -> [Endpoint; 3] {
    [list::endpoint(), create::endpoint(), delete::endpoint()]
}

fn principal_object(principal: &Principal) -> Value {
    json!({
        "name": principal.name,
        "role": principal.role.as_str(),
        "createdTime": principal.created_at.to_string(),
    })
}
