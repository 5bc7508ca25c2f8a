//! Operations: changes whose enforcement by the gates is waited for.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use scoregate_authz::{UnixTime, Version};
use tokio::sync::Notify;
use uuid::Uuid;

use super::audit::Origin;
use super::domain::{Operation, OperationState, OperationTarget, WorkspaceError};
use super::store::{OperationRow, StoreError};
use super::{Workspace, timestamp};

/// For how long finished operations are kept.
const KEPT_FOR: Duration = Duration::from_hours(7 * 24);

/// Operations that nobody has finished yet.
#[derive(Debug, Default)]
pub(super) struct Operations {
    pending: Mutex<HashMap<Uuid, Pending>>,
    /// Wakes those who wait for an end.
    ended: Notify,
}

#[derive(Debug, Clone)]
struct Pending {
    row: OperationRow,
    version: Version,
    /// Gates that have not confirmed.
    missing: BTreeSet<String>,
    deadline: UnixTime,
}

impl Operations {
    /// Waits for the gates that are behind, unless it does already. They are asked for under the lock that [`Operations::joined`] takes, so that
    /// a gate that connects at this moment is waited for as well.
    fn begin(
        &self,
        row: OperationRow,
        version: Version,
        deadline: UnixTime,
        behind: impl FnOnce() -> Vec<String>,
    ) {
        let mut pending = self.lock();
        if pending.contains_key(&row.operation.id) {
            return;
        }
        let missing = row.waiting_for.iter().cloned().chain(behind()).collect();
        pending.insert(row.operation.id, Pending { row, version, missing, deadline });
    }

    /// A gate has connected that enforces this, or nothing. It is waited for too: it may have an old key.
    pub(super) fn joined(&self, gate: &str, enforces: Option<Version>) {
        for pending in self.lock().values_mut() {
            if enforces >= Some(pending.version) {
                pending.missing.remove(gate);
            } else {
                pending.missing.insert(gate.to_owned());
            }
        }
    }

    /// A gate enforces this.
    pub(super) fn acknowledged(&self, gate: &str, version: Version) {
        for pending in self.lock().values_mut().filter(|pending| version >= pending.version) {
            pending.missing.remove(gate);
        }
    }

    /// Takes out those that are confirmed by all, or whose time is over.
    fn take_due(&self, now: UnixTime) -> Vec<Pending> {
        let is_due = |pending: &Pending| pending.missing.is_empty() || now >= pending.deadline;
        self.lock().extract_if(|_, pending| is_due(pending)).map(|(_, pending)| pending).collect()
    }

