//! `/metadata/endpoints` and `/subscriptions/...`

use reqwest::Method;
use scoregate::workspace::Role;
use serde_json::json;

use crate::harness::{Answer, TestWorkspace};

const WORKSPACE: &str = "/subscriptions/sub/resourceGroups/group\
    /providers/Microsoft.MachineLearningServices/workspaces/ws";

async fn read(test: &TestWorkspace, path: &str) -> Answer {
    let reader = test.principal(Role::Reader).await;
    test.request(Method::GET, path).bearer(&reader).send().await
}

#[tokio::test]
async fn metadata_leads_back_here() {
    let test = TestWorkspace::start().await;
    let answer =
        test.request(Method::GET, "/metadata/endpoints?api-version=2019-05-01").anonymous().send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body[0]["authentication"]["tenant"], test.workspace.id().to_string());
    insta::assert_json_snapshot!(answer.stable(), @r#"
    [
      {
        "authentication": {
          "audiences": [
            "{base}"
          ],
          "identityProvider": "AAD",
          "loginEndpoint": "{base}/adfs",
          "tenant": "{uuid}"
        },
        "graphAudience": "{base}",
        "name": "Scoregate",
        "portal": "{base}",
        "resourceManager": "{base}",
        "suffixes": {
          "storage": "scoregate.invalid"
        }
      }
    ]
    "#);
}

#[tokio::test]
async fn subscriptions_has_the_workspaces_own() {
    let test = TestWorkspace::start().await;
    let answer = read(&test, "/subscriptions?api-version=2022-12-01").await;
    assert_eq!(answer.status, 200);
    insta::assert_json_snapshot!(answer.stable(), @r#"
    {
      "value": [
        {
          "displayName": "scoregate",
          "id": "/subscriptions/sub",
          "state": "Enabled",
          "subscriptionId": "sub",
          "tenantId": "{uuid}"
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn workspace_leads_to_its_discovery() {
    let test = TestWorkspace::start().await;
    let answer = read(&test, &format!("{WORKSPACE}?api-version=2022-05-01")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["properties"]["workspaceId"], test.workspace.id().to_string());
    insta::assert_json_snapshot!(answer.stable(), @r#"
    {
      "id": "/subscriptions/sub/resourceGroups/group/providers/Microsoft.MachineLearningServices/workspaces/ws",
      "location": "local",
      "name": "ws",
      "properties": {
        "description": "A workspace of scoregate",
        "discoveryUrl": "{base}/discovery/workspaces/{uuid}",
        "friendlyName": "ws",
        "provisioningState": "Succeeded",
        "workspaceId": "{uuid}"
      },
      "sku": {
        "name": "Basic",
        "tier": "Basic"
      },
      "tags": {},
      "type": "Microsoft.MachineLearningServices/workspaces"
    }
    "#);
    let discovery = answer.body["properties"]["discoveryUrl"].as_str().unwrap();
    let discovery = discovery.strip_prefix(&test.base).unwrap();
    let found = test.request(Method::GET, discovery).anonymous().send().await;
    assert_eq!(found.body["modelmanagement"], test.base);
}

#[tokio::test]
async fn workspace_in_another_letter_case_is_the_same() {
    let test = TestWorkspace::start().await;
    let path = WORKSPACE.replace("/sub/", "/SUB/").replace("/group/", "/Group/").replace("/ws", "/WS");
    assert_eq!(read(&test, &path).await.body["name"], "ws");
}

#[tokio::test]
async fn words_between_names_are_in_one_letter_case_and_refusals_in_every_one() {
    let test = TestWorkspace::start().await;
    for (word, other) in [("resourceGroups", "resourcegroups"), ("subscriptions", "Subscriptions")] {
        let answer = test.request(Method::GET, &WORKSPACE.replace(word, other)).send().await;
        assert_eq!(answer.status, 404, "{other}");
        assert_eq!(answer.body["error"]["message"], "there is nothing at this path", "{other}");
    }
}

#[tokio::test]
async fn workspace_of_another_name_is_404() {
    let test = TestWorkspace::start().await;
    let answer = test.request(Method::GET, &WORKSPACE.replace("/ws", "/other")).send().await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn workspaces_of_group_and_subscription_are_the_one() {
    let test = TestWorkspace::start().await;
    let workspace = test.request(Method::GET, WORKSPACE).send().await.body;
    for path in ["/subscriptions/sub/resources", WORKSPACE.strip_suffix("/ws").unwrap()] {
        for (filter, expected) in [
            ("", json!([workspace])),
            ("?$filter=resourceType+eq+'microsoft.machineLearningServices/workspaces'", json!([workspace])),
            ("?$filter=resourceType+eq+'Microsoft.Storage/storageAccounts'", json!([])),
        ] {
            let answer = test.request(Method::GET, &format!("{path}{filter}")).send().await;
            assert_eq!((answer.status.as_u16(), &answer.body["value"]), (200, &expected), "{filter}");
        }
        let foreign = test.request(Method::GET, &path.replace("/sub/", "/other/")).send().await;
        assert_eq!(foreign.status, 404);
    }
}
