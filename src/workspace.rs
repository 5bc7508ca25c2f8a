//! The workspace: owns services, keys and tokens, and streams policy to the gates.
//!
//! A change is stored in one transaction, which gives it a revision; then the image of policy in memory follows, and
//! from it the feed. Nothing is published that is not stored.

mod audit;
mod backup;
mod commits;
mod condition;
mod directory;
mod domain;
mod feed;
mod gates;
pub mod http;
mod image;
mod issues;
mod keyring;
mod keys;
mod opening;
mod operations;
mod policy;
mod principals;
mod propagation;
mod roster;
mod rotation;
mod series;
mod services;
mod sessions;
mod shadow;
mod signer;
mod signing_keys;
mod statements;
mod store;
#[cfg(test)]
mod tests;
mod tokens;
mod uses;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use scoregate_authz::{Pepper, TokenAlgorithm, UnixTime, Version};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use uuid::{ContextV7, Uuid};

use crate::admin::Health;
use crate::clock::Clock;
use crate::config::{WorkspaceConfig, WorkspaceScope};
use crate::listen::Listener;
use crate::metrics::Metrics;
use crate::proto::scoregate::policy::v1 as wire;
use crate::shutdown::Shutdown;
use crate::tls::ServerTls;
use commits::Turn;
use condition::Condition;
use directory::Directory;
use gates::Gates;
use image::Image;
use issues::Issues;
use keyring::Keyring;
use operations::Operations;
use propagation::Propagation;
use roster::Roster;
use series::Series;
use sessions::Sessions;
use shadow::Shadows;
use signing_keys::SigningKeys;
use statements::Statements;
use store::Store;
use tokens::Tokens;
use uses::UseReports;

pub use crate::terms::{AuditAction, Role};
pub use audit::{AuditEntry, AuditFilter, AuditRecord, AuditTarget, AuditedService, Origin};
pub use backup::{BackedUp, BackupError, Restore, RestoreError, Restored, UnusableBackup, back_up};
pub use domain::{
    AuthFlags, IssuedToken, KeyPair, ListedKeys, NewKey, NewService, Operation, OperationState,
    OperationTarget, Order, Page, Patch, Principal, ServiceFilter, ServiceRecord, WorkspaceError,
};
pub use gates::{GateNack, GateStatus, Presence};
pub use issues::{Issue, IssueCount, IssueEvent, PrincipalIssues, ServiceIssues};
pub use keyring::KeyringError;
pub use opening::OpenError;
pub use sessions::Session;
pub use signer::SigningError;
pub use signing_keys::{SigningKeyState, SigningKeyStatus};
pub use store::StoreError;
pub use uses::{CredentialUse, ServiceUses};

/// How often it is looked whether an operation's time is over.
const OPERATIONS_TICK: Duration = Duration::from_millis(100);
/// How often it is looked whether a signing key's time has come.
const SIGNING_KEYS_TICK: Duration = Duration::from_millis(500);
/// How often what is old is thrown away.
const CLEANING_TICK: Duration = Duration::from_secs(60);

/// A workspace. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Workspace {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: Uuid,
    scope: WorkspaceScope,
    issuer: String,
    token_refresh_after: Duration,
    token_lifetime: Duration,
    enforcement_timeout: Duration,
    pepper: Pepper,
    clock: Arc<dyn Clock>,
    ids: Ids,
    store: Arc<dyn Store>,
    keyring: Keyring,
    /// Read for each token.
    signing_keys: ArcSwap<SigningKeys>,
    token_algorithm: TokenAlgorithm,
    /// `None` for never.
    signing_key_rotation: Option<Duration>,
    statements: Statements,
    series: Series,
    /// INVARIANT: what the store holds, as of the last commit that was published.
    image: watch::Sender<Arc<Image>>,
    directory: Directory,
    roster: Roster,
    condition: Condition,
    tokens: Tokens,
    sessions: Sessions,
    gates: Gates,
    operations: Operations,
    propagation: Propagation,
    turns: Arc<tokio::sync::Mutex<()>>,
    issues: Issues,
    uses: UseReports,
    shadows: Shadows,
    /// `None` for ever.
    audit_retention: Option<Duration>,
}

