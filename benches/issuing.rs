//! What it costs to issue a key or a token.
//!
//! Azure's clients ask for one before every scoring request. Three workspaces with 10, 1,000 and 100,000 services run as
//! processes of their own, on SQLite, logging as they do by default. They are measured in turns, so that what else the
//! machine does falls on all of them; each token service has been asked once before. CPU is that of the workspace's
//! process alone, of all its threads. Then the pages of `GET /services` are walked, and the first and the last one timed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use scoregate::workspace::{AuthFlags, NewService};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::workspace::{self, Connection, Failure, Outcome, Running, name};

const SIZES: [usize; 3] = [10, 1_000, 100_000];
const ROUNDS: usize = 5;
const REQUESTS: usize = 20_000;
const CONNECTIONS: usize = 8;
const PAGE: usize = 500;
/// Kernel's clock ticks a second in `/proc`; 100 on every Linux.
const TICKS: f64 = 100.0;

pub(crate) async fn run() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let mut workspaces = Vec::new();
    for size in SIZES {
        let began = Instant::now();
        let services = (0..size).map(service).collect::<Outcome<Vec<_>>>()?;
        let workspace = Running::start(&folder.path().join(size.to_string()), services.into_iter()).await?;
        println!("{size:>7} services: made and started in {:.1} s", began.elapsed().as_secs_f64());
        workspaces.push(workspace);
    }
    for route in [Route::Keys, Route::Token] {
        measure(route, &workspaces).await?;
    }
    for workspace in &workspaces {
        time_pages(workspace).await?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Route {
    Keys,
    Token,
}

impl Route {
    fn name(self) -> &'static str {
        match self {
            Self::Keys => "listkeys",
            Self::Token => "token",
        }
    }

    /// Every other service is in token mode.
    fn service(self, number: usize, of: usize) -> String {
        let offset = match self {
            Self::Keys => 0,
            Self::Token => 1,
        };
        name(number % (of / 2) * 2 + offset)
    }
}

async fn measure(route: Route, workspaces: &[Running]) -> Outcome<()> {
    for workspace in workspaces {
        // Each service once: keys are decrypted and tokens signed at their first use.
        workspace.load(route, workspace.services / 2).await?;
    }
    let mut samples: BTreeMap<usize, Vec<Sample>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for workspace in workspaces {
            samples.entry(workspace.services).or_default().push(workspace.load(route, REQUESTS).await?);
        }
    }
    println!(
        "\n{:<9} {:>9} {:>11} {:>11} {:>14} {:>13}",
        route.name(),
        "services",
        "requests/s",
        "CPU us",
        "per core and s",
        "rate to first"
    );
    let first = samples.values().next().map_or(f64::NAN, |samples| median(samples, |sample| sample.rate));
    for (services, samples) in &samples {
        let (rate, cpu) = (median(samples, |sample| sample.rate), median(samples, |sample| sample.cpu));
        println!(
            "{:<9} {services:>9} {rate:>11.0} {:>11.1} {:>14.0} {:>13.2}",
            "",
            cpu * 1e6,
            1.0 / cpu,
            rate / first
        );
    }
    Ok(())
}

/// Of one round: requests a second, and seconds of CPU a request.
struct Sample {
    rate: f64,
    cpu: f64,
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<_> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The first and the last page of all services, each the median of some reads.
async fn time_pages(workspace: &Running) -> Outcome<()> {
    let first = format!("{}/services?count={PAGE}", workspace.path);
    let mut last = first.clone();
    let mut seen = 0;
    loop {
        let page: Value = serde_json::from_slice(&workspace.get(&last).await?)?;
        seen += page["value"].as_array().map_or(0, Vec::len);
        let Some(next) = page["nextLink"].as_str() else { break };
        last =
            next.strip_prefix(&format!("http://{}", workspace.address)).ok_or("a foreign link")?.to_owned();
    }
    if seen != workspace.services {
        return Err(format!("the pages have {seen} services, not {}", workspace.services).into());
    }
    let (first, last) = (workspace.time(&first).await?, workspace.time(&last).await?);
    println!("\n{:>7} services in pages of {PAGE}: first {first:.2?}, last {last:.2?}", workspace.services);
    Ok(())
}

impl Running {
    /// Sends requests over all connections, each connection one after the other.
    async fn load(&self, route: Route, requests: usize) -> Outcome<Sample> {
        let each = requests.div_ceil(CONNECTIONS);
        let mut callers = Vec::new();
        for index in 0..CONNECTIONS {
            let numbers = index * each..(index + 1) * each;
            let path = |number| {
                let service = route.service(number, self.services);
                format!("{}/services/{service}/{}", self.path, route.name())
            };
            callers.push((Connection::open(&self.address).await?, numbers.map(path).collect::<Vec<_>>()));
        }
        let (cpu, began) = (self.cpu()?, Instant::now());
        let mut tasks = JoinSet::new();
        for (mut connection, paths) in callers {
            let credential = self.credential.clone();
            tasks.spawn(async move {
                for path in paths {
                    connection.call("POST", &path, &credential, "").await?;
                }
                Ok::<_, Failure>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        let sent = (each * CONNECTIONS) as f64;
        let rate = sent / began.elapsed().as_secs_f64();
        Ok(Sample { rate, cpu: (self.cpu()? - cpu) / sent })
    }

    async fn time(&self, path: &str) -> Outcome<Duration> {
        let mut connection = Connection::open(&self.address).await?;
        let mut times = Vec::new();
        for _ in 0..21 {
            let began = Instant::now();
            connection.call("GET", path, &self.credential, "").await?;
            times.push(began.elapsed());
        }
        times.sort();
        Ok(times[times.len() / 2])
    }

    /// Seconds of CPU that the process has used, in user and kernel mode (proc(5), fields 14 and 15 of `stat`).
    fn cpu(&self) -> Outcome<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.0.id()))?;
        let (_, fields) = stat.rsplit_once(") ").ok_or("an odd stat")?;
        let ticks: Vec<f64> = fields.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<f64>() / TICKS)
    }
}

/// Every other one is in token mode.
fn service(number: usize) -> Outcome<NewService> {
    let token = number % 2 == 1;
    let auth = AuthFlags { key: Some(!token), token: Some(token) };
    Ok(NewService { auth, keys: (None, None), ..workspace::service(number)? })
}
