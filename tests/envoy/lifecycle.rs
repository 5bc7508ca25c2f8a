//! Starting and ending: addresses, data directories, signals, a lost owner credential.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::{
    Connection, Envoy, EnvoyOptions, Gate, Request, Scoregate, System, Workspace, WorkspaceProcess, new_path,
    wait_until,
};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn up_writes_where_everything_is() {
    let system = System::get();
    let addresses = &system.up.addresses;
    for name in ["ext_authz", "feed", "workspace", "admin"] {
        assert!(addresses.socket(name).ip().is_loopback(), "{name}");
    }
    assert!(addresses.text("workspace").starts_with("http://"));
    assert!(addresses.text("admin").starts_with("http://"));
    let all = addresses.json()["ext_authz_all"].as_array().unwrap();
    assert_eq!(all[0], addresses.text("ext_authz"));
    assert!(all[1].as_str().unwrap().starts_with("unix:/"));
    let scope = addresses.text("workspace_scope");
    assert!(scope.starts_with("/subscriptions/") && scope.contains("/workspaces/"), "{scope}");
    let discovery = addresses.text("discovery").strip_prefix(addresses.text("workspace")).unwrap().to_owned();
    let document = Request::get(&discovery).send(addresses.socket("workspace"));
    assert_eq!(document.json()["modelmanagement"], addresses.text("workspace"));
}

#[test]
fn up_says_what_to_type_next_and_keeps_secrets_to_its_owner() {
    let system = System::get();
    let log = system.up.process.log();
    for line in ["is ready", "export SCOREGATE_WORKSPACE=http://127.0.0.1:", "scoregate service create"] {
        assert!(log.contains(line), "{line} in {log}");
    }
    assert_eq!(mode(&system.data_dir), 0o700);
    for secret in ["owner-credential", "master-key", "pepper", "gate-credential"] {
        assert_eq!(mode(&system.data_dir.join(secret)), 0o600, "{secret}");
    }
    let service = system.new_service();
    system.workspace.create_open(&service);
    let shown = system.workspace.call("GET", &format!("/services/{service}"), None).json();
    assert_eq!(shown["scoringUri"], format!("http://models.test/api/v1/service/{service}/score"));
}

#[test]
fn a_data_directory_in_use_is_refused() {
    let workspace = WorkspaceProcess::start(&[]);
    let gate = Gate::start(&workspace, "gate-1");
    let data_dir = workspace.data_dir.to_str().unwrap();
    for arguments in [
        ["workspace", "--data-dir", data_dir].as_slice(),
        &["up", "--data-dir", data_dir],
        &["principal", "reset-owner", "--data-dir", data_dir],
    ] {
        let output = Scoregate::run(arguments, &[("SCOREGATE__WORKSPACE__LISTEN", "127.0.0.1:0")]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {message}");
        assert!(message.contains(data_dir) && message.contains("in use"), "{message}");
    }
    let second = gate.run_again();
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(64), "{message}");
    assert!(message.contains("in use"), "{message}");
    assert_eq!(workspace.scoregate.admin("/readyz").status, 200);
    assert_eq!(gate.scoregate.admin("/readyz").status, 200);
}

