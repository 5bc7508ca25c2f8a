//! `GET {workspace}/onlineEndpoints/{name}` and its deployments

use reqwest::Method;
use serde_json::json;

use super::ask;
use crate::harness::TestWorkspace;

#[tokio::test]
async fn services_of_sdk_v1_are_endpoints() {
    let test = TestWorkspace::start().await;
    test.create("aks", json!({})).await;
    test.create("aks-named", json!({ "computeName": "cluster", "aadAuthEnabled": true })).await;
    test.create("aks-open", json!({ "authEnabled": false })).await;
    test.create("aci", json!({ "computeType": "ACI", "authEnabled": true })).await;
    test.create("aci-open", json!({ "computeType": "ACI" })).await;
    let cases = [
        ("aks", "K8S", json!(TestWorkspace::resource("/computes/unnamed")), "Key"),
        ("aks-named", "K8S", json!(TestWorkspace::resource("/computes/cluster")), "AMLToken"),
        ("aks-open", "K8S", json!(TestWorkspace::resource("/computes/unnamed")), ""),
        ("aci", "Managed", json!(null), "Key"),
        ("aci-open", "Managed", json!(null), ""),
    ];
    for (name, kind, compute, mode) in cases {
        let endpoint = ask(&test, Method::GET, &format!("/{name}")).await.body;
        assert_eq!((&endpoint["name"], &endpoint["kind"]), (&json!(name), &json!(kind)));
        let properties = &endpoint["properties"];
        assert_eq!((&properties["compute"], &properties["authMode"]), (&compute, &json!(mode)), "{name}");
        let service = test.get(&format!("/services/{name}")).await.body;
        assert_eq!(properties["scoringUri"], service["scoringUri"]);
    }
}

/// The SDK fails to read an endpoint whose deployments are 404, or are not complete.
#[tokio::test]
async fn deployments_are_none() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let answer = ask(&test, Method::GET, "/svc/deployments").await;
    assert_eq!((answer.status.as_u16(), answer.body), (200, json!({ "value": [] })));
}
