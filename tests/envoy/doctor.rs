//! `scoregate doctor` finds each mistake that is planted here, and none in a system that is right.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::support::{
    Envoy, EnvoyOptions, Gate, Scoregate, System, WorkspaceProcess, block_on, new_path, spawn, wait_until,
};

const SERVICE: &str = "forecast";

/// A workspace, a gate and an Envoy, with a service of keys and one of tokens.
struct Patient {
    workspace: WorkspaceProcess,
    gate: Gate,
}

impl Patient {
    fn start() -> Self {
        let workspace = WorkspaceProcess::start(&[]);
        let gate = Gate::start(&workspace, "gate-1");
        workspace.client().create_with_keys(SERVICE);
        workspace.client().create_with_tokens("ranking");
        Self { workspace, gate }
    }

    fn options(&self) -> EnvoyOptions {
        EnvoyOptions::new(&self.gate.check_address(), System::model())
    }

    /// All that the doctor can be told of this system.
    fn examine(&self, envoy: &Envoy, service: &str, more: &[&str]) -> Output {
        let url = format!("http://{}/api/v1/service/{service}/score", envoy.address);
        let envoy_admin = format!("http://{}", envoy.admin);
        let flags = ["--scoring-url", &url, "--service", service, "--envoy-admin", &envoy_admin];
        self.ask(&[&flags, more].concat())
    }

    /// What it finds at workspace and gate, and with these flags.
    fn ask(&self, more: &[&str]) -> Output {
        let workspace = self.workspace.scoregate.addresses.text("workspace");
        let (file, admin) = (credential_file(&self.workspace.data_dir), self.admin());
        let flags =
            ["--workspace", workspace, "--credential-file", file.to_str().unwrap(), "--admin", &admin];
        doctor(&[&flags, more].concat())
    }

    fn admin(&self) -> String {
        self.gate.scoregate.addresses.text("admin").to_owned()
    }
}

fn credential_file(data_dir: &Path) -> PathBuf {
    data_dir.join("owner-credential")
}

fn doctor(flags: &[&str]) -> Output {
    Scoregate::run(&[&["doctor", "--output", "json"], flags].concat(), &[])
}

/// What it found; the exit code must say the same.
fn found(output: &Output) -> BTreeSet<String> {
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!findings.is_empty())), "{report:#}");
    for finding in findings {
        for member in ["where", "problem", "advice"] {
            assert!(!finding[member].as_str().unwrap().is_empty(), "{finding}");
        }
    }
    findings.iter().map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
}

fn codes<const N: usize>(codes: [&str; N]) -> BTreeSet<String> {
    codes.map(str::to_owned).into()
}

#[test]
fn nothing_is_wrong_with_a_system_that_is_right() {
    let patient = Patient::start();
    let envoy = Envoy::start(&patient.options());
    for service in [SERVICE, "ranking"] {
        let output = patient.examine(&envoy, service, &[]);
        assert_eq!(found(&output), codes([]), "{}", String::from_utf8_lossy(&output.stdout));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["notLookedAt"], json!([]));
    }
    let url = format!("http://{}/api/v1/service/{SERVICE}/score", envoy.address);
    let output = Scoregate::run(&["doctor", "--scoring-url", &url], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("nothing wrong was found"), "{text}");
    assert!(text.contains("not looked at: gates: --admin"), "{text}");
    assert_eq!(doctor(&[]).status.code(), Some(64));
}

