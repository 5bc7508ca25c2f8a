//! What a workspace and those who speak with it or write files for it agree on: words and limits. They stand here, and not
//! in the workspace, because a binary without its code needs them too.

mod audit_action;
mod role;
mod scoring_uri;

pub use audit_action::{AuditAction, UnknownAction};
pub use role::{Role, UnknownRole};
pub(crate) use scoring_uri::{SCORING_URI_TAG, is_scoring_uri};

/// Most hosts, and most path prefixes, of a service: its policy has to stay a small message.
pub(crate) const MAX_PLACES: usize = 32;
