//! The registry of gates: those that have the feed open, and those that had it of late.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::{DashMap, Entry};
use jiff::Timestamp;
use scoregate_authz::{UnixTime, Version};
use tokio_util::sync::CancellationToken;

use super::timestamp;

/// For how long a gate that disconnected is remembered. It decides from memory, and may come back.
const REMEMBERED_FOR: Duration = Duration::from_mins(5);

/// For how long a name counts as that of two gates after it was seen to be.
const SHARED_FOR: Duration = Duration::from_mins(1);

/// A gate, as it is shown.
#[derive(Debug, Clone)]
pub struct GateStatus {
    /// Its name.
    pub name: String,
    /// Whether it has the feed open.
    pub presence: Presence,
    /// Of its software; `None` where it has not said it since the workspace's start. Likewise the rest.
    pub version: Option<String>,
    /// Who it authenticated as.
    pub principal: Option<String>,
    /// IP address and port of the connection's other end, or `unix`.
    pub remote: Option<String>,
    /// Epoch and revision that it enforces for certain; `None` until it said so.
    pub enforces: Option<Version>,
    /// Since when that is known.
    pub enforces_since: Option<Timestamp>,
    /// Since when the workspace has something newer; `None` if it has not. Not known for longer than the workspace runs.
    pub behind_since: Option<Timestamp>,
    /// Revisions that it lacks; `None` if all.
    pub lacks: Option<u64>,
    /// What it refused last.
    pub last_nack: Option<GateNack>,
}

impl GateStatus {
    fn share(&mut self) {
        if let Presence::Connected { since } = self.presence {
            self.presence = Presence::Shared { since };
        }
    }
}

/// Whether a gate has the feed open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Since this time.
    Connected {
        /// Of this connection.
        since: Timestamp,
    },
    /// In turns with another gate of this name: what it says is not counted as said.
    Shared {
        /// Of this connection.
        since: Timestamp,
    },
    /// It was connected when the workspace ended, and counts as connected for this long.
    Expected {
        /// When it is given up.
        until: Timestamp,
    },
    /// It disconnected, not long ago.
    Away {
        /// When.
        since: Timestamp,
    },
}

/// What a gate refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateNack {
    /// Of the snapshot or change.
    pub version: Version,
    /// In the gate's words.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// A gate with an open feed.
#[derive(Debug, Clone)]
pub(super) struct ConnectedGate {
    /// Of its software.
    pub(super) version: String,
    /// Who it authenticated as.
    pub(super) principal: String,
    /// The connection's other end.
    pub(super) remote: String,
    /// Tells its connections apart.
    pub(super) connection: u64,
    /// Tells the processes of one name apart; zero where it does not say.
    pub(super) process: u64,
    /// What it enforces for certain.
    pub(super) enforces: Option<Version>,
    /// Since when it is connected.
    pub(super) since: Timestamp,
    /// Since when it is known to enforce what it does.
    pub(super) enforces_since: Timestamp,
    /// What it refused last.
    pub(super) last_nack: Option<GateNack>,
    /// Ends the connection.
    pub(super) end: CancellationToken,
}

/// Gates by name. A gate has one connection: a newer one ends the one before.
#[derive(Debug, Default)]
pub(super) struct Gates {
    connected: DashMap<String, ConnectedGate>,
    /// Those that were connected before a restart, and until when they are waited for. They may have an old key.
    expected: DashMap<String, UnixTime>,
    /// Those that disconnected, and when.
    away: DashMap<String, (ConnectedGate, UnixTime)>,
    /// The process whose connection was last ended by another process of its name.
    displaced: DashMap<String, u64>,
    /// Names that two processes use at one time, and until when that is assumed.
    shared: DashMap<String, UnixTime>,
    connections: AtomicU64,
}

impl Gates {
    /// A number that no connection had before.
    pub(super) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts these as connected until a time, or until they are.
    pub(super) fn expect(&self, names: Vec<String>, until: UnixTime) {
        for name in names {
            self.expected.insert(name, until);
        }
    }

