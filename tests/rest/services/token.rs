//! `POST {workspace}/services/{name}/token`

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use scoregate::workspace::Role;
use serde_json::{Value, json};

use crate::harness::{Answer, TestWorkspace};

async fn token_service() -> TestWorkspace {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({ "aadAuthEnabled": true })).await;
    test
}

fn claims(answer: &Answer) -> Value {
    let token = answer.body["accessToken"].as_str().unwrap();
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn token_has_the_four_members_that_clients_need() {
    let test = token_service().await;
    let answer = test.post_nothing("/services/svc/token").await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (201, "no-store"));
    insta::assert_json_snapshot!(answer.stable_without("accessToken"), @r#"
    {
      "accessToken": "{...}",
      "expiryOn": 1714600800,
      "refreshAfter": 1714561200,
      "tokenType": "Bearer"
    }
    "#);
}

#[tokio::test]
async fn token_is_the_callers_own() {
    let test = token_service().await;
    let reader = test.principal(Role::Reader).await;
    let path = TestWorkspace::path("/services/svc/token");
    let answer = test.request(Method::POST, &path).bearer(&reader).send().await;
    let claims = claims(&answer);
    assert_eq!((&claims["sub"], &claims["iss"]), (&json!("a-reader"), &json!("https://issuer.example")));
}

#[tokio::test]
async fn token_is_handed_out_again_while_it_is_fresh() {
    let test = token_service().await;
    let ask = async || test.post_nothing("/services/svc/token").await.body["accessToken"].clone();
    let first = ask().await;
    test.clock.advance(Duration::from_secs(60));
    assert_eq!(ask().await, first);
    test.clock.advance(Duration::from_secs(3600));
    assert_ne!(ask().await, first);
}

#[tokio::test]
async fn token_can_be_shorter_but_not_longer_than_the_default() {
    let test = token_service().await;
    let short = test.post("/services/svc/token", &json!({ "expiresIn": 2 })).await;
    assert_eq!(short.status, 201);
    let claims = claims(&short);
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 2);
    for expires_in in [json!(12 * 3600 + 1), json!(0), json!(-1), json!(1.5), json!("2"), json!(u64::MAX)] {
        let answer = test.post("/services/svc/token", &json!({ "expiresIn": expires_in })).await;
        assert_eq!(answer.status, 400, "{expires_in}");
        assert!(answer.message().contains("expiresIn"), "{}", answer.message());
    }
}

/// The SDK reads a body that is not a JSON object as a crash.
#[tokio::test]
async fn token_of_a_service_without_tokens_is_409_with_a_json_object() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let answer = test.post_nothing("/services/svc/token").await;
    assert_eq!(answer.status, 409);
    insta::assert_json_snapshot!(answer.stable(), @r#"
    {
      "code": "Conflict",
      "correlation": {
        "RequestId": "{uuid}"
      },
      "details": [],
      "message": "`svc` is in key mode: it has no tokens",
      "statusCode": 409
    }
    "#);
    assert_eq!(test.post_nothing("/services/none/token").await.status, 404);
}

/// The gate's half, that the old token is refused, is the core's: tokens belong to the uid in their audience.
#[tokio::test]
async fn t100b_token_of_a_service_made_again_is_for_another_audience() {
    let test = token_service().await;
    let old = claims(&test.post_nothing("/services/svc/token").await);
    assert_eq!(test.delete("/services/svc").await.status, 202);
    assert_eq!(test.post_nothing("/services/svc/token").await.status, 404);
    test.create("svc", json!({ "aadAuthEnabled": true })).await;
    let new = claims(&test.post_nothing("/services/svc/token").await);
    assert_ne!(old["aud"], new["aud"]);
    let service = test.workspace.service("svc").await.unwrap();
    assert_eq!(new["aud"], format!("urn:scoregate:service:{}", service.uid));
}
