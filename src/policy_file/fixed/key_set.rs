//! Verification keys: JSON Web Key Sets, in the file or beside it.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use scoregate_authz::{UniqueJson, VerificationKey};
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::config::Time;
use crate::policy_file::FileError;
use crate::policy_file::read::{FileContent, Reader};
use crate::policy_file::shape::{Text, VerificationKeys};
use crate::policy_wire;
use crate::proto::scoregate::policy::v1 as wire;

const LIFETIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 3600);
const MAX_ISSUER_LENGTH: usize = 1_024;

/// The key sets of a document.
pub(super) struct KeySets<'a> {
    at: &'a Reader,
    ids: HashSet<String>,
    entries: Vec<wire::Entry>,
}

impl<'a> KeySets<'a> {
    pub(super) fn new(at: &'a Reader) -> Self {
        Self { at, ids: HashSet::new(), entries: Vec::new() }
    }

    pub(super) fn into_entries(self) -> Vec<wire::Entry> {
        self.entries
    }

    pub(super) fn add(
        &mut self,
        set: &Spanned<VerificationKeys>,
        index: usize,
        read: impl FnOnce(&Path) -> Result<FileContent, FileError>,
    ) -> Result<(), FileError> {
        let path = format!("verificationKeys[{index}]");
        let rules = Rules::read(&set.value, &path, self.at)?;
        match (&set.value.jwks, &set.value.jwks_file) {
            (Some(inline), None) => {
                for (key_index, key) in inline.keys.iter().enumerate() {
                    let place = format!("{path}.jwks.keys[{key_index}]");
                    let jwk = Value::Object(key.value.clone()).to_string();
                    self.add_key(&jwk, &rules).map_err(|problem| self.at.error(key, place, problem))?;
                }
                Ok(())
            }
            (None, Some(file)) => {
                let place = format!("{path}.jwksFile");
                for (key_index, jwk) in key_file(self.at, file, &place, read)?.iter().enumerate() {
                    let named = |problem| format!("key {} in `{}`: {problem}", key_index + 1, file.value);
                    self.add_key(&jwk.to_string(), &rules)
                        .map_err(|problem| self.at.error(file, place.clone(), named(problem)))?;
                }
                Ok(())
            }
            _ => Err(self.at.error(set, path, "either `jwks` or `jwksFile` is needed")),
        }
    }

    fn add_key(&mut self, jwk: &str, rules: &Rules) -> Result<(), String> {
        let key = VerificationKey::new(jwk, rules.issuer.clone(), rules.max_lifetime)
            .map_err(|error| error.to_string())?;
        if !self.ids.insert(key.id().to_owned()) {
            return Err("another key has its `kid`".to_owned());
        }
        let content = wire::VerificationKey {
            jwk: jwk.to_owned(),
            issuer: rules.issuer.clone(),
            max_lifetime_seconds: rules.max_lifetime.as_secs(),
        };
        self.entries.push(policy_wire::verification_key_entry(key.id(), &content));
        Ok(())
    }
}

/// What holds for the tokens of a set's keys.
struct Rules {
    issuer: String,
    max_lifetime: Duration,
}

impl Rules {
    fn read(set: &VerificationKeys, path: &str, at: &Reader) -> Result<Self, FileError> {
        let issuer = &set.issuer.value;
        if !(1..=MAX_ISSUER_LENGTH).contains(&issuer.len()) {
            let rule = format!("an issuer has 1 to {MAX_ISSUER_LENGTH} bytes");
            return Err(at.error(&set.issuer, format!("{path}.issuer"), rule));
        }
        let wrong = |problem: String| at.error(&set.max_lifetime, format!("{path}.maxLifetime"), problem);
        let Time(max_lifetime) = set.max_lifetime.value.parse().map_err(wrong)?;
        if !LIFETIMES.contains(&max_lifetime) || max_lifetime.subsec_nanos() > 0 {
            return Err(wrong("is not between 1 second and 366 days, in whole seconds".to_owned()));
        }
        Ok(Self { issuer: issuer.clone(), max_lifetime })
    }
}

/// The keys of a file, whose name is relative to that of the document.
fn key_file(
    at: &Reader,
    file: &Text,
    place: &str,
    read: impl FnOnce(&Path) -> Result<FileContent, FileError>,
) -> Result<Vec<Value>, FileError> {
    let directory = at.file().parent().unwrap_or(Path::new(""));
    let content = read(&directory.join(&file.value))?;
    let keys = match serde_json::from_slice(&content.bytes) {
        Ok(UniqueJson(Value::Object(mut members))) => members.remove("keys"),
        _ => None,
    };
    match keys {
        Some(Value::Array(keys)) => Ok(keys),
        _ => Err(at.error(file, place, format!("`{}` is not a JSON Web Key Set", file.value))),
    }
}
