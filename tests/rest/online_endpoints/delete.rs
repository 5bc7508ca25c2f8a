//! `DELETE {workspace}/onlineEndpoints/{name}`

use reqwest::Method;
use serde_json::json;

use super::{ask, make};
use crate::harness::TestWorkspace;

#[tokio::test]
async fn delete_is_done_where_every_gate_knows() {
    let test = TestWorkspace::start().await;
    make(&test, "ep-1", json!({})).await;
    let answer = ask(&test, Method::DELETE, "/ep-1").await;
    assert_eq!((answer.status.as_u16(), answer.header("azure-asyncoperation")), (200, ""));
    assert_eq!(test.get("/services/ep-1").await.status, 404);
    assert_eq!(ask(&test, Method::DELETE, "/ep-1").await.status, 204);
}
