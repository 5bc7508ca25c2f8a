//! What `scoregate render envoy` writes, in a real Envoy.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{
    Answer, Envoy, EnvoyOptions, Gate, Request, Scoregate, Seen, System, WorkspaceProcess, new_path,
};

/// Everywhere somebody is at the root, and below it somebody else.
const SERVICES: &str = "\
version: scoregate/v1
services:
  - { name: root-of-a, authMode: disabled, hosts: [a.example], pathPrefixes: [/] }
  - { name: score, authMode: disabled, hosts: [a.example, b.example], pathPrefixes: [/score] }
  - { name: deep, authMode: disabled, hosts: [b.example, a.example], pathPrefixes: [/v1/models, /score/deep] }
  - { name: azure, authMode: disabled, hosts: [b.example, a.example] }
";

const HOSTS: [&str; 6] = ["a.example", "b.example", "B.Example", "b.example:8443", "a.example.", "c.example"];

const PATHS: [&str; 20] = [
    "/",
    "/?x=/score",
    "/score",
    "/score?x=1",
    "/score/",
    "/score/x",
    "/scored",
    "/score.deep",
    "/Score",
    "/score/deep",
    "/score/deep/x",
    "/score/deeper",
    "/score/deep-er",
    "/v1",
    "/v1/models",
    "/v1/models/x:predict",
    "/v1/modelsx",
    "/api/v1/service/azure/",
    "/api/v1/service/azure/score",
    "/api/v1/service/azures/score",
];

/// A gate with these services that finds the service of a request in one of its two ways.
fn gate(policy: &str, target: &'static str) -> Gate {
    let arguments =
        ["--admin-listen", "127.0.0.1:0", "--ext-authz-listen", "127.0.0.1:0", "--policy", policy];
    let arguments = arguments.map(str::to_owned).to_vec();
    Gate::with_arguments(arguments, &[("SCOREGATE__GATE__TARGET", target)])
}

/// An Envoy that routes everything to the model, whoever the gate decides for.
fn any_route(gate: &Gate) -> Envoy {
    let options = EnvoyOptions::new(&gate.check_address(), System::model());
    Envoy::start(&options.edit("direct_response: { status: 404 }", "route: { cluster: model }"))
}

fn policy() -> PathBuf {
    let path = new_path("services.yaml");
    std::fs::write(&path, SERVICES).unwrap();
    path
}

