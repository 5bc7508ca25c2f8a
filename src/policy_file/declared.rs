//! What a file says of services whoever it is for: a workspace, or a gate without one.

use std::path::PathBuf;

use scoregate_authz::{AuthMode, ComputeType, ServiceName};

use super::FileError;
use super::desired::all_documents;
use super::places::ServicePlaces;
use super::service::{Common, Unique};

/// A service and where it is.
#[derive(Debug, Clone)]
pub(crate) struct DeclaredService {
    pub(crate) name: ServiceName,
    pub(crate) compute_type: ComputeType,
    pub(crate) auth_mode: AuthMode,
    pub(crate) places: ServicePlaces,
}

impl From<Common> for DeclaredService {
    fn from(common: Common) -> Self {
        let Common { name, compute_type, auth_mode, hosts, path_prefixes } = common;
        Self { name, compute_type, auth_mode, places: ServicePlaces { hosts, path_prefixes } }
    }
}

/// Reads files, directories of files, and `-` for standard input.
///
/// # Errors
/// The first thing that is wrong with names, modes and places. The rest is not looked at.
pub(crate) fn declared(paths: &[PathBuf]) -> Result<Vec<DeclaredService>, FileError> {
    let (mut services, mut unique) = (Vec::new(), Unique::default());
    for located in all_documents(paths)? {
        for (index, spanned) in located.document.services.iter().enumerate() {
            let (common, _) = unique.read(&located.at, index, spanned)?;
            services.push(common.into());
        }
    }
    Ok(services)
}
