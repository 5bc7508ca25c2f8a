//! `{workspace}/onlineEndpoints`, in Azure's tree of resources

mod create;
mod delete;
mod errors;
mod keys;
mod list;
mod operations;
mod read;
mod token;
mod update;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, TestWorkspace};

/// A request as the SDK makes it: with the version of the API that it speaks.
async fn ask(test: &TestWorkspace, method: Method, path: &str) -> Answer {
    test.request(method, &versioned(path)).send().await
}

async fn send(test: &TestWorkspace, method: Method, path: &str, body: &Value) -> Answer {
    test.request(method, &versioned(path)).json(body).send().await
}

fn versioned(path: &str) -> String {
    format!("{}?api-version=2022-02-01-preview", TestWorkspace::resource(&format!("/onlineEndpoints{path}")))
}

/// The body of a `PUT` as the SDK writes it, with these among its properties.
fn endpoint(properties: &Value) -> Value {
    let mut body = json!({
        "location": "local",
        "tags": {},
        "identity": { "type": "SystemAssigned" },
        "properties": {
            "authMode": "Key", "properties": {}, "traffic": {}, "mirrorTraffic": {},
            "compute": TestWorkspace::resource("/computes/aks"),
        },
    });
    for (member, value) in properties.as_object().unwrap() {
        body["properties"][member] = value.clone();
    }
    body
}

async fn put(test: &TestWorkspace, name: &str, properties: Value) -> Answer {
    send(test, Method::PUT, &format!("/{name}"), &endpoint(&properties)).await
}

/// Makes one that must be made.
async fn make(test: &TestWorkspace, name: &str, properties: Value) -> Answer {
    let answer = put(test, name, properties).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer
}

async fn keys(test: &TestWorkspace, name: &str) -> (String, String) {
    let answer = ask(test, Method::POST, &format!("/{name}/listKeys")).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"));
    let key = |member: &str| answer.body[member].as_str().unwrap().to_owned();
    (key("primaryKey"), key("secondaryKey"))
}
