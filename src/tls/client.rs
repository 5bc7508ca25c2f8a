//! The client's side of TLS: which servers are trusted, and what this process proves itself with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::{TlsError, TlsFiles, authority, authority_error, certificate_error, key_error};

/// The files of a client, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// CAs that are trusted, and no others.
    pub ca: PathBuf,
    /// What it proves itself with.
    pub identity: Option<TlsFiles>,
}

/// What a client needs to speak TLS. The files are read anew for each connection.
#[derive(Debug)]
pub struct ClientTls {
    files: ClientFiles,
    /// In place of the name that is connected to.
    server_name: Option<ServerName<'static>>,
    last_good: ArcSwap<ClientConfig>,
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read or does not hold what it should.
    pub fn load(files: ClientFiles, server_name: Option<ServerName<'static>>) -> Result<Self, TlsError> {
        let last_good = ArcSwap::from_pointee(config(&files)?);
        Ok(Self { files, server_name, last_good })
    }

    /// The connection once both sides agreed on keys, and the server's certificate is good for the host.
    ///
    /// # Errors
    /// The host cannot be in a certificate, or they did not agree.
    pub async fn connect<C>(&self, host: &str, connection: C) -> io::Result<TlsStream<C>>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let named = || ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => named().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
        };
        TlsConnector::from(self.current()).connect(name, connection).await
    }

    /// What the files hold now, or held when they were good.
    fn current(&self) -> Arc<ClientConfig> {
        match config(&self.files) {
            Ok(config) => self.last_good.store(Arc::new(config)),
            Err(error) => tracing::warn!(%error, "the certificates that were read before stay in use"),
        }
        self.last_good.load_full()
    }
}

fn config(files: &ClientFiles) -> Result<ClientConfig, TlsError> {
    let roots: RootCertStore = authority(&files.ca)?;
    let unusable = |error: rustls::Error| authority_error(&files.ca, error.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(unusable)?
        .with_root_certificates(roots);
    let mut config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = read_identity(identity)?;
            let refused = |error: rustls::Error| key_error(&identity.key, format!("does not do: {error}"));
            builder.with_client_auth_cert(chain, key).map_err(refused)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn read_identity(
    files: &TlsFiles,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = read(&files.certificate, certificate_error)?;
    let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>();
    let chain =
        chain.map_err(|error| certificate_error(&files.certificate, format!("is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(certificate_error(&files.certificate, "holds no certificate in PEM"));
    }
    let key = read(&files.key, key_error)?;
    // An error of the parser could repeat a part of what it read.
    let key = PrivateKeyDer::from_pem_slice(&key);
    let key = key.map_err(|_| key_error(&files.key, "holds no private key in PEM"))?;
    Ok((chain, key))
}

fn read(path: &Path, error: impl Fn(&Path, String) -> TlsError) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let bytes = std::fs::read(path).map(Zeroizing::new);
    bytes.map_err(|source| error(path, format!("cannot be read: {source}")))
}
