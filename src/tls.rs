//! The server's side of TLS: a certificate and its key, read again when their files change.
//!
//! Versions 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN. The cryptography is aws-lc's, said explicitly rather than taken
//! from the process, so that no other can slip in.

mod client;
mod peers;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{self, CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, InconsistentKeys, RootCertStore, ServerConfig};
use scoregate_authz::UnixTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

use crate::bucket::Bucket;
use crate::clock::{Clock, SystemClock};
use crate::shutdown::Shutdown;
use peers::Doorkeeper;

pub use client::{ClientFiles, ClientTls};
pub use peers::{AllowedPeers, InvalidPeerName, PeerIdentity};

/// How often the files are looked at. Certificates are renewed days before they expire.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Lines about clients that were turned away: one a second.
#[derive(Debug)]
struct Log(Mutex<Bucket>);

impl Default for Log {
    fn default() -> Self {
        Self(Mutex::new(Bucket::full(1, Instant::now())))
    }
}

impl Log {
    /// Writes one, with how many were left out before it, or leaves it out.
    fn write(&self, line: impl FnOnce(u64)) {
        if let Some(left_out) = self.0.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now()) {
            line(left_out);
        }
    }
}

/// The files of a server's identity, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then those that lead to its CA.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
}

/// Why a certificate and a key do not do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of the certificate.
    #[error("the certificate file `{}` {problem}", path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file of the CAs.
    #[error("the CA file `{}` {problem}", path.display())]
    Authority {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file of the key.
    #[error("the key file `{}` {problem}", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// What is wrong with it. Never its content.
        problem: String,
    },
}

/// Which clients may connect.
#[derive(Debug, Clone)]
pub struct Clients {
    /// CAs that sign their certificates.
    pub ca: PathBuf,
    /// By name.
    pub allowed: AllowedPeers,
    /// Whether those without a certificate may connect too, and are told apart later.
    pub optional: bool,
}

/// What a listener needs to speak TLS. Clones are the same one, and follow a change of the files together.
#[derive(Debug, Clone)]
pub struct ServerTls {
    files: Arc<TlsFiles>,
    /// `None` where no client needs a certificate.
    clients: Option<Arc<Clients>>,
    current: Arc<ArcSwap<Identity>>,
    log: Arc<Log>,
}

#[derive(Debug)]
struct Identity {
    config: Arc<ServerConfig>,
    doorkeeper: Option<Arc<Doorkeeper>>,
    /// The server's own.
    certificate: CertificateDer<'static>,
    /// Of all files as they were read.
    fingerprint: Fingerprint,
}

type Fingerprint = [u8; 32];

/// How long a client may take to say who it is and agree on keys.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What one handshake is made with.
#[derive(Debug, Clone)]
pub struct Handshake {
    config: Arc<ServerConfig>,
    doorkeeper: Option<Arc<Doorkeeper>>,
    log: Arc<Log>,
}

