//! TLS on every listener, with client certificates, between real processes and through a real Envoy.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::support::{
    Authority, Checks, Envoy, EnvoyOptions, Gate, Identity, Keys, Request, Scoregate, System,
    WorkspaceProcess, new_path, text, wait_until,
};

const SERVICE: &str = "forecast";
const ENVOY: &str = "spiffe://cluster.local/ns/models/sa/envoy";
const GATE: &str = "spiffe://cluster.local/ns/scoregate/sa/gate";

type Environment = Vec<(&'static str, &'static str)>;

/// The variables of one table of TLS.
macro_rules! server_tls {
    ($table:literal, $identity:expr, $ca:expr, $allowed:expr) => {
        vec![
            (concat!("SCOREGATE__", $table, "__CERTIFICATE_FILE"), text(&$identity.certificate)),
            (concat!("SCOREGATE__", $table, "__KEY_FILE"), text(&$identity.key)),
            (concat!("SCOREGATE__", $table, "__CLIENT_CA_FILE"), text(&$ca.ca)),
            (concat!("SCOREGATE__", $table, "__ALLOWED_PEERS"), $allowed),
        ]
    };
}

fn certificates_of(identity: &Identity) -> Environment {
    vec![
        ("SCOREGATE__GATE__FEED_TLS__CERTIFICATE_FILE", text(&identity.certificate)),
        ("SCOREGATE__GATE__FEED_TLS__KEY_FILE", text(&identity.key)),
    ]
}

/// The part of Envoy's configuration that is shipped for this, with these files in it.
fn transport(gate: &Authority, identity: &Identity) -> String {
    let shipped = include_str!("../../envoy/parts/gate-mtls.yaml");
    let part = &shipped[shipped.find("    transport_socket:").unwrap()..];
    part.replace("/etc/envoy/tls/tls.crt", text(&identity.certificate))
        .replace("/etc/envoy/tls/tls.key", text(&identity.key))
        .replace("/etc/envoy/tls/ca.crt", text(&gate.ca))
}

fn envoy(gate: &Gate, transport: &str) -> Envoy {
    let anchor = "    load_assignment:\n      cluster_name: scoregate\n";
    let with_tls = format!("{transport}{anchor}").leak();
    let options = EnvoyOptions::new(&gate.check_address(), System::model()).edit(anchor, with_tls);
    Envoy::start(&options)
}

/// A workspace and a gate whose check port wants client certificates, and the CA of all.
fn mutual() -> (WorkspaceProcess, Gate, Authority, Keys) {
    let authority = Authority::new();
    let own = authority.identity(&["gate.scoregate"]);
    let environment = server_tls!("GATE__TLS", own, authority, ENVOY);
    let workspace = WorkspaceProcess::start(&[]);
    let gate = Gate::start_with(&workspace, "gate-1", &environment);
    let keys = workspace.client().create_with_keys(SERVICE);
    (workspace, gate, authority, keys)
}

fn status(envoy: &Envoy, key: &str) -> u16 {
    Request::score(SERVICE).bearer(key).send(envoy.address).status
}

#[test]
fn t014_check_port_is_for_proxies_with_the_right_certificate() {
    let (_workspace, gate, authority, keys) = mutual();
    let right = envoy(&gate, &transport(&authority, &authority.identity(&[ENVOY])));
    assert_eq!(status(&right, &keys.primary), 200);
    assert_eq!(status(&right, "wrong"), 401);

    let foreign = Authority::new();
    let wrong = [
        ("a certificate of another CA", transport(&authority, &foreign.identity(&[ENVOY]))),
        (
            "another name",
            transport(&authority, &authority.identity(&["spiffe://cluster.local/ns/x/sa/envoy"])),
        ),
        ("a gate of another CA", transport(&foreign, &authority.identity(&[ENVOY]))),
        ("no TLS", String::new()),
    ];
    for (what, transport) in wrong {
        let envoy = envoy(&gate, &transport);
        assert_eq!(status(&envoy, &keys.primary), 503, "{what}");
    }
    assert_eq!(status(&right, &keys.primary), 200, "the right one is unharmed");
}

