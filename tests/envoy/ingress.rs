//! The filter chains that control planes of ingresses make of the overlays in k8s/, in a real Envoy without them.
//!
//! `make test-ingress` writes down what istiod and Envoy Gateway emitted, golden/ingress/, and fails when that has changed.
//! Here the same is started with other addresses, with the routes in the file, and without the TLS whose certificates a
//! control plane hands out; the rest is as it was emitted.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::istio::TRICKS;
use crate::support::{Answer, Envoy, Gate, Keys, Request, Seen, System, WorkspaceProcess, wait_until};

const SERVICES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/k8s/example");

/// Of the example, with keys, and its neighbour with tokens.
const FORECAST: &str = "forecast.models.example.com";
const RANKING: &str = "ranking.models.example.com";

/// As every overlay says.
const LONGEST_CHECK: Duration = Duration::from_millis(250);

/// Leads out of the service, for a reader who is not Envoy.
const OUT_OF_IT: [&str; 8] = [
    "/../ranking/score",
    "/a/../../ranking/score",
    "/%2e%2e/ranking/score",
    "/..%2franking/score",
    "/..%5cranking/score",
    "/..;/ranking/score",
    "/.%2e/ranking/score",
    "/../../../..",
];

/// A file of golden/ingress/.
struct Golden {
    name: &'static str,
    /// How its gates find a request's service.
    target: &'static str,
}

const GOLDEN: [Golden; 3] = [
    Golden { name: "istio", target: "host_path" },
    Golden { name: "istio-aks-addon", target: "host_path" },
    Golden { name: "envoy-gateway", target: "context_extensions" },
];

impl Golden {
    fn read(&self) -> Value {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/envoy/golden/ingress");
        let text = std::fs::read_to_string(folder.join(format!("{}.json", self.name))).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Everything that it takes, with the services of the example.
    fn start(&self) -> Replay {
        let workspace = WorkspaceProcess::start(&[]);
        workspace.json_of(&["apply", "-f", SERVICES]);
        let gate = Gate::start_with(&workspace, "gate-1", &[("SCOREGATE__GATE__TARGET", self.target)]);
        let emitted = self.read();
        let config = bootstrap(&emitted, gate.check_address().parse().unwrap(), System::model());
        let envoy = Envoy::start_with(&config.to_string(), 1);
        let keys = workspace.client().keys("forecast");
        let token = workspace.client().token("ranking");
        Replay { name: self.name, workspace, gate, envoy, keys, token, timeout: timeout(&emitted) }
    }
}

/// What was emitted, as a file that Envoy starts with.
fn bootstrap(emitted: &Value, gate: SocketAddr, model: SocketAddr) -> Value {
    let mut listener = message(&emitted["listener"]);
    listener["name"] = json!("scoring");
    listener["address"] = socket_address(SocketAddr::from(([127, 0, 0, 1], 0)));
    // What tells names in TLS apart, and what it is for.
    listener.as_object_mut().unwrap().remove("listener_filters");
    for chain in listener["filter_chains"].as_array_mut().unwrap() {
        without_tls(chain);
        chain.as_object_mut().unwrap().remove("filter_chain_match");
    }
    let routes = emitted["routes"].as_array().unwrap();
    visit(&mut listener, &mut |object| {
        if let Some(rds) = object.remove("rds") {
            let name = &rds["route_config_name"];
            let found = routes.iter().find(|routes| &routes["name"] == name).unwrap();
            object.insert("route_config".to_owned(), message(found));
        }
    });
    visit(&mut listener, &mut |object| {
        if let Some(Value::Object(of_route)) = object.get_mut("typed_per_filter_config") {
            of_route.iter_mut().for_each(|(filter, settings)| tell_service(filter, settings));
        }
    });
    let gates = names_of_gates(emitted);
    let clusters = emitted["clusters"].as_array().unwrap().iter().map(|cluster| {
        let name = cluster["name"].as_str().unwrap();
        let address = if gates.iter().any(|gate| gate == name) { gate } else { model };
        with_address(message(cluster), address)
    });
    let clusters: Vec<_> = clusters.collect();
    assert!(clusters.len() > gates.len() && !gates.is_empty(), "{gates:?} of {}", clusters.len());
    json!({
        "admin": { "address": socket_address(SocketAddr::from(([127, 0, 0, 1], 0))) },
        "static_resources": { "listeners": [listener], "clusters": clusters },
    })
}

/// Envoy shows no context extensions. That of Envoy Gateway's filter for a policy is the policy's name in this overlay, which
/// is that of the service too.
fn tell_service(filter: &str, settings: &mut Value) {
    if let Some(service) = settings.pointer_mut("/check_settings/context_extensions/service") {
        assert_eq!(*service, "[redacted]");
        *service = json!(filter.rsplit('/').next());
    }
}

/// Without the name of its type, which is known where it stands.
fn message(any: &Value) -> Value {
    let mut message = any.clone();
    message.as_object_mut().unwrap().remove("@type");
    message
}

/// Does something with each object that is in a value.
fn visit(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            change(object);
            object.values_mut().for_each(|value| visit(value, change));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| visit(value, change)),
        _ => {}
    }
}