impl Handshake {
    /// The connection once both sides agreed on keys, and who is at its other end, if that was asked. A client that
    /// cannot, speaks no TLS or takes too long is let go.
    pub async fn accept<C>(
        self,
        connection: C,
        shutdown: &Shutdown,
    ) -> Option<(TlsStream<C>, Option<PeerIdentity>)>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let accepting = TlsAcceptor::from(Arc::clone(&self.config)).accept(connection);
        let accepted = tokio::select! {
            accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting) => accepted,
            () = shutdown.stopping() => return None,
        };
        match accepted {
            Ok(Ok(stream)) => {
                let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let identity =
                    self.doorkeeper.as_ref().zip(certificate).and_then(|(door, shown)| door.identify(shown));
                return Some((stream, identity));
            }
            Ok(Err(error)) => self.note(&error),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
        None
    }

    /// Where clients need certificates, one that has not the right one is a mistake that somebody looks for. One that goes
    /// away without a word is a probe.
    fn note(&self, error: &io::Error) {
        use rustls::Error::InvalidCertificate;
        let problem = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        match problem.filter(|_| self.doorkeeper.is_some()) {
            // Told with its names.
            Some(InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {}
            Some(problem) => self.log.write(|left_out| {
                tracing::warn!(%problem, left_out, "a client was turned away: no TLS handshake");
            }),
            None => tracing::debug!(%error, "no TLS handshake"),
        }
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read or does not hold what it should, or the key is that of another certificate.
    pub fn load(files: TlsFiles, clients: Option<Clients>) -> Result<Self, TlsError> {
        let identity = Identity::of(&Material::read(&files, clients.as_ref())?, &files, clients.as_ref())?;
        let current = Arc::new(ArcSwap::from_pointee(identity));
        Ok(Self { files: Arc::new(files), clients: clients.map(Arc::new), current, log: Arc::default() })
    }

    /// For the next handshake.
    #[must_use]
    pub fn current(&self) -> Handshake {
        let current = self.current.load();
        Handshake {
            config: Arc::clone(&current.config),
            doorkeeper: current.doorkeeper.clone(),
            log: Arc::clone(&self.log),
        }
    }

    /// Whether clients may be asked for a certificate.
    #[must_use]
    pub fn knows_clients(&self) -> bool {
        self.clients.is_some()
    }

    /// Takes what the files hold, if that is something else than before. Returns whether it is.
    ///
    /// # Errors
    /// Those of [`ServerTls::load`]; what was in use stays in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let clients = self.clients.as_deref();
        let material = Material::read(&self.files, clients)?;
        if material.fingerprint() == self.current.load().fingerprint {
            return Ok(false);
        }
        self.current.store(Arc::new(Identity::of(&material, &self.files, clients)?));
        Ok(true)
    }

    /// Why clients will not trust the certificate in use at this time: it expired, or is not valid yet. It is served all
    /// the same: some clients would rather be asked than find nobody there.
    #[must_use]
    pub fn untimely(&self, now: UnixTime) -> Option<String> {
        let problem = untimely(&self.current.load().certificate, now)?;
        Some(format!("the certificate in `{}` {problem}", self.files.certificate.display()))
    }

    /// When the certificate in use expires.
    #[must_use]
    pub fn expires(&self) -> Option<UnixTime> {
        let after_all = pki_types::UnixTime::since_unix_epoch(Duration::MAX);
        match verify_by_nobody(&self.current.load().certificate, after_all) {
            Some(CertificateError::ExpiredContext { not_after, .. }) => {
                Some(UnixTime::from_secs(not_after.as_secs()))
            }
            _ => None,
        }
    }

    /// Follows changes of the files until the shutdown stops, and tells when the certificate is not for this time.
    ///
    /// Two files are never replaced at one instant: what does not fit is logged once, and looked at again.
    pub async fn follow(self, shutdown: Shutdown) {
        let (mut known, mut untimely) = (None, None);
        loop {
            let now = self.untimely(SystemClock.now());
            if let Some(problem) = now.as_ref().filter(|_| now != untimely) {
                tracing::warn!(problem, "clients will not trust this server");
            }
            untimely = now;
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = shutdown.stopping() => return,
            }
            let problem = self.look().await.err();
            if let Some(problem) = problem.as_ref().filter(|_| problem != known) {
                tracing::warn!(problem, "the certificate in use stays");
            }
            known = problem;
        }
    }

    /// One look, on a thread that may wait for a disk.
    async fn look(&self) -> Result<(), String> {
        let tls = self.clone();
        let changed = tokio::task::spawn_blocking(move || tls.reload()).await;
        if changed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())? {
            tracing::info!(file = %self.files.certificate.display(), "a new certificate is in use");
        }
        Ok(())
    }
}

