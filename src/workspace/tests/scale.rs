//! Policy as large as it may be.

use std::time::Duration;

use secrecy::ExposeSecret;

use super::fixture::{Fixture, Served};
use crate::admin::Health;
use crate::config::{self, Sources, write_secret};
use crate::gate::{self, GateHandle, Listeners};
use crate::listen::Listener;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// Services that are open. Made past the workspace, which would take its time to make keys for them and seal those.
const INSERT: &str =
    "WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < 99999)
    INSERT INTO entries (kind, id, name, content, revision, deleted)
    SELECT 1, printf('01990000-0000-7000-8000-%012d', n), 'service-' || n, x'08011001', 2, 0 FROM number";
const SERVICES: usize = 100_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// A workspace that has them at revision 2.
async fn workspace(fixture: &Fixture) -> Served {
    assert_eq!(fixture.open().await.image().version().revision, 1);
    fixture.execute(INSERT).await;
    fixture.execute("UPDATE workspace SET revision = 2").await;
    Served::start(fixture).await
}

/// A real gate, as the command line would start it.
async fn gate(fixture: &Fixture, served: &Served, metrics: &Metrics, shutdown: &Shutdown) -> GateHandle {
    let file = |name: &str, text: &str| {
        let path = fixture.config.data_dir.join(name);
        write_secret(&path, text).unwrap();
        path.display().to_string()
    };
    let variables = [
        ("NAME", "gate".to_owned()),
        ("FEED", served.address.strip_prefix("http://").unwrap().to_owned()),
        ("CREDENTIAL_FILE", file("credential", served.credential.expose_secret())),
        ("PEPPER_FILES", file("pepper", &"07".repeat(32))),
        ("POLICY_KEY_FILES", file("policy-key.pub", &fixture.config.policy_key.public().to_pem())),
    ];
    let variables = variables.map(|(key, value)| (format!("SCOREGATE__GATE__{key}"), value));
    let sources = Sources::new(None, variables);
    let data_dir = fixture.config.data_dir.join("gate");
    let config = config::gate(&sources.read().unwrap(), &sources, &data_dir, None).unwrap();
    let check_ports = vec![Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap()];
    let listeners = Listeners { check_ports, peers: None };
    let health = Health::not_ready("no policy yet").await;
    gate::start(config, listeners, health, metrics, fixture.clock.clone(), shutdown).await.unwrap()
}

/// A gate believes nothing whose order, count or state hash is not as announced. So what it has is all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_services_pass_the_feed() {
    let fixture = Fixture::new();
    let served = workspace(&fixture).await;
    let (metrics, shutdown) = (Metrics::default(), Shutdown::default());
    let version = served.workspace.image().version();
    let gate = gate(&fixture, &served, &metrics, &shutdown).await;

    let mut applied = gate.applied();
    let pulled = applied.wait_for(|held| *held == Some(version));
    tokio::time::timeout(PATIENCE, pulled).await.expect("never in force").unwrap();
    let shown = metrics.render();
    let services = format!(r#"scoregate_services{{mode="disabled"}} {SERVICES}"#);
    assert!(shown.contains(&services) && shown.contains("scoregate_feed_refused_total 0"), "{shown}");
    let held = loop {
        let gates = served.workspace.gates();
        match gates.first().and_then(|gate| gate.enforces) {
            Some(held) => break held,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert_eq!(held, version);
    assert!(shutdown.run(Duration::ZERO, Duration::from_secs(10)).await);
    served.stop().await;
}
