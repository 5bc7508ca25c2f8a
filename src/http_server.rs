//! Serving a router over HTTP/1.1 and HTTP/2, plain or over TLS: the loop behind the admin listener, the workspace's
//! REST and, over HTTP/2 only, its policy feed.
//!
//! No connection lasts for nothing: each has a time for its handshake, one for its first request, and then one for each
//! next request (HTTP/1.1) or for the answer to a ping (HTTP/2).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::DATE;
use axum::response::Response;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use scoregate_authz::UnixTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tower::ServiceExt;

use crate::clock::{Clock, SystemClock};
use crate::listen::{Listener, Peer};
use crate::shutdown::Shutdown;
use crate::tls::{PeerIdentity, ServerTls};

/// How long a new connection may take to bring its first request, head and all. The one limit of a client that says
/// nothing, or not enough to tell which HTTP it speaks.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an HTTP/1.1 connection may take from an answer to the end of the next request's head: for how long it may be
/// idle, then. Longer than the pools of clients keep theirs, so that it is mostly they who close.
const NEXT_REQUEST_TIMEOUT: Duration = Duration::from_secs(75);
/// An HTTP/2 connection whose peer is silent for the sum of these is given up.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what runs may go on after the listener was closed. Bounded, because a health watch never ends by itself.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Which HTTP is spoken.
#[derive(Debug, Clone, Copy)]
enum Versions {
    Both,
    Http2,
}

/// Serves until the shutdown stops; requests that run then are finished, and the shutdown waits for them. Over TLS, where
/// that is set; a Unix socket does without.
pub async fn serve(listener: Listener, tls: Option<ServerTls>, router: Router, shutdown: Shutdown) {
    serve_with(&listener, tls, Versions::Both, &router, &shutdown).await;
}

/// The same for HTTP/2 only.
pub async fn serve_http2(listener: &Listener, tls: Option<ServerTls>, router: &Router, shutdown: &Shutdown) {
    serve_with(listener, tls, Versions::Http2, router, shutdown).await;
}

/// Each handshake is the business of its own connection: one that drags on holds nobody up.
async fn serve_with(
    listener: &Listener,
    tls: Option<ServerTls>,
    versions: Versions,
    router: &Router,
    shutdown: &Shutdown,
) {
    let tls = tls.filter(|_| !listener.is_unix());
    listener.warn_if_open(tls.as_ref());
    if let Some(tls) = tls.clone() {
        shutdown.spawn(tls.follow(shutdown.clone()));
    }
    while let Some(connection) = listener.next(shutdown).await {
        let (router, leave) = (router.clone(), shutdown.clone());
        let handshake = tls.as_ref().map(ServerTls::current);
        shutdown.spawn(async move {
            let Ok(peer) = connection.peer() else { return };
            let Some(handshake) = handshake else {
                return converse(connection, peer, None, versions, router, leave).await;
            };
            if let Some((stream, identity)) = handshake.accept(connection, &leave).await {
                converse(stream, peer, identity, versions, router, leave).await;
            }
        });
    }
}

/// One connection to its end. A client that breaks off is no news.
async fn converse<C>(
    connection: C,
    peer: Peer,
    identity: Option<PeerIdentity>,
    versions: Versions,
    router: Router,
    shutdown: Shutdown,
) where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::new(Notify::new());
    let service = router.map_request({
        let asked = Arc::clone(&asked);
        move |mut request: Request<Incoming>| {
            asked.notify_one();
            // Handlers find them among the extensions of a request.
            request.extensions_mut().insert(peer);
            if let Some(identity) = &identity {
                request.extensions_mut().insert(identity.clone());
            }
            request
        }
    });
    let service = service.map_response(|response| dated(response, SystemClock.now()));
    let builder = builder(versions);
    let conversation = builder.serve_connection(TokioIo::new(connection), TowerToHyperService::new(service));
    let mut conversation = std::pin::pin!(conversation);
    tokio::select! {
        _ = conversation.as_mut() => return,
        () = no_request(&asked) => {
            tracing::debug!(%peer, "a connection brought no request");
            return;
        }
        () = shutdown.stopping() => {}
    }
    conversation.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, conversation).await;
}

/// With the time. hyper's own stays at what it was for as long as a clock is set back, and those who compare clocks by it, as
/// `doctor` does, are told the wrong one.
fn dated(mut response: Response, now: UnixTime) -> Response {
    let seconds = i64::try_from(now.as_secs()).ok();
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let text = time.and_then(|time| DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok());
    if let Some(date) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert(DATE, date);
    }
    response
}

