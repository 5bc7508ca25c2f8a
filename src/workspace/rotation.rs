//! The life of signing keys: a key is published to the gates before it signs, signs, is retired until its last token has
//! expired, and is then dropped. A key that was withdrawn is gone at once, and its tokens with it.
//!
//! Where a key is in its life is in the store: after a restart it goes on from there, and no key that has begun to sign
//! makes way for the one before it.

use std::cmp::max;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use scoregate_authz::{MAX_CLOCK_SKEW, TokenAlgorithm, UnixTime, Version};
use zeroize::Zeroizing;

use super::audit::{self, AuditTarget, Details, Origin};
use super::domain::{Operation, OperationTarget, WorkspaceError};
use super::services::refusal;
use super::signer::{self, SigningError, SigningKey};
use super::signing_keys::{HeldKey, SigningKeyState, SigningKeyStatus, SigningKeys};
use super::store::{Change, EntryWrite, SigningKeyRow, SigningKeyWrite, StoreError};
use super::{Turn, Workspace, opening, policy, sessions, timestamp};
use crate::terms::AuditAction;

/// For how long the next key is published before it signs, when keys are replaced by age: time for gates that are cut off
/// from the workspace, as long as these decide without it.
const LEAD: Duration = Duration::from_hours(24);
/// For how long a retired key is kept beyond the expiry of its last token by its own clock: gates tolerate clocks that
/// differ, and a new token may be stamped some seconds ahead.
const LEEWAY: Duration = Duration::from_secs(60).saturating_add(MAX_CLOCK_SKEW);
/// More than a key can take at once.
const MOST_STEPS: usize = 16;

/// What is to be done with a signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// It is not needed any more.
    Drop(String),
    /// It signs from now on.
    Activate(String),
    /// The next one is made.
    Publish { signs_from: UnixTime },
}

/// What the next step depends on, beside the keys.
#[derive(Debug)]
struct Rules {
    now: UnixTime,
    /// Of new keys.
    algorithm: TokenAlgorithm,
    /// The age at which a key makes way; `None` for never.
    rotation: Option<Duration>,
    /// What gates have to learn a key that is to sign soon.
    enforcement_timeout: Duration,
}

impl Rules {
    /// The next step, if there is one. `is_known` tells whether the gates have a key.
    fn next_step(&self, keys: &SigningKeys, is_known: impl Fn(&HeldKey) -> bool) -> Option<Step> {
        let is_over = |key: &&HeldKey| match key.state {
            SigningKeyState::Retired { until, .. } => self.now >= unix_time(until),
            // It was made for another configuration, and has signed nothing.
            SigningKeyState::Published { .. } => key.key.algorithm != self.algorithm,
            SigningKeyState::Signing { .. } => false,
        };
        if let Some(key) = keys.all().iter().find(is_over) {
            return Some(Step::Drop(key.id().to_owned()));
        }
        match keys.published() {
            Some(key) => {
                let SigningKeyState::Published { signs_from, .. } = key.state else { return None };
                let is_ready = self.now >= unix_time(signs_from) && is_known(key);
                is_ready.then(|| Step::Activate(key.id().to_owned()))
            }
            None => self.next_key(keys.signing()),
        }
    }

    fn next_key(&self, signing: &HeldKey) -> Option<Step> {
        if signing.key.algorithm != self.algorithm {
            return Some(Step::Publish { signs_from: self.now + self.enforcement_timeout });
        }
        let rotation = self.rotation?;
        let lead = max(LEAD.min(rotation / 10), self.enforcement_timeout);
        let due = unix_time(signing.state.since()) + rotation;
        let is_time = self.now + lead >= due;
        is_time.then(|| Step::Publish { signs_from: max(due, self.now + lead) })
    }
}

/// A key that was just made, in no state yet.
struct NewKey {
    key: SigningKey,
    pkcs8: Zeroizing<Vec<u8>>,
}

/// Keys as they will be, and the change that makes them so.
struct Edit {
    keys: Vec<HeldKey>,
    change: Change,
}

impl Edit {
    fn of(keys: &SigningKeys) -> Self {
        Self { keys: keys.all().to_vec(), change: Change::recorded(Vec::new()) }
    }

