//! What a gate without a workspace decides by: a file, as a snapshot like any other.

mod key_set;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use scoregate_authz::{
    AuthMode, InvalidPolicy, Peppers, ServiceUid, Slot, Snapshot, Version, entry_hash, state_hash,
};
use serde_saphyr::Spanned;

use self::key_set::KeySets;
use super::FileError;
use super::read::{FileContent, Located, documents};
use super::service::{Common, ServicePlace, Unique};
use super::shape::{self, Text};
use crate::count::counted;
use crate::policy_wire::{self, auth_mode, compute_type};
use crate::proto::scoregate::policy::v1 as wire;

/// Whose policy it is said to be: nobody's workspace.
const WORKSPACE: &str = "file";

/// A good file.
#[derive(Debug, Clone)]
pub struct FixedPolicy {
    pub(crate) path: PathBuf,
    /// SHA-256 of the file.
    pub(crate) hash: [u8; 32],
    pub(crate) snapshot: Snapshot,
    /// All that was read for it.
    pub(crate) seen: Seen,
    modes: Vec<AuthMode>,
}

/// The files that a reading came across, and the SHA-256 of each; `None` where it could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen(Vec<(PathBuf, Option<[u8; 32]>)>);

impl Seen {
    /// Reads a file, and remembers that it did.
    fn read(&mut self, path: &Path) -> Result<FileContent, FileError> {
        let content = FileContent::read(path);
        self.0.push((path.to_owned(), content.as_ref().ok().map(|content| content.hash)));
        content
    }

    /// The same files as they are now.
    pub(crate) fn again(&self) -> Self {
        let mut now = Self::default();
        for (path, _) in &self.0 {
            // Why one cannot be read is said when the whole is read.
            let _ = now.read(path);
        }
        now
    }
}

impl FixedPolicy {
    /// Reads a file and makes the snapshot of this revision. `seen` tells afterwards what was read, whether it was good or
    /// not.
    ///
    /// # Errors
    /// The first thing that is wrong with it: nothing of a bad file is used.
    pub(crate) fn read(
        path: &Path,
        revision: u64,
        peppers: &Peppers,
        seen: &mut Seen,
    ) -> Result<Self, FileError> {
        Self::read_with(path, revision, Some(peppers), seen)
    }

    /// The same without a gate; with `None`, digests may be under any pepper.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub(crate) fn check(path: &Path, peppers: Option<&Peppers>) -> Result<Self, FileError> {
        Self::read_with(path, 1, peppers, &mut Seen::default())
    }

    fn read_with(
        path: &Path,
        revision: u64,
        peppers: Option<&Peppers>,
        seen: &mut Seen,
    ) -> Result<Self, FileError> {
        *seen = Seen::default();
        let content = seen.read(path)?;
        let mut documents = documents(path, &content.bytes)?;
        let (Some(located), true) = (documents.pop(), documents.is_empty()) else {
            return Err(FileError::unusable(path, "holds more than one document, and a gate takes one"));
        };
        let policy = Policy::read(&located, seen)?;
        let modes = policy.modes.clone();
        let snapshot = policy.into_snapshot(path, revision, peppers)?;
        Ok(Self { path: path.to_owned(), hash: content.hash, snapshot, seen: seen.clone(), modes })
    }

    /// The hash as `sha256sum` shows it.
    pub(crate) fn hash_text(&self) -> String {
        self.hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// For people, on one line.
    pub(crate) fn summary(&self) -> String {
        let count = |mode| self.modes.iter().filter(|of_service| **of_service == mode).count();
        let [key, token, disabled] = [AuthMode::Key, AuthMode::Token, AuthMode::Disabled].map(count);
        format!(
            "good: {} ({key} with keys, {token} with tokens, {disabled} open to everybody), SHA-256 {}",
            counted(self.modes.len() as u64, "service"),
            self.hash_text()
        )
    }
}

/// What a document says, as entries.
struct Policy {
    services: Vec<(ServiceUid, ServicePlace, wire::Entry)>,
    keys: Vec<wire::Entry>,
    modes: Vec<AuthMode>,
}

