//! The registry of gates that have the feed open.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::{DashMap, Entry};
use jiff::Timestamp;
use scoregate_authz::{UnixTime, Version};
use tokio_util::sync::CancellationToken;

/// A gate that has the policy feed open, as it is shown.
#[derive(Debug, Clone)]
pub struct GateStatus {
    /// Its name.
    pub name: String,
    /// Of its software.
    pub version: String,
    /// Epoch and revision that it enforces for certain; `None` until it said so.
    pub enforces: Option<Version>,
    /// Since when it is connected.
    pub since: Timestamp,
    /// What it refused last, and why.
    pub last_nack: Option<(Version, String)>,
}

/// A gate with an open feed.
#[derive(Debug, Clone)]
pub(super) struct ConnectedGate {
    /// Of its software.
    pub(super) version: String,
    /// Who it authenticated as.
    pub(super) principal: String,
    /// Tells its connections apart.
    pub(super) connection: u64,
    /// What it enforces for certain.
    pub(super) enforces: Option<Version>,
    /// Since when it is connected.
    pub(super) since: Timestamp,
    /// What it refused last, and why.
    pub(super) last_nack: Option<(Version, String)>,
    /// Ends the connection.
    pub(super) end: CancellationToken,
}

/// Gates by name. A gate has one connection: a newer one ends the one before.
#[derive(Debug, Default)]
pub(super) struct Gates {
    connected: DashMap<String, ConnectedGate>,
    /// Those that were connected before a restart, and until when they are waited for. They may have an old key.
    expected: DashMap<String, UnixTime>,
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
    pub(super) fn connect(&self, name: &str, gate: ConnectedGate) -> bool {
        match self.connected.entry(name.to_owned()) {
            Entry::Occupied(before) if before.get().principal != gate.principal => return false,
            Entry::Occupied(mut place) => {
                let before = place.insert(gate);
                tracing::info!(gate = name, connection = before.connection, "replaced by a newer connection");
                before.end.cancel();
            }
            Entry::Vacant(place) => {
                place.insert(gate);
            }
        }
        self.expected.remove(name);
        true
    }

    /// Removes a gate. Returns whether it was there: a newer connection may have taken its place.
    pub(super) fn disconnect(&self, name: &str, connection: u64) -> bool {
        self.connected.remove_if(name, |_, gate| gate.connection == connection).is_some()
    }

    /// Notes what a gate enforces. Returns whether this connection is still the gate's.
    pub(super) fn acknowledged(&self, name: &str, connection: u64, version: Version) -> bool {
        let Some(mut gate) = self.connected.get_mut(name).filter(|gate| gate.connection == connection) else {
            return false;
        };
        gate.enforces = gate.enforces.max(Some(version));
        true
    }

    /// Notes what a gate refused.
    pub(super) fn refused(&self, name: &str, connection: u64, version: Version, reason: String) {
        if let Some(mut gate) = self.connected.get_mut(name).filter(|gate| gate.connection == connection) {
            gate.last_nack = Some((version, reason));
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

    /// All of them, by name.
    pub(super) fn list(&self) -> Vec<GateStatus> {
        let mut gates: Vec<_> = self.connected.iter().map(|gate| status(gate.key(), gate.value())).collect();
        gates.sort_by(|a, b| a.name.cmp(&b.name));
        gates
    }

    /// Names and connections of all of them.
    pub(super) fn connections(&self) -> Vec<(String, u64)> {
        self.connected.iter().map(|gate| (gate.key().clone(), gate.connection)).collect()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.connected.len()
    }
}

fn status(name: &str, gate: &ConnectedGate) -> GateStatus {
    let ConnectedGate { version, enforces, since, last_nack, .. } = gate.clone();
    GateStatus { name: name.to_owned(), version, enforces, since, last_nack }
}
