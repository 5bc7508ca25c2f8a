//! Another policy key takes the place of the old one at a running system, as docs/operations.md tells it.

use std::path::Path;

use serde_json::Value;

use crate::support::{
    Checks, Envoy, EnvoyOptions, Gate, Load, Request, System, Workspace, WorkspaceProcess, wait_until,
};

const SERVICE: &str = "forecast";
const PER_SECOND: u32 = 200;

/// One after the other, as in a rolling restart.
fn restart_each(gates: &mut [Gate], envoy: &Envoy, trusted: &[&Path]) {
    let number = gates.len() as u64;
    for gate in gates {
        assert!(gate.scoregate.stop().success(), "{}", gate.scoregate.process.log());
        gate.trust(trusted);
        gate.restart();
        envoy.wait_for_gates(number);
    }
}

fn is_connected(gate: &Gate) -> bool {
    gate.scoregate.metric("scoregate_feed_connected") == 1.0
}

fn refusals(gate: &Gate) -> f64 {
    gate.scoregate.metric("scoregate_feed_refused_total")
}

/// A change is enforced by all of them when it is said to be.
fn changes_act(client: &Workspace, gates: &[Gate]) {
    wait_until("every feed", || gates.iter().all(is_connected));
    let before = client.keys(SERVICE).secondary;
    let regeneration = client.regenerate(SERVICE, "Secondary");
    assert_eq!(regeneration.state, "Succeeded", "{}", regeneration.error);
    let now = client.keys(SERVICE).secondary;
    for gate in gates {
        let checks = Checks::connect(&gate.check_address());
        assert_eq!([&before, &now].map(|key| checks.status(SERVICE, key)), [401, 200]);
    }
}

#[test]
fn callers_notice_nothing_of_a_new_policy_key_and_changes_act_at_every_stage() {
    let mut workspace = WorkspaceProcess::start(&[]);
    let mut gates = ["gate-1", "gate-2"].map(|name| Gate::start(&workspace, name));
    let client = workspace.client();
    let key = client.create_with_keys(SERVICE).primary;
    client.create_with_tokens("ranking");
    let token = client.token("ranking");
    let options = EnvoyOptions::watching(&gates, System::model());
    let envoy = Envoy::start(&EnvoyOptions { services: vec!["ranking".to_owned()], ..options });
    envoy.wait_for_gates(2);
    let callers = [Request::score(SERVICE).bearer(&key), Request::score("ranking").bearer(&token)];
    let loads = callers.each_ref().map(|caller| Load::start(envoy.address, caller, PER_SECOND));
    let [old, new] = workspace.replace_policy_key();

    restart_each(&mut gates, &envoy, &[&new, &old]);
    changes_act(&client, &gates);
    assert!(workspace.scoregate.stop().success());
    workspace.restart();
    changes_act(&client, &gates);
    assert!(gates.iter().all(|gate| refusals(gate) == 0.0));
    restart_each(&mut gates, &envoy, &[&new]);
    changes_act(&client, &gates);
    assert!(gates.iter().all(|gate| refusals(gate) == 0.0));

    for load in loads {
        let statuses = load.stop();
        assert!(statuses.len() > 500, "only {} requests", statuses.len());
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    }
}

/// Nothing has changed since the workspace signs with the new key: all that a gate has of it are heartbeats.
#[test]
fn a_gate_that_believes_only_the_new_policy_key_starts_from_its_disk_and_from_the_feed() {
    let mut workspace = WorkspaceProcess::start(&[]);
    let mut gates = ["gate-1", "gate-2"].map(|name| Gate::start(&workspace, name));
    let key = workspace.client().create_with_keys(SERVICE).primary;
    let [old, new] = workspace.replace_policy_key();
    for gate in &mut gates {
        assert!(gate.scoregate.stop().success());
        gate.trust(&[&new, &old]);
    }
    assert!(workspace.scoregate.stop().success());
    workspace.restart();
    let [mut prepared, mut forgotten] = gates;
    prepared.restart();
    wait_until("a heartbeat", || prepared.scoregate.metric("scoregate_clock_skew_seconds") != 0.0);
    assert!(prepared.scoregate.stop().success());
    workspace.scoregate.process.kill();

    prepared.trust(&[&new]);
    prepared.restart();
    assert!(!is_connected(&prepared), "it is ready by its disk");
    assert_eq!(Checks::connect(&prepared.check_address()).status(SERVICE, &key), 200);

    // One that never heard of the new key begins anew, as does one with an empty disk.
    workspace.restart();
    forgotten.trust(&[&new]);
    forgotten.restart();
    let log = forgotten.scoregate.process.log();
    assert!(log.contains("the last good policy on disk is refused"), "{log}");
    for gate in [&forgotten, &Gate::start(&workspace, "gate-3")] {
        assert_eq!(Checks::connect(&gate.check_address()).status(SERVICE, &key), 200);
    }
}

fn listed(workspace: &WorkspaceProcess, name: &str) -> Value {
    let gates = workspace.json_of(&["gate", "list"]);
    gates.as_array().unwrap().iter().find(|gate| gate["name"] == name).cloned().unwrap_or_default()
}

#[test]
fn t116_a_gate_that_believes_only_the_old_policy_key_refuses_what_comes_and_keeps_what_it_has() {
    let mut workspace = WorkspaceProcess::start(&[]);
    let mut gate = Gate::start(&workspace, "left-behind");
    let keys = workspace.client().create_with_keys(SERVICE);
    let [_, new] = workspace.replace_policy_key();
    let envoy = Envoy::start(&EnvoyOptions::new(&gate.check_address(), System::model()));
    let load = Load::start(envoy.address, &Request::score(SERVICE).bearer(&keys.primary), PER_SECOND);
    assert!(workspace.scoregate.stop().success());
    workspace.restart();

    wait_until("a refusal", || refusals(&gate) >= 1.0);
    let log = gate.scoregate.process.log();
    assert!(log.contains("policy was refused: what was in force stays in force"), "{log}");
    assert!(log.contains("which is not trusted here"), "{log}");
    let reason = || listed(&workspace, "left-behind")["lastNack"]["reason"].as_str().map(str::to_owned);
    wait_until("its word in the list", || {
        reason().is_some_and(|reason| reason.contains("is not trusted here"))
    });
    let log = workspace.scoregate.process.log();
    assert!(log.contains("a gate does not trust the policy key: it refuses all that it is sent"), "{log}");

    let output = workspace.command(&["key", "regenerate", SERVICE, "secondary", "--timeout", "2s"]);
    // It is connected now and then, and waited for only then.
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || message.contains("left-behind"), "{message}");
    let checks = Checks::connect(&gate.check_address());
    let now = workspace.client().keys(SERVICE).secondary;
    assert_eq!([&keys.secondary, &now].map(|key| checks.status(SERVICE, key)), [200, 401]);
    let statuses = load.stop();
    assert!(statuses.len() > 50 && statuses.iter().all(|status| *status == 200), "{statuses:?}");

    assert!(gate.scoregate.stop().success());
    gate.trust(&[&new]);
    gate.restart();
    let checks = Checks::connect(&gate.check_address());
    assert_eq!([&keys.secondary, &now].map(|key| checks.status(SERVICE, key)), [401, 200]);
    let listed = listed(&workspace, "left-behind");
    assert_eq!((&listed["state"], &listed["lastNack"]), (&"connected".into(), &Value::Null));
}