const HALF_OPEN: usize = 10_000;

/// From now on this process, and those that it starts, may have as many files open as the system lets it.
fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let enough = limit.maximum.is_none_or(|files| files > HALF_OPEN as u64 + 1_000);
    assert!(enough, "this test needs {HALF_OPEN} open files; `ulimit -Hn` says {:?}", limit.maximum);
}

#[test]
fn t014_handshakes_that_drag_on_or_are_none_hold_nobody_up() {
    allow_many_files();
    let (_workspace, gate, authority, keys) = mutual();
    let address = gate.scoregate.addresses.socket("ext_authz");
    let begun = Instant::now();
    // Half of them say nothing, the others promise a handshake that never comes.
    let connect = |number| {
        // As fast as they are accepted: the system's queue of those that are not is short.
        if number % 100 == 0 {
            wait_until("the gate to accept", || {
                let open = gate.scoregate.metric("scoregate_connections");
                open >= number as f64 || begun.elapsed() > Duration::from_secs(8)
            });
        }
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&[0x16, 3, 1, 2, 0][..number % 2 * 5]).unwrap();
        stream
    };
    let half_open: Vec<_> = (0..HALF_OPEN).map(connect).collect();
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        &[0x16, 3, 1, 0xff, 0xff],
        &[0; 600],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream.write_all(garbage).unwrap();
        // Told what is wrong, or cut off; never served.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let right = envoy(&gate, &transport(&authority, &authority.identity(&[ENVOY])));
    assert_eq!(status(&right, &keys.primary), 200);
    wait_until("the end of handshakes", || gate.scoregate.metric("scoregate_connections") <= 2.0);
    drop(half_open);
}

/// As when somebody opens connections until there are no more to be had.
#[test]
fn t014_gate_that_has_no_more_files_goes_on_deciding_and_recovers() {
    let workspace = WorkspaceProcess::start(&[]);
    let arguments = Gate::arguments(&workspace, "gate-1");
    let gate = Scoregate::start_with_few_files("gate", &arguments, 96);
    let client = workspace.client();
    let before = client.create_with_keys(SERVICE);
    let checks = Checks::connect(gate.addresses.text("ext_authz"));
    assert_eq!(checks.status(SERVICE, &before.primary), 200);
    let held: Vec<_> =
        (0..200).map(|_| TcpStream::connect(gate.addresses.socket("ext_authz")).unwrap()).collect();
    wait_until("the complaint", || gate.process.log().contains("cannot accept a connection"));
    assert_eq!(checks.status(SERVICE, &before.primary), 200);
    assert_eq!(client.regenerate(SERVICE, "Primary").state, "Succeeded");
    assert_eq!(checks.status(SERVICE, &before.primary), 401);
    drop(held);
    let now = client.keys(SERVICE).primary;
    assert_eq!(Checks::connect(gate.addresses.text("ext_authz")).status(SERVICE, &now), 200);
    let complaints = gate.process.log().matches("cannot accept a connection").count();
    assert!(complaints < 200, "it does not fill its log: {complaints}");
}

#[test]
fn client_ca_is_followed_and_a_bad_one_leaves_the_old_in_use() {
    let (_workspace, gate, authority, keys) = mutual();
    let newer = Authority::new();
    let transport = transport(&authority, &newer.identity(&[ENVOY]));
    let envoy = envoy(&gate, &transport);
    assert_eq!(status(&envoy, &keys.primary), 503);
    let good = std::fs::read(&authority.ca).unwrap();
    std::fs::write(&authority.ca, "no certificate").unwrap();
    wait_until("the warning", || gate.scoregate.process.log().contains("the certificate in use stays"));
    std::fs::write(&authority.ca, good).unwrap();
    authority.admit(&newer);
    wait_until("the new CA", || status(&envoy, &keys.primary) == 200);
}

