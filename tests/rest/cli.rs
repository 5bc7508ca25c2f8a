//! The commands to a workspace, run as a user runs them.

use std::process::{Output, Stdio};
use std::time::Duration;

use scoregate::workspace::Role;
use scoregate_authz::Slot;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::harness::{START, TestWorkspace};

pub(crate) fn command(test: &TestWorkspace, credential: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scoregate"));
    command.args(arguments).env_clear().env("SCOREGATE_WORKSPACE", &test.base);
    command.env("SCOREGATE_CREDENTIAL", credential);
    command
}

/// Runs it as the owner.
async fn run(test: &TestWorkspace, arguments: &[&str]) -> Output {
    command(test, &test.owner, arguments).output().await.unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs it as the owner; it must succeed. What people see.
pub(crate) async fn shown(test: &TestWorkspace, arguments: &[&str]) -> String {
    let output = run(test, arguments).await;
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The same for programs.
async fn json(test: &TestWorkspace, arguments: &[&str]) -> Value {
    let shown = shown(test, &[arguments, &["--output", "json"]].concat()).await;
    serde_json::from_str(&shown).unwrap()
}

/// Runs it; it must fail. Exit code and message.
async fn refused(mut command: Command) -> (i32, String) {
    let output = command.output().await.unwrap();
    assert_eq!(text(&output.stdout), "");
    (output.status.code().unwrap(), text(&output.stderr))
}

#[tokio::test]
async fn service_commands() {
    let test = TestWorkspace::start().await;
    let created = shown(
        &test,
        &[
            "service",
            "create",
            "svc",
            "--auth",
            "token",
            "--host",
            "Svc.example",
            "--tag",
            "a=b",
            "--description",
            "d",
        ],
    );
    insta::assert_snapshot!(created.await, @r"
    name           svc
    type           AKS
    auth           token
    description    d
    tags           a=b
    hosts          svc.example
    path prefixes  /api/v1/service/svc
    created        2024-05-01T10:00:00Z
    updated        2024-05-01T10:00:00Z
    scoring uri    https://models.example/api/v1/service/svc/score
    ");
    insta::assert_snapshot!(shown(&test, &["service", "show", "svc"]).await, @r"
    name           svc
    type           AKS
    auth           token
    description    d
    tags           a=b
    hosts          svc.example
    path prefixes  /api/v1/service/svc
    created        2024-05-01T10:00:00Z
    updated        2024-05-01T10:00:00Z
    scoring uri    https://models.example/api/v1/service/svc/score
    ");
    shown(&test, &["service", "create", "other", "--compute-type", "aci", "--host", "other.example"]).await;
    insta::assert_snapshot!(shown(&test, &["service", "list"]).await, @r"
    NAME   TYPE  AUTH      UPDATED               SCORING URI
    other  ACI   disabled  2024-05-01T10:00:00Z  https://other.example/score
    svc    AKS   token     2024-05-01T10:00:00Z  https://models.example/api/v1/service/svc/score
    ");
    assert_eq!(json(&test, &["service", "list", "--compute-type", "AKS"]).await[0]["name"], "svc");

    let updated = json(&test, &["service", "update", "svc", "--auth", "key", "--description", ""]).await;
    assert_eq!((&updated["authEnabled"], &updated["description"]), (&json!(true), &json!(null)));
    assert_eq!(updated["kvTags"], json!({ "a": "b" }), "what is not mentioned stays");

    insta::assert_snapshot!(shown(&test, &["service", "delete", "svc"]).await, @"deleted `svc`: no connected gate accepts its keys or tokens any more");
    insta::assert_snapshot!(shown(&test, &["service", "delete", "svc"]).await, @"there was no service `svc`");
}

#[tokio::test]
async fn service_list_follows_all_pages() {
    let test = TestWorkspace::start().await;
    // One more than the largest page.
    for index in 0..501 {
        test.create(&format!("svc-{index}"), json!({})).await;
    }
    assert_eq!(json(&test, &["service", "list"]).await.as_array().unwrap().len(), 501);
}

#[tokio::test]
async fn key_show_and_regenerate() {
    let test = TestWorkspace::start().await;
    let keys = json!({ "primaryKey": "the-primary-key-1", "secondaryKey": "the-secondary-key-1" });
    test.create("svc", json!({ "keys": keys })).await;
    assert_eq!(json(&test, &["key", "show", "svc"]).await, keys);
    insta::assert_snapshot!(shown(&test, &["key", "show", "svc"]).await, @r"
    primary    the-primary-key-1
    secondary  the-secondary-key-1
    ");

    insta::assert_snapshot!(shown(&test, &["key", "regenerate", "svc", "primary"]).await, @r"
    regenerated the primary key of `svc`: no connected gate accepts the old one any more
    show it with: scoregate key show svc
    ");
    let after = json(&test, &["key", "show", "svc"]).await;
    assert_ne!(after["primaryKey"], keys["primaryKey"]);
    assert_eq!(after["secondaryKey"], keys["secondaryKey"]);
    assert_eq!(json(&test, &["key", "regenerate", "svc", "primary"]).await["state"], "Succeeded");
}

#[tokio::test]
async fn key_regenerate_reads_the_value_from_a_file_or_standard_input() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "the-key-from-a-file\n").unwrap();
    let path = file.path().to_str().unwrap();
    shown(&test, &["key", "regenerate", "svc", "primary", "--value-file", path]).await;

    let arguments = ["key", "regenerate", "svc", "secondary", "--value-file", "-"];
    let mut child = command(&test, &test.owner, &arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"the-key-from-stdin").await.unwrap();
    assert!(child.wait().await.unwrap().success());

    let keys = json!({ "primaryKey": "the-key-from-a-file", "secondaryKey": "the-key-from-stdin" });
    assert_eq!(json(&test, &["key", "show", "svc"]).await, keys);
}

#[tokio::test]
async fn key_regenerate_that_a_gate_does_not_confirm_has_an_exit_code_of_its_own() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let _gate = test.silent_gate().await;
    let regenerate = refused(command(&test, &test.owner, &["key", "regenerate", "svc", "primary"]));
    let time_goes_by = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            test.clock.advance(Duration::from_secs(1));
        }
    };
    let (code, message) = tokio::select! {
        refused = regenerate => refused,
        () = time_goes_by => unreachable!("time has no end"),
    };
    assert_eq!(code, 4);
    insta::assert_snapshot!(message, @r"
    error: not confirmed by every gate: the primary key of `svc` has changed, but these gates have not confirmed it within 10 s and may decide as before until they do: `silent`
      what helps: `scoregate gate list` shows what each gate enforces
    ");
}

#[tokio::test]
async fn token_get() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({ "aadAuthEnabled": true })).await;
    let token = json(&test, &["token", "get", "svc", "--expires-in", "2s"]).await;
    let members: Vec<_> = token.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["accessToken", "expiryOn", "refreshAfter", "tokenType"]);
    let shown = shown(&test, &["token", "get", "svc"]).await;
    let times: Vec<_> = shown.lines().skip(1).collect();
    insta::assert_snapshot!(times.join("\n"), @r"
    expires        2024-05-01T22:00:00Z
    refresh after  2024-05-01T11:00:00Z
    ");
}

#[tokio::test]
async fn token_revoke() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({ "aadAuthEnabled": true })).await;
    let before = json(&test, &["token", "get", "svc"]).await["accessToken"].take();
    insta::assert_snapshot!(shown(&test, &["token", "revoke", "svc", "--wait"]).await, @"revoked the tokens of `svc`: no connected gate accepts them any more");
    assert_ne!(json(&test, &["token", "get", "svc"]).await["accessToken"], before);
    assert_eq!(json(&test, &["token", "revoke", "svc"]).await["operationType"], "RevokeTokens");
}

