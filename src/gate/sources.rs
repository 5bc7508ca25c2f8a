//! Other places than the feed that a gate may read policy from: files, mirrors, and other gates.
//!
//! What they hold is a copy of a `snapshot` file. Nobody there needs to be trusted: the statement in it proves it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ETAG, HeaderValue, IF_NONE_MATCH};
use reqwest::{StatusCode, Url};
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use super::disk::{self, StateError};
use super::keeper::{Copied, Keeper};
use super::metrics::{FeedMetrics, SourceMetrics};
use super::state::{MAX_BYTES, RefusedPolicy};
use crate::causes::with_causes;
use crate::config::without_user;
use crate::listen::PeerAddress;
use crate::random;
use crate::shutdown::Shutdown;
use crate::tls::{ClientFiles, TlsFiles};

/// What a gate without policy leaves to the feed before it looks elsewhere.
const HEAD_START: Duration = Duration::from_millis(300);
/// What each source leaves to the one before it.
const STAGGER: Duration = Duration::from_millis(200);
/// Between two looks while there is no policy, and while there is but the feed is away. With jitter, so that gates in
/// hundreds do not ask at one moment.
const WITHOUT_POLICY: Duration = Duration::from_secs(1);
const WITHOUT_FEED: Duration = Duration::from_secs(30);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(30);
/// What is read of a file at one time.
const FILE_CHUNK: usize = 256 * 1024;
/// Longest copy: the entries of the largest snapshot with what is around them.
const MAX_COPY: usize = MAX_BYTES + MAX_BYTES / 8;

/// Where a copy of policy may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicySource {
    /// A file, also on a mounted volume.
    File(PathBuf),
    /// A mirror, or `/policy/snapshot` of another gate.
    Url(Url),
}

/// A text that names no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither `file:PATH` nor an http or https URL without user and fragment")]
pub struct InvalidPolicySource(String);

impl PolicySource {
    /// Whether nobody on a network can see what is read.
    #[must_use]
    pub fn is_private(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::Url(url) if url.scheme() == "https" => true,
            Self::Url(url) => {
                let address = format!("{}:1", url.host_str().unwrap_or_default());
                address.parse().is_ok_and(|address: PeerAddress| address.is_local())
            }
        }
    }
}

impl FromStr for PolicySource {
    type Err = InvalidPolicySource;

    fn from_str(text: &str) -> Result<Self, InvalidPolicySource> {
        let invalid = || InvalidPolicySource(without_user(text));
        match text.strip_prefix("file:") {
            Some("") => return Err(invalid()),
            Some(path) => return Ok(Self::File(path.into())),
            None => {}
        }
        let url = Url::parse(text).map_err(|_| invalid())?;
        let is_plain = matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none();
        if is_plain { Ok(Self::Url(url)) } else { Err(invalid()) }
    }
}

impl fmt::Display for PolicySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Url(url) => url.fmt(f),
        }
    }
}

