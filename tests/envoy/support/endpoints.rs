//! The gates behind a headless Service, as a controller tells Envoy of them: here in a file that Envoy follows.

use std::path::PathBuf;

use super::envoy::envoy_address;
use super::new_path;

#[derive(Debug)]
pub(crate) struct Endpoints {
    file: PathBuf,
}

impl Endpoints {
    /// With nobody in it.
    pub(crate) fn new() -> Self {
        let endpoints = Self { file: new_path("endpoints.yaml") };
        endpoints.set(&[]);
        endpoints
    }

    /// These gates and no other, `host:port`.
    pub(crate) fn set(&self, gates: &[String]) {
        let gates: String = gates
            .iter()
            .map(|gate| format!("    - endpoint: {{ address: {} }}\n", envoy_address(gate)))
            .collect();
        let text = format!(
            "resources:\n\
             - \"@type\": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment\n  \
               cluster_name: scoregate\n  \
               endpoints:\n  \
               - lb_endpoints:\n{gates}"
        );
        let new = new_path("endpoints.yaml");
        std::fs::write(&new, text).unwrap();
        // Envoy looks at it when it is moved there, and sees all of it.
        std::fs::rename(new, &self.file).unwrap();
    }

    /// How Envoy's cluster of them begins.
    pub(super) fn cluster(&self) -> String {
        format!(
            "  - name: scoregate\n    type: EDS\n    \
             eds_cluster_config: {{ eds_config: {{ resource_api_version: V3, path_config_source: {{ path: {} }} }} }}\n",
            self.file.display()
        )
    }
}
