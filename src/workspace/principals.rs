//! Principals and their credentials.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::audit::{self, AuditRecord, AuditTarget, Origin};
use super::commits::to_its_end;
use super::domain::{Principal, WorkspaceError};
use super::keyring::KeyringError;
use super::store::{CredentialHash, PrincipalError};
use super::{Workspace, timestamp};
use crate::terms::{AuditAction, Role};

/// What every credential starts with. Secret scanners find them by it.
const CREDENTIAL_PREFIX: &str = "sgc_";
/// 192 bits.
const CREDENTIAL_BYTES: usize = 24;
const CREDENTIAL_LENGTH: usize = CREDENTIAL_PREFIX.len() + CREDENTIAL_BYTES.div_ceil(3) * 4;

/// The name of the principal that a workspace begins with.
const OWNER: &str = "owner";

impl Workspace {
    /// Who has this credential; `None` if nobody.
    #[must_use]
    pub fn authenticate(&self, bearer: &str) -> Option<Principal> {
        self.holder(bearer).map(|(_, principal)| principal)
    }

    /// The same with the credential's hash.
    pub(super) fn holder(&self, credential: &str) -> Option<(CredentialHash, Principal)> {
        if credential.len() != CREDENTIAL_LENGTH || !credential.starts_with(CREDENTIAL_PREFIX) {
            return None;
        }
        let hash = hash(credential);
        self.inner.roster.with_credential(&hash).map(|principal| (hash, principal))
    }

    /// Whether a principal is still there, with the role that it had.
    #[must_use]
    pub fn knows(&self, principal: &Principal) -> bool {
        principal.is_of_certificate()
            || self.inner.roster.has(&principal.name, principal.role, principal.created_at)
    }

    /// All principals, by name.
    #[must_use]
    pub fn principals(&self) -> Vec<Principal> {
        self.inner.roster.list()
    }

    /// Makes a principal. Its credential is shown this once: only a hash of it is kept.
    ///
    /// # Errors
    /// The name is taken or cannot be one.
    pub async fn create_principal(
        &self,
        origin: &Origin,
        name: &str,
        role: Role,
    ) -> Result<(Principal, SecretString), WorkspaceError> {
        check_name(name)?;
        let principal = self.new_principal(name, role);
        let credential = new_credential()?;
        let hash = hash(credential.expose_secret());
        let audit = self.principal_record(origin, AuditAction::PrincipalCreated, &principal);
        let (workspace, origin, new) = (self.clone(), origin.clone(), principal.clone());
        to_its_end(async move {
            let _turn = workspace.turn(&origin).await?;
            let created = workspace.inner.store.create_principal(&new, &hash, &audit).await;
            created.map_err(|error| workspace.refusal(error, &new.name))?;
            workspace.inner.roster.put(hash, new);
            Ok::<_, WorkspaceError>(())
        })
        .await?;
        tracing::info!(principal = name, role = role.as_str(), "principal created");
        Ok((principal, credential))
    }

    /// Deletes a principal. The feeds that it has open end.
    ///
    /// # Errors
    /// There is none of this name, or it is the last owner.
    pub async fn delete_principal(&self, origin: &Origin, name: &str) -> Result<(), WorkspaceError> {
        let target = AuditTarget::Principal(name.to_owned());
        // The store adds which role it had.
        let audit = self.record(origin, AuditAction::PrincipalDeleted, target, audit::details([]));
        let (workspace, origin, gone) = (self.clone(), origin.clone(), name.to_owned());
        let role = to_its_end(async move {
            let _turn = workspace.turn(&origin).await?;
            let deleted = workspace.inner.store.delete_principal(&gone, audit).await;
            let role = deleted.map_err(|error| workspace.refusal(error, &gone))?;
            workspace.inner.roster.remove(&gone);
            workspace.inner.issues.forget_principal(&gone);
            Ok::<_, WorkspaceError>(role)
        })
        .await?;
        if role == Role::Gate {
            self.inner.gates.end_where(|principal| principal == name);
        }
        tracing::info!(principal = name, role = role.as_str(), "principal deleted");
        Ok(())
    }

