//! Policy from elsewhere while the workspace is away.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use scoregate::config::GateConfig;
use scoregate::gate::PolicySource;
use scoregate::listen::ListenAddress;
use scoregate::proto::scoregate::policy::v1 as wire;
use scoregate::statement::PolicyKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::policy::{self, WORKSPACE, change, key, key_service, parts};
use crate::rig::{Rig, config};
use crate::workspace::Workspace;

/// What a gate without anything has, with the workspace away.
const WITHIN: Duration = Duration::from_secs(2);

/// An address at which there was a workspace once.
async fn nobody() -> ListenAddress {
    let workspace = Workspace::start().await;
    let address = workspace.address.clone();
    workspace.stop().await;
    address
}

fn sourced(feed: &ListenAddress, data: &Path, sources: &[&str]) -> GateConfig {
    let sources: Vec<PolicySource> = sources.iter().map(|source| source.parse().unwrap()).collect();
    GateConfig { policy_sources: sources, ..config(feed, data) }
}

/// Gates that have policy, and whose workspace is away.
struct Orphans {
    gates: Vec<(Rig, tempfile::TempDir)>,
    feed: ListenAddress,
}

impl Orphans {
    async fn new(number: usize, entries: &[wire::Entry], revision: u64) -> Self {
        let mut workspace = Workspace::start().await;
        let feed = workspace.address.clone();
        let mut gates = Vec::new();
        for _ in 0..number {
            let data = tempfile::tempdir().unwrap();
            let rig = Rig::start(&feed, data.path()).await;
            let mut session = workspace.session().await;
            session.send_parts(parts(1, revision, entries, 2)).await;
            assert_eq!(session.ack().await, (1, revision));
            gates.push((rig, data));
        }
        workspace.stop().await;
        Self { gates, feed }
    }

    fn url(&self, gate: usize) -> &str {
        &self.gates[gate].0.peer_url
    }

    /// The file that the first gate keeps.
    fn file(&self) -> Vec<u8> {
        std::fs::read(self.gates[0].1.path().join("gate/snapshot")).unwrap()
    }
}

