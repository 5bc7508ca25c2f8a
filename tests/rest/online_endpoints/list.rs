//! `GET {workspace}/onlineEndpoints`

use reqwest::Method;
use serde_json::json;

use super::ask;
use crate::harness::{Answer, TestWorkspace};

fn names(answer: &Answer) -> Vec<&str> {
    answer.body["value"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

async fn list(test: &TestWorkspace, query: &str) -> Answer {
    let path = format!("{}?api-version=x&{query}", TestWorkspace::resource("/onlineEndpoints"));
    test.request(Method::GET, &path).send().await
}

#[tokio::test]
async fn list_has_all_services_page_by_page() {
    let test = TestWorkspace::start().await;
    for name in ["one", "two", "three"] {
        test.create(name, json!({})).await;
    }
    let first = list(&test, "count=2&orderBy=CreatedAtAsc").await;
    assert_eq!(names(&first), ["one", "two"]);
    let link = first.body["nextLink"].as_str().unwrap();
    assert!(link.contains("api-version=x"), "{link}");
    let last = test.request(Method::GET, link.strip_prefix(&test.base).unwrap()).send().await;
    assert_eq!(names(&last), ["three"]);
    assert_eq!(last.body.get("nextLink"), None);
}

#[tokio::test]
async fn list_filters() {
    let test = TestWorkspace::start().await;
    test.create("aks", json!({ "kvTags": { "color": "blue" } })).await;
    test.create("aci", json!({ "computeType": "ACI", "kvTags": { "color": "red" } })).await;
    let cases = [
        ("computeType=Kubernetes", vec!["aks"]),
        ("computeType=Managed", vec!["aci"]),
        ("computeType=AzureMLCompute", vec![]),
        ("tags=color%3Dred", vec!["aci"]),
        ("name=aks", vec!["aks"]),
        ("orderBy=CreatedAtAsc", vec!["aks", "aci"]),
    ];
    for (query, expected) in cases {
        assert_eq!(names(&list(&test, query).await), expected, "{query}");
    }
}

#[tokio::test]
async fn list_has_what_a_read_has() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let endpoint = ask(&test, Method::GET, "/svc").await.body;
    assert_eq!(ask(&test, Method::GET, "").await.body, json!({ "value": [endpoint] }));
}
