//! `POST {workspace}/services`

use serde_json::{Value, json};

use crate::harness::TestWorkspace;

#[tokio::test]
async fn create_is_accepted_and_the_service_can_be_read_at_once() {
    let test = TestWorkspace::start().await;
    let answer = test.create("svc", json!({ "description": "d" })).await;
    let location = answer.header("operation-location").to_owned();
    assert!(location.starts_with(&format!("{}{}", test.base, TestWorkspace::path("/operations/"))));
    insta::assert_json_snapshot!(answer.stable(), @r#"
    {
      "createdTime": "2024-05-01T10:00:00Z",
      "endTime": "2024-05-01T10:00:00Z",
      "error": null,
      "id": "{uuid}",
      "operationType": "Create",
      "resourceLocation": "{base}/modelmanagement/v1.0/subscriptions/sub/resourceGroups/group/providers/Microsoft.MachineLearningServices/workspaces/ws/services/svc",
      "state": "Succeeded",
      "streamingOperationLog": "20240501100000|svc is registered with its authentication; scoregate builds no image and starts no pod: the model server runs behind your own Envoy#20240501100000|every connected gate enforces it"
    }
    "#);
    assert_eq!(test.get("/services/svc?expand=true").await.body["description"], "d");
}

/// `Model.deploy` of azureml-core sends this for AKS.
#[tokio::test]
async fn create_takes_what_the_sdk_sends() {
    let test = TestWorkspace::start().await;
    let body = json!({
        "name": "svc", "computeType": "AKS", "computeName": "aks", "description": null, "kvTags": { "t": "u" },
        "properties": {}, "keys": { "primaryKey": null, "secondaryKey": null },
        "environmentImageRequest": { "modelIds": ["m:1"] }, "authEnabled": false, "aadAuthEnabled": true,
        "numReplicas": null, "maxConcurrentRequestsPerContainer": null, "maxQueueWaitMs": null,
        "namespace": null, "scoringTimeoutMs": null, "location": null,
        "containerResourceRequirements":
            { "cpu": 1, "cpuLimit": null, "memoryInGB": 1, "memoryInGBLimit": null, "gpu": null },
        "livenessProbeRequirements": {
            "initialDelaySeconds": null, "periodSeconds": null, "failureThreshold": null,
            "successThreshold": null, "timeoutSeconds": null,
        },
    });
    assert_eq!(test.post("/services", &body).await.status, 202);
    insta::assert_json_snapshot!(test.get("/services/svc").await.stable(), @r#"
    {
      "aadAuthEnabled": true,
      "appInsightsEnabled": false,
      "authEnabled": false,
      "autoScaler": {
        "autoscaleEnabled": false,
        "maxReplicas": 10,
        "minReplicas": 1,
        "refreshPeriodInSeconds": 1,
        "targetUtilization": 70
      },
      "computeName": "aks",
      "computeType": "AKS",
      "containerResourceRequirements": {
        "cpu": 1,
        "cpuLimit": null,
        "gpu": null,
        "memoryInGB": 1,
        "memoryInGBLimit": null
      },
      "createdTime": "2024-05-01T10:00:00Z",
      "dataCollection": {
        "eventHubEnabled": false,
        "storageEnabled": false
      },
      "deploymentType": "HttpRealtimeEndpoint",
      "description": null,
      "error": null,
      "id": "svc",
      "kvTags": {
        "t": "u"
      },
      "livenessProbeRequirements": {
        "failureThreshold": 3,
        "initialDelaySeconds": 310,
        "periodSeconds": 10,
        "successThreshold": 1,
        "timeoutSeconds": 2
      },
      "maxConcurrentRequestsPerContainer": 1,
      "maxQueueWaitMs": 500,
      "name": "svc",
      "namespace": null,
      "numReplicas": 1,
      "properties": {
        "scoregate.model.m": "1"
      },
      "scoregate": {
        "hosts": [],
        "pathPrefixes": [
          "/api/v1/service/svc"
        ],
        "shadowUntil": null
      },
      "scoringTimeoutMs": 60000,
      "scoringUri": "https://models.example/api/v1/service/svc/score",
      "state": "Healthy",
      "updatedTime": "2024-05-01T10:00:00Z"
    }
    "#);
}

#[tokio::test]
async fn create_follows_the_flags_of_the_compute_type() {
    let test = TestWorkspace::start().await;
    let cases = [
        (json!({}), (true, Some(false))),
        (json!({ "aadAuthEnabled": true }), (false, Some(true))),
        (json!({ "authEnabled": false }), (false, Some(false))),
        (json!({ "computeType": "ACI" }), (false, None)),
        (json!({ "computeType": "aci", "authEnabled": true, "dnsNameLabel": "x" }), (true, None)),
    ];
    for (index, (members, (key, token))) in cases.into_iter().enumerate() {
        let name = format!("svc-{index}");
        // Services of ACI share the path `/score`: each needs a host of its own.
        let mut members = members;
        members["scoregate"] = json!({ "hosts": [format!("{name}.example")] });
        test.create(&name, members.clone()).await;
        let service = test.get(&format!("/services/{name}")).await.body;
        assert_eq!(service["authEnabled"], key, "{members}");
        assert_eq!(service.get("aadAuthEnabled").and_then(Value::as_bool), token, "{members}");
    }
}

#[tokio::test]
async fn create_keeps_chosen_keys_and_makes_up_the_other() {
    let test = TestWorkspace::start().await;
    let primary = "a-chosen-primary-key";
    test.create("svc", json!({ "keys": { "primaryKey": primary, "secondaryKey": null } })).await;
    let keys = test.post_nothing("/services/svc/listkeys").await.body;
    assert_eq!(keys["primaryKey"], primary);
    assert!(keys["secondaryKey"].as_str().unwrap().starts_with("sgk_"));
}

#[tokio::test]
async fn create_shows_hosts_in_canonical_form() {
    let test = TestWorkspace::start().await;
    let places = json!({ "hosts": ["Svc.Example.:443"], "pathPrefixes": ["/models/one"] });
    test.create("svc", json!({ "scoregate": places })).await;
    let service = test.get("/services/svc").await.body;
    assert_eq!(
        service["scoregate"],
        json!({ "hosts": ["svc.example"], "pathPrefixes": ["/models/one"], "shadowUntil": null })
    );
}

#[tokio::test]
async fn create_of_a_name_that_is_taken_is_409_and_changes_nothing() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({ "description": "first" })).await;
    let second = json!({ "name": "svc", "computeType": "AKS", "description": "second" });
    let answer = test.post("/services", &second).await;
    assert_eq!(answer.status, 409);
    assert_eq!(answer.message(), "a service named `svc` exists already");
    assert_eq!(test.get("/services/svc").await.body["description"], "first");
}

