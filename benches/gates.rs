//! From a change to its enforcement by many gates.
//!
//! A workspace as a process of its own, 200 gates in this one, each with its feed over TCP, its worker and its directory.
//! A change is the replacement of a key over REST, followed to the end of its operation: stored, sent, in force and on
//! disk at every gate, and acknowledged by each. First the directories are on one disk, which gates never share in
//! reality; then in memory.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use scoregate::gate::GateHandle;
use scoregate::shutdown::Shutdown;
use scoregate_authz::Version;

use crate::figure::{Figure, quantile, told};
use crate::gate::{self, Feed};
use crate::workspace::{Outcome, Running, name, service};

const GATES: usize = 200;
const SERVICES: usize = 10_000;
const CHANGES: usize = 200;
/// Between two changes.
const PAUSE: Duration = Duration::from_millis(150);
/// In milliseconds.
const LIMIT: f64 = 1_000.0;
const TARGET: f64 = 100.0;
const MEMORY: &str = "/dev/shm";

pub(crate) async fn run() -> Outcome<Vec<Figure>> {
    let disk = tempfile::tempdir()?;
    println!("a wait for the disk (append of 600 bytes, fdatasync): median {:.2?}", wait_for(disk.path())?);
    let services = (0..SERVICES).map(service).collect::<Outcome<Vec<_>>>()?;
    let workspace = Running::start(&disk.path().join("workspace"), services.into_iter()).await?;
    let mut figures = measure(&workspace, &disk.path().join("gates"), "one disk").await?;
    if Path::new(MEMORY).is_dir() {
        let memory = tempfile::tempdir_in(MEMORY)?;
        figures.extend(measure(&workspace, &memory.path().join("gates"), "tmpfs").await?);
    }
    Ok(figures)
}

async fn measure(workspace: &Running, folder: &Path, medium: &str) -> Outcome<Vec<Figure>> {
    let shutdown = Shutdown::default();
    let began = Instant::now();
    let feed = Feed { address: workspace.feed.clone(), files: workspace.gate_files() };
    let gates = start(folder, &feed, &shutdown).await?;
    let pulled = began.elapsed();
    let (from, applied) = watch(&gates);
    let mut connection = workspace.connect().await?;
    let mut enforced = Vec::new();
    let mut begins = Vec::new();
    for change in 0..CHANGES {
        tokio::time::sleep(PAUSE).await;
        begins.push(Instant::now());
        workspace.regenerate(&mut connection, &name(change * 47 % SERVICES)).await?;
        enforced.push(begins[change].elapsed());
    }
    let mut in_force = in_force(&applied, from, &begins);
    shutdown.run(Duration::ZERO, Duration::from_secs(10)).await;
    let what = |what: &str| format!("{GATES} gates, {SERVICES} services, {medium}: {what}");
    Ok(told(vec![
        Figure::new(what("all start empty and pull"), pulled.as_secs_f64(), "s"),
        Figure::millis(what("change to enforced by all, median"), quantile(&mut enforced, 0.5)),
        Figure::millis(what("change to enforced by all, p99"), quantile(&mut enforced, 0.99))
            .limit(LIMIT)
            .target(TARGET),
        Figure::millis(what("change to in force at one, median"), quantile(&mut in_force, 0.5)),
        Figure::millis(what("change to in force at one, p99"), quantile(&mut in_force, 0.99)),
    ]))
}

/// Returns when all have policy.
async fn start(folder: &Path, feed: &Feed, shutdown: &Shutdown) -> Outcome<Vec<GateHandle>> {
    let mut gates = Vec::new();
    for number in 0..GATES {
        let name = format!("gate-{number:03}");
        gates.push(gate::start(&name, &folder.join(&name), feed, shutdown).await?);
    }
    for gate in &gates {
        gate.applied().wait_for(Option::is_some).await?;
    }
    Ok(gates)
}

type Applied = Arc<Mutex<Vec<(u64, Instant)>>>;

/// Notes when each revision comes into force at each gate. The first that will be noted comes after the one returned.
fn watch(gates: &[GateHandle]) -> (u64, Applied) {
    let applied = Applied::default();
    let mut from = 0;
    for gate in gates {
        let (mut versions, applied) = (gate.applied(), Arc::clone(&applied));
        from = from.max(versions.borrow_and_update().map_or(0, |version| version.revision));
        tokio::spawn(async move {
            while versions.changed().await.is_ok() {
                let now = Instant::now();
                if let Some(Version { revision, .. }) = *versions.borrow_and_update() {
                    applied.lock().unwrap_or_else(PoisonError::into_inner).push((revision, now));
                }
            }
        });
    }
    (from, applied)
}

/// From the beginning of each change to its being in force at each gate.
fn in_force(applied: &Applied, from: u64, begins: &[Instant]) -> Vec<Duration> {
    let applied = applied.lock().unwrap_or_else(PoisonError::into_inner);
    let number = |revision: u64| usize::try_from(revision - from - 1).ok();
    let took = |(revision, at): &(u64, Instant)| Some(at.duration_since(*begins.get(number(*revision)?)?));
    applied.iter().filter_map(took).collect()
}

/// What the acknowledgement of a change costs on a disk, twice.
fn wait_for(folder: &Path) -> Outcome<Duration> {
    use std::io::Write;
    let mut file = std::fs::File::create(folder.join("probe"))?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        file.write_all(&[7; 600])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    Ok(quantile(&mut times, 0.5))
}
