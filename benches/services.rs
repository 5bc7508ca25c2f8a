//! What a gate does with 100,000 services.

use std::path::Path;
use std::time::{Duration, Instant};

use scoregate::shutdown::Shutdown;
use scoregate::statement::PolicyKey;
use scoregate::workspace::NewService;

use crate::checks::Checks;
use crate::feed::{self, Policy};
use crate::figure::{Figure, quantile, told};
use crate::gate::{self, Feed, RunningGate};
use crate::workspace::{Outcome, Running, name, service};

const SERVICES: usize = 100_000;
const STARTS: usize = 5;
const CHANGES: usize = 300;
/// Pairs of a time without changes and one with a change each second.
const ROUNDS: usize = 3;
const LENGTH: Duration = Duration::from_secs(20);
/// Checks a second.
const RATE: usize = 10_000;
/// The services that are called; the others' keys change meanwhile.
const CALLED: usize = SERVICES / 2;
/// For what a process does after it is ready, such as writing the snapshot, and giving back what it no longer needs.
const SETTLING: Duration = Duration::from_secs(8);

/// Of the issue, in the units of the figures.
const START_LIMIT: f64 = 1_000.0;
const PULL_LIMIT: f64 = 5_000.0;
const MEMORY_LIMIT: f64 = 1_024.0;
const CHANGE_LIMIT: f64 = 10.0;
const RATIO_LIMIT: f64 = 2.0;

pub(crate) async fn run() -> Outcome<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let mut figures = Vec::new();
    let empty = idle_memory(folder.path()).await?;
    let began = Instant::now();
    let workspace = Running::start(&folder.path().join("workspace"), plain()?.into_iter()).await?;
    println!("{SERVICES} services: made and started in {:.1} s", began.elapsed().as_secs_f64());
    let feed = Feed { address: workspace.feed.clone(), files: workspace.gate_files() };
    figures.extend(told(starts(folder.path(), &feed, empty).await?));
    figures.extend(told(checks(&workspace, folder.path(), &feed).await?));
    figures.extend(told(changes(folder.path()).await?));
    drop(workspace);
    figures.extend(told(vec![memory_with_hosts(folder.path(), empty).await?]));
    Ok(figures)
}

fn plain() -> Outcome<Vec<NewService>> {
    (0..SERVICES).map(service).collect()
}

fn what(what: &str) -> String {
    format!("{SERVICES} services: {what}")
}

/// Of a gate with next to no policy, in bytes.
async fn idle_memory(folder: &Path) -> Outcome<f64> {
    let one = std::iter::once(service(0)?);
    let workspace = Running::start(&folder.join("small-workspace"), one).await?;
    let feed = Feed { address: workspace.feed.clone(), files: workspace.gate_files() };
    let (gate, _) = RunningGate::start(&folder.join("small-gate"), &feed, 0).await?;
    tokio::time::sleep(SETTLING).await;
    gate.process.memory("VmRSS")
}

/// From the start of the process to the first call that it allows: with an empty disk, then with a full one and no workspace.
async fn starts(folder: &Path, feed: &Feed, empty: f64) -> Outcome<Vec<Figure>> {
    let last = SERVICES - 1;
    let (mut pulls, mut from_disk) = (Vec::new(), Vec::new());
    let mut figures = Vec::new();
    for round in 0..STARTS {
        let data_dir = folder.join(format!("gate-{round}"));
        let (gate, took) = RunningGate::start(&data_dir, feed, last).await?;
        pulls.push(took);
        tokio::time::sleep(SETTLING).await;
        let each = |bytes: f64| (bytes - empty) / SERVICES as f64;
        if round == 0 {
            let memory = each(gate.process.memory("VmRSS")?);
            let peak = each(gate.process.memory("VmHWM")?);
            figures.push(
                Figure::new(what("memory a service after a pull"), memory, "bytes").limit(MEMORY_LIMIT),
            );
            figures.push(Figure::new(what("memory a service, peak of the pull"), peak, "bytes"));
        }
        drop(gate);
        let (gate, took) = RunningGate::start(&data_dir, &feed.away(), last).await?;
        from_disk.push(took);
        if round == 0 {
            tokio::time::sleep(SETTLING).await;
            let memory = each(gate.process.memory("VmRSS")?);
            figures.push(
                Figure::new(what("memory a service after a start from disk"), memory, "bytes")
                    .limit(MEMORY_LIMIT),
            );
        }
    }
    let bounded = |name: &str, samples: &mut Vec<Duration>, limit| {
        let median = Figure::millis(what(&format!("{name}, median of {STARTS}")), quantile(samples, 0.5));
        let worst = Figure::millis(what(&format!("{name}, worst of {STARTS}")), quantile(samples, 1.0));
        [median, worst.limit(limit)]
    };
    figures.extend(bounded("start from disk to first allow", &mut from_disk, START_LIMIT));
    figures.extend(bounded("start with an empty disk to first allow", &mut pulls, PULL_LIMIT));
    Ok(figures)
}

