//! What callers notice when a part of the system goes away. Workspace, gate and Envoy as processes of their own.

use std::time::Duration;

use crate::support::{
    Checks, Envoy, EnvoyOptions, Gate, Keys, Load, Request, Scoregate, System, WorkspaceProcess, new_path,
    wait_until,
};

const SERVICE: &str = "forecast";

/// Enough to notice a gap, on a machine that does other things too.
const PER_SECOND: u32 = 500;

struct Apart {
    workspace: WorkspaceProcess,
    gate: Gate,
    envoy: Envoy,
    keys: Keys,
}

impl Apart {
    fn start() -> Self {
        let workspace = WorkspaceProcess::start(&[]);
        let gate = Gate::start(&workspace, "gate-1");
        let envoy = Envoy::start(&EnvoyOptions::new(&gate.check_address(), System::model()));
        let keys = workspace.client().create_with_keys(SERVICE);
        Self { workspace, gate, envoy, keys }
    }

    fn keyed(&self) -> Request {
        Request::score(SERVICE).bearer(&self.keys.primary)
    }

    fn status(&self, key: &str) -> u16 {
        Request::score(SERVICE).bearer(key).send(self.envoy.address).status
    }

    fn wait_for_feed(&self) {
        wait_until("the feed", || self.gate.scoregate.metric("scoregate_feed_connected") == 1.0);
    }
}

/// For how long the workspace is away: a moment, or as long as `make test-long` says.
#[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
fn outage() -> Duration {
    let seconds = std::env::var("SCOREGATE_OUTAGE_SECONDS");
    Duration::from_secs(seconds.map_or(2, |seconds| seconds.parse().unwrap()))
}

fn others_than(status: u16, statuses: &[u16]) -> Vec<u16> {
    statuses.iter().copied().filter(|other| *other != status).collect()
}

#[test]
fn t117_callers_notice_nothing_of_an_outage_of_the_workspace() {
    let mut system = Apart::start();
    let load = Load::start(system.envoy.address, &system.keyed(), PER_SECOND);
    std::thread::sleep(Duration::from_millis(500));
    assert!(system.workspace.scoregate.stop().success());
    let memory = system.gate.scoregate.process.memory();
    std::thread::sleep(outage());
    let then = system.gate.scoregate.process.memory();
    assert!(then <= memory.map(|memory| memory + 16 * 1024), "from {memory:?} to {then:?} KiB");
    assert_eq!(system.gate.scoregate.admin("/readyz").status, 200);
    system.workspace.restart();
    system.wait_for_feed();
    system.workspace.scoregate.process.kill();
    std::thread::sleep(Duration::from_millis(500));
    system.workspace.restart();
    system.wait_for_feed();
    let statuses = load.stop();
    assert!(statuses.len() > 500, "only {} requests", statuses.len());
    assert_eq!(others_than(200, &statuses), [0_u16; 0]);

    let client = system.workspace.client();
    assert_eq!(client.regenerate(SERVICE, "Primary").state, "Succeeded");
    assert_eq!(system.status(&system.keys.primary), 401);
    assert_eq!(system.status(&client.keys(SERVICE).primary), 200);
}

#[test]
fn t061_the_other_key_works_all_through_a_regeneration() {
    let system = Apart::start();
    let client = system.workspace.client();
    let secondary = Request::score(SERVICE).bearer(&system.keys.secondary);
    let load = Load::start(system.envoy.address, &secondary, PER_SECOND);
    let mut old = system.keys.primary.clone();
    for _ in 0..5 {
        assert_eq!(client.regenerate(SERVICE, "Primary").state, "Succeeded");
        assert_eq!(system.status(&old), 401);
        old = client.keys(SERVICE).primary;
        assert_eq!(system.status(&old), 200);
    }
    assert_eq!(others_than(200, &load.stop()), [0_u16; 0]);
}

#[test]
fn t126_a_killed_gate_is_503_and_never_an_allow() {
    let mut system = Apart::start();
    let allowed = Load::start(system.envoy.address, &system.keyed(), PER_SECOND);
    let refused = Load::start(system.envoy.address, &Request::score(SERVICE), PER_SECOND / 2);
    std::thread::sleep(Duration::from_millis(500));
    system.gate.scoregate.process.kill();
    std::thread::sleep(Duration::from_millis(500));
    let (allowed, refused) = (allowed.stop(), refused.stop());
    assert!(allowed.contains(&503) && refused.contains(&503));
    assert!(allowed.iter().all(|status| matches!(status, 200 | 503)), "{:?}", others_than(200, &allowed));
    assert!(refused.iter().all(|status| matches!(status, 401 | 503)), "{:?}", others_than(401, &refused));
    assert_eq!(system.status(&system.keys.primary), 503);
}

#[test]
fn t122_a_gate_that_is_not_there_is_503() {
    for gate in ["127.0.0.1:1".to_owned(), format!("unix:{}", new_path("nobody.sock").display())] {
        let envoy = Envoy::start(&EnvoyOptions::new(&gate, System::model()));
        let answer = Request::score(SERVICE).bearer("some-key-or-another").send(envoy.address);
        assert_eq!(answer.status, 503, "{gate}");
    }
}

