//! Serving a router over HTTP/1.1 and HTTP/2, plain or over TLS: the loop behind the admin listener and the workspace's
//! REST.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use crate::listen::{Connection, Listener, Peer};
use crate::shutdown::Shutdown;
use crate::tls::ServerTls;

/// How long a client may take to say who it is and agree on keys.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what runs may go on after the listener was closed. Bounded, because a health watch never ends by itself.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves until the shutdown stops; requests that run then are finished, and the shutdown waits for them.
pub async fn serve(listener: Listener, router: Router, shutdown: Shutdown) {
    while let Some(connection) = listener.next(&shutdown).await {
        let (router, leave) = (router.clone(), shutdown.clone());
        shutdown.spawn(async move {
            if let Ok(peer) = connection.peer() {
                converse(connection, peer, router, leave).await;
            }
        });
    }
}

/// The same over TLS. Each handshake is the business of its own connection: one that drags on holds nobody up.
pub async fn serve_tls(listener: Listener, tls: ServerTls, router: Router, shutdown: Shutdown) {
    while let Some(connection) = listener.next(&shutdown).await {
        let (config, router, leave) = (tls.current(), router.clone(), shutdown.clone());
        shutdown.spawn(async move {
            let Ok(peer) = connection.peer() else { return };
            if let Some(stream) = handshake(connection, config, &leave).await {
                converse(stream, peer, router, leave).await;
            }
        });
    }
}

/// The connection once both sides agreed on keys. A client that cannot, speaks no TLS or takes too long is let go.
async fn handshake(
    connection: Connection,
    config: Arc<ServerConfig>,
    shutdown: &Shutdown,
) -> Option<TlsStream<Connection>> {
    let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(connection));
    let accepted = tokio::select! {
        accepted = accepted => accepted,
        () = shutdown.stopping() => return None,
    };
    match accepted {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => tracing::debug!(%error, "no TLS handshake"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
    None
}

/// One connection to its end. A client that breaks off is no news.
async fn converse<C>(connection: C, peer: Peer, router: Router, shutdown: Shutdown)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Handlers find it among the extensions of a request.
    let service = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let conversation = builder.serve_connection(TokioIo::new(connection), TowerToHyperService::new(service));
    let mut conversation = std::pin::pin!(conversation);
    tokio::select! {
        _ = conversation.as_mut() => return,
        () = shutdown.stopping() => {}
    }
    conversation.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, conversation).await;
}
