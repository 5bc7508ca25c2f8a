//! Ending in order: first not ready, then no new work, then what runs is finished, then the end.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Told to every part of a process. Clones are the same shutdown.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Resolves when the process is to leave service: it answers health checks with "not serving" and goes on working.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Whether it has left service.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Resolves when nothing new is to be begun and listeners are to be closed.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// The same as a token, for what wants one.
    #[must_use]
    pub fn stopping_token(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Runs a task whose end the shutdown waits for.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Leaves service, waits for `delay`, stops, and waits for the tasks, `deadline` at most.
    ///
    /// Returns whether all tasks ended in time.
    pub async fn run(&self, delay: Duration, deadline: Duration) -> bool {
        self.draining.cancel();
        tokio::time::sleep(delay).await;
        self.stopping.cancel();
        self.tasks.close();
        tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok()
    }
}