#[tokio::test]
async fn signing_key_commands() {
    let test = TestWorkspace::start().await;
    let first = json(&test, &["signing-key", "list"]).await[0]["id"].as_str().unwrap().to_owned();
    let published = shown(&test, &["signing-key", "rotate", "--no-wait"]).await;
    let second = test.workspace.signing_keys().remove(1).id;
    assert_eq!(
        published,
        format!("the signing key `{second}` is published, and signs when every gate knows it\n")
    );
    let table = shown(&test, &["signing-key", "list"]).await;
    let rows: Vec<Vec<_>> = table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], [first.as_str(), "ES256", "signing", "2024-05-01T10:00:00Z"]);
    let next = ["signs", "from", "2024-05-01T10:00:10Z"];
    assert_eq!(
        rows[1],
        [&[second.as_str(), "ES256", "published", "2024-05-01T10:00:00Z"], &next[..]].concat()
    );
    // It waits until the key signs.
    let arguments = ["signing-key", "rotate", "--wait", "--timeout", "30s"];
    let rotate = shown(&test, &arguments);
    let time_goes_by = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            test.clock.advance(Duration::from_secs(1));
            test.workspace.advance_signing_keys().await;
        }
    };
    let rotated = tokio::select! {
        rotated = rotate => rotated,
        () = time_goes_by => unreachable!("time has no end"),
    };
    assert_eq!(rotated, format!("the signing key `{second}` signs, and every gate knows it\n"));
    let withdrawn = shown(&test, &["signing-key", "withdraw", &first, "--wait"]).await;
    assert_eq!(
        withdrawn,
        format!("withdrew the signing key `{first}`: no connected gate accepts its tokens any more\n")
    );
    let left = json(&test, &["signing-key", "list"]).await;
    assert_eq!((left.as_array().unwrap().len(), &left[0]["id"]), (1, &json!(second)));
}

