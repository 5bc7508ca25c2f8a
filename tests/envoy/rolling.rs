//! Gates that are replaced and added while requests come, as a Deployment does it behind a headless Service. The kubelet and
//! the controller that tells Envoy are played: a gate is told to end when its deletion begins, and Envoy hears of it later.

use std::time::{Duration, Instant};

use crate::support::{
    Endpoints, Envoy, EnvoyOptions, Gate, Load, Request, System, WorkspaceProcess, wait_until,
};

const SERVICE: &str = "forecast";
const PER_SECOND: u32 = 1_000;
/// So short that connections are renewed all the time too.
const ENVIRONMENT: &[(&str, &str)] =
    &[("SCOREGATE__GATE__MAX_CONNECTION_AGE", "500ms"), ("SCOREGATE__SHUTDOWN__DRAIN_DELAY", "800ms")];
/// After which Envoy hears of a change; shorter than the drain delay, as `k8s/base/gate/gate.toml` has it.
const NEWS: Duration = Duration::from_millis(300);

/// Gates behind one Envoy, under load.
struct Rollout {
    workspace: WorkspaceProcess,
    gates: Vec<Gate>,
    started: usize,
    endpoints: Endpoints,
    _envoy: Envoy,
    load: Load,
    since: Instant,
}

impl Rollout {
    fn start() -> Self {
        let workspace = WorkspaceProcess::start(&[]);
        let key = workspace.client().create_with_keys(SERVICE).primary;
        let endpoints = Endpoints::new();
        let mut gates = Vec::new();
        for number in 1..=3 {
            gates.push(Gate::start_with(&workspace, &format!("gate-{number}"), ENVIRONMENT));
        }
        endpoints.set(&gates.iter().map(Gate::check_address).collect::<Vec<_>>());
        let envoy = Envoy::start(&EnvoyOptions::following(&endpoints, System::model()));
        let load = Load::start(envoy.address, &Request::score(SERVICE).bearer(&key), PER_SECOND);
        Self { workspace, gates, started: 3, endpoints, _envoy: envoy, load, since: Instant::now() }
    }

    fn tell_envoy(&self) {
        self.endpoints.set(&self.gates.iter().map(Gate::check_address).collect::<Vec<_>>());
    }

    /// Adds a gate. It is ready when this returns, and Envoy knows it.
    fn add(&mut self) {
        self.started += 1;
        self.gates.push(Gate::start_with(&self.workspace, &format!("gate-{}", self.started), ENVIRONMENT));
        self.tell_envoy();
        let newest = self.gates.last().unwrap();
        wait_until("its share", || allowed(newest) > 0.0);
    }

    /// Removes the oldest one.
    fn remove(&mut self) {
        let mut oldest = self.gates.remove(0);
        oldest.scoregate.process.signal("TERM");
        std::thread::sleep(NEWS);
        self.tell_envoy();
        let ended = oldest.scoregate.process.wait(Duration::from_secs(15));
        assert!(ended.success(), "{}", oldest.scoregate.process.log());
    }

    /// What each gate allows within a time.
    fn shares(&self, time: Duration) -> Vec<f64> {
        let before: Vec<_> = self.gates.iter().map(allowed).collect();
        std::thread::sleep(time);
        self.gates.iter().zip(before).map(|(gate, before)| allowed(gate) - before).collect()
    }

    fn assert_even(&self) {
        let shares = self.shares(Duration::from_secs(1));
        let even = shares.iter().sum::<f64>() / f64::from(u32::try_from(shares.len()).unwrap());
        assert!(shares.iter().all(|share| (0.8 * even..1.2 * even).contains(share)), "{shares:?}");
    }

    /// No request failed. A machine that does other things as well sends fewer than it should: the output tells.
    fn end(self) {
        let statuses = self.load.stop();
        println!("{} requests in {:?}", statuses.len(), self.since.elapsed());
        assert!(statuses.len() > 1_000, "only {} requests", statuses.len());
        let failed: Vec<_> = statuses.into_iter().filter(|status| *status != 200).collect();
        assert_eq!(failed, [0_u16; 0]);
    }
}

fn allowed(gate: &Gate) -> f64 {
    gate.scoregate.metric(r#"scoregate_decisions_total{mode="key",outcome="allow",reason="ok"}"#)
}

#[test]
fn gates_that_are_restarted_one_by_one_fail_no_request() {
    let mut rollout = Rollout::start();
    for _ in 0..3 {
        rollout.add();
        rollout.remove();
    }
    rollout.assert_even();
    rollout.end();
}

#[test]
fn gates_that_are_added_and_removed_fail_no_request_and_share_evenly() {
    let mut rollout = Rollout::start();
    for _ in 0..3 {
        rollout.add();
    }
    rollout.assert_even();
    for _ in 0..3 {
        rollout.remove();
    }
    rollout.assert_even();
    rollout.end();
}