/// What the files hold.
struct Material {
    certificate: Vec<u8>,
    /// Empty where clients need no certificate.
    client_ca: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Material {
    fn read(files: &TlsFiles, clients: Option<&Clients>) -> Result<Self, TlsError> {
        let unreadable = |error: io::Error| format!("cannot be read: {error}");
        let certificate = fs::read(&files.certificate);
        let certificate =
            certificate.map_err(|error| certificate_error(&files.certificate, unreadable(error)))?;
        let key = fs::read(&files.key).map(Zeroizing::new);
        let key = key.map_err(|error| key_error(&files.key, unreadable(error)))?;
        let client_ca = clients.map_or(Ok(Vec::new()), |clients| {
            fs::read(&clients.ca).map_err(|error| authority_error(&clients.ca, unreadable(error)))
        })?;
        Ok(Self { certificate, client_ca, key })
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut context = Context::new(&SHA256);
        context.update(&self.certificate.len().to_be_bytes());
        context.update(&self.certificate);
        context.update(&self.client_ca.len().to_be_bytes());
        context.update(&self.client_ca);
        context.update(&self.key);
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(context.finish().as_ref());
        fingerprint
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| format!("is not PEM: {error}"))?;
        let first = chain.first().ok_or("holds no certificate in PEM")?;
        ParsedCertificate::try_from(first).map_err(|error| format!("does not do: {error}"))?;
        Ok(chain)
    }

    fn certified(&self, files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let chain = self.chain().map_err(|problem| certificate_error(&files.certificate, problem))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key);
        // An error of the parser could repeat a part of what it read.
        let key = key.map_err(|_| key_error(&files.key, "holds no private key in PEM"))?;
        let key = provider.key_provider.load_private_key(key);
        let key = key.map_err(|error| key_error(&files.key, format!("does not do: {error}")))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
            Err(_) => {
                let problem = format!("is not the key of the certificate `{}`", files.certificate.display());
                Err(key_error(&files.key, problem))
            }
        }
    }
}

