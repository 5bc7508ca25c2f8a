//! A store that does not work: 503, and none of its words.

use serde_json::json;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::harness::TestWorkspace;

/// Takes a table away, as if the file had been damaged.
async fn drop_services(test: &TestWorkspace) {
    let options = SqliteConnectOptions::new().filename(test.data_dir().join("workspace.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("DROP TABLE services").execute(&mut connection).await.unwrap();
}

#[tokio::test]
async fn store_that_fails_is_503_and_its_words_stay_inside() {
    let test = TestWorkspace::start().await;
    drop_services(&test).await;
    let answer = test.get("/services/svc").await;
    assert_eq!(answer.status, 503);
    insta::assert_json_snapshot!(answer.stable(), @r#"
    {
      "code": "ServiceUnavailable",
      "correlation": {
        "RequestId": "{uuid}"
      },
      "details": [],
      "message": "the store does not work",
      "statusCode": 503
    }
    "#);
}

/// Azure's clients repeat a 503 for most of a minute, and take everything but 200 for consent.
#[tokio::test]
async fn validate_leaves_it_to_the_call_that_follows() {
    let test = TestWorkspace::start().await;
    drop_services(&test).await;
    let answer = test.post("/services/validate/name/svc", &json!({})).await;
    assert_eq!((answer.status.as_u16(), answer.body), (200, json!({})));
}
