//! Uses of keys and tokens, as gates report them: whether an old key is still in use, before it is regenerated.

use dashmap::DashMap;
use jiff::Timestamp;
use scoregate_authz::{KeyFingerprint, ServiceUid, Slot, UsedCredential, Uses};

use super::domain::WorkspaceError;
use super::store::UseRow;
use super::{Workspace, policy, timestamp};
use crate::proto::scoregate::policy::v1 as wire;

/// Most rows that are written in one transaction: a change waits for it.
const ROWS_AT_ONCE: usize = 1_000;

/// How often a credential of a service was accepted, and when last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CredentialUse {
    /// How often, since the key was made. Tokens count together, since the service was made.
    pub count: u64,
    /// When last; `None` if never.
    pub last_used: Option<Timestamp>,
}

/// Uses of a service's credentials. A key that was regenerated takes its uses with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceUses {
    /// The workspace's time.
    pub as_of: Timestamp,
    /// Of the primary key.
    pub primary: CredentialUse,
    /// Of the secondary key.
    pub secondary: CredentialUse,
    /// Of all tokens.
    pub token: CredentialUse,
}

/// Uses by service. Bounded: gates report of services that exist, and of the keys that these have.
#[derive(Debug, Default)]
pub(super) struct UseReports(DashMap<ServiceUid, [Option<Held>; 3]>);

#[derive(Debug, Clone, Copy)]
struct Held {
    uses: Uses,
    /// Whether the store has them.
    stored: bool,
}

fn place(credential: UsedCredential) -> usize {
    match credential {
        UsedCredential::Key(Slot::Primary, _) => 0,
        UsedCredential::Key(Slot::Secondary, _) => 1,
        UsedCredential::Token => 2,
    }
}

impl UseReports {
    pub(super) fn new(rows: Vec<UseRow>) -> Self {
        let reports = Self::default();
        for UseRow { service, uses } in rows {
            let mut of_service = reports.0.entry(service).or_default();
            of_service[place(uses.credential)] = Some(Held { uses, stored: true });
        }
        reports
    }

    fn add(&self, service: ServiceUid, new: Uses) {
        let mut of_service = self.0.entry(service).or_default();
        let held = &mut of_service[place(new.credential)];
        // A key that takes the place of another one begins anew.
        let before = held.filter(|held| held.uses.credential == new.credential).map(|held| held.uses);
        let uses = Uses {
            count: before.map_or(0, |before| before.count).saturating_add(new.count),
            last_used: before.map_or(0, |before| before.last_used).max(new.last_used),
            ..new
        };
        *held = Some(Held { uses, stored: false });
    }

    fn of(&self, service: &ServiceUid, credential: UsedCredential) -> CredentialUse {
        let held = self.0.get(service).and_then(|of_service| of_service[place(credential)]);
        match held.filter(|held| held.uses.credential == credential) {
            None => CredentialUse { count: 0, last_used: None },
            Some(Held { uses, .. }) => {
                let last_used = Timestamp::from_second(i64::try_from(uses.last_used).unwrap_or_default());
                CredentialUse { count: uses.count, last_used: last_used.ok() }
            }
        }
    }

    /// Drops those of a service that is gone. A report that is under way may bring some back, under a uid that nobody asks
    /// for any more; the store does not take them.
    pub(super) fn forget(&self, service: &ServiceUid) {
        self.0.remove(service);
    }

    /// Those that the store does not have; it is taken to have them from now on.
    fn take_unstored(&self) -> Vec<UseRow> {
        let mut rows = Vec::new();
        for mut of_service in self.0.iter_mut() {
            let (service, held) = of_service.pair_mut();
            for held in held.iter_mut().flatten().filter(|held| !held.stored) {
                held.stored = true;
                rows.push(UseRow { service: service.clone(), uses: held.uses });
            }
        }
        rows
    }

    /// How many the store does not have.
    #[cfg(test)]
    pub(super) fn unstored(&self) -> usize {
        self.0.iter().map(|held| held.iter().flatten().filter(|held| !held.stored).count()).sum()
    }

    fn put_back(&self, rows: &[UseRow]) {
        for row in rows {
            if let Some(mut of_service) = self.0.get_mut(&row.service)
                && let Some(held) = &mut of_service[place(row.uses.credential)]
            {
                held.stored = false;
            }
        }
    }
}

impl Workspace {
    /// How often the credentials of a service were accepted, and when last, as far as gates have said so: they do within a
    /// minute.
    ///
    /// # Errors
    /// There is no service of this name.
    pub fn uses(&self, name: &str) -> Result<ServiceUses, WorkspaceError> {
        let (keys, service) = (self.keys(name)?, self.issuing_service(name)?);
        let key = |slot, key| {
            let fingerprint = self.inner.pepper.digest(&service.uid, key).fingerprint();
            self.inner.uses.of(&service.uid, UsedCredential::Key(slot, fingerprint))
        };
        Ok(ServiceUses {
            as_of: timestamp(self.now()),
            primary: key(Slot::Primary, &keys.primary),
            secondary: key(Slot::Secondary, &keys.secondary),
            token: self.inner.uses.of(&service.uid, UsedCredential::Token),
        })
    }

    /// Takes a gate's report. Of keys that are not in policy any more nothing is kept.
    pub(super) fn note_usage(&self, usage: wire::Usage) {
        self.inner.series.usage_reports.inc();
        for used in usage.uses {
            if let Some((service, uses)) = self.accepted(&used) {
                self.inner.uses.add(service, uses);
            }
        }
    }

    fn accepted(&self, used: &wire::CredentialUse) -> Option<(ServiceUid, Uses)> {
        let service: ServiceUid = used.service_uid.parse().ok()?;
        let image = self.image();
        let content = image.content(&policy::service_id(&service))?;
        let key = |slot| {
            let fingerprint = KeyFingerprint::from_bytes(&used.key_fingerprint)?;
            let current = policy::key_fingerprint(content, slot)?;
            (current == fingerprint).then_some(UsedCredential::Key(slot, fingerprint))
        };
        let credential = match used.kind() {
            wire::CredentialKind::PrimaryKey => key(Slot::Primary)?,
            wire::CredentialKind::SecondaryKey => key(Slot::Secondary)?,
            wire::CredentialKind::Token => UsedCredential::Token,
            wire::CredentialKind::Unspecified => return None,
        };
        let last_used = used.last_used.min(self.now().as_secs());
        Some((service, Uses { credential, count: used.count, last_used }))
    }

    /// Writes to the store what it does not have yet.
    pub(super) async fn keep_uses(&self) {
        if self.store_problem().is_some() {
            return;
        }
        let rows = self.inner.uses.take_unstored();
        for (index, some) in rows.chunks(ROWS_AT_ONCE).enumerate() {
            if let Err(error) = self.inner.store.keep_uses(some).await {
                self.inner.uses.put_back(&rows[index * ROWS_AT_ONCE..]);
                return self.note_failure(&error);
            }
        }
    }
}