impl Identity {
    fn of(material: &Material, files: &TlsFiles, clients: Option<&Clients>) -> Result<Self, TlsError> {
        let provider = Arc::new(default_provider());
        let certified = material.certified(files, &provider)?;
        // A chain that holds no certificate is refused before.
        let certificate = certified.cert.first().cloned();
        let certificate =
            certificate.ok_or_else(|| certificate_error(&files.certificate, "holds no certificate"))?;
        let doorkeeper = match clients {
            Some(clients) => Some(Arc::new(doorkeeper(clients, &material.client_ca, &provider)?)),
            None => None,
        };
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12]);
        let unusable = |error: rustls::Error| certificate_error(&files.certificate, error.to_string());
        let builder = builder.map_err(unusable)?;
        let builder = match &doorkeeper {
            Some(doorkeeper) => builder.with_client_cert_verifier(Arc::<Doorkeeper>::clone(doorkeeper)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if doorkeeper.is_some() {
            // A session that is resumed shows its certificate to nobody again, though it may have expired since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self { config: Arc::new(config), doorkeeper, certificate, fingerprint: material.fingerprint() })
    }
}

fn doorkeeper(clients: &Clients, ca: &[u8], provider: &Arc<CryptoProvider>) -> Result<Doorkeeper, TlsError> {
    let roots = Arc::new(parse_authority(&clients.ca, ca)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    let builder = if clients.optional { builder.allow_unauthenticated() } else { builder };
    let known = builder.build().map_err(|error| authority_error(&clients.ca, error.to_string()))?;
    Ok(Doorkeeper::new(known, clients.allowed.clone()))
}

/// The CAs of a file.
fn authority(path: &Path) -> Result<RootCertStore, TlsError> {
    let text = fs::read(path).map_err(|error| authority_error(path, format!("cannot be read: {error}")))?;
    parse_authority(path, &text)
}

fn parse_authority(path: &Path, text: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate =
            certificate.map_err(|error| authority_error(path, format!("is not PEM: {error}")))?;
        let added = roots.add(certificate);
        added.map_err(|error| {
            authority_error(path, format!("holds a certificate that does not do: {error}"))
        })?;
    }
    if roots.is_empty() { Err(authority_error(path, "holds no certificate in PEM")) } else { Ok(roots) }
}

fn untimely(certificate: &CertificateDer<'_>, now: UnixTime) -> Option<String> {
    match verify_by_nobody(certificate, pki_types::UnixTime::since_unix_epoch(now))? {
        CertificateError::ExpiredContext { not_after, .. } => {
            Some(format!("expired at {}", shown(not_after)))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            Some(format!("is not valid before {}", shown(not_before)))
        }
        _ => None,
    }
}

/// What is wrong with a certificate at this time. rustls has no way to ask for its times; but where nobody is trusted, they
/// are what a verification looks at before the issuer.
fn verify_by_nobody(certificate: &CertificateDer<'_>, now: pki_types::UnixTime) -> Option<CertificateError> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let nobody = RootCertStore::empty();
    match verify_server_cert_signed_by_trust_anchor(&parsed, &nobody, &[], now, &[]).err()? {
        rustls::Error::InvalidCertificate(problem) => Some(problem),
        _ => None,
    }
}

fn shown(time: pki_types::UnixTime) -> Timestamp {
    let second = i64::try_from(time.as_secs()).ok();
    second.and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(Timestamp::MAX)
}

fn authority_error(path: &Path, problem: impl Into<String>) -> TlsError {
    TlsError::Authority { path: path.to_owned(), problem: problem.into() }
}

fn certificate_error(path: &Path, problem: impl Into<String>) -> TlsError {
    TlsError::Certificate { path: path.to_owned(), problem: problem.into() }
}

fn key_error(path: &Path, problem: impl Into<String>) -> TlsError {
    TlsError::Key { path: path.to_owned(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    struct Place(tempfile::TempDir);

    impl Place {
        /// A place with a certificate and its key.
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            place.renew();
            place
        }

        fn files(&self) -> TlsFiles {
            TlsFiles { certificate: self.0.path().join("cert.pem"), key: self.0.path().join("key.pem") }
        }

        fn renew(&self) {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            fs::write(self.files().certificate, made.cert.pem()).unwrap();
            fs::write(self.files().key, made.signing_key.serialize_pem()).unwrap();
        }

        /// From the first second of a year to that of another one.
        fn renew_for(&self, (from, to): (i32, i32)) {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
            parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
            parameters.not_after = rcgen::date_time_ymd(to, 1, 1);
            fs::write(self.files().certificate, parameters.self_signed(&key).unwrap().pem()).unwrap();
            fs::write(self.files().key, key.serialize_pem()).unwrap();
        }

        fn refusal(&self) -> String {
            let refusal = ServerTls::load(self.files(), None).unwrap_err().to_string();
            refusal.replace(self.0.path().to_str().unwrap(), "{dir}")
        }
    }

    #[test]
    fn reload_takes_a_renewed_certificate() {
        let place = Place::new();
        let tls = ServerTls::load(place.files(), None).unwrap();
        let first = tls.current();
        assert!(!tls.reload().unwrap());
        assert!(Arc::ptr_eq(&first.config, &tls.current().config), "what did not change is not taken anew");
        place.renew();
        assert!(tls.reload().unwrap());
        assert!(!Arc::ptr_eq(&first.config, &tls.current().config));
    }

    #[rstest]
    #[case::key_of_another(|place: &Place| {
        let certificate = fs::read(place.files().certificate).unwrap();
        place.renew();
        fs::write(place.files().certificate, certificate).unwrap();
    })]
    #[case::no_certificate(|place: &Place| fs::write(place.files().certificate, "").unwrap())]
    #[case::no_file(|place: &Place| fs::remove_file(place.files().key).unwrap())]
    fn reload_of_what_does_not_do_keeps_what_is_in_use(#[case] damage: fn(&Place)) {
        let place = Place::new();
        let tls = ServerTls::load(place.files(), None).unwrap();
        let first = tls.current();
        damage(&place);
        tls.reload().unwrap_err();
        assert!(Arc::ptr_eq(&first.config, &tls.current().config));
        place.renew();
        assert!(tls.reload().unwrap(), "and what does is taken later");
    }

    #[rstest]
    #[case::before("2029-12-31T23:59:59Z", Some("is not valid before 2030-01-01T00:00:00Z"))]
    #[case::first_second("2030-01-01T00:00:00Z", None)]
    #[case::last_second("2031-01-01T00:00:00Z", None)]
    #[case::after("2031-01-01T00:00:01Z", Some("expired at 2031-01-01T00:00:00Z"))]
    fn untimely_tells_when_a_certificate_is_not_for_this_time(
        #[case] now: Timestamp,
        #[case] expected: Option<&str>,
    ) {
        let place = Place::new();
        let tls = ServerTls::load(place.files(), None).unwrap();
        place.renew_for((2030, 2031));
        assert!(tls.reload().unwrap());
        let now = UnixTime::from_secs(now.as_second().try_into().unwrap());
        let path = place.files().certificate;
        let expected = expected.map(|problem| format!("the certificate in `{}` {problem}", path.display()));
        assert_eq!(tls.untimely(now), expected);
        assert_eq!(ServerTls::load(place.files(), None).unwrap().untimely(now), expected);
        let expires: Timestamp = "2031-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(tls.expires(), Some(UnixTime::from_secs(expires.as_second().try_into().unwrap())));
    }

    #[test]
    fn load_of_a_key_of_another_certificate_is_refused() {
        let place = Place::new();
        let key = fs::read(place.files().key).unwrap();
        place.renew();
        fs::write(place.files().key, key).unwrap();
        insta::assert_snapshot!(place.refusal(), @"the key file `{dir}/key.pem` is not the key of the certificate `{dir}/cert.pem`");
    }

    #[rstest]
    #[case("cert.pem", "", "the certificate file `{dir}/cert.pem` holds no certificate in PEM")]
    #[case("cert.pem", "not PEM", "the certificate file `{dir}/cert.pem` holds no certificate in PEM")]
    #[case("key.pem", "not PEM", "the key file `{dir}/key.pem` holds no private key in PEM")]
    fn load_names_the_file_that_does_not_do(#[case] name: &str, #[case] text: &str, #[case] expected: &str) {
        let place = Place::new();
        fs::write(place.0.path().join(name), text).unwrap();
        assert_eq!(place.refusal(), expected);
    }

    mod client_certificates {
        use super::*;
        use crate::shutdown::Shutdown;
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
        use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
        use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

        const ENVOY: &str = "spiffe://a/envoy";

        struct Ca(Issuer<'static, KeyPair>, String);
        fn ca() -> Ca {
            let mut p = CertificateParams::default();
            p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let k = KeyPair::generate().unwrap();
            let c = p.self_signed(&k).unwrap().pem();
            Ca(Issuer::new(p, k), c)
        }
        /// Valid until so many seconds from now.
        fn client(ca: &Ca, uri: &str, secs: i64) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
            let mut p = CertificateParams::default();
            p.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
            let now = SystemClock.now().as_secs();
            let at = |second: u64| std::time::UNIX_EPOCH + Duration::from_secs(second);
            p.not_before = at(now - 86_400).into();
            p.not_after = at(now.saturating_add_signed(secs)).into();
            let k = KeyPair::generate().unwrap();
            let c = p.signed_by(&k, &ca.0).unwrap().der().clone();
            (c, PrivateKeyDer::try_from(k.serialize_der()).unwrap())
        }
        fn server(place: &Place, ca: &Ca, optional: bool) -> ServerTls {
            let path = place.0.path().join("ca.pem");
            fs::write(&path, &ca.1).unwrap();
            ServerTls::load(
                place.files(),
                Some(Clients { ca: path, allowed: AllowedPeers::new([ENVOY]).unwrap(), optional }),
            )
            .unwrap()
        }
        fn config(
            place: &Place,
            v: &'static SupportedProtocolVersion,
            id: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
        ) -> Arc<ClientConfig> {
            let roots = authority(&place.files().certificate).unwrap();
            let b = ClientConfig::builder_with_provider(Arc::new(default_provider()))
                .with_protocol_versions(&[v])
                .unwrap()
                .with_root_certificates(roots);
            Arc::new(match id {
                Some((c, k)) => b.with_client_auth_cert(vec![c], k).unwrap(),
                None => b.with_no_client_auth(),
            })
        }
        /// Whom the server sees, and how; `None` if it refused.
        async fn try_once(
            tls: &ServerTls,
            config: &Arc<ClientConfig>,
        ) -> Option<(Option<String>, HandshakeKind)> {
            let (c, s) = duplex(65536);
            let hs = tls.current();
            let srv = tokio::spawn(async move {
                let (mut st, id) = hs.accept(s, &Shutdown::default()).await?;
                let kind = st.get_ref().1.handshake_kind().unwrap();
                let _ = st.write_all(b"x").await;
                let _ = st.flush().await;
                let mut b = [0];
                let _ = st.read(&mut b).await;
                Some((id.map(|i| i.as_str().to_owned()), kind))
            });
            if let Ok(mut st) = tokio_rustls::TlsConnector::from(config.clone())
                .connect("localhost".try_into().unwrap(), c)
                .await
            {
                let mut b = [0];
                let _ = st.read(&mut b).await;
                let _ = st.write_all(b"y").await;
                let _ = st.flush().await;
            }
            srv.await.unwrap()
        }

        #[rstest]
        #[tokio::test]
        async fn only_those_who_prove_an_allowed_name_get_in(
            #[values(&TLS12, &TLS13)] v: &'static SupportedProtocolVersion,
            #[values(false, true)] optional: bool,
        ) {
            let (place, own, foreign) = (Place::new(), ca(), ca());
            let tls = server(&place, &own, optional);
            let ok = try_once(&tls, &config(&place, v, Some(client(&own, ENVOY, 3600)))).await;
            assert_eq!(ok.unwrap().0.as_deref(), Some(ENVOY));
            for (what, id) in [
                ("expired", client(&own, ENVOY, -60)),
                ("foreign", client(&foreign, ENVOY, 3600)),
                ("name", client(&own, "spiffe://a/other", 3600)),
            ] {
                assert!(try_once(&tls, &config(&place, v, Some(id))).await.is_none(), "{what}");
            }
            let none = try_once(&tls, &config(&place, v, None)).await;
            assert_eq!(none.map(|n| n.0), optional.then_some(None));
        }

        #[rstest]
        #[tokio::test]
        async fn session_does_not_outlive_its_certificate(
            #[values(&TLS12, &TLS13)] v: &'static SupportedProtocolVersion,
        ) {
            let (place, own) = (Place::new(), ca());
            let tls = server(&place, &own, false);
            let c = config(&place, v, Some(client(&own, ENVOY, 4)));
            let a = try_once(&tls, &c).await;
            let b = try_once(&tls, &c).await;
            tokio::time::sleep(Duration::from_secs(7)).await;
            let after = try_once(&tls, &c).await;
            assert!(a.is_some() && b.is_some(), "while it is valid: {a:?}, {b:?}");
            assert!(after.is_none(), "a certificate that expired was let in: {after:?}");
        }

        #[rstest]
        #[tokio::test]
        async fn session_does_not_outlive_its_ca(
            #[values(&TLS12, &TLS13)] v: &'static SupportedProtocolVersion,
        ) {
            let (place, own, other) = (Place::new(), ca(), ca());
            let tls = server(&place, &own, false);
            let c = config(&place, v, Some(client(&own, ENVOY, 3600)));
            assert!(try_once(&tls, &c).await.is_some());
            fs::write(place.0.path().join("ca.pem"), &other.1).unwrap();
            assert!(tls.reload().unwrap());
            assert!(try_once(&tls, &c).await.is_none());
        }
    }
}
