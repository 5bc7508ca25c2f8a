//! A connection between two processes that can be disturbed: a TCP proxy that delays, holds, loses, cuts and resets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{block_on, spawn};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Sound,
    /// Everything takes longer.
    Slow(Duration),
    /// Half open: nothing gets through, and nobody is told.
    Hole,
    /// A piece is swallowed now and then.
    Lossy,
    /// What is on its way is cut off in the middle, and the connection closed in order.
    Cut,
    /// Connections are reset, and new ones too.
    Reset,
}

/// The proxy. It listens as long as the test process lives.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) address: SocketAddr,
    condition: watch::Sender<Condition>,
    life: Mutex<Life>,
}

/// Which connection it is, and since when. Each opening and each closing, on either side, begins another generation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) generation: u64,
    pub(crate) since: Instant,
}

impl Link {
    pub(crate) fn to(target: SocketAddr) -> Arc<Self> {
        let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let link = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            condition: watch::Sender::new(Condition::Sound),
            life: Mutex::new(Life { generation: 0, since: Instant::now() }),
        });
        let this = Arc::clone(&link);
        spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                spawn(Arc::clone(&this).carry(near, target));
            }
        });
        link
    }

    pub(crate) fn set(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }

    pub(crate) fn life(&self) -> Life {
        *self.life.lock().unwrap()
    }

    fn begin_generation(&self) {
        let mut life = self.life.lock().unwrap();
        *life = Life { generation: life.generation + 1, since: Instant::now() };
    }

    async fn carry(self: Arc<Self>, near: TcpStream, target: SocketAddr) {
        self.begin_generation();
        let condition = self.condition.subscribe();
        let far = TcpStream::connect(target).await;
        let is_refused = *condition.borrow() == Condition::Reset;
        if let Some(far) = far.ok().filter(|_| !is_refused) {
            let (near_reader, near_writer) = prepared(near).into_split();
            let (far_reader, far_writer) = prepared(far).into_split();
            let there = copy(near_reader, far_writer, condition.clone());
            let back = copy(far_reader, near_writer, condition);
            // The end of one half is the end of both.
            tokio::select! {
                () = there => {}
                () = back => {}
            }
        } else {
            let _ = near.set_zero_linger();
        }
        self.begin_generation();
    }
}

/// Without delays of the system's own.
fn prepared(stream: TcpStream) -> TcpStream {
    let _ = stream.set_nodelay(true);
    stream
}

/// Carries bytes until the connection ends or is to end.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut condition: watch::Receiver<Condition>) {
    let mut bytes = vec![0; 16 * 1024];
    let mut pieces = 0_u32;
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read,
            changed = condition.changed() => {
                match (changed, *condition.borrow_and_update()) {
                    (Ok(()), Condition::Sound | Condition::Slow(_) | Condition::Hole | Condition::Lossy) => continue,
                    // Without anything on its way there is nothing to cut.
                    (Ok(()), Condition::Cut) => return,
                    (_, Condition::Reset) => return reset(&to),
                    (Err(_), _) => return,
                }
            }
        };
        let Ok(length @ 1..) = read else {
            // A hole swallows the end, too.
            while *condition.borrow_and_update() == Condition::Hole && condition.changed().await.is_ok() {}
            return;
        };
        while *condition.borrow_and_update() == Condition::Hole {
            if condition.changed().await.is_err() {
                return;
            }
        }
        let now = *condition.borrow();
        pieces += 1;
        let part = match now {
            Condition::Sound | Condition::Hole => length,
            Condition::Slow(delay) => {
                tokio::time::sleep(delay).await;
                length
            }
            Condition::Lossy if pieces.is_multiple_of(3) => continue,
            Condition::Lossy => length,
            Condition::Cut => length / 2,
            Condition::Reset => return reset(&to),
        };
        if to.write_all(&bytes[..part]).await.is_err() || part < length {
            return;
        }
    }
}

fn reset(stream: &OwnedWriteHalf) {
    let _ = stream.as_ref().set_zero_linger();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn ends() -> (Arc<Link>, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = Link::to(listener.local_addr().unwrap());
        let near = TcpStream::connect(link.address).unwrap();
        let (far, _) = listener.accept().unwrap();
        far.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        (link, near, far)
    }

    #[test]
    fn link_carries_holds_and_carries_again() {
        let (link, mut near, mut far) = ends();
        let mut bytes = [0; 3];
        near.write_all(b"one").unwrap();
        far.read_exact(&mut bytes).unwrap();
        let before = link.life().generation;
        link.set(Condition::Hole);
        near.write_all(b"two").unwrap();
        assert!(far.read_exact(&mut bytes).is_err(), "nothing gets through");
        link.set(Condition::Sound);
        far.read_exact(&mut bytes).unwrap();
        assert_eq!((&bytes, link.life().generation), (b"two", before));
    }

    #[test]
    fn link_cuts_and_resets() {
        for condition in [Condition::Cut, Condition::Reset] {
            let (link, mut near, mut far) = ends();
            near.write_all(b"1234").unwrap();
            far.read_exact(&mut [0; 4]).unwrap();
            let before = link.life().generation;
            link.set(condition);
            let _ = near.write_all(b"5678");
            let mut rest = Vec::new();
            let ended = far.read_to_end(&mut rest);
            assert!(ended.is_err() || rest.len() < 4, "{condition:?}: {rest:?}");
            crate::support::wait_until("another generation", || link.life().generation > before);
        }
    }
}