/// The clusters that are asked.
fn names_of_gates(emitted: &Value) -> Vec<String> {
    let mut found = Vec::new();
    visit(&mut emitted.clone(), &mut |object| {
        if let Some(name) = object.get("envoy_grpc").and_then(|grpc| grpc["cluster_name"].as_str()) {
            found.push(name.to_owned());
        }
    });
    found.sort_unstable();
    found.dedup();
    found
}

/// The longest that a check may take.
fn timeout(emitted: &Value) -> Duration {
    let mut found = Vec::new();
    visit(&mut emitted.clone(), &mut |object| {
        if object.contains_key("envoy_grpc") {
            let text = object["timeout"].as_str().unwrap();
            found.push(Duration::from_secs_f64(text.trim_end_matches('s').parse().unwrap()));
        }
    });
    found.into_iter().max().unwrap()
}

fn with_address(mut cluster: Value, address: SocketAddr) -> Value {
    without_tls(&mut cluster);
    let endpoint = json!({ "endpoint": { "address": socket_address(address) } });
    let object = cluster.as_object_mut().unwrap();
    for key in ["eds_cluster_config", "transport_socket_matches"] {
        object.remove(key);
    }
    object.insert("type".to_owned(), json!("STATIC"));
    let assignment = json!({ "cluster_name": object["name"], "endpoints": [{ "lb_endpoints": [endpoint] }] });
    object.insert("load_assignment".to_owned(), assignment);
    cluster
}