/// Checks while nothing changes, and while a key is replaced each second, in turns.
async fn checks(workspace: &Running, folder: &Path, feed: &Feed) -> Outcome<Vec<Figure>> {
    let (gate, _) = RunningGate::start(&folder.join("gate-checks"), feed, 0).await?;
    gate.checks.at_rate(RATE, CALLED, SETTLING).await?;
    let before = gate.process.memory("VmRSS")?;
    let (mut quiet, mut changing, mut enforced) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        quiet.push(load(&gate.checks).await?);
        let changes = change_each_second(workspace, round);
        let (times, took) = tokio::try_join!(load(&gate.checks), changes)?;
        changing.push(times);
        enforced.extend(took);
    }
    let grown = gate.process.memory("VmRSS")? - before;
    let p99 = |samples: &mut [Vec<Duration>]| {
        let mut each: Vec<_> = samples.iter_mut().map(|times| quantile(times, 0.99)).collect();
        quantile(&mut each, 0.5)
    };
    let (quiet, changing) = (p99(&mut quiet), p99(&mut changing));
    let ratio = changing.as_secs_f64() / quiet.as_secs_f64();
    let name = |name: &str| what(&format!("{name} at {RATE} checks a second"));
    Ok(vec![
        Figure::millis(name("p99 of a check, no change"), quiet),
        Figure::millis(name("p99 of a check, a change each second"), changing),
        Figure::new(name("ratio of these"), ratio, "times").limit(RATIO_LIMIT),
        Figure::millis(name("change to enforced by one gate, p99"), quantile(&mut enforced, 0.99)),
        Figure::new(what("memory of the gate grown by these changes"), grown / 1e6, "MB"),
    ])
}

async fn load(checks: &Checks) -> Outcome<Vec<Duration>> {
    checks.at_rate(RATE, CALLED, LENGTH).await
}

async fn change_each_second(workspace: &Running, round: usize) -> Outcome<Vec<Duration>> {
    let mut connection = workspace.connect().await?;
    let mut took = Vec::new();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    for change in 0..LENGTH.as_secs() {
        seconds.tick().await;
        let began = Instant::now();
        let number = CALLED + (round * 1_000 + usize::try_from(change)? * 31) % (SERVICES - CALLED);
        workspace.regenerate(&mut connection, &name(number)).await?;
        took.push(began.elapsed());
    }
    Ok(took)
}

/// From a change at the other end of the feed to its being in force, and to its acknowledgement.
async fn changes(folder: &Path) -> Outcome<Vec<Figure>> {
    let folder = folder.join("changes");
    std::fs::create_dir_all(&folder)?;
    let key = PolicyKey::from_pem(&PolicyKey::generate()?)?;
    let files = ["credential", "pepper", "policy-key.pub"].map(|name| folder.join(name));
    let pepper = [7; 32];
    std::fs::write(&files[0], "bench")?;
    std::fs::write(&files[1], "07".repeat(32))?;
    std::fs::write(&files[2], key.public().to_pem())?;
    let mut policy = Policy::new(key, &pepper, SERVICES)?;
    let (address, mut sessions) = feed::serve().await?;
    let shutdown = Shutdown::default();
    let gate = gate::start("bench", &folder.join("gate"), &Feed { address, files }, &shutdown).await?;
    let mut session = sessions.recv().await.ok_or("no gate came")?;
    session.send_parts(policy.parts()).await?;
    session.ack(policy.revision()).await?;
    let mut applied = gate.applied();
    let (mut in_force, mut durable) = (Vec::new(), Vec::new());
    for number in 0..CHANGES {
        let change = policy.change(number * 331 % SERVICES)?;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let began = Instant::now();
        session.send_change(change).await?;
        let revision = policy.revision();
        applied.wait_for(|version| version.is_some_and(|version| version.revision == revision)).await?;
        in_force.push(began.elapsed());
        session.ack(revision).await?;
        durable.push(began.elapsed());
    }
    shutdown.run(Duration::ZERO, Duration::from_secs(10)).await;
    Ok(vec![
        Figure::millis(what("a change applied, median"), quantile(&mut in_force, 0.5)),
        Figure::millis(what("a change applied, p99"), quantile(&mut in_force, 0.99)).limit(CHANGE_LIMIT),
        Figure::millis(what("a change applied and on disk, p99"), quantile(&mut durable, 0.99)),
    ])
}

/// Each service at a host of its own.
async fn memory_with_hosts(folder: &Path, empty: f64) -> Outcome<Figure> {
    let with_host = |(number, service): (usize, NewService)| NewService {
        hosts: vec![format!("{}.models.example.com", name(number))],
        ..service
    };
    let services = plain()?.into_iter().enumerate().map(with_host);
    let workspace = Running::start(&folder.join("workspace-with-hosts"), services).await?;
    let feed = Feed { address: workspace.feed.clone(), files: workspace.gate_files() };
    let (gate, _) = RunningGate::start(&folder.join("gate-with-hosts"), &feed, 0).await?;
    tokio::time::sleep(SETTLING).await;
    let memory = (gate.process.memory("VmRSS")? - empty) / SERVICES as f64;
    Ok(Figure::new(what("memory a service, each with a host, after a pull"), memory, "bytes")
        .limit(MEMORY_LIMIT))
}
