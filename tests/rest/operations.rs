//! `{workspace}/operations/{id}`

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
      "state": "Succeeded"
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
