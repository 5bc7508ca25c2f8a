//! The harness itself is tested: gates with a planted fault (src/fault.rs) must make it fail. And what a gate does that is
//! slow or panics.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::checker::Direct;
use crate::run::{self, Options};
use crate::support::{FEATURED, Request, wait_until};
use crate::system::{Gate, System};
use crate::{TURN, options};

fn with_fault(fault: &'static str) -> Options {
    let lasts = Duration::from_secs(60);
    Options { lasts, kills: 0, program: FEATURED.clone(), fault: Some(fault), gates: 2, ..options() }
}

fn assert_found(fault: &'static str) {
    let _turn = TURN.lock();
    let outcome = run::run(&with_fault(fault));
    let failure = outcome.expect_err("a fault that the harness did not notice");
    println!("{failure}");
    assert!(failure.contains("WRONG DECISION"), "{failure}");
    assert!(failure.contains("THIS BUILD PLANTS FAULTS"), "it says what it is: {failure}");
}

#[test]
fn a_gate_that_skips_a_change_is_found() {
    assert_found("skip-change");
}

#[test]
fn a_gate_that_applies_an_older_snapshot_is_found() {
    assert_found("apply-older");
}

/// A gate with a fault, and an open service.
fn one_gate(fault: &'static str) -> System {
    let system = System::start(&Options { gates: 1, ..with_fault(fault) }, &["open".to_owned()]);
    let body = json!({ "name": "open", "computeType": "AKS", "authEnabled": false });
    assert_eq!(system.rest().call("POST", "/services", Some(&body)).unwrap().status, 202);
    let gate = &system.gates[0];
    wait_until("the service", || metric(gate, "scoregate_services{mode=\"disabled\"}") == 1.0);
    system
}

fn metric(gate: &Gate, series: &str) -> f64 {
    let answer = Request::get("/metrics").send(gate.admin);
    let line = answer.text().lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no `{series}` in {}", answer.text())).parse().unwrap()
}

/// All decisions so far.
fn decided(gate: &Gate) -> f64 {
    metric(gate, "scoregate_decision_seconds_count")
}

#[test]
fn t127_a_gate_that_is_slower_than_envoy_waits_is_envoys_error_and_its_work_is_cancelled() {
    let _turn = TURN.lock();
    let system = one_gate("slow-check");
    let gate = &system.gates[0];
    let asked = Instant::now();
    let answer = Request::score("open").send(gate.envoy.address);
    assert_eq!((answer.status, answer.text()), (503, ""));
    assert!(asked.elapsed() < Duration::from_millis(1_900), "Envoy waited {:?}", asked.elapsed());
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(decided(gate), 0.0, "nobody waited for it, and it was decided");
    assert_eq!(Direct::connect(&gate.check_address).ask("open", "whatever-it-is-it-is-open"), Some(200));
    assert_eq!(decided(gate), 1.0);
}

#[test]
fn t016_a_panic_while_deciding_costs_one_request_of_a_running_gate() {
    let _turn = TURN.lock();
    let mut system = one_gate("panic-in-decision");
    let gate = &mut system.gates[0];
    let mut direct = Direct::connect(&gate.check_address);
    let statuses: Vec<_> = (0..30).filter_map(|_| direct.ask("open", "whatever-it-is-it-is-open")).collect();
    let count = |status| statuses.iter().filter(|other| **other == status).count();
    assert_eq!((count(200), count(503)), (27, 3), "{statuses:?}");
    assert_eq!(metric(gate, "scoregate_check_panics_total"), 3.0);
    assert!(!gate.node.is_lost());
}
