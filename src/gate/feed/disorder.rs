//! Whatever is lost, repeated, reordered, cut off or restored on the way, and whenever the gate ends: what is in force is
//! a state that the workspace had at that version, never an older one than before, and in the end the workspace's own or
//! a refusal.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use scoregate_authz::StateHash;
use wire::workspace_message::Message;

use super::*;
use crate::clock::ManualClock;
use crate::gate::disk::Disk;
use crate::gate::fixtures::{self, trust, version};
use crate::gate::metrics::GateMetrics;
use crate::metrics::Metrics;

const CASES: u32 = 192;
const SEED: u64 = 1;

#[derive(Debug, Clone)]
enum Step {
    Put {
        service: u8,
        generation: u32,
    },
    Delete {
        service: u8,
    },
    /// A restore from backup: an older state in a new epoch.
    Restore {
        back: usize,
    },
    /// A restore that was not told to be one: an older state in the same epoch, and another history from there.
    RollBack {
        back: usize,
    },
    Heartbeat,
    Snapshot {
        part: usize,
    },
    Deliver,
    Lose,
    Repeat,
    Swap,
    Spoil(Spoil),
    /// A message of long ago comes again.
    Echo {
        back: usize,
    },
    Reconnect,
    Restart,
    /// The gate ends while it keeps what is delivered, after so many of its writes.
    Crash {
        writes: usize,
        torn: bool,
    },
    /// The gate ends, and somebody puts back its files of an earlier end, all but the high-water mark.
    OldFiles {
        back: usize,
    },
    DiskAway,
    DiskBack,
}

#[derive(Debug, Clone, Copy)]
enum Spoil {
    WithoutAnEntry,
    OtherHash,
    OtherWorkspace,
    LaterRevision,
    OtherStatement,
}

fn step() -> impl Strategy<Value = Step> {
    let spoil = prop_oneof![
        Just(Spoil::WithoutAnEntry),
        Just(Spoil::OtherHash),
        Just(Spoil::OtherWorkspace),
        Just(Spoil::LaterRevision),
        Just(Spoil::OtherStatement)
    ];
    prop_oneof![
        10 => (0..6_u8, 0..4_u32).prop_map(|(service, generation)| Step::Put { service, generation }),
        4 => (0..6_u8).prop_map(|service| Step::Delete { service }),
        1 => (0..6_usize).prop_map(|back| Step::Restore { back }),
        1 => (1..6_usize).prop_map(|back| Step::RollBack { back }),
        4 => Just(Step::Heartbeat),
        2 => (1..4_usize).prop_map(|part| Step::Snapshot { part }),
        16 => Just(Step::Deliver),
        2 => Just(Step::Lose),
        2 => Just(Step::Repeat),
        2 => Just(Step::Swap),
        2 => spoil.prop_map(Step::Spoil),
        2 => (0..20_usize).prop_map(|back| Step::Echo { back }),
        3 => Just(Step::Reconnect),
        2 => Just(Step::Restart),
        2 => (0..4_usize, any::<bool>()).prop_map(|(writes, torn)| Step::Crash { writes, torn }),
        1 => (0..4_usize).prop_map(|back| Step::OldFiles { back }),
        1 => Just(Step::DiskAway),
        1 => Just(Step::DiskBack),
    ]
}

type Entries = BTreeMap<String, wire::Entry>;

/// A workspace, as far as its gates can tell, that forgets nothing it ever said.
struct Workspace {
    at: Version,
    /// The states of each version; several where there are several histories.
    past: BTreeMap<Version, Vec<Entries>>,
    /// The versions of the present history, with their states.
    line: Vec<(Version, Entries)>,
    said: Vec<Message>,
}

impl Workspace {
    fn new() -> Self {
        let mut this = Self { at: version(1, 0), past: BTreeMap::new(), line: Vec::new(), said: Vec::new() };
        this.commit(version(1, 1), Entries::new());
        this
    }

