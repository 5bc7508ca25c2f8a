//! Who may use which route: the whole table, with no credential, an unknown one, and one of each role.

use reqwest::Method;
use scoregate::workspace::http::{Access, Route, routes};
use scoregate::workspace::{Origin, Role};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Answer, TestWorkspace};

const ROLES: [Role; 4] = [Role::Reader, Role::Contributor, Role::Owner, Role::Gate];

/// A path that a route takes; what it names does not exist, so that the walk changes nothing.
fn path(route: &Route) -> String {
    let values = [
        ("{subscription}", "sub"),
        ("{resource_group}", "group"),
        ("{workspace}", "ws"),
        ("{name}", "nothing-here"),
    ];
    values.iter().fold(route.path.clone(), |path, (name, value)| path.replace(name, value))
}

async fn ask(test: &TestWorkspace, route: &Route, credential: Option<&str>) -> Answer {
    let request = test.request(route.method.clone(), &path(route));
    match credential {
        Some(credential) => request.bearer(credential).send().await,
        None => request.anonymous().send().await,
    }
}

fn guarded() -> impl Iterator<Item = (Route, Role)> {
    routes().into_iter().filter_map(|route| match route.access {
        Access::Anonymous | Access::Secret => None,
        Access::Role(needed) => Some((route, needed)),
    })
}

