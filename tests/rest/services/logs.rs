//! `GET {workspace}/services/{name}/logs`

use serde_json::json;

use crate::harness::TestWorkspace;

#[tokio::test]
async fn logs_are_a_text_that_says_where_they_are() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let answer = test.get("/services/svc/logs?tail=5000&init=False").await;
    assert_eq!(answer.status, 200);
    assert!(answer.body["content"].as_str().unwrap().contains("model server"));
    assert_eq!(test.get("/services/none/logs").await.status, 404);
}
