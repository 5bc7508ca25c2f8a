//! A workspace's feed that says what it is told to: for what a gate does with a change, to the instant.

use std::time::Duration;

use prost::Message;
use scoregate::proto::scoregate::policy::v1 as wire;
use scoregate::proto::scoregate::policy::v1::policy_feed_server::{PolicyFeed, PolicyFeedServer};
use scoregate::statement::{PolicyKey, Statement};
use scoregate_authz::{EntryId, Pepper, PlainKey, StateHash, UnixTime, Version, entry_hash, state_hash};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};
use wire::gate_message::Message as FromGate;
use wire::workspace_message::Message as ToGate;

use crate::workspace::{Outcome, key, name};

const WORKSPACE: &str = "bench";
const PART: usize = 500;
const PATIENCE: Duration = Duration::from_secs(30);

/// Policy as a workspace has it, with what signs it.
pub(crate) struct Policy {
    key: PolicyKey,
    pepper: Pepper,
    /// In the order of their ids.
    entries: Vec<wire::Entry>,
    hashes: Vec<[u8; 32]>,
    revision: u64,
}

impl Policy {
    /// All services in key mode.
    pub(crate) fn new(key: PolicyKey, pepper: &[u8], services: usize) -> Outcome<Self> {
        let pepper = Pepper::new(pepper)?;
        let entries = (0..services).map(|number| entry(number, 1, &pepper)).collect::<Outcome<Vec<_>>>()?;
        let hashes = entries.iter().map(hash).collect();
        Ok(Self { key, pepper, entries, hashes, revision: 1 })
    }

    fn state_hash(&self) -> StateHash {
        state_hash(self.hashes.iter())
    }

    fn statement(&self, state_hash: StateHash) -> wire::Statement {
        let version = Version { epoch: 1, revision: self.revision };
        // Later than anything a gate has seen; it does not compare it with its clock.
        let issued_at = UnixTime::from_secs(4_000_000_000);
        self.key.sign(&Statement { workspace: WORKSPACE.to_owned(), version, state_hash, issued_at })
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = wire::SnapshotPart> {
        let state_hash = self.state_hash();
        let statement = self.statement(state_hash);
        self.entries.chunks(PART).enumerate().map(move |(index, entries)| wire::SnapshotPart {
            workspace: WORKSPACE.to_owned(),
            epoch: 1,
            revision: self.revision,
            total: self.entries.len() as u64,
            offset: (index * PART) as u64,
            entries: entries.to_vec(),
            state_hash: state_hash.0.to_vec(),
            statement: (index == 0).then(|| statement.clone()),
        })
    }

    /// Replaces the keys of one service.
    pub(crate) fn change(&mut self, number: usize) -> Outcome<wire::Change> {
        self.revision += 1;
        let entry = entry(number, self.revision, &self.pepper)?;
        self.hashes[number] = hash(&entry);
        self.entries[number] = entry.clone();
        let state_hash = self.state_hash();
        Ok(wire::Change {
            epoch: 1,
            from_revision: self.revision - 1,
            revision: self.revision,
            entries: vec![entry],
            state_hash: state_hash.0.to_vec(),
            committed_at: None,
            statement: Some(self.statement(state_hash)),
        })
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }
}

fn entry(number: usize, generation: u64, pepper: &Pepper) -> Outcome<wire::Entry> {
    // As long as the UUIDs of a workspace.
    let id = format!("01990000-0000-7000-8000-{number:012}");
    let digest = |text: &str| -> Outcome<_> {
        let digest = pepper.digest(&id.parse()?, &PlainKey::choose(text)?).as_bytes().to_vec();
        Ok(Some(wire::KeyDigest { digest, pepper_id: pepper.id().to_owned() }))
    };
    let policy = wire::ServicePolicy {
        compute_type: wire::ComputeType::Aks.into(),
        auth_mode: wire::AuthMode::Key.into(),
        primary: digest(&key(number))?,
        secondary: digest(&format!("secondary-key-of-{number}-{generation}"))?,
        path_prefixes: vec![format!("/api/v1/service/{}", name(number))],
        ..wire::ServicePolicy::default()
    };
    Ok(wire::Entry {
        kind: wire::EntryKind::Service.into(),
        id,
        name: name(number),
        content: policy.encode_to_vec(),
        deleted: false,
    })
}

fn hash(entry: &wire::Entry) -> [u8; 32] {
    let id = EntryId { kind: wire::EntryKind::Service as u32, id: entry.id.as_str().into() };
    entry_hash(&id, &entry.name, &entry.content)
}

/// The feed, to one gate.
pub(crate) struct Session {
    to_gate: mpsc::Sender<Result<wire::WorkspaceMessage, Status>>,
    from_gate: Streaming<wire::GateMessage>,
}

/// Its address, and the gates that open it.
pub(crate) async fn serve() -> Outcome<(String, mpsc::Receiver<Session>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let (sender, sessions) = mpsc::channel(1);
    let server = tonic::transport::Server::builder().add_service(PolicyFeedServer::new(Server(sender)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Ok((address, sessions))
}

impl Session {
    pub(crate) async fn send_parts(&self, parts: impl Iterator<Item = wire::SnapshotPart>) -> Outcome<()> {
        for part in parts {
            self.send(ToGate::SnapshotPart(part)).await?;
        }
        Ok(())
    }

    pub(crate) async fn send_change(&self, change: wire::Change) -> Outcome<()> {
        self.send(ToGate::Change(change)).await
    }

    async fn send(&self, message: ToGate) -> Outcome<()> {
        Ok(self.to_gate.send(Ok(wire::WorkspaceMessage { message: Some(message) })).await?)
    }

    /// Waits until this revision is acknowledged.
    pub(crate) async fn ack(&mut self, revision: u64) -> Outcome<()> {
        let message = tokio::time::timeout(PATIENCE, self.from_gate.message()).await??;
        match message.and_then(|message| message.message) {
            Some(FromGate::Ack(ack)) if ack.revision == revision => Ok(()),
            other => Err(format!("no ack of {revision}: {other:?}").into()),
        }
    }
}

#[derive(Debug)]
struct Server(mpsc::Sender<Session>);

#[tonic::async_trait]
impl PolicyFeed for Server {
    type SubscribeStream = ReceiverStream<Result<wire::WorkspaceMessage, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<wire::GateMessage>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let mut from_gate = request.into_inner();
        let _hello = from_gate.message().await?;
        let (to_gate, messages) = mpsc::channel(4);
        let session = Session { to_gate, from_gate };
        self.0.send(session).await.map_err(|_| Status::unavailable("nobody measures"))?;
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}
