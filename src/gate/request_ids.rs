//! By what a request is known elsewhere: ids that the caller may have made up.

use super::request::HttpView;

/// Longest request id that is kept, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// Ids of a request, fit for a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RequestIds {
    /// `x-request-id`: Envoy makes one where none came, or none that it trusts.
    pub(crate) request_id: Option<String>,
    /// 16 or 32 hexadecimal digits in lower case, of `traceparent` or B3.
    pub(crate) trace_id: Option<String>,
}

/// The ids of a request. Only what such ids consist of: the caller may have written anything there.
pub(crate) fn request_ids(request: HttpView<'_>) -> RequestIds {
    RequestIds {
        request_id: request.header("x-request-id").and_then(request_id),
        trace_id: trace_id(request),
    }
}

/// What is left of a text that is to be a request id.
pub(crate) fn request_id(text: &[u8]) -> Option<String> {
    let allowed = |byte: &&u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    let id: String = text.iter().filter(allowed).take(MAX_REQUEST_ID).map(|byte| char::from(*byte)).collect();
    Some(id).filter(|id| !id.is_empty())
}

fn trace_id(request: HttpView<'_>) -> Option<String> {
    // W3C Trace Context: version, trace id, parent id and flags, with dashes between them.
    let parent = request.header("traceparent").and_then(|value| value.split(|byte| *byte == b'-').nth(1));
    let single = request.header("b3").and_then(|value| value.split(|byte| *byte == b'-').next());
    let ids = [parent, request.header("x-b3-traceid"), single];
    ids.into_iter().flatten().find_map(hexadecimal)
}

fn hexadecimal(text: &[u8]) -> Option<String> {
    let is_id = matches!(text.len(), 16 | 32)
        && text.iter().all(u8::is_ascii_hexdigit)
        && text.iter().any(|digit| *digit != b'0');
    is_id.then(|| text.iter().map(|digit| char::from(digit.to_ascii_lowercase())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
    use crate::proto::envoy::service::auth::v3::{AttributeContext, CheckRequest};
    use rstest::rstest;

    fn ids(name: &str, value: &str) -> RequestIds {
        let headers = [(name.to_owned(), value.to_owned())].into();
        let http = HttpRequest { headers, ..HttpRequest::default() };
        let attributes =
            AttributeContext { request: Some(Request { http: Some(http) }), ..AttributeContext::default() };
        let request = CheckRequest { attributes: Some(attributes) };
        request_ids(HttpView::new(&request).unwrap())
    }

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[rstest]
    #[case("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some(TRACE))]
    #[case("traceparent", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", Some(TRACE))]
    #[case("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", None)]
    #[case("traceparent", "00-secret-secret", None)]
    #[case("traceparent", "", None)]
    #[case("x-b3-traceid", TRACE, Some(TRACE))]
    #[case("x-b3-traceid", "a3ce929d0e0e4736", Some("a3ce929d0e0e4736"))]
    #[case("x-b3-traceid", "a3ce929d0e0e473", None)]
    #[case("x-b3-traceid", "a3ce929d0e0e473\n", None)]
    #[case("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1", Some(TRACE))]
    #[case("b3", "0", None)]
    fn trace_id_is_hexadecimal_or_none(#[case] name: &str, #[case] value: &str, #[case] id: Option<&str>) {
        assert_eq!(ids(name, value).trace_id.as_deref(), id);
    }

    #[test]
    fn request_id_is_bounded_and_of_few_characters() {
        let id = |value: &str| ids("x-request-id", value).request_id;
        assert_eq!(id("id-1\n=forged \u{e4}").as_deref(), Some("id-1forged"));
        assert_eq!(id(&"a".repeat(1_000)).unwrap().len(), MAX_REQUEST_ID);
        assert_eq!(id(" \n"), None);
    }
}
