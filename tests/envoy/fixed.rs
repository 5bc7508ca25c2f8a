//! A gate without a workspace, whose policy is a file.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Checks, Envoy, EnvoyOptions, Gate, Request, Scoregate, Seen, System, WorkspaceProcess, new_path, wait_for,
};

pub(crate) const KEY: &str = "the-key-of-forecast";
const NEXT_KEY: &str = "the-next-key-of-forecast";

/// What a change of the file may take: looked at each second, taken at the second look.
const SOON: Duration = Duration::from_secs(10);

/// A directory with a pepper.
pub(crate) fn directory() -> PathBuf {
    let directory = new_path("fixed");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("pepper"), "a-pepper-of-at-least-32-bytes-it-is\n").unwrap();
    directory
}

/// `scoregate key hash`.
fn entry(directory: &Path, uid: &str, key: &str) -> String {
    let pepper = directory.join("pepper");
    let mut child = Command::new(env!("CARGO_BIN_EXE_scoregate"))
        .args(["key", "hash", uid, "--pepper-file", pepper.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{key}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn policy(directory: &Path, key: &str) -> String {
    format!(
        "\
version: scoregate/v1
services:
  - name: forecast
    authMode: key
    hosts: [models.example.com]
    keys:
      primary: {}
  - {{ name: ranking, authMode: disabled }}
",
        entry(directory, "forecast", key).trim_end()
    )
}

pub(crate) fn arguments(directory: &Path, policy: &Path) -> Vec<String> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let listen = ["--admin-listen", "127.0.0.1:0", "--ext-authz-listen", "127.0.0.1:0"].map(str::to_owned);
    // Nothing can be made there: no gate with a policy file needs to.
    let data_dir = "/proc/scoregate-data".to_owned();
    let paths = [
        ("--policy", text(policy)),
        ("--pepper-file", text(&directory.join("pepper"))),
        ("--data-dir", data_dir),
    ];
    let paths = paths.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    listen.into_iter().chain(paths).collect()
}

fn start(directory: &Path, policy: &Path) -> Gate {
    Gate::with_arguments(arguments(directory, policy), &[])
}

/// `GET /policy` of the admin listener.
fn shown(gate: &Gate) -> Value {
    gate.scoregate.admin("/policy").json()
}

#[test]
fn a_gate_with_a_policy_file_decides_through_envoy() {
    let directory = directory();
    let file = directory.join("policy.yaml");
    std::fs::write(&file, policy(&directory, KEY)).unwrap();
    let gate = start(&directory, &file);
    let envoy = Envoy::start(&EnvoyOptions::new(&gate.check_address(), System::model()));

    let score = |service: &str, key: &str| Request::score(service).bearer(key).send(envoy.address);
    let seen = Seen::of(&score("forecast", KEY));
    assert_eq!(
        seen.identity(),
        ["x-scoregate-auth-mode: key", "x-scoregate-key-slot: primary", "x-scoregate-service: forecast"]
    );
    assert!(!seen.holds(KEY));
    assert_eq!(score("forecast", NEXT_KEY).status, 401);
    assert_eq!(Request::score("forecast").send(envoy.address).status, 401);
    assert_eq!(score("unknown", KEY).status, 401);
    assert_eq!(Request::score("ranking").send(envoy.address).status, 200);

    assert_eq!(gate.scoregate.admin("/readyz").text(), "ready\n");
    let sha256 = Command::new("sha256sum").arg(&file).output().unwrap().stdout;
    let sha256 = String::from_utf8(sha256).unwrap()[..64].to_owned();
    let shown = shown(&gate);
    assert_eq!(
        (&shown["sha256"], &shown["revision"], &shown["problem"]),
        (&json!(sha256), &json!(1), &Value::Null)
    );
    let request = json!({ "service": "forecast", "headers": [["authorization", format!("Bearer {KEY}")]] });
    let explain = Request::new("POST", "/explain").header("content-type", "application/json");
    let explained = explain.body(request.to_string()).send(gate.scoregate.addresses.socket("admin")).json();
    assert_eq!((&explained["reason"], &explained["revision"]), (&json!("ok"), &json!(1)));
    assert_eq!(gate.scoregate.metric("scoregate_services{mode=\"key\"}"), 1.0);
    assert!(!Path::new("/proc/scoregate-data").exists());
}

/// As Kubernetes changes what a ConfigMap or a Secret holds: a new directory, and one link that is renamed.
fn publish(directory: &Path, name: &str, text: &str) {
    std::fs::create_dir(directory.join(name)).unwrap();
    std::fs::write(directory.join(name).join("policy.yaml"), text).unwrap();
    symlink(name, directory.join("..data_tmp")).unwrap();
    std::fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
}

#[test]
fn a_policy_file_is_followed_through_kubernetes_links_and_a_bad_one_is_not_taken() {
    let directory = directory();
    publish(&directory, "..1", &policy(&directory, KEY));
    let file = directory.join("policy.yaml");
    symlink("..data/policy.yaml", &file).unwrap();
    let gate = start(&directory, &file);
    let checks = Checks::connect(&gate.check_address());
    assert_eq!(checks.status("forecast", KEY), 200);

    publish(&directory, "..2", &policy(&directory, NEXT_KEY));
    wait_for("the next key to be accepted", SOON, || {
        (checks.status("forecast", NEXT_KEY) == 200).then_some(())
    });
    assert_eq!(checks.status("forecast", KEY), 401, "the old one goes in the same moment");
    assert_eq!(shown(&gate)["revision"], 2);

    publish(&directory, "..3", &policy(&directory, KEY).replace("authMode: key", "authMode: both"));
    let problem =
        wait_for("the bad file to be refused", SOON, || shown(&gate)["problem"].as_str().map(str::to_owned));
    assert!(problem.contains("document 1, line 4, column 15, `services[0].authMode`"), "{problem}");
    assert_eq!(checks.status("forecast", NEXT_KEY), 200, "the old one stays");
    assert_eq!(gate.scoregate.metric("scoregate_policy_file_good"), 0.0);
    let ready = gate.scoregate.admin("/readyz");
    assert_eq!(ready.status, 200);
    assert!(ready.text().starts_with("ready, but the policy file is refused"), "{}", ready.text());
    std::thread::sleep(Duration::from_secs(3));
    let log = gate.scoregate.process.log();
    assert_eq!(log.matches("the policy file is refused: what was in force").count(), 1, "said once: {log}");
    assert_eq!(gate.scoregate.metric("scoregate_policy_file_refused_total"), 1.0);

    publish(&directory, "..4", &policy(&directory, KEY));
    wait_for("the key to be accepted again", SOON, || (checks.status("forecast", KEY) == 200).then_some(()));
    assert_eq!(gate.scoregate.admin("/readyz").text(), "ready\n");
    assert!(!gate.scoregate.process.log().contains("the-key-of"));
}

#[test]
fn a_gate_does_not_start_with_a_bad_file_or_with_two_policies() {
    let directory = directory();
    let file = directory.join("policy.yaml");
    std::fs::write(&file, policy(&directory, KEY).replace("models.example.com", "'*.example.com'")).unwrap();
    let run = |more: &[&str], environment: &[(&str, &str)]| {
        let arguments = arguments(&directory, &file);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let output = Scoregate::run(&[&["gate"], arguments.as_slice(), more].concat(), environment);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, message) = run(&[], &[]);
    assert_eq!(code, Some(64));
    let place =
        format!("`{}`, document 1, line 5, column 13, `services[0].hosts[0]`: is not a host", file.display());
    assert!(message.contains(&place), "{message}");

    std::fs::write(&file, policy(&directory, KEY)).unwrap();
    for (more, environment, key) in [
        (&["--feed", "127.0.0.1:9193"][..], &[][..], "gate.feed"),
        (&["--credential-file", "credential"], &[], "gate.credential_file"),
        (&["--peer-listen", "127.0.0.1:0"], &[], "gate.peer_listen"),
        (&[], &[("SCOREGATE__GATE__POLICY_KEY_FILES", "policy-key.pub")], "gate.policy_key_files"),
    ] {
        let (code, message) = run(more, environment);
        assert_eq!(code, Some(64), "{message}");
        let expected = format!("`{key}` (");
        assert!(message.contains(&expected) && message.contains("leave one of them out"), "{message}");
    }
}

/// Statuses of each service with each credential, and by host and path where the gate finds services so.
fn decisions(checks: &Checks, services: &[&str], credentials: &[&str]) -> Vec<i32> {
    let all =
        services.iter().flat_map(|service| credentials.iter().map(move |credential| (service, credential)));
    all.map(|(service, credential)| checks.status(service, credential)).collect()
}

#[test]
fn a_file_exported_from_a_live_gate_decides_as_the_workspace_did() {
    let mut workspace = WorkspaceProcess::start(&[]);
    let client = workspace.client();
    let keyed = client.create_with_keys("keyed");
    client.create_with_tokens("tokened");
    client.create_open("open");
    let replaced = client.create_with_keys("renewed").primary;
    let arguments = Gate::arguments(&workspace, "gate-1");
    let data_dir =
        arguments[arguments.iter().position(|argument| argument == "--data-dir").unwrap() + 1].clone();
    let live = Gate::with_arguments(arguments, &[]);
    assert_eq!(client.regenerate("renewed", "Primary").state, "Succeeded");
    let token = client.token("tokened");
    let renewed = client.keys("renewed").primary;

    // While the gate runs.
    let key_file = workspace.data_dir.join("policy-key.pub");
    let export =
        ["policy", "export", "--data-dir", &data_dir, "--policy-key-file", key_file.to_str().unwrap()];
    let output = Scoregate::run(&export, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{text}");
    assert!(!text.contains(&keyed.primary) && !text.contains(&token));

    let directory = new_path("exported");
    std::fs::create_dir(&directory).unwrap();
    std::fs::copy(workspace.data_dir.join("pepper"), directory.join("pepper")).unwrap();
    let file = directory.join("policy.yaml");
    std::fs::write(&file, &text).unwrap();
    let checked = Scoregate::run(&["policy", "check", file.to_str().unwrap()], &[]);
    let checked = String::from_utf8(checked.stdout).unwrap();
    assert!(
        checked.starts_with("good: 4 services (2 with keys, 1 with tokens, 1 open to everybody)"),
        "{checked}"
    );

    let fixed = start(&directory, &file);
    assert_eq!(fixed.scoregate.metric("scoregate_snapshot_revision"), 1.0);
    workspace.scoregate.stop();
    let services = ["keyed", "tokened", "open", "renewed", "unknown"];
    let credentials = [keyed.primary, keyed.secondary, replaced, renewed, token, "sgk_of-nobody".to_owned()];
    let credentials = credentials.each_ref().map(String::as_str);
    let [as_before, as_exported] = [&live, &fixed]
        .map(|gate| decisions(&Checks::connect(&gate.check_address()), &services, &credentials));
    assert_eq!(as_exported, as_before);
    let accepted = [
        [200, 200, 401, 401, 401, 401],
        [401, 401, 401, 401, 200, 401],
        [200; 6],
        [401, 401, 401, 200, 401, 401],
        [401; 6],
    ];
    assert_eq!(as_exported, accepted.as_flattened());
}

#[test]
fn a_gate_with_a_policy_file_finds_services_by_host_and_path() {
    let directory = directory();
    let file = directory.join("policy.yaml");
    std::fs::write(&file, policy(&directory, KEY)).unwrap();
    let gate =
        Gate::with_arguments(arguments(&directory, &file), &[("SCOREGATE__GATE__TARGET", "host_path")]);
    let options = EnvoyOptions::new(&gate.check_address(), System::model()).edit(
        "- match: { prefix: / }\n                direct_response: { status: 404 }",
        "- match: { prefix: / }\n                route: { cluster: model }",
    );
    let envoy = Envoy::start(&options);
    let score = |host: &str, path: &str| Request::get(path).host(host).bearer(KEY).send(envoy.address);
    let path = "/api/v1/service/forecast/score";
    assert_eq!(Seen::of(&score("models.example.com", path)).all("x-scoregate-service"), ["forecast"]);
    assert_eq!(score("other.example.com", path).status, 401);
    assert_eq!(score("models.example.com", "/api/v1/service/forecasts/score").status, 401);
}

#[test]
fn commands_about_policy_files_say_what_is_wrong_and_never_the_key() {
    let schema = Scoregate::run(&["policy", "schema"], &[]);
    let documented = include_bytes!("../../docs/policy.schema.json");
    assert_eq!(schema.stdout, documented);
    let directory = directory();
    let pepper = directory.join("pepper");
    let hash = |key: &str| {
        let script = r#"printf %s "$1" | "$0" key hash forecast --pepper-file "$2""#;
        let program = env!("CARGO_BIN_EXE_scoregate");
        Command::new("sh").args(["-c", script, program, key, pepper.to_str().unwrap()]).output().unwrap()
    };
    let output = hash("sgk_mistyped-key");
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), b"".as_slice()));
    assert!(
        message.contains("what standard input holds is no key") && !message.contains("mistyped"),
        "{message}"
    );
    assert_eq!(hash(KEY).stdout, entry(&directory, "forecast", KEY).as_bytes(), "with or without a line end");

    let nothing = Scoregate::run(&["policy", "export", "--data-dir", directory.to_str().unwrap()], &[]);
    assert_eq!(nothing.status.code(), Some(1));
    let message = String::from_utf8(nothing.stderr).unwrap();
    assert!(message.contains("there is no policy in"), "{message}");
}
