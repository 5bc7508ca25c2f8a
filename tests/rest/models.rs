//! `{workspace}/models/{id}`

use crate::harness::TestWorkspace;

#[tokio::test]
async fn models_are_not_kept_here() {
    let test = TestWorkspace::start().await;
    let answer = test.get("/models/m%3A1").await;
    assert_eq!((answer.status.as_u16(), answer.message()), (404, "there is no model `m:1`"));
}