/// Resolves when the first request is overdue, and never if it came in time.
async fn no_request(asked: &Notify) {
    if tokio::time::timeout(FIRST_REQUEST_TIMEOUT, asked.notified()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

fn builder(versions: Versions) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // hyper's timer runs from the answer before, so it is the limit of idleness too.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(NEXT_REQUEST_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    match versions {
        Versions::Both => builder,
        Versions::Http2 => builder.http2_only(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_time_of_the_clock() {
        let dated = dated(Response::default(), Duration::from_secs(784_111_777));
        // The example of RFC 9110, section 5.6.7.
        assert_eq!(dated.headers()[DATE], "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    use axum::routing::get;
    use rstest::rstest;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use crate::tls::{Handshake, TlsFiles};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    /// An empty SETTINGS, then HEADERS of `GET http /` with both ends.
    const HTTP2_REQUEST: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84";

    fn router() -> Router {
        Router::new().route("/", get(async || "answer"))
    }

    /// The client's end of a conversation.
    fn conversation(versions: Versions) -> DuplexStream {
        let (client, server) = duplex(64 * 1024);
        tokio::spawn(converse(server, Peer::Unix, None, versions, router(), Shutdown::default()));
        client
    }

    /// A certificate for `localhost`, and what serves it.
    fn identity() -> (CertificateDer<'static>, Handshake) {
        let place = tempfile::tempdir().unwrap();
        let files =
            TlsFiles { certificate: place.path().join("cert.pem"), key: place.path().join("key.pem") };
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        (made.cert.der().clone(), ServerTls::load(files, None).unwrap().current())
    }

    /// The client's end after a handshake.
    async fn conversation_over_tls() -> tokio_rustls::client::TlsStream<DuplexStream> {
        let (certificate, config) = identity();
        let (client, server) = duplex(64 * 1024);
        tokio::spawn(async move {
            let shutdown = Shutdown::default();
            let (stream, _) = config.accept(server, &shutdown).await.unwrap();
            converse(stream, Peer::Unix, None, Versions::Both, router(), shutdown).await;
        });
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect(ServerName::try_from("localhost").unwrap(), client).await.unwrap()
    }

    /// How long until the connection is closed. The clock stands still while anything happens.
    async fn closed_after(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Duration {
        let start = Instant::now();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(3600), client.read_to_end(&mut rest));
        // Without a `close_notify`, the end is an error to a client of TLS.
        let _ = read.await.expect("still open");
        start.elapsed()
    }

    fn assert_near(measured: Duration, expected: Duration) {
        let near = expected..expected + Duration::from_millis(10);
        assert!(near.contains(&measured), "{measured:?}");
    }

    #[rstest]
    #[case::silence(b"")]
    #[case::the_first_letter_of_two_protocols(b"P")]
    #[case::half_a_preface(b"PRI * HTTP/2.0\r\n")]
    #[case::a_preface_alone(PREFACE)]
    #[case::half_a_head(b"GET / HTTP/1.1\r\nhost: x\r\nx: ")]
    #[tokio::test(start_paused = true)]
    async fn t014_connection_without_a_request_is_closed(
        #[case] sent: &[u8],
        #[values(false, true)] has_tls: bool,
    ) {
        let closed = if has_tls {
            let mut client = conversation_over_tls().await;
            client.write_all(sent).await.unwrap();
            client.flush().await.unwrap();
            closed_after(&mut client).await
        } else {
            let mut client = conversation(Versions::Both);
            client.write_all(sent).await.unwrap();
            closed_after(&mut client).await
        };
        assert_near(closed, FIRST_REQUEST_TIMEOUT);
    }

    #[rstest]
    #[case::silence(b"")]
    #[case::half_a_preface(b"PRI * HTTP/2.0\r\n")]
    #[case::a_preface_alone(PREFACE)]
    #[tokio::test(start_paused = true)]
    async fn t014_http2_connection_without_a_request_is_closed(#[case] sent: &[u8]) {
        let mut client = conversation(Versions::Http2);
        client.write_all(sent).await.unwrap();
        assert_near(closed_after(&mut client).await, FIRST_REQUEST_TIMEOUT);
    }

    #[rstest]
    #[case::silence(b"")]
    #[case::half_a_hello(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")]
    #[tokio::test(start_paused = true)]
    async fn t014_handshake_that_never_ends_is_given_up(#[case] sent: &[u8]) {
        let (_, config) = identity();
        let (mut client, server) = duplex(1024);
        client.write_all(sent).await.unwrap();
        let start = Instant::now();
        assert!(config.accept(server, &Shutdown::default()).await.is_none());
        assert_near(start.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connection_is_kept_for_the_next_request_and_not_for_ever() {
        let mut client = conversation(Versions::Both);
        for _ in 0..3 {
            client.write_all(REQUEST).await.unwrap();
            let mut answer = vec![0; 1024];
            let length = client.read(&mut answer).await.unwrap();
            assert!(answer[..length].ends_with(b"answer"));
            tokio::time::sleep(NEXT_REQUEST_TIMEOUT - Duration::from_secs(1)).await;
        }
        assert_near(closed_after(&mut client).await, Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn http2_connection_of_a_dead_peer_is_given_up() {
        let mut client = conversation(Versions::Both);
        client.write_all(PREFACE).await.unwrap();
        client.write_all(HTTP2_REQUEST).await.unwrap();
        assert_near(closed_after(&mut client).await, KEEP_ALIVE_INTERVAL + KEEP_ALIVE_TIMEOUT);
    }
}