    fn commit(&mut self, at: Version, entries: Entries) {
        self.at = at;
        self.past.entry(at).or_default().push(entries.clone());
        self.line.push((at, entries));
    }

    fn entries(&self) -> &Entries {
        &self.line.last().unwrap().1
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Entries)) {
        let mut entries = self.entries().clone();
        edit(&mut entries);
        self.commit(version(self.at.epoch, self.at.revision + 1), entries);
    }

    fn roll_back(&mut self, back: usize) {
        self.line.truncate(self.line.len().saturating_sub(back).max(1));
        self.at = self.line.last().unwrap().0;
    }

    fn restore(&mut self, back: usize) {
        let epoch = self.at.epoch + 1;
        self.roll_back(back);
        let entries = self.entries().clone();
        self.commit(version(epoch, self.at.revision), entries);
    }

    fn list(&self) -> Vec<wire::Entry> {
        self.entries().values().cloned().collect()
    }

    fn hash(&self) -> StateHash {
        fixtures::hash_of(&self.list())
    }

    /// What leads on from a version of the present history.
    fn change(&self, from: Version) -> Option<Message> {
        let (_, before) = self.line.iter().find(|(at, _)| *at == from && from.epoch == self.at.epoch)?;
        let now = self.entries();
        let mut entries: Vec<_> = now
            .iter()
            .filter(|(id, entry)| before.get(*id) != Some(entry))
            .map(|(_, entry)| entry.clone())
            .collect();
        let gone = before.iter().filter(|(id, _)| !now.contains_key(*id));
        entries.extend(gone.map(|(_, entry)| wire::Entry {
            deleted: true,
            content: Vec::new(),
            ..entry.clone()
        }));
        let Version { epoch, revision } = self.at;
        let change = fixtures::change(epoch, from.revision, revision, entries, &self.list());
        (from.revision < revision).then_some(Message::Change(change))
    }

    fn snapshot(&self, part: usize) -> Vec<Message> {
        fixtures::parts(self.at, &self.list(), part).into_iter().map(Message::SnapshotPart).collect()
    }

    fn heartbeat(&self) -> Message {
        let Version { epoch, revision } = self.at;
        let statement = Some(fixtures::statement(self.at, &self.list()));
        let state_hash = self.hash().0.to_vec();
        Message::Heartbeat(wire::Heartbeat { epoch, revision, state_hash, sent_at: None, statement })
    }

    /// The answer to a hello: as of the real one, but that it believes whatever revision it has itself.
    fn answer(&self, hello: &wire::Hello) -> Vec<Message> {
        let held = version(hello.epoch, hello.revision);
        if !hello.state_hash.is_empty() && held == self.at && hello.state_hash == self.hash().0 {
            return vec![self.heartbeat()];
        }
        let change = (!hello.state_hash.is_empty()).then(|| self.change(held)).flatten();
        change.map_or_else(|| self.snapshot(2), |change| vec![change])
    }

    /// Whether it ever was in this state at this version.
    fn had(&self, at: Version, hash: StateHash) -> bool {
        let entries = |state: &Entries| state.values().cloned().collect::<Vec<_>>();
        self.past
            .get(&at)
            .is_some_and(|states| states.iter().any(|state| fixtures::hash_of(&entries(state)) == hash))
    }
}

fn spoil(message: &mut Message, spoil: Spoil) {
    let mut none = (Vec::new(), String::new());
    let (entries, hash, workspace, revision, statement) = match message {
        Message::SnapshotPart(wire::SnapshotPart {
            entries,
            state_hash,
            workspace,
            revision,
            statement,
            ..
        }) => (entries, state_hash, workspace, revision, statement),
        Message::Change(wire::Change { entries, state_hash, revision, statement, .. }) => {
            (entries, state_hash, &mut none.1, revision, statement)
        }
        Message::Heartbeat(wire::Heartbeat { state_hash, revision, statement, .. }) => {
            (&mut none.0, state_hash, &mut none.1, revision, statement)
        }
    };
    match spoil {
        Spoil::WithoutAnEntry => drop(entries.pop()),
        Spoil::OtherHash => hash[0] ^= 1,
        Spoil::OtherWorkspace => workspace.push('x'),
        Spoil::LaterRevision => *revision += 1,
        Spoil::OtherStatement => *statement = Some(fixtures::statement(version(9, 9), &[])),
    }
}

