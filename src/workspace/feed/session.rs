//! One gate's feed, from its hello to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use scoregate_authz::Version;
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::messages;
use crate::proto::scoregate::policy::v1 as wire;
use crate::shutdown::Shutdown;
use crate::workspace::domain::Principal;
use crate::workspace::gates::{ConnectedGate, GateNack};
use crate::workspace::image::Image;
use crate::workspace::{Workspace, timestamp};
use wire::gate_message::Message as GateMessage;

const HEARTBEAT: Duration = Duration::from_secs(5);
/// For how long a gate that has connected may be silent.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// What a gate refuses once it may refuse again.
const NACK_DELAY: Duration = Duration::from_secs(1);
/// Longest name of a gate, and longest version text, in bytes.
const MAX_NAME_LENGTH: usize = 128;
/// Characters of a gate's reason that are kept.
const MAX_REASON: usize = 500;

type Outgoing = mpsc::Sender<Result<wire::WorkspaceMessage, Status>>;

/// A gate that has said hello.
pub(super) struct Session<'a> {
    workspace: Workspace,
    gate: String,
    connection: u64,
    outgoing: &'a Outgoing,
    /// The latest revision that it was sent: it cannot enforce a later one.
    sent: AtomicU64,
    /// It refused something.
    nacked: Notify,
}

impl<'a> Session<'a> {
    /// Serves a gate, and says why it ended.
    pub(super) async fn run(
        workspace: Workspace,
        (principal, remote): (Principal, String),
        mut incoming: Streaming<wire::GateMessage>,
        outgoing: &'a Outgoing,
        shutdown: &Shutdown,
    ) -> Status {
        let hello = match hello(&mut incoming).await {
            Ok(hello) => hello,
            Err(status) => return status,
        };
        let held = held(&workspace, &hello);
        let connection = workspace.inner.gates.next_connection();
        let session = Self {
            sent: AtomicU64::new(held.map_or(0, |held| held.revision)),
            nacked: Notify::new(),
            gate: hello.gate.clone(),
            connection,
            outgoing,
            workspace,
        };
        let end = CancellationToken::new();
        if !session.register((&principal, remote), hello, held, end.clone()).await {
            return Status::already_exists(
                "another principal's gate is connected under this name: set `gate.name`",
            );
        }
        // After it is registered: a deletion ends the feeds that are, and this one may have been accepted before it.
        if !session.workspace.knows(&principal) {
            session.forget().await;
            return Status::unauthenticated("the principal of this gate is not there any more");
        }
        let status = tokio::select! {
            status = session.read(&mut incoming) => status,
            status = session.write(held) => status,
            () = end.cancelled() => Status::aborted(
                "another connection has taken this gate's name (each gate has a `gate.name` of its own), or its principal is gone",
            ),
            () = outgoing.closed() => Status::cancelled("the gate has gone"),
            // It stays in the store: it will be back, and is waited for then.
            () = shutdown.stopping() => return Status::unavailable("the workspace shuts down"),
        };
        session.forget().await;
        tracing::info!(gate = session.gate, connection, reason = status.message(), "a gate's feed has ended");
        status
    }

    async fn register(
        &self,
        (principal, remote): (&Principal, String),
        hello: wire::Hello,
        held: Option<Version>,
        end: CancellationToken,
    ) -> bool {
        tracing::info!(
            gate = self.gate,
            connection = self.connection,
            principal = principal.name,
            remote,
            version = hello.version,
            holds = held.map(tracing::field::display),
            "a gate has opened the feed"
        );
        let inner = &self.workspace.inner;
        let now = timestamp(self.workspace.now());
        let gate = ConnectedGate {
            version: hello.version,
            principal: principal.name.clone(),
            remote,
            connection: self.connection,
            process: hello.process,
            enforces: held,
            since: now,
            enforces_since: now,
            last_nack: None,
            end,
        };
        if !inner.gates.connect(&self.gate, gate, self.workspace.now()) {
            tracing::warn!(
                gate = self.gate,
                "refused: another principal's gate is connected under this name"
            );
            return false;
        }
        self.remember().await;
        self.workspace.count_gates();
        let confirmed = held.filter(|_| !self.shares_its_name());
        inner.operations.joined(&self.gate, confirmed);
        if let Some(held) = confirmed {
            inner.propagation.acknowledged(&self.gate, held, self.workspace.now());
        }
        self.workspace.end_due_operations().await;
        true
    }

    /// What gates are connected is only of use after a restart. Policy does not wait for a store that does not work: it is
    /// told when it works again.
    async fn remember(&self) {
        let Workspace { inner } = &self.workspace;
        if self.workspace.store_problem().is_none() {
            let stored = inner.store.remember_gate(&self.gate, self.connection).await;
            let _ = stored.inspect_err(|error| self.workspace.note_failure(error));
        }
    }

    async fn forget(&self) {
        let Workspace { inner } = &self.workspace;
        let was_there = inner.gates.disconnect(&self.gate, self.connection, self.workspace.now());
        if was_there && self.workspace.store_problem().is_none() {
            let stored = inner.store.forget_gate(&self.gate, self.connection).await;
            let _ = stored.inspect_err(|error| self.workspace.note_failure(error));
        }
    }

    async fn read(&self, incoming: &mut Streaming<wire::GateMessage>) -> Status {
        loop {
            match incoming.message().await {
                Ok(Some(wire::GateMessage { message })) => match message {
                    Some(GateMessage::Ack(ack)) => self.acknowledged(ack).await,
                    Some(GateMessage::Nack(nack)) => self.refused(&nack),
                    Some(GateMessage::Usage(usage)) => self.workspace.note_usage(usage),
                    Some(GateMessage::Hello(_)) => {
                        return Status::invalid_argument("a hello is the first message and only the first");
                    }
                    // Of a kind that this version does not know.
                    None => {}
                },
                Ok(None) => return Status::cancelled("the gate has closed its side"),
                Err(status) => return status,
            }
        }
    }

