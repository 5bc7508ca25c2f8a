//! The policy feed, as its client: says what this gate holds, takes what it lacks, acknowledges what it keeps.

#[cfg(test)]
mod disorder;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use scoregate_authz::Version;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use super::dial::dial;
use super::keeper::{Keeper, Taken, Unconfirmed};
use super::metrics::FeedMetrics;
use super::state::{self, Assembly, RefusedPolicy};
use super::usage::Usage;
use crate::backoff::Backoff;
use crate::causes::with_causes;
use crate::listen::PeerAddress;
use crate::proto::scoregate::policy::v1 as wire;
use crate::proto::scoregate::policy::v1::policy_feed_client::PolicyFeedClient;
use crate::random;
use crate::shutdown::Shutdown;
use crate::tls::ClientTls;

/// The workspace sends something every 5 s. One that says nothing for this long is gone, whatever TCP thinks.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);

/// Longest message, in bytes.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
const WINDOW: u32 = 4 * 1024 * 1024;

/// Heartbeats that may come before the snapshot that a nack asks for, and between two of its parts.
const PATIENCE: u32 = 3;

/// Before a name is taken again that another gate has taken.
const DISPLACED: Duration = Duration::from_secs(1);

/// How long a workspace may take to read the last word before a connection is closed.
const PARTING: Duration = Duration::from_secs(1);

/// Why the feed ended. It is opened again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    #[error("cannot connect to `{address}`")]
    Connect {
        address: PeerAddress,
        #[source]
        source: tonic::transport::Error,
    },
    #[error("the workspace ended the feed: {}", words(.0))]
    Call(Box<Status>),
    #[error("the workspace closed the feed")]
    Closed,
    #[error("the workspace says nothing")]
    Silent,
    #[error(transparent)]
    Unconfirmed(#[from] Unconfirmed),
    #[error("the workspace sends no snapshot, or not all of it")]
    NoSnapshot,
    #[error("what the workspace sent was refused twice in a row")]
    Refused,
    #[error("policy could not be taken")]
    Fault(#[from] JoinError),
}

impl FeedError {
    /// How long the next attempt is to wait at least. A gate whose name another one has taken would take it back at once, and
    /// so would that one.
    fn pause(&self) -> Duration {
        match self {
            Self::Call(status) if status.code() == Code::Aborted => DISPLACED,
            _ => Duration::ZERO,
        }
    }
}

/// What a server, or the way to it, says. tonic's own words name codes, and everything twice.
pub(super) fn words(status: &Status) -> String {
    let message = if status.message().is_empty() { status.code().description() } else { status.message() };
    let mut last: Option<&dyn Error> = status.source();
    while let Some(deeper) = last.and_then(Error::source) {
        last = Some(deeper);
    }
    last.map_or_else(|| message.to_owned(), |cause| format!("{message}: {cause}"))
}

/// The client.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) gate: String,
    /// A random number.
    pub(crate) process: u64,
    pub(crate) address: PeerAddress,
    pub(crate) tls: Option<Arc<ClientTls>>,
    /// Without one, the certificate says who this is.
    pub(crate) credential: Option<MetadataValue<Ascii>>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) usage: Arc<Usage>,
    pub(crate) metrics: FeedMetrics,
    /// How long a workspace may say nothing.
    pub(crate) silence: Duration,
}

