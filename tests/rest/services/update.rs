//! `PATCH {workspace}/services/{name}`

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::TestWorkspace;

fn replace(path: &str, value: Value) -> Value {
    json!({ "op": "replace", "path": path, "value": value })
}

/// A service in this mode: key and token flag.
async fn service(flags: (bool, bool)) -> TestWorkspace {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({ "authEnabled": flags.0, "aadAuthEnabled": flags.1 })).await;
    test
}

async fn flags(test: &TestWorkspace) -> (bool, bool) {
    let service = test.get("/services/svc").await.body;
    (service["authEnabled"].as_bool().unwrap(), service["aadAuthEnabled"].as_bool().unwrap())
}

const DISABLED: (bool, bool) = (false, false);
const KEY: (bool, bool) = (true, false);
const TOKEN: (bool, bool) = (false, true);

/// Every row that the SDK sends (contract A7), and those that only a stale or another client sends.
#[tokio::test]
async fn update_of_the_flags_in_every_direction() {
    let key = |on: bool| replace("/authEnabled", on.into());
    let token = |on: bool| replace("/aadAuthEnabled", on.into());
    let cases = [
        (KEY, vec![key(false), token(true)], Some(TOKEN)),
        (KEY, vec![token(true), key(false)], Some(TOKEN)),
        (KEY, vec![key(false)], Some(DISABLED)),
        (KEY, vec![key(false), token(false)], Some(DISABLED)),
        (KEY, vec![token(false)], Some(KEY)),
        (KEY, vec![token(true)], None),
        (KEY, vec![key(true), token(true)], None),
        (TOKEN, vec![key(true), token(false)], Some(KEY)),
        (TOKEN, vec![token(false)], Some(DISABLED)),
        (TOKEN, vec![key(true)], None),
        (DISABLED, vec![key(true)], Some(KEY)),
        (DISABLED, vec![token(true)], Some(TOKEN)),
        (DISABLED, vec![key(true), token(true)], None),
        (DISABLED, vec![], Some(DISABLED)),
    ];
    for (before, operations, after) in cases {
        let test = service(before).await;
        let answer = test.patch("svc", operations.clone().into()).await;
        let expected = if after.is_some() { 200 } else { 400 };
        assert_eq!(answer.status, expected, "{before:?} {operations:?} {}", answer.body);
        assert_eq!(flags(&test).await, after.unwrap_or(before), "{before:?} {operations:?}");
    }
}

#[tokio::test]
async fn update_answers_with_the_service_as_the_next_read_has_it() {
    let test = service(KEY).await;
    let answer = test.patch("svc", json!([replace("/description", "d".into())])).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body.get("operationId"), None, "null would become an operation");
    assert_eq!(answer.body, test.get("/services/svc").await.body);
}

#[tokio::test]
async fn update_replaces_where_nothing_was() {
    let test = service(KEY).await;
    let operations = json!([
        replace("/description", "d".into()),
        replace("/kvTags", json!({ "a": "b" })),
        replace("/namespace", "n".into()),
        replace("/containerResourceRequirements/gpu", 1.into()),
        replace("/autoScaler/maxReplicas", 3.into()),
        replace("/livenessProbeRequirements/periodSeconds", 5.into()),
        replace("/dataCollection/storageEnabled", true.into()),
        replace("/imageId", "i:1".into()),
        { "op": "add", "path": "/properties/azureml.git.branch", "value": "main" },
        { "op": "add", "path": "/properties/a~1b", "value": "c" },
    ]);
    let service = test.patch("svc", operations).await.body;
    assert_eq!(service["description"], "d");
    assert_eq!(service["kvTags"], json!({ "a": "b" }));
    assert_eq!(service["namespace"], "n");
    assert_eq!(service["containerResourceRequirements"]["gpu"], 1);
    assert_eq!(service["containerResourceRequirements"]["cpu"], 0.1);
    assert_eq!(service["autoScaler"]["maxReplicas"], 3);
    assert_eq!(service["livenessProbeRequirements"]["periodSeconds"], 5);
    assert_eq!(service["dataCollection"], json!({ "storageEnabled": true, "eventHubEnabled": false }));
    assert_eq!(service["properties"], json!({ "azureml.git.branch": "main", "a/b": "c" }));
    assert_eq!(service.get("imageId"), None);

    let cleared = json!([replace("/description", json!(null)), replace("/kvTags", json!({}))]);
    let service = test.patch("svc", cleared).await.body;
    assert_eq!((&service["description"], &service["kvTags"]), (&json!(null), &json!({})));
}

#[tokio::test]
async fn update_is_all_or_nothing() {
    let test = service(KEY).await;
    let before = test.get("/services/svc").await.body;
    let bad_ends = [
        replace("/name", "other".into()),
        replace("/aadAuthEnabled", true.into()),
        replace("/numReplicas", "two".into()),
        json!({ "op": "remove", "path": "/description" }),
    ];
    for bad in bad_ends {
        let answer = test.patch("svc", json!([replace("/description", "d".into()), bad])).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert_eq!(test.get("/services/svc").await.body, before, "{bad}");
    }
}

