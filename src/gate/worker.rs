//! Threads that decide: each with a runtime of its own, which nothing else runs on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::connection::{self, Place};
use super::port::CheckPort;
use crate::listen::{Connection, Listener};
use crate::shutdown::Shutdown;
use crate::tls::{Handshake, ServerTls};

/// Connections that wait for a worker to begin with them.
const QUEUE: usize = 64;

/// The threads, as those see them who have connections for them.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    workers: Arc<[Worker]>,
    connections: Gauge,
}

#[derive(Debug)]
struct Worker {
    queue: mpsc::Sender<(Connection, Option<Handshake>, Place)>,
    load: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts a thread for each port. They end when nobody has connections for them any more and those that they have
    /// are closed; the shutdown waits for that.
    ///
    /// # Errors
    /// The system gives no thread or no event queue.
    pub(crate) fn start(
        ports: impl Iterator<Item = CheckPort>,
        max_connection_age: Option<Duration>,
        connections: Gauge,
        shutdown: &Shutdown,
    ) -> io::Result<Self> {
        let workers = ports.enumerate().map(|(number, port)| {
            let (queue, connections) = mpsc::channel(QUEUE);
            let serve = serve(connections, port, max_connection_age, shutdown.clone());
            start_thread(number, serve, shutdown)?;
            Ok(Worker { queue, load: Arc::default() })
        });
        Ok(Self { workers: workers.collect::<io::Result<_>>()?, connections })
    }

    /// Hands a connection to the worker that has the fewest.
    async fn hand_over(&self, connection: Connection, handshake: Option<Handshake>) {
        let Some(worker) = self.workers.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed))
        else {
            return;
        };
        let place = Place::take(Arc::clone(&worker.load), self.connections.clone());
        if worker.queue.send((connection, handshake, place)).await.is_err() {
            tracing::error!("a check worker is gone: its connections are dropped");
        }
    }
}

fn start_thread(
    number: usize,
    serve: impl Future<Output = ()> + Send + 'static,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (ending, ended) = oneshot::channel::<()>();
    let thread = thread::Builder::new().name(format!("check-{number}")).spawn(move || {
        let _ending = ending;
        runtime.block_on(serve);
    })?;
    shutdown.spawn(async move {
        // Resolves with an error when the thread lets go of its half, which it does at its end.
        let _ = ended.await;
        if thread.join().is_err() {
            tracing::error!(worker = number, "a check worker ended in a panic");
        }
    });
    Ok(())
}

async fn serve(
    mut queue: mpsc::Receiver<(Connection, Option<Handshake>, Place)>,
    port: CheckPort,
    max_age: Option<Duration>,
    shutdown: Shutdown,
) {
    let connections = TaskTracker::new();
    while let Some((connection, handshake, place)) = queue.recv().await {
        let (port, shutdown) = (port.clone(), shutdown.clone());
        connections.spawn(async move {
            let _place = place;
            let Some(handshake) = handshake else {
                return connection::serve(connection, port, max_age, shutdown).await;
            };
            if let Some((stream, _)) = handshake.accept(connection, &shutdown).await {
                connection::serve(stream, port, max_age, shutdown).await;
            }
        });
    }
    connections.close();
    connections.wait().await;
}

/// Accepts connections until the shutdown stops. Handshakes are the workers' business.
pub(crate) async fn accept(listener: Listener, tls: Option<ServerTls>, workers: Workers, shutdown: Shutdown) {
    let tls = tls.filter(|_| !listener.is_unix());
    listener.warn_if_open(tls.as_ref());
    while let Some(connection) = listener.next(&shutdown).await {
        workers.hand_over(connection, tls.as_ref().map(ServerTls::current)).await;
    }
}
