//! One run: the system, those who change it, those who check it, and what disturbs it, until enough has happened or
//! something is wrong.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::checker::{self, Direct};
use crate::disturber::Disturber;
use crate::driver::Driver;
use crate::oracle::Oracle;
use crate::random::Random;
use crate::rest::Rest;
use crate::system::System;

/// What a run needs.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    /// It lasts so long at least, and until so many kills and checks.
    pub(crate) lasts: Duration,
    pub(crate) kills: u64,
    pub(crate) checks: u64,
    pub(crate) gates: usize,
    pub(crate) services: usize,
    /// The gates', and what they are started with.
    pub(crate) program: PathBuf,
    pub(crate) fault: Option<&'static str>,
}

/// What happened.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "it is printed")]
pub(crate) struct Report {
    pub(crate) kills: u64,
    pub(crate) disturbances: u64,
    pub(crate) changes: u64,
    pub(crate) unknown: u64,
    pub(crate) signing_keys: usize,
    pub(crate) direct: u64,
    pub(crate) envoy: u64,
    pub(crate) no_answer: u64,
    pub(crate) must_accept: u64,
    pub(crate) must_refuse: u64,
    pub(crate) either: u64,
}

/// The run is over, for whoever hears this.
#[derive(Debug)]
pub(crate) struct Stop;

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) oracle: Oracle,
    stop: AtomicBool,
    failure: Mutex<Option<String>>,
    unknown: AtomicU64,
    /// The headers of tokens, of which each key makes one.
    signing_keys: Mutex<HashSet<String>>,
    pub(crate) direct: AtomicU64,
    pub(crate) envoy: AtomicU64,
    pub(crate) no_answer: AtomicU64,
}

impl Run {
    fn new(oracle: Oracle) -> Self {
        let counter = AtomicU64::default;
        Self {
            oracle,
            stop: AtomicBool::default(),
            failure: Mutex::default(),
            unknown: counter(),
            signing_keys: Mutex::default(),
            direct: counter(),
            envoy: counter(),
            no_answer: counter(),
        }
    }

    /// Notes what is wrong, the first time, and ends the run.
    pub(crate) fn fail(&self, problem: &str) -> Stop {
        self.failure.lock().unwrap().get_or_insert_with(|| problem.to_owned());
        self.stop.store(true, Ordering::SeqCst);
        Stop
    }

    pub(crate) fn unknown(&self) {
        self.unknown.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn signed(&self, token: &str) {
        let header = token.split('.').next().unwrap_or_default();
        self.signing_keys.lock().unwrap().insert(header.to_owned());
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// # Errors
    /// The run is over.
    pub(crate) fn sleep(&self, time: Duration) -> Result<(), Stop> {
        let end = Instant::now() + time;
        while !self.is_over() {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(());
            }
            std::thread::sleep(rest.min(Duration::from_millis(50)));
        }
        Err(Stop)
    }

    fn checks(&self) -> u64 {
        self.direct.load(Ordering::Relaxed) + self.envoy.load(Ordering::Relaxed)
    }
}

/// Runs one.
///
/// # Errors
/// Something was wrong.
pub(crate) fn run(options: &Options) -> Result<Report, String> {
    let names: Vec<_> = (0..options.services).map(|number| format!("chaos-{number}")).collect();
    let system = System::start(options, &names);
    let feeds = system.gates.iter().map(|gate| std::sync::Arc::clone(&gate.feed)).collect();
    let run = Run::new(Oracle::new(&names, feeds));
    let (random, rest) = (Random::new(options.seed), system.rest());
    let checked: Vec<_> =
        system.gates.iter().map(|gate| (gate.check_address.clone(), gate.envoy.address)).collect();
    let mut disturber = Disturber::new(&run, system, random.fork(0), options.fault.is_none());
    std::thread::scope(|scope| {
        for (number, name) in names.iter().enumerate() {
            let (name, rest, random) = (name.clone(), rest.clone(), random.fork(100 + number as u64));
            let driver = Driver { run: &run, service: number, name, rest, random, chosen: 0 };
            scope.spawn(|| guarded(&run, || driver.drive()));
        }
        for (gate, (direct, envoy)) in checked.iter().enumerate() {
            let random = random.fork(200 + gate as u64);
            let run = &run;
            let (directly, through_envoy) = (random.fork(0), random.fork(1));
            scope.spawn(move || guarded(run, || checker::check_directly(run, gate, direct, directly)));
            scope.spawn(move || {
                guarded(run, || checker::check_through_envoy(run, gate, *envoy, through_envoy));
            });
        }
        guarded(&run, || {
            let started = Instant::now();
            let is_enough = |kills| {
                started.elapsed() >= options.lasts && kills >= options.kills && run.checks() >= options.checks
            };
            while !is_enough(disturber.kills) {
                disturber.step()?;
                if started.elapsed() > options.lasts * 6 + Duration::from_secs(60) {
                    return Err(run.fail("the run does not come to its end"));
                }
            }
            disturber.heal();
            settle(&run, &names, &rest, &checked)
        });
        run.stop.store(true, Ordering::SeqCst);
    });
    let failure = run.failure.lock().unwrap().take();
    match failure {
        Some(problem) => Err(format!("seed {}: {problem}\n{}", options.seed, disturber.logs())),
        None => Ok(report(&run, &disturber, names.len())),
    }
}

/// A panic of one thread is the end of all.
fn guarded(run: &Run, work: impl FnOnce() -> Result<(), Stop>) {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        run.fail(text);
    }
}

/// With everything sound again, each gate gets to where the workspace is: it accepts a key that was made just now.
fn settle(
    run: &Run,
    names: &[String],
    rest: &Rest,
    gates: &[(String, std::net::SocketAddr)],
) -> Result<(), Stop> {
    const LIMIT: Duration = Duration::from_secs(45);
    let name = "settled";
    debug_assert!(!names.iter().any(|other| other == name));
    let deadline = Instant::now() + LIMIT;
    let body = serde_json::json!({ "name": name, "computeType": "AKS" });
    let key = loop {
        let created = rest.call("POST", "/services", Some(&body)).is_ok_and(|answer| answer.status < 500);
        if let (true, Ok(Some(seen))) = (created, rest.look(name)) {
            break seen.keys.0;
        }
        if Instant::now() > deadline {
            return Err(run.fail("the workspace accepts no change although nothing disturbs it"));
        }
        run.sleep(Duration::from_millis(100))?;
    };
    for (gate, (address, _)) in gates.iter().enumerate() {
        let mut direct = Direct::connect(address);
        while direct.ask(name, &key) != Some(200) {
            if Instant::now() > deadline {
                return Err(run.fail(&format!("gate-{gate} never got to where the workspace is")));
            }
            run.sleep(Duration::from_millis(50))?;
        }
    }
    Ok(())
}

fn report(run: &Run, disturber: &Disturber<'_>, services: usize) -> Report {
    let [must_accept, must_refuse, either] = run.oracle.counts.all();
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Report {
        kills: disturber.kills,
        disturbances: disturber.disturbances,
        changes: (0..services).map(|service| run.oracle.changes(service)).sum(),
        unknown: load(&run.unknown),
        signing_keys: run.signing_keys.lock().unwrap().len(),
        direct: load(&run.direct),
        envoy: load(&run.envoy),
        no_answer: load(&run.no_answer),
        must_accept,
        must_refuse,
        either,
    }
}
