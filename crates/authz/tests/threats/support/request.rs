//! A request, made by hand.

use scoregate_authz::RequestView;

/// In which of the two ways a transport sends headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Map,
    Raw,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    service: Option<String>,
    host: String,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
    raw_headers: Vec<(String, Vec<u8>)>,
}

impl Request {
    /// To a service that the proxy's route names.
    pub(crate) fn to(service: &str) -> Self {
        Self { service: Some(service.to_owned()), path: "/score".to_owned(), ..Self::default() }
    }

    /// To a place, where the route names nothing.
    pub(crate) fn at(host: &str, path: &str) -> Self {
        Self { host: host.to_owned(), path: path.to_owned(), ..Self::default() }
    }

    pub(crate) fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    pub(crate) fn path(mut self, path: &str) -> Self {
        self.path = path.to_owned();
        self
    }

    pub(crate) fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.header_in(Encoding::Map, name, value)
    }

    pub(crate) fn header_in(mut self, encoding: Encoding, name: &str, value: impl AsRef<[u8]>) -> Self {
        let headers = match encoding {
            Encoding::Map => &mut self.headers,
            Encoding::Raw => &mut self.raw_headers,
        };
        headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn bearer(self, credential: &str) -> Self {
        self.header("authorization", format!("Bearer {credential}"))
    }
}

impl RequestView for Request {
    fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    fn raw_headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.raw_headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}
