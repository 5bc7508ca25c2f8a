//! Opening a workspace: everything that can be wrong is found here, before anything is written or served.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use scoregate_authz::{AuthMode, Pepper, UnixTime};
use tokio::sync::watch;
use uuid::Uuid;

use super::audit::{self, AuditRecord, AuditTarget, Details, Origin};
use super::gates::Gates;
use super::image::Image;
use super::keyring::{Keyring, KeyringError, Location};
use super::policy;
use super::series::Series;
use super::signer::{self, SigningError, SigningKey};
use super::signing_keys::{HeldKey, SigningKeyState, SigningKeys};
use super::store::{
    Change, CommitError, EntryWrite, SigningKeyRow, SigningKeyWrite, SqliteStore, State, Store, StoreError,
    WorkspaceRow,
};
use super::{Inner, Workspace, timestamp};
use crate::clock::Clock;
use crate::config::{DATABASE, WorkspaceConfig};
use crate::metrics::Metrics;
use crate::terms::AuditAction;

/// What is sealed to recognise a master key by. No secret.
const MASTER_KEY_CHECK: &[u8] = b"scoregate master key check";

/// For how long gates that were connected before a restart are expected back. Their back-off is shorter.
const RETURN_TIME: Duration = Duration::from_secs(30);

/// Why a workspace could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database does not work, or is of a newer version.
    #[error("the database `{}` cannot be used", .path.display())]
    Database {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: StoreError,
    },
    /// The master key is not the right one.
    #[error("the workspace's secrets cannot be read")]
    MasterKey(#[source] KeyringError),
    /// The pepper is not the one that this workspace began with.
    #[error(
        "this workspace's keys are digested under pepper `{stored}`, and the one configured is `{configured}`"
    )]
    Pepper {
        /// Id of the right one.
        stored: String,
        /// Id of the one given.
        configured: String,
    },
    /// A signing key could not be made or read.
    #[error("the workspace has no usable signing key")]
    SigningKey(#[source] SigningError),
}

/// The parts that are there before the workspace is.
struct Opening<'a> {
    config: &'a WorkspaceConfig,
    now: UnixTime,
    database: PathBuf,
    store: SqliteStore,
    keyring: Keyring,
}

pub(super) async fn open(
    config: &WorkspaceConfig,
    clock: Arc<dyn Clock>,
    metrics: &Metrics,
) -> Result<Workspace, OpenError> {
    let keyring = Keyring::new(&config.master_keys).map_err(OpenError::MasterKey)?;
    let database = config.data_dir.join(DATABASE);
    let store = SqliteStore::open(&database)
        .await
        .map_err(|source| OpenError::Database { path: database.clone(), source })?;
    let opening = Opening { config, now: clock.now(), database, store, keyring };
    let row = opening.workspace().await?;
    let mut signing_keys = opening.signing_keys(opening.issuer(&row)).await?;
    let State { version, entries, services, principals } = opening.state(&mut signing_keys, &row).await?;
    let image = Image::new(version, entries, timestamp(opening.now));
    let gates = opening.gates().await?;
    let uses = opening.store.uses().await.map_err(|error| opening.failed(error))?;
    let issuer = opening.issuer(&row).to_owned();
    let Opening { database, store, keyring, now: clock_now, .. } = opening;
    let series = series(metrics, &image);
    let propagation = super::Propagation::new(series.change_enforced.clone(), version, clock_now);
    let workspace = Workspace {
        inner: Arc::new(Inner {
            id: row.id,
            scope: config.scope.clone(),
            issuer,
            token_refresh_after: config.token_refresh_after,
            token_lifetime: config.token_lifetime,
            enforcement_timeout: config.enforcement_timeout,
            pepper: config.pepper.clone(),
            ids: super::Ids::default(),
            store: Arc::new(store),
            keyring,
            signing_keys: ArcSwap::from_pointee(signing_keys),
            token_algorithm: config.token_algorithm,
            signing_key_rotation: config.signing_key_rotation,
            statements: super::Statements::new(Arc::clone(&config.policy_key), row.id.to_string()),
            series,
            shadows: super::Shadows::new(&image, Arc::clone(&clock), metrics),
            uses: super::UseReports::new(uses),
            image: watch::Sender::new(Arc::new(image)),
            clock,
            directory: super::Directory::new(services),
            roster: super::Roster::new(principals),
            condition: super::Condition::default(),
            tokens: super::Tokens::default(),
            sessions: super::Sessions::default(),
            gates,
            operations: super::Operations::default(),
            propagation,
            issues: super::Issues::new(timestamp(clock_now)),
            audit_retention: config.audit_retention,
            turns: Arc::default(),
        }),
    };
    let resumed = workspace.resume_operations().await;
    resumed.map_err(|source| OpenError::Database { path: database, source })?;
    workspace.advance_signing_keys().await;
    workspace.prune_operations().await;
    workspace.prune_audit().await;
    Ok(workspace)
}