    /// Makes the principal `owner`, or gives it a new credential; the one before is refused from now on.
    ///
    /// # Errors
    /// The store failed.
    pub async fn reset_owner(&self, origin: &Origin) -> Result<SecretString, WorkspaceError> {
        let credential = self.write_owner(origin, AuditAction::OwnerReset).await?;
        tracing::warn!(principal = OWNER, "the owner's credential was replaced");
        Ok(credential)
    }

    /// Makes the principal `owner` where there is no owner, which is so on first start only. `None` if there is one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn ensure_owner(&self) -> Result<Option<SecretString>, WorkspaceError> {
        if self.inner.roster.has_owner() {
            return Ok(None);
        }
        self.write_owner(&Origin::local(), AuditAction::PrincipalCreated).await.map(Some)
    }

    async fn write_owner(
        &self,
        origin: &Origin,
        action: AuditAction,
    ) -> Result<SecretString, WorkspaceError> {
        let credential = new_credential()?;
        let principal = self.new_principal(OWNER, Role::Owner);
        let hash = hash(credential.expose_secret());
        let audit = self.principal_record(origin, action, &principal);
        let (workspace, origin) = (self.clone(), origin.clone());
        to_its_end(async move {
            let _turn = workspace.turn(&origin).await?;
            let written = workspace.inner.store.replace_principal(&principal, &hash, &audit).await;
            written.inspect_err(|error| workspace.note_failure(error))?;
            workspace.inner.roster.put(hash, principal);
            Ok::<_, WorkspaceError>(())
        })
        .await?;
        Ok(credential)
    }

    fn principal_record(&self, origin: &Origin, action: AuditAction, principal: &Principal) -> AuditRecord {
        let target = AuditTarget::Principal(principal.name.clone());
        self.record(origin, action, target, audit::details([("role", principal.role.as_str().into())]))
    }

    /// What a failed write means to whoever asked for it.
    fn refusal(&self, error: PrincipalError, name: &str) -> WorkspaceError {
        match error {
            PrincipalError::NameTaken => WorkspaceError::PrincipalExists(name.to_owned()),
            PrincipalError::Unknown => WorkspaceError::UnknownPrincipal(name.to_owned()),
            PrincipalError::LastOwner => WorkspaceError::LastOwner(name.to_owned()),
            PrincipalError::Store(error) => {
                self.note_failure(&error);
                error.into()
            }
        }
    }

    fn new_principal(&self, name: &str, role: Role) -> Principal {
        Principal { name: name.to_owned(), role, created_at: timestamp(self.now()) }
    }
}

/// Names go into tokens as `sub`, and into logs. In the audit one of them stands for nobody.
fn check_name(name: &str) -> Result<(), WorkspaceError> {
    let problem = match name {
        Origin::LOCAL => "this name is reserved: in the audit it stands for the workspace itself",
        _ if is_name(name) => return Ok(()),
        _ => {
            "the name of a principal has 1 to 64 letters, digits and `-._@`, and begins with a letter or a digit"
        }
    };
    Err(WorkspaceError::Invalid { field: "name".to_owned(), problem: problem.to_owned() })
}

/// Whether a principal could have this name. Not `.` and `..`, which are no segments of a URL's path.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._@".contains(&byte);
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(allowed)
}

fn new_credential() -> Result<SecretString, KeyringError> {
    let mut random = Zeroizing::new([0; CREDENTIAL_BYTES]);
    aws_lc_rs::rand::fill(&mut *random).map_err(|_| KeyringError::Crypto)?;
    let mut text = String::with_capacity(CREDENTIAL_LENGTH);
    text.push_str(CREDENTIAL_PREFIX);
    URL_SAFE_NO_PAD.encode_string(*random, &mut text);
    Ok(text.into())
}

fn hash(credential: &str) -> CredentialHash {
    let mut hash = CredentialHash::default();
    hash.copy_from_slice(digest(&SHA256, credential.as_bytes()).as_ref());
    hash
}
