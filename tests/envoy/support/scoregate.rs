//! The binary under test, in its roles.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use scoregate::statement::PolicyKey;
use serde_json::Value;

use super::addresses::Addresses;
use super::{Answer, Process, Request, Workspace, new_path};

const PROGRAM: &str = env!("CARGO_BIN_EXE_scoregate");

/// A long-running `scoregate` that is ready.
#[derive(Debug)]
pub(crate) struct Scoregate {
    pub(crate) process: Process,
    pub(crate) addresses: Addresses,
}

/// The drain delay in tests: long enough for Envoy's health checks, and no longer.
pub(crate) const DRAIN_DELAY: Duration = Duration::from_millis(700);

impl Scoregate {
    /// Starts it and waits until it has written its addresses.
    pub(crate) fn start(role: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_program(Path::new(PROGRAM), role, arguments, environment)
    }

    /// The same of another binary.
    pub(crate) fn start_program(
        program: &Path,
        role: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let file = new_path("addresses.json");
        let mut process = start_unready(program, role, arguments, environment, &file);
        let addresses = process.wait_ready(|| Addresses::read(&file));
        Self { process, addresses }
    }

    /// The same where it may have no more than so many files open, sockets included.
    pub(crate) fn start_with_few_files(role: &str, arguments: &[String], files: u32) -> Self {
        let addresses = new_path("addresses.json");
        let limited = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
        let begin = ["-c", &limited, PROGRAM, role, "--addresses-file", addresses.to_str().unwrap()];
        let arguments = begin.into_iter().chain(arguments.iter().map(String::as_str));
        let mut process = Process::start(role, Path::new("/bin/sh"), arguments, &[]);
        let addresses = process.wait_ready(|| Addresses::read(&addresses));
        Self { process, addresses }
    }

    /// Starts it and waits for nothing.
    pub(crate) fn start_unready(
        role: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
        addresses: &Path,
    ) -> Process {
        start_unready(Path::new(PROGRAM), role, arguments, environment, addresses)
    }

    /// Runs a command to its end.
    pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = std::process::Command::new(PROGRAM);
        command.args(arguments).envs(environment.iter().copied()).output().unwrap()
    }

    /// Asks the admin listener.
    pub(crate) fn admin(&self, path: &str) -> Answer {
        Request::get(path).send(self.addresses.socket("admin"))
    }

    /// The value of one series, by its text in front of the value.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").text().to_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no `{series}` in\n{text}")).parse().unwrap()
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        self.process.signal("TERM");
        self.process.wait(Duration::from_secs(15))
    }
}

fn start_unready(
    program: &Path,
    role: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
    addresses: &Path,
) -> Process {
    let drain_delay = format!("{}ms", DRAIN_DELAY.as_millis());
    let defaults = [("SCOREGATE__SHUTDOWN__DRAIN_DELAY", drain_delay.as_str())];
    let addresses = ["--addresses-file", addresses.to_str().unwrap()];
    let arguments = [&[role], arguments, &addresses].concat();
    Process::start(role, program, arguments, &[&defaults, environment].concat())
}

/// A workspace by itself.
#[derive(Debug)]
pub(crate) struct WorkspaceProcess {
    pub(crate) scoregate: Scoregate,
    pub(crate) data_dir: PathBuf,
    environment: Vec<(&'static str, &'static str)>,
}

impl WorkspaceProcess {
    pub(crate) fn start(environment: &[(&'static str, &'static str)]) -> Self {
        Self::start_in(&new_path("workspace"), environment)
    }

    /// The same in this data directory.
    pub(crate) fn start_in(data_dir: &Path, environment: &[(&'static str, &'static str)]) -> Self {
        let scoregate = Self::start_at(data_dir, ["127.0.0.1:0"; 3], environment);
        Self { scoregate, data_dir: data_dir.to_owned(), environment: environment.to_vec() }
    }

    /// Gives it another policy key, which counts from its next start on. Where the old and the new public key are.
    pub(crate) fn replace_policy_key(&self) -> [PathBuf; 2] {
        let keys = [new_path("old-policy-key.pub"), new_path("new-policy-key.pub")];
        std::fs::copy(self.data_dir.join("policy-key.pub"), &keys[0]).unwrap();
        let made = PolicyKey::generate().unwrap();
        std::fs::write(&keys[1], PolicyKey::from_pem(&made).unwrap().public().to_pem()).unwrap();
        let private = new_path("policy-key");
        std::fs::write(&private, made.as_bytes()).unwrap();
        std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(private, self.data_dir.join("policy-key")).unwrap();
        keys
    }

    fn start_at(data_dir: &Path, listen: [&str; 3], environment: &[(&str, &str)]) -> Scoregate {
        let [workspace, feed, admin] = listen;
        let arguments = [
            ["--data-dir", data_dir.to_str().unwrap(), "--workspace-listen", workspace],
            ["--feed-listen", feed, "--admin-listen", admin],
        ];
        Scoregate::start("workspace", arguments.as_flattened(), environment)
    }

