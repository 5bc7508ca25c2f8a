//! `POST /explain`: what a check would say of a request, and how it comes to it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use scoregate_authz::{Decision, DenyReason};
use serde::{Deserialize, Serialize};

use super::check::{Decide, Decider};
use super::refusals::Steps;
use super::request::HttpView;
use crate::clock::Clock;
use crate::proto::envoy::config::core::v3::{HeaderMap as RawHeaders, HeaderValue};
use crate::proto::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use crate::proto::envoy::service::auth::v3::{AttributeContext, CheckRequest};

const MAX_BODY: usize = 512 * 1024;

/// The route. For the admin listener: it tells what no client may know.
pub(crate) fn routes(decider: Arc<Decider>, clock: Arc<dyn Clock>) -> Router {
    Router::new()
        .route("/explain", post(explain))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state((decider, clock))
}

/// What a check says, and each step on the way to it. Never a credential.
#[derive(Debug, Serialize)]
struct Explanation {
    decision: &'static str,
    reason: &'static str,
    /// Why it would be refused, where shadow lets it through.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow_reason: Option<&'static str>,
    service: Option<String>,
    revision: u64,
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
pub(super) struct Step {
    step: &'static str,
    detail: String,
}

/// Steps as they are shown.
pub(super) fn shown(steps: Steps) -> Vec<Step> {
    steps.into_iter().map(|(step, detail)| Step { step, detail }).collect()
}

async fn explain(
    State((decider, clock)): State<(Arc<Decider>, Arc<dyn Clock>)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Explanation>, Unreadable> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let request = read(content_type.unwrap_or_default(), &body)?;
    let mut steps = Steps::new();
    let verdict = decider.explain(HttpView::new(&request), clock.now(), &mut steps);
    let reason = verdict.decision.reason();
    let would_be = match &verdict.decision {
        Decision::Allow(permit) => permit.would_be(),
        Decision::Deny(_) | Decision::Undecided(_) => None,
    };
    Ok(Json(Explanation {
        decision: reason.outcome(),
        reason: reason.code(),
        shadow_reason: would_be.map(DenyReason::code),
        service: verdict.service.map(|service| service.name().to_string()),
        revision: verdict.revision,
        steps: shown(steps),
    }))
}

/// A body that is no request. Says where it is wrong and never what is there: that may be a credential.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Unreadable {
    #[error("send `application/json` or `application/x-protobuf`")]
    ContentType,
    #[error("the body is not a `CheckRequest` in protobuf")]
    Protobuf,
    #[error("the body is not JSON: see line {line}, column {column}")]
    Json { line: usize, column: usize },
    #[error("`{path}` is not what it should be")]
    Shape { path: String },
}

impl IntoResponse for Unreadable {
    fn into_response(self) -> Response {
        let status = match self {
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Protobuf | Self::Json { .. } | Self::Shape { .. } => StatusCode::BAD_REQUEST,
        };
        let error = serde_json::json!({ "error": { "code": "BadRequest", "message": self.to_string() } });
        (status, Json(error)).into_response()
    }
}

fn read(content_type: &str, body: &[u8]) -> Result<CheckRequest, Unreadable> {
    match content_type.split(';').next().map(str::trim) {
        Some("application/x-protobuf") => CheckRequest::decode(body).map_err(|_| Unreadable::Protobuf),
        Some("application/json") => read_json(body),
        _ => Err(Unreadable::ContentType),
    }
}

fn read_json(body: &[u8]) -> Result<CheckRequest, Unreadable> {
    let value: serde_json::Value = serde_json::from_slice(body)
        .map_err(|error| Unreadable::Json { line: error.line(), column: error.column() })?;
    // The JSON of an empty CheckRequest is an empty object.
    if value.get("attributes").is_some() || value.as_object().is_some_and(serde_json::Map::is_empty) {
        typed::<RecordedCheck>(value).map(RecordedCheck::into_request)
    } else {
        typed::<ShortRequest>(value).map(ShortRequest::into_request)
    }
}

fn typed<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T, Unreadable> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| Unreadable::Shape { path: error.path().to_string() })
}

/// A request as a person writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShortRequest {
    service: Option<String>,
    #[serde(default)]
    host: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    method: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
}

impl ShortRequest {
    fn into_request(self) -> CheckRequest {
        let header = |(key, value): (String, String)| HeaderValue {
            key,
            value: String::new(),
            raw_value: value.into_bytes(),
        };
        let headers = self.headers.into_iter().map(header).collect();
        let http = HttpRequest {
            method: self.method,
            path: self.path,
            host: self.host,
            header_map: Some(RawHeaders { headers }),
            ..HttpRequest::default()
        };
        let service = self.service.map(|service| ("service".to_owned(), service));
        check_request(Some(http), service.into_iter().collect())
    }
}

