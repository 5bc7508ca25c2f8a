//! The two keys of a service.

use std::sync::Arc;

use scoregate_authz::{PlainKey, ServiceUid, Slot};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::audit::{self, Origin};
use super::directory::IssuingService;
use super::domain::{KeyPair, ListedKeys, NewKey, Operation, Principal, ServiceRecord, WorkspaceError};
use super::issues::IssueEvent;
use super::keyring::{Keyring, KeyringError, Location, Sealed};
use super::services::{check_keys, refusal};
use super::store::{Change, ServiceWrite, StoreError};
use super::{Workspace, policy, timestamp};
use crate::terms::AuditAction;

impl Workspace {
    /// Both keys of a service, in whatever mode it is, to be handed out to a principal.
    ///
    /// # Errors
    /// There is no service of this name.
    pub fn list_keys(&self, name: &str, principal: &Principal) -> Result<ListedKeys, WorkspaceError> {
        let service = self.issuing_service(name)?;
        let keys = self.plain_keys(&service)?;
        let issue = service.issue(IssueEvent::KeysListed);
        self.note_issue(&issue, principal);
        Ok(ListedKeys { keys, issue })
    }

    /// Both keys of a service, to be compared with others: who hands them out uses [`Workspace::list_keys`].
    ///
    /// # Errors
    /// There is no service of this name.
    pub fn keys(&self, name: &str) -> Result<KeyPair, WorkspaceError> {
        self.plain_keys(&*self.issuing_service(name)?)
    }

    fn plain_keys(&self, service: &IssuingService) -> Result<KeyPair, WorkspaceError> {
        if let Some(keys) = service.keys.plain.get() {
            return Ok(keys.clone());
        }
        let keys = self.open_keys(&service.uid, &service.keys.sealed)?;
        Ok(service.keys.plain.get_or_init(|| keys).clone())
    }

    /// A service, as far as issuing for it goes.
    pub(super) fn issuing_service(&self, name: &str) -> Result<Arc<IssuingService>, WorkspaceError> {
        let service = self.inner.directory.service(name);
        service.ok_or_else(|| WorkspaceError::UnknownService(name.to_owned()))
    }

    /// Replaces one key; the other goes on working. The operation tells when no gate accepts the old one any more.
    ///
    /// # Errors
    /// There is no service of this name, the other key is the same, or the present one is not the expected one.
    pub async fn regenerate_key(
        &self,
        origin: &Origin,
        name: &str,
        slot: Slot,
        new: NewKey,
    ) -> Result<Operation, WorkspaceError> {
        let (expected, chosen) = match new {
            NewKey::Random => (None, None),
            NewKey::RandomFor(expected) => (Some(expected), None),
            NewKey::Chosen(chosen) => (None, Some(chosen)),
        };
        let details = audit::details([("slot", slot.as_str().into()), ("chosen", chosen.is_some().into())]);
        let key = chosen_or_new(chosen)?;
        let turn = self.turn(origin).await?;
        let before = self.stored_service(name).await?;
        let mut keys = self.keys_of(&before).await?;
        let replaced = match slot {
            Slot::Primary => std::mem::replace(&mut keys.primary, key),
            Slot::Secondary => std::mem::replace(&mut keys.secondary, key),
        };
        if expected.is_some_and(|expected| expected.expose_secret() != replaced.expose()) {
            return Err(WorkspaceError::StaleKey { name: before.name, slot });
        }
        check_keys(&before.name, &keys)?;
        let record = ServiceRecord { updated_at: timestamp(self.now()), ..before.clone() };
        let effect = format!("the {slot} key of `{}` has changed", before.name);
        let operation = self.service_operation(origin, "RegenerateKeys", &before.name, effect);
        let audit = self.service_record(origin, AuditAction::KeyRegenerated, &record, details);
        let change = Change {
            keys: vec![(record.uid.clone(), self.seal_keys(&record.uid, &keys)?)],
            entries: vec![policy::service_entry(&record, &keys, &self.inner.pepper)],
            services: vec![ServiceWrite::Update { record: Box::new(record), expected: before.revision }],
            operation: Some(operation.clone()),
            ..Change::recorded(vec![audit])
        };
        let committed = self.commit(turn, change).await.map_err(refusal)?;
        Ok(committed.operation.unwrap_or(operation.operation))
    }

    /// The keys of a service that was read, as the store has them. `UnknownService` if it has been deleted since.
    pub(super) async fn keys_of(&self, service: &ServiceRecord) -> Result<KeyPair, WorkspaceError> {
        let sealed = self.inner.store.sealed_keys(&service.uid).await?;
        let sealed = sealed.ok_or_else(|| WorkspaceError::UnknownService(service.name.to_string()))?;
        self.open_keys(&service.uid, &sealed)
    }

    fn open_keys(&self, uid: &ServiceUid, sealed: &[u8]) -> Result<KeyPair, WorkspaceError> {
        let keys = open(&self.inner.keyring, uid, sealed)?;
        keys.ok_or_else(|| StoreError::Corrupt { column: "sealed" }.into())
    }

    pub(super) fn seal_keys(&self, uid: &ServiceUid, keys: &KeyPair) -> Result<Sealed, WorkspaceError> {
        // A key has no line break: it is a b64token.
        let pair = Zeroizing::new(format!("{}\n{}", keys.primary.expose(), keys.secondary.expose()));
        Ok(self.inner.keyring.seal(location(uid), pair.as_bytes())?)
    }
}

/// Both keys of a service; `None` where what was sealed is something else.
pub(super) fn open(
    keyring: &Keyring,
    uid: &ServiceUid,
    sealed: &[u8],
) -> Result<Option<KeyPair>, KeyringError> {
    Ok(read_pair(&keyring.open(location(uid), sealed)?))
}

fn read_pair(secret: &[u8]) -> Option<KeyPair> {
    let (primary, secondary) = str::from_utf8(secret).ok()?.split_once('\n')?;
    Some(KeyPair { primary: PlainKey::choose(primary).ok()?, secondary: PlainKey::choose(secondary).ok()? })
}

fn location(uid: &ServiceUid) -> Location<'_> {
    Location { table: "service_keys", row: uid.as_str(), column: "sealed" }
}

pub(super) fn chosen_or_new(chosen: Option<PlainKey>) -> Result<PlainKey, WorkspaceError> {
    if let Some(chosen) = chosen {
        return Ok(chosen);
    }
    let mut failed = false;
    let key = PlainKey::generate(|bytes| {
        // Any bytes let `generate` end; a key of them is thrown away.
        bytes.fill(0);
        failed |= aws_lc_rs::rand::fill(bytes).is_err();
    });
    if failed { Err(KeyringError::Crypto.into()) } else { Ok(key) }
}

impl From<KeyringError> for WorkspaceError {
    fn from(error: KeyringError) -> Self {
        Self::Store(error.into())
    }
}
