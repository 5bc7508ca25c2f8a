//! What is refused, in the shape of Azure's Resource Manager

use reqwest::Method;
use scoregate::workspace::Role;
use serde_json::json;

use super::{ask, endpoint, make, send, versioned};
use crate::harness::TestWorkspace;

#[tokio::test]
async fn errors_have_resource_managers_shape() {
    let test = TestWorkspace::start().await;
    let answer = send(&test, Method::PUT, "/ep-1", &endpoint(&json!({ "authMode": "AADToken" }))).await;
    insta::assert_json_snapshot!(answer.stable(), @r#"
    {
      "error": {
        "code": "BadRequest",
        "details": [
          {
            "code": "Invalid",
            "message": "cannot be `AADToken`: scoregate does not know the tokens of Microsoft Entra. Use `aml_token`, for tokens that the workspace issues, or `key`",
            "target": "properties.authMode"
          }
        ],
        "message": "`properties.authMode` cannot be `AADToken`: scoregate does not know the tokens of Microsoft Entra. Use `aml_token`, for tokens that the workspace issues, or `key`",
        "target": "properties.authMode"
      }
    }
    "#);
    let answer = ask(&test, Method::GET, "/none").await;
    insta::assert_json_snapshot!(answer.stable(), @r#"
    {
      "error": {
        "code": "NotFound",
        "details": [],
        "message": "no service is named `none`",
        "target": null
      }
    }
    "#);
}

#[tokio::test]
async fn everything_below_subscriptions_has_it() {
    let test = TestWorkspace::start().await;
    let own = TestWorkspace::resource("/onlineEndpoints");
    let cases = [
        (Method::GET, "/subscriptions/x/nothing".to_owned(), 404, "NotFound"),
        (Method::GET, "/Subscriptions".to_owned(), 404, "NotFound"),
        (Method::PATCH, own.clone(), 405, "MethodNotAllowed"),
        (Method::GET, own.replace("/ws/", "/other/"), 404, "NotFound"),
    ];
    for (method, path, status, code) in cases {
        let answer = test.request(method, &path).send().await;
        assert_eq!((answer.status.as_u16(), &answer.body["error"]["code"]), (status, &json!(code)), "{path}");
        assert_eq!(answer.body.get("code"), None, "{path}");
    }
}

#[tokio::test]
async fn unknown_endpoints_are_404() {
    let test = TestWorkspace::start().await;
    let cases = [
        (Method::GET, "/none"),
        (Method::GET, "/none/deployments"),
        (Method::POST, "/none/listKeys"),
        (Method::POST, "/none/token"),
        (Method::GET, "/No_Name"),
    ];
    for (method, path) in cases {
        assert_eq!(ask(&test, method, path).await.status, 404, "{path}");
    }
    let body = json!({ "keyType": "Primary", "keyValue": "x" });
    assert_eq!(send(&test, Method::POST, "/none/regenerateKeys", &body).await.status, 404);
}

#[tokio::test]
async fn readers_have_tokens_but_no_keys() {
    let test = TestWorkspace::start().await;
    make(&test, "ep-1", json!({ "authMode": "AMLToken" })).await;
    let reader = test.principal(Role::Reader).await;
    let cases = [
        (Method::GET, "", 200),
        (Method::GET, "/ep-1", 200),
        (Method::POST, "/ep-1/token", 200),
        (Method::POST, "/ep-1/listKeys", 403),
        (Method::POST, "/ep-1/regenerateKeys", 403),
        (Method::PUT, "/ep-1", 403),
        (Method::DELETE, "/ep-1", 403),
    ];
    for (method, path, status) in cases {
        let answer = test.request(method, &versioned(path)).bearer(&reader).send().await;
        assert_eq!(answer.status, status, "{path}");
    }
}

/// Azure's names of resources are the same in any letter case.
#[tokio::test]
async fn letter_case_of_scope_and_name_does_not_matter() {
    let test = TestWorkspace::start().await;
    let answer = make(&test, "Ep-1", json!({})).await;
    assert_eq!(answer.body["name"], "ep-1");
    let path = TestWorkspace::resource("/onlineEndpoints/EP-1");
    let path = path.replace("/group/", "/GROUP/").replace("/ws/", "/Ws/");
    assert_eq!(test.request(Method::GET, &path).send().await.body, answer.body);
}
