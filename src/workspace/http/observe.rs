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
use super::error::ApiError;
use super::urls::WORKSPACE_PATH;
use crate::workspace::WorkspaceError;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Goes around all routes and the fallbacks.
pub(super) async fn observe(request: Request, next: Next) -> Response {
    let id = Uuid::new_v4();
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();

    let mut response = next.run(request).await;

    let error = response.extensions_mut().remove::<Arc<ApiError>>();
    if let Some(error) = &error {
        explain(&mut response, error, id);
    }
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let caller = response.extensions_mut().remove::<Caller>();
    let line = Line { id, method, route, caller, status: response.status(), took: started.elapsed() };
    line.write(error.as_deref());
    response
}

fn explain(response: &mut Response, error: &ApiError, id: Uuid) {
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    *response.body_mut() = Body::from(error.body(id).to_string());
}

/// A line of the log. It has the route, not the path: a path is the client's text and may hold anything.
struct Line {
    id: Uuid,
    method: Method,
    route: Option<MatchedPath>,
    caller: Option<Caller>,
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
        tracing::info!(request = %id, %method, route, principal, status, ?took, refusal, "request");
    }
}

/// A route without the long prefix that all of them have in common.
fn short(route: &str) -> &str {
    route.strip_prefix(WORKSPACE_PATH).unwrap_or(route)
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
