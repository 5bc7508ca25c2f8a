//! docs/rest.md, run as it is written: each `sh` block by a shell, each `http` block held against what came back.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use reqwest::Method;
use scoregate::workspace::http::routes;
use serde_json::Value;
use tokio::process::Command;

use crate::contract;
use crate::harness::TestWorkspace;

const BASE: &str = "http://127.0.0.1:8181";
const SCOPE: &str = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/scoregate";
const WORKSPACE: &str = "workspaces/scoregate\n";

/// Routes that are there for Azure's SDKs only: the guide need not have them.
const FOR_SDKS: [&str; 6] =
    ["/artifacts/", "/models", "/discovery/workspaces/", "/computes/", "/metadata/", "/msi/"];
/// The same of what SDK v2 and Resource Manager's clients ask for.
const RESOURCES: &str = "/subscriptions";

/// Stands for members that are left out.
const ELLIPSIS: &str = "...";

/// A command of the guide, and the answer that it shows.
struct Step {
    command: String,
    shown: Option<Shown>,
}

struct Shown {
    status: u16,
    body: Option<Value>,
}

/// What `curl` did.
struct Call {
    status: u16,
    method: Method,
    url: String,
}

impl Call {
    fn read(calls: &str) -> Vec<Self> {
        let call = |line: &str| {
            let [status, method, url] = line.splitn(3, ' ').collect::<Vec<_>>().try_into().ok()?;
            let (status, method) = (status.parse().ok()?, method.parse().ok()?);
            Some(Self { status, method, url: url.to_owned() })
        };
        calls
            .lines()
            .map(|line| call(line).unwrap_or_else(|| panic!("an error of a command: {line}")))
            .collect()
    }

    fn route(&self, base: &str) -> Option<String> {
        let path = self.url.strip_prefix(base)?.split('?').next()?;
        contract::route(&self.method, path)
    }
}

impl Step {
    fn check(&self, output: &str, calls: &[Call]) {
        let statuses: Vec<_> = calls.iter().map(|call| call.status).collect();
        let seen = format!("{}\n{statuses:?} {output}", self.command);
        let Some(shown) = &self.shown else {
            assert!(statuses.iter().all(|status| *status < 300), "{seen}");
            return;
        };
        assert!(!statuses.is_empty() && statuses.iter().all(|status| *status == shown.status), "{seen}");
        match &shown.body {
            None => assert_eq!(output, "", "{seen}"),
            Some(body) => {
                let given = serde_json::from_str(output).unwrap_or_else(|error| panic!("{error}: {seen}"));
                assert_eq!(difference(body, &given, ""), None, "{seen}");
            }
        }
    }
}

/// The blocks in their order; an `http` block belongs to the command before it.
fn steps(guide: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in guide.split("\n```").skip(1).step_by(2) {
        let (language, text) = block.split_once('\n').unwrap();
        match language {
            "sh" => steps.push(Step { command: text.to_owned(), shown: None }),
            "http" => steps.last_mut().unwrap().shown = Some(shown(text)),
            _ => {}
        }
    }
    steps
}

fn shown(text: &str) -> Shown {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split(' ').next()).unwrap();
    let body = (!body.is_empty()).then(|| serde_json::from_str(body).expect("what is shown is JSON"));
    Shown { status: status.parse().unwrap(), body }
}

/// Where the shape of an answer is not the one that is shown: members, types, and the first item of a list.
fn difference(shown: &Value, given: &Value, place: &str) -> Option<String> {
    match (shown, given) {
        (Value::Object(shown), Value::Object(given)) => {
            let is_whole = !shown.contains_key(ELLIPSIS);
            let extra = given.keys().find(|name| is_whole && !shown.contains_key(*name));
            let extra = extra.map(|name| format!("{place}.{name} is not shown"));
            extra.or_else(|| {
                shown.iter().filter(|(name, _)| *name != ELLIPSIS).find_map(|(name, shown)| {
                    let place = format!("{place}.{name}");
                    match given.get(name) {
                        Some(given) => difference(shown, given, &place),
                        None => Some(format!("{place} is not there")),
                    }
                })
            })
        }
        (Value::Array(shown), Value::Array(given)) => match (shown.first(), given.first()) {
            (Some(shown), Some(given)) => difference(shown, given, &format!("{place}[0]")),
            (None, None) => None,
            _ => Some(format!("{place} is empty on one side only")),
        },
        (Value::String(_), Value::String(_)) | (Value::Number(_), Value::Number(_)) => None,
        _ => (shown != given).then(|| format!("{place} is {given} and not {shown}")),
    }
}

/// One shell for all of them, since they share variables; the output of each goes to a file of its own, and what `curl`
/// did to another.
fn script(steps: &[Step], test: &TestWorkspace) -> String {
    let mut script = String::from("set -eu\n");
    for (index, step) in steps.iter().enumerate() {
        let command = step.command.replace(BASE, &test.base);
        let command = command.replace(SCOPE, "/subscriptions/sub/resourceGroups/group");
        let command = command.replace(WORKSPACE, "workspaces/ws\n");
        writeln!(script, "exec > {index}.out 2> {index}.calls\n{command}").unwrap();
    }
    script
}

fn lay_out(directory: &Path, test: &TestWorkspace) {
    std::fs::create_dir(directory.join("scoregate-data")).unwrap();
    std::fs::write(directory.join("scoregate-data/owner-credential"), format!("{}\n", test.owner)).unwrap();
    std::fs::write(
        directory.join(".curlrc"),
        "noproxy = \"*\"\nwrite-out = \"%{stderr}%{http_code} %{method} %{url_effective}\\n\"\n",
    )
    .unwrap();
}

#[tokio::test]
async fn guide_is_true_as_it_is_written() {
    let curl = Command::new("curl").arg("--version").output().await;
    assert!(curl.is_ok_and(|curl| curl.status.success()), "docs/rest.md is tested with `curl`: install it");

    let guide = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rest.md")).unwrap();
    let steps = steps(&guide);
    let test = TestWorkspace::start().await;
    let directory = tempfile::tempdir().unwrap();
    lay_out(directory.path(), &test);
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script(&steps, &test)).current_dir(directory.path());
    let status = shell.env("CURL_HOME", directory.path()).status().await.unwrap();

    let read = |name: String| std::fs::read_to_string(directory.path().join(name)).unwrap_or_default();
    let mut called = BTreeSet::new();
    for (index, step) in steps.iter().enumerate() {
        let (output, calls) = (read(format!("{index}.out")), read(format!("{index}.calls")));
        let calls = Call::read(&calls);
        step.check(&output, &calls);
        called.extend(calls.iter().filter_map(|call| call.route(&test.base)));
    }
    assert!(status.success(), "the last command failed");
    let missing: Vec<_> = routes()
        .into_iter()
        .filter(|route| !FOR_SDKS.iter().any(|part| route.path.contains(part)))
        .filter(|route| !route.path.starts_with(RESOURCES))
        .map(|route| format!("{} {}", route.method, route.path))
        .filter(|route| !called.contains(route))
        .collect();
    assert!(missing.is_empty(), "routes without a `curl` in docs/rest.md: {missing:#?}");
}
