//! `POST /artifact/v2.0/...`

use reqwest::Method;
use serde_json::json;

use crate::harness::TestWorkspace;

#[tokio::test]
async fn artifacts_are_refused_with_what_to_do_instead() {
    let test = TestWorkspace::start().await;
    let workspace = TestWorkspace::path("").replace("/modelmanagement/v1.0", "/artifact/v2.0");
    let path = format!("{workspace}/artifacts/batch/metadata/LocalUpload/x");
    let body = json!({ "paths": [{ "path": "score.py" }] });
    let answer = test.request(Method::POST, &path).json(&body).send().await;
    assert_eq!(answer.status, 400);
    assert!(answer.message().contains("Deploy without `inference_config`"));
    // Where the SDK looks for it.
    assert_eq!(answer.body["error"]["message"], answer.message());
    assert_eq!(answer.body["error"]["details"], json!([]));
}
