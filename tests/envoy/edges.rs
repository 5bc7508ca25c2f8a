//! The configurations whose Envoy meets callers itself, over TLS: envoy/aks-ingress.yaml and envoy/aci.yaml.

use reqwest::{Certificate, Client, tls};
use serde_json::{Value, json};

use crate::support::{
    Authority, Envoy, EnvoyOptions, Gate, Keys, Request, Scoregate, System, WorkspaceProcess, new_path, text,
};

const AKS: &str = include_str!("../../envoy/aks-ingress.yaml");
const ACI: &str = include_str!("../../envoy/aci.yaml");
const CERTIFICATE: &str = include_str!("../../envoy/parts/certificate.yaml");

/// An Envoy whose certificate is for these names, and whom callers have to believe.
fn start(file: &str, gate: &Gate, names: &[&str]) -> (Envoy, Authority) {
    let authority = Authority::new();
    let identity = authority.identity(names);
    let certificate = new_path("certificate.yaml");
    let followed = CERTIFICATE
        .replace("/etc/ingress-tls/tls.crt", text(&identity.certificate))
        .replace("/etc/ingress-tls/tls.key", text(&identity.key))
        .replace("path: /etc/ingress-tls", &format!("path: {}", text(identity.key.parent().unwrap())));
    std::fs::write(&certificate, followed).unwrap();
    let file = file.replace("/etc/envoy/certificate.yaml", text(&certificate));
    let envoy =
        Envoy::start(&EnvoyOptions { file, ..EnvoyOptions::new(&gate.check_address(), System::model()) });
    (envoy, authority)
}

/// A caller that finds this host at this Envoy.
fn caller(envoy: &Envoy, authority: &Authority, host: &str) -> Client {
    let ca = Certificate::from_pem(&std::fs::read(&authority.ca).unwrap()).unwrap();
    let builder = Client::builder().no_proxy().tls_certs_only([ca]).resolve(host, envoy.address);
    builder.min_tls_version(tls::Version::TLS_1_2).build().unwrap()
}

fn on_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Status and what the model saw.
fn score(envoy: &Envoy, authority: &Authority, url: (&str, &str), credential: Option<&str>) -> (u16, Value) {
    let (host, path) = url;
    let request =
        caller(envoy, authority, host).get(format!("https://{host}:{}{path}", envoy.address.port()));
    let request = match credential {
        Some(credential) => request.bearer_auth(credential),
        None => request,
    };
    on_runtime(async {
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    })
}

fn started(members: &Value) -> (WorkspaceProcess, Gate, Option<Keys>) {
    let workspace = WorkspaceProcess::start(&[]);
    let gate = Gate::start_with(&workspace, "gate-1", &[]);
    workspace.client().create("forecast", members);
    let keys = (members["authEnabled"] != false).then(|| workspace.client().keys("forecast"));
    (workspace, gate, keys)
}

#[test]
fn an_ingress_speaks_tls_and_knows_services_by_their_hosts() {
    let (_workspace, gate, keys) =
        started(&json!({ "scoregate": { "hosts": ["forecast.models.example.com"] } }));
    let key = keys.unwrap().primary;
    let names = ["forecast.models.example.com", "ranking.models.example.com"];
    let (envoy, authority) = start(AKS, &gate, &names);
    let path = "/api/v1/service/forecast/score";
    for (place, credential, expected) in [
        ((names[0], path), Some(key.as_str()), 200),
        ((names[0], path), Some("a-key-of-nobody"), 401),
        ((names[0], path), None, 401),
        ((names[0], "/score"), Some(&key), 401),
        ((names[1], path), Some(&key), 401),
        ((names[1], "/api/v1/service/ranking/score"), Some(&key), 401),
    ] {
        let (status, _) = score(&envoy, &authority, place, credential);
        assert_eq!(status, expected, "{place:?}, {credential:?}");
    }
    let stranger = Authority::new();
    let unbelieved =
        caller(&envoy, &stranger, names[0]).get(format!("https://{}:{}", names[0], envoy.address.port()));
    assert!(on_runtime(unbelieved.send()).is_err(), "a certificate of another CA");
}

