//! One connection to the check port, from its preface to its end.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::port::CheckPort;
use crate::random;
use crate::shutdown::Shutdown;

/// What a client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// For how long a connection may exist without its preface.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// For how long a connection that was told to go away may finish what runs. A check takes microseconds; what lasts is
/// a `Watch` of the health.
const GRACE: Duration = Duration::from_secs(3);

const MAX_CONCURRENT_STREAMS: u32 = 2_048;
/// Envoy resets streams when its time-out fires. Where a machine is busy many of them are not accepted yet, and the
/// default of 20 would end the whole connection then, with all others on it.
const MAX_RESETS_BEFORE_ACCEPT: usize = 4 * MAX_CONCURRENT_STREAMS as usize;
/// Streams that were ended for an error of the client's.
const MAX_RESETS_FOR_ERRORS: usize = 1_024;
/// Requests are small: a window for the greatest message that is accepted, and one for many of them.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const MAX_HEADER_LIST: u32 = 16 * 1024;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection's place with a worker. Counted for as long as it is held.
#[derive(Debug)]
pub(crate) struct Place {
    load: Arc<AtomicUsize>,
    connections: Gauge,
}

impl Place {
    pub(crate) fn take(load: Arc<AtomicUsize>, connections: Gauge) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        connections.inc();
        Self { load, connections }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
        self.connections.dec();
    }
}

/// Serves a connection to its end.
pub(crate) async fn serve<C>(
    mut connection: C,
    port: CheckPort,
    max_age: Option<Duration>,
    shutdown: Shutdown,
) where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let preface = tokio::select! {
        preface = tokio::time::timeout(PREFACE_TIMEOUT, read_preface(&mut connection)) => preface,
        () = shutdown.stopping() => return,
    };
    match preface {
        Ok(Ok(())) => serve_http2(connection, port, max_age, &shutdown).await,
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the check port is not HTTP/2"),
        Err(_) => tracing::debug!("a connection to the check port sent nothing"),
    }
}

async fn read_preface(connection: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    connection.read_exact(&mut preface).await?;
    if preface == *PREFACE { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

async fn serve_http2<C>(connection: C, port: CheckPort, max_age: Option<Duration>, shutdown: &Shutdown)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let io = TokioIo::new(Unread { preface: PREFACE, connection });
    let mut serving = pin!(builder().serve_connection(io, port));
    tokio::select! {
        ended = serving.as_mut() => return log_end(ended),
        () = too_old(max_age) => {}
        () = shutdown.stopping() => {}
    }
    serving.as_mut().graceful_shutdown();
    match tokio::time::timeout(GRACE, serving).await {
        Ok(ended) => log_end(ended),
        Err(_) => tracing::debug!("a connection to the check port was cut off"),
    }
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the check port broke");
    }
}

fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESETS_BEFORE_ACCEPT)
        .max_local_error_reset_streams(MAX_RESETS_FOR_ERRORS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

/// Resolves when a connection is to be renewed, so that load finds its way to other gates. Not all at once: up to a
/// tenth sooner or later.
async fn too_old(max_age: Option<Duration>) {
    match max_age {
        Some(age) => tokio::time::sleep(age.mul_f64(0.9 + 0.2 * random::fraction())).await,
        None => std::future::pending().await,
    }
}

/// A connection whose preface was read already.
struct Unread<C> {
    preface: &'static [u8],
    connection: C,
}

impl<C: AsyncRead + Unpin> AsyncRead for Unread<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.preface.is_empty() {
            return Pin::new(&mut this.connection).poll_read(cx, buffer);
        }
        let (now, later) = this.preface.split_at(this.preface.len().min(buffer.remaining()));
        buffer.put_slice(now);
        this.preface = later;
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Unread<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().connection).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().connection).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::Connection;
    use rstest::rstest;
    use scoregate_authz::{CredentialHeaders, PortRule, Rules, TargetSource};
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;
    use tokio::time::Instant;

    use crate::clock::SystemClock;
    use crate::config::UndecidedAnswer;
    use crate::gate::answer::Answers;
    use crate::gate::check::{CheckService, Decider};
    use crate::gate::fixtures::peppers;
    use crate::gate::metrics::GateMetrics;
    use crate::gate::refusals::RefusalLog;
    use crate::gate::spans::Spans;
    use crate::gate::usage::Usage;
    use crate::metrics::Metrics;

    fn port() -> CheckPort {
        let rules = Rules {
            target: TargetSource::ContextExtensions,
            ports: PortRule::Any,
            credential_headers: CredentialHeaders::default(),
            clock_skew: Duration::ZERO,
            peppers: peppers(),
        };
        let clock = Arc::new(SystemClock);
        let metrics = GateMetrics::register(&Metrics::default(), clock.clone());
        let decider = Arc::new(Decider::new(rules, Arc::default(), 1));
        let answers = Answers::new("r", &CredentialHeaders::default(), UndecidedAnswer::DeniedResponse);
        let usage = Arc::new(Usage::new(Arc::default(), metrics.uses));
        let refusals = RefusalLog::new(Arc::default());
        let checks = CheckService::new(
            decider,
            Arc::new(answers),
            clock,
            metrics.checks,
            usage,
            refusals,
            Spans::none(),
        );
        CheckPort::new(checks, axum::Router::new())
    }

    #[rstest]
    #[case::silence(b"", PREFACE_TIMEOUT)]
    #[case::half_a_preface(b"PRI * HTTP/2.0\r\n", PREFACE_TIMEOUT)]
    // Envoy connects before it has anything to ask: after the preface only a peer that is dead is given up.
    #[case::dead_after_the_preface(PREFACE, KEEP_ALIVE_INTERVAL + KEEP_ALIVE_TIMEOUT)]
    #[tokio::test(start_paused = true)]
    async fn t014_connection_that_says_too_little_is_closed(#[case] sent: &[u8], #[case] after: Duration) {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(sent).await.unwrap();
        let start = Instant::now();
        serve(Connection::Unix(server), port(), None, Shutdown::default()).await;
        let near = after..after + Duration::from_millis(10);
        assert!(near.contains(&start.elapsed()), "{:?}", start.elapsed());
    }
}
