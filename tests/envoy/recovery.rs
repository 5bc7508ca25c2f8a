//! Backups of a workspace that runs, and what gates make of a workspace that was restored from one.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Checks, Gate, Scoregate, WorkspaceProcess, new_path, wait_until};

const SERVICE: &str = "forecast";

fn scoregate(arguments: &[&str]) -> Output {
    Scoregate::run(&[&["workspace"], arguments].concat(), &[])
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn done(output: &Output) -> &str {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// It must fail, with this code and a message that has this text.
fn refused(output: &Output, code: i32, part: &str) {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert!(message.contains(part), "{message}");
}

fn back_up(workspace: &WorkspaceProcess) -> PathBuf {
    let file = new_path("backup");
    let data_dir = workspace.data_dir.to_str().unwrap();
    done(&scoregate(&["backup", file.to_str().unwrap(), "--data-dir", data_dir]));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    file
}

/// A data directory with the secrets of another one, and nothing else.
fn fresh_directory(of: &Path) -> PathBuf {
    let directory = new_path("restored");
    std::fs::create_dir(&directory).unwrap();
    for secret in ["master-key", "pepper", "policy-key", "owner-credential"] {
        std::fs::copy(of.join(secret), directory.join(secret)).unwrap();
    }
    directory
}

fn restore(file: &Path, to: &Path, more: &[&str]) -> Output {
    let (file, to) = (file.to_str().unwrap(), to.to_str().unwrap());
    scoregate(&[&["restore", file, "--data-dir", to], more].concat())
}

fn epoch(gate: &Gate) -> f64 {
    gate.scoregate.metric("scoregate_snapshot_epoch")
}

#[test]
fn t114_gates_follow_a_restored_workspace_and_every_later_restore_of_the_same_backup() {
    let mut workspace = WorkspaceProcess::start(&[]);
    let mut gates = ["gate-1", "gate-2"].map(|name| Gate::start(&workspace, name));
    let client = workspace.client();
    let old = client.create_with_keys(SERVICE);
    client.create_with_tokens("ranking");
    let token = client.token("ranking");
    let file = back_up(&workspace);
    assert_eq!(client.regenerate(SERVICE, "Primary").state, "Succeeded");
    let new = client.keys(SERVICE);
    (0..20).for_each(|number| client.create_open(&format!("later-{number}")));
    let statuses = |gate: &Gate| {
        let checks = Checks::connect(&gate.check_address());
        [
            checks.status(SERVICE, &old.primary),
            checks.status(SERVICE, &new.primary),
            checks.status(SERVICE, &old.secondary),
            checks.status("ranking", &token),
            checks.status("later-19", "anything-goes-here"),
        ]
    };
    let (before, restored) = ([401, 200, 200, 200, 200], [200, 401, 200, 401, 401]);
    wait_until("the last change", || gates.iter().all(|gate| statuses(gate) == before));

    let mut epochs = vec![epoch(&gates[0])];
    for round in 0..2 {
        // The second gate is away meanwhile, and has the old epoch on its disk.
        gates[1].scoregate.process.kill();
        workspace.scoregate.process.kill();
        let directory = fresh_directory(&workspace.data_dir);
        let told = restore(&file, &directory, &[]);
        assert!(done(&told).contains("tokens that were issued before now are refused"), "{}", done(&told));
        workspace.data_dir = directory;
        workspace.restart();
        gates[1].restart();
        wait_until("the new epoch", || gates.iter().all(|gate| epoch(gate) > epochs[round]));
        assert_eq!(epoch(&gates[0]), epoch(&gates[1]));
        epochs.push(epoch(&gates[0]));
        assert!(gates.iter().all(|gate| statuses(gate) == restored), "{:?}", gates.each_ref().map(statuses));
        assert_eq!(gates[0].scoregate.metric("scoregate_feed_refused_total"), 0.0);
        // Another history than that of the other restore.
        client.create_open(&format!("round-{round}"));
        let fresh = client.token("ranking");
        let follows = |gate: &Gate| {
            let checks = Checks::connect(&gate.check_address());
            (checks.status(&format!("round-{round}"), "anything-goes-here"), checks.status("ranking", &fresh))
        };
        wait_until("a change, and a new token", || gates.iter().all(|gate| follows(gate) == (200, 200)));
    }
    let audited = Scoregate::run(
        &["audit", "--output", "jsonl", "--action", "workspace_restored"],
        &[
            ("SCOREGATE_WORKSPACE", workspace.scoregate.addresses.text("workspace")),
            (
                "SCOREGATE_CREDENTIAL",
                text(&std::fs::read(workspace.data_dir.join("owner-credential")).unwrap()),
            ),
        ],
    );
    assert_eq!(done(&audited).lines().count(), 1);
}

#[test]
fn backups_under_load_lose_no_acknowledged_change() {
    let workspace = WorkspaceProcess::start(&[]);
    let client = workspace.client();
    client.create_with_keys(SERVICE);
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut rounds = 0;
            while !ends.load(Ordering::SeqCst) {
                assert_eq!(client.regenerate(SERVICE, "Primary").state, "Succeeded");
                rounds += 1;
            }
            rounds
        });
        for _ in 0..5 {
            let acknowledged = client.keys(SERVICE).secondary;
            assert_eq!(client.regenerate(SERVICE, "Secondary").state, "Succeeded");
            let secondary = client.keys(SERVICE).secondary;
            assert_ne!(acknowledged, secondary);
            let directory = fresh_directory(&workspace.data_dir);
            done(&restore(&back_up(&workspace), &directory, &[]));
            let mut restored = WorkspaceProcess::start_in(&directory, &[]);
            assert_eq!(restored.client().keys(SERVICE).secondary, secondary);
            restored.scoregate.process.kill();
        }
        ends.store(true, Ordering::SeqCst);
        assert!(writer.join().unwrap() > 5);
    });
}

