//! A gate that starts while the workspace is dead: from another gate, with real processes and a real Envoy.

use std::time::{Duration, Instant};

use crate::support::{Envoy, EnvoyOptions, Gate, Request, System, WorkspaceProcess};

const SERVICE: &str = "forecast";
const PEER: (&str, &str) = ("SCOREGATE__GATE__PEER_LISTEN", "127.0.0.1:0");

#[test]
fn t109_fourth_gate_with_an_empty_disk_starts_from_peers_of_a_dead_workspace() {
    let mut workspace = WorkspaceProcess::start(&[]);
    let gates = ["gate-1", "gate-2", "gate-3"].map(|name| Gate::start_with(&workspace, name, &[PEER]));
    let client = workspace.client();
    let before = client.create_with_keys(SERVICE);
    assert_eq!(client.regenerate(SERVICE, "Primary").state, "Succeeded");
    let now = client.keys(SERVICE);
    let mut fourth = Gate::arguments(&workspace, "gate-4");
    workspace.scoregate.process.kill();

    for gate in &gates {
        let peer = gate.scoregate.addresses.text("peers").to_owned();
        fourth.extend(["--policy-source".to_owned(), peer]);
    }
    let begun = Instant::now();
    // Started means: ready, and so deciding.
    let fourth = Gate::with_arguments(fourth, &[]);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let envoy = Envoy::start(&EnvoyOptions::new(&fourth.check_address(), System::model()));
    let status = |key: &str| Request::score(SERVICE).bearer(key).send(envoy.address).status;
    assert_eq!([status(&now.primary), status(&now.secondary), status(&before.primary)], [200, 200, 401]);
}
