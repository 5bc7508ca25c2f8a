//! A real Envoy with the configuration that is shipped, `envoy/sidecar.yaml`, changed only where a test must.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Endpoints, Gate, Process, Request, new_path, wait_for, wait_until};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.parts/envoy/bin/envoy");
const SIDECAR: &str = include_str!("../../../envoy/sidecar.yaml");
const SEVERAL_GATES: &str = include_str!("../../../envoy/parts/several-gates.yaml");
/// How the cluster of the gates begins in it.
const STATIC_CLUSTER: &str = "  - name: scoregate\n    type: STATIC\n";

/// What differs from the shipped configuration.
#[derive(Debug, Clone)]
pub(crate) struct EnvoyOptions {
    /// The configuration.
    pub(crate) file: String,
    /// Gates, `host:port` or `unix:PATH`.
    pub(crate) gates: Vec<String>,
    /// The model server.
    pub(crate) model: SocketAddr,
    /// Services that have a route.
    pub(crate) services: Vec<String>,
    /// Headers as they came, instead of joined ones.
    pub(crate) raw_headers: bool,
    /// As if nobody had thought of the filter.
    pub(crate) no_filter: bool,
    /// Its threads, of which each has connections of its own.
    pub(crate) workers: u32,
    /// Texts in the configuration and what stands in their places.
    pub(crate) edits: Vec<(&'static str, &'static str)>,
}

impl EnvoyOptions {
    pub(crate) fn new(gate: &str, model: SocketAddr) -> Self {
        let gates = vec![gate.to_owned()];
        let (services, edits) = (Vec::new(), Vec::new());
        let (raw_headers, no_filter, workers) = (true, false, 1);
        Self { file: SIDECAR.to_owned(), gates, model, services, raw_headers, no_filter, workers, edits }
    }

    /// With these gates, of which each is asked whether it serves, and left out while it does not.
    pub(crate) fn watching(gates: &[Gate], model: SocketAddr) -> Self {
        let part = &SEVERAL_GATES[SEVERAL_GATES.find("    common_lb_config:").unwrap()..];
        let watched = format!("{STATIC_CLUSTER}{}", part.replace("interval: 1s", "interval: 0.1s"));
        let options = Self::new("", model).edit(STATIC_CLUSTER, watched.leak());
        Self { gates: gates.iter().map(Gate::check_address).collect(), ..options }
    }

    /// With the gates that a file names, which changes while Envoy runs.
    pub(crate) fn following(endpoints: &Endpoints, model: SocketAddr) -> Self {
        let options = Self::new("127.0.0.1:1", model);
        let assignment = options.file.rfind("    load_assignment:").unwrap();
        let file = options.file[..assignment].replace(STATIC_CLUSTER, &endpoints.cluster());
        Self { file, gates: Vec::new(), ..options }
    }

    pub(crate) fn edit(mut self, from: &'static str, to: &'static str) -> Self {
        self.edits.push((from, to));
        self
    }

    fn config(&self) -> String {
        let mut config = self.file.clone();
        replace_address(&mut config, "listen", "127.0.0.1:0");
        replace_address(&mut config, "admin", "127.0.0.1:0");
        for mark in marks(&self.file).filter(|mark| mark.starts_with("model")) {
            replace_address(&mut config, mark, &self.model.to_string());
        }
        if marks(&self.file).any(|mark| mark == "ready") {
            replace_address(&mut config, "ready", "127.0.0.1:0");
        }
        if let Some(gate) = self.gates.first() {
            replace_address(&mut config, "gate", gate);
        }
        for gate in self.gates.iter().skip(1) {
            config.push_str(&format!("        - endpoint:\n            address: {}\n", envoy_address(gate)));
        }
        if !self.raw_headers {
            replace(&mut config, "encode_raw_headers: true", "encode_raw_headers: false");
        }
        for (from, to) in &self.edits {
            replace(&mut config, from, to);
        }
        if self.no_filter {
            remove_filter(&mut config);
        }
        add_routes(&mut config, &self.services);
        config
    }
}

fn replace(config: &mut String, from: &str, to: &str) {
    assert_eq!(config.matches(from).count(), 1, "`{from}` in sidecar.yaml");
    *config = config.replace(from, to);
}

/// What addresses are marked as.
fn marks(config: &str) -> impl Iterator<Item = &str> {
    config
        .lines()
        .filter(|line| line.contains("address:"))
        .filter_map(|line| Some(line.split_once("  # @")?.1))
}

/// Replaces the address on the line that ends with `# @mark`.
fn replace_address(config: &mut String, mark: &str, address: &str) {
    let mark = format!("  # @{mark}");
    let line = config.lines().find(|line| line.ends_with(&mark)).expect("a marked line").to_owned();
    let (key, _) = line.split_once("address:").expect("an address on it");
    replace(config, &line, &format!("{key}address: {}{mark}", envoy_address(address)));
}