fn without_tls(value: &mut Value) {
    value.as_object_mut().unwrap().remove("transport_socket");
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

struct Replay {
    name: &'static str,
    workspace: WorkspaceProcess,
    gate: Gate,
    envoy: Envoy,
    keys: Keys,
    token: String,
    timeout: Duration,
}

impl Replay {
    /// A request for the service at a host, below its prefix.
    fn send(&self, host: &str, rest: &str, headers: &[(&str, String)]) -> Answer {
        let (service, _) = host.split_once('.').unwrap();
        let request = Request::get(&format!("/api/v1/service/{service}{rest}")).host(host);
        let add = |request: Request, (name, value): &(&str, String)| request.header(name, value);
        headers.iter().fold(request, add).send(self.envoy.address)
    }

    fn status(&self, host: &str, credentials: &[&str]) -> u16 {
        self.send(host, "/score", &bearer(credentials)).status
    }
}

/// A header for each.
fn bearer(credentials: &[&str]) -> Vec<(&'static str, String)> {
    credentials.iter().map(|credential| ("authorization", format!("Bearer {credential}"))).collect()
}

#[test]
fn committed_filter_chains_let_right_credentials_through_and_no_others() {
    for golden in GOLDEN {
        let replay = golden.start();
        let (name, key, token) = (replay.name, replay.keys.primary.as_str(), replay.token.as_str());
        let other = replay.workspace.client().create_with_keys("other").primary;
        for (host, credentials, status) in [
            (FORECAST, &[key] as &[&str], 200),
            (FORECAST, &[&replay.keys.secondary], 200),
            (FORECAST, &[], 401),
            (FORECAST, &["not-a-key-of-this-service"], 401),
            (FORECAST, &[&other], 401),
            (FORECAST, &[token], 401),
            (FORECAST, &[key, key], 401),
            (FORECAST, &[key, "another-one-entirely"], 401),
            (FORECAST, &["another-one-entirely", key], 401),
            (RANKING, &[token], 200),
            (RANKING, &[], 401),
            (RANKING, &["not.a.token"], 401),
            (RANKING, &[key], 401),
            (RANKING, &[token, token], 401),
        ] {
            let before = replay.gate.asked();
            assert_eq!(replay.status(host, credentials), status, "{name}, {host}: {credentials:?}");
            assert_eq!(replay.gate.asked() - before, 1.0, "{name}, {host}: {credentials:?}");
        }
    }
}

#[test]
fn committed_filter_chains_tell_the_model_who_calls_and_not_by_what() {
    let forged = ["x-scoregate-subject", "X-Scoregate-Auth-Mode", "x-scoregate-service"];
    let forged = forged.map(|name| (name, "forged".to_owned()));
    for golden in GOLDEN {
        let replay = golden.start();
        let key = &replay.keys.primary;
        for more in [&[] as &[_], &forged] {
            let answer = replay.send(FORECAST, "/score", &[&bearer(&[key]), more].concat());
            let seen = Seen::of(&answer);
            assert_eq!(seen.path, "/score", "{}", replay.name);
            assert!(seen.all("authorization").is_empty() && !seen.holds(key), "{}", replay.name);
            let expected = [
                "x-scoregate-auth-mode: key",
                "x-scoregate-key-slot: primary",
                "x-scoregate-service: forecast",
            ];
            assert_eq!(seen.identity(), expected, "{}", replay.name);
        }
    }
}

#[test]
fn t131_each_spelling_of_a_path_is_asked_of_the_gate_or_refused_by_committed_filter_chains() {
    for golden in GOLDEN {
        let replay = golden.start();
        let mut by_gate = 0;
        for rest in TRICKS.iter().chain(&OUT_OF_IT) {
            let before = replay.gate.asked();
            let refused = replay.send(FORECAST, rest, &[]).status;
            match (replay.gate.asked() - before, refused) {
                (1.0, 400 | 401) => by_gate += 1,
                (0.0, 400 | 404) => {}
                (asked, status) => panic!("{}, {rest}: asked {asked} times, {status}", replay.name),
            }
            let before = replay.gate.asked();
            let answer = replay.send(FORECAST, rest, &bearer(&[&replay.keys.primary]));
            match (replay.gate.asked() - before, answer.status) {
                (1.0, 200) => {
                    let seen = Seen::of(&answer).path;
                    let path = seen.split('?').next().unwrap();
                    assert!(!path.contains("..") && !path.contains("//"), "{}, {rest}: {seen}", replay.name);
                    assert!(!path.contains(['\\', ';', '%']), "{}, {rest}: {seen}", replay.name);
                }
                (0.0 | 1.0, 400 | 401 | 404) => {}
                (asked, status) => panic!("{}, {rest}: asked {asked} times, {status}", replay.name),
            }
        }
        assert!(by_gate > TRICKS.len() / 2, "{}: {by_gate}", replay.name);
    }
}

#[test]
fn committed_filter_chains_are_503_while_the_gate_is_gone_or_hangs() {
    for golden in GOLDEN {
        let mut replay = golden.start();
        let (name, key) = (replay.name, replay.keys.primary.clone());
        assert!(replay.timeout <= LONGEST_CHECK, "{name}: {:?}", replay.timeout);
        assert_eq!(replay.status(FORECAST, &[&key]), 200, "{name}");

        replay.gate.scoregate.process.signal("STOP");
        wait_until("the gate to stand still", || replay.status(FORECAST, &[&key]) == 503);
        for credentials in [&[key.as_str()] as &[_], &[]] {
            let began = Instant::now();
            assert_eq!(replay.status(FORECAST, credentials), 503, "{name}");
            let took = began.elapsed();
            let late = replay.timeout + Duration::from_millis(750);
            assert!(took >= replay.timeout * 9 / 10 && took < late, "{name}: {took:?}");
        }
        replay.gate.scoregate.process.signal("CONT");
        wait_until("the gate to go on", || replay.status(FORECAST, &[&key]) == 200);

        replay.gate.scoregate.process.kill();
        for credentials in [&[key.as_str()] as &[_], &[]] {
            assert_eq!(replay.status(FORECAST, credentials), 503, "{name}");
        }
        replay.gate.restart();
        wait_until("the gate to be back", || replay.status(FORECAST, &[&key]) == 200);
    }
}
