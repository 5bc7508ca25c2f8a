//! This gate as a source for others: its own last good policy, as a copy of a `snapshot` file.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::disk;
use super::keeper::Keeper;
use super::state::Proven;

/// Copies that are sent at one time: each is the whole of policy in memory.
const MAX_COPIES: usize = 4;
/// For how long a piece may wait for the other side to read it.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
struct Peers {
    keeper: Arc<Keeper>,
    copies: Arc<Semaphore>,
}

/// `GET /policy/snapshot`.
pub(crate) fn router(keeper: Arc<Keeper>) -> Router {
    let peers = Peers { keeper, copies: Arc::new(Semaphore::new(MAX_COPIES)) };
    Router::new().route("/policy/snapshot", get(snapshot)).with_state(peers)
}

async fn snapshot(State(peers): State<Peers>, headers: HeaderMap) -> Response {
    let Some(proven) = peers.keeper.proven() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no policy yet\n").into_response();
    };
    let name = name_of(&proven);
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == name.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, name)]).into_response();
    }
    let Ok(permit) = peers.copies.try_acquire_owned() else {
        let busy = (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], "others are reading\n");
        return busy.into_response();
    };
    let (sender, pieces) = mpsc::channel(2);
    tokio::spawn(async move {
        let _permit = permit;
        send(proven, sender).await;
    });
    let head = [(CONTENT_TYPE, "application/octet-stream".to_owned()), (ETAG, name)];
    (head, Body::from_stream(ReceiverStream::new(pieces))).into_response()
}

/// The same for the same state and statement.
fn name_of(proven: &Proven) -> String {
    format!("\"{}-{}\"", proven.snapshot.version(), proven.issued_at.as_millis())
}

/// To the end, or until the reader takes too long.
async fn send(proven: Arc<Proven>, sender: mpsc::Sender<io::Result<Vec<u8>>>) {
    let made = tokio::task::spawn_blocking(move || disk::copy(&proven).collect::<Vec<_>>()).await;
    for piece in made.unwrap_or_default() {
        if !matches!(tokio::time::timeout(PATIENCE, sender.send(piece)).await, Ok(Ok(()))) {
            return;
        }
    }
}