    /// Starts it again where it was, after it ended.
    pub(crate) fn restart(&mut self) {
        let before = &self.scoregate.addresses;
        let listen = ["workspace", "feed", "admin"].map(|name| before.socket(name).to_string());
        let listen = listen.each_ref().map(String::as_str);
        self.scoregate = Self::start_at(&self.data_dir, listen, &self.environment);
    }

    /// Its REST, as the owner.
    pub(crate) fn client(&self) -> Workspace {
        Workspace::of(&self.scoregate.addresses, &self.data_dir)
    }

    /// Runs a command as the owner.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        let url = format!("http://{}", self.scoregate.addresses.socket("workspace"));
        let credential = std::fs::read_to_string(self.data_dir.join("owner-credential")).unwrap();
        let environment =
            [("SCOREGATE_WORKSPACE", url.as_str()), ("SCOREGATE_CREDENTIAL", credential.trim())];
        Scoregate::run(arguments, &environment)
    }

    /// The same for one that must succeed. What it says, in JSON.
    pub(crate) fn json_of(&self, arguments: &[&str]) -> Value {
        let output = self.command(&[arguments, &["--output", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// A gate by itself.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) scoregate: Scoregate,
    arguments: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
}

impl Gate {
    /// Starts a gate of this workspace, with a principal of its own.
    pub(crate) fn start(workspace: &WorkspaceProcess, name: &str) -> Self {
        Self::start_with(workspace, name, &[])
    }

    /// The same with these variables.
    pub(crate) fn start_with(
        workspace: &WorkspaceProcess,
        name: &str,
        environment: &[(&'static str, &'static str)],
    ) -> Self {
        Self::with_arguments(Self::arguments(workspace, name), environment)
    }

    /// What a gate of this workspace is started with; its principal is made with this.
    pub(crate) fn arguments(workspace: &WorkspaceProcess, name: &str) -> Vec<String> {
        Self::arguments_with(workspace, name, &workspace.client().create_principal(name, "gate"))
    }

    /// The same with the credential of a principal that is there.
    pub(crate) fn arguments_with(workspace: &WorkspaceProcess, name: &str, credential: &str) -> Vec<String> {
        let file = new_path("gate-credential");
        std::fs::write(&file, credential).unwrap();
        let path = |path: PathBuf| path.into_os_string().into_string().unwrap();
        let arguments = [
            ("--name", name.to_owned()),
            ("--feed", workspace.scoregate.addresses.text("feed").to_owned()),
            ("--credential-file", path(file)),
            ("--pepper-file", path(workspace.data_dir.join("pepper"))),
            ("--policy-key-file", path(workspace.data_dir.join("policy-key.pub"))),
            ("--data-dir", path(new_path("gate"))),
            ("--admin-listen", "127.0.0.1:0".to_owned()),
            ("--ext-authz-listen", "127.0.0.1:0".to_owned()),
        ];
        arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }

    /// Starts a gate and waits until it is ready.
    pub(crate) fn with_arguments(
        arguments: Vec<String>,
        environment: &[(&'static str, &'static str)],
    ) -> Self {
        let environment = environment.to_vec();
        Self { scoregate: start_gate(&arguments, &environment), arguments, environment }
    }

    /// From its next start on, it believes what these public policy keys prove.
    pub(crate) fn trust(&mut self, keys: &[&Path]) {
        while let Some(flag) = self.arguments.iter().position(|argument| argument == "--policy-key-file") {
            self.arguments.drain(flag..flag + 2);
        }
        let trusted = keys.iter().map(|key| key.to_str().unwrap().to_owned());
        self.arguments.extend(trusted.flat_map(|key| ["--policy-key-file".to_owned(), key]));
    }

    /// Starts it again on its check port, after it ended.
    pub(crate) fn restart(&mut self) {
        let address = self.check_address();
        let listen = self.arguments.iter().position(|argument| argument == "--ext-authz-listen").unwrap();
        self.arguments[listen + 1] = address;
        self.scoregate = start_gate(&self.arguments, &self.environment);
    }

    /// Starts a second one with the same arguments, which must not stay.
    pub(crate) fn run_again(&self) -> Output {
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        Scoregate::run(&[&["gate"], arguments.as_slice()].concat(), &[])
    }

    /// How often it has decided.
    pub(crate) fn asked(&self) -> f64 {
        let metrics = self.scoregate.admin("/metrics");
        let counts = metrics.text().lines().filter(|line| line.starts_with("scoregate_decisions_total{"));
        counts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    }

    /// As `--ext-authz-listen` takes it.
    pub(crate) fn check_address(&self) -> String {
        self.scoregate.addresses.text("ext_authz").to_owned()
    }
}

fn start_gate(arguments: &[String], environment: &[(&str, &str)]) -> Scoregate {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    Scoregate::start("gate", &arguments, environment)
}
