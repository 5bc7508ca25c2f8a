//! The processes: a workspace, and gates with an Envoy each. Between them are links that can be disturbed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::link::Link;
use crate::oracle::SKEW;
use crate::rest::Rest;
use crate::run::Options;
use crate::support::{Envoy, EnvoyOptions, Process, System as Shared, new_path};

/// The real binary.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_scoregate");

/// A process that is started again where it was.
#[derive(Debug)]
pub(crate) struct Node {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    addresses: PathBuf,
    process: Option<Process>,
    /// The end of its log before its last start.
    past: String,
}

impl Node {
    fn new(
        program: &Path,
        role: &str,
        arguments: &[(&str, String)],
        environment: &[(&'static str, &str)],
    ) -> Self {
        let addresses = new_path("addresses.json");
        let mut all = vec![role.to_owned()];
        all.extend(arguments.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]));
        all.extend(["--addresses-file".to_owned(), text(&addresses)]);
        let environment = environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let (program, past) = (program.to_owned(), String::new());
        Self { program, arguments: all, environment, addresses, process: None, past }
    }

    /// Starts it and waits until it is ready; what it says of its addresses.
    pub(crate) fn start(&mut self) -> Value {
        // Somebody else may hold its port for a moment.
        for _ in 0..20 {
            let _ = std::fs::remove_file(&self.addresses);
            let environment: Vec<_> =
                self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let role = self.arguments[0].clone();
            let mut process = Process::start(&role, &self.program, &self.arguments, &environment);
            let deadline = Instant::now() + Duration::from_secs(60);
            while process.ended().is_none() {
                let written = std::fs::read_to_string(&self.addresses).ok();
                if let Some(addresses) = written.and_then(|text| serde_json::from_str(&text).ok()) {
                    self.process = Some(process);
                    return addresses;
                }
                assert!(Instant::now() < deadline, "{role} does not become ready:\n{}", process.log());
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(process.log().contains("in use"), "{role} ended:\n{}", process.log());
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("{} finds its port in use", self.arguments[0]);
    }

    /// From now on it listens where it was told to listen anywhere before.
    fn stay_at(&mut self, flag: &str, address: &Value) {
        let value = self.arguments.iter().position(|argument| argument == flag).unwrap() + 1;
        self.arguments[value] = address.as_str().unwrap().trim_start_matches("http://").to_owned();
    }

    /// Ends it without a chance to say good-bye.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
            self.past = tail(&process.log(), 12);
        }
    }

    /// Whether it has ended by itself.
    pub(crate) fn is_lost(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_some())
    }

    pub(crate) fn log(&self) -> String {
        let now = self.process.as_ref().map(|process| tail(&process.log(), 15)).unwrap_or_default();
        format!("{}\n    -- the process after that --\n{now}", self.past)
    }
}

/// Lines that tell of single refusals tell nothing here.
fn tail(log: &str, lines: usize) -> String {
    let telling: Vec<_> = log.lines().filter(|line| !line.contains("gate::refusals")).collect();
    let from = telling.len().saturating_sub(lines);
    telling[from..].iter().map(|line| format!("    {line}\n")).collect()
}

#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) node: Node,
    /// Its way to the workspace.
    pub(crate) feed: Arc<Link>,
    /// Envoy's way to it.
    pub(crate) check: Arc<Link>,
    pub(crate) check_address: String,
    /// Of its first process.
    pub(crate) admin: SocketAddr,
    pub(crate) envoy: Envoy,
}

#[derive(Debug)]
pub(crate) struct System {
    pub(crate) workspace: Node,
    pub(crate) data_dir: PathBuf,
    pub(crate) gates: Vec<Gate>,
    rest: Rest,
}

impl System {
    pub(crate) fn start(options: &Options, services: &[String]) -> Self {
        let data_dir = new_path("workspace");
        let anywhere = || "127.0.0.1:0".to_owned();
        let listeners =
            [("--workspace-listen", "workspace"), ("--feed-listen", "feed"), ("--admin-listen", "admin")];
        let mut arguments = vec![("--data-dir", text(&data_dir))];
        arguments.extend(listeners.map(|(flag, _)| (flag, anywhere())));
        let settings = [
            ("SCOREGATE__WORKSPACE__ENFORCEMENT_TIMEOUT", "4s"),
            ("SCOREGATE__WORKSPACE__TOKEN_LIFETIME", "20s"),
            ("SCOREGATE__WORKSPACE__TOKEN_REFRESH_AFTER", "2s"),
        ];
        let mut workspace = Node::new(Path::new(PROGRAM), "workspace", &arguments, &settings);
        let addresses = workspace.start();
        for (flag, name) in listeners {
            workspace.stay_at(flag, &addresses[name]);
        }
        let socket = |name: &str| -> SocketAddr {
            addresses[name].as_str().unwrap().trim_start_matches("http://").parse().unwrap()
        };
        let credential = std::fs::read_to_string(data_dir.join("owner-credential")).unwrap();
        let rest = Rest {
            address: socket("workspace"),
            scope: addresses["workspace_scope"].as_str().unwrap().to_owned(),
            credential: credential.trim().to_owned(),
        };
        let gates = (0..options.gates)
            .map(|number| Gate::start(number, options, &rest, socket("feed"), &data_dir, services))
            .collect();
        Self { workspace, data_dir, gates, rest }
    }

    pub(crate) fn rest(&self) -> Rest {
        self.rest.clone()
    }
}

impl Gate {
    fn start(
        number: usize,
        options: &Options,
        rest: &Rest,
        feed: SocketAddr,
        workspace: &Path,
        services: &[String],
    ) -> Self {
        let (name, credential, feed) = (format!("gate-{number}"), new_path("credential"), Link::to(feed));
        let body = json!({ "name": name, "role": "gate" });
        let made = rest.send("POST", "/scoregate/v1/principals", Some(&body)).unwrap();
        std::fs::write(&credential, made.json()["credential"].as_str().unwrap()).unwrap();
        let arguments = [
            ("--name", name),
            ("--feed", feed.address.to_string()),
            ("--credential-file", text(&credential)),
            ("--pepper-file", text(&workspace.join("pepper"))),
            ("--policy-key-file", text(&workspace.join("policy-key.pub"))),
            ("--data-dir", text(&new_path("gate"))),
            ("--admin-listen", "127.0.0.1:0".to_owned()),
            ("--ext-authz-listen", "127.0.0.1:0".to_owned()),
        ];
        let skew = format!("{SKEW}s");
        let mut environment = vec![("SCOREGATE__GATE__CLOCK_SKEW", skew.as_str())];
        environment.extend(options.fault.map(|fault| ("SCOREGATE_FAULT", fault)));
        let mut node = Node::new(&options.program, "gate", &arguments, &environment);
        let addresses = node.start();
        node.stay_at("--ext-authz-listen", &addresses["ext_authz"]);
        let check_address = addresses["ext_authz"].as_str().unwrap().to_owned();
        let check = Link::to(check_address.parse().unwrap());
        let envoy = EnvoyOptions::new(&check.address.to_string(), Shared::model());
        let envoy = Envoy::start(&EnvoyOptions { services: services.to_vec(), ..envoy });
        let admin = addresses["admin"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
        Self { node, feed, check, check_address, admin, envoy }
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
