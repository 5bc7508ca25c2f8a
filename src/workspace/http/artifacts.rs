//! `POST /artifact/v2.0/.../artifacts/batch/metadata/{origin}/{container}`: where Azure's clients ask for a place to
//! upload a scoring script to. There is none, and they show why.
//!
//! Taking the files to discard them would not help: clients upload to `https://{account}.blob.{suffix}` only, and a
//! script that is silently dropped is worse than one that is refused.

use axum::http::StatusCode;
use axum::routing::MethodFilter;

use super::access::{Access, Endpoint};
use super::description::{Description, Group};
use super::error::ApiError;
use crate::workspace::Role;

const PATH: &str = "/artifact/v2.0/subscriptions/{subscription}/resourceGroups/{resource_group}/providers\
    /Microsoft.MachineLearningServices/workspaces/{workspace}/artifacts/batch/metadata/{origin}/{container}";

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Workspace, "uploadFiles", "Be told why files are not taken")
        .detail("Azure's clients ask here for a place to upload a scoring script to.")
        .path("origin", "Where the files are from.")
        .path("container", "What they belong to.")
        .refusal(StatusCode::BAD_REQUEST, "Always. The message says what to do instead.");
    let needed = Access::Role(Role::Contributor);
    Endpoint::new(MethodFilter::POST, PATH, needed, async || ApiError::NoFiles, description)
}