impl Policy {
    fn read(located: &Located, seen: &mut Seen) -> Result<Self, FileError> {
        let Located { at, document } = located;
        let mut sets = KeySets::new(at);
        for (index, set) in document.verification_keys.iter().flat_map(|sets| &sets.value).enumerate() {
            sets.add(set, index, |path| seen.read(path))?;
        }
        let keys = sets.into_entries();
        let mut policy = Self { services: Vec::new(), keys, modes: Vec::new() };
        let mut unique = Unique::default();
        let mut uids = HashMap::new();
        for (index, service) in document.services.iter().enumerate() {
            let (common, place) = unique.read(at, index, service)?;
            refuse_what_gates_ignore(&service.value, &place)?;
            let uid = uid(&service.value, &common, &place)?;
            if let Some(other) = uids.insert(uid.clone(), common.name.clone()) {
                return Err(place.error(format!("its uid is that of `{other}`")));
            }
            policy.check_mode(&service.value, &common, &place)?;
            let content = content(&service.value, &common, &uid, &place)?;
            let entry = policy_wire::service_entry(&uid, &common.name, &content);
            policy.services.push((uid, place, entry));
            policy.modes.push(common.auth_mode);
        }
        Ok(policy)
    }

    fn check_mode(
        &self,
        service: &shape::Service,
        common: &Common,
        place: &ServicePlace,
    ) -> Result<(), FileError> {
        let at_mode = |problem: &str| Err(place.field(&service.auth_mode, "authMode", problem));
        match (common.auth_mode, &service.keys) {
            (AuthMode::Key, None) => at_mode("a service in key mode needs `keys`"),
            (AuthMode::Token | AuthMode::Disabled, Some(keys)) => {
                let problem = format!("there are keys, and the auth mode is `{}`", common.auth_mode);
                Err(place.field(keys, "keys", problem))
            }
            (AuthMode::Token, None) if self.keys.is_empty() => {
                at_mode("a service in token mode needs `verificationKeys`")
            }
            _ => Ok(()),
        }
    }

    /// With `None`, any pepper will do, and the snapshot is not one to decide by.
    fn into_snapshot(
        self,
        path: &Path,
        revision: u64,
        peppers: Option<&Peppers>,
    ) -> Result<Snapshot, FileError> {
        let nobody = Peppers::of_nobody(&[0; 32]);
        let any_pepper = peppers.is_none();
        let peppers = peppers.unwrap_or(&nobody);
        let impossible = |problem: String| FileError::unusable(path, problem);
        let wires = self.keys.into_iter().chain(self.services.iter().map(|(_, _, entry)| entry.clone()));
        let entries = wires.map(|entry| policy_wire::entry(entry, peppers));
        let entries: Vec<_> =
            entries.collect::<Result<_, _>>().map_err(|error| impossible(error.to_string()))?;
        let mut hashes: Vec<_> = entries
            .iter()
            .map(|entry| (entry.id().clone(), entry_hash(entry.id(), entry.name(), entry.content())))
            .collect();
        hashes.sort();
        let stated = state_hash(hashes.iter().map(|(_, hash)| hash));
        let version = Version { epoch: 0, revision };
        let snapshot = Snapshot::new(WORKSPACE.into(), version, entries, stated)
            .map_err(|error| impossible(error.to_string()))?;
        let matters = |problem: &&InvalidPolicy| {
            !(any_pepper && matches!(problem, InvalidPolicy::UnknownPepper { .. }))
        };
        let problems: HashMap<_, _> = snapshot
            .services()
            .filter_map(|service| Some((service.uid(), service.problem().filter(matters)?)))
            .collect();
        match self.services.iter().find_map(|(uid, place, _)| Some((place, problems.get(uid)?))) {
            Some((place, problem)) => Err(refusal(place, problem)),
            None => Ok(snapshot),
        }
    }
}

/// A gate would be Undecided for such a service. Where a file is all there is, it is refused instead.
fn refusal(place: &ServicePlace, problem: &InvalidPolicy) -> FileError {
    match problem {
        InvalidPolicy::UnknownPepper { pepper_id, .. } => place.error(format!(
            "its keys are digested under pepper `{pepper_id}`, which is not given here (--pepper-file)"
        )),
        other => place.error(other.to_string()),
    }
}

fn refuse_what_gates_ignore(service: &shape::Service, place: &ServicePlace) -> Result<(), FileError> {
    const OF_A_WORKSPACE: &str = "this is for a workspace: no gate knows of it";
    match (&service.description, &service.tags) {
        (Some(text), _) => Err(place.field(text, "description", OF_A_WORKSPACE)),
        (None, Some(tags)) => Err(place.field(tags, "tags", OF_A_WORKSPACE)),
        (None, None) => Ok(()),
    }
}