fn series(metrics: &Metrics, image: &Image) -> Series {
    let series = Series::register(metrics);
    for entry in image.live() {
        if let Some(mode) = policy::auth_mode_of(&entry.row.id, &entry.row.content) {
            series.services(mode).inc();
        }
    }
    let open = series.services(AuthMode::Disabled).get();
    if open > 0 {
        tracing::warn!(services = open, "services without authentication: anybody may score them");
    }
    series
}

impl Opening<'_> {
    /// The workspace, made on first start; checked otherwise.
    async fn workspace(&self) -> Result<WorkspaceRow, OpenError> {
        match self.store.workspace().await.map_err(|error| self.failed(error))? {
            Some(row) => self.check(row).await,
            None => self.found().await,
        }
    }

    async fn found(&self) -> Result<WorkspaceRow, OpenError> {
        let id = Uuid::new_v4();
        let default_issuer = || format!("https://{id}.scoregate.invalid");
        let check = self.keyring.seal(master_key_check(), MASTER_KEY_CHECK).map_err(OpenError::MasterKey)?;
        let row = WorkspaceRow {
            id,
            issuer: self.config.issuer.clone().unwrap_or_else(default_issuer),
            pepper_id: self.config.pepper.id().to_owned(),
            master_key_check: check.bytes,
            created_at: timestamp(self.now),
        };
        let target = AuditTarget::Workspace(id);
        let audit = self.record(AuditAction::WorkspaceFounded, target, audit::details([]));
        self.store.found(&row, &audit).await.map_err(|error| self.failed(error))?;
        tracing::info!(workspace = %id, "a new workspace");
        Ok(row)
    }

    async fn check(&self, row: WorkspaceRow) -> Result<WorkspaceRow, OpenError> {
        let failed = |error| self.failed(error);
        check_secrets(&self.store, &self.keyring, &row, &self.config.pepper, failed).await?;
        Ok(row)
    }

    /// The configured issuer, or else the stored one.
    fn issuer<'a>(&'a self, row: &'a WorkspaceRow) -> &'a str {
        self.config.issuer.as_ref().unwrap_or(&row.issuer)
    }

    /// All signing keys; on first start one is made, which signs at once.
    async fn signing_keys(&self, issuer: &str) -> Result<SigningKeys, OpenError> {
        let rows = self.store.signing_keys().await.map_err(|error| self.failed(error))?;
        let mut keys = held_keys(&self.keyring, &rows, &[])?;
        if keys.is_empty() {
            keys.push(self.first_signing_key(issuer).await?);
        }
        SigningKeys::new(keys).ok_or_else(|| self.failed(StoreError::Corrupt { column: "state" }))
    }

    async fn first_signing_key(&self, issuer: &str) -> Result<HeldKey, OpenError> {
        let algorithm = self.config.token_algorithm;
        let pkcs8 = signer::generate(algorithm).map_err(OpenError::SigningKey)?;
        let since = timestamp(self.now);
        let key = SigningKey::from_pkcs8(algorithm, &pkcs8, since).map_err(OpenError::SigningKey)?;
        let (state, longest_lifetime) = (SigningKeyState::Signing { since }, self.config.token_lifetime);
        let row = SigningKeyRow {
            id: key.id.clone(),
            algorithm,
            jwk: key.jwk.to_string(),
            sealed: self.keyring.seal(signing_key(&key.id), &pkcs8).map_err(OpenError::MasterKey)?,
            created_at: since,
            revision: 0,
            state,
            longest_lifetime,
        };
        let target = AuditTarget::SigningKey(key.id.clone());
        let details =
            audit::details([("algorithm", algorithm.as_str().into()), ("state", state.as_str().into())]);
        let change = Change {
            signing_keys: vec![SigningKeyWrite::Create(row)],
            entries: vec![self.verification_key(&key, issuer)],
            ..Change::recorded(vec![self.record(AuditAction::SigningKeyCreated, target, details)])
        };
        let revision = self.commit(change).await?;
        tracing::info!(key_id = key.id, algorithm = algorithm.as_str(), "the first signing key");
        Ok(HeldKey { key: Arc::new(key), state, revision, longest_lifetime })
    }

    /// What is held in memory, after the workspace's row and policy say of the signing keys what is configured: issuer and
    /// lifetime may be new.
    async fn state(&self, keys: &mut SigningKeys, row: &WorkspaceRow) -> Result<State, OpenError> {
        let state = self.store.state().await.map_err(|error| self.failed(error))?;
        let is_stored = |write: &EntryWrite| {
            let stored = state.entries.iter().find(|row| row.id == write.id && !row.deleted);
            stored.map(|row| row.content.as_slice()) == write.content.as_deref()
        };
        let issuer = self.issuer(row);
        let entries = keys.all().iter().map(|held| self.verification_key(&held.key, issuer));
        let mut entries: Vec<_> = entries.collect();
        entries.retain(|entry| !is_stored(entry));
        let issuer = (issuer != row.issuer).then(|| issuer.to_owned());
        let signing_keys = keys.lengthen(self.config.token_lifetime);
        if issuer.is_none() && entries.is_empty() && signing_keys.is_empty() {
            return Ok(state);
        }
        if let Some(now) = &issuer {
            tracing::warn!(before = row.issuer, now, "the issuer changes: tokens issued before are refused");
        }
        let audit = vec![self.token_rules_record(row)];
        self.commit(Change { issuer, entries, signing_keys, ..Change::recorded(audit) }).await?;
        self.store.state().await.map_err(|error| self.failed(error))
    }

    fn token_rules_record(&self, row: &WorkspaceRow) -> AuditRecord {
        let target = AuditTarget::Workspace(row.id);
        let lifetime = ("tokenLifetimeSeconds", self.config.token_lifetime.as_secs().into());
        let (before, after) = (row.issuer.as_str(), self.issuer(row));
        if before == after {
            return self.record(AuditAction::TokenLifetimeChanged, target, audit::details([lifetime]));
        }
        let issuer = serde_json::json!({ "before": before, "after": after });
        let details = audit::details([("issuer", issuer), lifetime]);
        self.record(AuditAction::IssuerChanged, target, details)
    }

    fn verification_key(&self, key: &SigningKey, issuer: &str) -> EntryWrite {
        policy::verification_key_entry(key, issuer, self.config.token_lifetime)
    }

    /// The registry, with the gates that were connected before the restart.
    async fn gates(&self) -> Result<Gates, OpenError> {
        let gates = Gates::default();
        let before = self.store.take_gates().await.map_err(|error| self.failed(error))?;
        gates.expect(before, self.now + RETURN_TIME);
        Ok(gates)
    }

    fn record(&self, action: AuditAction, target: AuditTarget, details: Details) -> AuditRecord {
        AuditRecord { at: timestamp(self.now), origin: Origin::local(), action, target, details }
    }

    async fn commit(&self, change: Change) -> Result<u64, OpenError> {
        let committed = self.store.commit(change, None).await.map_err(|error| match error {
            CommitError::Store(error) => self.failed(error),
            other => self.failed(StoreError::Database(other.into())),
        })?;
        Ok(committed.revision)
    }

    fn failed(&self, source: StoreError) -> OpenError {
        OpenError::Database { path: self.database.clone(), source }
    }
}

