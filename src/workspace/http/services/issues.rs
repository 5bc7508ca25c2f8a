//! `GET /scoregate/v1/services/{name}/issues`: to whom keys and tokens were handed out, and when last. Our own: whoever
//! regenerates a key wants to know who has to fetch the new one.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde::Serialize;
use utoipa::ToSchema;

use crate::workspace::http::Api;
use crate::workspace::http::access::{Access, Endpoint, Name};
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::{IssueCount, PrincipalIssues, Role};

pub(super) fn endpoint() -> Endpoint {
    let path = "/scoregate/v1/services/{name}/issues";
    let description =
        Description::new(Group::Credentials, "listIssues", "List to whom keys and tokens were handed out")
            .detail("Whoever regenerates a key learns here who has to fetch the new one.")
            .path("name", "The service's name.")
            .answer::<IssueList>(StatusCode::OK, "By principal, since the workspace was started.")
            .refusal(StatusCode::NOT_FOUND, "No service has this name.");
    Endpoint::new(MethodFilter::GET, path, Access::Role(Role::Contributor), issues, description)
}

/// To whom keys and tokens of a service were handed out.
#[derive(Serialize, ToSchema)]
struct IssueList {
    /// From when on: what was before is in the log.
    #[schema(format = DateTime)]
    since: String,
    value: Vec<PrincipalIssuesObject>,
}

/// What one principal was given.
#[derive(Serialize, ToSchema)]
#[schema(as = PrincipalIssues)]
struct PrincipalIssuesObject {
    principal: String,
    /// Both keys; null if never.
    #[schema(required)]
    keys: Option<IssueCountObject>,
    /// Tokens, the same ones again included; null if never.
    #[schema(required)]
    tokens: Option<IssueCountObject>,
}

/// How often, and when last.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = IssueCount)]
struct IssueCountObject {
    count: u64,
    #[schema(format = DateTime)]
    last_time: String,
}

async fn issues(State(api): State<Api>, Name(name): Name) -> Result<Json<IssueList>, ApiError> {
    let issues = api.workspace.issues(&name).await?;
    let value = issues.principals.into_iter().map(Into::into).collect();
    Ok(Json(IssueList { since: issues.since.to_string(), value }))
}

impl From<PrincipalIssues> for PrincipalIssuesObject {
    fn from(PrincipalIssues { principal, keys, tokens }: PrincipalIssues) -> Self {
        Self { principal, keys: keys.map(Into::into), tokens: tokens.map(Into::into) }
    }
}

impl From<IssueCount> for IssueCountObject {
    fn from(IssueCount { count, last }: IssueCount) -> Self {
        Self { count, last_time: last.to_string() }
    }
}
