//! `scoregate apply` and `scoregate diff`, run as a user runs them.

use std::process::Output;
use std::time::Duration;

use scoregate::workspace::{AuditFilter, Role};
use serde_json::{Value, json};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::process::Command;

use crate::harness::TestWorkspace;

const TWO: &str = "\
version: scoregate/v1
services:
  - name: one
    authMode: key
    tags: { team: a }
  - { name: two, computeType: ACI, authMode: disabled, hosts: [two.example], description: open }
";

/// A workspace and a directory of files.
struct Setting {
    test: TestWorkspace,
    files: tempfile::TempDir,
}

/// What a command left.
struct Ended {
    code: i32,
    out: String,
    error: String,
}

impl Setting {
    async fn new() -> Self {
        Self { test: TestWorkspace::start().await, files: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.files.path().join(name), text).unwrap();
    }

    async fn run_as(&self, credential: &str, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scoregate"));
        let directory = self.files.path().to_str().unwrap();
        command.args(arguments).args(["-f", directory]).env_clear();
        command.env("SCOREGATE_WORKSPACE", &self.test.base).env("SCOREGATE_CREDENTIAL", credential);
        let Output { status, stdout, stderr } = command.output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(&format!("{directory}/"), "");
        Ended { code: status.code().unwrap(), out: text(stdout), error: text(stderr) }
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        self.run_as(&self.test.owner, arguments).await
    }

    /// What it prints; it must succeed.
    async fn shown(&self, arguments: &[&str]) -> String {
        let Ended { code, out, error } = self.run(arguments).await;
        assert_eq!(code, 0, "{out}{error}");
        out
    }

    async fn service(&self, name: &str) -> Value {
        self.test.get(&format!("/services/{name}")).await.body
    }

    async fn names(&self) -> Vec<String> {
        let list = self.test.get("/services?orderby=CreatedAtAsc").await.body;
        let name = |service: &Value| service["name"].as_str().unwrap().to_owned();
        list["value"].as_array().unwrap().iter().map(name).collect()
    }

    /// How many changes there were.
    async fn changes(&self) -> usize {
        self.test.workspace.audit(&AuditFilter::default(), 1000, None).await.unwrap().items.len()
    }
}