#[test]
fn t126_a_gate_that_drains_fails_no_request_where_there_is_another() {
    let workspace = WorkspaceProcess::start(&[]);
    let mut gates = [Gate::start(&workspace, "gate-1"), Gate::start(&workspace, "gate-2")];
    let keys = workspace.client().create_with_keys(SERVICE);
    let envoy = Envoy::start(&EnvoyOptions::watching(&gates, System::model()));
    let load = Load::start(envoy.address, &Request::score(SERVICE).bearer(&keys.primary), PER_SECOND);
    for gate in &mut gates {
        std::thread::sleep(Duration::from_millis(500));
        assert!(gate.scoregate.stop().success(), "{}", gate.scoregate.process.log());
        gate.restart();
        envoy.wait_for_gates(2);
    }
    let statuses = load.stop();
    assert!(statuses.len() > 500, "only {} requests", statuses.len());
    assert_eq!(others_than(200, &statuses), [0_u16; 0]);
}

#[test]
fn t126_a_gate_that_drains_decides_until_its_listeners_close() {
    let mut system = Apart::start();
    system.gate.scoregate.process.signal("TERM");
    wait_until("draining", || system.gate.scoregate.admin("/readyz").status == 503);
    assert_eq!(system.status(&system.keys.primary), 200);
    assert!(system.gate.scoregate.process.wait(Duration::from_secs(10)).success());
}

#[test]
fn t109_a_gate_starts_from_its_disk_while_the_workspace_is_away() {
    let mut system = Apart::start();
    let client = system.workspace.client();
    let old = system.keys.clone();
    client.create_with_tokens("ranking");
    let token = client.token("ranking");
    assert_eq!(client.regenerate(SERVICE, "Primary").state, "Succeeded");
    let new = client.keys(SERVICE);
    system.gate.scoregate.process.kill();
    system.workspace.scoregate.process.kill();
    system.gate.restart();
    assert_eq!(system.gate.scoregate.admin("/readyz").status, 200);
    assert_eq!(system.gate.scoregate.metric("scoregate_feed_connected"), 0.0);
    let checks = Checks::connect(&system.gate.check_address());
    assert_eq!(checks.status(SERVICE, &old.primary), 401, "a regenerated key must not come back");
    assert_eq!(checks.status(SERVICE, &new.primary), 200);
    assert_eq!(checks.status(SERVICE, &new.secondary), 200);
    assert_eq!(checks.status("ranking", &token), 200);
    wait_until("Envoy's new connection", || system.status(&new.secondary) == 200);
    assert_eq!(system.status(&old.primary), 401);
}

#[test]
fn t108_a_gate_that_never_had_policy_cannot_decide() {
    let workspace = WorkspaceProcess::start(&[]);
    let credential = new_path("credential");
    std::fs::write(&credential, workspace.client().create_principal("gate-1", "gate")).unwrap();
    let feed = workspace.scoregate.addresses.socket("feed").to_string();
    let [pepper, policy_key] = ["pepper", "policy-key.pub"].map(|name| workspace.data_dir.join(name));
    drop(workspace);
    let (socket, admin, data_dir) = (new_path("check.sock"), new_path("admin.sock"), new_path("gate"));
    let (listen, listen_admin) = (format!("unix:{}", socket.display()), format!("unix:{}", admin.display()));
    let arguments = [
        ["--feed", &feed, "--credential-file", credential.to_str().unwrap()],
        ["--pepper-file", pepper.to_str().unwrap(), "--data-dir", data_dir.to_str().unwrap()],
        ["--ext-authz-listen", &listen, "--admin-listen", &listen_admin],
        ["--policy-key-file", policy_key.to_str().unwrap(), "--name", "gate-1"],
    ];
    let addresses = new_path("addresses.json");
    let mut gate = Scoregate::start_unready("gate", arguments.as_flattened(), &[], &addresses);
    gate.wait_ready(|| (socket.exists() && admin.exists()).then_some(()));
    let envoy = Envoy::start(&EnvoyOptions::new(&listen, System::model()));
    for request in [Request::score(SERVICE), Request::score(SERVICE).bearer("any-key-or-token-at-all")] {
        let answer = request.send(envoy.address);
        assert_eq!((answer.status, answer.all("www-authenticate").len()), (503, 0));
    }
    assert_eq!(envoy.access_log(&format!("/api/v1/service/{SERVICE}/score"))["reason"], "no_policy");
    let ask =
        |path| crate::support::Connection::open_unix(&admin).unwrap().send(&Request::get(path)).unwrap();
    assert_eq!((ask("/livez").status, ask("/readyz").status), (200, 503));
    assert!(ask("/readyz").text().contains("no policy yet"), "{}", ask("/readyz").text());
    let health = crate::support::GrpcHealth::connect_unix(&socket);
    assert_eq!(health.check("").as_str_name(), "NOT_SERVING");
    assert!(!addresses.exists(), "it is not ready");
    gate.signal("TERM");
    assert!(gate.wait(Duration::from_secs(5)).success());
}
