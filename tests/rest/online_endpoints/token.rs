//! `POST {workspace}/onlineEndpoints/{name}/token`

use reqwest::Method;
use scoregate::workspace::Role;
use serde_json::json;

use super::{ask, make, versioned};
use crate::harness::TestWorkspace;

#[tokio::test]
async fn token_is_that_of_sdk_v1_under_other_names() {
    let test = TestWorkspace::start().await;
    make(&test, "ep-1", json!({ "authMode": "AMLToken" })).await;
    let answer = ask(&test, Method::POST, "/ep-1/token").await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"));
    insta::assert_json_snapshot!(answer.stable_without("accessToken"), @r#"
    {
      "accessToken": "{...}",
      "expiryTimeUtc": 1714600800,
      "refreshAfterTimeUtc": 1714561200,
      "tokenType": "Bearer"
    }
    "#);
    let of_v1 = test.post_nothing("/services/ep-1/token").await.body;
    assert_eq!(of_v1["accessToken"], answer.body["accessToken"]);
}

#[tokio::test]
async fn token_is_for_readers_too() {
    let test = TestWorkspace::start().await;
    make(&test, "ep-1", json!({ "authMode": "AMLToken" })).await;
    let reader = test.principal(Role::Reader).await;
    let answer = test.request(Method::POST, &versioned("/ep-1/token")).bearer(&reader).send().await;
    assert_eq!(answer.status, 200);
}

/// The SDK asks for a token of all that has no keys, and scores without one where it gets none.
#[tokio::test]
async fn token_of_an_open_endpoint_is_none() {
    let test = TestWorkspace::start().await;
    make(&test, "ep-1", json!({ "authMode": "Disabled" })).await;
    let answer = ask(&test, Method::POST, "/ep-1/token").await;
    assert_eq!((answer.status.as_u16(), &answer.body["accessToken"]), (200, &json!(null)));
}

#[tokio::test]
async fn token_of_an_endpoint_with_keys_is_409() {
    let test = TestWorkspace::start().await;
    make(&test, "ep-1", json!({})).await;
    let answer = ask(&test, Method::POST, "/ep-1/token").await;
    assert_eq!((answer.status.as_u16(), answer.message()), (409, "`ep-1` is in key mode: it has no tokens"));
}
