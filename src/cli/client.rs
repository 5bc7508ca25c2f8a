//! The workspace's REST, as the commands use it.

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Identity, Method, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use zeroize::Zeroizing;

use super::exit::CliError;
use crate::config::{is_base_url, without_user};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(30);

/// Between two looks at an operation: first soon, then less often.
const POLL_INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_millis(800);
/// Longest time that a workspace takes to give an operation up.
const MOST_PATIENCE: Duration = Duration::from_secs(600);
/// What a workspace may be late with it.
const GRACE: Duration = Duration::from_secs(15);

/// A connection to one workspace.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    /// As it was given, for people.
    base: String,
    /// What URLs begin with.
    root: String,
    /// Below the base: `/modelmanagement/v1.0/subscriptions/...`
    workspace_path: String,
    authorization: HeaderValue,
    /// For how long gates are waited for; `None` for the workspace's own time.
    patience: Option<Duration>,
}

/// A body and its media type.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    Nothing,
    Json(&'a Value),
    JsonPatch(&'a Value),
}

impl Client {
    /// Asks the workspace for its scope, and so learns whether it is there and accepts the credential.
    pub(super) async fn connect(
        base: &str,
        credential: &SecretString,
        trust: Trust,
    ) -> Result<Self, CliError> {
        let base = base.trim_end_matches('/').to_owned();
        let root = http_root(&base).ok_or_else(|| CliError::WorkspaceUrl { url: without_user(&base) })?;
        let authorization = authorization(credential)?;
        let http = http_client(&base, trust)?;
        let mut client =
            Self { http, base, root, workspace_path: String::new(), authorization, patience: None };
        let workspace = client.get_own(&["workspace"]).await?;
        let scope = workspace["scope"].as_str().ok_or_else(|| client.odd("it does not tell its scope"))?;
        client.workspace_path = format!("/modelmanagement/v1.0{scope}");
        Ok(client)
    }

    /// Asks the workspace to wait for gates for so long, where a change is to be confirmed by them.
    #[must_use]
    pub(super) fn with_patience(self, patience: Option<Duration>) -> Self {
        Self { patience, ..self }
    }

    /// `GET` below the workspace's path.
    pub(super) async fn get(&self, path: &[&str]) -> Result<Value, CliError> {
        self.call(Method::GET, self.url(path)?, Content::Nothing).await
    }

    /// `GET` with a query.
    pub(super) async fn get_query(
        &self,
        path: &[&str],
        query: &[(String, String)],
    ) -> Result<Value, CliError> {
        self.call(Method::GET, with_query(self.url(path)?, query), Content::Nothing).await
    }

    /// Any method below the workspace's path.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &[&str],
        content: Content<'_>,
    ) -> Result<Value, CliError> {
        self.call(method, self.url(path)?, content).await
    }

    /// `GET` below `/scoregate/v1`.
    pub(super) async fn get_own(&self, path: &[&str]) -> Result<Value, CliError> {
        self.send_own(Method::GET, path, Content::Nothing).await
    }

    /// `GET` below `/scoregate/v1` with a query.
    pub(super) async fn get_own_query(
        &self,
        path: &[&str],
        query: &[(String, String)],
    ) -> Result<Value, CliError> {
        let url = with_query(self.join("/scoregate/v1", path)?, query);
        self.call(Method::GET, url, Content::Nothing).await
    }

    /// Any method below `/scoregate/v1`.
    pub(super) async fn send_own(
        &self,
        method: Method,
        path: &[&str],
        content: Content<'_>,
    ) -> Result<Value, CliError> {
        self.call(method, self.join("/scoregate/v1", path)?, content).await
    }

    /// Waits until every gate enforces what an operation did.
    ///
    /// # Errors
    /// [`CliError::NotEnforced`], with the workspace's words, if not every gate confirmed it in time.
    pub(super) async fn wait(&self, operation: &Value) -> Result<Value, CliError> {
        let id = operation["id"].as_str().ok_or_else(|| self.odd("its operation has no id"))?.to_owned();
        let limit = self.patience.unwrap_or(MOST_PATIENCE) + GRACE;
        tokio::time::timeout(limit, self.poll(&id))
            .await
            .unwrap_or_else(|_| Err(CliError::NotEnforced(format!("the operation `{id}` does not end"))))
    }

    async fn poll(&self, id: &str) -> Result<Value, CliError> {
        let mut interval = *POLL_INTERVALS.start();
        loop {
            let operation = self.get(&["operations", id]).await?;
            match operation["state"].as_str() {
                Some("Succeeded") => return Ok(operation),
                Some("TimedOut" | "Failed" | "Cancelled") => {
                    let message = operation["error"]["message"].as_str().unwrap_or_default();
                    return Err(CliError::NotEnforced(message.to_owned()));
                }
                _ => {}
            }
            tokio::time::sleep(interval).await;
            interval = (interval * 2).min(*POLL_INTERVALS.end());
        }
    }

    fn url(&self, path: &[&str]) -> Result<Url, CliError> {
        self.join(&self.workspace_path, path)
    }

    /// Segments are percent-encoded: a name cannot become another path. Two have no way to be written as a segment.
    fn join(&self, prefix: &str, path: &[&str]) -> Result<Url, CliError> {
        if let Some(name) = path.iter().find(|segment| matches!(**segment, "." | "..")) {
            return Err(CliError::NoName((*name).to_owned()));
        }
        let invalid = || CliError::WorkspaceUrl { url: self.base.clone() };
        let mut url = Url::parse(&format!("{}{prefix}", self.root)).map_err(|_| invalid())?;
        url.path_segments_mut().map_err(|()| invalid())?.extend(path);
        Ok(url)
    }

    async fn call(&self, method: Method, url: Url, content: Content<'_>) -> Result<Value, CliError> {
        let request =
            self.http.request(method, url).header(reqwest::header::AUTHORIZATION, self.authorization.clone());
        let request = match self.patience {
            Some(patience) => request.header("prefer", format!("wait={}", patience.as_secs())),
            None => request,
        };
        let request = match content {
            Content::Nothing => request,
            Content::Json(body) => request.json(body),
            Content::JsonPatch(body) => {
                request.header(CONTENT_TYPE, "application/json-patch+json").body(body.to_string())
            }
        };
        let sent = request.send().await;
        self.answer(sent.map_err(|source| self.unreachable(source))?).await
    }

    async fn answer(&self, response: Response) -> Result<Value, CliError> {
        let status = response.status();
        let body = response.bytes().await;
        let body = body.map_err(|source| self.unreachable(source))?;
        let document: Option<Value> = serde_json::from_slice(&body).ok();
        if status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        if status.is_success() {
            return document.ok_or_else(|| self.odd("its answer is not JSON"));
        }
        let message =
            document.as_ref().and_then(|body| body["message"].as_str()).unwrap_or("no reason given");
        Err(self.refusal(status, message.to_owned()))
    }

    fn unreachable(&self, source: reqwest::Error) -> CliError {
        let base = self.base.clone();
        if is_of_certificate(&source) {
            CliError::Untrusted { base, source }
        } else {
            CliError::Unreachable { base, source }
        }
    }

    fn refusal(&self, status: StatusCode, message: String) -> CliError {
        if status == StatusCode::UNAUTHORIZED {
            return CliError::Unauthenticated;
        }
        if status.is_redirection() {
            return self.odd("it redirects, and the credential is sent nowhere else");
        }
        let (base, number) = (self.base.clone(), status.as_u16());
        if status.is_client_error() {
            CliError::Refused { status: number, message }
        } else {
            CliError::Trouble { base, status: number, message }
        }
    }

    fn odd(&self, problem: &'static str) -> CliError {
        CliError::NoWorkspace { base: self.base.clone(), problem }
    }
}

