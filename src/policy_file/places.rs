//! Hosts and path prefixes: where gates with `target = "host_path"` find a service.

/// Those of one service. The first ones make its scoring URI, so that the order counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServicePlaces {
    pub(crate) hosts: Vec<String>,
    pub(crate) path_prefixes: Vec<String>,
}

impl ServicePlaces {
    /// Each host with each prefix.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.hosts
            .iter()
            .flat_map(|host| self.path_prefixes.iter().map(move |prefix| (host.as_str(), prefix.as_str())))
    }
}