/// Exit code and message of a command, while time goes by at the workspace.
async fn refused_in_time(test: &TestWorkspace, arguments: &[&str]) -> (i32, String) {
    let time_goes_by = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            test.clock.advance(Duration::from_secs(1));
        }
    };
    tokio::select! {
        refused = refused(command(test, &test.owner, arguments)) => refused,
        () = time_goes_by => unreachable!("time has no end"),
    }
}

#[tokio::test]
async fn changes_that_a_gate_does_not_confirm_have_an_exit_code_of_their_own_and_name_it() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({ "aadAuthEnabled": true })).await;
    let _gate = test.silent_gate().await;
    let key = test.workspace.signing_keys().remove(0).id;
    let changes: [&[&str]; 7] = [
        &["service", "create", "new"],
        &["service", "update", "svc", "--auth", "key"],
        &["key", "regenerate", "svc", "primary"],
        &["token", "revoke", "svc"],
        &["signing-key", "rotate"],
        &["signing-key", "withdraw", &key],
        &["service", "delete", "svc"],
    ];
    for change in changes {
        let (code, message) =
            refused_in_time(&test, &[change, &["--wait", "--timeout", "7s"]].concat()).await;
        assert_eq!(code, 4, "{change:?}: {message}");
        let said = "but these gates have not confirmed it within 7 s and may decide as before until they do: `silent`\n";
        assert!(message.contains(said), "{change:?}: {message}");
    }
    // Stored, and not waited for.
    shown(&test, &["key", "regenerate", "new", "primary", "--no-wait"]).await;
    shown(&test, &["service", "delete", "new", "--no-wait"]).await;
}

#[tokio::test]
async fn gate_list() {
    let test = TestWorkspace::start().await;
    let _gate = test.silent_gate().await;
    let table = shown(&test, &["gate", "list"]).await;
    let address = json(&test, &["gate", "list"]).await[0]["address"].as_str().unwrap().to_owned();
    let table: Vec<_> = table.lines().map(|line| line.replace(&address, "ADDRESS")).collect();
    assert!(table[0].starts_with(
        "NAME    STATE      SINCE                 POLICY  ENFORCED SINCE  LAG  VERSION  ADDRESS"
    ));
    let words: Vec<_> = table[1].split_whitespace().collect();
    assert_eq!(words, ["silent", "connected", "2024-05-01T10:00:00Z", "ADDRESS", "a-gate"]);
}

