//! What came back.

use serde_json::Value;

/// An answer as the client saw it. Names of headers are in lower case; trailers are among the headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// All values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The one value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} is there {} times", all.len());
        all.first().copied()
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error}: {} {}", self.status, String::from_utf8_lossy(&self.body))
        })
    }

    /// What a client can compare two answers by: all but the time, and what counts milliseconds.
    pub(crate) fn comparable(&self) -> (u16, Vec<(String, String)>, String) {
        let varies = ["date", "x-request-id", "x-envoy-upstream-service-time"];
        let headers = self.headers.iter().filter(|(name, _)| !varies.contains(&name.as_str())).cloned();
        (self.status, headers.collect(), self.text().to_owned())
    }
}