    fn set(&mut self, id: &str, state: SigningKeyState) {
        if let Some(held) = self.keys.iter_mut().find(|held| held.id() == id) {
            held.state = state;
            self.change.signing_keys.push(SigningKeyWrite::Update {
                id: id.to_owned(),
                state,
                longest_lifetime: held.longest_lifetime,
            });
        }
    }

    fn remove(&mut self, id: &str) {
        self.keys.retain(|held| held.id() != id);
        self.change.signing_keys.push(SigningKeyWrite::Delete(id.to_owned()));
        self.change.entries.push(policy::verification_key_tombstone(id));
    }
}

impl Workspace {
    /// All signing keys, oldest first.
    #[must_use]
    pub fn signing_keys(&self) -> Vec<SigningKeyStatus> {
        let keys = self.inner.signing_keys.load();
        let status = |held: &HeldKey| SigningKeyStatus {
            id: held.id().to_owned(),
            algorithm: held.key.algorithm,
            created_at: held.key.created_at,
            state: held.state,
            waiting_for: self.unaware_of(held),
        };
        keys.all().iter().map(status).collect()
    }

    /// Publishes a new signing key, which signs as soon as the gates know it; the present one stays trusted until its last
    /// token has expired. One that is published already is not to wait for its time. The operation tells when every gate
    /// knows it.
    ///
    /// # Errors
    /// The store failed, or no key could be made.
    pub async fn rotate_signing_key(&self, origin: &Origin) -> Result<Operation, WorkspaceError> {
        let is_needed = self.inner.signing_keys.load().published().is_none();
        let made = if is_needed { Some(self.make_signing_key().await?) } else { None };
        let turn = self.turn(origin).await?;
        let keys = self.inner.signing_keys.load_full();
        let mut edit = Edit::of(&keys);
        let signs_from = self.now() + self.inner.enforcement_timeout;
        let id = match (keys.published(), made) {
            (Some(published), _) => {
                self.hasten(&mut edit, origin, published, timestamp(signs_from));
                published.id().to_owned()
            }
            (None, Some(made)) => self.publish_key(&mut edit, origin, made, signs_from)?,
            // It came to sign in the meantime.
            (None, None) => {
                self.publish_key(&mut edit, origin, self.make_signing_key().await?, signs_from)?
            }
        };
        let effect = format!("the signing key `{id}` has been published");
        self.commit_operation(turn, edit, origin, "RotateSigningKey", id, effect).await
    }

    /// Withdraws a signing key: with the next revision no gate accepts its tokens, and sessions that it signed are over. If
    /// it signs, the published one takes over at once, or a new one. The operation tells when every gate refuses it.
    ///
    /// # Errors
    /// There is none of this id, the store failed, or no key could be made.
    pub async fn withdraw_signing_key(&self, origin: &Origin, id: &str) -> Result<Operation, WorkspaceError> {
        let turn = self.turn(origin).await?;
        let keys = self.inner.signing_keys.load_full();
        let unknown = || WorkspaceError::UnknownSigningKey(id.to_owned());
        let withdrawn = keys.with_id(id).ok_or_else(unknown)?;
        let mut edit = Edit::of(&keys);
        edit.remove(id);
        let state = audit::details([("state", withdrawn.state.as_str().into())]);
        self.note_key(&mut edit, origin, AuditAction::SigningKeyWithdrawn, id, state);
        if keys.signing().id() == id {
            match keys.published() {
                Some(successor) => self.activate(&mut edit, origin, successor.id()),
                None => self.begin_anew(&mut edit, origin, self.make_signing_key().await?)?,
            }
        }
        let effect = format!("the signing key `{id}` has been withdrawn");
        let operation =
            self.commit_operation(turn, edit, origin, "WithdrawSigningKey", id.to_owned(), effect).await?;
        self.inner.tokens.forget_signed_by(id);
        Ok(operation)
    }

