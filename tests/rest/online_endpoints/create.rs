//! `PUT {workspace}/onlineEndpoints/{name}` of a name that is free

use reqwest::Method;
use serde_json::{Value, json};

use super::{ask, endpoint, keys, make, put, send};
use crate::harness::TestWorkspace;

#[tokio::test]
async fn create_answers_with_the_endpoint_as_the_next_read_has_it() {
    let test = TestWorkspace::start().await;
    let answer = make(&test, "ep-1", json!({ "description": "d", "properties": { "p": "q" } })).await;
    assert_eq!(answer.header("azure-asyncoperation"), "", "it is done");
    assert_eq!(answer.body, ask(&test, Method::GET, "/ep-1").await.body);
    insta::assert_json_snapshot!(answer.stable(), @r#"
    {
      "id": "/subscriptions/sub/resourceGroups/group/providers/Microsoft.MachineLearningServices/workspaces/ws/onlineEndpoints/ep-1",
      "identity": {
        "type": "SystemAssigned"
      },
      "kind": "K8S",
      "location": "local",
      "name": "ep-1",
      "properties": {
        "authMode": "Key",
        "compute": "/subscriptions/sub/resourceGroups/group/providers/Microsoft.MachineLearningServices/workspaces/ws/computes/aks",
        "description": "d",
        "mirrorTraffic": {},
        "properties": {
          "p": "q"
        },
        "provisioningState": "Succeeded",
        "publicNetworkAccess": "Enabled",
        "scoringUri": "https://models.example/api/v1/service/ep-1/score",
        "swaggerUri": "https://models.example/api/v1/service/ep-1/swagger.json",
        "traffic": {}
      },
      "tags": {},
      "type": "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
    }
    "#);
}

#[tokio::test]
async fn create_with_each_mode_makes_what_sdk_v1_sees() {
    let test = TestWorkspace::start().await;
    let cases = [
        (json!("Key"), "Key", (true, false)),
        (json!("key"), "Key", (true, false)),
        (json!("AMLToken"), "AMLToken", (false, true)),
        (json!("disabled"), "", (false, false)),
        (json!(""), "Key", (true, false)),
        (json!(null), "Key", (true, false)),
    ];
    for (index, (given, shown, flags)) in cases.into_iter().enumerate() {
        let name = format!("ep-{index}");
        let answer = make(&test, &name, json!({ "authMode": given })).await;
        assert_eq!(answer.body["properties"]["authMode"], shown, "{given}");
        let service = test.get(&format!("/services/{name}")).await.body;
        assert_eq!((&service["authEnabled"], &service["aadAuthEnabled"]), (&json!(flags.0), &json!(flags.1)));
        assert_eq!((&service["computeType"], &service["computeName"]), (&json!("AKS"), &json!("aks")));
    }
}

#[tokio::test]
async fn create_refuses_what_is_not_here() {
    let test = TestWorkspace::start().await;
    let cases = [
        (json!({ "authMode": "AADToken" }), "`properties.authMode` cannot be `AADToken`"),
        (json!({ "authMode": "Password" }), "`properties.authMode` must be `Key`, `AMLToken` or `Disabled`"),
        (json!({ "authMode": 1 }), "`properties.authMode` must be a text"),
        (json!({ "compute": null }), "`properties.compute` is missing"),
        (json!({ "compute": "/computes/" }), "`properties.compute` must end with a name"),
        (json!({ "traffic": { "blue": 101 } }), "`properties.traffic` must have whole numbers from 0 to 100"),
        (json!({ "mirrorTraffic": [] }), "`properties.mirrorTraffic` must be an object"),
        (json!({ "keys": { "primaryKey": "short" } }), "`keys.primaryKey` cannot be used"),
    ];
    for (properties, message) in cases {
        let answer = put(&test, "ep-1", properties.clone()).await;
        assert_eq!(answer.status, 400, "{properties}");
        assert!(answer.message().starts_with(message), "{}", answer.message());
        assert_eq!(ask(&test, Method::GET, "/ep-1").await.status, 404);
    }
    for name in ["ep", "-ep", "ep_1"] {
        assert_eq!(put(&test, name, json!({})).await.status, 400, "{name}");
    }
}

#[tokio::test]
async fn create_refuses_a_body_that_is_no_endpoint() {
    let test = TestWorkspace::start().await;
    for body in [json!([]), json!({}), json!({ "properties": null }), json!({ "properties": "x" })] {
        assert_eq!(send(&test, Method::PUT, "/ep-1", &body).await.status, 400, "{body}");
    }
}

#[tokio::test]
async fn create_takes_chosen_keys() {
    let test = TestWorkspace::start().await;
    let chosen = json!({ "primaryKey": "a-primary-key-of-mine", "secondaryKey": "a-secondary-key-of-mine" });
    let answer = make(&test, "ep-1", json!({ "keys": chosen })).await;
    assert!(!answer.body.to_string().contains("of-mine"));
    let expected = ("a-primary-key-of-mine".to_owned(), "a-secondary-key-of-mine".to_owned());
    assert_eq!(keys(&test, "ep-1").await, expected);
}

#[tokio::test]
async fn create_keeps_what_must_be_given_back() {
    let test = TestWorkspace::start().await;
    let mut body = endpoint(&json!({
        "traffic": { "blue": 90, "green": 10 }, "mirrorTraffic": { "green": 5 }, "publicNetworkAccess": "Disabled",
    }));
    let identity =
        json!({ "type": "UserAssigned", "userAssignedIdentities": { "/subscriptions/x/ids/y": {} } });
    body["identity"] = identity.clone();
    body["tags"] = json!({ "team": "blue", "n": 1 });
    assert_eq!(send(&test, Method::PUT, "/ep-1", &body).await.status, 201);
    let shown = ask(&test, Method::GET, "/ep-1").await.body;
    let properties = &shown["properties"];
    assert_eq!(properties["traffic"], json!({ "blue": 90, "green": 10 }));
    assert_eq!(properties["mirrorTraffic"], json!({ "green": 5 }));
    assert_eq!(properties["publicNetworkAccess"], "Disabled");
    assert_eq!(shown["identity"], identity);
    assert_eq!(shown["tags"], json!({ "team": "blue", "n": "1" }));
}

/// SDK v1 rejects an object that lacks a member, and shows all that it has.
#[tokio::test]
async fn create_leaves_sdk_v1s_object_as_it_is() {
    let test = TestWorkspace::start().await;
    test.create("one", json!({ "computeName": "aks" })).await;
    make(&test, "two", json!({ "traffic": { "blue": 100 } })).await;
    let members = async |name: &str| -> Value {
        let mut service = test.get(&format!("/services/{name}")).await.body;
        for own in ["id", "name", "scoringUri", "scoregate"] {
            service[own] = Value::Null;
        }
        service
    };
    assert_eq!(members("one").await, members("two").await);
}

#[tokio::test]
async fn create_by_several_at_once_makes_one_and_fails_nobody() {
    let test = TestWorkspace::start().await;
    let put = async || put(&test, "ep-1", json!({})).await.status.as_u16();
    let mut statuses: [u16; 4] = tokio::join!(put(), put(), put(), put()).into();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 201]);
}
