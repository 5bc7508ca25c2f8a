//! `PUT {workspace}/onlineEndpoints/{name}` of an endpoint that is there

use reqwest::Method;
use serde_json::{Value, json};

use super::{ask, keys, make, put, send};
use crate::harness::TestWorkspace;

async fn shown(test: &TestWorkspace) -> Value {
    ask(test, Method::GET, "/ep-1").await.body
}

#[tokio::test]
async fn update_keeps_keys_and_uid_in_every_mode() {
    let test = TestWorkspace::start().await;
    make(&test, "ep-1", json!({})).await;
    let (before, uid) = (keys(&test, "ep-1").await, test.workspace.service("ep-1").await.unwrap().uid);
    for (given, mode) in [("AMLToken", "AMLToken"), ("Disabled", ""), ("Key", "Key")] {
        let answer = put(&test, "ep-1", json!({ "authMode": given })).await;
        assert_eq!((answer.status.as_u16(), &answer.body["properties"]["authMode"]), (200, &json!(mode)));
        assert_eq!(keys(&test, "ep-1").await, before, "{given}");
    }
    assert_eq!(test.workspace.service("ep-1").await.unwrap().uid, uid);
}

/// What the SDK does: it reads an endpoint, changes a member and writes all of it back.
#[tokio::test]
async fn update_with_what_was_read_changes_nothing() {
    let test = TestWorkspace::start().await;
    let services = [
        json!({ "computeName": "aks", "kvTags": { "a": "b" }, "properties": { "p": "q" }, "description": "d" }),
        json!({ "authEnabled": false }),
        json!({ "aadAuthEnabled": true }),
        json!({ "computeType": "ACI", "authEnabled": true }),
        json!({ "computeType": "ACI" }),
    ];
    for members in services {
        test.create("ep-1", members.clone()).await;
        let (before, service) = (shown(&test).await, test.get("/services/ep-1").await.body);
        let answer = send(&test, Method::PUT, "/ep-1", &before).await;
        assert_eq!((answer.status.as_u16(), &answer.body), (200, &before), "{members}");
        assert_eq!(test.get("/services/ep-1").await.body, service, "{members}");
        test.delete("/services/ep-1").await;
    }
}

#[tokio::test]
async fn update_replaces_the_whole_of_what_it_says() {
    let test = TestWorkspace::start().await;
    make(
        &test,
        "ep-1",
        json!({ "description": "d", "traffic": { "blue": 100 }, "properties": { "p": "q" } }),
    )
    .await;
    let changed = put(&test, "ep-1", json!({ "traffic": { "green": 100 } })).await.body;
    let properties = &changed["properties"];
    assert_eq!(properties["traffic"], json!({ "green": 100 }));
    assert_eq!((&properties["description"], &properties["properties"]), (&json!(null), &json!({})));
}

#[tokio::test]
async fn update_leaves_what_only_sdk_v1_knows() {
    let test = TestWorkspace::start().await;
    let members = json!({
        "numReplicas": 3, "namespace": "models", "scoregate": { "hosts": ["a.example"], "pathPrefixes": ["/x"] },
    });
    test.create("ep-1", members).await;
    assert_eq!(put(&test, "ep-1", json!({ "authMode": "AMLToken" })).await.status, 200);
    let service = test.get("/services/ep-1").await.body;
    assert_eq!((&service["numReplicas"], &service["namespace"]), (&json!(3), &json!("models")));
    let places = json!({ "hosts": ["a.example"], "pathPrefixes": ["/x"], "shadowUntil": null });
    assert_eq!(service["scoregate"], places);
    assert_eq!((&service["aadAuthEnabled"], &service["computeName"]), (&json!(true), &json!("aks")));
}

#[tokio::test]
async fn update_is_refused_where_it_would_make_another_thing() {
    let test = TestWorkspace::start().await;
    make(&test, "ep-1", json!({})).await;
    test.create("ep-aci", json!({ "computeType": "ACI", "authEnabled": true })).await;
    let cases = [
        ("ep-1", json!({ "compute": null }), "`computeType` cannot be changed"),
        ("ep-aci", json!({}), "`computeType` cannot be changed"),
        (
            "ep-aci",
            json!({ "compute": null, "authMode": "AMLToken" }),
            "token authentication is for AKS only",
        ),
        ("ep-1", json!({ "authMode": "AADToken" }), "`properties.authMode` cannot be `AADToken`"),
        ("ep-1", json!({ "keys": { "primaryKey": "another-key-of-mine" } }), "`keys` cannot be changed"),
    ];
    for (name, properties, message) in cases {
        let before = ask(&test, Method::GET, &format!("/{name}")).await.body;
        let answer = put(&test, name, properties.clone()).await;
        assert_eq!(answer.status, 400, "{name} {properties}");
        assert!(answer.message().starts_with(message), "{}", answer.message());
        assert_eq!(ask(&test, Method::GET, &format!("/{name}")).await.body, before);
    }
}
