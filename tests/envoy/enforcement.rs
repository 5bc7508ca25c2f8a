//! A regeneration is reported done when it is enforced: at that moment the old key is refused at every gate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Checks, Gate, Operation, Workspace, WorkspaceProcess, block_on};

const SERVICE: &str = "forecast";
const ROUNDS: u32 = 200;

#[test]
fn regenerate_is_succeeded_only_when_every_gate_refuses_the_old_key() {
    let workspace = WorkspaceProcess::start(&[]);
    let gates = ["gate-1", "gate-2", "gate-3"].map(|name| Gate::start(&workspace, name));
    let checks = gates.each_ref().map(|gate| Checks::connect(&gate.check_address()));
    let client = workspace.client();
    let mut keys = client.create_with_keys(SERVICE);
    let started = Instant::now();
    for round in 0..ROUNDS {
        let slot = if round % 3 == 2 { "Secondary" } else { "Primary" };
        let old = keys.clone();
        // In every other round one gate takes its time, each in its turn.
        let operation = match round % 6 {
            1 => regenerate_past(&gates[0], &client, slot),
            3 => regenerate_past(&gates[1], &client, slot),
            5 => regenerate_past(&gates[2], &client, slot),
            _ => client.regenerate(SERVICE, slot),
        };
        let (replaced, kept) =
            if slot == "Primary" { (&old.primary, &old.secondary) } else { (&old.secondary, &old.primary) };
        let statuses = ask_all(&checks, &[replaced, kept]);
        assert_eq!(operation.state, "Succeeded", "round {round}: {}", operation.error);
        assert_eq!(statuses, [[401, 200]; 3], "round {round}");
        keys = client.keys(SERVICE);
        assert_eq!(ask_all(&checks, &[&keys.primary, &keys.secondary]), [[200, 200]; 3], "round {round}");
    }
    println!("{ROUNDS} rounds in {:?}", started.elapsed());
}

/// Regenerates while a gate stands still for a moment, which the operation must outlast.
fn regenerate_past(gate: &Gate, client: &Workspace, slot: &str) -> Operation {
    let process = &gate.scoregate.process;
    let moves = AtomicBool::new(false);
    process.signal("STOP");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(15));
            moves.store(true, Ordering::SeqCst);
            process.signal("CONT");
        });
        let operation = client.regenerate(SERVICE, slot);
        assert!(moves.load(Ordering::SeqCst), "confirmed by a gate that stood still");
        operation
    })
}

/// What each gate says of two keys, asked at the same time.
fn ask_all(checks: &[Checks; 3], keys: &[&String; 2]) -> [[i32; 2]; 3] {
    block_on(async {
        let ask = async |gate: &Checks| {
            let [first, second] = keys.map(|key| gate.clone().ask(SERVICE, key));
            let (first, second) = tokio::join!(first, second);
            [first.unwrap(), second.unwrap()]
        };
        let [first, second, third] = checks;
        let (first, second, third) = tokio::join!(ask(first), ask(second), ask(third));
        [first, second, third]
    })
}

#[test]
fn regenerate_says_which_gate_did_not_confirm_in_time() {
    let workspace = WorkspaceProcess::start(&[("SCOREGATE__WORKSPACE__ENFORCEMENT_TIMEOUT", "1s")]);
    let (quick, stuck) = (Gate::start(&workspace, "quick-gate"), Gate::start(&workspace, "stuck-gate"));
    let client = workspace.client();
    let old = client.create_with_keys(SERVICE);
    stuck.scoregate.process.signal("STOP");
    let operation = client.regenerate(SERVICE, "Primary");
    assert_eq!(operation.state, "TimedOut");
    assert!(operation.error.contains("stuck-gate"), "{}", operation.error);
    assert!(!operation.error.contains("quick-gate"), "{}", operation.error);
    assert!(operation.error.contains("changed"), "{}", operation.error);
    assert_eq!(Checks::connect(&quick.check_address()).status(SERVICE, &old.primary), 401);
    stuck.scoregate.process.signal("CONT");
    assert_eq!(client.regenerate(SERVICE, "Secondary").state, "Succeeded");
    assert_eq!(Checks::connect(&stuck.check_address()).status(SERVICE, &old.primary), 401);
}

#[test]
fn operations_survive_a_restart_of_the_workspace() {
    let mut workspace = WorkspaceProcess::start(&[]);
    let client = workspace.client();
    client.create_with_keys(SERVICE);
    let operation = client.regenerate(SERVICE, "Primary");
    workspace.scoregate.process.kill();
    workspace.restart();
    let after = client.operation(&operation.id);
    assert_eq!(after["state"], operation.state);
}

#[test]
fn a_gate_that_was_away_gets_what_it_missed() {
    let workspace = WorkspaceProcess::start(&[]);
    let mut gate = Gate::start(&workspace, "gate-1");
    let client = workspace.client();
    let old = client.create_with_keys(SERVICE);
    let gone = client.create_with_keys("to-be-deleted").primary;
    assert!(gate.scoregate.stop().success());
    assert_eq!(client.regenerate(SERVICE, "Primary").state, "Succeeded");
    client.delete("to-be-deleted");
    client.create_open("brand-new");
    gate.restart();
    let checks = Checks::connect(&gate.check_address());
    let follows = || checks.status("brand-new", "anything-goes-here") == 200;
    crate::support::wait_for("the changes", Duration::from_secs(5), || follows().then_some(()));
    assert_eq!(checks.status(SERVICE, &old.primary), 401);
    assert_eq!(checks.status(SERVICE, &client.keys(SERVICE).primary), 200);
    assert_eq!(checks.status("to-be-deleted", &gone), 401);
}

#[test]
fn a_switch_of_the_mode_is_followed_at_once() {
    let workspace = WorkspaceProcess::start(&[]);
    let gate = Gate::start(&workspace, "gate-1");
    let client = workspace.client();
    let key = client.create_with_keys(SERVICE).primary;
    let checks = Checks::connect(&gate.check_address());
    client.set_auth(SERVICE, false, true);
    crate::support::wait_until("the switch to tokens", || checks.status(SERVICE, &key) == 401);
    let token = client.token(SERVICE);
    assert_eq!(checks.status(SERVICE, &token), 200);
    client.set_auth(SERVICE, true, false);
    crate::support::wait_until("the switch to keys", || checks.status(SERVICE, &key) == 200);
    assert_eq!(checks.status(SERVICE, &token), 401);
    client.set_auth(SERVICE, false, true);
    crate::support::wait_until("the switch back", || checks.status(SERVICE, &key) == 401);
    assert_eq!(checks.status(SERVICE, &token), 401, "revoked when the service left token mode");
}