/// The credential as metadata of the feed's call.
pub(crate) fn bearer(credential: &SecretString) -> Option<MetadataValue<Ascii>> {
    let text = zeroize::Zeroizing::new(format!("Bearer {}", credential.expose_secret()));
    let mut value = MetadataValue::try_from(text.as_str()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Feed {
    /// Follows the workspace until the shutdown stops.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let mut backoff = Backoff::new();
        // What was logged last: an outage of a day is not a line every few seconds.
        let mut told = None;
        loop {
            let error = tokio::select! {
                error = self.follow(&mut backoff) => error,
                () = shutdown.stopping() => return,
            };
            let was_connected = self.metrics.connected.set(0) == 1;
            let delay = backoff.next(random::fraction()).max(error.pause());
            let error = with_causes(&error);
            if !was_connected && told.as_ref() == Some(&error) {
                tracing::debug!(error, retry_in = ?delay, "the policy feed is still not connected");
            } else {
                tracing::warn!(error, retry_in = ?delay, "the policy feed is not connected");
                told = Some(error);
            }
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = shutdown.stopping() => return,
            }
            self.metrics.reconnects.inc();
        }
    }

    /// One connection, to its end.
    async fn follow(&self, backoff: &mut Backoff) -> FeedError {
        match self.subscribe().await {
            Ok((outbound, inbound)) => {
                self.metrics.connected.set(1);
                tracing::info!(address = %self.address, "the policy feed is connected");
                let reporting = self.usage.report(outbound.downgrade());
                tokio::select! {
                    error = Session::new(self, outbound, backoff).read(inbound) => error,
                    never = reporting => match never {},
                }
            }
            Err(error) => error,
        }
    }

    async fn subscribe(
        &self,
    ) -> Result<(mpsc::Sender<wire::GateMessage>, Streaming<wire::WorkspaceMessage>), FeedError> {
        let connecting = timeout(self.silence, connect(&self.address, self.tls.as_ref()));
        let channel = connecting.await.map_err(|_| FeedError::Silent)??;
        let mut client = PolicyFeedClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let (outbound, messages) = mpsc::channel(16);
        let (gate, process) = (self.gate.clone(), self.process);
        let hello = self.blocking(move |keeper| keeper.hello(&gate)).await?;
        let hello = wire::Hello { process, ..hello };
        let hello = wire::gate_message::Message::Hello(hello);
        // The channel is new and has room.
        let _ = outbound.send(wire::GateMessage { message: Some(hello) }).await;
        let mut request = Request::new(ReceiverStream::new(messages));
        if let Some(credential) = &self.credential {
            request.metadata_mut().insert("authorization", credential.clone());
        }
        let answered = timeout(self.silence, client.subscribe(request)).await;
        let response = answered.map_err(|_| FeedError::Silent)?;
        Ok((outbound, response.map_err(|status| FeedError::Call(Box::new(status)))?.into_inner()))
    }

    /// The keeper builds and writes, and waits for others who do, on a thread that may wait.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Keeper) -> T + Send + 'static,
    ) -> Result<T, FeedError> {
        let keeper = Arc::clone(&self.keeper);
        Ok(tokio::task::spawn_blocking(move || work(&keeper)).await?)
    }
}

async fn connect(address: &PeerAddress, tls: Option<&Arc<ClientTls>>) -> Result<Channel, FeedError> {
    let (to, tls) = (address.clone(), tls.cloned());
    let connector = tower::service_fn(move |_| dial(to.clone(), tls.clone()));
    // Only a name in the call's `:authority`: the connector knows where to go.
    Endpoint::from_static("http://feed.scoregate.invalid")
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .connect_with_connector(connector)
        .await
        .map_err(|source| FeedError::Connect { address: address.clone(), source })
}

/// What is known within one connection.
struct Session<'a> {
    feed: &'a Feed,
    outbound: mpsc::Sender<wire::GateMessage>,
    backoff: &'a mut Backoff,
    state: State,
    /// Since a snapshot is waited for, or its next part.
    heartbeats: u32,
    /// Whether the last that was sent was refused.
    refused: bool,
}

enum State {
    /// Changes and heartbeats are expected, or the beginning of a snapshot.
    Following,
    /// A snapshot has begun.
    Assembling(Box<Assembly>),
    /// Something was refused: all is skipped until the beginning of a snapshot.
    Skipping,
}

impl<'a> Session<'a> {
    fn new(feed: &'a Feed, outbound: mpsc::Sender<wire::GateMessage>, backoff: &'a mut Backoff) -> Self {
        Self { feed, outbound, backoff, state: State::Following, heartbeats: 0, refused: false }
    }

    async fn read(mut self, mut inbound: Streaming<wire::WorkspaceMessage>) -> FeedError {
        loop {
            let message = match timeout(self.feed.silence, inbound.message()).await {
                Err(_) => return FeedError::Silent,
                Ok(Err(status)) => return FeedError::Call(Box::new(status)),
                Ok(Ok(None)) => return FeedError::Closed,
                Ok(Ok(Some(message))) => message,
            };
            match self.take(message).await {
                Ok(()) => {}
                Err(error @ (FeedError::Refused | FeedError::Unconfirmed(Unconfirmed::Unproven(_)))) => {
                    self.part(inbound).await;
                    return error;
                }
                Err(error) => return error,
            }
        }
    }

    /// Ends a connection on which all was said, so that the workspace hears it: not before it has read to our end.
    async fn part(self, mut inbound: Streaming<wire::WorkspaceMessage>) {
        drop(self.outbound);
        let skipping = async { while let Ok(Some(_)) = inbound.message().await {} };
        // Where it does not end its half, it had time enough to read.
        let _ = timeout(PARTING, skipping).await;
    }