/// Serves these bytes, whoever asks.
async fn mirror(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/snapshot", listener.local_addr().unwrap());
    let router = Router::new().route("/snapshot", get(move || async move { bytes }));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

#[tokio::test]
async fn t109_gate_with_an_empty_disk_starts_from_a_peer_within_two_seconds() {
    let policy = [key_service("svc", (2, 1)), key_service("two", (1, 1)), key_service("three", (1, 1))];
    let orphans = Orphans::new(3, &policy, 7).await;
    let data = tempfile::tempdir().unwrap();
    let dead = format!("http://{}/policy/snapshot", nobody().await);
    let sources = [dead.as_str(), orphans.url(0), orphans.url(1), orphans.url(2)];
    let begun = Instant::now();
    let rig = Rig::start_with(sourced(&orphans.feed, data.path(), &sources)).await;
    rig.wait_for(1, 7).await;
    let mut envoy = rig.envoy().await;
    assert_eq!(envoy.with("svc", &key("svc", "primary", 2)).await.outcome(), (200, "ok"));
    assert_eq!(envoy.with("svc", &key("svc", "primary", 1)).await.outcome(), (401, "unknown_key"));
    assert!(begun.elapsed() < WITHIN, "{:?}", begun.elapsed());
    rig.wait_until_ready().await;
    assert!(rig.stop().await);

    let again = Rig::start(&orphans.feed, data.path()).await;
    again.wait_for(1, 7).await;
}

#[tokio::test]
async fn gate_starts_from_a_file_behind_a_symlink_and_any_mode() {
    let orphans = Orphans::new(1, &[key_service("svc", (1, 1))], 7).await;
    let (volume, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // As Kubernetes mounts a volume, with fsGroup.
    let at = |name: &str| volume.path().join(name);
    std::fs::create_dir(at("..2026")).unwrap();
    std::fs::write(at("..2026/snapshot"), orphans.file()).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(at("..2026/snapshot"), mode).unwrap();
    std::os::unix::fs::symlink("..2026", at("..data")).unwrap();
    std::os::unix::fs::symlink("..data/snapshot", at("snapshot")).unwrap();
    let source = format!("file:{}", at("snapshot").display());
    let rig = Rig::start_with(sourced(&nobody().await, data.path(), &[&source])).await;
    rig.wait_for(1, 7).await;
    rig.wait_for_metric(r#"scoregate_policy_source_reads_total{outcome="taken"}"#, 1.0).await;
}

#[tokio::test]
async fn t114_sources_with_forged_older_foreign_or_broken_policy_are_passed_over() {
    let good = Orphans::new(1, &[key_service("svc", (2, 1))], 9).await;
    let old = Orphans::new(1, &[key_service("svc", (1, 1))], 8).await;
    let foreign = {
        let mut part = parts(1, 99, &[key_service("svc", (1, 1))], 1).remove(0);
        part.workspace = "ws-2".to_owned();
        part.statement = Some(policy::statement("ws-2", (1, 99), &part.state_hash));
        copy_of(&part)
    };
    let mut cut = good.file();
    cut.truncate(cut.len() - 1);
    let mut sources = vec![good.url(0).to_owned(), old.url(0).to_owned()];
    for bytes in [forged(), foreign, cut, b"<html>".to_vec(), Vec::new()] {
        sources.push(mirror(bytes).await);
    }
    let sources: Vec<_> = sources.iter().map(String::as_str).collect();
    let data = tempfile::tempdir().unwrap();
    let rig = Rig::start_with(sourced(&nobody().await, data.path(), &sources)).await;
    rig.wait_for(1, 9).await;
    rig.wait_for_metric(r#"scoregate_policy_source_reads_total{outcome="refused"}"#, 3.0).await;
    rig.wait_for_metric(r#"scoregate_policy_source_reads_total{outcome="failed"}"#, 3.0).await;
    assert_eq!(rig.metric("scoregate_snapshot_revision"), 9.0);
    let answer = rig.envoy().await.with("svc", &key("svc", "primary", 1)).await;
    assert_eq!(answer.outcome(), (401, "unknown_key"), "a revoked key does not come back");
}

/// A later snapshot that somebody has signed whom nobody trusts.
fn forged() -> Vec<u8> {
    let mut part = parts(1, 99, &[key_service("svc", (1, 1))], 1).remove(0);
    let foreign_key = PolicyKey::from_pem(&PolicyKey::generate().unwrap()).unwrap();
    let statement = policy::statement_at(&foreign_key, WORKSPACE, (1, 99), &part.state_hash, policy::NOW);
    part.statement = Some(statement);
    copy_of(&part)
}

/// The `snapshot` file of one part, by the way of its format: a header, then length, SHA-256 and record.
fn copy_of(part: &wire::SnapshotPart) -> Vec<u8> {
    let record = prost::Message::encode_to_vec(part);
    let checksum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &record);
    let length = u32::try_from(record.len()).unwrap().to_be_bytes();
    [b"sgsnap\0\x01".as_slice(), &length, checksum.as_ref(), &record].concat()
}

#[tokio::test]
async fn gate_that_lost_only_its_feed_learns_of_changes_from_a_peer() {
    let policy = [key_service("svc", (1, 1))];
    let mut workspace = Workspace::start().await;
    let (lucky_data, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let lucky = Rig::start(&workspace.address, lucky_data.path()).await;
    let mut session = workspace.session().await;
    session.send_parts(parts(1, 1, &policy, 1)).await;
    assert_eq!(session.ack().await, (1, 1));
    let rig = Rig::start_with(sourced(&nobody().await, data.path(), &[&lucky.peer_url])).await;
    rig.wait_for(1, 1).await;
    let now = [key_service("svc", (2, 1))];
    session.send_change(change(1, 2, &now, &now)).await;
    assert_eq!(session.ack().await, (1, 2));
    // Between 15 and 30 s later, of which the test waits for none: it starts anew.
    assert!(rig.stop().await);
    let rig = Rig::start_with(sourced(&nobody().await, data.path(), &[&lucky.peer_url])).await;
    rig.wait_for(1, 2).await;
}

#[tokio::test]
async fn what_a_gate_has_from_a_peer_is_what_it_says_to_the_workspace() {
    let policy = [key_service("svc", (1, 1))];
    let orphans = Orphans::new(1, &policy, 7).await;
    let data = tempfile::tempdir().unwrap();
    let rig = Rig::start_with(sourced(&orphans.feed, data.path(), &[orphans.url(0)])).await;
    rig.wait_for(1, 7).await;
    let mut workspace = Workspace::start_at(&orphans.feed).await;
    // Both gates come, in either order.
    for _ in 0..2 {
        let session = workspace.session().await;
        assert_eq!((session.hello.epoch, session.hello.revision), (1, 7));
    }
}

#[tokio::test]
async fn peer_answers_once_for_each_state_and_503_without_one() {
    let orphans = Orphans::new(1, &[key_service("svc", (1, 1))], 7).await;
    let http = reqwest::Client::new();
    let first = http.get(orphans.url(0)).send().await.unwrap();
    assert_eq!(first.status(), 200);
    let name = first.headers()["etag"].clone();
    assert_eq!(
        first.content_length(),
        Some(orphans.file().len() as u64),
        "one that is cut off is seen to be"
    );
    assert_eq!(first.bytes().await.unwrap(), orphans.file());
    let again = http.get(orphans.url(0)).header("if-none-match", name).send().await.unwrap();
    assert_eq!(again.status(), 304);

    let data = tempfile::tempdir().unwrap();
    let empty = Rig::start(&nobody().await, data.path()).await;
    assert_eq!(http.get(&empty.peer_url).send().await.unwrap().status(), 503);
}

/// Answers each request, whose number it gets, with a status and these bytes, then for as long as the caller listens with
/// `more`, again after each pause. Counts the bytes that went out.
async fn server(
    answer: impl Fn(usize) -> (u16, Vec<u8>) + Send + 'static,
    more: &'static [u8],
    pause: Duration,
) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/snapshot", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    tokio::spawn(async move {
        for number in 0.. {
            let (mut connection, _) = listener.accept().await.unwrap();
            let (status, begins) = answer(number);
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let _ = connection.read(&mut [0; 4096]).await?;
                let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n\r\n");
                count.fetch_add(begins.len(), Ordering::Relaxed);
                connection.write_all(&[head.as_bytes(), &begins].concat()).await?;
                while !more.is_empty() {
                    count.fetch_add(more.len(), Ordering::Relaxed);
                    connection.write_all(more).await?;
                    tokio::time::sleep(pause).await;
                }
                std::io::Result::Ok(())
            });
        }
    });
    (url, sent)
}