/// Whether all that a stored workspace needs is here, and is the right one.
pub(super) async fn check_secrets(
    store: &SqliteStore,
    keyring: &Keyring,
    row: &WorkspaceRow,
    pepper: &Pepper,
    failed: impl Fn(StoreError) -> OpenError,
) -> Result<(), OpenError> {
    check_master_key(keyring, row).map_err(OpenError::MasterKey)?;
    for id in store.master_key_ids().await.map_err(failed)? {
        keyring.require(&id).map_err(OpenError::MasterKey)?;
    }
    let (stored, configured) = (row.pepper_id.clone(), pepper.id().to_owned());
    if stored == configured { Ok(()) } else { Err(OpenError::Pepper { stored, configured }) }
}

pub(super) fn check_master_key(keyring: &Keyring, row: &WorkspaceRow) -> Result<(), KeyringError> {
    keyring.open(master_key_check(), &row.master_key_check).map(|_| ())
}

fn master_key_check() -> Location<'static> {
    Location { table: "workspace", row: "1", column: "master_key_check" }
}

/// Signing keys as they are stored, unsealed. Those that are `known` are not read again.
pub(super) fn held_keys(
    keyring: &Keyring,
    rows: &[SigningKeyRow],
    known: &[HeldKey],
) -> Result<Vec<HeldKey>, OpenError> {
    let held = |row: &SigningKeyRow| {
        let key = match known.iter().find(|held| held.id() == row.id) {
            Some(held) => Arc::clone(&held.key),
            None => Arc::new(unsealed(keyring, row)?),
        };
        let SigningKeyRow { state, revision, longest_lifetime, .. } = *row;
        Ok(HeldKey { key, state, revision, longest_lifetime })
    };
    rows.iter().map(held).collect()
}

fn unsealed(keyring: &Keyring, row: &SigningKeyRow) -> Result<SigningKey, OpenError> {
    let pkcs8 = keyring.open(signing_key(&row.id), &row.sealed.bytes).map_err(OpenError::MasterKey)?;
    SigningKey::from_pkcs8(row.algorithm, &pkcs8, row.created_at).map_err(OpenError::SigningKey)
}

/// Where the private half of a signing key is kept.
pub(super) fn signing_key(id: &str) -> Location<'_> {
    Location { table: "signing_keys", row: id, column: "sealed" }
}
