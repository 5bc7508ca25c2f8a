//! All principals by the hashes of their credentials: from memory, so that callers are known while the store is away.

use dashmap::DashMap;
use jiff::Timestamp;

use super::domain::Principal;
use super::store::CredentialHash;
use crate::terms::Role;

/// INVARIANT: what the store holds, as of the last write that is known to have been done.
#[derive(Debug)]
pub(super) struct Roster(DashMap<CredentialHash, Principal>);

impl Roster {
    pub(super) fn new(principals: Vec<(CredentialHash, Principal)>) -> Self {
        Self(principals.into_iter().collect())
    }

    /// Who has the credential of this hash. How long it takes depends on the hash only, and nobody can choose a credential
    /// by its hash.
    pub(super) fn with_credential(&self, hash: &CredentialHash) -> Option<Principal> {
        self.0.get(hash).map(|principal| principal.clone())
    }

    /// The hash of the credential of the principal of a name.
    pub(super) fn credential_of(&self, name: &str) -> Option<CredentialHash> {
        self.0.iter().find(|principal| principal.name == name).map(|principal| *principal.key())
    }

    /// All of them, by name.
    pub(super) fn list(&self) -> Vec<Principal> {
        let mut principals: Vec<_> = self.0.iter().map(|principal| principal.clone()).collect();
        principals.sort_by(|a, b| a.name.cmp(&b.name));
        principals
    }

    /// Whether the principal that was made then is still there, in that role.
    pub(super) fn has(&self, name: &str, role: Role, since: Timestamp) -> bool {
        let is_it = |one: &Principal| one.name == name && one.role == role && one.created_at == since;
        self.0.iter().any(|principal| is_it(&principal))
    }

    /// Whether there is a principal of this name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.0.iter().any(|principal| principal.name == name)
    }

    pub(super) fn has_owner(&self) -> bool {
        self.0.iter().any(|principal| principal.role == Role::Owner)
    }

    /// Adds a principal, in place of the one of its name.
    pub(super) fn put(&self, hash: CredentialHash, principal: Principal) {
        self.remove(&principal.name);
        self.0.insert(hash, principal);
    }

    /// Removes the principal of a name.
    pub(super) fn remove(&self, name: &str) {
        self.0.retain(|_, principal| principal.name != name);
    }

    /// Becomes what the store holds. Who stays is there all the while.
    pub(super) fn replace(&self, principals: Vec<(CredentialHash, Principal)>) {
        let now = Self::new(principals);
        self.0.retain(|hash, _| now.0.contains_key(hash));
        now.0.into_iter().for_each(|(hash, principal)| drop(self.0.insert(hash, principal)));
    }
}
