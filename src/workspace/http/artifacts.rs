//! `POST /artifact/v2.0/.../artifacts/batch/metadata/{origin}/{container}`: where Azure's clients ask for a place to
//! upload a scoring script to. There is none, and they show why.
//!
//! Taking the files to discard them would not help: clients upload to `https://{account}.blob.{suffix}` only, and a
//! script that is silently dropped is worse than one that is refused.

use axum::routing::MethodFilter;

use super::access::{Access, Endpoint};
use super::error::ApiError;
use crate::workspace::Role;

const PATH: &str = "/artifact/v2.0/subscriptions/{subscription}/resourceGroups/{resource_group}/providers\
    /Microsoft.MachineLearningServices/workspaces/{workspace}/artifacts/batch/metadata/{origin}/{container}";

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(MethodFilter::POST, PATH, Access::Role(Role::Contributor), async || ApiError::NoFiles)
}
