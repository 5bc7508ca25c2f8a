//! `GET {workspace}/services/{name}`

use serde_json::json;

use crate::harness::TestWorkspace;

#[tokio::test]
async fn service_that_is_unknown_is_404() {
    let test = TestWorkspace::start().await;
    let answer = test.get("/services/none?expand=true").await;
    assert_eq!(answer.status, 404);
    insta::assert_json_snapshot!(answer.stable(), @r#"
    {
      "code": "NotFound",
      "correlation": {
        "RequestId": "{uuid}"
      },
      "details": [],
      "message": "no service is named `none`",
      "statusCode": 404
    }
    "#);
}

#[tokio::test]
async fn service_of_aci_has_its_own_shape_and_scoring_uri() {
    let test = TestWorkspace::start().await;
    let members = json!({
        "computeType": "ACI", "location": "here", "sslEnabled": true, "sslCertificate": "PEM", "sslKey": "PEM",
        "scoregate": { "hosts": ["svc.example"] },
    });
    test.create("svc", members).await;
    insta::assert_json_snapshot!(test.get("/services/svc").await.stable(), @r#"
    {
      "appInsightsEnabled": false,
      "authEnabled": false,
      "cname": null,
      "computeType": "ACI",
      "containerResourceRequirements": {
        "cpu": 0.1,
        "cpuLimit": null,
        "gpu": null,
        "memoryInGB": 0.5,
        "memoryInGBLimit": null
      },
      "createdTime": "2024-05-01T10:00:00Z",
      "deploymentType": "HttpRealtimeEndpoint",
      "description": null,
      "error": null,
      "id": "svc",
      "kvTags": {},
      "location": "here",
      "name": "svc",
      "properties": {},
      "publicIp": null,
      "scoregate": {
        "hosts": [
          "svc.example"
        ],
        "pathPrefixes": [
          "/score"
        ],
        "shadowUntil": null
      },
      "scoringUri": "https://svc.example/score",
      "sslCertificate": null,
      "sslEnabled": true,
      "sslKey": null,
      "state": "Healthy",
      "updatedTime": "2024-05-01T10:00:00Z"
    }
    "#);
}

/// `validate` and `migrate` are words in the place of a name, and names that Azure's clients accept.
#[tokio::test]
async fn service_may_be_named_like_a_fixed_word() {
    let test = TestWorkspace::start().await;
    for name in ["validate", "migrate"] {
        test.create(name, json!({})).await;
        assert_eq!(test.get(&format!("/services/{name}")).await.status, 200, "{name}");
        let description = json!([{ "op": "replace", "path": "/description", "value": "d" }]);
        assert_eq!(test.patch(name, description).await.status, 200, "{name}");
        assert_eq!(test.post_nothing(&format!("/services/{name}/listkeys")).await.status, 200, "{name}");
        assert_eq!(test.get(&format!("/services/{name}/logs")).await.status, 200, "{name}");
        assert_eq!(test.delete(&format!("/services/{name}")).await.status, 202, "{name}");
    }
    assert_eq!(test.post("/services/migrate", &json!({})).await.status, 404);
}