#[test]
fn metrics_tell_when_the_certificate_in_use_expires() {
    let authority = Authority::new();
    let served = authority.identity_in(&["gate.scoregate"], 1975..2100);
    let workspace = WorkspaceProcess::start(&[]);
    let environment = server_tls!("GATE__TLS", served, authority, ENVOY);
    let gate = Gate::start_with(&workspace, "gate-1", &environment);
    let expires = |listener: &str| {
        let series = "scoregate_certificate_expiry_timestamp_seconds";
        gate.scoregate.metric(&format!("{series}{{listener=\"{listener}\"}}"))
    };
    assert_eq!(expires("ext_authz"), 4_102_444_800.0);
    assert!(expires("admin").is_nan(), "it has no TLS");
    let renewed = authority.identity_in(&["gate.scoregate"], 1975..2200);
    std::fs::copy(renewed.certificate, served.certificate).unwrap();
    std::fs::copy(renewed.key, served.key).unwrap();
    wait_until("the renewed one", || expires("ext_authz") == 7_258_118_400.0);
}

#[test]
fn t116_feed_over_tls_is_for_gates_with_a_certificate_or_a_credential() {
    let authority = Authority::new();
    let own = authority.identity(&["127.0.0.1"]);
    let environment = server_tls!("WORKSPACE__FEED_TLS", own, authority, GATE);
    let workspace = WorkspaceProcess::start(&environment);
    let trust = ("SCOREGATE__GATE__FEED_TLS__CA_FILE", text(&authority.ca));

    let with_credential = Gate::start_with(&workspace, "gate-1", &[trust]);
    let arguments = without_credential(Gate::arguments(&workspace, "gate-2"));
    let of = |identity: Identity| [vec![trust], certificates_of(&identity)].concat();
    let with_certificate = Gate::with_arguments(arguments.clone(), &of(authority.identity(&[GATE])));
    let client = workspace.client();
    let before = client.create_with_keys(SERVICE);
    assert_eq!(client.regenerate(SERVICE, "Primary").state, "Succeeded");
    for gate in [&with_credential, &with_certificate] {
        let envoy = Envoy::start(&EnvoyOptions::new(&gate.check_address(), System::model()));
        assert_eq!(status(&envoy, &before.primary), 401);
        assert_eq!(status(&envoy, &before.secondary), 200);
    }

    let foreign = Authority::new();
    let foreign_trust = ("SCOREGATE__GATE__FEED_TLS__CA_FILE", text(&foreign.ca));
    let refused = [
        ("a certificate of another CA", of(foreign.identity(&[GATE]))),
        ("another name", of(authority.identity(&[ENVOY]))),
        (
            "a workspace of another CA",
            [vec![foreign_trust], certificates_of(&authority.identity(&[GATE]))].concat(),
        ),
        ("another name of the workspace", {
            let name = ("SCOREGATE__GATE__FEED_TLS__SERVER_NAME", "other.example");
            [of(authority.identity(&[GATE])), vec![name]].concat()
        }),
    ];
    for (what, environment) in refused {
        let arguments = without_credential(Gate::arguments(&workspace, &format!("gate-{}", what.len())));
        let mut process = Scoregate::start_unready(
            "gate",
            &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
            &environment,
            &new_path("addresses.json"),
        );
        wait_until(what, || process.log().contains("the policy feed is not connected"));
        assert!(!process.log().contains("the policy feed is connected"), "{what}: {}", process.log());
        process.kill();
    }
    let log = workspace.scoregate.process.log();
    for told in [
        "no TLS handshake problem=invalid peer certificate",
        &format!("`allowed_peers` has none of its names names=[\"{ENVOY}\"]"),
    ] {
        assert!(log.contains(told), "{told}: {log}");
    }
}