#[test]
fn restore_refuses_what_would_harm() {
    let workspace = WorkspaceProcess::start(&[]);
    workspace.client().create_with_keys(SERVICE);
    let file = back_up(&workspace);
    let path = file.to_str().unwrap();
    let data_dir = workspace.data_dir.to_str().unwrap();
    refused(&scoregate(&["backup", path, "--data-dir", data_dir]), 1, "is there already: --overwrite");
    done(&scoregate(&["backup", path, "--data-dir", data_dir, "--overwrite"]));
    refused(&restore(&file, &workspace.data_dir, &["--replace"]), 64, "is in use by another process");

    let nothing = new_path("nothing");
    std::fs::create_dir(&nothing).unwrap();
    refused(&restore(&file, &nothing, &[]), 64, "pepper` cannot be read");
    assert_eq!(std::fs::read_dir(&nothing).unwrap().count(), 0, "secrets were made");

    let foreign = WorkspaceProcess::start(&[]);
    let foreign = fresh_directory(&foreign.data_dir);
    refused(&restore(&file, &foreign, &[]), 1, "is of a workspace with another master key");

    let directory = fresh_directory(&workspace.data_dir);
    let cut = new_path("cut");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&cut, &whole[..whole.len() - 1000]).unwrap();
    refused(&restore(&cut, &directory, &[]), 1, "is not a whole backup: it was cut off");
    done(&restore(&file, &directory, &[]));
    refused(&restore(&file, &directory, &[]), 1, "there is a workspace in");
    done(&restore(&file, &directory, &["--replace"]));

    let secret = |name: &str| std::fs::read(workspace.data_dir.join(name)).unwrap();
    for name in ["master-key", "pepper", "policy-key", "owner-credential"] {
        let secret = secret(name).trim_ascii().to_vec();
        assert!(!whole.windows(secret.len()).any(|window| window == secret), "{name}");
    }
}

#[test]
fn flags_of_a_running_workspace_do_not_go_with_a_backup() {
    let output = scoregate(&["--feed-listen", "127.0.0.1:0", "backup", "somewhere"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}