pub(super) fn envoy_address(address: &str) -> String {
    match address.strip_prefix("unix:") {
        Some(path) => format!("{{ pipe: {{ path: {path} }} }}"),
        None => {
            let (host, port) = address.rsplit_once(':').expect("an address with a port");
            format!("{{ socket_address: {{ address: {host}, port_value: {port} }} }}")
        }
    }
}

fn remove_filter(config: &mut String) {
    let start = config.find("          - name: envoy.filters.http.ext_authz\n").expect("the filter");
    let end = config.find("          - name: envoy.filters.http.router\n").expect("the next filter");
    config.replace_range(start..end, "");
}

/// Repeats the route of `forecast` for other services.
fn add_routes(config: &mut String, services: &[String]) {
    if services.is_empty() {
        return;
    }
    let start =
        config.find("              - match: { prefix: /api/v1/service/forecast/ }").expect("the route");
    let end =
        config.find("              - match: { prefix: /api/v1/service/ranking/ }").expect("the next route");
    let route = config[start..end].to_owned();
    let routes: String = services.iter().map(|service| route.replace("forecast", service)).collect();
    config.insert_str(start, &routes);
}

/// A running Envoy.
#[derive(Debug)]
pub(crate) struct Envoy {
    process: Process,
    pub(crate) admin: SocketAddr,
    /// Where callers come in, in HTTP/1.1 and HTTP/2.
    pub(crate) address: SocketAddr,
}

impl Envoy {
    pub(crate) fn start(options: &EnvoyOptions) -> Self {
        Self::start_with(&options.config(), options.workers)
    }

    /// The same with a configuration, whose listener is called `scoring`, and so many threads.
    pub(crate) fn start_with(text: &str, workers: u32) -> Self {
        let program = Path::new(PROGRAM);
        assert!(
            program.exists(),
            "{PROGRAM} is missing: `make test`, or `python3 tools/parts.py envoy`, installs it"
        );
        let (config, admin) = (new_path("envoy.yaml"), new_path("envoy-admin"));
        std::fs::write(&config, text).unwrap();
        let (config, admin_path) = (config.to_str().unwrap(), admin.to_str().unwrap());
        let workers = workers.to_string();
        let files = ["-c", config, "--admin-address-path", admin_path, "--concurrency", &workers];
        // Without a name it cannot follow anything.
        let name = ["--service-node", "envoy", "--service-cluster", "tests"];
        // With hot restart, Envoy ends when the thread that started it ends, and a test's thread does.
        let others = ["--disable-hot-restart", "--log-level", "warning", "--drain-time-s", "1"];
        let flush = ["--file-flush-interval-msec", "10"];
        let arguments = [&files[..], &name, &others, &flush].concat();
        let mut process = Process::start("envoy", program, arguments, &[]);
        let admin = process.wait_ready(|| std::fs::read_to_string(&admin).ok()?.trim().parse().ok());
        let address = process.wait_ready(|| listening(admin));
        Self { process, admin, address }
    }

    /// The counters and gauges whose name contains a text.
    pub(crate) fn stats(&self, part: &str) -> HashMap<String, u64> {
        let answer = Request::get(&format!("/stats?filter={part}")).send(self.admin);
        let split = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        answer.text().lines().filter_map(split).collect()
    }

    /// Waits until so many gates serve.
    pub(crate) fn wait_for_gates(&self, number: u64) {
        let healthy = "cluster.scoregate.membership_healthy";
        wait_until("the gates", || self.stats(healthy)[healthy] == number);
    }

    /// The access log's line of the request to this path, which no other request has. Waits for it.
    pub(crate) fn access_log(&self, path: &str) -> Value {
        wait_for(&format!("{path} in the access log"), Duration::from_secs(5), || {
            let log = self.process.log();
            let lines = log.lines().filter(|line| line.starts_with('{'));
            let mut lines =
                lines.filter(|line| line.contains(path)).filter_map(|line| serde_json::from_str(line).ok());
            lines.find(|line: &Value| line["path"] == path)
        })
    }

    /// Its log without the access log: the end of it.
    pub(crate) fn complaints(&self) -> String {
        let log = self.process.log();
        let mut lines: Vec<_> = log.lines().filter(|line| !line.starts_with('{')).rev().take(30).collect();
        lines.reverse();
        lines.join("\n")
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

/// Where the listener is, once Envoy takes requests.
fn listening(admin: SocketAddr) -> Option<SocketAddr> {
    if Request::get("/ready").try_send(admin).ok()?.status != 200 {
        return None;
    }
    let listeners = Request::get("/listeners?format=json").send(admin).json();
    let scoring = listeners["listener_statuses"].as_array()?.iter().find(|one| one["name"] == "scoring")?;
    let address = &scoring["local_address"]["socket_address"];
    format!("{}:{}", address["address"].as_str()?, address["port_value"]).parse().ok()
}