/// Each mistake in Envoy's configuration, and what is to be found of it.
#[test]
fn mistakes_in_envoys_configuration_are_found() {
    let patient = Patient::start();
    let filter = "          - name: envoy.filters.http.ext_authz\n            typed_config:";
    let disabled = "          - name: envoy.filters.http.ext_authz\n            disabled: true\n            typed_config:";
    let route = "                    check_settings:\n                      context_extensions: { service: forecast }";
    let half =
        "failure_mode_allow: false\n              filter_enabled: { default_value: { numerator: 50 } }";
    type Edits<'a> = &'a [(&'static str, &'static str)];
    let cases: [(Edits<'_>, BTreeSet<String>); 11] = [
        (&[("failure_mode_allow: false", "failure_mode_allow: true")], codes(["failure_mode_allow"])),
        (&[("encode_raw_headers: true", "encode_raw_headers: false")], codes(["raw_headers_off"])),
        (&[("                timeout: 0.5s\n", "")], codes(["check_timeout"])),
        (&[("timeout: 0.5s", "timeout: 30s")], codes(["check_timeout"])),
        (
            &[
                ("regex: \"authorization|", "regex: \""),
                ("disallow_is_error: true", "disallow_is_error: false"),
            ],
            codes(["header_rules", "credential_leaks"]),
        ),
        // Envoy takes a removal that is not allowed for an error, and nobody comes to the model.
        (&[("regex: \"authorization|", "regex: \"")], codes(["header_rules", "model_unreachable"])),
        (
            &[("                - { exact: authorization, ignore_case: true }\n", "")],
            codes(["header_not_sent", "right_credential_refused"]),
        ),
        (
            &[("context_extensions: { service: forecast }", "context_extensions: { model: forecast }")],
            codes(["route_without_service", "right_credential_refused"]),
        ),
        (
            &[(route, "                    disabled: true")],
            codes(["route_unprotected", "not_protected", "wrong_credential_accepted", "credential_leaks"]),
        ),
        // A route with a configuration of its own switches it on again.
        (&[(filter, disabled)], codes(["filter_partial"])),
        (&[("failure_mode_allow: false", half)], codes(["filter_partial"])),
    ];
    for (edits, expected) in cases {
        let options = edits.iter().fold(patient.options(), |options, (from, to)| options.edit(from, to));
        let envoy = Envoy::start(&options);
        let output = patient.examine(&envoy, SERVICE, &[]);
        let mut found = found(&output);
        if expected == codes(["filter_partial"]) && edits[0].1 == half {
            // Whether one of three requests was asked for is chance.
            found.retain(|code| code == "filter_partial");
        }
        assert_eq!(found, expected, "{edits:?}:\n{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn envoy_without_the_filter_is_found() {
    let patient = Patient::start();
    let envoy = Envoy::start(&EnvoyOptions { no_filter: true, ..patient.options() });
    let all = ["filter_missing", "not_protected", "wrong_credential_accepted", "credential_leaks"];
    assert_eq!(found(&patient.examine(&envoy, SERVICE, &[])), codes(all));
    let ignored = all[1..].iter().flat_map(|code| ["--ignore", code]).collect::<Vec<_>>();
    assert_eq!(found(&patient.examine(&envoy, SERVICE, &ignored)), codes(["filter_missing"]));
}

#[test]
fn a_gate_that_is_gone_is_found_and_so_is_a_failure_mode_that_allows() {
    let mut patient = Patient::start();
    let strict = Envoy::start(&patient.options());
    let lax = Envoy::start(&patient.options().edit("failure_mode_allow: false", "failure_mode_allow: true"));
    patient.gate.scoregate.process.kill();
    let expected = codes(["admin_unreachable", "no_decision"]);
    let mut found_now = found(&patient.examine(&strict, SERVICE, &["--ignore", "gate_behind"]));
    assert_eq!(found_now, expected);
    found_now = found(&patient.examine(&lax, SERVICE, &["--ignore", "gate_behind"]));
    assert!(found_now.is_superset(&codes([
        "failure_mode_allow",
        "not_protected",
        "wrong_credential_accepted"
    ])));
    assert!(found(&patient.ask(&[])).contains("gate_behind"), "it is away");
    let nobody = ["--scoring-url", "http://127.0.0.1:1/score", "--envoy-admin", "http://127.0.0.1:1"];
    assert_eq!(found(&doctor(&nobody)), codes(["envoy_unreachable"]));
}

#[test]
fn a_route_to_another_service_is_found() {
    let patient = Patient::start();
    let envoy = Envoy::start(&patient.options());
    let url = format!("http://{}/api/v1/service/ranking/score", envoy.address);
    let output = patient.ask(&["--scoring-url", &url, "--service", SERVICE]);
    assert_eq!(found(&output), codes(["right_credential_refused"]));
    let key = new_path("key");
    std::fs::write(&key, patient.workspace.client().token("ranking")).unwrap();
    let output = doctor(&["--scoring-url", &url, "--scoring-credential-file", key.to_str().unwrap()]);
    assert_eq!(found(&output), codes([]));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("eyJ"), "a token in the report");
}

#[test]
fn a_service_that_is_open_is_found() {
    let patient = Patient::start();
    let envoy = Envoy::start(&patient.options());
    patient.workspace.client().set_auth(SERVICE, false, false);
    wait_until("the change", || {
        patient.gate.scoregate.metric("scoregate_services{mode=\"disabled\"}") == 1.0
    });
    assert_eq!(found(&patient.examine(&envoy, SERVICE, &[])), codes(["open_service"]));
    assert_eq!(found(&patient.examine(&envoy, SERVICE, &["--ignore", "open_service"])), codes([]));
}

#[test]
fn a_service_in_shadow_is_found() {
    let patient = Patient::start();
    let envoy = Envoy::start(&patient.options());
    patient.workspace.client().set_shadow(SERVICE, Some(600));
    wait_until("the shadow", || patient.gate.scoregate.metric("scoregate_services_shadow") == 1.0);
    assert_eq!(found(&patient.examine(&envoy, SERVICE, &[])), codes(["shadow_service"]));
    // Where only the address is known, it is seen by what happens there.
    let url = format!("http://{}/api/v1/service/{SERVICE}/score", envoy.address);
    let outside = codes(["not_protected", "wrong_credential_accepted"]);
    assert_eq!(found(&doctor(&["--scoring-url", &url])), outside);
    patient.workspace.client().set_shadow(SERVICE, None);
    wait_until("its end", || patient.gate.scoregate.metric("scoregate_services_shadow") == 0.0);
    assert_eq!(found(&patient.examine(&envoy, SERVICE, &[])), codes([]));
}

#[test]
fn a_gate_without_its_workspace_is_found() {
    let mut patient = Patient::start();
    patient.workspace.scoregate.process.kill();
    wait_until("the end of the feed", || patient.gate.scoregate.metric("scoregate_feed_connected") == 0.0);
    assert_eq!(found(&patient.ask(&[])), codes(["workspace_unreachable", "feed_disconnected"]));
    assert_eq!(patient.gate.scoregate.metric("scoregate_snapshot_max_age_seconds"), 24.0 * 3600.0);
}

#[test]
fn policy_that_is_or_will_be_too_old_is_found() {
    let ask = |age, stale, max| {
        let metrics = format!(
            "scoregate_snapshot_age_seconds {age}\nscoregate_snapshot_stale {stale}\n\
             scoregate_snapshot_max_age_seconds {max}\n"
        );
        found(&doctor(&["--admin", &format!("http://{}", stub(&metrics, 0))]))
    };
    assert_eq!(ask(40, 0, 100), codes([]));
    assert_eq!(ask(60, 0, 100), codes(["policy_old"]));
    assert_eq!(ask(101, 1, 100), codes(["policy_old"]));
    assert_eq!(ask(1_000_000, 0, 0), codes([]), "any age will do");
}

#[test]
fn a_policy_file_that_is_refused_is_found() {
    let ask = |gates: [&str; 2]| {
        let admins = gates.map(|metrics| format!("http://{}", stub(metrics, 0)));
        found(&doctor(&["--admin", &admins[0], "--admin", &admins[1]]))
    };
    let gate = |revision: u64, good: u8| {
        format!(
            "scoregate_snapshot_epoch 0\nscoregate_snapshot_revision {revision}\nscoregate_policy_file_good {good}\n"
        )
    };
    assert_eq!(ask([&gate(1, 1), &gate(5, 1)]), codes([]), "each counts the files that it took");
    assert_eq!(ask([&gate(1, 1), &gate(5, 0)]), codes(["policy_file_refused"]));
}

#[test]
fn a_model_that_is_gone_and_a_service_that_is_not_there_are_found() {
    let patient = Patient::start();
    let options = EnvoyOptions::new(&patient.gate.check_address(), "127.0.0.1:1".parse().unwrap());
    let envoy = Envoy::start(&options);
    assert_eq!(found(&patient.examine(&envoy, SERVICE, &[])), codes(["model_unreachable"]));
    let output = patient.ask(&["--service", "nobody-knows"]);
    assert_eq!(found(&output), codes(["service_unknown"]));
    // This workspace knows no address of Envoy.
    let output = patient.ask(&["--service", SERVICE]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let unseen = report["notLookedAt"].to_string();
    assert!(unseen.contains("the workspace does not know its scoring URI"), "{unseen}");
}

#[test]
fn a_gate_that_is_behind_is_found() {
    let patient = Patient::start();
    // It enforces what it had when its feed stood still.
    let behind =
        stub("scoregate_snapshot_epoch 1\nscoregate_snapshot_revision 1\nscoregate_feed_connected 1\n", 0);
    let output = patient.ask(&["--admin", &format!("http://{behind}")]);
    assert_eq!(found(&output), codes(["gate_behind"]));
    patient.gate.scoregate.process.signal("STOP");
    let regenerate = json!({ "keyType": "Primary", "keyValue": null });
    let path = format!("/services/{SERVICE}/regenerateKeys");
    assert_eq!(patient.workspace.client().call("POST", &path, Some(&regenerate)).status, 202);
    std::thread::sleep(Duration::from_secs(6));
    let workspace = patient.workspace.scoregate.addresses.text("workspace");
    let file = credential_file(&patient.workspace.data_dir);
    let output = doctor(&["--workspace", workspace, "--credential-file", file.to_str().unwrap()]);
    patient.gate.scoregate.process.signal("CONT");
    assert_eq!(found(&output), codes(["gate_behind"]));
}

#[test]
fn clocks_that_differ_are_found() {
    let gate = "scoregate_snapshot_epoch 1\nscoregate_snapshot_revision 1\n";
    let skewed = format!("{gate}scoregate_clock_skew_seconds -3.5\n");
    let right = format!("{gate}scoregate_clock_skew_seconds 0.01\n");
    let ask =
        |metrics: &str, ahead| found(&doctor(&["--admin", &format!("http://{}", stub(metrics, ahead))]));
    assert_eq!(ask(&skewed, 0), codes(["clock_skew"]));
    assert_eq!(ask(&right, 60), codes(["clock_skew"]));
    assert_eq!(ask(&right, -60), codes(["clock_skew"]));
    assert_eq!(ask(&right, 0), codes([]));
}

#[test]
fn a_store_that_does_not_work_and_a_process_that_is_not_ready_are_found() {
    let admin = stub("scoregate_workspace_store_up 0\n", 0);
    assert_eq!(found(&doctor(&["--admin", &format!("http://{admin}")])), codes(["store_down"]));
    let gate = Patient::start().gate;
    let admin = gate.scoregate.addresses.text("admin").to_owned();
    gate.scoregate.process.signal("TERM");
    wait_until("draining", || gate.scoregate.admin("/readyz").status == 503);
    let found = found(&doctor(&["--admin", &admin, "--ignore", "feed_disconnected"]));
    assert_eq!(found, codes(["not_ready"]));
}

#[test]
fn a_credential_that_the_workspace_refuses_is_found() {
    let patient = Patient::start();
    let workspace = patient.workspace.scoregate.addresses.text("workspace");
    let file = new_path("credential");
    let ask = |credential: &str, more: &[&str]| {
        std::fs::write(&file, credential).unwrap();
        let flags = ["--workspace", workspace, "--credential-file", file.to_str().unwrap()];
        doctor(&[&flags, more].concat())
    };
    assert_eq!(found(&ask("sgc_nobodys", &[])), codes(["workspace_refuses"]));
    let reader = patient.workspace.client().create_principal("a-reader", "reader");
    let output = ask(&reader, &[]);
    assert_eq!(found(&output), codes([]));
    assert!(String::from_utf8_lossy(&output.stdout).contains("a contributor's credential"));
    assert_eq!(
        found(&ask(&reader, &["--service", SERVICE])),
        codes(["workspace_refuses"]),
        "keys are not for readers"
    );
}

/// An admin listener whose clock is ahead by so many seconds: processes of one machine have one clock.
fn stub(metrics: &str, ahead: i64) -> SocketAddr {
    let text = format!("# HELP\n{metrics}# EOF\n");
    block_on(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = service_fn(|_| {
                    let date = date(ahead);
                    let answer = hyper::Response::builder().header("date", date);
                    let body = Full::new(Bytes::from(text.clone()));
                    async move { answer.body(body) }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
            }
        });
        address
    })
}

#[expect(clippy::disallowed_methods, reason = "it is compared with the machine's clock")]
fn date(ahead: i64) -> String {
    let time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).unwrap()
}
