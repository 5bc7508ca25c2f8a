//! Gates: as processes of their own, and within this one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use scoregate::admin::Health;
use scoregate::clock::SystemClock;
use scoregate::config::{self, Sources};
use scoregate::gate::{self, GateHandle, Listeners};
use scoregate::listen::Listener;
use scoregate::metrics::Metrics;
use scoregate::shutdown::Shutdown;

use crate::checks::Checks;
use crate::workspace::{BINARY, Outcome, Process};

/// Where a gate gets its policy, and what it needs for that.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    pub(crate) address: String,
    /// Credential, pepper, public policy key.
    pub(crate) files: [PathBuf; 3],
}

impl Feed {
    /// The same gate while the workspace is away.
    pub(crate) fn away(&self) -> Self {
        // The port of `discard`, where nobody listens.
        Self { address: "127.0.0.1:9".to_owned(), ..self.clone() }
    }
}

/// A gate as a process.
pub(crate) struct RunningGate {
    pub(crate) process: Process,
    pub(crate) checks: Checks,
}

impl RunningGate {
    /// Returns when it has allowed a call of this service, and how long that took from the start of the process.
    pub(crate) async fn start(data_dir: &Path, feed: &Feed, service: usize) -> Outcome<(Self, Duration)> {
        std::fs::create_dir_all(data_dir)?;
        let ready = data_dir.join("addresses.json");
        let _ = std::fs::remove_file(&ready);
        let log = File::create(data_dir.join("log"))?;
        let [credential, pepper, policy_key] = &feed.files;
        let began = Instant::now();
        let process = Command::new(BINARY)
            .args(["gate", "--name", "bench", "--ext-authz-listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0", "--feed", &feed.address, "--data-dir"])
            .arg(data_dir)
            .arg("--addresses-file")
            .arg(&ready)
            .arg("--credential-file")
            .arg(credential)
            .arg("--pepper-file")
            .arg(pepper)
            .arg("--policy-key-file")
            .arg(policy_key)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut process = Process(process);
        let addresses = process.addresses(&ready).await?;
        let checks = Checks::connect(addresses["ext_authz"].as_str().ok_or("no check port")?).await?;
        checks.once(service).await?;
        Ok((Self { process, checks }, began.elapsed()))
    }
}

/// A gate in this process.
pub(crate) async fn start(
    name: &str,
    data_dir: &Path,
    feed: &Feed,
    shutdown: &Shutdown,
) -> Outcome<GateHandle> {
    let [credential, pepper, policy_key] = feed.files.each_ref().map(|path| path.display().to_string());
    let variables = [
        ("NAME", name.to_owned()),
        ("FEED", feed.address.clone()),
        ("CREDENTIAL_FILE", credential),
        ("PEPPER_FILES", pepper),
        ("POLICY_KEY_FILES", policy_key),
        ("WORKERS", "1".to_owned()),
    ];
    let variables = variables.map(|(name, value)| (format!("SCOREGATE__GATE__{name}"), value));
    let sources = Sources::new(None, variables);
    let config = config::gate(&sources.read()?, &sources, data_dir, None)?;
    let listeners =
        Listeners { check_ports: vec![Listener::bind(&"127.0.0.1:0".parse()?).await?], peers: None };
    let health = Health::not_ready("no policy yet").await;
    let (metrics, clock) = (Metrics::default(), Arc::new(SystemClock));
    Ok(gate::start(config, listeners, health, &metrics, clock, shutdown).await?)
}
