//! `/scoregate/v1/gates`

use std::time::Duration;

use reqwest::Method;
use scoregate::workspace::Role;
use serde_json::json;

use crate::harness::TestWorkspace;

const PATH: &str = "/scoregate/v1/gates";

#[tokio::test]
async fn gates_are_shown_with_what_they_enforce() {
    let test = TestWorkspace::start().await;
    let _gate = test.silent_gate().await;
    test.create("svc", json!({})).await;
    test.clock.advance(Duration::from_secs(2));
    let mut answer = test.request(Method::GET, PATH).send().await;
    let address = answer.body["value"][0]["address"].take();
    assert!(address.as_str().unwrap().starts_with("127.0.0.1:"), "{address}");
    insta::assert_json_snapshot!(answer.stable(), @r#"
    {
      "epoch": 1,
      "revision": 2,
      "value": [
        {
          "address": null,
          "enforcedSince": null,
          "epoch": null,
          "expectedUntil": null,
          "lagRevisions": null,
          "lagSeconds": null,
          "lastNack": null,
          "name": "silent",
          "principal": "a-gate",
          "revision": null,
          "since": "2024-05-01T10:00:00Z",
          "state": "connected",
          "version": ""
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn gates_are_for_contributors() {
    let test = TestWorkspace::start().await;
    for (role, status) in [(Role::Reader, 403), (Role::Gate, 403), (Role::Contributor, 200)] {
        let credential = test.principal(role).await;
        let answer = test.request(Method::GET, PATH).bearer(&credential).send().await;
        assert_eq!(answer.status.as_u16(), status, "{role:?}");
    }
}
