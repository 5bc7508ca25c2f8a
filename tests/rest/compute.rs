//! `/rp/workspaces/.../computes/{name}`

use reqwest::Method;

use crate::harness::{Answer, TestWorkspace};

async fn read(name: &str) -> Answer {
    let test = TestWorkspace::start().await;
    let scope =
        "/subscriptions/sub/resourceGroups/group/providers/Microsoft.MachineLearningServices/workspaces/ws";
    test.request(Method::GET, &format!("/rp/workspaces{scope}/computes/{name}")).send().await
}

#[tokio::test]
async fn read_gives_a_stand_in_of_aks() {
    let answer = read("my-cluster").await;
    assert_eq!(answer.status, 200);
    insta::assert_json_snapshot!(answer.stable(), @r#"
    {
      "id": "/subscriptions/sub/resourceGroups/group/providers/Microsoft.MachineLearningServices/workspaces/ws/computes/my-cluster",
      "location": "local",
      "name": "my-cluster",
      "properties": {
        "computeLocation": "local",
        "computeType": "AKS",
        "description": "A stand-in: scoregate runs nothing. It is there to be named in a deployment.",
        "isAttachedCompute": true,
        "properties": null,
        "provisioningErrors": null,
        "provisioningState": "Succeeded",
        "resourceId": null
      },
      "tags": {},
      "type": "Microsoft.MachineLearningServices/workspaces/computes"
    }
    "#);
}

#[tokio::test]
async fn read_of_what_is_no_name_is_404() {
    for name in ["a%20b", "a%2Fb", &"x".repeat(65)] {
        assert_eq!(read(name).await.status, 404, "{name}");
    }
}