fn check_request(http: Option<HttpRequest>, context_extensions: HashMap<String, String>) -> CheckRequest {
    let attributes = AttributeContext { request: Some(Request { http }), context_extensions };
    CheckRequest { attributes: Some(attributes) }
}

/// A `CheckRequest` in protobuf's JSON, as Envoy's tap and debug logs have it. Members that are not read are skipped.
#[derive(Deserialize)]
struct RecordedCheck {
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Default, Deserialize)]
struct Attributes {
    #[serde(default)]
    request: RecordedRequest,
    #[serde(default, alias = "contextExtensions")]
    context_extensions: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
struct RecordedRequest {
    http: Option<RecordedHttp>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct RecordedHttp {
    method: String,
    path: String,
    host: String,
    headers: HashMap<String, String>,
    #[serde(alias = "headerMap")]
    header_map: Option<RecordedHeaders>,
}

#[derive(Deserialize)]
struct RecordedHeaders {
    #[serde(default)]
    headers: Vec<RecordedHeader>,
}

#[derive(Deserialize)]
struct RecordedHeader {
    key: String,
    #[serde(default)]
    value: String,
    /// Base64, as protobuf's JSON writes bytes.
    #[serde(default, alias = "rawValue", deserialize_with = "bytes")]
    raw_value: Vec<u8>,
}

impl RecordedCheck {
    fn into_request(self) -> CheckRequest {
        let http = self.attributes.request.http.map(|http| HttpRequest {
            id: String::new(),
            method: http.method,
            headers: http.headers,
            path: http.path,
            host: http.host,
            header_map: http.header_map.map(RecordedHeaders::into_raw),
        });
        check_request(http, self.attributes.context_extensions)
    }
}

impl RecordedHeaders {
    fn into_raw(self) -> RawHeaders {
        let header = |RecordedHeader { key, value, raw_value }| HeaderValue { key, value, raw_value };
        RawHeaders { headers: self.headers.into_iter().map(header).collect() }
    }
}

fn bytes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(|_| serde::de::Error::custom("not base64"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use scoregate_authz::RequestView;

    const JSON: &str = "application/json";

    fn credential(request: &CheckRequest) -> (Vec<u8>, Option<String>) {
        let view = HttpView::new(request).unwrap();
        (view.header("authorization").unwrap().to_vec(), view.service().map(str::to_owned))
    }

    #[rstest]
    #[case(r#"{"service":"svc","path":"/score","headers":[["Authorization","Bearer k"]]}"#)]
    #[case(
        r#"{"attributes":{"source":{},"request":{"http":{"headers":{"authorization":"Bearer k"}}},
            "contextExtensions":{"service":"svc"}}}"#
    )]
    #[case(
        r#"{"attributes":{"request":{"http":{"headerMap":{"headers":[{"key":"authorization","rawValue":"QmVhcmVyIGs="}]}}},
            "contextExtensions":{"service":"svc"}}}"#
    )]
    #[case(
        r#"{"attributes":{"request":{"http":{"header_map":{"headers":[{"key":"authorization","raw_value":"QmVhcmVyIGs="}]}}},
            "context_extensions":{"service":"svc"}}}"#
    )]
    fn read_understands_each_shape(#[case] body: &str) {
        let request = read(JSON, body.as_bytes()).unwrap();
        assert_eq!(credential(&request), (b"Bearer k".to_vec(), Some("svc".to_owned())));
    }

    #[rstest]
    #[case("{}")]
    #[case(r#"{"attributes":{}}"#)]
    #[case(r#"{"attributes":{"request":{},"contextExtensions":{"service":"svc"}}}"#)]
    fn read_finds_nothing_about_http_where_nothing_is(#[case] body: &str) {
        let request = read(JSON, body.as_bytes()).unwrap();
        assert!(HttpView::new(&request).is_none());
    }

    #[test]
    fn read_takes_what_protobuf_leaves_out_as_empty() {
        let body = r#"{"attributes":{"request":{"http":{"headerMap":{}}}}}"#;
        let request = read(JSON, body.as_bytes()).unwrap();
        assert!(HttpView::new(&request).is_some());
    }

    #[rstest]
    #[case(JSON, r#"{"headers":[["authorization","sgk_secret"],7]}"#)]
    #[case(JSON, r#"{"headers":"sgk_secret"}"#)]
    #[case(JSON, r#"{"service":"svc", "sgk_secret"#)]
    #[case(JSON, r#"{"attributes":"sgk_secret"}"#)]
    #[case("text/plain", "sgk_secret")]
    #[case("application/x-protobuf", "sgk_secret")]
    fn t129_read_refuses_without_an_echo(#[case] content_type: &str, #[case] body: &str) {
        let error = read(content_type, body.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
