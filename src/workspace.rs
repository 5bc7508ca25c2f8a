//! The workspace: owns services, keys and tokens, and streams policy to the gates.

mod domain;
pub mod http;

use std::sync::Arc;
use std::time::Duration;

use scoregate_authz::{PlainKey, Slot};
use secrecy::SecretString;
use uuid::Uuid;

use crate::admin::Health;
use crate::clock::Clock;
use crate::config::{WorkspaceConfig, WorkspaceScope};
use crate::listen::Listener;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

pub use domain::{
    AuthFlags, IssuedToken, KeyPair, NewService, Operation, OperationState, Order, Page, Patch, Principal,
    Role, ServiceFilter, ServiceRecord, WorkspaceError,
};

/// Why a workspace could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// To come.
    #[error("to come")]
    ToCome,
}

/// A workspace. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Workspace;

#[expect(clippy::unimplemented, clippy::unused_async, unused_variables, reason = "the bodies follow")]
impl Workspace {
    /// Opens it, and makes it on first start.
    ///
    /// # Errors
    /// What keeps it from being opened.
    pub async fn open(
        config: &WorkspaceConfig,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Self, OpenError> {
        unimplemented!()
    }

    /// Made on first start.
    #[must_use]
    pub fn id(&self) -> Uuid {
        unimplemented!()
    }

    /// Where it stands in Azure's tree of resources.
    #[must_use]
    pub fn scope(&self) -> &WorkspaceScope {
        unimplemented!()
    }

    /// The `iss` of its tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        unimplemented!()
    }

    /// Who holds this credential.
    pub async fn authenticate(&self, bearer: &str) -> Result<Option<Principal>, WorkspaceError> {
        unimplemented!()
    }

    /// A part of the list of services.
    pub async fn services(
        &self,
        filter: &ServiceFilter,
        page_size: u32,
        from: Option<&str>,
    ) -> Result<Page<ServiceRecord>, WorkspaceError> {
        unimplemented!()
    }

    /// One service.
    pub async fn service(&self, name: &str) -> Result<ServiceRecord, WorkspaceError> {
        unimplemented!()
    }

    /// Makes a service.
    pub async fn create_service(
        &self,
        new: NewService,
    ) -> Result<(ServiceRecord, Operation), WorkspaceError> {
        unimplemented!()
    }

    /// Changes a service.
    pub async fn update_service(&self, name: &str, patch: Patch) -> Result<ServiceRecord, WorkspaceError> {
        unimplemented!()
    }

    /// Deletes a service; `None` if there was none.
    pub async fn delete_service(&self, name: &str) -> Result<Option<Operation>, WorkspaceError> {
        unimplemented!()
    }

    /// Both keys.
    pub async fn keys(&self, name: &str) -> Result<KeyPair, WorkspaceError> {
        unimplemented!()
    }

    /// Replaces one key.
    pub async fn regenerate_key(
        &self,
        name: &str,
        slot: Slot,
        chosen: Option<PlainKey>,
    ) -> Result<Operation, WorkspaceError> {
        unimplemented!()
    }

    /// A token for the service.
    pub async fn issue_token(
        &self,
        name: &str,
        principal: &Principal,
        lifetime: Option<Duration>,
    ) -> Result<IssuedToken, WorkspaceError> {
        unimplemented!()
    }

    /// One operation.
    pub async fn operation(&self, id: Uuid) -> Result<Operation, WorkspaceError> {
        unimplemented!()
    }

    /// All principals, by name.
    pub async fn principals(&self) -> Result<Vec<Principal>, WorkspaceError> {
        unimplemented!()
    }

    /// Makes a principal, with its credential.
    pub async fn create_principal(
        &self,
        name: &str,
        role: Role,
    ) -> Result<(Principal, SecretString), WorkspaceError> {
        unimplemented!()
    }

    /// Deletes a principal.
    pub async fn delete_principal(&self, name: &str) -> Result<(), WorkspaceError> {
        unimplemented!()
    }

    /// (Re)creates the principal `owner` with a new credential.
    pub async fn reset_owner(&self) -> Result<SecretString, WorkspaceError> {
        unimplemented!()
    }

    /// Makes the principal `owner` where there is no owner; `None` if there is one.
    pub async fn ensure_owner(&self) -> Result<Option<SecretString>, WorkspaceError> {
        unimplemented!()
    }

    /// The public keys that prove its tokens, as a JSON Web Key Set.
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        unimplemented!()
    }

    /// Serves the policy feed and ends what has run out, until the shutdown.
    pub async fn run(&self, feed: Listener, health: Health, shutdown: Shutdown) {
        unimplemented!()
    }
}