/// Why a source gave nothing.
#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error("it cannot be read")]
    File(#[source] io::Error),
    #[error("the certificates for it cannot be read: `{}`", path.display())]
    Certificates {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("it does not answer")]
    Http(#[source] reqwest::Error),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("it is larger than policy can be")]
    TooLarge,
    #[error(transparent)]
    Malformed(#[from] StateError),
    #[error(transparent)]
    Refused(#[from] RefusedPolicy),
    #[error("it could not be taken")]
    Fault(#[from] tokio::task::JoinError),
}

/// Reads policy from the sources whenever the feed is away.
#[derive(Debug)]
pub(crate) struct Sourcing {
    sources: Vec<Arc<Source>>,
    keeper: Arc<Keeper>,
    feed: FeedMetrics,
    metrics: SourceMetrics,
}

#[derive(Debug)]
struct Source {
    at: PolicySource,
    /// For https; the system's CAs and no certificate of our own without them.
    tls: Option<ClientFiles>,
    /// What one answer may take, from the first byte that is sent to the last that comes.
    timeout: Duration,
    /// What the last answer was called of which all was taken that is of use here.
    known: Mutex<Option<HeaderValue>>,
}

impl Sourcing {
    pub(crate) fn new(
        sources: Vec<PolicySource>,
        tls: Option<&ClientFiles>,
        keeper: Arc<Keeper>,
        feed: FeedMetrics,
        metrics: SourceMetrics,
    ) -> Self {
        let source =
            |at| Arc::new(Source { at, tls: tls.cloned(), timeout: TIMEOUT, known: Mutex::default() });
        Self { sources: sources.into_iter().map(source).collect(), keeper, feed, metrics }
    }

    /// Looks whenever it is needed, until the shutdown stops.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        tokio::select! {
            () = self.look() => {}
            () = shutdown.stopping() => {}
        }
    }

    /// Asks all of them: the latest policy wins, whoever has it. Each at its own pace: one that drips holds up no other.
    async fn look(self) {
        let this = Arc::new(self);
        let mut looking = JoinSet::new();
        for (index, source) in (0_u32..).zip(&this.sources) {
            let (this, source) = (Arc::clone(&this), Arc::clone(source));
            looking.spawn(async move {
                tokio::time::sleep(HEAD_START + STAGGER * index).await;
                this.look_at(&source).await;
            });
        }
        while looking.join_next().await.is_some() {}
    }

    async fn look_at(&self, source: &Source) {
        loop {
            let has_policy = self.keeper.proven().is_some();
            if !has_policy || !self.feed.is_connected() {
                self.report(&source.at, source.take(&self.keeper).await);
            }
            let interval = if self.keeper.proven().is_some() { WITHOUT_FEED } else { WITHOUT_POLICY };
            tokio::time::sleep(interval.mul_f64(0.5 + random::fraction() / 2.0)).await;
        }
    }

    fn report(&self, source: &PolicySource, outcome: Result<Copied, SourceError>) {
        match outcome {
            Ok(Copied::Taken(version)) => {
                self.metrics.taken.inc();
                tracing::info!(%source, %version, "policy was taken from a source: the feed is away");
            }
            Ok(Copied::Confirmed) => {
                self.metrics.confirmed.inc();
                tracing::debug!(%source, "a source confirms the policy in force");
            }
            Ok(Copied::Known) => {
                self.metrics.known.inc();
            }
            Err(error @ SourceError::Refused(_)) => {
                self.metrics.refused.inc();
                tracing::warn!(%source, error = with_causes(&error), "a source of policy was passed over");
            }
            Err(error) => {
                self.metrics.failed.inc();
                tracing::warn!(%source, error = with_causes(&error), "a source of policy was passed over");
            }
        }
    }
}

impl Source {
    async fn take(&self, keeper: &Arc<Keeper>) -> Result<Copied, SourceError> {
        match &self.at {
            PolicySource::File(path) => take_file(path, Reading::new(keeper)).await,
            PolicySource::Url(url) => self.fetch(url.clone(), Reading::new(keeper)).await,
        }
    }

    /// Made anew for each look, since the files may be new.
    fn client(&self, url: &Url) -> Result<reqwest::Client, SourceError> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(self.timeout)
            .redirect(reqwest::redirect::Policy::none());
        let client = match &self.tls {
            // Where no TLS is spoken, a system without CAs will do.
            _ if url.scheme() == "http" => client.no_proxy().tls_certs_only([]),
            None => client,
            Some(files) => {
                let client =
                    client.tls_certs_only(read_pem(&files.ca, reqwest::Certificate::from_pem_bundle)?);
                match &files.identity {
                    None => client,
                    Some(identity) => client.identity(read_identity(identity)?),
                }
            }
        };
        client.build().map_err(SourceError::Http)
    }

    async fn fetch(&self, url: Url, reading: Reading) -> Result<Copied, SourceError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut request = self.client(&url)?.get(url);
        if let Some(known) = known {
            request = request.header(IF_NONE_MATCH, known);
        }
        let response = request.send().await.map_err(SourceError::Http)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED => return Ok(Copied::Known),
            other => return Err(SourceError::Status(other)),
        }
        let name = response.headers().get(ETAG).cloned();
        let copied = take_response(response, reading).await?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = name;
        Ok(copied)
    }
}

async fn take_response(mut response: reqwest::Response, mut reading: Reading) -> Result<Copied, SourceError> {
    while let Some(chunk) = response.chunk().await.map_err(SourceError::Http)? {
        if let Some(copied) = reading.add(&chunk).await? {
            return Ok(copied);
        }
    }
    reading.end().await
}