    fn put_back(&self, pending: Pending) {
        self.lock().insert(pending.row.operation.id, pending);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Pending>> {
        // Nothing panics under this lock.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    /// State and error, for good.
    fn ending(&self, default_timeout: Duration) -> (OperationState, Option<String>) {
        if self.missing.is_empty() {
            return (OperationState::Succeeded, None);
        }
        let gates: Vec<_> = self.missing.iter().map(|gate| format!("`{gate}`")).collect();
        let error = format!(
            "{}, but these gates have not confirmed it within {} s and may decide as before until they do: {}",
            self.row.effect,
            self.row.timeout.unwrap_or(default_timeout).as_secs_f64(),
            gates.join(", ")
        );
        (OperationState::TimedOut, Some(error))
    }
}

impl Workspace {
    /// One operation.
    ///
    /// It is `Running` until every gate that was connected when the change was committed, or has connected since, has
    /// confirmed the revision. A gate that disconnects in the meantime still counts as missing: it goes on deciding from
    /// memory. After a restart of the workspace, the gates that were connected before count as connected for 30 s.
    ///
    /// # Errors
    /// There is none of this id, or not any more: finished ones are kept for 7 days.
    pub async fn operation(&self, id: Uuid) -> Result<Operation, WorkspaceError> {
        self.inner.store.operation(id).await?.ok_or(WorkspaceError::UnknownOperation(id))
    }

    /// One operation, when it has ended, or as it is when the patience has.
    ///
    /// # Errors
    /// Those of [`Workspace::operation`].
    pub async fn operation_within(&self, id: Uuid, patience: Duration) -> Result<Operation, WorkspaceError> {
        let patience = tokio::time::sleep(patience);
        tokio::pin!(patience);
        loop {
            let ended = self.inner.operations.ended.notified();
            tokio::pin!(ended);
            // From here on: what ends after the look below is not missed.
            ended.as_mut().enable();
            let operation = self.operation(id).await?;
            if operation.state != OperationState::Running {
                return Ok(operation);
            }
            tokio::select! {
                () = &mut ended => {}
                () = &mut patience => return Ok(operation),
            }
        }
    }

    /// An operation to be committed with its change, which assigns the revision.
    pub(super) fn new_operation(
        &self,
        origin: &Origin,
        operation_type: &str,
        target: OperationTarget,
        effect: String,
    ) -> OperationRow {
        let now = self.now();
        let operation = Operation {
            id: self.new_id(now),
            operation_type: operation_type.to_owned(),
            state: OperationState::Running,
            error: None,
            target,
            revision: 0,
            created_at: timestamp(now),
            ended_at: None,
        };
        let waiting_for = self.inner.gates.names(now);
        OperationRow { operation, effect, waiting_for, timeout: origin.patience }
    }

    /// Begins to wait for the gates, before the change is published to them.
    pub(super) fn begin_operation(&self, row: OperationRow, version: Version) {
        let deadline = self.deadline(&row);
        let behind = || self.inner.gates.behind(version, self.now());
        self.inner.operations.begin(row, version, deadline, behind);
    }

    /// Goes on waiting for what the store says was begun: before a restart, or by a commit that was reported as failed. What has run out meanwhile ends at once.
    pub(super) async fn resume_operations(&self) -> Result<(), StoreError> {
        let epoch = self.image().version().epoch;
        for row in self.inner.store.running_operations().await? {
            let version = Version { epoch, revision: row.operation.revision };
            self.begin_operation(row, version);
        }
        self.end_due_operations().await;
        Ok(())
    }

    /// Ends the operations that are confirmed by all, and those whose time is over. Returns them. While the store does not
    /// work none ends.
    pub(super) async fn end_due_operations(&self) -> Vec<Operation> {
        if self.store_problem().is_some() {
            return Vec::new();
        }
        let now = self.now();
        let mut ended = Vec::new();
        for pending in self.inner.operations.take_due(now) {
            let (state, error) = pending.ending(self.inner.enforcement_timeout);
            match self.end_operation(&pending.row.operation, state, error, timestamp(now)).await {
                Ok(operation) => ended.push(operation),
                Err(error) => {
                    self.note_failure(&error);
                    self.inner.operations.put_back(pending);
                }
            }
        }
        ended
    }

    async fn end_operation(
        &self,
        operation: &Operation,
        state: OperationState,
        error: Option<String>,
        at: Timestamp,
    ) -> Result<Operation, StoreError> {
        self.inner.store.end_operation(operation.id, state, error.as_deref(), at).await?;
        self.inner.operations.ended.notify_waiters();
        self.inner.series.ended(state);
        if let Some(error) = &error {
            tracing::warn!(operation = %operation.id, revision = operation.revision, "{error}");
        }
        Ok(Operation { state, error, ended_at: Some(at), ..operation.clone() })
    }

    /// Forgets operations that ended long ago.
    pub(super) async fn prune_operations(&self) {
        if self.store_problem().is_some() {
            return;
        }
        let before = timestamp(self.now().saturating_sub(KEPT_FOR));
        if let Err(error) = self.inner.store.prune_operations(before).await {
            self.note_failure(&error);
        }
    }

    fn deadline(&self, row: &OperationRow) -> UnixTime {
        let began = u64::try_from(row.operation.created_at.as_millisecond()).unwrap_or_default();
        Duration::from_millis(began) + row.timeout.unwrap_or(self.inner.enforcement_timeout)
    }
}