impl Workspace {
    /// Opens the workspace in the data directory, and makes it on first start.
    ///
    /// The caller holds the directory's lock: what is in memory has to be all that is in the database.
    ///
    /// # Errors
    /// The directory or database cannot be used, or the master key or pepper is not the right one. Nothing was changed.
    pub async fn open(
        config: &WorkspaceConfig,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Self, OpenError> {
        opening::open(config, clock, metrics).await
    }

    /// Made on first start.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.inner.id
    }

    /// Where it stands in Azure's tree of resources.
    #[must_use]
    pub fn scope(&self) -> &WorkspaceScope {
        &self.inner.scope
    }

    /// The `iss` of its tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.inner.issuer
    }

    /// The gates that have the policy feed open, by name.
    #[must_use]
    pub fn gates(&self) -> Vec<GateStatus> {
        self.inner.gates.connected()
    }

    /// Those, the ones that are expected back after a restart, and the ones that disconnected not long ago; by name.
    #[must_use]
    pub fn known_gates(&self) -> Vec<GateStatus> {
        let latest = self.image().version();
        let mut gates = self.inner.gates.list(self.now());
        for gate in &mut gates {
            let Some(enforces) = gate.enforces else { continue };
            let is_same_epoch = enforces.epoch == latest.epoch;
            gate.lacks = is_same_epoch.then(|| latest.revision.saturating_sub(enforces.revision));
            gate.behind_since = self.inner.propagation.first_after(enforces).map(timestamp);
        }
        gates
    }

    /// Serves the policy feed, and ends operations and forgets old ones in time, until the shutdown stops.
    pub async fn run(&self, feed: Listener, tls: Option<ServerTls>, health: Health, shutdown: Shutdown) {
        health.report(Ok(())).await;
        let leave = async {
            shutdown.draining().await;
            health.report(Err("draining".to_owned())).await;
        };
        let serve = feed::serve(self, feed, tls, &shutdown);
        let keep = async {
            tokio::select! {
                () = self.keep() => {}
                () = self.watch_store(&health) => {}
                () = shutdown.stopping() => {}
            }
        };
        tokio::join!(leave, serve, keep);
        self.keep_uses().await;
    }

    async fn keep(&self) {
        let mut operations = tokio::time::interval(OPERATIONS_TICK);
        let mut cleaning = tokio::time::interval(CLEANING_TICK);
        let mut signing_keys = tokio::time::interval(SIGNING_KEYS_TICK);
        signing_keys.set_missed_tick_behavior(MissedTickBehavior::Delay);
        operations.set_missed_tick_behavior(MissedTickBehavior::Delay);
        cleaning.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = operations.tick() => {
                    self.end_due_operations().await;
                    self.end_shadows();
                    self.inner.propagation.give_up(self.now());
                }
                _ = signing_keys.tick() => {
                    self.advance_signing_keys().await;
                }
                _ = cleaning.tick() => {
                    self.inner.tokens.purge(self.now());
                    self.inner.gates.purge(self.now());
                    self.prune_operations().await;
                    self.prune_audit().await;
                    self.keep_uses().await;
                }
            }
        }
    }

    /// What its clock says.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        timestamp(self.now())
    }

    /// Epoch and revision of policy.
    #[must_use]
    pub fn policy_version(&self) -> Version {
        self.image().version()
    }

    fn now(&self) -> UnixTime {
        self.inner.clock.now()
    }

    /// A UUID of version 7 that sorts after all before it.
    fn new_id(&self, now: UnixTime) -> Uuid {
        self.inner.ids.next(now)
    }

    fn image(&self) -> Arc<Image> {
        Arc::clone(&self.inner.image.borrow())
    }

    /// That an image is the latest state.
    fn statement(&self, image: &Image) -> wire::Statement {
        self.inner.statements.about(image, self.now())
    }

    fn count_gates(&self) {
        let gates = i64::try_from(self.inner.gates.count()).unwrap_or(i64::MAX);
        self.inner.series.gates_connected.set(gates);
    }
}

/// Makes UUIDs whose order is that of their making, also within a millisecond and when the clock is set back.
#[derive(Debug, Default)]
struct Ids(Mutex<ContextV7>);

impl Ids {
    fn next(&self, now: UnixTime) -> Uuid {
        let context = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Uuid::new_v7(uuid::Timestamp::from_unix(&*context, now.as_secs(), now.subsec_nanos()))
    }
}

/// To the millisecond, as it is stored.
fn timestamp(time: UnixTime) -> Timestamp {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
}
