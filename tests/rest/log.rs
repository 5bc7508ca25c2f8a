//! The access log: one line a request, and no secret in it.

use std::io;
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::json;
use tracing::Dispatch;
use tracing_subscriber::fmt::MakeWriter;

use crate::harness::TestWorkspace;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn log_has_a_line_for_each_request_and_no_secret() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    let subscriber = Dispatch::new(subscriber.with_writer(log.clone()).finish());
    // With one subscriber alone `tracing` asks only the thread that meets a log statement first whether it is wanted,
    // and that may be another test's.
    let _another = Dispatch::new(tracing_subscriber::registry());
    // The runtime of a test has this one thread: the server logs here too.
    let _guard = tracing::dispatcher::set_default(&subscriber);
    let test = TestWorkspace::start().await;

    let keys = json!({ "primaryKey": "secret-primary-key", "secondaryKey": "secret-secondary-key" });
    test.create("svc", json!({ "keys": keys, "sslKey": "secret-pem" })).await;
    test.post(
        "/services/svc/regenerateKeys",
        &json!({ "keyType": "Primary", "keyValue": "secret-chosen-key" }),
    )
    .await;
    let listed = test.post_nothing("/services/svc/listkeys").await;
    test.create("token", json!({ "aadAuthEnabled": true })).await;
    let token = test.post_nothing("/services/token/token").await;
    test.get("/services?name=secret-query&$skipToken=secret-place").await;
    test.get("/services/secret-in-the-path").await;
    test.request(Method::GET, "/secret-path").bearer("secret-credential").send().await;
    test.request(Method::GET, &TestWorkspace::path("/services")).bearer("secret-credential").send().await;
    test.post("/services", &json!({ "name": "secret-name", "keys": { "primaryKey": "secret" } })).await;

    let records = test.request(Method::GET, "/scoregate/v1/audit?count=500").send().await.body.to_string();
    let log = log.text();
    assert!(!records.contains("secret") && records.contains("key_regenerated"), "{records}");
    assert!(!log.contains("secret"), "{log}");
    for secret in [&test.owner, token.body["accessToken"].as_str().unwrap()] {
        assert!(!log.contains(secret) && !records.contains(secret), "{log}");
    }
    assert_eq!(listed.body["primaryKey"], "secret-chosen-key");

    let lines: Vec<_> = log.lines().filter(|line| line.contains("refusal=")).collect();
    assert_eq!(lines.len(), 11, "{log}");
    let listed = lines.iter().find(|line| line.contains("listkeys")).unwrap();
    for part in ["method=POST", r#"route="/services/{name}/listkeys""#, r#"principal="owner""#, "status=200"]
    {
        assert!(listed.contains(part), "{listed}");
    }

    let svc = test.workspace.service("svc").await.unwrap().uid;
    let token = test.workspace.service("token").await.unwrap().uid;
    let issues: Vec<_> = lines.iter().filter(|line| line.contains("scoregate::issue:")).collect();
    let expected = [("keys_listed", "svc", svc), ("token_issued", "token", token)];
    assert_eq!(issues.len(), expected.len(), "{log}");
    for (line, (event, service, uid)) in issues.iter().zip(expected) {
        let parts = [
            format!("event={event:?} service={service} uid={uid} request="),
            " remote=127.0.0.1:".to_owned(),
            r#" principal="owner""#.to_owned(),
        ];
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
}
