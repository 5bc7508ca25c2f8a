//! The document as it is written. Everything else about it is checked later, where errors can name the place.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

/// What `version` says.
pub(super) const VERSION: &str = "scoregate/v1";

/// A text and where it stands.
pub(super) type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) version: Text,
    pub(super) services: Vec<Spanned<Service>>,
    pub(super) verification_keys: Option<Spanned<Vec<Spanned<VerificationKeys>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Service {
    pub(super) name: Text,
    pub(super) compute_type: Option<Text>,
    pub(super) auth_mode: Text,
    #[serde(default)]
    pub(super) hosts: Vec<Text>,
    #[serde(default)]
    pub(super) path_prefixes: Vec<Text>,
    /// Of a workspace.
    pub(super) description: Option<Text>,
    /// Of a workspace.
    pub(super) tags: Option<Spanned<BTreeMap<String, Text>>>,
    /// Of a gate.
    pub(super) uid: Option<Text>,
    /// Of a gate.
    pub(super) keys: Option<Spanned<Keys>>,
    /// Of a gate.
    pub(super) tokens_not_before: Option<Spanned<u64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    pub(super) primary: Option<Spanned<Digest>>,
    pub(super) secondary: Option<Spanned<Digest>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Digest {
    pub(super) digest: Text,
    pub(super) pepper_id: Text,
}

/// A key may stand by mistake where its digest belongs.
impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digest").finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct VerificationKeys {
    pub(super) issuer: Text,
    pub(super) max_lifetime: Text,
    pub(super) jwks: Option<KeySet>,
    pub(super) jwks_file: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeySet {
    pub(super) keys: Vec<Spanned<Map<String, Value>>>,
}
