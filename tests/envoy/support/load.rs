//! Steady requests in the background, while a test pulls something away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Connection, Request};

const CALLERS: u32 = 12;

/// Callers that send one request after the other, each on a connection that it keeps.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Vec<u16>>>,
}

impl Load {
    /// Starts it, at about this many requests per second.
    pub(crate) fn start(to: SocketAddr, request: &Request, per_second: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let every = Duration::from_secs(1) * CALLERS / per_second;
        let start = || {
            let (request, stop) = (request.clone(), Arc::clone(&stop));
            std::thread::spawn(move || call(to, &request, every, &stop))
        };
        Self { callers: (0..CALLERS).map(|_| start()).collect(), stop }
    }

    /// Ends it; the status of every answer, 0 for none.
    pub(crate) fn stop(self) -> Vec<u16> {
        self.stop.store(true, Ordering::Relaxed);
        self.callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    }
}

fn call(to: SocketAddr, request: &Request, every: Duration, stop: &AtomicBool) -> Vec<u16> {
    let mut statuses = Vec::new();
    let mut connection = Connection::open(to).ok();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let answer = connection.as_mut().and_then(|connection| connection.send(request).ok());
        if answer.is_none() {
            connection = Connection::open(to).ok();
        }
        statuses.push(answer.map_or(0, |answer| answer.status));
        next += every;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    statuses
}
