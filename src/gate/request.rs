//! What the core and the answer need of a `CheckRequest`.

use scoregate_authz::RequestView;

use crate::proto::envoy::config::core::v3::HeaderValue;
use crate::proto::envoy::service::auth::v3::CheckRequest;
use crate::proto::envoy::service::auth::v3::attribute_context::HttpRequest;

/// The key of `context_extensions` under which a route of Envoy names its service. Others are ignored.
const SERVICE_EXTENSION: &str = "service";

/// What the identity headers of an answer start with; no client's header may pass for one of them.
const IDENTITY_PREFIX: &[u8] = b"x-scoregate-";

/// The HTTP request of a `CheckRequest`.
#[derive(Clone, Copy)]
pub struct HttpView<'a> {
    service: Option<&'a str>,
    http: &'a HttpRequest,
}

impl std::fmt::Debug for HttpView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Headers hold credentials.
        f.debug_struct("HttpView").field("service", &self.service).finish_non_exhaustive()
    }
}

impl<'a> HttpView<'a> {
    /// `None` where the request is not about HTTP.
    #[must_use]
    pub fn new(request: &'a CheckRequest) -> Option<Self> {
        let attributes = request.attributes.as_ref()?;
        let http = attributes.request.as_ref()?.http.as_ref()?;
        Some(Self { service: attributes.context_extensions.get(SERVICE_EXTENSION).map(String::as_str), http })
    }

    /// Whether Envoy will answer the caller in gRPC: it goes by the same content types. gRPC-Web is HTTP to it.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        let content_type = self.header("content-type").unwrap_or_default();
        let rest = content_type.strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+"))
    }

    /// The value of the first header of this name, which is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.all_headers().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Headers that pass for identity headers with a server that takes `_` for `-`, as WSGI and CGI do.
    pub(crate) fn identity_lookalikes(&self) -> impl Iterator<Item = String> + use<'a> {
        self.all_headers()
            .map(|(name, _)| name)
            .filter(|name| is_lookalike(name))
            .map(str::to_ascii_lowercase)
    }

    fn all_headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        joined(self.http).chain(listed(self.http))
    }
}

fn is_lookalike(name: &str) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    let is_header_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    name.len() > IDENTITY_PREFIX.len()
        && name.bytes().map(dashed).zip(IDENTITY_PREFIX).all(|(byte, wanted)| byte == *wanted)
        && name.contains('_')
        && name.bytes().all(is_header_name)
}

fn joined(http: &HttpRequest) -> impl Iterator<Item = (&str, &[u8])> {
    http.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

fn listed(http: &HttpRequest) -> impl Iterator<Item = (&str, &[u8])> {
    http.header_map.iter().flat_map(|map| &map.headers).flat_map(values)
}

/// The value of a header. Envoy sets one of the two members; a header with both is as good as two headers.
fn values(header: &HeaderValue) -> impl Iterator<Item = (&str, &[u8])> {
    let text = Some(header.value.as_bytes()).filter(|text| !text.is_empty() || header.raw_value.is_empty());
    let raw = Some(header.raw_value.as_slice()).filter(|raw| !raw.is_empty());
    text.into_iter().chain(raw).map(|value| (header.key.as_str(), value))
}

impl RequestView for HttpView<'_> {
    fn service(&self) -> Option<&str> {
        self.service
    }

    fn host(&self) -> &str {
        &self.http.host
    }

    fn path(&self) -> &str {
        &self.http.path
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        joined(self.http)
    }

    fn raw_headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        listed(self.http)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::envoy::config::core::v3::HeaderMap;
    use rstest::rstest;

    fn with_headers(headers: &[(&str, &str, &str)]) -> HttpRequest {
        let header = |(key, value, raw): &(&str, &str, &str)| HeaderValue {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
            raw_value: raw.as_bytes().to_vec(),
        };
        let headers = headers.iter().map(header).collect();
        HttpRequest { header_map: Some(HeaderMap { headers }), ..HttpRequest::default() }
    }

    fn view(http: &HttpRequest) -> HttpView<'_> {
        HttpView { service: None, http }
    }

    #[rstest]
    #[case("application/grpc", true)]
    #[case("application/grpc+proto", true)]
    #[case("application/grpc-web", false)]
    #[case("application/grpc-web+proto", false)]
    #[case("application/json", false)]
    #[case("", false)]
    fn t123_grpc_callers_are_told_by_their_content_type(#[case] content_type: &str, #[case] expected: bool) {
        assert_eq!(view(&with_headers(&[("content-type", "", content_type)])).is_grpc(), expected);
    }

    #[rstest]
    #[case("x_scoregate_subject", true)]
    #[case("X_Scoregate-Subject", true)]
    #[case("x-scoregate-key_slot", true)]
    #[case("x-scoregate-subject", false)]
    #[case("x_scoregate_", false)]
    #[case("x_scoregate_\nx", false)]
    #[case("x_score", false)]
    fn t121_lookalikes_of_identity_headers_are_found(#[case] name: &str, #[case] expected: bool) {
        let http = with_headers(&[(name, "admin", "")]);
        assert_eq!(view(&http).identity_lookalikes().count() == 1, expected);
    }

    #[rstest]
    #[case(("a", "", ""), &[""])]
    #[case(("a", "text", ""), &["text"])]
    #[case(("a", "", "raw"), &["raw"])]
    #[case(("a", "text", "raw"), &["text", "raw"])]
    fn raw_headers_of_a_list(#[case] header: (&str, &str, &str), #[case] expected: &[&str]) {
        let http = with_headers(&[header]);
        let view = view(&http);
        let found: Vec<_> = view.raw_headers().map(|(_, value)| str::from_utf8(value).unwrap()).collect();
        assert_eq!(found, expected);
    }
}
