//! The URLs that a workspace gives out, and the paths that it serves.

use scoregate_authz::ComputeType;
use uuid::Uuid;

use crate::config::WorkspaceScope;
use crate::terms::SCORING_URI_TAG;
use crate::workspace::ServiceRecord;

/// The route under which everything of a workspace is, in Azure's letter case.
pub(super) const WORKSPACE_PATH: &str = "/modelmanagement/v1.0/subscriptions/{subscription}\
    /resourceGroups/{resource_group}/providers/Microsoft.MachineLearningServices/workspaces/{workspace}";

/// The route of the workspace in Azure's tree of resources, where SDK v2 and Resource Manager's clients ask. In Azure all
/// of a path is the same in any letter case; here the names in it are, and the words between them are as those clients
/// write them.
pub(super) const RESOURCE_PATH: &str = "/subscriptions/{subscription}/resourceGroups/{resource_group}\
    /providers/Microsoft.MachineLearningServices/workspaces/{workspace}";

/// Where Azure's tree of resources begins.
const RESOURCES: &str = "/subscriptions";

/// Where the workspace and what is in it are said to be.
pub(super) const LOCATION: &str = "local";

/// Where clients reach what this process stands behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrls {
    /// The REST, without a trailing slash.
    pub base: String,
    /// The proxy in front of the models, without a trailing slash; without one scoring URIs are null, but those that a
    /// tag names.
    pub scoring_base: Option<String>,
}

impl PublicUrls {
    /// The URL of the workspace of this scope, to which `/services` and the like are appended.
    pub(super) fn workspace(&self, scope: &WorkspaceScope) -> String {
        format!("{}/modelmanagement/v1.0{scope}", self.base)
    }

    /// The URL of the workspace as a resource of Azure's.
    pub(super) fn resource(&self, scope: &WorkspaceScope) -> String {
        format!("{}{scope}", self.base)
    }

    /// The URL of the discovery document of the workspace of this id.
    #[must_use]
    pub fn discovery(&self, workspace: Uuid) -> String {
        format!("{}/discovery/workspaces/{workspace}", self.base)
    }

    /// Where callers score a service: where its tag says, or else at its path on the scoring base, which for a service of
    /// ACI with a host of its own is on that host.
    pub(super) fn scoring_uri(&self, service: &ServiceRecord) -> Option<String> {
        if let Some(uri) = service.tags.get(SCORING_URI_TAG) {
            return Some(uri.clone());
        }
        let base = self.scoring_base.as_deref()?;
        let path = scoring_path(service.path_prefixes.first()?);
        Some(match (service.compute_type, service.hosts.first()) {
            (ComputeType::Aci, Some(host)) => format!("{}{path}", with_host(base, host)),
            _ => format!("{base}{path}"),
        })
    }
}

/// Whether a path is in Azure's tree of resources, whose clients read errors in a shape of their own. In any letter case:
/// who writes the tree in another one is told in that shape that nothing is there.
pub(super) fn is_resource(path: &str) -> bool {
    path.get(..RESOURCES.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESOURCES))
}

/// `score` at or below a prefix.
fn scoring_path(prefix: &str) -> String {
    let prefix = prefix.trim_end_matches('/');
    if prefix.ends_with("/score") { prefix.to_owned() } else { format!("{prefix}/score") }
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

    #[rstest]
    #[case("/api/v1/service/svc", "/api/v1/service/svc/score")]
    #[case("/score", "/score")]
    #[case("/", "/score")]
    fn scoring_path_ends_with_score(#[case] prefix: &str, #[case] path: &str) {
        assert_eq!(scoring_path(prefix), path);
    }
}