async fn redirect(status: u16, to: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/snapshot", listener.local_addr().unwrap());
    let status = http::StatusCode::from_u16(status).unwrap();
    let answer = (status, [("location", to.to_owned())]);
    let router = Router::new().route("/snapshot", get(move || async move { answer }));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

#[tokio::test]
async fn source_that_drips_holds_up_no_other() {
    let orphans = Orphans::new(1, &[key_service("svc", (1, 1))], 7).await;
    let begins = |_| (200, b"sgsnap\0\x01\0\x01".to_vec());
    let (dripping, _) = server(begins, b"\0", Duration::from_millis(100)).await;
    // Has policy only when it is asked for the second time.
    let file = orphans.file();
    let late = move |number| if number == 0 { (503, Vec::new()) } else { (200, file.clone()) };
    let (late, _) = server(late, b"", Duration::ZERO).await;
    let data = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let rig = Rig::start_with(sourced(&nobody().await, data.path(), &[&dripping, &late])).await;
    rig.wait_for(1, 7).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// Whoever serves what is not proven, or known here, does not get to fill a gate's memory.
#[tokio::test]
async fn copy_is_read_no_further_than_its_head_if_that_is_nothing_new() {
    const JUNK: &[u8] = &[0; 64 * 1024];
    let orphans = Orphans::new(1, &[key_service("svc", (1, 1))], 7).await;
    let known = orphans.file();
    for (head, outcome) in [(known, "known"), (forged(), "refused")] {
        let (url, sent) = server(move |_| (200, head.clone()), JUNK, Duration::ZERO).await;
        let data = tempfile::tempdir().unwrap();
        let sources = [orphans.url(0), url.as_str()];
        let rig = Rig::start_with(sourced(&nobody().await, data.path(), &sources)).await;
        let series = format!("scoregate_policy_source_reads_total{{outcome=\"{outcome}\"}}");
        rig.wait_for_metric(&series, 1.0).await;
        assert_eq!(rig.metric("scoregate_snapshot_revision"), 7.0);
        // The rest is in buffers of the system.
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent < 64 * 1024 * 1024, "{outcome}: {sent}");
    }
}

/// Policy is the one thing that a gate reads from addresses. What they answer is not believed, not followed elsewhere, and
/// bounded.
#[tokio::test]
async fn t105_mirrors_that_answer_wrongly_or_point_elsewhere_leave_the_last_good_policy() {
    let orphans = Orphans::new(1, &[key_service("svc", (1, 1))], 7).await;
    let newer = Orphans::new(1, &[key_service("svc", (2, 1))], 8).await;
    // What a redirect points to would be taken, if it were named.
    let (elsewhere, asked) = server(move |_| (200, newer.file()), b"", Duration::ZERO).await;
    let file = orphans.gates[0].1.path().join("gate/snapshot");
    let mut cut = orphans.file();
    cut.truncate(cut.len() / 2);
    let mut sources = vec![format!("file:{}", file.display())];
    for (status, body) in [
        (500, orphans.file()),
        (404, b"not here".to_vec()),
        (200, b"<!doctype html><title>Sign in</title>".to_vec()),
        (200, b"{}".to_vec()),
        (200, br#"{"keys":[]}"#.to_vec()),
        (200, Vec::new()),
        (200, cut),
        // A gzip stream of many zeros begins like this, and is not unpacked.
        (200, [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], [0; 100].as_slice()].concat()),
        (200, [b"sgsnap\0\x01\xff\xff\xff\xff".as_slice(), &[0; 100]].concat()),
    ] {
        sources.push(server(move |_| (status, body.clone()), b"", Duration::ZERO).await.0);
    }
    for to in [elsewhere.as_str(), "http://169.254.169.254/", "file:///etc/passwd"] {
        for status in [301, 302, 307, 308] {
            sources.push(redirect(status, to).await);
        }
    }
    let bad = sources.len() as f64 - 1.0;
    let sources: Vec<_> = sources.iter().map(String::as_str).collect();
    let data = tempfile::tempdir().unwrap();
    let rig = Rig::start_with(sourced(&nobody().await, data.path(), &sources)).await;
    rig.wait_for(1, 7).await;
    rig.wait_for_metric(r#"scoregate_policy_source_reads_total{outcome="failed"}"#, bad).await;
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    let answer = rig.envoy().await.with("svc", &key("svc", "primary", 1)).await;
    assert_eq!(answer.outcome(), (200, "ok"));
    assert_eq!(rig.metric("scoregate_snapshot_revision"), 7.0);
}
