//! Where the commands take their credential, and where not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use rstest::rstest;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::Command;

const SCOPE: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w";

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    base
}

/// Somebody who would like to be sent the credential, and how often somebody came.
async fn thief() -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let answer = move || {
        count.fetch_add(1, Ordering::SeqCst);
        async { Json(json!({ "scope": SCOPE, "value": [] })) }
    };
    (serve(Router::new().fallback(answer)).await, asked)
}

/// Sends everybody there; with `late`, not those who only ask who it is.
async fn redirects(status: u16, to: &str, late: bool) -> String {
    let to = to.to_owned();
    let redirect = move |uri: Uri| async move {
        (StatusCode::from_u16(status).unwrap(), [("location", format!("{to}{uri}"))]).into_response()
    };
    let router = Router::new().fallback(redirect);
    let who = || async { Json(json!({ "scope": SCOPE })).into_response() as Response };
    serve(if late { router.route("/scoregate/v1/workspace", get(who)) } else { router }).await
}

fn command(base: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scoregate"));
    command.args(arguments).env_clear();
    command.env("SCOREGATE_WORKSPACE", base).env("SCOREGATE_CREDENTIAL", "the-owners-credential");
    command
}

async fn failed(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[rstest]
#[tokio::test]
async fn t116_commands_follow_no_redirect_with_their_credential(
    #[values(301, 302, 303, 307, 308)] status: u16,
    #[values(false, true)] late: bool,
) {
    let (thief, asked) = thief().await;
    let base = redirects(status, &thief, late).await;
    for arguments in [
        ["service", "list"].as_slice(),
        &["service", "create", "svc"],
        &["key", "regenerate", "svc", "primary"],
        &["token", "get", "svc"],
        &["gate", "list"],
    ] {
        let (code, message) = failed(command(&base, arguments)).await;
        assert_eq!(code, Some(1), "{arguments:?}: {message}");
        assert!(message.contains("it redirects, and the credential is sent nowhere else"), "{message}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    let output = command(&thief, &["service", "list"]).output().await.unwrap();
    assert!(output.status.success() && asked.load(Ordering::SeqCst) > 0, "it would have noticed");
}

/// `0.0.0.0` stands for another machine: it is none of the loopback addresses, and nobody listens there.
#[tokio::test]
async fn t116_commands_send_no_credential_over_plain_http_to_another_machine() {
    let exposed = "http://0.0.0.0:1";
    let commands = [
        ["service", "list"].as_slice(),
        &["token", "get", "svc"],
        &["doctor", "--workspace", exposed],
        &["explain", "--admin", exposed, "--header", "authorization: Bearer a-key"],
    ];
    for arguments in commands {
        let (code, message) = failed(command(exposed, arguments)).await;
        assert_eq!(code, Some(64), "{arguments:?}: {message}");
        assert!(message.contains("whoever is on the way could read the credential"), "{message}");
    }
    let mut insecure = command(exposed, &["service", "list"]);
    insecure.env("SCOREGATE_INSECURE", "true");
    for insecure in [insecure, command(exposed, &["service", "list", "--insecure"])] {
        let (code, message) = failed(insecure).await;
        assert_eq!(code, Some(1), "{message}");
        assert!(message.contains("cannot reach the workspace"), "{message}");
    }
    let mut doctor = command(exposed, &["doctor", "--admin", exposed]);
    doctor.env_remove("SCOREGATE_WORKSPACE");
    let (code, message) = failed(doctor).await;
    assert_eq!(code, Some(1), "it takes no credential there: {message}");
}
