//! `/scoregate/v1/signing-keys`

use std::time::Duration;

use reqwest::Method;
use scoregate::workspace::Role;
use serde_json::{Value, json};

use crate::harness::{Answer, TestWorkspace};

const PATH: &str = "/scoregate/v1/signing-keys";

async fn list(test: &TestWorkspace) -> Value {
    test.request(Method::GET, PATH).send().await.body["value"].take()
}

async fn rotate(test: &TestWorkspace) -> Answer {
    test.request(Method::POST, PATH).send().await
}

#[tokio::test]
async fn rotation_publishes_a_key_and_shows_no_private_half() {
    let test = TestWorkspace::start().await;
    let begun = rotate(&test).await;
    assert_eq!(begun.status, 202);
    let mut keys = list(&test).await;
    let next = keys[1]["id"].as_str().unwrap().to_owned();
    assert_eq!(begun.body["resourceLocation"], format!("{}{PATH}/{next}", test.base));
    let location = begun.header("operation-location").strip_prefix(&test.base).unwrap().to_owned();
    let operation = test.request(Method::GET, &location).send().await;
    assert_eq!(operation.body["operationType"], "RotateSigningKey");
    assert_eq!(operation.body["state"], "Succeeded");
    assert!(operation.body["streamingOperationLog"].as_str().unwrap().contains(&next));
    for key in keys.as_array_mut().unwrap() {
        key["id"].take();
    }
    insta::assert_json_snapshot!(keys, @r#"
    [
      {
        "algorithm": "ES256",
        "createdTime": "2024-05-01T10:00:00Z",
        "droppedFrom": null,
        "id": null,
        "signsFrom": null,
        "since": "2024-05-01T10:00:00Z",
        "state": "signing",
        "waitingFor": []
      },
      {
        "algorithm": "ES256",
        "createdTime": "2024-05-01T10:00:00Z",
        "droppedFrom": null,
        "id": null,
        "signsFrom": "2024-05-01T10:00:10Z",
        "since": "2024-05-01T10:00:00Z",
        "state": "published",
        "waitingFor": []
      }
    ]
    "#);
    rotate(&test).await;
    assert_eq!(list(&test).await.as_array().unwrap().len(), 2, "no further key");
}

#[tokio::test]
async fn withdrawn_keys_are_gone_at_once() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({ "aadAuthEnabled": true })).await;
    let id = list(&test).await[0]["id"].as_str().unwrap().to_owned();
    let path = format!("{PATH}/{id}");
    let before = test.post_nothing("/services/svc/token").await.body["accessToken"].take();
    let withdrawn = test.request(Method::DELETE, &path).send().await;
    assert_eq!((withdrawn.status.as_u16(), &withdrawn.body["state"]), (202, &json!("Succeeded")));
    let keys = list(&test).await;
    assert_eq!(keys.as_array().unwrap().len(), 1);
    assert_ne!(keys[0]["id"], id);
    assert_eq!(keys[0]["state"], "signing");
    let jwks = test.request(Method::GET, "/.well-known/jwks.json").anonymous().send().await;
    assert_eq!(jwks.body["keys"][0]["kid"], keys[0]["id"]);
    assert_ne!(test.post_nothing("/services/svc/token").await.body["accessToken"], before);
    let again = test.request(Method::DELETE, &path).send().await;
    assert_eq!(
        (again.status.as_u16(), again.message()),
        (404, format!("there is no signing key `{id}`").as_str())
    );
}

#[tokio::test]
async fn signing_keys_are_for_owners() {
    let test = TestWorkspace::start().await;
    let contributor = test.principal(Role::Contributor).await;
    for (method, path) in [
        (Method::GET, PATH.to_owned()),
        (Method::POST, PATH.to_owned()),
        (Method::DELETE, format!("{PATH}/x")),
    ] {
        let answer = test.request(method, &path).bearer(&contributor).send().await;
        assert_eq!(answer.status, 403);
    }
    assert_eq!(list(&test).await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_client_says_for_how_long_gates_are_waited_for() {
    let test = TestWorkspace::start().await;
    let _gate = test.silent_gate().await;
    let begun = test.request(Method::POST, PATH).header("prefer", "wait=3").send().await;
    let path = format!("/operations/{}", begun.body["id"].as_str().unwrap());
    test.clock.advance(Duration::from_millis(2900));
    assert_eq!(test.get(&path).await.body["state"], "Running");
    test.clock.advance(Duration::from_millis(100));
    let mut ended = test.get(&path).await;
    while ended.body["state"] == "Running" {
        ended = test.get(&path).await;
    }
    let message = ended.body["error"]["message"].as_str().unwrap();
    assert!(message.contains("within 3 s") && message.ends_with("`silent`"), "{message}");
}
