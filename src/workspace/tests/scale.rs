//! Policy as large as it may be.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use scoregate_authz::{EntryId, Version};

use super::fixture::{Fixture, Served};
use crate::admin::Health;
use crate::config::{self, Sources, write_secret};
use crate::gate::{self, GateHandle, Listeners};
use crate::listen::Listener;
use crate::metrics::Metrics;
use crate::proto::scoregate::policy::v1 as wire;
use crate::shutdown::Shutdown;
use crate::workspace::image::Image;
use crate::workspace::store::EntryRow;
use crate::workspace::{Origin, Role, timestamp};

const SERVICES: usize = 100_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// Services that are open, each at a host of its own: made without the store, which would take its time for them.
fn rows(revision: u64) -> Vec<EntryRow> {
    let row = |number: usize| {
        let policy = wire::ServicePolicy {
            compute_type: wire::ComputeType::Aks.into(),
            auth_mode: wire::AuthMode::Disabled.into(),
            hosts: vec![format!("service-{number}.models.example.com")],
            path_prefixes: vec!["/score".to_owned()],
            ..wire::ServicePolicy::default()
        };
        EntryRow {
            id: EntryId { kind: 1, id: format!("01990000-0000-7000-8000-{number:012}").into() },
            name: format!("service-{number}"),
            content: policy.encode_to_vec(),
            revision,
            deleted: false,
        }
    };
    (0..SERVICES).map(row).collect()
}

/// A real gate, as the command line would start it.
async fn gate(fixture: &Fixture, served: &Served, metrics: &Metrics, shutdown: &Shutdown) -> GateHandle {
    let (_, credential) =
        served.workspace.create_principal(&Origin::local(), "gate", Role::Gate).await.unwrap();
    let file = |name: &str, text: &str| {
        let path = fixture.config.data_dir.join(name);
        write_secret(&path, text).unwrap();
        path.display().to_string()
    };
    let variables = [
        ("NAME", "gate".to_owned()),
        ("FEED", served.address.strip_prefix("http://").unwrap().to_owned()),
        ("CREDENTIAL_FILE", file("credential", secrecy::ExposeSecret::expose_secret(&credential))),
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
    let served = Served::start(&fixture).await;
    let workspace = &served.workspace;
    let (metrics, shutdown) = (Metrics::default(), Shutdown::default());
    let before = workspace.image();
    let version = Version { revision: before.version().revision + 1, ..before.version() };
    let rows = before.live().map(|entry| entry.row.clone()).chain(rows(version.revision)).collect();
    let image = Arc::new(Image::new(version, rows, timestamp(workspace.now())));
    workspace.publish(Image::clone(&image));
    let gate = gate(&fixture, &served, &metrics, &shutdown).await;

    let mut applied = gate.applied();
    let pulled = applied.wait_for(|held| *held == Some(version));
    tokio::time::timeout(PATIENCE, pulled).await.expect("never in force").unwrap();
    let shown = metrics.render();
    let services = format!(r#"scoregate_services{{mode="disabled"}} {SERVICES}"#);
    assert!(shown.contains(&services) && shown.contains("scoregate_feed_refused_total 0"), "{shown}");
    let held = loop {
        let gates = workspace.gates();
        match gates.first().and_then(|gate| gate.enforces) {
            Some(held) => break held,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert_eq!(held, version);
    assert!(shutdown.run(Duration::ZERO, Duration::from_secs(10)).await);
    served.stop().await;
}