    /// Adds a gate, in place of an older connection of its name. Returns whether it was added.
    ///
    /// INVARIANT: a name that is connected belongs to the principal that connected it. Another one that took it over would
    /// hide a gate that may still have an old key.
    pub(super) fn connect(&self, name: &str, gate: ConnectedGate, now: UnixTime) -> bool {
        match self.connected.entry(name.to_owned()) {
            Entry::Occupied(before) if before.get().principal != gate.principal => return false,
            Entry::Occupied(mut place) => {
                self.displace(name, place.get().process, gate.process, now);
                let before = place.insert(gate);
                tracing::info!(gate = name, connection = before.connection, "replaced by a newer connection");
                before.end.cancel();
            }
            Entry::Vacant(place) => {
                place.insert(gate);
            }
        }
        self.expected.remove(name);
        self.away.remove(name);
        true
    }

    /// Notes that a process ends the connection of another one. One that was displaced and comes back is alive beside it.
    fn displace(&self, name: &str, before: u64, process: u64, now: UnixTime) {
        if before == 0 || process == 0 || before == process {
            return;
        }
        let displaced = self.displaced.insert(name.to_owned(), before);
        if displaced == Some(process) && self.shared.insert(name.to_owned(), now + SHARED_FOR).is_none() {
            tracing::warn!(
                gate = name,
                "two gates have this name, and neither confirms anything for both: each needs a `gate.name` of its own"
            );
        }
    }

    /// Whether two gates have this name: what the one confirms says nothing of the other.
    pub(super) fn is_shared(&self, name: &str, now: UnixTime) -> bool {
        self.shared.get(name).is_some_and(|until| now < *until)
    }

    /// Removes a gate. Returns whether it was there: a newer connection may have taken its place.
    pub(super) fn disconnect(&self, name: &str, connection: u64, now: UnixTime) -> bool {
        let removed = self.connected.remove_if(name, |_, gate| gate.connection == connection);
        let Some((name, gate)) = removed else { return false };
        self.away.insert(name, (gate, now));
        true
    }

    /// Forgets those that are gone for long.
    pub(super) fn purge(&self, now: UnixTime) {
        self.expected.retain(|_, until| now < *until);
        self.away.retain(|_, (_, since)| now < *since + REMEMBERED_FOR);
        self.shared.retain(|_, until| now < *until);
        // Never both maps at once: `connect` holds a place in the one when it comes to the other.
        let displaced: Vec<_> = self.displaced.iter().map(|place| place.key().clone()).collect();
        for name in displaced.iter().filter(|name| !self.connected.contains_key(*name)) {
            self.displaced.remove(name);
        }
    }

    /// Notes what a gate enforces. Returns whether this connection is still the gate's.
    pub(super) fn acknowledged(&self, name: &str, connection: u64, version: Version, now: UnixTime) -> bool {
        let Some(mut gate) = self.connected.get_mut(name).filter(|gate| gate.connection == connection) else {
            return false;
        };
        if gate.enforces < Some(version) {
            gate.enforces = Some(version);
            gate.enforces_since = timestamp(now);
        }
        true
    }

    /// Notes what a gate refused.
    pub(super) fn refused(&self, name: &str, connection: u64, nack: GateNack) {
        if let Some(mut gate) = self.connected.get_mut(name).filter(|gate| gate.connection == connection) {
            gate.last_nack = Some(nack);
        }
    }

    /// Names of the gates that are connected or expected back.
    pub(super) fn names(&self, now: UnixTime) -> Vec<String> {
        self.names_where(now, |_| true)
    }

    /// Names of those that do not enforce a version yet.
    pub(super) fn behind(&self, version: Version, now: UnixTime) -> Vec<String> {
        self.names_where(now, |gate| gate.enforces < Some(version))
    }

