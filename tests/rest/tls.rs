//! The REST over TLS: versions, protocols, and clients that speak something else or nothing.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::tls::Version;
use rstest::rstest;
use scoregate::tls::{ServerTls, TlsFiles};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::harness::TestWorkspace;

/// A workspace that serves over TLS, and the CA that signed its certificate.
struct TlsWorkspace {
    test: TestWorkspace,
    address: SocketAddr,
    ca: String,
}

impl TlsWorkspace {
    async fn start() -> Self {
        let test = TestWorkspace::start().await;
        let (ca, files) = authority(test.data_dir());
        let address = test.serve_tls(ServerTls::load(files, None).unwrap()).await;
        Self { test, address, ca }
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// What the owner is told with exactly this version.
    async fn status(&self, version: Version) -> u16 {
        let ca = reqwest::Certificate::from_pem(self.ca.as_bytes()).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]);
        let client = client.tls_version_min(version).tls_version_max(version).build().unwrap();
        let request = client.get(format!("{}/scoregate/v1/workspace", self.url()));
        request.bearer_auth(&self.test.owner).send().await.unwrap().status().as_u16()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scoregate"));
        command.args(["service", "list"]).env_clear().env("SCOREGATE_WORKSPACE", self.url());
        command.env("SCOREGATE_CREDENTIAL", &self.test.owner).stdout(Stdio::null());
        command
    }
}

/// A new CA, and a certificate of it for this machine, with its key, in a directory.
fn authority(directory: &std::path::Path) -> (String, TlsFiles) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::new(params, ca_key)).unwrap();
    let files = TlsFiles { certificate: directory.join("cert.pem"), key: directory.join("key.pem") };
    std::fs::write(&files.certificate, leaf.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    (ca, files)
}

#[rstest]
#[tokio::test]
async fn both_versions_are_spoken(#[values(Version::TLS_1_2, Version::TLS_1_3)] version: Version) {
    assert_eq!(TlsWorkspace::start().await.status(version).await, 200);
}

#[tokio::test]
async fn http_2_is_negotiated() {
    let workspace = TlsWorkspace::start().await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(workspace.ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(workspace.address).await.unwrap();
    let name = ServerName::from(workspace.address.ip());
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(format!("{}/discovery", workspace.url()));
    let answer = client.send_request(request.body(String::new()).unwrap()).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
}

#[tokio::test]
async fn plain_http_is_refused_at_once() {
    let workspace = TlsWorkspace::start().await;
    let mut stream = TcpStream::connect(workspace.address).await.unwrap();
    stream.write_all(b"GET /discovery HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The end may come as a reset: what was sent was not read to its end.
    let _ = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
}

#[tokio::test]
async fn t014_handshakes_that_never_end_hold_nobody_up_and_are_ended() {
    let workspace = TlsWorkspace::start().await;
    let began = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(workspace.address).await.unwrap();
        // The head of a record that promises a handshake of 512 bytes.
        stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00]).await.unwrap();
        silent.push(stream);
    }
    assert_eq!(workspace.status(Version::TLS_1_3).await, 200);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let end = tokio::time::timeout(Duration::from_secs(15), silent[0].read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");
}

#[tokio::test]
async fn commands_trust_the_ca_that_they_are_told_of() {
    let workspace = TlsWorkspace::start().await;
    let path = workspace.test.data_dir().join("ca.pem");
    std::fs::write(&path, &workspace.ca).unwrap();
    let told = workspace.command().env("SCOREGATE_CA_FILE", &path).status().await.unwrap();
    assert_eq!(told.code(), Some(0));
    let told = workspace.command().arg("--ca-file").arg(&path).status().await.unwrap();
    assert_eq!(told.code(), Some(0));
}

#[tokio::test]
async fn commands_say_that_a_certificate_is_not_trusted() {
    let workspace = TlsWorkspace::start().await;
    let path = workspace.test.data_dir().join("other-ca.pem");
    let other = tempfile::tempdir().unwrap();
    std::fs::write(&path, authority(other.path()).0).unwrap();
    // Once as a CA of the system, once as the only one.
    for variable in ["SSL_CERT_FILE", "SCOREGATE_CA_FILE"] {
        let output = workspace.command().env(variable, &path).output().await.unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{message}");
        let expected = format!("error: the certificate of `{}` is not trusted: --ca-file", workspace.url());
        assert!(message.starts_with(&expected), "{message}");
        assert!(message.contains("because: invalid peer certificate"), "{message}");
    }
}

#[tokio::test]
async fn commands_refuse_a_file_without_a_ca() {
    let workspace = TlsWorkspace::start().await;
    let path = workspace.test.data_dir().join("key.pem");
    let output = workspace.command().env("SCOREGATE_CA_FILE", &path).output().await.unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{message}");
    assert!(message.contains("key.pem` holds no certificate in PEM"), "{message}");
}
