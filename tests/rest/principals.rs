//! `/scoregate/v1/principals`

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, TestWorkspace};

const PATH: &str = "/scoregate/v1/principals";

async fn create(test: &TestWorkspace, body: Value) -> Answer {
    test.request(Method::POST, PATH).json(&body).send().await
}

#[tokio::test]
async fn principal_is_made_with_a_credential_that_works() {
    let test = TestWorkspace::start().await;
    let answer = create(&test, json!({ "name": "robot", "role": "reader" })).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (201, "no-store"));
    insta::assert_json_snapshot!(answer.stable_without("credential"), @r#"
    {
      "createdTime": "2024-05-01T10:00:00Z",
      "credential": "{...}",
      "name": "robot",
      "role": "reader"
    }
    "#);
    let credential = answer.body["credential"].as_str().unwrap();
    let services = test.request(Method::GET, &TestWorkspace::path("/services")).bearer(credential);
    assert_eq!(services.send().await.status, 200);
}

#[tokio::test]
async fn list_shows_no_credentials() {
    let test = TestWorkspace::start().await;
    create(&test, json!({ "name": "robot", "role": "gate" })).await;
    let answer = test.request(Method::GET, PATH).send().await;
    insta::assert_json_snapshot!(answer.stable(), @r#"
    {
      "value": [
        {
          "createdTime": "2024-05-01T10:00:00Z",
          "name": "owner",
          "role": "owner"
        },
        {
          "createdTime": "2024-05-01T10:00:00Z",
          "name": "robot",
          "role": "gate"
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn delete_ends_a_principal_but_not_the_last_owner() {
    let test = TestWorkspace::start().await;
    create(&test, json!({ "name": "robot", "role": "reader" })).await;
    let delete = async |name: &str| test.request(Method::DELETE, &format!("{PATH}/{name}")).send().await;
    assert_eq!(delete("robot").await.status, 204);
    assert_eq!(delete("robot").await.status, 404);
    let last = delete("owner").await;
    assert_eq!(last.status, 409);
    assert_eq!(last.message(), "`owner` is the only owner: without one nobody could manage this workspace");
}

#[tokio::test]
async fn name_that_is_taken_is_409() {
    let test = TestWorkspace::start().await;
    let answer = create(&test, json!({ "name": "owner", "role": "reader" })).await;
    assert_eq!((answer.status.as_u16(), answer.body["code"].as_str()), (409, Some("Conflict")));
}
