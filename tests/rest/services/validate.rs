//! `POST {workspace}/services/validate...`

use serde_json::{Value, json};

use crate::harness::TestWorkspace;

/// `None` where the client would go on.
async fn validate(test: &TestWorkspace, path: &str, body: &Value) -> Option<String> {
    let answer = test.post(&format!("/services/validate{path}"), body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    match answer.body.get("error") {
        None => {
            assert_eq!(answer.body, json!({}));
            None
        }
        Some(error) => Some(error["message"].as_str().unwrap().to_owned()),
    }
}

#[tokio::test]
async fn validate_of_a_name_looks_at_rule_and_use() {
    let test = TestWorkspace::start().await;
    test.create("taken", json!({})).await;
    assert_eq!(validate(&test, "/name/free", &json!({})).await, None);
    let taken = validate(&test, "/name/taken", &json!({})).await;
    assert_eq!(taken.as_deref(), Some("a service named `taken` exists already"));
    assert!(validate(&test, "/name/Bad_Name", &json!({})).await.unwrap().contains("3 to 32"));
}

#[tokio::test]
async fn validate_of_create_refuses_what_create_would() {
    let test = TestWorkspace::start().await;
    test.create("taken", json!({})).await;
    let cases = [
        (json!({ "name": "svc", "computeType": "AKS" }), None),
        (json!({ "name": "taken", "computeType": "AKS", "overwrite": true }), None),
        (json!({ "name": "taken", "computeType": "AKS" }), Some("exists already")),
        (json!({ "name": "svc", "computeType": "ACI", "aadAuthEnabled": true }), Some("AKS only")),
        (
            json!({ "name": "svc", "computeType": "AKS", "authEnabled": true, "aadAuthEnabled": true }),
            Some("cannot both be on"),
        ),
        (
            json!({ "name": "svc", "computeType": "AKS", "keys": { "primaryKey": "short" } }),
            Some("16 to 512"),
        ),
    ];
    for (request, expected) in cases {
        let whole = json!({ "type": "Create", "serviceName": "svc", "createRequest": request, "updateRequest": null });
        for (path, body) in [("", &whole), ("/resource", &request)] {
            let message = validate(&test, path, body).await;
            match expected {
                None => assert_eq!(message, None, "{body}"),
                Some(part) => {
                    assert!(message.as_ref().is_some_and(|text| text.contains(part)), "{message:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn validate_of_update_and_delete() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let update = |name: &str, value: Value| {
        let patch = json!([{ "op": "replace", "path": "/aadAuthEnabled", "value": value }]);
        json!({ "type": "Update", "serviceName": name, "createRequest": null, "updateRequest": patch })
    };
    assert_eq!(validate(&test, "", &update("svc", json!(false))).await, None);
    assert!(validate(&test, "", &update("svc", json!(true))).await.unwrap().contains("cannot both be on"));
    assert!(validate(&test, "", &update("svc", json!("x"))).await.unwrap().contains("/aadAuthEnabled"));
    assert!(validate(&test, "", &update("none", json!(true))).await.unwrap().contains("none"));
    let delete =
        json!({ "type": "Delete", "serviceName": "none", "createRequest": null, "updateRequest": null });
    assert_eq!(validate(&test, "", &delete).await, None);
    assert!(validate(&test, "", &json!({ "type": "Rename" })).await.unwrap().contains("`type`"));
}

#[tokio::test]
async fn validate_changes_nothing() {
    let test = TestWorkspace::start().await;
    let request = json!({ "name": "svc", "computeType": "AKS" });
    validate(&test, "", &json!({ "type": "Create", "serviceName": "svc", "createRequest": request })).await;
    assert_eq!(test.get("/services/svc").await.status, 404);
}
