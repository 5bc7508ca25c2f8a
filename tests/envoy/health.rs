//! Whether a process can do its work: `/livez`, `/readyz` and `grpc.health.v1`, for both roles.

use std::time::Duration;

use crate::support::{Gate, GrpcHealth, Scoregate, WorkspaceProcess, wait_until};

const AUTHORIZATION: &str = "envoy.service.auth.v3.Authorization";

fn serving(health: &GrpcHealth, service: &str) -> bool {
    health.check(service).as_str_name() == "SERVING"
}

fn admin(scoregate: &Scoregate) -> GrpcHealth {
    GrpcHealth::connect(&scoregate.addresses.socket("admin").to_string())
}

#[test]
fn gate_serves_through_an_outage_and_not_while_it_drains() {
    let mut workspace = WorkspaceProcess::start(&[]);
    let mut gate = Gate::start(&workspace, "gate-1");
    let ports = [GrpcHealth::connect(&gate.check_address()), admin(&gate.scoregate)];
    let mut watches = ports.each_ref().map(|port| port.watch(AUTHORIZATION));
    assert!(watches.iter_mut().all(|watch| watch.next().as_str_name() == "SERVING"));
    workspace.scoregate.process.kill();
    wait_until("the outage", || gate.scoregate.metric("scoregate_feed_connected") == 0.0);
    for port in &ports {
        assert!(serving(port, "") && serving(port, AUTHORIZATION));
    }
    assert_eq!((gate.scoregate.admin("/livez").status, gate.scoregate.admin("/readyz").status), (200, 200));

    gate.scoregate.process.signal("TERM");
    assert!(watches.iter_mut().all(|watch| watch.next().as_str_name() == "NOT_SERVING"));
    for port in &ports {
        assert!(!serving(port, "") && !serving(port, AUTHORIZATION));
    }
    assert_eq!((gate.scoregate.admin("/livez").status, gate.scoregate.admin("/readyz").status), (200, 503));
    assert!(gate.scoregate.process.wait(Duration::from_secs(10)).success());
}

#[test]
fn workspace_tells_its_health_until_it_drains() {
    let mut workspace = WorkspaceProcess::start(&[]);
    let port = admin(&workspace.scoregate);
    assert!(serving(&port, "") && serving(&port, "scoregate.policy.v1.PolicyFeed"));
    let ask = |path| workspace.scoregate.admin(path).status;
    assert_eq!((ask("/livez"), ask("/readyz")), (200, 200));
    assert_eq!((ask("/"), ask("/metric")), (404, 404), "a probe of what is not there fails");
    let mut watch = port.watch("");
    assert_eq!(watch.next().as_str_name(), "SERVING");
    workspace.scoregate.process.signal("TERM");
    assert_eq!(watch.next().as_str_name(), "NOT_SERVING");
    assert_eq!((ask("/livez"), ask("/readyz")), (200, 503));
    assert!(workspace.scoregate.process.wait(Duration::from_secs(10)).success());
}
