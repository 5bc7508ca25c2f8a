//! Whether the store works, and what a workspace does while it does not.
//!
//! Keys and tokens are issued from memory, policy is served from memory, changes are refused. The store is tried until it
//! works again; then memory takes over what it holds, because a commit that was reported as failed may have been done.

use std::error::Error;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::audit::Origin;
use super::domain::{Principal, WorkspaceError};
use super::image::Image;
use super::opening::held_keys;
use super::signing_keys::SigningKeys;
use super::store::{State, StoreError};
use super::{Turn, Workspace, timestamp};
use crate::admin::Health;
use crate::causes::with_causes;

/// How often the store is tried.
const TICK: Duration = Duration::from_secs(1);
/// What a store that does not work means.
const EFFECT: &str = "changes are refused, keys and tokens issued from memory";

/// Why the store does not work; `None` while it does.
#[derive(Debug)]
pub(super) struct Condition(watch::Sender<Option<String>>);

impl Default for Condition {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Workspace {
    /// Waits until no other change is under way, on behalf of whoever wants to change something.
    ///
    /// # Errors
    /// The store is known not to work: it is not tried, so that the answer is quick. Or who asks was deleted meanwhile.
    pub(super) async fn turn(&self, origin: &Origin) -> Result<Turn, WorkspaceError> {
        let mut condition = self.inner.condition.0.subscribe();
        let turn = tokio::select! {
            biased;
            down = condition.wait_for(Option::is_some) => Err(down.ok().and_then(|down| down.clone())),
            turn = self.unconditional_turn() => Ok(turn),
        };
        let turn = turn.map_err(|problem| StoreError::Down(problem.unwrap_or_default()))?;
        if self.is_there(origin) {
            Ok(turn)
        } else {
            Err(WorkspaceError::PrincipalGone(origin.principal.clone()))
        }
    }

    fn is_there(&self, origin: &Origin) -> bool {
        match (origin.role, origin.since) {
            (Some(role), Some(since)) => self.inner.roster.has(&origin.principal, role, since),
            _ => true,
        }
    }

    /// Why the store does not work; `None` while it does.
    pub(super) fn store_problem(&self) -> Option<String> {
        self.inner.condition.0.borrow().clone()
    }

    /// Takes a failed write for a store that does not work, until it is known to work again.
    pub(super) fn note_failure(&self, error: &StoreError) {
        let problem = with_causes(error);
        let is_news = self.inner.condition.0.send_if_modified(|known| {
            known.is_none() && {
                *known = Some(problem);
                true
            }
        });
        if is_news {
            self.inner.series.store_up.set(0);
            let error: &dyn Error = error;
            tracing::error!(
                error,
                "the store does not work: changes are refused, keys and tokens issued from memory"
            );
        }
    }

    /// Tries the store from time to time, and says in its health how it is.
    pub(super) async fn watch_store(&self, health: &Health) {
        let try_it = async {
            let mut tick = tokio::time::interval(TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                self.try_store().await;
            }
        };
        let tell = async {
            let mut condition = self.inner.condition.0.subscribe();
            loop {
                let problem = condition.borrow_and_update().clone();
                health.remark(problem.map(|problem| format!("{EFFECT}: {problem}")));
                // The sender lives as long as the workspace.
                let _ = condition.changed().await;
            }
        };
        tokio::join!(try_it, tell);
    }

    async fn try_store(&self) {
        if self.store_problem().is_some() {
            self.recover().await;
        } else if let Err(error) = self.look_at_store().await {
            self.note_failure(&error);
        }
    }

    /// A version that is not memory's is that of a commit that is just being published, or of another database.
    async fn look_at_store(&self) -> Result<(), StoreError> {
        if self.inner.store.probe(false).await? == self.image().version() {
            return Ok(());
        }
        let _turn = self.unconditional_turn().await;
        let found = self.inner.store.probe(false).await?;
        let expected = self.image().version();
        if found == expected { Ok(()) } else { Err(StoreError::OutOfStep { expected, found }) }
    }

    /// The turn is taken late: who waits for it is refused meanwhile, and need not wait for the probe.
    async fn recover(&self) {
        let recovered = async {
            self.inner.store.probe(true).await?;
            let turn = self.unconditional_turn().await;
            self.catch_up().await?;
            Ok::<_, StoreError>(turn)
        };
        match recovered.await {
            Ok(turn) => {
                self.inner.condition.0.send_replace(None);
                self.inner.series.store_up.set(1);
                tracing::info!("the store works again: changes are accepted");
                drop(turn);
                self.end_due_operations().await;
            }
            Err(error) => {
                let problem = with_causes(&error);
                tracing::debug!(problem, "the store still does not work");
                self.inner.condition.0.send_replace(Some(problem));
            }
        }
    }

    async fn reload_signing_keys(&self) -> Result<(), StoreError> {
        let rows = self.inner.store.signing_keys().await?;
        let known = self.inner.signing_keys.load_full();
        let keys = held_keys(&self.inner.keyring, &rows, known.all());
        let keys = keys.map_err(|error| StoreError::Database(error.into()))?;
        let keys = SigningKeys::new(keys).ok_or(StoreError::Corrupt { column: "state" })?;
        self.hold_signing_keys(keys);
        Ok(())
    }

    /// Takes over what the store holds, where that is not what memory holds. The caller has the turn.
    pub(super) async fn catch_up(&self) -> Result<(), StoreError> {
        let State { version, entries, services, principals } = self.inner.store.state().await?;
        let held = self.image().version();
        if version < held {
            // Gates never go back.
            return Err(StoreError::OutOfStep { expected: held, found: version });
        }
        self.inner.roster.replace(principals);
        let is_gone = |name: &str| !Principal::is_name_of_certificate(name) && !self.inner.roster.knows(name);
        self.inner.gates.end_where(is_gone);
        if version > held {
            tracing::warn!(from = %held, to = %version, "the store is ahead of memory: a failed commit was done");
            self.inner.directory.replace(services);
            self.reload_signing_keys().await?;
            self.resume_operations().await?;
            self.publish(Image::new(version, entries, timestamp(self.now())));
        }
        for (gate, connection) in self.inner.gates.connections() {
            self.inner.store.remember_gate(&gate, connection).await?;
        }
        Ok(())
    }
}
