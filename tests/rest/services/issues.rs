//! `/scoregate/v1/services/{name}/issues`

use reqwest::Method;
use scoregate::workspace::Role;
use serde_json::json;

use crate::harness::{Answer, TestWorkspace};

async fn issues(test: &TestWorkspace, name: &str) -> Answer {
    test.request(Method::GET, &format!("/scoregate/v1/services/{name}/issues")).send().await
}

#[tokio::test]
async fn issues_say_who_was_given_what_and_when_last() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({ "aadAuthEnabled": true })).await;
    assert_eq!(issues(&test, "svc").await.body["value"], json!([]));
    let reader = test.principal(Role::Reader).await;
    let path = TestWorkspace::path("/services/svc/token");
    for _ in 0..2 {
        test.clock.advance(std::time::Duration::from_secs(60));
        test.request(Method::POST, &path).bearer(&reader).send().await;
    }
    test.post_nothing("/services/svc/listkeys").await;
    insta::assert_json_snapshot!(issues(&test, "svc").await.stable(), @r#"
    {
      "since": "2024-05-01T10:00:00Z",
      "value": [
        {
          "keys": null,
          "principal": "a-reader",
          "tokens": {
            "count": 2,
            "lastTime": "2024-05-01T10:02:00Z"
          }
        },
        {
          "keys": {
            "count": 1,
            "lastTime": "2024-05-01T10:02:00Z"
          },
          "principal": "owner",
          "tokens": null
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn issues_of_an_unknown_service_are_404() {
    let test = TestWorkspace::start().await;
    assert_eq!(issues(&test, "none").await.status, 404);
}
