//! `/scoregate/v1/audit`, and that no route changes anything without a record.

use reqwest::Method;
use scoregate::workspace::http::{Route, routes};
use scoregate::workspace::{Origin, Role};
use serde_json::{Value, json};

use crate::harness::{Answer, TestWorkspace};

const PATH: &str = "/scoregate/v1/audit";

async fn get(test: &TestWorkspace, query: &str) -> Answer {
    test.request(Method::GET, &format!("{PATH}{query}")).send().await
}

/// All records, newest first.
async fn records(test: &TestWorkspace) -> Vec<Value> {
    get(test, "?count=500").await.body["value"].as_array().unwrap().clone()
}

/// What a call of a route does: the action that it leaves a record of, or nothing.
struct Call {
    method: Method,
    route: &'static str,
    content_type: &'static str,
    body: Value,
    action: Option<&'static str>,
}

fn call(method: Method, route: &'static str, body: Value, action: Option<&'static str>) -> Call {
    let patch = method == Method::PATCH;
    let content_type = if patch { "application/json-patch+json" } else { "application/json" };
    Call { method, route, content_type, body, action }
}

/// A call of each route that is no `GET`, on a workspace with the services `svc` and `token`, the principal `robot`, and a
/// signing key that is published.
fn calls() -> Vec<Call> {
    let new = json!({ "name": "new", "computeType": "AKS" });
    let over = json!({ "name": "svc", "computeType": "AKS", "overwrite": true, "description": "over" });
    let tags = json!([{ "op": "replace", "path": "/kvTags", "value": { "a": "b" } }]);
    let open = json!([{ "op": "replace", "path": "/authEnabled", "value": false }]);
    let shadow = json!([{ "op": "replace", "path": "/scoregate/shadowForSeconds", "value": 60 }]);
    let key = json!({ "keyType": "Primary" });
    let robot = json!({ "name": "robot-2", "role": "reader" });
    let endpoint = json!({ "properties": { "description": "over",  "authMode": "Key", "compute": "aks" } });
    let none = || json!({});
    vec![
        call(Method::POST, "/services", new.clone(), Some("service_created")),
        call(Method::POST, "/services", over, Some("service_updated")),
        call(Method::PATCH, "/services/{name}", tags, Some("service_updated")),
        call(Method::PATCH, "/services/{name}", open, Some("service_updated")),
        call(Method::PATCH, "/services/{name}", shadow, Some("service_updated")),
        call(Method::POST, "/services/{name}/regenerateKeys", key.clone(), Some("key_regenerated")),
        call(Method::POST, "/services/{name}/listkeys", none(), None),
        call(Method::POST, "/services/{name}/token", none(), None),
        call(Method::POST, "/services/{name}", none(), None),
        call(Method::POST, "/services/validate/resource", new, None),
        call(Method::POST, "/services/validate/name/{name}", none(), None),
        call(Method::POST, "/artifacts/batch/metadata/{origin}/{container}", none(), None),
        call(Method::DELETE, "/services/{name}", none(), Some("service_deleted")),
        call(Method::PUT, "/onlineEndpoints/{name}", endpoint, Some("service_updated")),
        call(Method::POST, "/onlineEndpoints/{name}/regenerateKeys", key, Some("key_regenerated")),
        call(Method::POST, "/onlineEndpoints/{name}/listKeys", none(), None),
        call(Method::POST, "/onlineEndpoints/{name}/token", none(), None),
        call(Method::DELETE, "/onlineEndpoints/{name}", none(), Some("service_deleted")),
        call(Method::POST, "/msi/token", none(), None),
        call(Method::POST, "/scoregate/v1/services/{name}/revokeTokens", none(), Some("tokens_revoked")),
        call(Method::POST, "/scoregate/v1/signing-keys", none(), Some("signing_key_hastened")),
        call(Method::DELETE, "/scoregate/v1/signing-keys/{name}", none(), Some("signing_key_withdrawn")),
        call(Method::POST, "/scoregate/v1/principals", robot, Some("principal_created")),
        call(Method::DELETE, "/scoregate/v1/principals/{name}", none(), Some("principal_deleted")),
    ]
}

/// As [`Call::route`] has it: without the workspace's own path.
fn short(route: &Route) -> &str {
    route.path.split("/workspaces/{workspace}").last().unwrap_or_default()
}

fn path(test: &TestWorkspace, route: &Route) -> String {
    let published = test.workspace.signing_keys().remove(1).id;
    let name = match short(route) {
        "/scoregate/v1/principals/{name}" => "robot",
        "/scoregate/v1/signing-keys/{name}" => &published,
        "/services/{name}/token" => "token",
        _ => "svc",
    };
    let values =
        [("{subscription}", "sub"), ("{resource_group}", "group"), ("{workspace}", "ws"), ("{name}", name)];
    values.iter().fold(route.path.clone(), |path, (parameter, value)| path.replace(parameter, value))
}

/// A route that is added has to be added here too: what it changes, it records.
#[tokio::test]
async fn each_route_that_changes_something_leaves_a_record_of_it() {
    let mut left = calls();
    for route in routes().iter().filter(|route| route.method != Method::GET) {
        let of_route = |call: &mut Call| call.method == route.method && call.route == short(route);
        let calls: Vec<_> = left.extract_if(.., of_route).collect();
        assert!(!calls.is_empty(), "no call of {} {}: does it leave a record?", route.method, route.path);
        for call in calls {
            leaves_its_record(route, &call).await;
        }
    }
    assert!(left.is_empty(), "there is no route {} {}", left[0].method, left[0].route);
}

