//! `/scoregate/v1/services/{name}/uses`

use reqwest::Method;
use scoregate_authz::Slot;
use serde_json::json;

use crate::harness::{Answer, START, TestWorkspace};

async fn uses(test: &TestWorkspace, name: &str) -> Answer {
    test.request(Method::GET, &format!("/scoregate/v1/services/{name}/uses")).send().await
}

#[tokio::test]
async fn uses_say_how_often_each_key_was_accepted_and_when_last() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let _gate = test.gate_that_accepted("svc", &[(Slot::Primary, 12, START - 60)]).await;
    insta::assert_json_snapshot!(uses(&test, "svc").await.stable(), @r#"
    {
      "asOf": "2024-05-01T10:00:00Z",
      "value": [
        {
          "count": 12,
          "credential": "primary",
          "lastTime": "2024-05-01T09:59:00Z"
        },
        {
          "count": 0,
          "credential": "secondary",
          "lastTime": null
        },
        {
          "count": 0,
          "credential": "token",
          "lastTime": null
        }
      ]
    }
    "#);
    test.post("/services/svc/regenerateKeys", &json!({ "keyType": "Primary" })).await;
    assert_eq!(uses(&test, "svc").await.body["value"][0]["count"], 0, "a new key has no past");
}

#[tokio::test]
async fn uses_of_an_unknown_service_are_404() {
    let test = TestWorkspace::start().await;
    assert_eq!(uses(&test, "none").await.status, 404);
}
