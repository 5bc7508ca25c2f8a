//! This gate as a source for others: its own last good policy, as a copy of a `snapshot` file.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER};
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
/// For how long a copy may be on its way: slow readers must not keep others from reading. A gate gives up after 30 s.
const LONGEST: Duration = Duration::from_secs(60);

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
    let Ok(pieces) = pieces_of(proven).await else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "it cannot be copied\n").into_response();
    };
    let length: usize = pieces.iter().map(Vec::len).sum();
    let (sender, body) = mpsc::channel(2);
    tokio::spawn(async move {
        let _permit = permit;
        let _ = tokio::time::timeout(LONGEST, send(pieces, sender)).await;
    });
    // With its length, nobody takes a copy that was cut off for a whole one.
    let head = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, length.to_string()),
        (ETAG, name),
    ];
    (head, Body::from_stream(ReceiverStream::new(body))).into_response()
}

/// The same for the same state and statement.
fn name_of(proven: &Proven) -> String {
    format!("\"{}-{}\"", proven.snapshot.version(), proven.issued_at.as_millis())
}

async fn pieces_of(proven: Arc<Proven>) -> io::Result<Vec<Vec<u8>>> {
    tokio::task::spawn_blocking(move || disk::copy(&proven).collect()).await?
}

/// To the end, or until the reader takes too long.
async fn send(pieces: Vec<Vec<u8>>, sender: mpsc::Sender<io::Result<Vec<u8>>>) {
    for piece in pieces {
        if !matches!(tokio::time::timeout(PATIENCE, sender.send(Ok(piece))).await, Ok(Ok(()))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::fixtures::{give, keeper, open_service, trust, version};
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tokio::time::Instant;
    use tower::ServiceExt;

    /// A copy in a dozen pieces.
    fn peer(data: &tempfile::TempDir) -> Router {
        let keeper = keeper(data.path(), trust());
        let services: Vec<_> = (0..12_000).map(|number| open_service(&format!("svc-{number}"))).collect();
        give(&keeper, version(1, 7), &services);
        router(Arc::new(keeper))
    }

    async fn ask(peer: &Router) -> Response {
        let request = Request::get("/policy/snapshot").body(Body::empty()).unwrap();
        peer.clone().oneshot(request).await.unwrap()
    }

    /// Reads a piece after each pause, to the end; the number of bytes.
    async fn read(mut body: Body, pause: Duration) -> usize {
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame.unwrap().into_data().unwrap().len();
            tokio::time::sleep(pause).await;
        }
        length
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_cut_off_and_makes_room_for_others() {
        let data = tempfile::tempdir().unwrap();
        let peer = peer(&data);
        let whole = read(ask(&peer).await.into_body(), Duration::ZERO).await;
        let begun = Instant::now();
        let mut slow = Vec::new();
        for _ in 0..MAX_COPIES {
            let body = ask(&peer).await.into_body();
            // None waits so long that a single piece would end it.
            slow.push(tokio::spawn(read(body, PATIENCE - Duration::from_secs(1))));
        }
        assert_eq!(ask(&peer).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        for reading in slow {
            assert!(reading.await.unwrap() < whole);
        }
        assert!(begun.elapsed() < LONGEST + 3 * PATIENCE, "{:?}", begun.elapsed());
        assert_eq!(read(ask(&peer).await.into_body(), Duration::from_secs(1)).await, whole);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_is_cut_off() {
        let data = tempfile::tempdir().unwrap();
        let peer = peer(&data);
        let mut stopped = Vec::new();
        for _ in 0..MAX_COPIES {
            stopped.push(ask(&peer).await);
        }
        tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
        assert_eq!(ask(&peer).await.status(), StatusCode::OK);
        drop(stopped);
    }
}