/// Gates and commands that know this workspace say nothing to whoever shows such a certificate.
#[test]
fn t116_workspace_with_a_certificate_out_of_its_time_is_refused_by_gates_and_commands() {
    let authority = Authority::new();
    let good = authority.identity(&["127.0.0.1"]);
    let served = Identity { certificate: new_path("served.pem"), key: new_path("served.key") };
    let serve = |identity: &Identity| {
        std::fs::copy(&identity.key, &served.key).unwrap();
        std::fs::copy(&identity.certificate, &served.certificate).unwrap();
    };
    serve(&good);
    let environment = [
        ("SCOREGATE__WORKSPACE__FEED_TLS__CERTIFICATE_FILE", text(&served.certificate)),
        ("SCOREGATE__WORKSPACE__FEED_TLS__KEY_FILE", text(&served.key)),
        ("SCOREGATE__WORKSPACE__TLS__CERTIFICATE_FILE", text(&served.certificate)),
        ("SCOREGATE__WORKSPACE__TLS__KEY_FILE", text(&served.key)),
    ];
    let mut workspace = WorkspaceProcess::start(&environment);
    let credential_file = workspace.data_dir.join("owner-credential");
    let command = |workspace: &WorkspaceProcess, arguments: &[&str]| {
        let url = workspace.scoregate.addresses.text("workspace");
        let flags = [
            "--workspace",
            url,
            "--credential-file",
            text(&credential_file),
            "--ca-file",
            text(&authority.ca),
        ];
        Scoregate::run(&[arguments, &flags].concat(), &[])
    };
    let made = command(&workspace, &["principal", "create", "gate-1", "--role", "gate", "--output", "json"]);
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(command(&workspace, &["service", "create", SERVICE]).status.code(), Some(0));
    let trust = ("SCOREGATE__GATE__FEED_TLS__CA_FILE", text(&authority.ca));
    let arguments = Gate::arguments_with(&workspace, "gate-1", made["credential"].as_str().unwrap());
    let gate = Gate::with_arguments(arguments, &[trust]);

    let out_of_time = [("is gone", 2001..2002), ("is to come", 2901..2902)];
    let identities = out_of_time.map(|(what, years)| (what, authority.identity_in(&["127.0.0.1"], years)));
    let other_name = ("is another's", authority.identity(&["127.0.0.2"]));
    for (what, identity) in identities.into_iter().chain([other_name]) {
        serve(&identity);
        assert!(workspace.scoregate.stop().success());
        let told = gate.scoregate.process.log().len();
        workspace.restart();
        wait_until(what, || gate.scoregate.process.log()[told..].contains("invalid peer certificate"));
        assert_eq!(gate.scoregate.metric("scoregate_feed_connected"), 0.0, "{what}");
        let refused = command(&workspace, &["service", "list"]);
        let message = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{what}: {message}");
        assert!(message.contains("is not trusted"), "{what}: {message}");
    }
    serve(&good);
    assert!(workspace.scoregate.stop().success());
    workspace.restart();
    wait_until("the feed", || gate.scoregate.metric("scoregate_feed_connected") == 1.0);
    assert_eq!(command(&workspace, &["service", "list"]).status.code(), Some(0));
}

fn without_credential(mut arguments: Vec<String>) -> Vec<String> {
    let flag = arguments.iter().position(|argument| argument == "--credential-file").unwrap();
    arguments.drain(flag..flag + 2);
    arguments
}

