//! In place of `spans`, in a build without the feature `otlp`: nothing, which costs nothing.

use std::time::Duration;

use scoregate_authz::{UnixTime, Verdict};
use tonic::metadata::MetadataMap;

use super::request::HttpView;
use crate::config::TraceConfig;
use crate::metrics::Metrics;
use crate::proto::envoy::service::auth::v3::CheckResponse;
use crate::shutdown::Shutdown;

#[derive(Debug, Clone)]
pub(super) struct Spans;

impl Spans {
    pub(super) fn start(_: Option<TraceConfig>, _: &str, _: &Metrics, _: &Shutdown) -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "the other one has something")]
    pub(super) fn note(
        &self,
        _: &MetadataMap,
        _: Option<HttpView<'_>>,
        _: &Verdict,
        _: &CheckResponse,
        _: UnixTime,
        _: Duration,
    ) {
    }
}