#[test]
fn a_container_group_is_scored_at_score_with_a_key_or_openly() {
    let aci = json!({ "computeType": "ACI", "authEnabled": true });
    let (_workspace, gate, keys) = started(&aci);
    let key = keys.unwrap().secondary;
    let host = "group.region.azurecontainer.example";
    let (envoy, authority) = start(ACI, &gate, &[host]);
    let (status, seen) = score(&envoy, &authority, (host, "/score"), Some(&key));
    assert_eq!((status, &seen["path"]), (200, &json!("/score")), "{seen}");
    for (path, credential, expected) in [
        ("/score", None, 401),
        ("/score", Some("a-key-of-nobody"), 401),
        ("/scores", Some(key.as_str()), 401),
        ("/", Some(&key), 401),
        ("/api/v1/service/forecast/score", Some(&key), 401),
    ] {
        let (status, _) = score(&envoy, &authority, (host, path), credential);
        assert_eq!(status, expected, "{path}, {credential:?}");
    }

    let (_workspace, gate, _) = started(&json!({ "computeType": "ACI", "authEnabled": false }));
    let (envoy, authority) = start(ACI, &gate, &[host]);
    assert_eq!(score(&envoy, &authority, (host, "/score"), None).0, 200);
    assert_eq!(score(&envoy, &authority, (host, "/"), None).0, 401);
}

/// What the kubelet and the load balancer ask.
#[test]
fn an_ingress_says_that_it_serves_and_nothing_else() {
    let (_workspace, gate, _) = started(&json!({}));
    let (envoy, _authority) = start(AKS, &gate, &["x.example"]);
    let listeners = Request::get("/listeners?format=json").send(envoy.admin).json();
    let ready = listeners["listener_statuses"].as_array().unwrap().iter().find(|one| one["name"] == "ready");
    let port = ready.unwrap()["local_address"]["socket_address"]["port_value"].as_u64().unwrap();
    let address = ([127, 0, 0, 1], u16::try_from(port).unwrap()).into();
    assert_eq!(Request::get("/ready").send(address).status, 200);
    assert_eq!(Request::score("forecast").send(address).status, 404);
}

/// What a container finds at the paths that its volumes are mounted at.
fn files(group: &Value, container: &str) -> Vec<String> {
    let volumes = group["properties"]["volumes"].as_array().unwrap();
    let container = named(&group["properties"]["containers"], container);
    let mounts = container["properties"]["volumeMounts"].as_array().unwrap();
    let files = mounts.iter().flat_map(|mount| {
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).expect("a volume");
        let names = volume["secret"].as_object().into_iter().flat_map(|secret| secret.keys());
        names.map(|name| format!("{}/{name}", mount["mountPath"].as_str().unwrap()))
    });
    files.collect()
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|one| one["name"] == name).expect("one of that name")
}

/// Azure itself is not here: what is in the file is held against what Envoy and gate want.
#[test]
fn the_container_group_gives_envoy_and_gate_what_they_want() {
    let group = include_str!("../../docs/aci/container-group.yaml");
    let group: Value = serde_saphyr::from_str(group).unwrap();
    let properties = &group["properties"];

    let open: Vec<_> = properties["containers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|container| {
            Some((container["name"].as_str()?, container["properties"]["ports"].as_array()?))
        })
        .collect();
    let port = json!([{ "protocol": "TCP", "port": 8443 }]);
    assert_eq!(open, [("envoy", port.as_array().unwrap())], "callers get to Envoy alone");
    assert_eq!(properties["ipAddress"]["ports"], port);
    assert!(ACI.contains("address: { socket_address: { address: 0.0.0.0, port_value: 8443 } }  # @listen"));

    let present = files(&group, "envoy");
    for file in ["/etc/envoy/aci.yaml", "/etc/envoy/certificate.yaml"] {
        assert!(present.iter().any(|one| one == file), "{file} is not in {present:?}");
    }
    for file in ["/etc/ingress-tls/tls.crt", "/etc/ingress-tls/tls.key"] {
        assert!(CERTIFICATE.contains(file) && present.iter().any(|one| one == file), "{file}, {present:?}");
    }

    let directory = new_path("group");
    std::fs::create_dir(&directory).unwrap();
    let workspace = WorkspaceProcess::start(&[]);
    for (name, from) in [
        ("ca.crt", Authority::new().ca),
        ("credential", workspace.data_dir.join("owner-credential")),
        ("pepper", workspace.data_dir.join("pepper")),
        ("policy-key.pub", workspace.data_dir.join("policy-key.pub")),
    ] {
        assert!(files(&group, "gate").contains(&format!("/etc/scoregate/{name}")), "{name}");
        std::fs::copy(from, directory.join(name)).unwrap();
    }
    let variables =
        named(&properties["containers"], "gate")["properties"]["environmentVariables"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().replace("/etc/scoregate", directory.to_str().unwrap());
    let variables: Vec<_> = variables.iter().map(|one| (text(&one["name"]), text(&one["value"]))).collect();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let checked = Scoregate::run(&["config", "check", "--gate"], &variables);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let shown: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let listens = (&shown["gate"]["ext_authz_listen"], &shown["admin"]["listen"]);
    assert_eq!(listens, (&json!(["127.0.0.1:9191"]), &json!("127.0.0.1:9192")));
}