/// The directory of a gate, which may be away for a while.
struct Directory {
    root: tempfile::TempDir,
}

impl Directory {
    const FILES: [&str; 3] = ["snapshot", "changes", "high-water"];

    fn path(&self) -> PathBuf {
        self.root.path().join("gate")
    }

    fn away(&self) -> PathBuf {
        self.root.path().join("away")
    }

    /// From now on nothing can be written.
    fn take_away(&self) {
        let _ = std::fs::rename(self.path(), self.away());
    }

    fn bring_back(&self) {
        let _ = std::fs::rename(self.away(), self.path());
    }

    fn read(&self) -> [Option<Vec<u8>>; 3] {
        Self::FILES.map(|file| std::fs::read(self.path().join(file)).ok())
    }

    /// What a gate leaves that ended after some of the writes between two moments. It writes its files in this order.
    fn leave(&self, before: [Option<Vec<u8>>; 3], writes: usize, torn: bool) {
        for (number, (file, before)) in Self::FILES.iter().zip(before).enumerate() {
            let path = self.path().join(file);
            let after = std::fs::read(&path).unwrap_or_default();
            match before {
                _ if number < writes => {}
                Some(before) if number == writes && torn && after.starts_with(&before) => {
                    put(&path, &after[..usize::midpoint(before.len(), after.len())]);
                }
                Some(before) => put(&path, &before),
                None => drop(std::fs::remove_file(path)),
            }
        }
    }
}

