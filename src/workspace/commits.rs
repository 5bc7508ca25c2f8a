//! Commits: one at a time, stored, then published to the feed in the order of their revisions.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::domain::{Operation, WorkspaceError};
use super::image::Image;
use super::policy::auth_mode_of;
use super::signing_keys::SigningKeys;
use super::store::{Change, CommitError, EntryWrite, StoreError};
use super::{Workspace, timestamp};

/// The right to change the workspace. Who reads in order to write takes it before the read.
pub(super) type Turn = OwnedMutexGuard<()>;

/// What came of a change.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) revision: u64,
    /// That of the change, if it had one.
    pub(super) operation: Option<Operation>,
}

impl Workspace {
    /// Waits until no other change is under way, whether the store works or not.
    pub(super) async fn unconditional_turn(&self) -> Turn {
        Arc::clone(&self.inner.turns).lock_owned().await
    }

    /// Stores a change and publishes it.
    pub(super) async fn commit(&self, turn: Turn, change: Change) -> Result<Committed, CommitError> {
        self.commit_with_keys(turn, change, None).await
    }

    /// The same for a change of signing keys, with all of them as they are after it.
    pub(super) async fn commit_with_keys(
        &self,
        turn: Turn,
        change: Change,
        keys: Option<SigningKeys>,
    ) -> Result<Committed, CommitError> {
        let workspace = self.clone();
        to_its_end(async move {
            let _turn = turn;
            workspace.commit_and_publish(change, keys).await
        })
        .await
    }

    async fn commit_and_publish(
        &self,
        mut change: Change,
        signing_keys: Option<SigningKeys>,
    ) -> Result<Committed, CommitError> {
        let before = self.image();
        let unchanged: Vec<_> = change.entries.extract_if(.., |write| is_unchanged(&before, write)).collect();
        if let Some(row) = change.operation.as_mut().filter(|_| change.entries.is_empty()) {
            // Gates need not confirm what tells them nothing: those that enforce what is in force already count.
            row.waiting_for.clear();
        }
        let Change { services, keys, entries, operation: row, .. } = change.clone();
        let version = self.inner.store.commit(change, Some(before.version())).await.inspect_err(|error| {
            if let CommitError::Store(error) = error {
                self.note_failure(error);
            }
        })?;
        self.inner.series.changes.inc();
        self.inner.directory.apply(services, keys);
        // Before gates hear of it: no token is handed out of a key that they are about to refuse.
        signing_keys.into_iter().for_each(|keys| self.hold_signing_keys(keys));
        let enforced_by = if entries.is_empty() { before.last_change(&unchanged) } else { version };
        let id = row.as_ref().map(|row| row.operation.id);
        let mut operation = row.map(|mut row| {
            row.operation.revision = version.revision;
            let operation = row.operation.clone();
            self.begin_operation(row, enforced_by);
            operation
        });
        let now = self.now();
        self.inner.propagation.committed(version, now, self.inner.gates.connected_names());
        self.publish(before.after(version, entries, timestamp(now)));
        let ended = self.end_due_operations().await;
        if let Some(ended) = ended.into_iter().find(|ended| Some(ended.id) == id) {
            operation = Some(ended);
        }
        Ok(Committed { revision: version.revision, operation })
    }

    /// Gives the feed what is in force from now on.
    pub(super) fn publish(&self, image: Image) {
        let before = self.inner.image.send_replace(Arc::new(image));
        let after = self.image();
        for entry in after.changed_since(before.version().revision) {
            let id = &entry.row.id;
            if let Some(mode) = before.content(id).and_then(|content| auth_mode_of(id, content)) {
                self.inner.series.services(mode).dec();
            }
            if let Some(mode) = after.content(id).and_then(|content| auth_mode_of(id, content)) {
                self.inner.series.services(mode).inc();
            }
            self.inner.shadows.follow(id, &entry.row.name, after.content(id));
        }
    }
}

/// Runs what is begun to its end also when the caller goes away: what is stored and not taken over by memory would never
/// reach the gates.
pub(super) async fn to_its_end<T, E>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    let ended = tokio::spawn(work).await;
    ended.map_err(|error| StoreError::Database(error.into()))?
}

/// An entry that is written as it is would make every gate work for nothing.
fn is_unchanged(image: &Image, write: &EntryWrite) -> bool {
    write.content.is_some() && image.content(&write.id) == write.content.as_deref()
}

impl From<StoreError> for WorkspaceError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}
