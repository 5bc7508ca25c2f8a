//! All services, as their keys and tokens are issued: from memory, so that clients get them while the store is away.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use scoregate_authz::{AuthMode, ServiceName, ServiceUid};

use super::domain::{KeyPair, ServiceRecord};
use super::issues::{Issue, IssueEvent};
use super::keyring::Sealed;
use super::store::{IssuingRow, ServiceWrite};

/// A service, as far as issuing for it goes.
#[derive(Debug)]
pub(super) struct IssuingService {
    pub(super) uid: ServiceUid,
    pub(super) name: ServiceName,
    pub(super) auth_mode: AuthMode,
    pub(super) tokens_not_before: u64,
    pub(super) keys: Arc<HeldKeys>,
}

impl IssuingService {
    /// What may be said of keys or a token of it that are handed out.
    pub(super) fn issue(&self, event: IssueEvent) -> Issue {
        Issue { event, service: self.name.clone(), uid: self.uid.clone() }
    }
}

/// Both keys of a service: sealed, and in plain text from their first use until they are replaced and so wiped.
#[derive(Debug)]
pub(super) struct HeldKeys {
    pub(super) sealed: Vec<u8>,
    pub(super) plain: OnceLock<KeyPair>,
}

impl HeldKeys {
    fn new(sealed: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { sealed, plain: OnceLock::new() })
    }
}

/// Services by name.
///
/// INVARIANT: what the store holds, as of the last commit that is known to have been done.
#[derive(Debug, Default)]
pub(super) struct Directory(DashMap<ServiceName, Arc<IssuingService>>);

impl Directory {
    pub(super) fn new(rows: Vec<IssuingRow>) -> Self {
        let directory = Self::default();
        directory.replace(rows);
        directory
    }

    /// The service of a name.
    pub(super) fn service(&self, name: &str) -> Option<Arc<IssuingService>> {
        self.0.get(name).map(|service| Arc::clone(&service))
    }

    /// Follows a commit of these writes, with the keys that it replaced.
    pub(super) fn apply(&self, writes: Vec<ServiceWrite>, keys: Vec<(ServiceUid, Sealed)>) {
        let mut replaced: HashMap<_, _> = keys.into_iter().collect();
        for write in writes {
            match write {
                ServiceWrite::Create(record) | ServiceWrite::Update { record, .. } => {
                    let keys = replaced.remove(&record.uid).map(|sealed| HeldKeys::new(sealed.bytes));
                    self.put(&record, keys);
                }
                ServiceWrite::Delete { name, .. } => drop(self.0.remove(&name)),
            }
        }
    }

    /// Becomes what the store holds. A service that stays is there all the while.
    pub(super) fn replace(&self, rows: Vec<IssuingRow>) {
        let names: HashSet<_> = rows.iter().map(|row| row.name.clone()).collect();
        for IssuingRow { uid, name, auth_mode, tokens_not_before, sealed } in rows {
            let keys = HeldKeys::new(sealed);
            let service = IssuingService { uid, name: name.clone(), auth_mode, tokens_not_before, keys };
            self.0.insert(name, Arc::new(service));
        }
        self.0.retain(|name, _| names.contains(name));
    }

    fn put(&self, record: &ServiceRecord, keys: Option<Arc<HeldKeys>>) {
        let kept = || self.service(record.name.as_str()).map(|before| Arc::clone(&before.keys));
        // A service that is not here was created with keys.
        let Some(keys) = keys.or_else(kept) else { return };
        let service = IssuingService {
            uid: record.uid.clone(),
            name: record.name.clone(),
            auth_mode: record.auth_mode,
            tokens_not_before: record.tokens_not_before,
            keys,
        };
        self.0.insert(record.name.clone(), Arc::new(service));
    }
}
