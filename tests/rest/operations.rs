//! `{workspace}/operations/{id}`

use std::time::Duration;

use serde_json::json;

use crate::harness::TestWorkspace;

#[tokio::test]
async fn operation_is_at_its_location_and_succeeded_without_gates() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let begun = test.post("/services/svc/regenerateKeys", &json!({ "keyType": "Primary" })).await;
    let location = begun.header("operation-location");
    let path = location.strip_prefix(&test.base).expect("the location is absolute");
    let operation = test.request(reqwest::Method::GET, path).send().await;
    assert_eq!(operation.status, 200);
    insta::assert_json_snapshot!(operation.stable(), @r#"
    {
      "createdTime": "2024-05-01T10:00:00Z",
      "endTime": "2024-05-01T10:00:00Z",
      "error": null,
      "id": "{uuid}",
      "operationType": "RegenerateKeys",
      "resourceLocation": "{base}/modelmanagement/v1.0/subscriptions/sub/resourceGroups/group/providers/Microsoft.MachineLearningServices/workspaces/ws/services/svc",
      "state": "Succeeded",
      "streamingOperationLog": "20240501100000|the change of svc is committed; the gates are to confirm it#20240501100000|every connected gate enforces it"
    }
    "#);
}

#[tokio::test]
async fn operation_that_a_gate_does_not_confirm_times_out_and_says_what_has_happened() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let _gate = test.silent_gate().await;
    let begun = test.post("/services/svc/regenerateKeys", &json!({ "keyType": "Primary" })).await;
    assert_eq!((begun.status.as_u16(), &begun.body["state"]), (202, &json!("Running")));
    test.clock.advance(Duration::from_secs(11));
    let path = format!("/operations/{}", begun.body["id"].as_str().unwrap());
    let mut operation = test.get(&path).await;
    while operation.body["state"] == "Running" {
        tokio::time::sleep(Duration::from_millis(20)).await;
        operation = test.get(&path).await;
    }
    insta::assert_json_snapshot!(operation.stable(), @r#"
    {
      "createdTime": "2024-05-01T10:00:00Z",
      "endTime": "2024-05-01T10:00:11Z",
      "error": {
        "code": "NotEnforced",
        "message": "the primary key of `svc` has changed, but these gates have not confirmed it within 10 s and may decide as before until they do: `silent`"
      },
      "id": "{uuid}",
      "operationType": "RegenerateKeys",
      "resourceLocation": "{base}/modelmanagement/v1.0/subscriptions/sub/resourceGroups/group/providers/Microsoft.MachineLearningServices/workspaces/ws/services/svc",
      "state": "TimedOut",
      "streamingOperationLog": "20240501100000|the change of svc is committed; the gates are to confirm it#20240501100011|the primary key of `svc` has changed, but these gates have not confirmed it within 10 s and may decide as before until they do: `silent`"
    }
    "#);
}

#[tokio::test]
async fn unknown_operations_are_404() {
    let test = TestWorkspace::start().await;
    for id in ["00000000-0000-0000-0000-000000000000", "no-uuid"] {
        assert_eq!(test.get(&format!("/operations/{id}")).await.status, 404, "{id}");
    }
}
