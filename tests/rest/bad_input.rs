//! Bad input: one clear message that names the field, a 4xx JSON error, and nothing is changed.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::TestWorkspace;

const JSON: &str = "application/json";
const PATCH: &str = "application/json-patch+json";

struct Case {
    method: Method,
    path: &'static str,
    content_type: &'static str,
    body: String,
    status: u16,
    message: &'static str,
}

fn case(method: Method, path: &'static str, body: impl ToString, status: u16, message: &'static str) -> Case {
    let content_type = if method == Method::PATCH { PATCH } else { JSON };
    Case { method, path, content_type, body: body.to_string(), status, message }
}

fn create(members: Value, message: &'static str) -> Case {
    let mut body = json!({ "name": "new", "computeType": "AKS" });
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    case(Method::POST, "/services", body, 400, message)
}

fn regenerate(body: Value, message: &'static str) -> Case {
    case(Method::POST, "/services/svc/regenerateKeys", body, 400, message)
}

fn patch(path: &str, value: Value, message: &'static str) -> Case {
    let body = json!([{ "op": "replace", "path": path, "value": value }]);
    case(Method::PATCH, "/services/svc", body, 400, message)
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    let name_rule = "`name` cannot be this: a service name has 3 to 32 lower-case letters, digits and dashes, starts with a letter and ends with a letter or digit";
    let both = "key and token authentication cannot both be on: turn one of them off in the same request";
    let aci = "token authentication is for AKS only: an ACI service has keys or no authentication";
    vec![
        create(json!({ "name": "Bad_Name" }), name_rule),
        create(json!({ "name": "ab" }), name_rule),
        create(json!({ "name": null }), "`name` is missing"),
        create(json!({ "name": 1 }), "`name` must be a text"),
        create(json!({ "computeType": "VM" }), "`computeType` cannot be this: the compute type is `AKS` or `ACI`"),
        create(json!({ "computeType": null }), "`computeType` is missing"),
        create(json!({ "authEnabled": true, "aadAuthEnabled": true }), both),
        create(json!({ "computeType": "ACI", "aadAuthEnabled": true }), aci),
        create(json!({ "authEnabled": "yes" }), "`authEnabled` must be `true` or `false`"),
        create(json!({ "keys": { "primaryKey": "hunter2" } }), "`keys.primaryKey` cannot be used: a key has 16 to 512 characters"),
        create(json!({ "keys": { "secondaryKey": "hunter2 hunter2 hunter2" } }), "`keys.secondaryKey` cannot be used: a key consists of letters, digits and `-._~+/`, with `=` at its end only"),
        create(json!({ "keys": { "primaryKey": "hunter2-hunter2-hunter2", "secondaryKey": "hunter2-hunter2-hunter2" } }), "the primary and the secondary key of `new` would be the same"),
        create(json!({ "keys": "hunter2" }), "`keys` must be an object"),
        create(json!({ "description": 1 }), "`description` must be a text"),
        create(json!({ "kvTags": [] }), "`kvTags` must be an object of texts"),
        create(json!({ "kvTags": { "a": {} } }), "`kvTags` must have texts as its values"),
        create(json!({ "numReplicas": "two" }), "`numReplicas` must be a whole number or null"),
        create(json!({ "autoScaler": { "minReplicas": 0.5 } }), "`autoScaler.minReplicas` must be a whole number or null"),
        create(json!({ "scoregate": { "hosts": ["ok.example", "a b"] } }), "`scoregate.hosts[1]` is no host name"),
        create(json!({ "scoregate": { "hosts": ["*.example"] } }), "`scoregate.hosts[0]` is no host name"),
        create(json!({ "scoregate": { "hosts": "a.example" } }), "`scoregate.hosts` must be a list of texts"),
        create(json!({ "scoregate": { "pathPrefixes": ["/a/../b"] } }), "`scoregate.pathPrefixes[0]` must be `/` or a plain path without a slash at its end, such as `/models/one`"),
        regenerate(json!({ "keyType": "Tertiary" }), "`keyType` must be `Primary` or `Secondary`"),
        regenerate(json!({ "keyType": 2 }), "`keyType` must be `Primary` or `Secondary`"),
        regenerate(json!({}), "`keyType` must be `Primary` or `Secondary`"),
        regenerate(json!([]), "`body` must be an object"),
        regenerate(json!({ "keyType": "Primary", "keyValue": "hunter2" }), "`keyValue` cannot be used: a key has 16 to 512 characters"),
        regenerate(json!({ "keyType": "Primary", "keyValue": 7 }), "`keyValue` must be a text"),
        patch("/aadAuthEnabled", json!(true), both),
        patch("/authEnabled", json!(1), "`/authEnabled` must be `true` or `false`"),
        patch("/computeType", json!("ACI"), "`/computeType` is not a member of a service that can be changed"),
        patch("/scoregate/hosts", json!(["a/b"]), "`/scoregate/hosts[0]` is no host name"),
        case(Method::PATCH, "/services/svc", json!([{ "op": "test", "path": "/description", "value": 1 }]), 400, "`0/op` must be `add` or `replace`"),
        case(Method::PATCH, "/services/svc", json!({ "op": "add" }), 400, "`body` must be a list of JSON Patch operations"),
        case(Method::POST, "/services", r#"{ "keys": "hunter2", }"#, 400, "the body is not JSON: the error is at line 1, column 22"),
        case(Method::POST, "/services", r#"{"name":"new","computeType":"ACI","authEnabled":true,"authEnabled":false}"#, 400, "an object of the body has a member twice: see line 1, column 73"),
        case(Method::POST, "/services/svc/regenerateKeys", r#"{"keyType":"Primary","keyType":"Secondary"}"#, 400, "an object of the body has a member twice: see line 1, column 43"),
        case(Method::PATCH, "/services/svc", r#"[{"op":"replace","path":"/authEnabled","value":true,"value":false}]"#, 400, "an object of the body has a member twice: see line 1, column 66"),
        case(Method::POST, "/services", "", 400, "the body is not JSON: the error is at line 1, column 0"),
        case(Method::POST, "/services", "\"\u{feff}", 400, "the body is not JSON: the error is at line 1, column 4"),
        case(Method::POST, "/services", "[".repeat(200), 400, "the body is not JSON: the error is at line 1, column 128"),
        case(Method::POST, "/services", "[]", 400, "`body` must be an object"),
        case(Method::POST, "/services/svc/token", "null", 400, "`body` must be an object"),
        case(Method::POST, "/services", " ".repeat(1024 * 1024 + 1), 413, "the body is longer than 1048576 bytes"),
        Case { content_type: "text/plain", ..case(Method::POST, "/services", "{}", 415, "the body must be sent with `Content-Type: application/json`") },
        Case { content_type: "application/x-www-form-urlencoded", ..case(Method::POST, "/services/svc/token", "a=b", 415, "the body must be sent with `Content-Type: application/json`") },
        case(Method::GET, "/services?count=0", "", 400, "`count` must be a number of services, 1 or more"),
        case(Method::GET, "/services?orderby=Name", "", 400, "`orderby` must be `CreatedAtDesc`, `CreatedAtAsc`, `UpdatedAtDesc` or `UpdatedAtAsc`"),
        case(Method::GET, "/services?computeType=VM", "", 400, "`computeType` cannot be this: the compute type is `AKS` or `ACI`"),
        case(Method::GET, "/services?$skipToken=hunter2", "", 400, "`$skipToken`: it was not made by this list"),
        case(Method::GET, "/services/%ff", "", 404, "there is nothing at this path"),
    ]
}

#[tokio::test]
async fn bad_input_is_refused_by_name_and_changes_nothing() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let state = async || {
        let services = test.get("/services").await.body;
        (services, test.post_nothing("/services/svc/listkeys").await.body)
    };
    let before = state().await;
    for Case { method, path, content_type, body, status, message } in cases() {
        let request = test.request(method.clone(), &TestWorkspace::path(path));
        let answer = request.body(content_type, body.clone()).send().await;
        let shown = format!("{method} {path} {}", body.chars().take(200).collect::<String>());
        assert_eq!(answer.message(), message, "{shown}");
        assert_eq!(answer.status, status, "{shown}");
        assert_eq!(answer.body["statusCode"], status, "{shown}");
        assert!(!answer.body.to_string().contains("hunter2"), "a secret in an error: {}", answer.body);
        assert_eq!(state().await, before, "{shown}");
    }
}

#[tokio::test]
async fn bad_input_names_its_field_for_programs() {
    let test = TestWorkspace::start().await;
    let answer = test.post("/services", &json!({ "name": "svc", "computeType": "VM" })).await;
    insta::assert_json_snapshot!(answer.stable(), @r#"
    {
      "code": "BadRequest",
      "correlation": {
        "RequestId": "{uuid}"
      },
      "details": [
        {
          "code": "Invalid",
          "message": "cannot be this: the compute type is `AKS` or `ACI`",
          "target": "computeType"
        }
      ],
      "message": "`computeType` cannot be this: the compute type is `AKS` or `ACI`",
      "statusCode": 400
    }
    "#);
}
