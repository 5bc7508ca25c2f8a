//! `/scoregate/v1/services/{name}/revokeTokens`

use reqwest::Method;
use scoregate::workspace::Role;
use serde_json::json;

use crate::harness::TestWorkspace;

fn path(name: &str) -> String {
    format!("/scoregate/v1/services/{name}/revokeTokens")
}

#[tokio::test]
async fn revoked_tokens_are_not_handed_out_again() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({ "aadAuthEnabled": true })).await;
    let before = test.post_nothing("/services/svc/token").await.body["accessToken"].take();
    let contributor = test.principal(Role::Contributor).await;
    let answer = test.request(Method::POST, &path("svc")).bearer(&contributor).send().await;
    assert_eq!((answer.status.as_u16(), &answer.body["operationType"]), (202, &json!("RevokeTokens")));
    assert_eq!(answer.body["state"], "Succeeded");
    assert_ne!(test.post_nothing("/services/svc/token").await.body["accessToken"], before);
}

#[tokio::test]
async fn revocation_is_not_for_readers_nor_of_what_is_not_there() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({ "aadAuthEnabled": true })).await;
    let reader = test.principal(Role::Reader).await;
    let answer = test.request(Method::POST, &path("svc")).bearer(&reader).send().await;
    assert_eq!(answer.status, 403);
    assert_eq!(test.request(Method::POST, &path("none")).send().await.status, 404);
}
