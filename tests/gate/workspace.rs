//! A workspace's feed that says what the test wants.

use std::time::Duration;

use scoregate::listen::ListenAddress;
use scoregate::proto::scoregate::policy::v1 as wire;
use scoregate::proto::scoregate::policy::v1::policy_feed_server::{PolicyFeed, PolicyFeedServer};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use wire::gate_message::Message as FromGate;
use wire::workspace_message::Message as ToGate;

const PATIENCE: Duration = Duration::from_secs(20);

/// A feed server. Each gate that subscribes becomes a [`Session`].
pub(crate) struct Workspace {
    pub(crate) address: ListenAddress,
    sessions: mpsc::Receiver<Session>,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<()>,
}

/// One gate that subscribed.
pub(crate) struct Session {
    pub(crate) hello: wire::Hello,
    pub(crate) authorization: String,
    to_gate: mpsc::Sender<Result<wire::WorkspaceMessage, Status>>,
    from_gate: Streaming<wire::GateMessage>,
}

impl Workspace {
    pub(crate) async fn start() -> Self {
        Self::start_at(&"127.0.0.1:0".parse().unwrap()).await
    }

    /// Starts at an address where one may have been before.
    pub(crate) async fn start_at(address: &ListenAddress) -> Self {
        let ListenAddress::Tcp(address) = address else { panic!("TCP only") };
        let listener = TcpListener::bind(address).await.unwrap();
        let address = ListenAddress::Tcp(listener.local_addr().unwrap());
        let (sender, sessions) = mpsc::channel(4);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tonic::transport::Server::builder()
            .add_service(PolicyFeedServer::new(Feed(sender)))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                let _ = stopped.await;
            });
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self { address, sessions, stop, server }
    }

    pub(crate) async fn session(&mut self) -> Session {
        timeout(PATIENCE, self.sessions.recv()).await.expect("no gate subscribed").unwrap()
    }

    /// Whether another gate has subscribed, or one did again.
    pub(crate) fn has_session(&mut self) -> bool {
        self.sessions.try_recv().is_ok()
    }

    /// Goes away. Sessions are to be dropped before.
    pub(crate) async fn stop(self) {
        drop(self.sessions);
        let _ = self.stop.send(());
        timeout(PATIENCE, self.server).await.expect("the workspace did not stop").unwrap();
    }
}

impl Session {
    async fn send(&self, message: ToGate) {
        self.to_gate.send(Ok(wire::WorkspaceMessage { message: Some(message) })).await.unwrap();
    }

    /// What a message of a later version looks like to this one.
    pub(crate) async fn send_nothing_known(&self) {
        self.to_gate.send(Ok(wire::WorkspaceMessage { message: None })).await.unwrap();
    }

    pub(crate) async fn send_parts(&self, parts: impl IntoIterator<Item = wire::SnapshotPart>) {
        for part in parts {
            self.send(ToGate::SnapshotPart(part)).await;
        }
    }

    pub(crate) async fn send_change(&self, change: wire::Change) {
        self.send(ToGate::Change(change)).await;
    }

    pub(crate) async fn send_heartbeat(&self, heartbeat: wire::Heartbeat) {
        self.send(ToGate::Heartbeat(heartbeat)).await;
    }

    /// Ends the call with this status.
    pub(crate) async fn fail(self, status: Status) {
        self.to_gate.send(Err(status)).await.unwrap();
    }

    async fn message(&mut self) -> FromGate {
        let message = timeout(PATIENCE, self.from_gate.message()).await.expect("the gate says nothing");
        message.unwrap().expect("the gate closed the feed").message.unwrap()
    }

    /// The next message that is no report of uses, which come at their own times.
    async fn answer(&mut self) -> FromGate {
        loop {
            match self.message().await {
                FromGate::Usage(_) => {}
                other => return other,
            }
        }
    }

    /// The uses that the gate reports next.
    pub(crate) async fn uses(&mut self) -> Vec<wire::CredentialUse> {
        loop {
            if let FromGate::Usage(usage) = self.message().await {
                return usage.uses;
            }
        }
    }

    /// The version that the gate acknowledges next.
    pub(crate) async fn ack(&mut self) -> (u64, u64) {
        match self.answer().await {
            FromGate::Ack(ack) => (ack.epoch, ack.revision),
            other => panic!("no ack: {other:?}"),
        }
    }

    /// Why the gate refuses what was sent last.
    pub(crate) async fn nack(&mut self) -> String {
        match self.answer().await {
            FromGate::Nack(nack) => nack.reason,
            other => panic!("no nack: {other:?}"),
        }
    }
}

struct Feed(mpsc::Sender<Session>);

#[tonic::async_trait]
impl PolicyFeed for Feed {
    type SubscribeStream = ReceiverStream<Result<wire::WorkspaceMessage, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<wire::GateMessage>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let authorization = request.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
        let mut from_gate = request.into_inner();
        let Some(FromGate::Hello(hello)) = from_gate.message().await?.and_then(|message| message.message)
        else {
            return Err(Status::invalid_argument("no hello"));
        };
        let (to_gate, messages) = mpsc::channel(16);
        let session = Session { hello, authorization, to_gate, from_gate };
        self.0.send(session).await.map_err(|_| Status::unavailable("going away"))?;
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}
