//! `{workspace}/operationsStatus/{id}`, and the answers that send clients there

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{ask, endpoint, make, send};
use crate::harness::{Answer, TestWorkspace};

async fn poll(test: &TestWorkspace, begun: &Answer) -> Answer {
    let location = begun.header("azure-asyncoperation");
    let path = location.strip_prefix(&test.base).expect("the location is absolute");
    let answer = test.request(Method::GET, path).send().await;
    // Without it Azure's clients look again after 30 s.
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (200, "1"));
    answer
}

#[tokio::test]
async fn changes_that_a_gate_does_not_confirm_are_polled_until_they_fail() {
    let test = TestWorkspace::start().await;
    make(&test, "ep-1", json!({})).await;
    let _gate = test.silent_gate().await;
    let regenerated =
        send(&test, Method::POST, "/ep-1/regenerateKeys", &json!({ "keyType": "Primary" })).await;
    let changed = send(&test, Method::PUT, "/ep-1", &endpoint(&json!({ "authMode": "AMLToken" }))).await;
    let deleted = ask(&test, Method::DELETE, "/ep-1").await;
    let statuses = [&regenerated, &changed, &deleted].map(|answer| answer.status.as_u16());
    assert_eq!(statuses, [202, 200, 202]);
    assert_eq!(changed.body["properties"]["authMode"], "AMLToken");
    let (first, second, third) =
        tokio::join!(poll(&test, &regenerated), poll(&test, &changed), poll(&test, &deleted));
    for operation in [first, second, third] {
        assert_eq!(operation.body["status"], "InProgress");
    }
    test.clock.advance(Duration::from_secs(11));
    let mut operation = poll(&test, &regenerated).await;
    while operation.body["status"] == "InProgress" {
        operation = poll(&test, &regenerated).await;
    }
    insta::assert_json_snapshot!(operation.stable(), @r#"
    {
      "endTime": "2024-05-01T10:00:11Z",
      "error": {
        "code": "NotEnforced",
        "message": "the primary key of `ep-1` has changed, but these gates have not confirmed it within 10 s and may decide as before until they do: `silent`"
      },
      "id": "/subscriptions/sub/resourceGroups/group/providers/Microsoft.MachineLearningServices/workspaces/ws/operationsStatus/{uuid}",
      "name": "{uuid}",
      "startTime": "2024-05-01T10:00:00Z",
      "status": "Failed"
    }
    "#);
}

#[tokio::test]
async fn unknown_operations_are_404() {
    let test = TestWorkspace::start().await;
    for id in ["00000000-0000-0000-0000-000000000000", "no-uuid"] {
        let path = TestWorkspace::resource(&format!("/operationsStatus/{id}"));
        assert_eq!(test.request(Method::GET, &path).send().await.status, 404, "{id}");
    }
}
