//! `DELETE {workspace}/services/{name}`

use serde_json::json;

use crate::harness::TestWorkspace;

#[tokio::test]
async fn delete_is_accepted_and_the_service_is_gone_at_once() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let answer = test.delete("/services/svc").await;
    assert_eq!((answer.status.as_u16(), &answer.body["operationType"]), (202, &json!("Delete")));
    assert!(answer.header("operation-location").starts_with(&test.base));
    assert_eq!(test.get("/services/svc").await.status, 404);
}

/// Azure's clients take 404 for a failure.
#[tokio::test]
async fn delete_of_an_unknown_service_is_204() {
    let test = TestWorkspace::start().await;
    for name in ["none", "not%20even%20a%20name"] {
        assert_eq!(test.delete(&format!("/services/{name}")).await.status, 204, "{name}");
    }
}
