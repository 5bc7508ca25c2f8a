//! Reading bodies: bounded in length and time, of a declared type, and never repeated in an error.

use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use scoregate_authz::UniqueJson;
use serde_json::Value;

use super::Api;
use super::access::Caller;
use super::error::ApiError;

/// Longest body, in bytes. A create request with all that Azure's clients put into it has a few thousand.
const MAX_LENGTH: usize = 1024 * 1024;
/// How long a client may take to send it.
const TIMEOUT: Duration = Duration::from_secs(20);

pub(super) const JSON: &str = "application/json";
/// RFC 6902, section 6.
pub(super) const JSON_PATCH: &str = "application/json-patch+json";

/// A JSON document.
pub(super) struct JsonBody(pub(super) Value);

impl FromRequest<Api> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        require(request.headers(), JSON)?;
        parse(&read(request, api).await?).map(Self)
    }
}

/// A JSON document, or nothing.
pub(super) struct OptionalJsonBody(pub(super) Option<Value>);

impl FromRequest<Api> for OptionalJsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let is_json = require(request.headers(), JSON);
        let bytes = read(request, api).await?;
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        is_json?;
        parse(&bytes).map(|document| Self(Some(document)))
    }
}

/// A JSON Patch document.
pub(super) struct JsonPatchBody(pub(super) Value);

impl FromRequest<Api> for JsonPatchBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        require(request.headers(), JSON_PATCH)?;
        parse(&read(request, api).await?).map(Self)
    }
}

fn require(headers: &HeaderMap, media_type: &'static str) -> Result<(), ApiError> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(media_type) { Ok(()) } else { Err(ApiError::MediaType(media_type)) }
}

/// Whoever sends it was known at its beginning, and has to be at its end.
async fn read(request: Request, api: &Api) -> Result<Bytes, ApiError> {
    let caller = request.extensions().get::<Caller>().cloned();
    let bytes = read_whole(request).await?;
    match caller {
        Some(Caller(principal)) if !api.workspace.knows(&principal) => Err(ApiError::Unauthenticated),
        _ => Ok(bytes),
    }
}

async fn read_whole(request: Request) -> Result<Bytes, ApiError> {
    let body = to_bytes(request.into_body(), MAX_LENGTH);
    match tokio::time::timeout(TIMEOUT, body).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => Err(ApiError::BodyTooLong(MAX_LENGTH)),
        Ok(Err(_)) | Err(_) => Err(ApiError::BodyLost),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error)
        .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>)
}

fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    let parsed: Result<UniqueJson, _> = serde_json::from_slice(bytes);
    parsed.map(|UniqueJson(document)| document).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        if error.is_data() {
            ApiError::DuplicateMember { line, column }
        } else {
            ApiError::MalformedJson { line, column }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_of_a_broken_body_tells_the_place_only() {
        let error = parse(b"{\n \"keyValue\": \"secret-secret-secret\", }").unwrap_err();
        insta::assert_snapshot!(error, @"the body is not JSON: the error is at line 2, column 38");
    }
}
