//! `{workspace}/services`: services, their keys and their tokens.

mod create;
mod delete;
mod issue_token;
mod issues;
mod list;
mod list_keys;
mod logs;
mod read;
mod regenerate_key;
mod revoke_tokens;
mod update;
mod uses;
mod validate;

use super::access::Endpoint;

pub(super) use create::{existing, is_overtaken};
pub(super) use list::Query;
pub(super) use list_keys::KeyPairObject;
pub(super) use regenerate_key::{slot, slot_schema};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let mut endpoints = vec![
        list::endpoint(),
        create::endpoint(),
        read::endpoint(),
        update::endpoint(),
        delete::endpoint(),
        list_keys::endpoint(),
        regenerate_key::endpoint(),
        issue_token::endpoint(),
        logs::endpoint(),
        issues::endpoint(),
        revoke_tokens::endpoint(),
        uses::endpoint(),
    ];
    endpoints.extend(validate::endpoints());
    endpoints
}
