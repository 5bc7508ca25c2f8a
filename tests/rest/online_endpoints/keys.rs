//! `POST {workspace}/onlineEndpoints/{name}/listKeys` and `.../regenerateKeys`

use reqwest::Method;
use serde_json::json;

use super::{ask, keys, make, send};
use crate::harness::TestWorkspace;

const REGENERATE: &str = "/ep-1/regenerateKeys";

#[tokio::test]
async fn keys_are_those_of_sdk_v1_in_every_mode() {
    let test = TestWorkspace::start().await;
    for mode in ["Key", "AMLToken", "Disabled"] {
        make(&test, "ep-1", json!({ "authMode": mode })).await;
        let of_v1 = test.post_nothing("/services/ep-1/listkeys").await.body;
        let (primary, secondary) = keys(&test, "ep-1").await;
        assert_eq!(of_v1, json!({ "primaryKey": primary, "secondaryKey": secondary }), "{mode}");
        ask(&test, Method::DELETE, "/ep-1").await;
    }
}

/// The SDK sends the key that it has just read.
#[tokio::test]
async fn regenerate_takes_the_present_key_or_none_for_a_new_one() {
    let test = TestWorkspace::start().await;
    make(&test, "ep-1", json!({})).await;
    for is_primary in [true, false] {
        for sends_key in [true, false] {
            let before = keys(&test, "ep-1").await;
            let (key_type, key) = if is_primary { ("Primary", &before.0) } else { ("Secondary", &before.1) };
            let body = json!({ "keyType": key_type, "keyValue": sends_key.then_some(key) });
            let answer = send(&test, Method::POST, REGENERATE, &body).await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("azure-asyncoperation")),
                (200, ""),
                "{key_type}"
            );
            let after = keys(&test, "ep-1").await;
            assert_eq!((before.0 != after.0, before.1 != after.1), (is_primary, !is_primary), "{key_type}");
        }
    }
}

/// Two who regenerate at the same time both send the key that they have read; the later one must not set it again.
#[tokio::test]
async fn regenerate_with_a_key_that_was_replaced_does_not_revive_it() {
    let test = TestWorkspace::start().await;
    make(&test, "ep-1", json!({})).await;
    let (old, secondary) = keys(&test, "ep-1").await;
    let body = json!({ "keyType": "Primary", "keyValue": old });
    assert_eq!(send(&test, Method::POST, REGENERATE, &body).await.status, 200);
    let after = keys(&test, "ep-1").await;
    for stale in [old.as_str(), secondary.as_str(), "a-key-of-my-own-choice", ""] {
        let body = json!({ "keyType": "Primary", "keyValue": stale });
        let answer = send(&test, Method::POST, REGENERATE, &body).await;
        assert_eq!(answer.status, 409);
        assert_eq!(
            answer.message(),
            "the primary key of `ep-1` has changed since it was read: read the keys again"
        );
        assert_eq!(keys(&test, "ep-1").await, after);
    }
}

#[tokio::test]
async fn regenerate_refuses_what_is_no_slot() {
    let test = TestWorkspace::start().await;
    make(&test, "ep-1", json!({})).await;
    for body in [json!({}), json!({ "keyType": "Both" }), json!({ "keyType": 2 })] {
        assert_eq!(send(&test, Method::POST, REGENERATE, &body).await.status, 400, "{body}");
    }
}