/// As in a pod, where gate and Envoy share an emptyDir.
#[test]
fn gate_in_a_volume_that_anybody_can_write_to_has_its_socket_in_a_directory_of_its_own() {
    let volume = new_path("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::set_permissions(&volume, std::fs::Permissions::from_mode(0o777)).unwrap();
    let workspace = WorkspaceProcess::start(&[]);
    let mut arguments = Gate::arguments(&workspace, "gate-1");
    let listen = arguments.iter().position(|argument| argument == "--ext-authz-listen").unwrap() + 1;
    let mut listen_at = |path: &str| {
        arguments[listen] = format!("unix:{}", volume.join(path).display());
        arguments.clone()
    };
    let open = listen_at("check.sock");
    let open: Vec<_> = open.iter().map(String::as_str).collect();
    let mut refused = Scoregate::start_unready("gate", &open, &[], &new_path("addresses.json"));
    assert_eq!(refused.wait(Duration::from_secs(10)).code(), Some(1), "{}", refused.log());
    let message = refused.log();
    assert!(message.contains("name a directory in it, which is then made private"), "{message}");
    assert_eq!(std::fs::read_dir(&volume).unwrap().count(), 0, "it left something there");

    let mut gate = Gate::with_arguments(listen_at("scoregate/check.sock"), &[]);
    assert_eq!(mode(&volume.join("scoregate")), 0o750);
    let key = workspace.client().create_with_keys("forecast").primary;
    let envoy = Envoy::start(&EnvoyOptions::new(&gate.check_address(), System::model()));
    let scores = || Request::score("forecast").bearer(&key).send(envoy.address).status;
    assert_eq!(scores(), 200);
    gate.scoregate.process.kill();
    assert_eq!(scores(), 503);
    gate.restart();
    wait_until("Envoy's new connection", || scores() == 200);
}

#[test]
fn reset_owner_replaces_a_lost_credential() {
    let mut workspace = WorkspaceProcess::start(&[]);
    let before = workspace.client();
    before.create_with_keys("forecast");
    assert!(workspace.scoregate.stop().success());
    std::fs::remove_file(workspace.data_dir.join("owner-credential")).unwrap();
    let data_dir = workspace.data_dir.to_str().unwrap();
    let output = Scoregate::run(&["principal", "reset-owner", "--data-dir", data_dir], &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("owner-credential"));
    assert_eq!(mode(&workspace.data_dir.join("owner-credential")), 0o600);
    workspace.restart();
    let after = workspace.client();
    assert_eq!(
        before.with_address_of(&after).call("GET", "/services", None).status,
        401,
        "the lost one is void"
    );
    assert_eq!(after.call("GET", "/services", None).json()["value"][0]["name"], "forecast");
}

#[test]
fn reset_owner_where_there_is_no_workspace_makes_none() {
    let data_dir = new_path("nothing-here");
    let output = Scoregate::run(&["principal", "reset-owner", "--data-dir", data_dir.to_str().unwrap()], &[]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("there is no workspace"), "{message}");
    assert!(!data_dir.exists());
}

#[test]
fn a_second_signal_forces_the_end() {
    let drain = [("SCOREGATE__SHUTDOWN__DRAIN_DELAY", "60s")];
    for signal in ["TERM", "INT"] {
        let mut workspace = WorkspaceProcess::start(&drain);
        let process = &mut workspace.scoregate.process;
        process.signal(signal);
        wait_until("the first signal", || process.log().contains("leaves service"));
        process.signal(signal);
        assert_eq!(process.wait(Duration::from_secs(5)).code(), Some(1), "{}", process.log());
    }
}

#[test]
fn an_idle_connection_does_not_hold_up_the_end() {
    let mut workspace = WorkspaceProcess::start(&[]);
    let rest = workspace.scoregate.addresses.socket("workspace");
    let mut idle = Connection::open(rest).unwrap();
    assert_eq!(idle.send(&Request::get("/.well-known/jwks.json")).unwrap().status, 200);
    let _never_used = Connection::open(rest).unwrap();
    assert!(workspace.scoregate.stop().success(), "{}", workspace.scoregate.process.log());
}

#[test]
fn up_starts_again_with_what_it_had() {
    let data_dir = new_path("data");
    let path = data_dir.to_str().unwrap();
    let arguments = [
        ["--data-dir", path, "--workspace-listen", "127.0.0.1:0", "--feed-listen", "127.0.0.1:0"],
        ["--admin-listen", "127.0.0.1:0", "--ext-authz-listen", "127.0.0.1:0", "--log-format", "json"],
    ];
    let mut up = Scoregate::start("up", arguments.as_flattened(), &[]);
    let first = Workspace::of(&up.addresses, &data_dir);
    let keys = first.create_with_keys("forecast");
    assert!(up.stop().success(), "{}", up.process.log());
    let mut up = Scoregate::start("up", arguments.as_flattened(), &[]);
    let second = Workspace::of(&up.addresses, &data_dir);
    assert_eq!(second.keys("forecast").primary, keys.primary);
    assert_eq!(
        crate::support::Checks::connect(up.addresses.text("ext_authz")).status("forecast", &keys.primary),
        200
    );
    second.create("second", &json!({}));
    assert!(up.stop().success(), "{}", up.process.log());
}