async fn take_file(path: &Path, mut reading: Reading) -> Result<Copied, SourceError> {
    let mut file = tokio::fs::File::open(path).await.map_err(SourceError::File)?;
    let mut chunk = vec![0; FILE_CHUNK];
    loop {
        match file.read(&mut chunk).await.map_err(SourceError::File)? {
            0 => return reading.end().await,
            length => {
                if let Some(copied) = reading.add(&chunk[..length]).await? {
                    return Ok(copied);
                }
            }
        }
    }
}

/// A copy that is being read. Its beginning is judged before the rest is read: whoever serves it and has nothing that is
/// proven and new here cannot fill the memory of a gate.
struct Reading {
    keeper: Arc<Keeper>,
    bytes: Vec<u8>,
    is_weighed: bool,
}

impl Reading {
    fn new(keeper: &Arc<Keeper>) -> Self {
        Self { keeper: Arc::clone(keeper), bytes: Vec::new(), is_weighed: false }
    }

    /// Goes on; `Some` if the rest need not be read.
    async fn add(&mut self, chunk: &[u8]) -> Result<Option<Copied>, SourceError> {
        if self.bytes.len() + chunk.len() > MAX_COPY {
            return Err(SourceError::TooLarge);
        }
        self.bytes.extend_from_slice(chunk);
        if self.is_weighed {
            return Ok(None);
        }
        let Some(head) = disk::read_head(&self.bytes)? else { return Ok(None) };
        self.is_weighed = true;
        let keeper = Arc::clone(&self.keeper);
        Ok(tokio::task::spawn_blocking(move || keeper.weigh(&head)).await??)
    }

    async fn end(self) -> Result<Copied, SourceError> {
        let Self { keeper, bytes, .. } = self;
        let taking = tokio::task::spawn_blocking(move || {
            let assembly = disk::read_copy(bytes, keeper.peppers())?;
            Ok::<_, SourceError>(keeper.take_copy(assembly)?)
        });
        taking.await?
    }
}

fn read_identity(files: &TlsFiles) -> Result<reqwest::Identity, SourceError> {
    let certificate = read_pem(&files.certificate, |bytes| Ok(bytes.to_vec()))?;
    read_pem(&files.key, |key| {
        let both = zeroize::Zeroizing::new([certificate.as_slice(), b"\n", key].concat());
        reqwest::Identity::from_pem(&both)
    })
}

fn read_pem<T>(path: &Path, parse: impl Fn(&[u8]) -> reqwest::Result<T>) -> Result<T, SourceError> {
    let failed = |source| SourceError::Certificates { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map(zeroize::Zeroizing::new).map_err(|error| failed(error.into()))?;
    parse(&bytes).map_err(|error| failed(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::fixtures::{keeper, trust};
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn t105_answer_that_never_ends_has_its_time() {
        let data = tempfile::tempdir().unwrap();
        let keeper = Arc::new(keeper(data.path(), trust()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let dripping = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let _ = connection.read(&mut [0; 4096]).await.unwrap();
            let mut next = b"HTTP/1.1 200 OK\r\n\r\nsgsnap\0\x01".as_slice();
            while connection.write_all(next).await.is_ok() {
                next = b"\0";
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let source = Source { at, tls: None, timeout: Duration::from_millis(300), known: Mutex::default() };
        let taken = tokio::time::timeout(Duration::from_secs(10), source.take(&keeper)).await.unwrap();
        assert!(matches!(&taken, Err(SourceError::Http(error)) if error.is_timeout()), "{taken:?}");
        dripping.await.unwrap();
    }

    #[tokio::test]
    async fn t105_answer_that_is_too_long_is_not_read_to_its_end() {
        let data = tempfile::tempdir().unwrap();
        let keeper = Arc::new(keeper(data.path(), trust()));
        // Memory that nobody has touched yet costs nothing.
        let mut reading = Reading { keeper, bytes: vec![0; MAX_COPY - 1], is_weighed: true };
        assert!(matches!(reading.add(&[0]).await, Ok(None)));
        assert!(matches!(reading.add(&[0]).await, Err(SourceError::TooLarge)));
    }
}