#[test]
fn routes_have_the_roles_of_the_design() {
    let line = |route: &Route| {
        let path = route.path.split("/workspaces/{workspace}").last().unwrap_or_default();
        let access = match route.access {
            Access::Anonymous => "anonymous",
            Access::Secret => "secret",
            Access::Role(role) => role.as_str(),
        };
        format!("{access:<11} {:<6} {path}", route.method.as_str())
    };
    let table: Vec<_> = routes().iter().map(line).collect();
    insta::assert_snapshot!(table.join("\n"), @r"
    anonymous   GET    /.well-known/jwks.json
    anonymous   GET    /.well-known/openid-configuration
    anonymous   GET    /openapi.json
    reader      GET    /scoregate/v1/workspace
    reader      GET    /operations/{name}
    contributor POST   /artifacts/batch/metadata/{origin}/{container}
    owner       GET    /scoregate/v1/audit
    reader      GET    /computes/{name}
    contributor GET    /scoregate/v1/gates
    anonymous   GET    /discovery
    anonymous   GET    /discovery/workspaces/{name}
    anonymous   GET    /metadata/endpoints
    reader      GET    /subscriptions
    reader      GET    
    reader      GET    /subscriptions/{subscription}/resources
    reader      GET    /subscriptions/{subscription}/resourceGroups/{resource_group}/providers/Microsoft.MachineLearningServices/workspaces
    secret      GET    /msi/token
    secret      GET    /msi/token/
    secret      POST   /msi/token
    reader      GET    /models
    reader      GET    /models/{name}
    reader      GET    /services
    contributor POST   /services
    reader      GET    /services/{name}
    contributor PATCH  /services/{name}
    contributor DELETE /services/{name}
    contributor POST   /services/{name}/listkeys
    contributor POST   /services/{name}/regenerateKeys
    reader      POST   /services/{name}/token
    reader      GET    /services/{name}/logs
    contributor GET    /scoregate/v1/services/{name}/issues
    contributor POST   /scoregate/v1/services/{name}/revokeTokens
    contributor GET    /scoregate/v1/services/{name}/uses
    contributor POST   /services/{name}
    contributor POST   /services/validate/resource
    contributor POST   /services/validate/name/{name}
    reader      GET    /onlineEndpoints
    reader      GET    /onlineEndpoints/{name}
    contributor PUT    /onlineEndpoints/{name}
    contributor DELETE /onlineEndpoints/{name}
    contributor POST   /onlineEndpoints/{name}/listKeys
    contributor POST   /onlineEndpoints/{name}/regenerateKeys
    reader      POST   /onlineEndpoints/{name}/token
    reader      GET    /onlineEndpoints/{name}/deployments
    reader      GET    /operationsStatus/{name}
    owner       GET    /scoregate/v1/principals
    owner       POST   /scoregate/v1/principals
    owner       DELETE /scoregate/v1/principals/{name}
    owner       GET    /scoregate/v1/signing-keys
    owner       POST   /scoregate/v1/signing-keys
    owner       DELETE /scoregate/v1/signing-keys/{name}
    ");
}

#[tokio::test]
async fn no_credential_and_an_unknown_one_are_401_and_alike() {
    let test = TestWorkspace::start().await;
    let unknown = format!("sgc_{}", "A".repeat(32));
    for (route, _) in guarded() {
        let mut seen = Vec::new();
        for credential in [None, Some(unknown.as_str()), Some("x")] {
            let answer = ask(&test, &route, credential).await;
            assert_eq!(answer.status, 401, "{} {}", route.method, route.path);
            assert_eq!(answer.header("www-authenticate"), r#"Bearer realm="scoregate""#);
            seen.push(answer.stable());
        }
        assert!(seen.iter().all(|body| *body == seen[0]), "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn each_role_may_use_what_includes_it_and_nothing_else() {
    let test = TestWorkspace::start().await;
    for role in ROLES {
        let credential = test.principal(role).await;
        for (route, needed) in guarded() {
            let answer = ask(&test, &route, Some(&credential)).await;
            let case = format!("{} {} as {}", route.method, route.path, role.as_str());
            if role.includes(needed) {
                assert!(![401, 403].contains(&answer.status.as_u16()), "{case}");
            } else {
                assert_eq!(answer.status, 403, "{case}");
                assert!(answer.message().contains(needed.as_str()), "{case}: {}", answer.message());
            }
            assert_eq!(answer.header("cache-control"), "no-store", "{case}");
        }
    }
}

#[tokio::test]
async fn anonymous_routes_ask_for_nothing() {
    let test = TestWorkspace::start().await;
    for route in routes().iter().filter(|route| route.access == Access::Anonymous) {
        let path = path(route).replace("nothing-here", &test.workspace.id().to_string());
        let answer = test.request(route.method.clone(), &path).anonymous().send().await;
        assert_eq!(answer.status, 200, "{path}");
    }
}

#[tokio::test]
async fn credential_of_a_deleted_principal_is_401_at_once() {
    let test = TestWorkspace::start().await;
    let credential = test.principal(Role::Reader).await;
    let services = TestWorkspace::path("/services");
    let ask = || test.request(Method::GET, &services).bearer(&credential).send();
    assert_eq!(ask().await.status, 200);
    test.workspace.delete_principal(&Origin::local(), "a-reader").await.unwrap();
    assert_eq!(ask().await.status, 401);
}

#[tokio::test]
async fn credential_is_one_bearer_in_any_letter_case() {
    let test = TestWorkspace::start().await;
    let services = TestWorkspace::path("/services");
    let owner = &test.owner;
    let cases = [
        (vec![format!("bearer {owner}")], 200),
        (vec![format!("BEARER {owner}")], 200),
        (vec![format!("Basic {owner}")], 401),
        (vec![owner.clone()], 401),
        (vec![format!("Bearer  {owner}")], 401),
        (vec![format!("Bearer {owner}, Bearer {owner}")], 401),
        (vec![format!("Bearer {owner}"), format!("Bearer {owner}")], 401),
    ];
    for (values, expected) in cases {
        let request = test.request(Method::GET, &services).anonymous();
        let request = values.iter().fold(request, |request, value| request.header("authorization", value));
        assert_eq!(request.send().await.status, expected, "{values:?}");
    }
}

#[tokio::test]
async fn foreign_scope_is_404_but_only_for_those_who_may_ask() {
    let test = TestWorkspace::start().await;
    let own = TestWorkspace::path("/services");
    for foreign in [own.replace("/sub/", "/x/"), own.replace("/group/", "/x/"), own.replace("/ws/", "/x/")] {
        let anonymous = test.request(Method::GET, &foreign).anonymous().send().await;
        assert_eq!(anonymous.status, 401, "{foreign}");
        let gate = test.request(Method::POST, &foreign).bearer("x").json(&json!({})).send().await;
        assert_eq!(gate.status, 401, "{foreign}");
        let owner = test.request(Method::GET, &foreign).send().await;
        assert_eq!(owner.status, 404, "{foreign}");
        assert_eq!(owner.message(), "this is not the workspace of that path");
    }
    let other_case = own.replace("/group/", "/GROUP/");
    assert_eq!(test.request(Method::GET, &other_case).send().await.status, 200);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_json_errors() {
    let test = TestWorkspace::start().await;
    for path in ["/", "/services", "/modelmanagement/v1.0/x", "/ModelManagement/v1.0"] {
        let answer = test.request(Method::GET, path).anonymous().send().await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.body["code"], "NotFound", "{path}");
    }
    let answer = test.request(Method::PUT, &TestWorkspace::path("/services")).send().await;
    insta::assert_json_snapshot!(answer.stable(), @r#"
    {
      "code": "MethodNotAllowed",
      "correlation": {
        "RequestId": "{uuid}"
      },
      "details": [],
      "message": "this path does not take this method",
      "statusCode": 405
    }
    "#);
}

#[tokio::test]
async fn every_answer_has_an_id_of_its_own_that_its_error_repeats() {
    let test = TestWorkspace::start().await;
    let [first, second] = [test.get("/services/none").await, test.get("/services/none").await];
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    assert_eq!(first.body["correlation"]["RequestId"], first.header("x-request-id"));
    assert!(!test.get("/services").await.header("x-request-id").is_empty());
}

/// A body may take its time, and its sender be deleted meanwhile.
#[tokio::test]
async fn a_principal_that_is_deleted_while_it_sends_gets_and_changes_nothing() {
    let token = TestWorkspace::path("/services/with-tokens/token");
    for (path, begin, end) in [
        ("/scoregate/v1/principals", r#"{"name":"back"#, r#"door","role":"owner"}"#),
        (token.as_str(), r#"{"expires"#, r#"In":60}"#),
    ] {
        let test = TestWorkspace::start().await;
        test.create("with-tokens", json!({ "aadAuthEnabled": true })).await;
        let status = status_of_who_is_deleted_between(&test, path, begin, end).await;
        assert_eq!(status, "HTTP/1.1 401", "{path}");
        assert!(test.workspace.principals().iter().all(|principal| principal.name != "backdoor"));
    }
}

async fn status_of_who_is_deleted_between(
    test: &TestWorkspace,
    path: &str,
    begin: &str,
    end: &str,
) -> String {
    let credential = test.principal(Role::Owner).await;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {credential}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{begin}",
        begin.len() + end.len()
    );
    let mut connection = TcpStream::connect(test.base.trim_start_matches("http://")).await.unwrap();
    connection.write_all(head.as_bytes()).await.unwrap();
    // So that the head has been read, and its credential accepted.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    test.workspace.delete_principal(&Origin::local(), "a-owner").await.unwrap();
    connection.write_all(end.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).await.unwrap();
    String::from_utf8(answer.to_vec()).unwrap()
}
