//! `/msi/token`

use reqwest::Method;
use rstest::rstest;
use scoregate::workspace::{Origin, Role};

use crate::harness::{Answer, TestWorkspace};

/// As the SDK asks: with a slash, and the resource as it is.
async fn ask(test: &TestWorkspace, secret: &str, resource: &str) -> Answer {
    let path = format!("/msi/token/?resource={resource}&api-version=2017-09-01");
    test.request(Method::GET, &path).anonymous().header("secret", secret).send().await
}

async fn status(test: &TestWorkspace, bearer: &str, method: Method, path: &str) -> u16 {
    test.request(method, &TestWorkspace::path(path)).bearer(bearer).send().await.status.as_u16()
}

#[tokio::test]
async fn a_credential_is_exchanged_for_a_session_of_its_role() {
    let test = TestWorkspace::start().await;
    test.create("svc", serde_json::json!({})).await;
    let reader = test.principal(Role::Reader).await;
    let answer = ask(&test, &reader, &test.base).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"));
    let token = answer.body["access_token"].as_str().unwrap().to_owned();
    insta::assert_json_snapshot!(answer.stable_without("access_token"), @r#"
    {
      "access_token": "{...}",
      "expires_on": "1714561200",
      "resource": "{base}",
      "token_type": "Bearer"
    }
    "#);
    assert_eq!(status(&test, &token, Method::GET, "/services/svc").await, 200);
    assert_eq!(status(&test, &token, Method::POST, "/services/svc/listkeys").await, 403);
    test.workspace.delete_principal(&Origin::local(), "a-reader").await.unwrap();
    assert_eq!(status(&test, &token, Method::GET, "/services/svc").await, 401);
}

#[rstest]
#[case::app_service("/msi/token", "secret")]
#[case::sdk_v1("/msi/token/", "secret")]
#[case::azure_identity("/msi/token?api-version=2019-08-01", "X-IDENTITY-HEADER")]
#[tokio::test]
async fn it_is_asked_for_in_several_ways(#[case] path: &str, #[case] header: &str) {
    let test = TestWorkspace::start().await;
    let request = test.request(Method::GET, path).anonymous().header(header, &test.owner);
    assert_eq!(request.send().await.status, 200);
}

#[tokio::test]
async fn a_wrong_secret_is_401_and_says_what_to_check() {
    let test = TestWorkspace::start().await;
    let gate = test.principal(Role::Gate).await;
    let session = ask(&test, &test.owner, &test.base).await.body["access_token"].as_str().unwrap().to_owned();
    for secret in ["wrong", "", &gate, &session, &format!("{},{}", test.owner, test.owner)] {
        let answer = ask(&test, secret, &test.base).await;
        assert_eq!(answer.status, 401, "{secret}");
        assert_eq!(
            answer.message(),
            "the secret is not the credential of a principal of the workspace: check MSI_SECRET (or IDENTITY_HEADER)"
        );
    }
    let request = test.request(Method::GET, "/msi/token").anonymous().header("secret", &test.owner);
    assert_eq!(request.header("x-identity-header", &test.owner).send().await.status, 401, "said twice");
}

#[tokio::test]
async fn without_a_secret_there_is_nothing() {
    let test = TestWorkspace::start().await;
    let form = "application/x-www-form-urlencoded";
    let answers = [
        test.request(Method::POST, "/msi/token").anonymous().body(form, "resource=x").send().await,
        test.request(Method::GET, "/msi/token").anonymous().send().await,
        // Only who knows the secret asks in the right way: a bearer may be a session.
        test.request(Method::GET, "/msi/token").send().await,
    ];
    for answer in answers {
        assert_eq!(answer.status, 400);
        assert!(answer.message().contains("set MSI_SECRET"), "{}", answer.message());
        assert_eq!(answer.body.get("access_token"), None);
    }
}

#[rstest]
#[case::azure("https://management.core.windows.net/", 400)]
#[case::its_own_host_elsewhere("{base}.example", 400)]
#[case::own("{base}", 200)]
#[case::own_with_a_slash("{base}/", 200)]
#[tokio::test]
async fn a_session_is_given_for_this_workspace_only(#[case] resource: &str, #[case] expected: u16) {
    let test = TestWorkspace::start().await;
    let answer = ask(&test, &test.owner, &resource.replace("{base}", &test.base)).await;
    assert_eq!(answer.status, expected);
    if expected == 400 {
        assert!(answer.message().contains("AZUREML_CURRENT_CLOUD"), "{}", answer.message());
    }
}

#[tokio::test]
async fn a_session_is_no_credential_anywhere_else() {
    let test = TestWorkspace::start().await;
    let session = ask(&test, &test.owner, &test.base).await.body["access_token"].as_str().unwrap().to_owned();
    let request = test.request(Method::GET, "/msi/token").bearer(&session).send().await;
    assert_eq!(request.status, 400);
}
