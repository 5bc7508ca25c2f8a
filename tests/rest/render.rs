//! `scoregate render`: what is committed is what it writes, and what it refuses to write.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::cli::{command, shown, text};
use crate::harness::TestWorkspace;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Files of the repository, and the commands that write them there.
const FILES: [(&str, &str); 7] = [
    ("envoy/sidecar.yaml", "render envoy -f envoy/example/services.yaml"),
    ("envoy/shadow.yaml", "render envoy --for shadow -f envoy/example/services.yaml"),
    ("envoy/aci.yaml", "render envoy --for aci -f envoy/example/container-group.yaml"),
    ("envoy/aks-ingress.yaml", "render envoy --for aks-ingress -f k8s/example/services.yaml"),
    ("k8s/overlays/istio/routes.yaml", "render istio -f k8s/example/services.yaml"),
    (
        "k8s/overlays/istio-aks-addon/routes.yaml",
        "render istio --gateway-namespace aks-istio-ingress --gateway-label istio=aks-istio-ingressgateway-external \
         -f k8s/example/services.yaml",
    ),
    ("k8s/overlays/envoy-gateway/routes.yaml", "render envoy-gateway -f k8s/example/services.yaml"),
];

/// Runs a command at the top of the repository: exit code, output, messages.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scoregate"));
    let output = command.args(arguments).env_clear().current_dir(ROOT).output().unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn committed_files_are_what_it_writes() {
    for (file, command) in FILES {
        let (code, written, messages) = run(&command.split_whitespace().collect::<Vec<_>>());
        assert_eq!((code, messages.as_str()), (0, ""), "{command}");
        let committed = std::fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
        assert!(committed == written, "{file} is another: `scoregate {command} > {file}` renews it");
    }
}

/// Writes a policy file with these services, a line each.
fn policy(directory: &tempfile::TempDir, services: &str) -> String {
    let path = directory.path().join("services.yaml");
    let lines: String = services.lines().map(|line| format!("  - {{ {} }}\n", line.trim())).collect();
    std::fs::write(&path, format!("version: scoregate/v1\nservices:\n{lines}")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What it says when it does not write.
fn refusal(arguments: &[&str], services: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = policy(&directory, services);
    let (code, written, messages) = run(&[&["render"], arguments, &["-f", &path]].concat());
    assert_eq!((code, written.as_str()), (64, ""), "{messages}");
    messages.replace(&path, "FILE")
}

#[test]
fn what_would_leave_a_model_open_or_mean_another_is_refused() {
    let keyed = |name: &str| format!("name: {name}, authMode: key");
    let at = |name: &str, place: &str| format!("{}, {place}", keyed(name));
    let both = |one: String, other: String| format!("{one}\n{other}");
    let cases = [
        (
            refusal(&["istio"], &both(keyed("one"), at("two", "hosts: [two.example]"))),
            "`one` has no host (`scoregate service update NAME --host HOST`",
        ),
        (refusal(&["istio"], &both(keyed("one"), keyed("two"))), "`one`, `two` have no host"),
        (
            refusal(
                &["envoy"],
                &both(
                    at("one", "hosts: [a.example, b.example], pathPrefixes: [/score]"),
                    at("two", "hosts: [b.example], pathPrefixes: [/v1, /score]"),
                ),
            ),
            "another service is at `b.example/score` already",
        ),
        (
            refusal(
                &["envoy"],
                &both(at("one", "pathPrefixes: [/score]"), at("two", "pathPrefixes: [/score]")),
            ),
            "`one` and `two` are both at `*/score`: their callers could not be told apart",
        ),
        (
            refusal(
                &["envoy-gateway"],
                &both(at("one", "pathPrefixes: [/]"), at("two", "pathPrefixes: [/]")),
            ),
            "`one` and `two` are both at `*/`",
        ),
        (
            refusal(&["istio"], &at("one", "hosts: [a_b.example]")),
            "`one` has the host `a_b.example`, which Kubernetes",
        ),
        (refusal(&["envoy-gateway"], &at("one", "hosts: [10.0.0.1]")), "`one` has the host `10.0.0.1`"),
        (
            refusal(&["envoy", "--for", "shadow", "--envoy-version", "1.37"], &keyed("one")),
            "Envoy 1.37.0 is too old: `shadow_mode` needs 1.38.1 or later",
        ),
        (refusal(&["envoy", "--envoy-version", "1.35.9"], &keyed("one")), "Envoy 1.35.9 is too old"),
        (refusal(&["envoy", "--for", "aci"], &keyed("one")), "`one` is not a service of ACI"),
        (
            refusal(&["envoy", "--for", "aci"], &both(keyed("one"), keyed("two"))),
            "a container group is one service, and there are 2",
        ),
        (refusal(&["envoy"], "name: one, authMode: none"), "the auth mode is `key`, `token` or `disabled`"),
    ];
    for (said, expected) in cases {
        assert!(said.contains(expected), "`{expected}` is not in:\n{said}");
    }
    let (code, _, said) = run(&["render", "envoy", "three", "-f", "envoy/example/services.yaml"]);
    assert_eq!((code, said.contains("there is no service `three`")), (1, true), "{said}");
}

#[test]
fn an_open_service_is_written_and_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = policy(&directory, "name: one, authMode: disabled");
    let (code, written, said) = run(&["render", "envoy", "-f", &path]);
    assert_eq!((code, said.trim_end()), (0, "warning: `one` is open: whoever reaches its route may score"));
    assert!(written.contains("context_extensions: { service: one }"));
}

/// Words that YAML reads as something else are good names of services.
#[test]
fn names_stay_names() {
    let directory = tempfile::tempdir().unwrap();
    let path =
        policy(&directory, "name: \"null\", authMode: key, hosts: [\"1.5\"]\nname: \"true\", authMode: key");
    for kind in ["envoy", "envoy-gateway"] {
        let (code, written, said) = run(&["render", kind, "-f", &path]);
        assert_eq!(code, 0, "{said}");
        assert!(
            written.contains("\"null\"") && written.contains("\"true\"") && written.contains("[\"1.5\"]"),
            "{written}"
        );
    }
}

#[tokio::test]
async fn services_of_a_workspace_are_written_as_those_of_a_file() {
    let test = TestWorkspace::start().await;
    for (name, members) in [
        ("forecast", json!({ "scoregate": { "hosts": ["forecast.models.example.com"] } })),
        (
            "ranking",
            json!({
                "authEnabled": false, "aadAuthEnabled": true, "scoregate": { "hosts": ["ranking.models.example.com"] },
            }),
        ),
    ] {
        test.create(name, members).await;
    }
    let both = std::fs::read_to_string(Path::new(ROOT).join("k8s/overlays/istio/routes.yaml")).unwrap();
    assert_eq!(shown(&test, &["render", "istio"]).await, both);
    let one = shown(&test, &["render", "istio", "ranking"]).await;
    assert!(one.contains("ranking.models.example.com") && !one.contains("forecast"), "{one}");
    let output = command(&test, "a-credential-of-nobody", &["render", "istio"]).output().await.unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), String::new()));
}