    async fn take(&mut self, message: wire::WorkspaceMessage) -> Result<(), FeedError> {
        use wire::workspace_message::Message;
        match message.message {
            Some(Message::SnapshotPart(part)) => self.take_part(part).await,
            Some(Message::Change(change)) => self.take_change(change).await,
            Some(Message::Heartbeat(heartbeat)) => self.take_heartbeat(heartbeat).await,
            // A newer workspace says something that this version need not know.
            None => Ok(()),
        }
    }

    async fn take_part(&mut self, part: wire::SnapshotPart) -> Result<(), FeedError> {
        let version = state::version_of(&part);
        let assembled = match std::mem::replace(&mut self.state, State::Following) {
            State::Skipping if part.offset != 0 => {
                self.state = State::Skipping;
                return Ok(());
            }
            // A millisecond or two, and on the thread that decoded the message, which gets its memory back so.
            State::Assembling(assembly) => assembly.with(part),
            State::Following | State::Skipping => {
                let begin = |keeper: &Keeper| {
                    keeper.admit(&part).and_then(|()| Assembly::begin(part, keeper.peppers()))
                };
                self.feed.blocking(begin).await?
            }
        };
        match assembled {
            Ok(assembly) if assembly.is_complete() => {
                let taken = self.feed.blocking(move |keeper| keeper.take_snapshot(assembly)).await?;
                self.conclude(version, taken).await
            }
            Ok(assembly) => {
                self.state = State::Assembling(Box::new(assembly));
                self.heartbeats = 0;
                Ok(())
            }
            Err(refused) => self.refuse(version, refused).await,
        }
    }

    async fn take_change(&mut self, change: wire::Change) -> Result<(), FeedError> {
        let version = state::leads_to(&change);
        match self.state {
            State::Following => {
                let committed_at = change.committed_at;
                let taken = self.feed.blocking(move |keeper| keeper.take_change(&change)).await?;
                if taken.is_ok() {
                    self.feed.metrics.applied(committed_at.as_ref());
                }
                self.conclude(version, taken).await?;
                self.feed.blocking(Keeper::tidy).await
            }
            State::Assembling(_) => self.refuse(version, RefusedPolicy::ChangeWithinSnapshot).await,
            // It was on its way before the workspace heard of the refusal; the snapshot will have it.
            State::Skipping => Ok(()),
        }
    }

    async fn take_heartbeat(&mut self, heartbeat: wire::Heartbeat) -> Result<(), FeedError> {
        self.feed.metrics.heard(heartbeat.sent_at.as_ref());
        match self.state {
            State::Assembling(_) | State::Skipping if self.heartbeats < PATIENCE => {
                self.heartbeats += 1;
                Ok(())
            }
            State::Assembling(_) | State::Skipping => Err(FeedError::NoSnapshot),
            State::Following => {
                let version = Version { epoch: heartbeat.epoch, revision: heartbeat.revision };
                match self.feed.blocking(move |keeper| keeper.confirm(&heartbeat)).await? {
                    Ok(taken) => {
                        self.backoff.reset();
                        match taken {
                            Some(taken) => self.acknowledge(taken).await,
                            None => Ok(()),
                        }
                    }
                    Err(error) => {
                        self.object(version, with_causes(&error)).await?;
                        Err(error.into())
                    }
                }
            }
        }
    }

    async fn conclude(
        &mut self,
        version: Version,
        taken: Result<Taken, RefusedPolicy>,
    ) -> Result<(), FeedError> {
        match taken {
            Ok(taken) => {
                self.refused = false;
                self.backoff.reset();
                self.acknowledge(taken).await
            }
            Err(refused) => self.refuse(version, refused).await,
        }
    }

    async fn acknowledge(&mut self, taken: Taken) -> Result<(), FeedError> {
        match taken {
            Taken::Durable(Version { epoch, revision }) => {
                self.say(wire::gate_message::Message::Ack(wire::Ack { epoch, revision })).await
            }
            Taken::InMemory => Ok(()),
        }
    }

    /// Says why, and waits for a complete snapshot. A second refusal in a row ends the connection, so that a workspace
    /// that can only send what is refused does not send it without pause.
    async fn refuse(&mut self, version: Version, refused: RefusedPolicy) -> Result<(), FeedError> {
        self.object(version, with_causes(&refused)).await?;
        if self.refused {
            return Err(FeedError::Refused);
        }
        self.refused = true;
        self.state = State::Skipping;
        self.heartbeats = 0;
        Ok(())
    }