fn with_query(mut url: Url, query: &[(String, String)]) -> Url {
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

/// The query of the next page of a list; `None` on the last one. Of a link only the query is used: it names the
/// workspace's public URL, which may not be the one by which it was reached, and the credential goes nowhere else.
pub(super) fn next_query(page: &Value) -> Option<Vec<(String, String)>> {
    let (_, query) = page["nextLink"].as_str()?.split_once('?')?;
    Some(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
}

fn authorization(credential: &SecretString) -> Result<HeaderValue, CliError> {
    let text = format!("Bearer {}", credential.expose_secret());
    let mut value = HeaderValue::from_str(&text).map_err(|_| CliError::OddCredential)?;
    value.set_sensitive(true);
    Ok(value)
}

const UNIX: &str = "unix:";

/// What the URLs of requests to this base begin with, without a trailing slash; `None` if it is neither an http or
/// https URL nor `unix:PATH`. Nothing but scheme, host, port and path: a user would take the credential's place, and the
/// path of a request would become a part of query or fragment.
pub(super) fn http_root(base: &str) -> Option<String> {
    if let Some(path) = base.strip_prefix(UNIX) {
        return (!path.is_empty()).then(|| "http://localhost".to_owned());
    }
    is_base_url(base).then(|| base.trim_end_matches('/').to_owned())
}

/// Whose certificates are trusted, and what is shown to them.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// These CAs and no other; those of the system if none are said.
    only: Option<Vec<Certificate>>,
    identity: Option<Identity>,
}

impl Trust {
    /// The CAs of a file in PEM, and the certificate and key of two others.
    pub(super) fn new(ca_file: Option<&Path>, identity: Option<(&Path, &Path)>) -> Result<Self, CliError> {
        let only = ca_file.map(|path| match Certificate::from_pem_bundle(&read(path)?) {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => Err(CliError::CaFile { path: path.into() }),
        });
        let identity = identity.map(|(certificate, key)| {
            let both = Zeroizing::new([read(certificate)?.as_slice(), b"\n", read(key)?.as_slice()].concat());
            Identity::from_pem(&both).map_err(|_| CliError::IdentityFiles { path: certificate.into() })
        });
        Ok(Self { only: only.transpose()?, identity: identity.transpose()? })
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let bytes = std::fs::read(path).map(Zeroizing::new);
    bytes.map_err(|source| CliError::ReadFile { path: path.into(), source })
}

/// A client that takes a credential nowhere else: it follows no redirect, and what is on this machine it does not look
/// for through a proxy.
pub(super) fn http_client(base: &str, trust: Trust) -> Result<reqwest::Client, CliError> {
    let builder =
        reqwest::Client::builder().redirect(Policy::none()).connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT);
    let builder = match trust.only {
        Some(certificates) => builder.tls_certs_only(certificates),
        // Where no TLS is spoken, a system without CAs will do.
        None if is_plain_and_local(base) => builder.tls_certs_only([]),
        None => builder,
    };
    let builder = match trust.identity {
        Some(identity) => builder.identity(identity),
        None => builder,
    };
    let builder = match base.strip_prefix(UNIX) {
        Some(path) => builder.unix_socket(Path::new(path)).no_proxy(),
        None if is_loopback(base) => builder.no_proxy(),
        None => builder,
    };
    builder.build().map_err(CliError::Client)
}

fn is_plain_and_local(base: &str) -> bool {
    base.starts_with(UNIX) || is_plain_http(base) && is_loopback(base)
}

/// Whether machines on the way can read what is sent there.
pub(super) fn is_exposed(base: &str) -> bool {
    is_plain_http(base) && !is_loopback(base)
}

fn is_plain_http(base: &str) -> bool {
    Url::parse(base).is_ok_and(|url| url.scheme() == "http")
}

/// Whether the other side's certificate is what a request failed of.
fn is_of_certificate(error: &reqwest::Error) -> bool {
    std::iter::successors(error.source(), |cause| cause_of(*cause))
        .any(|cause| matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))))
}