#[tokio::test]
async fn update_of_aci_refuses_tokens() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({ "computeType": "ACI", "scoregate": { "hosts": ["svc.example"] } })).await;
    let answer = test.patch("svc", json!([replace("/aadAuthEnabled", true.into())])).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.message(),
        "token authentication is for AKS only: an ACI service has keys or no authentication"
    );
}

#[tokio::test]
async fn update_is_a_json_patch_and_nothing_else() {
    let test = service(KEY).await;
    let path = TestWorkspace::path("/services/svc");
    for content_type in ["application/json", "application/merge-patch+json", "text/plain"] {
        let answer = test.request(Method::PATCH, &path).body(content_type, "[]").send().await;
        assert_eq!(answer.status, 415, "{content_type}");
        assert!(answer.message().contains("application/json-patch+json"));
    }
    let with_parameter = "application/json-patch+json; charset=utf-8";
    assert_eq!(test.request(Method::PATCH, &path).body(with_parameter, "[]").send().await.status, 200);
    assert_eq!(test.patch("none", json!([])).await.status, 404);
}

#[tokio::test]
async fn update_of_a_place_that_is_taken_is_409() {
    let test = service(KEY).await;
    test.create("other", json!({ "scoregate": { "hosts": ["a.example"], "pathPrefixes": ["/x"] } })).await;
    let operations = json!([
        replace("/scoregate/hosts", json!(["A.example"])),
        replace("/scoregate/pathPrefixes", json!(["/x"])),
    ]);
    let answer = test.patch("svc", operations).await;
    assert_eq!(
        (answer.status.as_u16(), answer.message()),
        (409, "`a.example/x` belongs to the service `other`")
    );
}

#[tokio::test]
async fn update_that_a_gate_has_not_confirmed_is_202_with_the_operation() {
    let test = TestWorkspace::start().await;
    test.create("svc", json!({})).await;
    let _gate = test.silent_gate().await;
    let flags = json!([{ "op": "replace", "path": "/authEnabled", "value": false }]);
    let answer = test.patch("svc", flags).await;
    assert_eq!((answer.status.as_u16(), &answer.body["operationType"]), (202, &json!("Update")));
    assert!(answer.header("operation-location").ends_with(answer.body["id"].as_str().unwrap()));
    assert_eq!(test.get("/services/svc").await.body["authEnabled"], false);

    // Gates need not know of a description.
    let description = json!([{ "op": "replace", "path": "/description", "value": "d" }]);
    let answer = test.patch("svc", description).await;
    assert_eq!((answer.status.as_u16(), &answer.body["description"]), (200, &json!("d")));
}

#[tokio::test]
async fn update_under_a_name_that_no_service_can_have_is_404() {
    let test = TestWorkspace::start().await;
    let flags = json!([{ "op": "replace", "path": "/authEnabled", "value": false }]);
    assert_eq!(test.patch("No_Name", flags).await.status, 404);
}

#[tokio::test]
async fn update_of_the_shadow() {
    let test = service(KEY).await;
    let shadow = |value: Value| json!([replace("/scoregate/shadowForSeconds", value)]);
    let answer = test.patch("svc", shadow(3600.into())).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["scoregate"]["shadowUntil"]),
        (200, &json!("2024-05-01T11:00:00Z"))
    );
    assert_eq!(test.get("/services").await.body["value"][0], answer.body);
    for bad in [json!(0), json!(604_801), json!(-1), json!(1.5), json!("24h"), json!(true)] {
        let refused = test.patch("svc", shadow(bad.clone())).await;
        assert_eq!(refused.status, 400, "{bad}");
        assert!(refused.message().contains("604800 (7 days) at most"), "{}", refused.message());
    }
    test.clock.advance(std::time::Duration::from_secs(3600));
    assert_eq!(test.get("/services/svc").await.body["scoregate"]["shadowUntil"], json!(null), "it is over");
    test.patch("svc", shadow(604_800.into())).await;
    let ended = test.patch("svc", shadow(json!(null))).await;
    assert_eq!((ended.status.as_u16(), &ended.body["scoregate"]["shadowUntil"]), (200, &json!(null)));
    let open = test.patch("svc", json!([replace("/authEnabled", false.into())])).await;
    assert_eq!(open.status, 200);
    let refused = test.patch("svc", shadow(60.into())).await;
    assert_eq!(refused.status, 400);
    assert!(refused.message().contains("nothing to let through"), "{}", refused.message());

    let new = |seconds: Value| json!({ "scoregate": { "shadowForSeconds": seconds } });
    test.create("new", new(60.into())).await;
    assert_eq!(
        test.get("/services/new").await.body["scoregate"]["shadowUntil"],
        json!("2024-05-01T11:01:00Z")
    );
    let body = json!({ "name": "wrong", "computeType": "AKS", "scoregate": { "shadowForSeconds": 0 } });
    assert_eq!(test.post("/services", &body).await.status, 400);
}
