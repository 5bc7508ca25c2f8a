//! The request as a check sees it.

/// What a check reads of an HTTP request, borrowed from whatever brought it.
pub trait RequestView {
    /// The service that the proxy's own configuration names. Trusted as the proxy is.
    fn service(&self) -> Option<&str>;

    /// `:authority` as it came.
    fn host(&self) -> &str;

    /// `:path` as it came, query included; empty if there is none.
    fn path(&self) -> &str;

    /// Headers of a transport that joins repeated ones.
    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])>;

    /// Headers of a transport that keeps repeated ones apart. A request has these or the others.
    fn raw_headers(&self) -> impl Iterator<Item = (&str, &[u8])>;
}

/// Hears of each step of a check as it is taken. `explain` records them; a live check passes `()`.
pub trait Trace {
    /// One step: what was looked at and what came of it. `detail` never holds a credential.
    fn step(&mut self, what: &'static str, detail: impl FnOnce() -> String);
}

impl Trace for () {
    fn step(&mut self, _: &'static str, _: impl FnOnce() -> String) {}
}

/// The steps of a check, in order: what was looked at, and what came of it.
impl Trace for Vec<(&'static str, String)> {
    fn step(&mut self, what: &'static str, detail: impl FnOnce() -> String) {
        self.push((what, detail()));
    }
}