/// An `io::Error` gives the cause of the error that it wraps for its own, and leaves that one out.
fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

fn is_loopback(base: &str) -> bool {
    let url = Url::parse(base).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("http://127.0.0.1:8181/", Some("http://127.0.0.1:8181"))]
    #[case("https://models.example/behind/a/proxy", Some("https://models.example/behind/a/proxy"))]
    #[case("unix:/run/workspace.sock", Some("http://localhost"))]
    #[case("unix:", None)]
    #[case("ftp://models.example", None)]
    #[case("models.example", None)]
    #[case("https://user@models.example", None)]
    #[case("https://:password@models.example", None)]
    #[case("https://models.example?query", None)]
    #[case("https://models.example/?", None)]
    #[case("https://models.example#fragment", None)]
    fn http_root_takes_scheme_host_port_and_path(#[case] base: &str, #[case] expected: Option<&str>) {
        assert_eq!(http_root(base).as_deref(), expected);
    }

    #[rstest]
    #[case("http://models.example", true)]
    #[case("HTTP://models.example", true)]
    #[case("http://10.0.0.7:8181", true)]
    #[case("http://127.0.0.1.models.example", true)]
    #[case("https://models.example", false)]
    #[case("http://127.0.0.1:8181", false)]
    #[case("http://[::1]:8181", false)]
    #[case("http://localhost:8181", false)]
    #[case("unix:/run/workspace.sock", false)]
    fn is_exposed_where_others_are_on_the_way(#[case] base: &str, #[case] expected: bool) {
        assert_eq!(is_exposed(base), expected);
    }
}
