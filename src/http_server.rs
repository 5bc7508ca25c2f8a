//! Serving a router over plain HTTP/1.1 and HTTP/2: the loop behind the admin listener and the workspace's REST.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tower::ServiceExt;

use crate::listen::{Connection, Listener};
use crate::shutdown::Shutdown;

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what runs may go on after the listener was closed. Bounded, because a health watch never ends by itself.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves until the shutdown stops; requests that run then are finished, and the shutdown waits for them.
pub async fn serve(listener: Listener, router: Router, shutdown: Shutdown) {
    while let Some(connection) = listener.next(&shutdown).await {
        shutdown.spawn(converse(connection, router.clone(), shutdown.clone()));
    }
}

/// One connection to its end. A client that breaks off is no news.
async fn converse(connection: Connection, router: Router, shutdown: Shutdown) {
    let Ok(peer) = connection.peer() else { return };
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
