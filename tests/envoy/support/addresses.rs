//! The addresses file of a scoregate process.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

/// What a process writes when it is ready.
#[derive(Debug, Clone)]
pub(crate) struct Addresses(Value);

impl Addresses {
    /// `None` until it is there.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        Some(Self(serde_json::from_str(&text).unwrap()))
    }

    /// As it stands in the file.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_else(|| panic!("`{name}` in {}", self.0))
    }

    /// Host and port, of an address or of a URL.
    pub(crate) fn socket(&self, name: &str) -> SocketAddr {
        self.text(name).trim_start_matches("http://").trim_start_matches("https://").parse().unwrap()
    }

    pub(crate) fn json(&self) -> &Value {
        &self.0
    }
}