    async fn acknowledged(&self, ack: wire::Ack) {
        let version = Version { epoch: ack.epoch, revision: ack.revision };
        let sent = Version { revision: self.sent.load(Ordering::SeqCst), ..self.image().version() };
        if version.epoch != sent.epoch || version > sent {
            tracing::warn!(gate = self.gate, %version, %sent, "a gate acknowledges what it was not sent");
            return;
        }
        let (inner, now) = (&self.workspace.inner, self.workspace.now());
        let is_known = inner.gates.acknowledged(&self.gate, self.connection, version, now);
        if is_known && !self.shares_its_name() {
            inner.operations.acknowledged(&self.gate, version);
            inner.propagation.acknowledged(&self.gate, version, now);
            self.workspace.end_due_operations().await;
        }
    }

    fn shares_its_name(&self) -> bool {
        self.workspace.inner.gates.is_shared(&self.gate, self.workspace.now())
    }

    fn refused(&self, nack: &wire::Nack) {
        let version = Version { epoch: nack.epoch, revision: nack.revision };
        let reason: String = nack.reason.chars().take(MAX_REASON).collect();
        tracing::warn!(gate = self.gate, %version, reason, "a gate refuses what it was sent: it gets all anew");
        self.workspace.inner.series.nacks.inc();
        let nack = GateNack { version, reason, at: timestamp(self.workspace.now()) };
        self.workspace.inner.gates.refused(&self.gate, self.connection, nack);
        self.nacked.notify_one();
    }

    /// Sends what the gate lacks, then each change, at the pace at which it reads.
    async fn write(&self, held: Option<Version>) -> Status {
        let mut held = held.map(|held| held.revision);
        let mut images = self.workspace.inner.image.subscribe();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            if !self.bring_to(&image, held).await {
                return Status::cancelled("the gate has gone");
            }
            held = Some(image.version().revision);
            tokio::select! {
                biased;
                // The sender lives as long as the workspace.
                _ = images.changed() => {}
                () = self.nacked.notified() => {
                    tokio::time::sleep(NACK_DELAY).await;
                    held = None;
                }
                _ = heartbeat.tick() => {
                    let now = timestamp(self.workspace.now());
                    let statement = self.workspace.statement(&image);
                    if !self.send(messages::heartbeat(&image, now, statement)).await {
                        return Status::cancelled("the gate has gone");
                    }
                }
            }
        }
    }

    /// Brings a gate that holds a revision, or nothing, to an image. `false` if it has gone.
    async fn bring_to(&self, image: &Image, held: Option<u64>) -> bool {
        let revision = image.version().revision;
        if held == Some(revision) {
            return true;
        }
        self.sent.store(revision, Ordering::SeqCst);
        let statement = self.workspace.statement(image);
        if let Some(change) = held.and_then(|held| messages::change(image, held, &statement)) {
            return self.send(change).await;
        }
        let workspace = self.workspace.id().to_string();
        for part in messages::snapshot(&workspace, image, statement) {
            if !self.send(part).await {
                return false;
            }
        }
        true
    }

    async fn send(&self, message: wire::WorkspaceMessage) -> bool {
        self.outgoing.send(Ok(message)).await.is_ok()
    }

    fn image(&self) -> Arc<Image> {
        self.workspace.image()
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.workspace.inner.gates.disconnect(&self.gate, self.connection, self.workspace.now());
        self.workspace.count_gates();
    }
}

async fn hello(incoming: &mut Streaming<wire::GateMessage>) -> Result<wire::Hello, Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no hello came"))??;
    let Some(GateMessage::Hello(hello)) = first.and_then(|message| message.message) else {
        return Err(Status::invalid_argument("the first message is a hello"));
    };
    let is_name = |text: &str| {
        (1..=MAX_NAME_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if !is_name(&hello.gate) || hello.version.len() > MAX_NAME_LENGTH {
        return Err(Status::invalid_argument("a gate's name has 1 to 128 visible ASCII characters"));
    }
    Ok(hello)
}

/// What a gate holds for certain, if a change can follow it.
fn held(workspace: &Workspace, hello: &wire::Hello) -> Option<Version> {
    let image = workspace.image();
    let pepper = workspace.inner.pepper.id();
    if !hello.pepper_ids.iter().any(|id| id == pepper) {
        tracing::warn!(gate = hello.gate, pepper, "a gate lacks the pepper: it cannot decide about keys");
    }
    let policy_key = workspace.inner.statements.key_id();
    // A gate from before there were statements names none.
    if !hello.policy_key_ids.is_empty() && !hello.policy_key_ids.contains(&policy_key) {
        tracing::warn!(
            gate = hello.gate,
            policy_key,
            "a gate does not trust the policy key: it refuses all that it is sent"
        );
    }
    if hello.state_hash.is_empty() || hello.workspace != workspace.id().to_string() {
        return None;
    }
    let (ours, theirs) = (image.version(), Version { epoch: hello.epoch, revision: hello.revision });
    if theirs > ours {
        tracing::error!(
            gate = hello.gate,
            %ours,
            %theirs,
            "a gate is ahead of this workspace, as after a restore from backup: it refuses to go back"
        );
    }
    let is_ours = theirs.epoch == ours.epoch
        && (theirs < ours || (theirs == ours && hello.state_hash == image.state_hash().0));
    is_ours.then_some(theirs)
}