    /// Takes the steps that are due, as far as they can be taken. [`Workspace::run`] does it all the time.
    pub async fn advance_signing_keys(&self) {
        self.show_signing_keys();
        if self.store_problem().is_some() {
            return;
        }
        for _ in 0..MOST_STEPS {
            match self.take_step().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "a step in the life of a signing key failed: it is tried again");
                    return;
                }
            }
        }
    }

    /// Takes one step; `false` if none is due.
    async fn take_step(&self) -> Result<bool, WorkspaceError> {
        let origin = Origin::local();
        let made = match self.next_step() {
            None => return Ok(false),
            // Before the turn is taken: an RSA key takes a while.
            Some(Step::Publish { .. }) => Some(self.make_signing_key().await?),
            Some(_) => None,
        };
        let turn = self.turn(&origin).await?;
        let keys = self.inner.signing_keys.load_full();
        let mut edit = Edit::of(&keys);
        match (self.next_step(), made) {
            (Some(Step::Drop(id)), _) => {
                edit.remove(&id);
                self.note_key(&mut edit, &origin, AuditAction::SigningKeyDropped, &id, audit::details([]));
            }
            (Some(Step::Activate(id)), _) => {
                self.retire(&mut edit, &origin, keys.signing());
                self.activate(&mut edit, &origin, &id);
            }
            (Some(Step::Publish { signs_from }), Some(made)) => {
                self.publish_key(&mut edit, &origin, made, signs_from)?;
            }
            // Somebody else was faster.
            (None, _) | (Some(Step::Publish { .. }), None) => return Ok(true),
        }
        self.commit_edit(turn, edit).await?;
        Ok(true)
    }

    fn next_step(&self) -> Option<Step> {
        let inner = &self.inner;
        let rules = Rules {
            now: self.now(),
            algorithm: inner.token_algorithm,
            rotation: inner.signing_key_rotation,
            enforcement_timeout: inner.enforcement_timeout,
        };
        rules.next_step(&inner.signing_keys.load(), |key| self.unaware_of(key).is_empty())
    }

    fn unaware_of(&self, key: &HeldKey) -> Vec<String> {
        let version = Version { revision: key.revision, ..self.image().version() };
        let mut gates = self.inner.gates.unaware_of(version, self.now());
        gates.sort();
        gates
    }

    fn publish_key(
        &self,
        edit: &mut Edit,
        origin: &Origin,
        made: NewKey,
        signs_from: UnixTime,
    ) -> Result<String, WorkspaceError> {
        let since = timestamp(self.now());
        let signs_from = timestamp(signs_from);
        self.add_key(edit, origin, made, SigningKeyState::Published { since, signs_from })
    }

    fn begin_anew(&self, edit: &mut Edit, origin: &Origin, made: NewKey) -> Result<(), WorkspaceError> {
        let since = timestamp(self.now());
        self.add_key(edit, origin, made, SigningKeyState::Signing { since })?;
        Ok(())
    }

    fn add_key(
        &self,
        edit: &mut Edit,
        origin: &Origin,
        NewKey { key, pkcs8 }: NewKey,
        state: SigningKeyState,
    ) -> Result<String, WorkspaceError> {
        let id = key.id.clone();
        let row = SigningKeyRow {
            id: id.clone(),
            algorithm: key.algorithm,
            jwk: key.jwk.to_string(),
            sealed: self.inner.keyring.seal(opening::signing_key(&id), &pkcs8)?,
            created_at: key.created_at,
            revision: 0,
            state,
            longest_lifetime: self.inner.token_lifetime,
        };
        let details =
            audit::details([("algorithm", key.algorithm.as_str().into()), ("state", state.as_str().into())]);
        self.note_key(edit, origin, AuditAction::SigningKeyCreated, &id, details);
        edit.change.entries.push(self.key_entry(&key));
        edit.change.signing_keys.push(SigningKeyWrite::Create(row));
        edit.keys.push(HeldKey {
            key: Arc::new(key),
            state,
            // The store gives this one, or refuses the commit.
            revision: self.image().version().revision + 1,
            longest_lifetime: self.inner.token_lifetime,
        });
        Ok(id)
    }

    fn hasten(&self, edit: &mut Edit, origin: &Origin, key: &HeldKey, at: Timestamp) {
        edit.change.entries.push(self.key_entry(&key.key));
        match key.state {
            SigningKeyState::Published { since, signs_from } if at < signs_from => {
                edit.set(key.id(), SigningKeyState::Published { since, signs_from: at });
                let details = audit::details([("signsFrom", at.to_string().into())]);
                self.note_key(edit, origin, AuditAction::SigningKeyHastened, key.id(), details);
            }
            _ => {}
        }
    }

    fn activate(&self, edit: &mut Edit, origin: &Origin, id: &str) {
        edit.set(id, SigningKeyState::Signing { since: timestamp(self.now()) });
        self.note_key(edit, origin, AuditAction::SigningKeyActivated, id, audit::details([]));
    }

    fn retire(&self, edit: &mut Edit, origin: &Origin, key: &HeldKey) {
        let now = self.now();
        let until = timestamp(now + max(key.longest_lifetime, sessions::LIFETIME) + LEEWAY);
        edit.set(key.id(), SigningKeyState::Retired { since: timestamp(now), until });
        let details = audit::details([("until", until.to_string().into())]);
        self.note_key(edit, origin, AuditAction::SigningKeyRetired, key.id(), details);
    }

    fn note_key(&self, edit: &mut Edit, origin: &Origin, action: AuditAction, id: &str, details: Details) {
        let target = AuditTarget::SigningKey(id.to_owned());
        edit.change.audit.push(self.record(origin, action, target, details));
    }

    fn key_entry(&self, key: &SigningKey) -> EntryWrite {
        policy::verification_key_entry(key, &self.inner.issuer, self.inner.token_lifetime)
    }

    async fn make_signing_key(&self) -> Result<NewKey, WorkspaceError> {
        let (algorithm, created_at) = (self.inner.token_algorithm, timestamp(self.now()));
        let making = tokio::task::spawn_blocking(move || {
            let pkcs8 = signer::generate(algorithm)?;
            let key = SigningKey::from_pkcs8(algorithm, &pkcs8, created_at)?;
            Ok::<_, SigningError>(NewKey { key, pkcs8 })
        });
        Ok(making.await.map_err(|error| StoreError::Database(error.into()))??)
    }

    async fn commit_operation(
        &self,
        turn: Turn,
        mut edit: Edit,
        origin: &Origin,
        operation_type: &str,
        id: String,
        effect: String,
    ) -> Result<Operation, WorkspaceError> {
        let operation = self.new_operation(origin, operation_type, OperationTarget::SigningKey(id), effect);
        edit.change.operation = Some(operation.clone());
        let committed = self.commit_edit(turn, edit).await?;
        Ok(committed.unwrap_or(operation.operation))
    }

    async fn commit_edit(
        &self,
        turn: Turn,
        Edit { keys, change }: Edit,
    ) -> Result<Option<Operation>, WorkspaceError> {
        let keys = SigningKeys::new(keys).ok_or(StoreError::Corrupt { column: "state" })?;
        let steps: Vec<_> = change.audit.iter().map(|record| (record.action, record.target.name())).collect();
        let committed = self.commit_with_keys(turn, change, Some(keys)).await.map_err(refusal)?;
        for (action, key_id) in steps {
            tracing::info!(key_id, step = action.as_str(), revision = committed.revision, "signing keys");
        }
        Ok(committed.operation)
    }

    /// Uses these keys from now on.
    pub(super) fn hold_signing_keys(&self, keys: SigningKeys) {
        self.inner.signing_keys.store(Arc::new(keys));
        self.show_signing_keys();
    }

    fn show_signing_keys(&self) {
        let keys = self.inner.signing_keys.load();
        self.inner.series.show_signing_keys(&keys, self.now());
    }
}

