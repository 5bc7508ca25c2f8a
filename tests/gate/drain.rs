//! The end of a gate.

use std::error::Error;
use std::time::Duration;

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::envoy::{self, Envoy, with_bearer};
use crate::policy::{key, key_service};
use crate::rig::Rig;

#[tokio::test]
async fn t126_drain_fails_no_request() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await;
    rig.wait_until_ready().await;
    let mut health = HealthClient::new(envoy::connect(&rig.tcp).await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let status = watch.message().await.unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::Serving);

    let mut envoy = rig.envoy().await;
    let shutdown = rig.shutdown.clone();
    let ending =
        tokio::spawn(async move { shutdown.run(Duration::from_millis(300), Duration::from_secs(10)).await });
    let status = watch.message().await.unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::NotServing);
    // Out of service, and still answering: Envoy has yet to hear of it.
    assert_eq!(rig.health.is_ready(), Err("draining".to_owned()));
    while !rig.shutdown.stopping_token().is_cancelled() {
        assert_eq!(envoy.with("svc", &key("svc", "primary", 1)).await.outcome(), (200, "ok"));
    }
    assert!(ending.await.unwrap(), "workers, listeners and the feed end in time");
    let refused = std::panic::AssertUnwindSafe(tokio::spawn({
        let tcp = rig.tcp.clone();
        async move { Envoy::connect(&tcp).await }
    }));
    assert!(refused.0.await.is_err(), "the port is closed");
}

#[tokio::test]
async fn connections_are_renewed_after_their_age() {
    let data = tempfile::tempdir().unwrap();
    let (first, workspace, _session) = Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await;
    assert!(first.stop().await);
    let mut config = crate::rig::config(&workspace.address, data.path());
    config.max_connection_age = Some(Duration::from_millis(200));
    let rig = Rig::start_with(config).await;
    let mut envoy = rig.envoy().await;
    let end = std::time::Instant::now() + Duration::from_millis(800);
    while std::time::Instant::now() < end {
        // The client opens a new connection by itself when the old one says that it goes away.
        match envoy.try_check(with_bearer("svc", &key("svc", "primary", 1))).await {
            Ok(answer) => assert_eq!(answer.outcome(), (200, "ok")),
            Err(status) => assert!(was_never_sent(&status), "{status:?}"),
        }
    }
    // The client, which asks nothing now, opens no other.
    rig.wait_for_metric("scoregate_connections", 0.0).await;
}

/// Whether the client itself gave a request up: it had chosen a connection that then went away, and it tries no other,
/// as Envoy does.
fn was_never_sent(status: &tonic::Status) -> bool {
    let causes = std::iter::successors(status.source(), |&cause| cause.source());
    causes.filter_map(|cause| cause.downcast_ref::<hyper::Error>()).any(hyper::Error::is_canceled)
}
