//! What every request gets: an id, one line in the log, and, where it was refused, a body that says why.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use uuid::Uuid;

use super::access::Caller;
use super::error::{ApiError, Dialect, ErrorBody};
use super::urls::{RESOURCE_PATH, WORKSPACE_PATH};
use crate::listen::Peer;
use crate::workspace::{Issue, WorkspaceError};

/// The id of a request, among its extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestId(pub(super) Uuid);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Goes around all routes and the fallbacks.
pub(super) async fn observe(mut request: Request, next: Next) -> Response {
    let id = Uuid::new_v4();
    let started = Instant::now();
    let method = request.method().clone();
    let dialect = Dialect::of(request.uri().path());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let peer = request.extensions().get::<Peer>().copied();
    request.extensions_mut().insert(RequestId(id));

    let mut response = next.run(request).await;

    let error = response.extensions_mut().remove::<Arc<ApiError>>();
    if let Some(error) = &error {
        explain(&mut response, &error.body(dialect, id));
    }
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let caller = response.extensions_mut().remove::<Caller>();
    let issue = response.extensions_mut().remove::<Issue>();
    let (status, took) = (response.status(), started.elapsed());
    let line = Line { id, method, route, peer, caller, issue, status, took };
    line.write(error.as_deref());
    response
}

fn explain(response: &mut Response, body: &ErrorBody) {
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    let body = serde_json::to_vec(body).unwrap_or_default();
    *response.body_mut() = Body::from(body);
}

/// The target of the lines of requests that handed out keys or a token, so that a filter can keep them alone, or apart:
/// `warn,scoregate::issue=info`.
const ISSUE_TARGET: &str = "scoregate::issue";

/// A line of the log. It has the route, not the path: a path is the client's text and may hold anything.
struct Line {
    id: Uuid,
    method: Method,
    route: Option<MatchedPath>,
    peer: Option<Peer>,
    caller: Option<Caller>,
    issue: Option<Issue>,
    status: StatusCode,
    took: Duration,
}

impl Line {
    fn write(&self, error: Option<&ApiError>) {
        let Self { id, method, took, .. } = self;
        let route = self.route.as_ref().map_or("-", |route| short(route.as_str()));
        let principal = self.caller.as_ref().map_or("-", |caller| caller.0.name.as_str());
        let status = self.status.as_u16();
        if let Some(ApiError::Workspace(WorkspaceError::Store(cause))) = error {
            let error: &dyn std::error::Error = &**cause;
            tracing::error!(request = %id, error, "the store does not work");
        }
        let refusal = error.map(code).unwrap_or_default();
        let remote = self.peer.map(tracing::field::display);
        match &self.issue {
            None => {
                tracing::info!(request = %id, %method, route, remote, principal, status, ?took, refusal, "request");
            }
            // One line for both: keys and tokens are asked for before every scoring call.
            Some(Issue { event, service, uid }) => {
                let event = event.as_str();
                tracing::info!(
                    target: ISSUE_TARGET, event, %service, %uid,
                    request = %id, %method, route, remote, principal, status, ?took, refusal, "request"
                );
            }
        }
    }
}

/// A route without the long prefix that most of them have.
fn short(route: &str) -> &str {
    let below = |prefix: &&str| route.strip_prefix(*prefix).filter(|rest| !rest.is_empty());
    [WORKSPACE_PATH, RESOURCE_PATH].iter().find_map(below).unwrap_or(route)
}

/// The kind of a refusal, without any text of the client's.
fn code(error: &ApiError) -> &'static str {
    match error {
        ApiError::Unauthenticated => "unauthenticated",
        ApiError::NoSecret => "no_secret",
        ApiError::WrongSecret => "wrong_secret",
        ApiError::Forbidden { .. } => "forbidden",
        ApiError::UnknownPath | ApiError::MethodNotAllowed => "no_route",
        ApiError::ForeignScope => "foreign_scope",
        ApiError::Unknown { .. } => "unknown",
        ApiError::NoFiles => "no_files",
        ApiError::MediaType(_) => "media_type",
        ApiError::BodyTooLong(_)
        | ApiError::BodyLost
        | ApiError::MalformedJson { .. }
        | ApiError::DuplicateMember { .. } => "bad_body",
        ApiError::Invalid { .. } => "invalid",
        ApiError::Workspace(_) => "workspace",
    }
}