#[tokio::test]
async fn gate_runs_or_lists() {
    for arguments in [["gate", "--feed", "127.0.0.1:1", "list"], ["gate", "list", "--feed", "127.0.0.1:1"]] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_scoregate")).args(arguments).env_clear().output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[tokio::test]
async fn principal_commands() {
    let test = TestWorkspace::start().await;
    let robot = json(&test, &["principal", "create", "robot", "--role", "reader"]).await;
    let as_robot = command(&test, robot["credential"].as_str().unwrap(), &["service", "list"]).output();
    assert!(as_robot.await.unwrap().status.success());
    insta::assert_snapshot!(shown(&test, &["principal", "list"]).await, @r"
    NAME   ROLE    CREATED
    owner  owner   2024-05-01T10:00:00Z
    robot  reader  2024-05-01T10:00:00Z
    ");
    insta::assert_snapshot!(shown(&test, &["principal", "delete", "robot"]).await, @"deleted `robot`: its credential is refused from now on");
}

#[tokio::test]
async fn audit_lists_and_filters() {
    let test = TestWorkspace::start().await;
    shown(&test, &["service", "create", "svc", "--tag", "a=b"]).await;
    shown(&test, &["key", "regenerate", "svc", "primary"]).await;
    shown(&test, &["service", "update", "svc", "--auth", "token", "--tag", "a=c"]).await;
    shown(&test, &["principal", "create", "robot", "--role", "reader"]).await;
    let table = shown(&test, &["audit", "--limit", "5"]).await;
    // The port is another one each time.
    let cut = |line: &str| {
        line.split(" REMOTE").next().unwrap().split(" 127.0.0.1:").next().unwrap().trim_end().to_owned()
    };
    insta::assert_snapshot!(table.lines().map(cut).collect::<Vec<_>>().join("\n"), @r"
    TIME                  PRINCIPAL  ACTION             TARGET           DETAILS
    2024-05-01T10:00:00Z  owner      principal_created  principal robot  role=reader
    2024-05-01T10:00:00Z  owner      service_updated    service svc      authMode=key->token changed=authMode,tags
    2024-05-01T10:00:00Z  owner      key_regenerated    service svc      chosen=false slot=primary
    2024-05-01T10:00:00Z  owner      service_created    service svc      authMode=key computeType=AKS
    2024-05-01T10:00:00Z  local      principal_created  principal owner  role=owner                                 local
    ");

    let about = async |flags: &[&str]| {
        let records = json(&test, &[&["audit"], flags].concat()).await;
        let action = |record: &Value| record["action"].as_str().unwrap().to_owned();
        records.as_array().unwrap().iter().map(action).collect::<Vec<_>>()
    };
    assert_eq!(about(&["--service", "svc"]).await, ["service_updated", "key_regenerated", "service_created"]);
    assert_eq!(about(&["--service", "svc", "--limit", "1"]).await, ["service_updated"]);
    assert_eq!(about(&["--action", "key_regenerated"]).await, ["key_regenerated"]);
    assert_eq!(about(&["--principal", "robot"]).await, [""; 0]);
    // The clock of the workspace stands in the past.
    assert_eq!(about(&["--since", "1h"]).await, [""; 0]);
    assert_eq!(about(&["--since", "2024-05-01T12:00:00+02:00"]).await.len(), 7);
    assert_eq!(about(&["--until", "2024-05-01T10:00:00Z"]).await, [""; 0]);
}

#[tokio::test]
async fn audit_follows_pages_up_to_the_limit_in_lines_too() {
    let test = TestWorkspace::start().await;
    // More than the largest page, with those of the start.
    for index in 0..500 {
        test.create(&format!("svc-{index}"), json!({})).await;
    }
    let lines = shown(&test, &["audit", "--limit", "600", "--output", "jsonl"]).await;
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 503);
    let sequences: Vec<_> = records.iter().map(|record| record["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=503).rev().collect::<Vec<_>>());
    assert_eq!(json(&test, &["audit", "--limit", "501"]).await.as_array().unwrap().len(), 501);
    assert_eq!(json(&test, &["audit"]).await.as_array().unwrap().len(), 100);
    for (limit, said) in [
        ("502", "there are more than these 502 (--limit)\n"),
        ("503", ""),
        ("1", "there are more than these 1 (--limit)\n"),
    ] {
        let output = run(&test, &["audit", "--limit", limit]).await;
        assert_eq!(text(&output.stderr), said, "{limit}");
    }
    assert_eq!(shown(&test, &["audit", "--limit", "0", "--output", "jsonl"]).await, "");
}

#[tokio::test]
async fn output_that_nobody_reads_ends_a_command_quietly() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    for arguments in
        [&["audit"][..], &["audit", "--output", "jsonl"], &["service", "list"], &["key", "show", "svc"]]
    {
        let mut command = command(&test, &test.owner, arguments);
        command.stdout(writer.try_clone().unwrap()).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().await.unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{arguments:?}");
    }
}

#[tokio::test]
async fn service_issues() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({ "aadAuthEnabled": true })).await;
    shown(&test, &["token", "get", "svc"]).await;
    shown(&test, &["token", "get", "svc"]).await;
    insta::assert_snapshot!(shown(&test, &["service", "issues", "svc"]).await, @r"
    since 2024-05-01T10:00:00Z:
    PRINCIPAL  KEYS  LAST KEYS  TOKENS  LAST TOKEN
    owner                       2       2024-05-01T10:00:00Z
    ");
    assert_eq!(json(&test, &["service", "issues", "svc"]).await["value"][0]["tokens"]["count"], 2);
}

#[tokio::test]
async fn key_list_and_regenerate_say_whether_a_key_is_in_use() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let used = [(Slot::Primary, 12, START - 90), (Slot::Secondary, 3, START - 7200)];
    let _gate = test.gate_that_accepted("svc", &used).await;
    insta::assert_snapshot!(shown(&test, &["key", "list", "svc"]).await, @r"
    CREDENTIAL  IN USE  LAST USE                           USES
    primary     yes     2024-05-01T09:58:30Z (1m 30s ago)  12
    secondary   no      2024-05-01T08:00:00Z (2h ago)      3
    token       no      never                              0
    ");
    assert_eq!(json(&test, &["key", "list", "svc"]).await["value"][0]["count"], 12);
    let regenerate = async |slot| {
        let mut command = command(&test, &test.owner, &["key", "regenerate", "svc", slot]);
        let mut running = tokio::spawn(async move { command.output().await.unwrap() });
        // The gate confirms nothing, so that the command waits for the end of the operation's time.
        loop {
            tokio::select! {
                output = &mut running => return text(&output.unwrap().stderr),
                () = tokio::time::sleep(Duration::from_millis(100)) => test.clock.advance(Duration::from_secs(1)),
            }
        }
    };
    let secondary = regenerate("secondary").await;
    assert!(!secondary.contains("warning"), "{secondary}");
    let primary = regenerate("primary").await;
    let warning = "warning: the old primary key of `svc` was still in use ";
    assert!(primary.starts_with(warning) && primary.contains("(12 times since it was made)"), "{primary}");
}

#[tokio::test]
async fn service_commands_about_shadow() {
    let test = TestWorkspace::start().await;
    insta::assert_snapshot!(shown(&test, &["service", "create", "svc", "--shadow-for", "2d"]).await, @r"
    name           svc
    type           AKS
    auth           key
    shadow         until 2024-05-03T10:00:00Z: requests without a good credential are let through
    path prefixes  /api/v1/service/svc
    created        2024-05-01T10:00:00Z
    updated        2024-05-01T10:00:00Z
    scoring uri    https://models.example/api/v1/service/svc/score
    ");
    insta::assert_snapshot!(shown(&test, &["service", "list"]).await, @r"
    NAME  TYPE  AUTH                                       UPDATED               SCORING URI
    svc   AKS   key, IN SHADOW until 2024-05-03T10:00:00Z  2024-05-01T10:00:00Z  https://models.example/api/v1/service/svc/score
    ");
    let shown = shown(&test, &["service", "update", "svc", "--no-shadow"]).await;
    assert!(!shown.contains("shadow"), "{shown}");
    let updated = json(&test, &["service", "update", "svc", "--shadow-for", "90m"]).await;
    assert_eq!(updated["scoregate"]["shadowUntil"], "2024-05-01T11:30:00Z");
    for bad in ["8d", "0s", "soon", "-1h"] {
        let update =
            command(&test, &test.owner, &["service", "update", "svc", &format!("--shadow-for={bad}")]);
        let (code, message) = refused(update).await;
        assert_eq!(code, 2, "{message}");
        assert!(message.contains("7 days at most"), "{message}");
    }
}

#[tokio::test]
async fn reset_owner_is_in_the_audit() {
    let directory = tempfile::tempdir().unwrap();
    let mut up = up_on_sockets(directory.path()).await;
    up.kill().await.unwrap();
    std::fs::remove_file(directory.path().join("addresses")).unwrap();
    let mut reset = Command::new(env!("CARGO_BIN_EXE_scoregate"));
    reset.args(["principal", "reset-owner"]).env_clear().current_dir(directory.path());
    assert!(reset.output().await.unwrap().status.success());
    let _up = up_on_sockets(directory.path()).await;
    run_on_sockets(directory.path(), &["service", "create", "svc"]).await;
    let records = run_on_sockets(directory.path(), &["audit", "--output", "jsonl"]).await;
    let record = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        ["action", "principal", "remote"].map(|member| record[member].as_str().unwrap().to_owned()).join(" ")
    };
    let records: Vec<_> = records.lines().map(record).collect();
    insta::assert_snapshot!(records.join("\n"), @r"
    service_created owner unix
    owner_reset local local
    principal_created local local
    principal_created local local
    signing_key_created local local
    workspace_founded local local
    ");
}

#[tokio::test]
async fn credential_file_is_read() {
    let test = TestWorkspace::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{}\n", test.owner)).unwrap();
    let arguments = ["service", "list", "--credential-file", file.path().to_str().unwrap()];
    let output = command(&test, "not-this-one", &arguments).output().await.unwrap();
    assert!(output.status.success());
}

#[tokio::test]
async fn refusals_say_what_to_do_and_have_exit_codes() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let reader = test.principal(Role::Reader).await;
    let owner = test.owner.clone();

    let mut nobody = command(&test, "", &["service", "list"]);
    nobody.env_remove("SCOREGATE_CREDENTIAL");
    let mut no_url = command(&test, &owner, &["service", "list"]);
    no_url.env("SCOREGATE_WORKSPACE", "workspace:8181");
    let mut nowhere = command(&test, &owner, &["service", "list"]);
    nowhere.env("SCOREGATE_WORKSPACE", "http://127.0.0.1:1");
    let mut with_password = command(&test, &owner, &["service", "list"]);
    with_password.env("SCOREGATE_WORKSPACE", format!("http://me:{owner}@127.0.0.1:1"));
    let mut gate_with_password = command(&test, &owner, &["explain", "--service", "svc"]);
    gate_with_password.env("SCOREGATE_ADMIN", format!("http://me:{owner}@127.0.0.1:1"));
    let cases = [
        (nobody, 64, "set SCOREGATE_CREDENTIAL"),
        (with_password, 64, "`...@127.0.0.1:1` is no URL of a workspace"),
        (gate_with_password, 64, "`...@127.0.0.1:1` is no URL of an admin listener"),
        (command(&test, &owner, &["principal", "delete", ".."]), 3, "nothing can have the name `..`"),
        (no_url, 64, "write it as `http://HOST:PORT`"),
        (nowhere, 1, "is `scoregate up` running there?"),
        (command(&test, "wrong", &["service", "list"]), 3, "does not accept the credential"),
        (command(&test, &reader, &["key", "show", "svc"]), 3, "this needs the role `contributor`"),
        (command(&test, &owner, &["service", "show", "none"]), 3, "no service is named `none`"),
        (command(&test, &owner, &["service", "create", "svc"]), 3, "exists already"),
        (command(&test, &owner, &["token", "get", "svc"]), 3, "it has no tokens"),
        (command(&test, &owner, &["service", "show", "Bad_Name"]), 2, "3 to 32 lower-case letters"),
        (command(&test, &owner, &["service", "create", "new", "--tag", "x"]), 2, "`KEY=VALUE`"),
        (command(&test, &owner, &["service", "update", "svc"]), 2, "required"),
        (command(&test, &owner, &["key", "regenerate", "svc", "third"]), 2, "possible values"),
        (command(&test, &owner, &["token", "get", "svc", "--expires-in", "soon"]), 2, "`2s`"),
        (command(&test, &owner, &["principal", "create", "x", "--role", "king"]), 2, "a role is"),
        (command(&test, &reader, &["audit"]), 3, "this needs the role `owner`"),
        (command(&test, &reader, &["gate", "list"]), 3, "this needs the role `contributor`"),
        (command(&test, &reader, &["token", "revoke", "svc"]), 3, "this needs the role `contributor`"),
        (command(&test, &reader, &["signing-key", "rotate"]), 3, "this needs the role `owner`"),
        (command(&test, &owner, &["signing-key", "withdraw", "none"]), 3, "there is no signing key `none`"),
        (command(&test, &owner, &["token", "revoke", "svc", "--timeout", "11m"]), 2, "10 minutes at most"),
        (
            command(&test, &owner, &["token", "revoke", "svc", "--wait", "--no-wait"]),
            2,
            "cannot be used with",
        ),
        (command(&test, &owner, &["audit", "--service", "a b"]), 3, "`service` must be"),
        (command(&test, &owner, &["audit", "--since", "soon"]), 2, "`2026-01-31T12:00:00Z`"),
        (command(&test, &owner, &["audit", "--action", "king_crowned"]), 2, "an action is one of"),
        (command(&test, &reader, &["service", "issues", "svc"]), 3, "this needs the role `contributor`"),
    ];
    for (command, exit, part) in cases {
        let shown = format!("{command:?}");
        let (code, message) = refused(command).await;
        assert_eq!(code, exit, "{shown}: {message}");
        assert!(message.contains(part), "{shown}: {message}");
        assert!(!message.contains(&owner), "a credential in an error: {message}");
    }
}

/// `scoregate up` with every listener on a Unix socket in this directory.
async fn up_on_sockets(directory: &std::path::Path) -> tokio::process::Child {
    up_on_sockets_writing_to(directory, Stdio::null()).await
}

async fn up_on_sockets_writing_to(directory: &std::path::Path, stdout: Stdio) -> tokio::process::Child {
    let mut up = Command::new(env!("CARGO_BIN_EXE_scoregate"));
    up.arg("up").env_clear().current_dir(directory).kill_on_drop(true);
    up.args([
        "--addresses-file",
        "addresses",
        "--ext-authz-listen",
        "unix:check",
        "--feed-listen",
        "unix:feed",
    ]);
    up.args(["--workspace-listen", "unix:workspace", "--admin-listen", "unix:admin"]);
    let up = up.stdout(stdout).stderr(Stdio::null()).spawn().unwrap();
    let ready = async {
        while !directory.join("addresses").exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ready).await.unwrap();
    up
}

#[tokio::test]
async fn up_goes_on_when_nobody_reads_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut up = up_on_sockets_writing_to(directory.path(), writer.into()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(up.try_wait().unwrap().is_none());
}

/// Runs it as the owner; it must succeed.
async fn run_on_sockets(directory: &std::path::Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scoregate"));
    command.args(arguments).args(["--workspace", "unix:workspace"]).env_clear().current_dir(directory);
    command.args(["--credential-file", "scoregate-data/owner-credential"]);
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test]
async fn commands_over_unix_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let up = up_on_sockets(directory.path()).await;
    run_on_sockets(directory.path(), &["service", "create", "svc"]).await;
    let mut explain = Command::new(env!("CARGO_BIN_EXE_scoregate"));
    explain.args(["explain", "--admin", "unix:admin", "--service", "svc"]).current_dir(directory.path());
    let explained = explain.env_clear().env("HTTP_PROXY", "http://127.0.0.1:1").output().await.unwrap();
    assert!(text(&explained.stdout).contains("deny: missing_credential"), "{}", text(&explained.stderr));
    drop(up);
}

#[tokio::test]
async fn explain_says_that_no_gate_answers_and_what_it_cannot_be_asked() {
    let test = TestWorkspace::start().await;
    let explain = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scoregate"));
        command.args(["explain", "--admin", &test.base]).args(arguments).env_clear();
        refused(command)
    };
    let (code, said) = explain(&["--last"]).await;
    assert_eq!(code, 1);
    assert!(said.contains("no gate answers there: --admin or SCOREGATE_ADMIN names"), "{said}");
    for arguments in
        [&["--last", "0"][..], &["--last", "--request-id", "a"], &["--trace-id", "a", "--request-id", "a"]]
    {
        assert_eq!(explain(arguments).await.0, 2, "{arguments:?}");
    }
}

#[tokio::test]
async fn up_makes_the_principal_of_its_gate_anew() {
    let directory = tempfile::tempdir().unwrap();
    let mut up = up_on_sockets(directory.path()).await;
    run_on_sockets(directory.path(), &["principal", "delete", "up-gate"]).await;
    up.kill().await.unwrap();
    std::fs::remove_file(directory.path().join("addresses")).unwrap();
    // Without what it holds: ready is only who has heard of its workspace.
    std::fs::remove_dir_all(directory.path().join("scoregate-data/gate")).unwrap();
    drop(up_on_sockets(directory.path()).await);
}

/// A request to `explain` holds a credential: no proxy may see it, and no redirect may lead it elsewhere.
#[tokio::test]
async fn explain_goes_past_a_proxy() {
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_scoregate"));
    command.args(["explain", "--service", "svc", "--admin", "http://127.0.0.1:1"]).env_clear();
    command.env("HTTP_PROXY", format!("http://{}", proxy.local_addr().unwrap()));
    let (code, _) = tokio::select! {
        refused = refused(command) => refused,
        _ = proxy.accept() => panic!("the proxy was asked"),
    };
    assert_eq!(code, 1);
}

#[tokio::test]
async fn explain_refuses_a_header_or_an_address_that_is_none() {
    for (arguments, expected) in [(["--header", "x"], 2), (["--admin", "nowhere"], 64)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scoregate"));
        command.arg("explain").args(arguments).env_clear();
        assert_eq!(refused(command).await.0, expected, "{arguments:?}");
    }
}