#[tokio::test]
async fn apply_makes_changes_and_then_nothing() {
    let setting = Setting::new().await;
    setting.write("services.yaml", TWO);
    insta::assert_snapshot!(setting.shown(&["apply"]).await, @r"
    created `one`: AKS, key
    created `two`: ACI, disabled (everybody may score it)
    ");
    let two = setting.service("two").await;
    assert_eq!((&two["description"], &two["authEnabled"]), (&json!("open"), &json!(false)));
    assert_eq!(two["scoregate"]["hosts"], json!(["two.example"]));
    assert_eq!(two["scoregate"]["pathPrefixes"], json!(["/score"]));
    assert_eq!(setting.service("one").await["kvTags"], json!({ "team": "a" }));

    let before = setting.changes().await;
    assert_eq!(setting.shown(&["apply"]).await, "nothing to change\n");
    assert_eq!(setting.shown(&["diff"]).await, "the workspace is as the files say\n");
    assert_eq!(setting.changes().await, before, "no revision is made");

    setting.write(
        "services.yaml",
        "\
version: scoregate/v1
services:
  - { name: one, authMode: token, hosts: [one.example], tags: {} }
  - { name: two, computeType: ACI, authMode: key, hosts: [two.example], pathPrefixes: [/a], description: '' }
",
    );
    let differs = setting.run(&["diff"]).await;
    assert_eq!((differs.code, differs.error.as_str()), (5, ""));
    insta::assert_snapshot!(differs.out, @r#"
    would change `one`: authMode key -> token; hosts [] -> ["one.example"]; tags {"team":"a"} -> {}
    would change `two`: authMode disabled -> key; pathPrefixes ["/score"] -> ["/a"]; description open -> ""
    "#);
    assert_eq!(setting.shown(&["apply", "--dry-run"]).await, differs.out);
    assert_eq!(setting.changes().await, before, "nothing was done");
    insta::assert_snapshot!(setting.shown(&["apply"]).await, @r#"
    changed `one`: authMode key -> token; hosts [] -> ["one.example"]; tags {"team":"a"} -> {}
    changed `two`: authMode disabled -> key; pathPrefixes ["/score"] -> ["/a"]; description open -> ""
    "#);
    assert_eq!(setting.changes().await, before + 2);
    assert_eq!(setting.shown(&["diff"]).await, "the workspace is as the files say\n");
}

#[tokio::test]
async fn apply_leaves_what_files_do_not_mention_and_deletes_only_when_told() {
    let setting = Setting::new().await;
    setting.test.create("old", json!({})).await;
    setting.test.create("one", json!({ "kvTags": { "by": "hand" }, "description": "kept" })).await;
    setting.write("services.yaml", "version: scoregate/v1\nservices: [{ name: one, authMode: key }]\n");
    insta::assert_snapshot!(setting.shown(&["diff"]).await, @r"
    the workspace is as the files say
    in no file, and kept: old (--prune deletes what no file has)
    ");
    let one = setting.service("one").await;
    assert_eq!((&one["kvTags"], &one["description"]), (&json!({ "by": "hand" }), &json!("kept")));
    let pruned = setting.run(&["diff", "--prune", "--output", "json"]).await;
    assert_eq!(pruned.code, 5);
    let document: Value = serde_json::from_str(&pruned.out).unwrap();
    let change = json!({ "service": "old", "action": "delete", "state": "planned" });
    assert_eq!(document, json!({ "changes": [change], "unmanaged": [] }));
    assert_eq!(setting.names().await, ["old", "one"]);
    assert_eq!(setting.shown(&["apply", "--prune"]).await, "deleted `old`\n");
    assert_eq!(setting.names().await, ["one"]);
}

#[tokio::test]
async fn a_bad_file_changes_nothing() {
    let setting = Setting::new().await;
    setting.write("a.yaml", TWO);
    setting.write("b.yaml", "version: scoregate/v1\nservices:\n  - { name: three, authMode: none }\n");
    let ended = setting.run(&["apply", "--prune"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (64, ""));
    assert_eq!(
        ended.error,
        "error: `b.yaml`, document 1, line 3, column 30, `services[0].authMode`: the auth mode is `key`, `token` or `disabled`\n"
    );
    assert!(setting.names().await.is_empty());
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_before_anything_is() {
    let setting = Setting::new().await;
    let place = json!({ "hosts": ["h"], "pathPrefixes": ["/a"] });
    setting.test.create("other", json!({ "scoregate": place })).await;
    setting.write(
        "a.yaml",
        "\
version: scoregate/v1
services:
  - { name: first, authMode: key }
  - { name: taker, authMode: key, hosts: [h], pathPrefixes: [/a] }
",
    );
    let taken = setting.run(&["apply"]).await;
    assert_eq!((taken.code, taken.out.as_str()), (64, ""));
    assert!(taken.error.contains("`services[1]`: the service `other` of the workspace is at `h/a` already"));
    setting.write(
        "a.yaml",
        "version: scoregate/v1\nservices: [{ name: other, computeType: ACI, authMode: key }]\n",
    );
    let retyped = setting.run(&["apply"]).await;
    assert!(retyped.error.contains("`other` is AKS in the workspace, and a compute type cannot be changed"));
    assert_eq!(setting.names().await, ["other"]);
}

#[tokio::test]
async fn a_place_is_freed_before_it_is_taken() {
    let setting = Setting::new().await;
    let text = |one: &str, two: &str, three: &str| {
        let service = |name: &str, prefix: &str| {
            let line =
                format!("  - {{ name: {name}, authMode: key, hosts: [h], pathPrefixes: [{prefix}] }}\n");
            if prefix.is_empty() { String::new() } else { line }
        };
        let services = [service("one", one), service("two", two), service("three", three)].concat();
        format!("version: scoregate/v1\nservices:\n{services}")
    };
    setting.write("a.yaml", &text("/1", "/2", ""));
    setting.shown(&["apply"]).await;
    setting.write("a.yaml", &text("/2", "/3", "/1"));
    let out = setting.shown(&["apply"]).await;
    let order: Vec<_> = out.lines().map(|line| line.split('`').nth(1).unwrap()).collect();
    assert_eq!(order, ["two", "one", "three"]);
    setting.write("a.yaml", &text("/3", "/2", "/1"));
    let circle = setting.run(&["apply"]).await;
    assert_eq!((circle.code, circle.out.as_str()), (64, ""));
    assert!(circle.error.contains("services exchange their places (`one`, `two`)"), "{}", circle.error);
    setting.write("a.yaml", &text("", "", "/2"));
    assert_eq!(
        setting.shown(&["apply", "--prune"]).await.lines().map(|line| &line[..7]).collect::<Vec<_>>(),
        ["deleted", "deleted", "changed"],
        "what is deleted gives its place up first"
    );
}

/// As if the disk had become full.
async fn refuse_service_two(test: &TestWorkspace) {
    let options = SqliteConnectOptions::new().filename(test.data_dir().join("workspace.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON services WHEN NEW.name = 'two' \
                   BEGIN SELECT RAISE(ABORT, 'full'); END";
    sqlx::query(trigger).execute(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_change_that_fails_midway_is_told_with_what_was_done() {
    let setting = Setting::new().await;
    setting.write("a.yaml", TWO);
    refuse_service_two(&setting.test).await;
    let ended = setting.run(&["apply"]).await;
    insta::assert_snapshot!(ended.out, @r"
    created `one`: AKS, key
    may or may not have created `two`: ACI, disabled (everybody may score it)
    ");
    assert_eq!(ended.code, 1);
    assert!(
        ended.error.starts_with("error: stopped: of 2 changes, 1 are not done, or not known to be done"),
        "{}",
        ended.error
    );
    assert_eq!(setting.names().await, ["one"]);
}

#[tokio::test]
async fn a_reader_may_compare_and_not_apply() {
    let setting = Setting::new().await;
    setting.write("a.yaml", TWO);
    let reader = setting.test.principal(Role::Reader).await;
    assert_eq!(setting.run_as(&reader, &["diff"]).await.code, 5);
    let ended = setting.run_as(&reader, &["apply"]).await;
    assert_eq!(ended.code, 3);
    insta::assert_snapshot!(ended.out, @r"
    failed to create `one`: AKS, key
    did not create `two`: ACI, disabled (everybody may score it)
    ");
    assert!(setting.names().await.is_empty());
}

#[tokio::test]
async fn apply_says_when_gates_do_not_confirm() {
    let setting = Setting::new().await;
    let _gate = setting.test.silent_gate().await;
    setting.write("a.yaml", "version: scoregate/v1\nservices: [{ name: one, authMode: key }]\n");
    let time_passes = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            setting.test.clock.advance(Duration::from_secs(1));
        }
    };
    let ended = tokio::select! {
        ended = setting.run(&["apply"]) => ended,
        () = time_passes => unreachable!("time passes for ever"),
    };
    assert_eq!(ended.code, 4, "{}", ended.error);
    assert_eq!(ended.out, "created `one`: AKS, key\n");
}
