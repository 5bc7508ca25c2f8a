//! From where a change comes, for the audit.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use super::Api;
use super::access::Caller;
use super::error::ApiError;
use super::observe::RequestId;
use crate::listen::Peer;
use crate::workspace::Origin;

/// A handler that takes it can only stand behind a guard.
///
/// The address is that of the connection. `Forwarded`, `X-Forwarded-For` and the like are not read: any client can send
/// them, and an audit that repeats what it was told proves nothing. Behind a proxy the address is the proxy's, and the
/// request's id leads to the client in the proxy's own log.
impl FromRequestParts<Api> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        let Parts { extensions, headers, .. } = parts;
        let Caller(principal) = extensions.get().ok_or(ApiError::Unauthenticated)?;
        let RequestId(id) = extensions.get().ok_or(ApiError::Unauthenticated)?;
        let peer: &Peer = extensions.get().ok_or(ApiError::Unauthenticated)?;
        Ok(Self { patience: patience(headers), ..Self::of_request(principal, *peer, *id) })
    }
}

/// Longest time for which gates are waited for, in seconds. That of `workspace.enforcement_timeout`, too.
const MOST_PATIENCE: u64 = 600;

/// The preference `wait` (RFC 7240, section 4.3), in seconds: the first one counts. A preference that cannot be met is
/// ignored, as that says (section 2).
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let preferences = values.flat_map(|value| value.split(','));
    let mut waits = preferences.filter_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"'))
    });
    let seconds = waits.next()?.parse().ok()?;
    (1..=MOST_PATIENCE).contains(&seconds).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use rstest::rstest;

    #[rstest]
    #[case(&["wait=60"], Some(60))]
    #[case(&["respond-async, WAIT = \"5\"; x=y"], Some(5))]
    #[case(&["return=minimal", "wait=1", "wait=2"], Some(1))]
    #[case(&[], None)]
    #[case(&["wait"], None)]
    #[case(&["wait=0"], None)]
    #[case(&["wait=601"], None)]
    #[case(&["wait=-1"], None)]
    #[case(&["await=5"], None)]
    fn patience_is_the_first_wait(#[case] values: &[&'static str], #[case] expected: Option<u64>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("prefer", HeaderValue::from_static(value));
        }
        assert_eq!(patience(&headers), expected.map(Duration::from_secs));
    }
}