pub(super) fn unix_time(time: Timestamp) -> UnixTime {
    Duration::from_millis(u64::try_from(time.as_millisecond()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);
    const NOW: UnixTime = Duration::from_secs(1_767_225_600);

    fn rules() -> Rules {
        Rules {
            now: NOW,
            algorithm: TokenAlgorithm::EdDsa,
            rotation: Some(30 * DAY),
            enforcement_timeout: Duration::from_secs(10),
        }
    }

    fn key(algorithm: TokenAlgorithm, state: SigningKeyState) -> HeldKey {
        let pkcs8 = signer::generate(algorithm).unwrap();
        let key = SigningKey::from_pkcs8(algorithm, &pkcs8, Timestamp::UNIX_EPOCH).unwrap();
        HeldKey { key: Arc::new(key), state, revision: 1, longest_lifetime: DAY / 2 }
    }

    fn signing(age: Duration) -> HeldKey {
        key(TokenAlgorithm::EdDsa, SigningKeyState::Signing { since: timestamp(NOW - age) })
    }

    fn published(signs_from: UnixTime) -> HeldKey {
        let since = timestamp(NOW - DAY);
        key(TokenAlgorithm::EdDsa, SigningKeyState::Published { since, signs_from: timestamp(signs_from) })
    }

    fn keys(keys: &[HeldKey]) -> SigningKeys {
        SigningKeys::new(keys.to_vec()).unwrap()
    }

    #[test]
    fn the_next_key_is_published_a_day_before_it_is_to_sign() {
        let millisecond = Duration::from_millis(1);
        assert_eq!(rules().next_step(&keys(&[signing(29 * DAY - millisecond)]), |_| true), None);
        let publish = |signs_from| Some(Step::Publish { signs_from });
        assert_eq!(rules().next_step(&keys(&[signing(29 * DAY)]), |_| true), publish(NOW + DAY));
        // The workspace was down for long: gates have their day nevertheless.
        assert_eq!(rules().next_step(&keys(&[signing(99 * DAY)]), |_| true), publish(NOW + DAY));
        let never = Rules { rotation: None, ..rules() };
        assert_eq!(never.next_step(&keys(&[signing(9999 * DAY)]), |_| true), None);
        let hourly = Rules { rotation: Some(Duration::from_secs(3600)), ..rules() };
        let soon = publish(NOW + Duration::from_secs(360));
        assert_eq!(hourly.next_step(&keys(&[signing(Duration::from_secs(3240))]), |_| true), soon);
    }

    #[test]
    fn a_published_key_signs_at_its_time_if_the_gates_know_it() {
        let old = signing(30 * DAY);
        let next = published(NOW);
        let activate = Some(Step::Activate(next.id().to_owned()));
        assert_eq!(rules().next_step(&keys(&[old.clone(), next.clone()]), |_| true), activate);
        assert_eq!(rules().next_step(&keys(&[old.clone(), next]), |_| false), None);
        let later = published(NOW + Duration::from_millis(1));
        assert_eq!(rules().next_step(&keys(&[old, later]), |_| true), None);
    }

    #[test]
    fn keys_of_another_algorithm_make_way_soon() {
        let old = key(TokenAlgorithm::Es256, SigningKeyState::Signing { since: timestamp(NOW) });
        let publish = Some(Step::Publish { signs_from: NOW + Duration::from_secs(10) });
        assert_eq!(rules().next_step(&keys(&[old]), |_| true), publish);
        // Published for a configuration that was changed back before it signed.
        let signs_from = timestamp(NOW);
        let stale = key(TokenAlgorithm::Es256, SigningKeyState::Published { since: signs_from, signs_from });
        let drop = Some(Step::Drop(stale.id().to_owned()));
        assert_eq!(rules().next_step(&keys(&[signing(DAY), stale]), |_| true), drop);
    }

    #[test]
    fn a_retired_key_is_dropped_at_its_time() {
        let retired = |until: UnixTime| {
            let since = timestamp(NOW - DAY);
            key(TokenAlgorithm::EdDsa, SigningKeyState::Retired { since, until: timestamp(until) })
        };
        let over = retired(NOW);
        let drop = Some(Step::Drop(over.id().to_owned()));
        assert_eq!(rules().next_step(&keys(&[over, signing(DAY)]), |_| true), drop);
        let not_yet = retired(NOW + Duration::from_millis(1));
        assert_eq!(rules().next_step(&keys(&[not_yet, signing(DAY)]), |_| true), None);
    }

    #[test]
    fn one_key_signs_and_one_at_most_is_published() {
        let (a, b) = (signing(DAY), published(NOW));
        assert!(SigningKeys::new(vec![]).is_none());
        assert!(SigningKeys::new(vec![b.clone()]).is_none());
        assert!(SigningKeys::new(vec![a.clone(), a.clone()]).is_none());
        assert!(SigningKeys::new(vec![a.clone(), b.clone(), b.clone()]).is_none());
        assert_eq!(SigningKeys::new(vec![b, a.clone()]).unwrap().signing().id(), a.id());
    }
}
