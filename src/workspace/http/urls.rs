//! The URLs that a workspace gives out, and the paths that it serves.

use scoregate_authz::ComputeType;

use crate::config::WorkspaceScope;
use crate::workspace::ServiceRecord;

/// The route under which everything of a workspace is, in Azure's letter case.
pub(super) const WORKSPACE_PATH: &str = "/modelmanagement/v1.0/subscriptions/{subscription}\
    /resourceGroups/{resource_group}/providers/Microsoft.MachineLearningServices/workspaces/{workspace}";

/// Where clients reach what this process stands behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrls {
    /// The REST, without a trailing slash.
    pub base: String,
    /// The proxy in front of the models, without a trailing slash; without one scoring URIs are null.
    pub scoring_base: Option<String>,
}

impl PublicUrls {
    /// The URL of the workspace of this scope, to which `/services` and the like are appended.
    pub(super) fn workspace(&self, scope: &WorkspaceScope) -> String {
        format!("{}/modelmanagement/v1.0{scope}", self.base)
    }

    /// Where callers score a service: an AKS service at its path on the scoring base, an ACI service on its own host.
    pub(super) fn scoring_uri(&self, service: &ServiceRecord) -> Option<String> {
        let base = self.scoring_base.as_deref()?;
        Some(match (service.compute_type, service.hosts.first()) {
            (ComputeType::Aks, _) => format!("{base}/api/v1/service/{}/score", service.name),
            (ComputeType::Aci, Some(host)) => format!("{}/score", with_host(base, host)),
            (ComputeType::Aci, None) => format!("{base}/score"),
        })
    }
}

/// The scheme and the port of a base, on another host.
fn with_host(base: &str, host: &str) -> String {
    let (scheme, rest) = base.split_once("://").unwrap_or(("http", base));
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match authority.rsplit_once(':') {
        Some((_, port)) if is_port(port) => format!("{scheme}://{host}:{port}"),
        _ => format!("{scheme}://{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("https://envoy.example", "https://a.example")]
    #[case("http://127.0.0.1:8080", "http://a.example:8080")]
    #[case("http://[::1]:8080", "http://a.example:8080")]
    #[case("http://[::1]", "http://a.example")]
    #[case("https://envoy.example/below", "https://a.example")]
    fn with_host_keeps_scheme_and_port(#[case] base: &str, #[case] expected: &str) {
        assert_eq!(with_host(base, "a.example"), expected);
    }
}
