//! `/discovery/workspaces/{id}` and `/.well-known/...`

use reqwest::Method;

use crate::harness::{Answer, TestWorkspace};

async fn get(test: &TestWorkspace, path: &str) -> Answer {
    test.request(Method::GET, path).anonymous().send().await
}

#[tokio::test]
async fn discovery_has_the_six_names_that_clients_look_up() {
    let test = TestWorkspace::start().await;
    let answer = get(&test, &format!("/discovery/workspaces/{}", test.workspace.id())).await;
    assert_eq!(answer.status, 200);
    insta::assert_json_snapshot!(answer.stable(), @r#"
    {
      "api": "{base}",
      "experimentation": "{base}",
      "history": "{base}",
      "hyperdrive": "{base}",
      "modelmanagement": "{base}",
      "studio": "{base}"
    }
    "#);
}

#[tokio::test]
async fn discovery_of_another_workspace_is_404() {
    let test = TestWorkspace::start().await;
    let answer = get(&test, "/discovery/workspaces/00000000-0000-0000-0000-000000000000").await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn openid_configuration_leads_to_the_keys() {
    let test = TestWorkspace::start().await;
    let configuration = get(&test, "/.well-known/openid-configuration").await;
    insta::assert_json_snapshot!(configuration.stable(), @r#"
    {
      "id_token_signing_alg_values_supported": [
        "ES256"
      ],
      "issuer": "https://issuer.example",
      "jwks_uri": "{base}/.well-known/jwks.json",
      "response_types_supported": [
        "id_token"
      ],
      "subject_types_supported": [
        "public"
      ]
    }
    "#);
    let keys = configuration.body["jwks_uri"].as_str().unwrap().strip_prefix(&test.base).unwrap();
    let keys = get(&test, keys).await;
    assert_eq!(keys.body["keys"][0]["kty"], "EC");
    assert_eq!(keys.body["keys"][0].get("d"), None, "the private half is nobody's");
}