fn rendered(proxy: &str, policy: &str) -> String {
    let output = Scoregate::run(&["render", proxy, "-f", policy], &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The service that the model was told of; `None` where the caller was refused.
fn service(answer: &Answer) -> Option<String> {
    match answer.status {
        200 => Some(Seen::of(answer).all("x-scoregate-service").concat()),
        401 => None,
        other => panic!("status {other}"),
    }
}

#[test]
fn a_route_is_of_the_service_that_a_gate_finds_by_host_and_path() {
    let policy = policy();
    let policy = policy.to_str().unwrap();
    let (by_route, by_place) = (gate(policy, "context_extensions"), gate(policy, "host_path"));
    let written = rendered("envoy", policy);
    let routed = Envoy::start(&EnvoyOptions {
        file: written,
        ..EnvoyOptions::new(&by_route.check_address(), System::model())
    });
    let placed = any_route(&by_place);
    let mut found = std::collections::BTreeMap::<_, usize>::new();
    for host in HOSTS {
        for path in PATHS {
            let of = |envoy: &Envoy| service(&Request::get(path).host(host).send(envoy.address));
            let (by_route, by_place) = (of(&routed), of(&placed));
            assert_eq!(by_route, by_place, "{host}{path}");
            *found.entry(by_route).or_default() += 1;
        }
    }
    assert_eq!(found.len(), 5, "each service, and nobody: {found:?}");
}

/// Istio does not tell the gate which route it takes: who gets a request must be the one that the gate decides for. Routes are
/// taken here as Envoy takes what Istio makes of a VirtualService: the first that matches.
#[test]
fn istio_takes_a_request_to_the_service_that_the_gate_decides_for() {
    let policy = policy();
    let policy = policy.to_str().unwrap();
    let gate = gate(policy, "host_path");
    let placed = any_route(&gate);
    let objects: Vec<Value> = serde_saphyr::from_multiple(&rendered("istio", policy)).unwrap();
    let matches = |rule: &Value, path: &str| match (&rule["uri"]["exact"], &rule["uri"]["prefix"]) {
        (Value::String(exact), _) => path == exact,
        (_, Value::String(prefix)) => path.starts_with(prefix),
        _ => panic!("{rule}"),
    };
    let mut found = BTreeSet::new();
    for host in ["a.example", "b.example"] {
        let object = objects.iter().find(|object| object["spec"]["hosts"] == json!([host])).unwrap();
        let routes = object["spec"]["http"].as_array().unwrap();
        for path in PATHS.iter().chain(&["/api/v1/service/azure", "/api/v1/service"]) {
            let (plain, _) = path.split_once('?').unwrap_or((path, ""));
            let is_taken =
                |route: &&Value| route["match"].as_array().unwrap().iter().any(|rule| matches(rule, plain));
            let taken = routes.iter().find(is_taken).map(|route| route["name"].as_str().unwrap().to_owned());
            assert_eq!(taken, service(&Request::get(path).host(host).send(placed.address)), "{host}{path}");
            found.insert(taken);
        }
    }
    assert_eq!(found.len(), 5, "each service, and nobody: {found:?}");
}

/// As Azure ML's ingress did: a model answers at `/score`.
#[test]
fn the_prefix_of_azure_is_cut_off_and_no_other() {
    let policy = policy();
    let policy = policy.to_str().unwrap();
    let gate = gate(policy, "context_extensions");
    let options = EnvoyOptions::new(&gate.check_address(), System::model());
    let envoy = Envoy::start(&EnvoyOptions { file: rendered("envoy", policy), ..options });
    for (path, expected) in [
        ("/api/v1/service/azure/score", "/score"),
        ("/api/v1/service/azure/score?x=1", "/score?x=1"),
        ("/v1/models/one", "/v1/models/one"),
        ("/score/deep", "/score/deep"),
    ] {
        assert_eq!(
            Seen::of(&Request::get(path).host("b.example").send(envoy.address)).path,
            expected,
            "{path}"
        );
    }
}

/// Of envoy/shadow.yaml: nobody is refused, and nobody passes for somebody else.
#[test]
fn in_shadow_everybody_passes_and_the_log_says_who_would_not() {
    let workspace = WorkspaceProcess::start(&[]);
    let gate = Gate::start_with(&workspace, "gate-1", &[]);
    let key = workspace.client().create_with_keys("forecast").primary;
    let file = include_str!("../../envoy/shadow.yaml").to_owned();
    let envoy =
        Envoy::start(&EnvoyOptions { file, ..EnvoyOptions::new(&gate.check_address(), System::model()) });
    let score = |path: &str, key: &str| {
        let request = Request::get(&format!("/api/v1/service/forecast/{path}")).bearer(key);
        Seen::of(&request.header("x-scoregate-service", "forged").send(envoy.address))
    };
    let refused = score("wrong", "a-key-of-nobody-in-particular");
    assert_eq!(refused.all("x-scoregate-service"), [""; 0], "what the caller said of itself");
    assert_eq!(refused.all("authorization").len(), 1, "as the file says: the credential is not taken away");
    let allowed = score("right", &key);
    assert_eq!(allowed.all("x-scoregate-service"), ["forecast"]);
    assert_eq!(allowed.all("authorization"), [""; 0]);
    assert_eq!(envoy.access_log("/api/v1/service/forecast/wrong")["reason"], "unknown_key");
    assert_eq!(envoy.access_log("/api/v1/service/forecast/right")["reason"], "ok");
    assert_eq!(envoy.stats("shadow_denied")["http.scoring.ext_authz.scoregate.shadow_denied"], 1);
}