    /// Tells the operators on both sides.
    async fn object(&self, version: Version, reason: String) -> Result<(), FeedError> {
        self.feed.metrics.refused.inc();
        tracing::error!(%version, reason, "policy was refused: what was in force stays in force");
        let Version { epoch, revision } = version;
        let nack = wire::Nack { epoch, revision, reason };
        self.say(wire::gate_message::Message::Nack(nack)).await
    }

    async fn say(&self, message: wire::gate_message::Message) -> Result<(), FeedError> {
        let sent = self.outbound.send(wire::GateMessage { message: Some(message) }).await;
        sent.map_err(|_| FeedError::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::gate::fixtures::{self, trust, version};
    use crate::gate::metrics::GateMetrics;
    use crate::metrics::Metrics;
    use tokio::net::TcpListener;

    fn feed(address: PeerAddress, data: &tempfile::TempDir) -> Feed {
        let metrics = GateMetrics::register(&Metrics::default(), Arc::new(SystemClock));
        Feed {
            gate: "gate-1".to_owned(),
            process: 1,
            address,
            tls: None,
            credential: bearer(&"secret".into()),
            keeper: Arc::new(fixtures::keeper(data.path(), trust())),
            usage: Arc::new(Usage::new(Arc::default(), metrics.uses)),
            metrics: FeedMetrics::register(&Metrics::default(), Arc::new(SystemClock)),
            silence: Duration::from_millis(100),
        }
    }

    #[tokio::test]
    async fn t113_silent_peer_is_noticed() {
        let data = tempfile::tempdir().unwrap();
        // The system accepts connections for it; nobody ever answers.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let feed = feed(crate::listen::ListenAddress::Tcp(listener.local_addr().unwrap()).into(), &data);
        let ended = timeout(Duration::from_secs(10), feed.follow(&mut Backoff::new())).await.unwrap();
        assert!(matches!(ended, FeedError::Silent), "{ended:?}");
    }

    #[tokio::test]
    async fn t113_peer_that_closes_at_once_is_an_error() {
        let data = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let feed = feed(crate::listen::ListenAddress::Tcp(listener.local_addr().unwrap()).into(), &data);
        let closing = tokio::spawn(async move {
            loop {
                drop(listener.accept().await);
            }
        });
        let ended = timeout(Duration::from_secs(10), feed.follow(&mut Backoff::new())).await.unwrap();
        assert!(matches!(ended, FeedError::Connect { .. } | FeedError::Call(_)), "{ended:?}");
        closing.abort();
    }

    /// Does this while somebody else is busy with what is kept, and gives up half a second later. How long that took on a
    /// runtime of one thread.
    async fn beside_a_busy_keeper(feed: &Feed, work: impl Future<Output = FeedError>) -> Duration {
        let keeper = Arc::clone(&feed.keeper);
        let (begun, (done, busy)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let holding = std::thread::spawn(move || {
            keeper.busy_while(|| {
                begun.0.send(()).unwrap();
                let _ = busy.recv_timeout(Duration::from_secs(10));
            });
        });
        begun.1.recv().unwrap();
        let since = tokio::time::Instant::now();
        let outcome = timeout(Duration::from_millis(500), work).await;
        let waited = since.elapsed();
        assert!(outcome.is_err(), "it was to wait: {outcome:?}");
        done.send(()).unwrap();
        holding.join().unwrap();
        waited
    }

    /// The thread that would wait has other work: heartbeats, copies for peers, the admin listener.
    #[tokio::test]
    async fn waiting_for_the_keeper_holds_up_nothing_else() {
        let data = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let feed = feed(crate::listen::ListenAddress::Tcp(listener.local_addr().unwrap()).into(), &data);
        let hello = async { feed.follow(&mut Backoff::new()).await };
        assert!(beside_a_busy_keeper(&feed, hello).await < Duration::from_secs(5));

        let part = fixtures::parts(version(1, 1), &[fixtures::key_service("one", 1)], 1).remove(0);
        let message = Some(wire::workspace_message::Message::SnapshotPart(part));
        let (outbound, _messages) = mpsc::channel(1);
        let mut backoff = Backoff::new();
        let mut session = Session::new(&feed, outbound, &mut backoff);
        let taking = async {
            session.take(wire::WorkspaceMessage { message }).await.unwrap();
            FeedError::Closed
        };
        assert!(beside_a_busy_keeper(&feed, taking).await < Duration::from_secs(5));
    }

    #[test]
    fn bearer_hides_the_credential_and_refuses_what_no_header_can_have() {
        assert!(!format!("{:?}", bearer(&"secret".into())).contains("secret"));
        assert!(bearer(&"two\nlines".into()).is_none());
    }
}