/// By default the name: who has no workspace makes no service again under the name of another.
fn uid(service: &shape::Service, common: &Common, place: &ServicePlace) -> Result<ServiceUid, FileError> {
    let (text, field) = match &service.uid {
        Some(uid) => (uid, "uid"),
        None => (&service.name, "name"),
    };
    let text_of = if service.uid.is_some() { text.value.as_str() } else { common.name.as_str() };
    text_of.parse().map_err(|rule| place.field(text, field, format!("{rule}")))
}

fn content(
    service: &shape::Service,
    common: &Common,
    uid: &ServiceUid,
    place: &ServicePlace,
) -> Result<wire::ServicePolicy, FileError> {
    let (primary, secondary) = match &service.keys {
        Some(keys) => key_digests(keys, uid, place)?,
        None => (None, None),
    };
    Ok(wire::ServicePolicy {
        compute_type: compute_type(common.compute_type).into(),
        auth_mode: auth_mode(common.auth_mode).into(),
        primary,
        secondary,
        tokens_not_before: service.tokens_not_before.as_ref().map_or(0, |time| time.value),
        hosts: common.hosts.clone(),
        path_prefixes: common.path_prefixes.clone(),
        ..wire::ServicePolicy::default()
    })
}

type Digests = (Option<wire::KeyDigest>, Option<wire::KeyDigest>);

/// Both slots. The core wants two different digests, and has no word for an empty slot, since a lost digest must not
/// pass for one: where the file has one key, the other slot gets what no key digests to.
fn key_digests(
    keys: &Spanned<shape::Keys>,
    uid: &ServiceUid,
    place: &ServicePlace,
) -> Result<Digests, FileError> {
    let read = |slot: Slot, digest: &Option<Spanned<shape::Digest>>| {
        digest.as_ref().map(|digest| key_digest(&digest.value, slot, place)).transpose()
    };
    let primary = read(Slot::Primary, &keys.value.primary)?;
    let secondary = read(Slot::Secondary, &keys.value.secondary)?;
    match (primary, secondary) {
        (None, None) => Err(place.field(keys, "keys", "there is neither a primary nor a secondary key")),
        (Some(one), None) => {
            let none = of_no_key(uid, Slot::Secondary, &one);
            Ok((Some(one), Some(none)))
        }
        (None, Some(other)) => {
            let none = of_no_key(uid, Slot::Primary, &other);
            Ok((Some(none), Some(other)))
        }
        (Some(primary), Some(secondary)) if primary.digest == secondary.digest => {
            Err(place.field(keys, "keys", InvalidPolicy::EqualKeys.to_string()))
        }
        both => Ok(both),
    }
}

fn key_digest(
    digest: &shape::Digest,
    slot: Slot,
    place: &ServicePlace,
) -> Result<wire::KeyDigest, FileError> {
    let wrong =
        |text: &Text, field: &str, rule| Err(place.field(text, &format!("keys.{slot}.{field}"), rule));
    let Some(bytes) = hex_bytes(&digest.digest.value).filter(|bytes| bytes.len() == 32) else {
        return wrong(&digest.digest, "digest", "a digest has 64 hexadecimal digits");
    };
    if bytes.iter().all(|byte| *byte == 0) {
        return wrong(&digest.digest, "digest", "no key has a digest of zeros");
    }
    let pepper_id = &digest.pepper_id;
    if pepper_id.value.len() != 16 || hex_bytes(&pepper_id.value).is_none() {
        return wrong(pepper_id, "pepperId", "the id of a pepper has 16 hexadecimal digits");
    }
    Ok(wire::KeyDigest { digest: bytes, pepper_id: pepper_id.value.to_ascii_lowercase() })
}

/// A digest that is no key's: to find a key that has it is to invert HMAC-SHA-256. The same for the same file, so that
/// the state hashes of gates can be compared.
fn of_no_key(uid: &ServiceUid, slot: Slot, other: &wire::KeyDigest) -> wire::KeyDigest {
    let mut context = Context::new(&SHA256);
    context.update(b"scoregate slot without a key");
    for part in [uid.as_str(), slot.as_str(), &other.pepper_id] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.update(&other.digest);
    wire::KeyDigest { digest: context.finish().as_ref().to_vec(), pepper_id: other.pepper_id.clone() }
}

fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<_> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).ok();
    if digits.len() % 2 == 1 { None } else { digits.chunks(2).map(byte).collect() }
}

#[cfg(test)]
mod tests;