async fn leaves_its_record(route: &Route, call: &Call) {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    test.create("token", json!({ "aadAuthEnabled": true })).await;
    test.workspace.create_principal(&Origin::local(), "robot", Role::Reader).await.unwrap();
    test.publish_key_for_tomorrow().await;
    let before = records(&test).await;
    let state = test.get("/services").await.body;
    let request = test.request(call.method.clone(), &path(&test, route));
    let answer = request.body(call.content_type, call.body.to_string()).send().await;
    let mut after = records(&test).await;
    let case = format!("{} {} {}: {}", route.method, route.path, answer.status, answer.body);
    let Some(action) = call.action else {
        assert_eq!((after, test.get("/services").await.body), (before, state), "{case}");
        return;
    };
    assert!(answer.status.is_success(), "{case}");
    let record = after.remove(0);
    assert_eq!(after, before, "one record, and those before stay: {case}");
    assert_eq!((&record["action"], &record["principal"]), (&json!(action), &json!("owner")), "{case}");
    assert_eq!(record["requestId"], answer.header("x-request-id"), "{case}");
    assert!(record["remote"].as_str().unwrap().starts_with("127.0.0.1:"), "{case}");
}

#[tokio::test]
async fn records_are_shown_newest_first() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({ "kvTags": { "secret-tag": "secret-value" } })).await;
    test.patch("svc", json!([{ "op": "replace", "path": "/authEnabled", "value": false }])).await;
    let mut answer = get(&test, "?count=2").await;
    let uid = answer.body["value"][0]["serviceUid"].as_str().unwrap().to_owned();
    for record in answer.body["value"].as_array_mut().unwrap() {
        assert_eq!(record["serviceUid"], uid);
        let remote = record["remote"].as_str().unwrap().to_owned();
        record["remote"] = remote.split(':').next().into();
    }
    insta::assert_json_snapshot!(answer.stable(), @r#"
    {
      "nextLink": "{base}/scoregate/v1/audit?count=2&%24skipToken=4",
      "value": [
        {
          "action": "service_updated",
          "details": {
            "authMode": {
              "after": "disabled",
              "before": "key"
            },
            "changed": [
              "authMode"
            ],
            "opened": true
          },
          "epoch": 1,
          "principal": "owner",
          "remote": "127.0.0.1",
          "requestId": "{uuid}",
          "revision": 3,
          "role": "owner",
          "sequence": 5,
          "serviceUid": "{uuid}",
          "target": {
            "kind": "service",
            "name": "svc"
          },
          "time": "2024-05-01T10:00:00Z"
        },
        {
          "action": "service_created",
          "details": {
            "authMode": "key",
            "computeType": "AKS"
          },
          "epoch": 1,
          "principal": "owner",
          "remote": "127.0.0.1",
          "requestId": "{uuid}",
          "revision": 2,
          "role": "owner",
          "sequence": 4,
          "serviceUid": "{uuid}",
          "target": {
            "kind": "service",
            "name": "svc"
          },
          "time": "2024-05-01T10:00:00Z"
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn pages_follow_each_other_with_their_filters() {
    let test = TestWorkspace::start().await;
    for name in ["one", "two", "three"] {
        test.create(name, json!({})).await;
    }
    let mut query = "?action=service_created&count=2".to_owned();
    let mut names = Vec::new();
    loop {
        let page = get(&test, &query).await.body;
        names.extend(page["value"].as_array().unwrap().iter().map(|record| record["target"]["name"].clone()));
        let Some(next) = page.get("nextLink") else { break };
        let next = next.as_str().unwrap().strip_prefix(&test.base).expect("the link is absolute");
        query = next.strip_prefix(PATH).unwrap().to_owned();
        assert!(query.starts_with("?action=service_created&count=2&"), "{query}");
    }
    assert_eq!(names, ["three", "two", "one"]);
}

#[tokio::test]
async fn filters_that_cannot_be_are_400_and_named() {
    let test = TestWorkspace::start().await;
    let cases = [
        ("service=a%20b", "`service` must be the name or the uid of a service"),
        ("principal=", "`principal`: nobody can have this name"),
        ("since=yesterday", "`since` must be a time such as `2026-01-31T12:00:00Z`"),
        ("until=2026-01-31", "`until` must be a time such as `2026-01-31T12:00:00Z`"),
        ("count=0", "`count` must be a number of records, 1 or more"),
        ("count=many", "`count` must be a number of records, 1 or more"),
        ("$skipToken=x", "`$skipToken`: it was not made by this list"),
        ("pricipal=owner", "`pricipal` is not a parameter of this list"),
        ("principal=owner&principal=local", "`principal` is given more than once"),
        ("principal=owner&principal=owner", "`principal` is given more than once"),
        ("$skipToken=1&$skipToken=2", "`$skipToken` is given more than once"),
    ];
    for (query, message) in cases {
        let answer = get(&test, &format!("?{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.message()), (400, message), "{query}");
        let field = query.split('=').next().unwrap();
        assert_eq!(answer.body["details"][0]["target"], field, "{query}");
    }
    let answer = get(&test, "?action=king_crowned").await;
    assert_eq!(answer.status, 400);
    assert!(answer.message().starts_with("`action` cannot be this: an action is one of `workspace_founded`"));
}

#[tokio::test]
async fn records_do_not_believe_headers_about_the_way() {
    let test = TestWorkspace::start().await;
    let path = TestWorkspace::path("/services");
    let request = test.request(Method::POST, &path).json(&json!({ "name": "svc", "computeType": "AKS" }));
    let request = request.header("x-forwarded-for", "6.6.6.6").header("forwarded", "for=6.6.6.6");
    let answer = request.header("x-request-id", "made-up").send().await;
    let record = records(&test).await.remove(0);
    assert!(record["remote"].as_str().unwrap().starts_with("127.0.0.1:"), "{record}");
    assert_eq!(record["requestId"], answer.header("x-request-id"));
    assert_ne!(record["requestId"], "made-up");
}
