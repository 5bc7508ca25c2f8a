//! `POST {workspace}/services/{name}/listkeys` and `.../regenerateKeys`

use serde_json::{Value, json};

use crate::harness::TestWorkspace;

async fn keys(test: &TestWorkspace) -> (String, String) {
    let answer = test.post_nothing("/services/svc/listkeys").await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"));
    let key = |member: &str| answer.body[member].as_str().unwrap().to_owned();
    (key("primaryKey"), key("secondaryKey"))
}

async fn regenerate(test: &TestWorkspace, body: Value) {
    let answer = test.post("/services/svc/regenerateKeys", &body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert!(answer.header("operation-location").starts_with(&test.base));
    assert_eq!(answer.body["operationType"], "RegenerateKeys");
}

#[tokio::test]
async fn keys_are_two_in_every_mode() {
    let test = TestWorkspace::start().await;
    for flags in [json!({}), json!({ "aadAuthEnabled": true }), json!({ "authEnabled": false })] {
        test.create("svc", flags).await;
        let (primary, secondary) = keys(&test).await;
        assert!(primary.starts_with("sgk_") && secondary.starts_with("sgk_") && primary != secondary);
        test.delete("/services/svc").await;
    }
}

#[tokio::test]
async fn regenerate_replaces_one_key_and_leaves_the_other() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let bodies = [
        (json!({ "keyType": "Primary", "keyValue": null }), true),
        (json!({ "keyType": "Secondary" }), false),
        (json!({ "keyType": "primary" }), true),
        (json!({ "keyType": 0 }), true),
        (json!({ "keyType": 1, "keyValue": null }), false),
    ];
    for (body, is_primary) in bodies {
        let before = keys(&test).await;
        regenerate(&test, body.clone()).await;
        let after = keys(&test).await;
        assert_eq!((before.0 != after.0, before.1 != after.1), (is_primary, !is_primary), "{body}");
    }
}

#[tokio::test]
async fn regenerate_takes_a_chosen_key() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    regenerate(&test, json!({ "keyType": "Secondary", "keyValue": "a-key-that-i-chose" })).await;
    assert_eq!(keys(&test).await.1, "a-key-that-i-chose");
}

#[tokio::test]
async fn regenerate_refuses_the_key_of_the_other_slot() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let before = keys(&test).await;
    let body = json!({ "keyType": "Primary", "keyValue": before.1 });
    let answer = test.post("/services/svc/regenerateKeys", &body).await;
    assert_eq!(answer.status, 400);
    assert!(!answer.body.to_string().contains(&before.1));
    assert_eq!(keys(&test).await, before);
}

#[tokio::test]
async fn keys_of_an_unknown_service_are_404() {
    let test = TestWorkspace::start().await;
    assert_eq!(test.post_nothing("/services/none/listkeys").await.status, 404);
    let body = json!({ "keyType": "Primary" });
    assert_eq!(test.post("/services/none/regenerateKeys", &body).await.status, 404);
}
