//! Gates behind one address that gives each connection to the next of them, as a Kubernetes Service does: an Envoy keeps
//! its connection, and so load spreads as connections are renewed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    Envoy, EnvoyOptions, Gate, Load, Request, System, WorkspaceProcess, block_on, spawn, wait_until,
};

const SERVICE: &str = "forecast";
const AGE: Duration = Duration::from_millis(1_500);
const RENEWED: (&str, &str) = ("SCOREGATE__GATE__MAX_CONNECTION_AGE", "1500ms");
const PER_SECOND: u32 = 400;

/// The address of several gates.
struct Balancer {
    address: SocketAddr,
    gates: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Balancer {
    fn start() -> Self {
        let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (address, gates) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        spawn(balance(listener, Arc::clone(&gates)));
        Self { address, gates }
    }

    fn add(&self, gate: &Gate) {
        self.gates.lock().unwrap().push(gate.scoregate.addresses.socket("ext_authz"));
    }
}

async fn balance(listener: TcpListener, gates: Arc<Mutex<Vec<SocketAddr>>>) {
    for number in 0.. {
        let (mut inside, _) = listener.accept().await.unwrap();
        let gate = {
            let gates = gates.lock().unwrap();
            gates[number % gates.len()]
        };
        tokio::spawn(async move {
            let mut outside = TcpStream::connect(gate).await?;
            inside.set_nodelay(true)?;
            outside.set_nodelay(true)?;
            copy_bidirectional(&mut inside, &mut outside).await
        });
    }
}

fn allowed(gate: &Gate) -> f64 {
    gate.scoregate.metric(r#"scoregate_decisions_total{mode="key",outcome="allow",reason="ok"}"#)
}

#[test]
fn t128_load_spreads_over_gates_that_came_later_as_connections_are_renewed() {
    let workspace = WorkspaceProcess::start(&[]);
    let key = workspace.client().create_with_keys(SERVICE).primary;
    let start = |number: usize| Gate::start_with(&workspace, &format!("gate-{number}"), &[RENEWED]);
    let mut gates: Vec<_> = (0..3).map(start).collect();
    let balancer = Balancer::start();
    gates.iter().for_each(|gate| balancer.add(gate));
    // A connection for each of its threads, and for each of them as many callers.
    let options = EnvoyOptions::new(&balancer.address.to_string(), System::model())
        .edit("enable_reuse_port: false", "connection_balance_config: { exact_balance: {} }");
    let envoy = Envoy::start(&EnvoyOptions { workers: 6, ..options });
    let load = Load::start(envoy.address, &Request::score(SERVICE).bearer(&key), PER_SECOND);
    wait_until("all three", || gates.iter().all(|gate| allowed(gate) > 0.0));

    gates.extend((3..6).map(start));
    let before: Vec<_> = gates.iter().map(allowed).collect();
    gates[3..].iter().for_each(|gate| balancer.add(gate));
    let scaled = Instant::now();
    // Each connection is renewed within its age and a tenth, and they are as many as gates.
    wait_until("all six", || gates.iter().zip(&before).all(|(gate, before)| allowed(gate) > *before));
    assert!(scaled.elapsed() < AGE.mul_f64(1.5), "{:?}", scaled.elapsed());

    let before: Vec<_> = gates.iter().map(allowed).collect();
    std::thread::sleep(4 * AGE);
    let shares: Vec<_> = gates.iter().zip(before).map(|(gate, before)| allowed(gate) - before).collect();
    let even = shares.iter().sum::<f64>() / 6.0;
    assert!(shares.iter().all(|share| (even / 2.0..even * 1.5).contains(share)), "{shares:?}");
    let statuses = load.stop();
    assert!(statuses.len() > 1_000, "only {} requests", statuses.len());
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}
