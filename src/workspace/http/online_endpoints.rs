//! `{workspace}/onlineEndpoints`: the services as Azure's SDK v2 sees them, in Azure's tree of resources.
//!
//! A service of AKS is a Kubernetes online endpoint, one of ACI a managed one. Deployments are not kept here: an endpoint
//! has none, and is complete without.

mod attributes;
mod create_or_update;
mod delete;
mod deployments;
mod endpoint_object;
mod endpoint_request;
mod issue_token;
mod list;
mod list_keys;
mod operation;
mod read;
mod regenerate_key;

use super::access::Endpoint;

pub(super) use attributes::ATTRIBUTE;

pub(super) fn endpoints() -> [Endpoint; 9] {
    [
        list::endpoint(),
        read::endpoint(),
        create_or_update::endpoint(),
        delete::endpoint(),
        list_keys::endpoint(),
        regenerate_key::endpoint(),
        issue_token::endpoint(),
        deployments::endpoint(),
        operation::endpoint(),
    ]
}