fn put(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

/// Where the tests' gates keep their policy: in memory, where there is such a place, since each keeps it often.
fn directory() -> Directory {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    Directory { root: root.unwrap() }
}

/// Why the session goes on no longer.
#[derive(PartialEq)]
enum End {
    Connection,
    Gate,
}

struct World {
    workspace: Workspace,
    directory: Directory,
    channel: VecDeque<Message>,
    /// What the workspace was sent up to, on this connection.
    sent: Version,
    /// The greatest version that the gate ever acknowledged.
    acknowledged: Option<Version>,
    /// What the gate left on its disk at each of its ends.
    left: Vec<[Option<Vec<u8>>; 3]>,
    /// How often it said no.
    refusals: u32,
    /// Whether its disk was tampered with, and not written since: it may start without policy then, though not with an older one.
    tampered: bool,
}

impl World {
    fn new() -> Self {
        let workspace = Workspace::new();
        let sent = workspace.at;
        Self {
            workspace,
            directory: directory(),
            channel: VecDeque::new(),
            sent,
            acknowledged: None,
            left: Vec::new(),
            tampered: false,
            refusals: 0,
        }
    }

    async fn run(&mut self, steps: Vec<Step>) -> Result<(), TestCaseError> {
        let mut steps = steps.into_iter().peekable();
        while steps.peek().is_some() {
            let feed = self.start_gate()?;
            while steps.peek().is_some() && self.connection(&feed, &mut steps).await? == End::Connection {}
            self.directory.bring_back();
            self.left.push(self.directory.read());
        }
        self.settle().await
    }

    /// A gate that starts from what is on disk.
    fn start_gate(&self) -> Result<Feed, TestCaseError> {
        let clock = Arc::new(ManualClock::at(1_000));
        let registry = Metrics::default();
        let metrics = GateMetrics::register(&registry, clock.clone());
        let disk = Disk::open(&self.directory.path()).unwrap();
        let keeper = Arc::new(Keeper::new(disk, trust(), metrics.policy));
        let revived = self.in_force(&keeper)?;
        let is_without = self.tampered && revived.is_none();
        prop_assert!(
            is_without || revived >= self.acknowledged,
            "{revived:?} was revived and {:?} acknowledged",
            self.acknowledged
        );
        let address = "127.0.0.1:1".parse::<crate::listen::ListenAddress>().unwrap().into();
        let credential = bearer(&"secret".into()).unwrap();
        let gate = "gate-1".to_owned();
        let usage = Arc::new(Usage::new(keeper.in_force(), metrics.uses));
        let (credential, metrics) = (Some(credential), FeedMetrics::register(&registry, clock));
        Ok(Feed {
            gate,
            process: 1,
            address,
            tls: None,
            credential,
            keeper,
            usage,
            metrics,
            silence: SILENCE,
        })
    }

    /// The version in force, whose state is one that the workspace had.
    fn in_force(&self, keeper: &Keeper) -> Result<Option<Version>, TestCaseError> {
        let Some(snapshot) = keeper.in_force().snapshot() else { return Ok(None) };
        let (at, stated) = (snapshot.version(), snapshot.state_hash());
        let entries: Vec<_> = snapshot.entries().map(|entry| crate::policy_wire::to_wire(&entry)).collect();
        prop_assert!(
            fixtures::hash_of(&entries) == stated,
            "the entries of {at} are not those that were stated"
        );
        prop_assert!(self.workspace.had(at, stated), "the workspace never was in this state at {at}");
        Ok(Some(at))
    }

    /// One connection of a gate, to its end.
    async fn connection(
        &mut self,
        feed: &Feed,
        steps: &mut impl Iterator<Item = Step>,
    ) -> Result<End, TestCaseError> {
        let (outbound, mut answers) = mpsc::channel(16);
        let mut backoff = Backoff::new();
        let mut session = Session::new(feed, outbound, &mut backoff);
        self.channel.clear();
        let hello = feed.keeper.hello(&feed.gate);
        self.say(self.workspace.answer(&hello));
        for step in steps {
            let before = self.in_force(&feed.keeper)?;
            if let Step::Crash { .. } = step {
                self.directory.bring_back();
            }
            let files = self.directory.read();
            let (deliver, end) = match step {
                Step::Deliver => (true, None),
                Step::Crash { .. } => (true, Some(End::Gate)),
                Step::Reconnect => (false, Some(End::Connection)),
                Step::Restart | Step::OldFiles { .. } => (false, Some(End::Gate)),
                ref step => {
                    self.happen(step);
                    (false, None)
                }
            };
            let next = if deliver { self.channel.pop_front() } else { None };
            let taken = match next {
                Some(message) => session.take(wire::WorkspaceMessage { message: Some(message) }).await,
                None => Ok(()),
            };
            let after = self.in_force(&feed.keeper)?;
            prop_assert!(after >= before, "from {before:?} back to {after:?}");
            if let Step::Crash { writes, torn } = step {
                self.directory.leave(files, writes, torn);
            } else {
                self.hear(&mut answers, after)?;
            }
            if let Step::OldFiles { back } = step {
                self.put_back(back);
            }
            match end {
                Some(end) => return Ok(end),
                None if taken.is_err() => return Ok(End::Connection),
                None => {}
            }
        }
        Ok(End::Connection)
    }

    fn put_back(&mut self, back: usize) {
        let Some(left) = self.left.iter().rev().nth(back) else { return };
        self.directory.bring_back();
        self.tampered = true;
        for (file, bytes) in Directory::FILES.iter().zip(left).take(2) {
            let path = self.directory.path().join(file);
            match bytes {
                Some(bytes) => put(&path, bytes),
                None => drop(std::fs::remove_file(path)),
            }
        }
    }

    /// What the gate answered: it acknowledges what is in force only.
    fn hear(
        &mut self,
        answers: &mut mpsc::Receiver<wire::GateMessage>,
        in_force: Option<Version>,
    ) -> Result<(), TestCaseError> {
        while let Ok(answer) = answers.try_recv() {
            match answer.message.unwrap() {
                wire::gate_message::Message::Ack(ack) => {
                    let acknowledged = Some(version(ack.epoch, ack.revision));
                    prop_assert_eq!(acknowledged, in_force);
                    self.acknowledged = self.acknowledged.max(acknowledged);
                    self.tampered = false;
                }
                wire::gate_message::Message::Nack(_) => {
                    self.refusals += 1;
                    self.say(self.workspace.snapshot(3));
                }
                wire::gate_message::Message::Usage(_) => {}
                wire::gate_message::Message::Hello(_) => prop_assert!(false, "a second hello"),
            }
        }
        Ok(())
    }

    fn say(&mut self, messages: Vec<Message>) {
        self.sent = self.workspace.at;
        self.workspace.said.extend(messages.iter().cloned());
        self.channel.extend(messages);
    }

    fn happen(&mut self, step: &Step) {
        let name = |service: u8| format!("service-{service}");
        match step {
            Step::Put { service, generation } => {
                let entry = fixtures::key_service(&name(*service), *generation);
                self.workspace.edit(|entries| drop(entries.insert(entry.id.clone(), entry)));
                self.tell();
            }
            Step::Delete { service } => {
                let id = format!("uid-{}", name(*service));
                self.workspace.edit(|entries| drop(entries.remove(&id)));
                self.tell();
            }
            Step::Restore { back } => self.workspace.restore(*back),
            Step::RollBack { back } => self.workspace.roll_back(*back),
            Step::Heartbeat => self.say(vec![self.workspace.heartbeat()]),
            Step::Snapshot { part } => self.say(self.workspace.snapshot(*part)),
            Step::Lose => drop(self.channel.pop_front()),
            Step::Repeat => {
                if let Some(message) = self.channel.front().cloned() {
                    self.channel.push_front(message);
                }
            }
            Step::Swap if self.channel.len() > 1 => self.channel.swap(0, 1),
            Step::Spoil(how) => {
                if let Some(message) = self.channel.front_mut() {
                    spoil(message, *how);
                }
            }
            Step::Echo { back } => {
                let said = &self.workspace.said;
                let message = said[said.len().saturating_sub(1 + back)].clone();
                self.channel.push_front(message);
            }
            Step::DiskAway => self.directory.take_away(),
            Step::DiskBack => self.directory.bring_back(),
            Step::Swap | Step::Deliver | Step::Reconnect => {}
            Step::Restart | Step::OldFiles { .. } | Step::Crash { .. } => {}
        }
    }

    /// Tells the gate of a change, as the workspace does on an open connection.
    fn tell(&mut self) {
        let change = self.workspace.change(self.sent);
        self.say(change.map_or_else(|| self.workspace.snapshot(2), |change| vec![change]));
    }

    /// With nothing in the way, the gate gets to where the workspace is, unless that is behind it, or at the same version
    /// with another history.
    async fn settle(&mut self) -> Result<(), TestCaseError> {
        let feed = self.start_gate()?;
        let (before, refusals) = (self.in_force(&feed.keeper)?, self.refusals);
        for _ in 0..3 {
            let deliveries = vec![Step::Deliver; 40];
            self.connection(&feed, &mut deliveries.into_iter()).await?;
        }
        let end = feed.keeper.in_force().snapshot();
        let is_same = end.as_ref().is_some_and(|end| {
            (end.version(), end.state_hash()) == (self.workspace.at, self.workspace.hash())
        });
        let at = end.map(|end| end.version());
        let is_refused = at == before && self.refusals > refusals;
        prop_assert!(is_same || is_refused, "{at:?}, and the workspace is at {}", self.workspace.at);
        Ok(())
    }
}

/// `CHAOS_SEED` gives other cases than those of every run.
#[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
fn runner() -> TestRunner {
    let seed = std::env::var("CHAOS_SEED").map_or(SEED, |seed| seed.parse().unwrap());
    println!("CHAOS_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

#[test]
fn t112_any_order_ends_in_the_workspaces_state_or_in_a_refusal() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runner().run(&vec(step(), 1..80), |steps| runtime.block_on(World::new().run(steps)));
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
