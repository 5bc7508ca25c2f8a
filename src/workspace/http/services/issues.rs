//! `GET /scoregate/v1/services/{name}/issues`: to whom keys and tokens were handed out, and when last. Our own: whoever
//! regenerates a key wants to know who has to fetch the new one.

use axum::Json;
use axum::extract::State;
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use crate::workspace::http::Api;
use crate::workspace::http::access::{Access, Endpoint, Name};
use crate::workspace::http::error::ApiError;
use crate::workspace::{IssueCount, PrincipalIssues, Role};

pub(super) fn endpoint() -> Endpoint {
    let path = "/scoregate/v1/services/{name}/issues";
    Endpoint::new(MethodFilter::GET, path, Access::Role(Role::Contributor), issues)
}

async fn issues(State(api): State<Api>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    let issues = api.workspace.issues(&name).await?;
    let principals: Vec<_> = issues.principals.iter().map(principal_object).collect();
    Ok(Json(json!({ "since": issues.since.to_string(), "value": principals })))
}

fn principal_object(issues: &PrincipalIssues) -> Value {
    json!({
        "principal": issues.principal,
        "keys": count_object(issues.keys),
        "tokens": count_object(issues.tokens),
    })
}

fn count_object(count: Option<IssueCount>) -> Value {
    count.map_or(
        Value::Null,
        |IssueCount { count, last }| json!({ "count": count, "lastTime": last.to_string() }),
    )
}
