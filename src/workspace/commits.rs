//! Commits: one at a time, stored, then published to the feed in the order of their revisions.

use std::sync::Arc;

use scoregate_authz::Version;
use tokio::sync::OwnedMutexGuard;

use super::domain::{Operation, WorkspaceError};
use super::image::Image;
use super::policy::auth_mode_of;
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
    /// Waits until no other change is under way.
    pub(super) async fn turn(&self) -> Turn {
        Arc::clone(&self.inner.turns).lock_owned().await
    }

    /// Stores a change and publishes it.
    ///
    /// Runs to its end also when the caller goes away: a change that is stored but not published would never reach the
    /// gates.
    pub(super) async fn commit(&self, turn: Turn, change: Change) -> Result<Committed, CommitError> {
        let workspace = self.clone();
        let task = tokio::spawn(async move {
            let _turn = turn;
            workspace.commit_and_publish(change).await
        });
        task.await.map_err(|error| StoreError::Database(error.into()))?
    }

    async fn commit_and_publish(&self, mut change: Change) -> Result<Committed, CommitError> {
        let before = self.image();
        change.entries.retain(|write| !is_unchanged(&before, write));
        let writes = change.entries.clone();
        let row = change.operation.clone();
        let version = self.inner.store.commit(change).await?;
        let image = self.image_after(&before, version, writes).await?;
        self.inner.series.changes.inc();
        let id = row.as_ref().map(|row| row.operation.id);
        let mut operation = row.map(|mut row| {
            row.operation.revision = version.revision;
            let operation = row.operation.clone();
            self.begin_operation(row, version);
            operation
        });
        self.publish(image);
        let ended = self.end_due_operations().await;
        if let Some(ended) = ended.into_iter().find(|ended| Some(ended.id) == id) {
            operation = Some(ended);
        }
        Ok(Committed { revision: version.revision, operation })
    }

    async fn image_after(
        &self,
        before: &Image,
        version: Version,
        writes: Vec<EntryWrite>,
    ) -> Result<Image, StoreError> {
        let now = timestamp(self.now());
        let held = before.version();
        if version.epoch == held.epoch && version.revision == held.revision + 1 {
            return Ok(before.after(version, writes, now));
        }
        // A commit before this one was reported as failed and was done nevertheless.
        tracing::warn!(from = %held, to = %version, "the store is ahead of memory: reading it anew");
        let (version, rows) = self.inner.store.entries().await?;
        Ok(Image::new(version, rows, now))
    }

    fn publish(&self, image: Image) {
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
        }
    }
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