    /// Those, and the ones that disconnected not long ago without it: they decide on, and may be about to come back.
    pub(super) fn unaware_of(&self, version: Version, now: UnixTime) -> Vec<String> {
        let mut names = self.behind(version, now);
        let is_unaware = |gate: &(ConnectedGate, UnixTime)| {
            now < gate.1 + REMEMBERED_FOR && gate.0.enforces < Some(version)
        };
        let away = self.away.iter().filter(|gate| is_unaware(gate.value()));
        names.extend(away.map(|gate| gate.key().clone()));
        names
    }

    fn names_where(&self, now: UnixTime, holds: impl Fn(&ConnectedGate) -> bool) -> Vec<String> {
        let expected = self.expected.iter().filter(|gate| now < *gate.value());
        let expected: Vec<_> = expected.map(|gate| gate.key().clone()).collect();
        let connected = self.connected.iter().filter(|gate| holds(gate));
        connected.map(|gate| gate.key().clone()).chain(expected).collect()
    }

    /// Ends the connections of the principals of which something holds.
    pub(super) fn end_where(&self, holds: impl Fn(&str) -> bool) {
        self.connected.iter().filter(|gate| holds(&gate.principal)).for_each(|gate| gate.end.cancel());
    }

    /// Those that are connected, by name.
    pub(super) fn connected(&self) -> Vec<GateStatus> {
        let connected =
            |name: &str, gate: &ConnectedGate| status(name, gate, Presence::Connected { since: gate.since });
        let mut gates: Vec<_> =
            self.connected.iter().map(|gate| connected(gate.key(), gate.value())).collect();
        gates.sort_by(|a, b| a.name.cmp(&b.name));
        gates
    }

    /// All that are known, by name.
    pub(super) fn list(&self, now: UnixTime) -> Vec<GateStatus> {
        let mut gates = self.connected();
        gates.iter_mut().filter(|gate| self.is_shared(&gate.name, now)).for_each(GateStatus::share);
        let expected = self.expected.iter().filter(|gate| now < *gate.value());
        gates.extend(expected.map(|gate| nothing_known(gate.key(), *gate.value())));
        let away = self.away.iter().filter(|gate| now < gate.value().1 + REMEMBERED_FOR);
        gates.extend(away.map(|place| {
            let (gate, since) = place.value();
            status(place.key(), gate, Presence::Away { since: timestamp(*since) })
        }));
        // A gate that comes back while this is read is found once.
        gates.sort_by(|a, b| a.name.cmp(&b.name));
        gates.dedup_by(|later, earlier| later.name == earlier.name);
        gates
    }

    /// Names and connections of all of them.
    pub(super) fn connections(&self) -> Vec<(String, u64)> {
        self.connected.iter().map(|gate| (gate.key().clone(), gate.connection)).collect()
    }

    /// Names of those that are connected.
    pub(super) fn connected_names(&self) -> Vec<String> {
        self.connected.iter().map(|gate| gate.key().clone()).collect()
    }

    /// How many are connected.
    pub(super) fn count(&self) -> usize {
        self.connected.len()
    }
}

fn status(name: &str, gate: &ConnectedGate, presence: Presence) -> GateStatus {
    let ConnectedGate { version, principal, remote, enforces, enforces_since, last_nack, .. } = gate.clone();
    GateStatus {
        name: name.to_owned(),
        presence,
        version: Some(version),
        principal: Some(principal),
        remote: Some(remote),
        enforces,
        enforces_since: enforces.map(|_| enforces_since),
        behind_since: None,
        lacks: None,
        last_nack,
    }
}

fn nothing_known(name: &str, until: UnixTime) -> GateStatus {
    GateStatus {
        name: name.to_owned(),
        presence: Presence::Expected { until: timestamp(until) },
        version: None,
        principal: None,
        remote: None,
        enforces: None,
        enforces_since: None,
        behind_since: None,
        lacks: None,
        last_nack: None,
    }
}
