//! What the tests share: real processes, raw clients, an upstream that shows what it was sent.

mod addresses;
mod answer;
mod authority;
mod checks;
mod echo;
mod endpoints;
mod envoy;
mod featured;
mod grpc_health;
mod http1;
mod http2;
mod keeper;
mod load;
mod process;
mod request;
mod scoregate;
pub(crate) mod stub;
mod system;
mod workspace;

pub(crate) use answer::Answer;
pub(crate) use authority::{Authority, Identity, text};
pub(crate) use checks::Checks;
pub(crate) use echo::Seen;
pub(crate) use endpoints::Endpoints;
pub(crate) use envoy::{Envoy, EnvoyOptions};
pub(crate) use featured::FEATURED;
pub(crate) use grpc_health::GrpcHealth;
pub(crate) use http1::Connection;
pub(crate) use load::Load;
pub(crate) use process::Process;
pub(crate) use request::Request;
pub(crate) use scoregate::{Gate, Scoregate, WorkspaceProcess};
pub(crate) use system::{Protocol, System, Way};
pub(crate) use workspace::{Keys, Operation, Workspace};

use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

/// Where the upstream, the stub and asynchronous clients run; it outlives every single test.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// Runs an asynchronous step of a test.
pub(crate) fn block_on<F: Future>(step: F) -> F::Output {
    RUNTIME.block_on(step)
}

/// Keeps something running for as long as the test process lives.
pub(crate) fn spawn<F>(task: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    RUNTIME.spawn(task);
}

/// A new path in the folder of this run, which is removed at its end. Short enough for a Unix socket.
pub(crate) fn new_path(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    keeper::folder().join(format!("{}-{name}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// There is none in time.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The same for a condition, within a time that is long enough for a busy machine.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, Duration::from_secs(20), || condition().then_some(()));
}