#[test]
fn gate_reads_policy_from_a_peer_that_wants_its_certificate() {
    let authority = Authority::new();
    let own = authority.identity(&["127.0.0.1"]);
    let mut environment = server_tls!("GATE__PEER_TLS", own, authority, GATE);
    environment.push(("SCOREGATE__GATE__PEER_LISTEN", "127.0.0.1:0"));
    let mut workspace = WorkspaceProcess::start(&[]);
    let gate = Gate::start_with(&workspace, "gate-1", &environment);
    let keys = workspace.client().create_with_keys(SERVICE);
    let url = gate.scoregate.addresses.text("peers").to_owned();
    assert!(url.starts_with("https://"), "{url}");
    let [mut second, mut third] = ["gate-2", "gate-3"].map(|name| Gate::arguments(&workspace, name));
    workspace.scoregate.process.kill();
    for arguments in [&mut second, &mut third] {
        arguments.extend(["--policy-source".to_owned(), url.clone()]);
    }
    let source = |identity: &Identity| {
        vec![
            ("SCOREGATE__GATE__SOURCE_TLS__CA_FILE", text(&authority.ca)),
            ("SCOREGATE__GATE__SOURCE_TLS__CERTIFICATE_FILE", text(&identity.certificate)),
            ("SCOREGATE__GATE__SOURCE_TLS__KEY_FILE", text(&identity.key)),
        ]
    };
    let second = Gate::with_arguments(second, &source(&authority.identity(&[GATE])));
    let envoy = Envoy::start(&EnvoyOptions::new(&second.check_address(), System::model()));
    assert_eq!(status(&envoy, &keys.primary), 200);

    let third: Vec<_> = third.iter().map(String::as_str).collect();
    let addresses = new_path("addresses.json");
    let wrong = source(&authority.identity(&[ENVOY]));
    let mut third = Scoregate::start_unready("gate", &third, &wrong, &addresses);
    wait_until("the refusal", || third.log().contains("a source of policy was passed over"));
    assert!(!addresses.exists());
    third.kill();
}

#[test]
fn t130_admin_listener_with_client_certificates_is_open_to_probes_only() {
    let authority = Authority::new();
    let own = authority.identity(&["127.0.0.1"]);
    let environment = server_tls!("ADMIN__TLS", own, authority, ENVOY);
    let workspace = WorkspaceProcess::start(&environment);
    let url = workspace.scoregate.addresses.text("admin").to_owned();
    let curl = |path: &str, identity: Option<&Identity>| {
        let ca = reqwest::Certificate::from_pem(&std::fs::read(&authority.ca).unwrap()).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]);
        let client = match identity {
            None => client,
            Some(Identity { certificate, key }) => {
                let both = [std::fs::read(certificate).unwrap(), std::fs::read(key).unwrap()].concat();
                client.identity(reqwest::Identity::from_pem(&both).unwrap())
            }
        };
        let request = client.build().unwrap().get(format!("{url}{path}"));
        crate::support::block_on(request.send()).map(|answer| answer.status().as_u16())
    };
    for probe in ["/livez", "/readyz"] {
        assert_eq!(curl(probe, None).unwrap(), 200, "{probe}");
    }
    assert_eq!(curl("/metrics", None).unwrap(), 403);
    assert_eq!(curl("/metrics", Some(&authority.identity(&[ENVOY]))).unwrap(), 200);
    assert!(curl("/livez", Some(&authority.identity(&[GATE]))).is_err(), "a name that is not allowed");
}

#[test]
fn rest_with_client_certificates_is_for_those_who_have_one() {
    let authority = Authority::new();
    let own = authority.identity(&["127.0.0.1"]);
    let environment = server_tls!("WORKSPACE__TLS", own, authority, ENVOY);
    let workspace = WorkspaceProcess::start(&environment);
    let url = workspace.scoregate.addresses.text("workspace").to_owned();
    let list = |identity: &Identity| {
        let credential = workspace.data_dir.join("owner-credential");
        let arguments = [
            ["service", "list"],
            ["--workspace", &url],
            ["--credential-file", text(&credential)],
            ["--ca-file", text(&authority.ca)],
            ["--certificate-file", text(&identity.certificate)],
            ["--key-file", text(&identity.key)],
        ];
        Scoregate::run(arguments.as_flattened(), &[]).status.code()
    };
    assert_eq!(list(&authority.identity(&[ENVOY])), Some(0));
    assert_eq!(list(&authority.identity(&[GATE])), Some(1));
    assert_eq!(list(&Authority::new().identity(&[ENVOY])), Some(1));
}