#[tokio::test]
async fn overwrite_changes_a_service_and_keeps_its_keys_and_uid() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({ "kvTags": { "a": "b" }, "numReplicas": 2 })).await;
    let keys = test.post_nothing("/services/svc/listkeys").await.body;
    let uid = test.workspace.service("svc").await.unwrap().uid;

    let overwrite = json!({ "overwrite": true, "description": "new", "aadAuthEnabled": true });
    let answer = test.create("svc", overwrite).await;
    assert!(!answer.header("operation-location").is_empty());
    let service = test.get("/services/svc").await.body;
    assert_eq!(service["description"], "new");
    assert_eq!(service["kvTags"], json!({}));
    assert_eq!(service["numReplicas"], 2);
    assert_eq!((&service["authEnabled"], &service["aadAuthEnabled"]), (&json!(false), &json!(true)));
    assert_eq!(test.post_nothing("/services/svc/listkeys").await.body, keys);
    assert_eq!(test.workspace.service("svc").await.unwrap().uid, uid);
}

#[tokio::test]
async fn overwrite_of_nothing_creates() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({ "overwrite": true })).await;
    assert_eq!(test.get("/services/svc").await.status, 200);
}

#[tokio::test]
async fn overwrite_by_several_at_once_creates_one_and_fails_nobody() {
    let test = TestWorkspace::start().await;
    let overwrite = async || {
        let body = json!({ "name": "svc", "computeType": "AKS", "overwrite": true });
        test.post("/services", &body).await.status.as_u16()
    };
    let statuses = tokio::join!(overwrite(), overwrite(), overwrite(), overwrite());
    assert_eq!(statuses, (202, 202, 202, 202));
}

#[tokio::test]
async fn overwrite_takes_the_present_keys_and_refuses_others() {
    let test = TestWorkspace::start().await;
    let keys = json!({ "primaryKey": "a-chosen-primary-key", "secondaryKey": null });
    test.create("svc", json!({ "keys": keys })).await;
    test.create("svc", json!({ "keys": keys, "overwrite": true })).await;
    let other = json!({
        "name": "svc", "computeType": "AKS", "overwrite": true,
        "keys": { "primaryKey": "another-primary-key" },
    });
    let answer = test.post("/services", &other).await;
    assert_eq!(answer.status, 400);
    assert!(!answer.body.to_string().contains("another-primary-key"));
}

#[tokio::test]
async fn create_takes_the_scoring_uri_from_its_tag() {
    let test = TestWorkspace::start().await;
    let tagged = |uri: &str| json!({ "kvTags": { "scoregate.scoringUri": uri } });
    test.create("svc", tagged("https://there.example/score")).await;
    assert_eq!(test.get("/services/svc").await.body["scoringUri"], "https://there.example/score");
    let operation =
        json!([{ "op": "replace", "path": "/kvTags", "value": tagged("not a URI")["kvTags"].clone() }]);
    let answer = test.patch("svc", operation).await;
    let message = "must be an http or https URL without user, query and fragment";
    assert_eq!(answer.status, 400);
    assert_eq!(answer.message(), format!("`/kvTags.scoregate.scoringUri` {message}"));
    test.patch("svc", json!([{ "op": "replace", "path": "/kvTags", "value": {} }])).await;
    let uri = "https://models.example/api/v1/service/svc/score";
    assert_eq!(test.get("/services/svc").await.body["scoringUri"], uri);
}
