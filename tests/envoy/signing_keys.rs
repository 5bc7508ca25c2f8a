//! Signing keys come and go at a running system: no good token is refused for it, and a withdrawn key ends everywhere.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::{Checks, Gate, WorkspaceProcess, wait_until};

const SERVICE: &str = "forecast";

/// Gates have this long to learn a key that is published by hand.
const QUICK: (&str, &str) = ("SCOREGATE__WORKSPACE__ENFORCEMENT_TIMEOUT", "1s");

/// A token that nobody had before.
fn fresh_token(workspace: &WorkspaceProcess) -> String {
    let path = format!("/services/{SERVICE}/token");
    let answer = workspace.client().call("POST", &path, Some(&json!({ "expiresIn": 600 })));
    answer.json()["accessToken"].as_str().unwrap().to_owned()
}

fn kid(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

fn state(workspace: &WorkspaceProcess, id: &str) -> Option<String> {
    let keys = workspace.json_of(&["signing-key", "list"]);
    let key = keys.as_array().unwrap().iter().find(|key| key["id"] == id)?;
    Some(key["state"].as_str().unwrap().to_owned())
}

#[test]
fn t107_no_good_token_is_refused_while_signing_keys_rotate() {
    let mut workspace = WorkspaceProcess::start(&[QUICK]);
    let mut gates = vec![Gate::start(&workspace, "gate-1"), Gate::start(&workspace, "gate-2")];
    workspace.client().create_with_tokens(SERVICE);
    let mut tokens = Vec::new();
    // Each token is asked of each gate as soon as it is handed out, and again with all those after it.
    let accept = |workspace: &WorkspaceProcess, gates: &[Gate], tokens: &mut Vec<String>| {
        tokens.push(fresh_token(workspace));
        for gate in gates {
            let checks = Checks::connect(&gate.check_address());
            for token in tokens.iter().rev() {
                assert_eq!(
                    checks.status(SERVICE, token),
                    200,
                    "{:?} at {}",
                    kid(token),
                    gate.check_address()
                );
            }
        }
    };
    accept(&workspace, &gates, &mut tokens);
    let first = kid(&tokens[0]);
    std::thread::scope(|scope| {
        let rotation = scope.spawn(|| workspace.json_of(&["signing-key", "rotate", "--wait"]));
        while !rotation.is_finished() {
            accept(&workspace, &gates, &mut tokens);
        }
        rotation.join().unwrap();
    });
    accept(&workspace, &gates, &mut tokens);
    let second = kid(tokens.last().unwrap());
    assert_ne!(second, first, "a rotation has ended when the new key signs");

    // Once more, with a workspace that dies while the key is published, and a gate that joins then.
    workspace.json_of(&["signing-key", "rotate", "--no-wait"]);
    workspace.scoregate.process.kill();
    workspace.restart();
    gates.push(Gate::start(&workspace, "gate-3"));
    accept(&workspace, &gates, &mut tokens);
    wait_until("the third key signs", || {
        accept(&workspace, &gates, &mut tokens);
        ![&first, &second].contains(&&kid(tokens.last().unwrap()))
    });
    workspace.scoregate.process.kill();
    workspace.restart();
    accept(&workspace, &gates, &mut tokens);
    let third = kid(tokens.last().unwrap());
    assert_eq!(state(&workspace, &third).as_deref(), Some("signing"), "it does not flip back");
    assert_eq!(state(&workspace, &first).as_deref(), Some("retired"));
    assert_eq!(state(&workspace, &second).as_deref(), Some("retired"));
}

#[test]
fn t102_tokens_of_a_withdrawn_key_are_refused_by_every_gate_that_confirmed_it() {
    let workspace = WorkspaceProcess::start(&[]);
    let (quick, stuck) = (Gate::start(&workspace, "quick-gate"), Gate::start(&workspace, "stuck-gate"));
    workspace.client().create_with_tokens(SERVICE);
    let checks = [&quick, &stuck].map(|gate| Checks::connect(&gate.check_address()));
    let leaked = fresh_token(&workspace);
    assert_eq!(checks.each_ref().map(|checks| checks.status(SERVICE, &leaked)), [200, 200]);
    stuck.scoregate.process.signal("STOP");
    let withdraw =
        workspace.command(&["signing-key", "withdraw", &kid(&leaked), "--wait", "--timeout", "1s"]);
    let message = String::from_utf8_lossy(&withdraw.stderr).into_owned();
    assert_eq!(withdraw.status.code(), Some(4), "{message}");
    assert!(message.contains("within 1 s") && message.contains("stuck-gate"), "{message}");
    assert!(!message.contains("quick-gate"), "{message}");
    let next = fresh_token(&workspace);
    assert_eq!((checks[0].status(SERVICE, &leaked), checks[0].status(SERVICE, &next)), (401, 200));
    stuck.scoregate.process.signal("CONT");
    wait_until("the withdrawal reaches the other gate", || checks[1].status(SERVICE, &leaked) == 401);
    assert_eq!(checks[1].status(SERVICE, &next), 200);
    // With every gate awake, it has ended when they refuse.
    workspace.json_of(&["signing-key", "withdraw", &kid(&next), "--wait"]);
    assert_eq!(checks.each_ref().map(|checks| checks.status(SERVICE, &next)), [401, 401]);
    let last = fresh_token(&workspace);
    assert_eq!(checks.each_ref().map(|checks| checks.status(SERVICE, &last)), [200, 200]);
}

#[test]
fn t102_revoked_tokens_are_refused_by_every_gate_when_the_command_returns() {
    let workspace = WorkspaceProcess::start(&[]);
    let gates = ["gate-1", "gate-2"].map(|name| Gate::start(&workspace, name));
    workspace.client().create_with_tokens(SERVICE);
    let checks = gates.each_ref().map(|gate| Checks::connect(&gate.check_address()));
    let mut token = workspace.client().token(SERVICE);
    for _ in 0..10 {
        assert_eq!(checks.each_ref().map(|checks| checks.status(SERVICE, &token)), [200, 200]);
        workspace.json_of(&["token", "revoke", SERVICE, "--wait"]);
        assert_eq!(checks.each_ref().map(|checks| checks.status(SERVICE, &token)), [401, 401]);
        token = workspace.client().token(SERVICE);
    }
}

#[test]
fn gate_list_and_metrics_tell_how_far_policy_is() {
    let workspace = WorkspaceProcess::start(&[]);
    let (quick, stuck) = (Gate::start(&workspace, "quick-gate"), Gate::start(&workspace, "stuck-gate"));
    workspace.client().create_with_tokens(SERVICE);
    stuck.scoregate.process.signal("STOP");
    let output = workspace.command(&["token", "revoke", SERVICE, "--timeout", "1s"]);
    assert_eq!(output.status.code(), Some(4));
    let gates = workspace.json_of(&["gate", "list"]);
    let lags = |name: &str| {
        let gate = gates.as_array().unwrap().iter().find(|gate| gate["name"] == name).unwrap();
        assert_eq!((&gate["state"], &gate["principal"]), (&json!("connected"), &json!(name)));
        (gate["lagRevisions"].as_u64().unwrap(), gate["lagSeconds"].as_f64().unwrap())
    };
    assert_eq!(lags("quick-gate"), (0, 0.0));
    let (revisions, seconds) = lags("stuck-gate");
    assert!(revisions == 1 && (1.0..30.0).contains(&seconds), "{revisions} revisions, {seconds} s");
    stuck.scoregate.process.signal("CONT");
    let enforced = || workspace.scoregate.metric("scoregate_workspace_change_enforced_seconds_count");
    wait_until("both changes are enforced", || enforced() >= 2.0);
    let quick_ones = r#"scoregate_workspace_change_enforced_seconds_bucket{le="1.0"}"#;
    assert!(workspace.scoregate.metric(quick_ones) < enforced(), "one gate stood still for a second");
    for gate in [&quick, &stuck] {
        assert!(gate.scoregate.metric("scoregate_change_applied_seconds_count") >= 2.0);
        wait_until("a heartbeat", || gate.scoregate.metric("scoregate_clock_skew_seconds") != 0.0);
    }
    let skew = quick.scoregate.metric("scoregate_clock_skew_seconds");
    assert!((0.0..1.0).contains(&skew), "the clock is the same: {skew}");
}

/// A run that takes as long as its sleeps do would hide that nothing is waited for.
#[test]
fn commands_return_when_it_is_enforced_and_not_later() {
    let workspace = WorkspaceProcess::start(&[]);
    let _gate = Gate::start(&workspace, "gate-1");
    workspace.client().create_with_tokens(SERVICE);
    let started = std::time::Instant::now();
    workspace.json_of(&["token", "revoke", SERVICE, "--timeout", "10m"]);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}
