//! Knows, for every credential, gate and instant, whether it must be accepted, must be refused, or may be either.
//!
//! Of each service it has the states that were ever asked for, in their order. A gate is in one of them: not in an
//! earlier one than `lowest`, which rises with what the workspace says is enforced, and with what the gate's own answers
//! prove. So a change that may or may not have been made, or have reached a gate, is "either", until something tells; and
//! what a gate once had in force it never has not.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::link::Link;
use crate::random::Random;
use crate::time::{Seconds, now};

/// How exactly gates and the workspace know the time of this machine, in seconds.
const BLUR: Seconds = 0.2;
/// The gates' `gate.clock_skew`, in seconds.
pub(crate) const SKEW: Seconds = 5.0;
/// What was in force for so long was on disk, too: a gate that is killed has it when it comes back. What is younger, and
/// was not acknowledged, may be lost.
const DURABLE_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Absent,
    Disabled,
    Key,
    Token,
}

/// What a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) mode: Mode,
    /// Counts how often it was created: each time with another uid.
    pub(crate) life: u32,
    /// Counts how often its tokens were revoked. Those of a later era are good all the same: they were issued after that.
    pub(crate) era: u32,
    /// `None` while nobody but the workspace knows it: no credential of ours is equal to it.
    pub(crate) primary: Option<String>,
    pub(crate) secondary: Option<String>,
}

impl State {
    pub(crate) const ABSENT: Self =
        Self { mode: Mode::Absent, life: 0, era: 0, primary: None, secondary: None };

    /// Whether it is the same for every credential that there could be.
    fn has_key(&self, key: &str) -> bool {
        [&self.primary, &self.secondary].into_iter().any(|known| known.as_deref() == Some(key))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Credential {
    Key(String),
    Token { text: String, service: usize, life: u32, era: u32, expires: Seconds },
}

impl Credential {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Key(text) | Self::Token { text, .. } => text,
        }
    }

    /// Without what makes it a secret.
    fn label(&self) -> String {
        match self {
            Self::Key(text) => format!("key {}…", text.get(..8).unwrap_or("?")),
            Self::Token { text, service, life, era, expires } => {
                let end = text.get(text.len() - 6..).unwrap_or("?");
                format!(
                    "token …{end} of `chaos-{service}` life {life} era {era}, which expires at {expires:.1}"
                )
            }
        }
    }
}

/// What a state may do with a credential, between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct May {
    accept: bool,
    refuse: bool,
}

impl May {
    fn only(accept: bool) -> Self {
        Self { accept, refuse: !accept }
    }

    fn of(state: &State, of: usize, credential: &Credential, from: Seconds, to: Seconds) -> Self {
        match (state.mode, credential) {
            (Mode::Absent, _) => Self::only(false),
            (Mode::Disabled, _) => Self::only(true),
            (Mode::Key, credential) => Self::only(state.has_key(credential.text())),
            (Mode::Token, Credential::Token { service, life, era, expires, .. })
                if (*service, *life) == (of, state.life) && *era >= state.era =>
            {
                Self { accept: from <= expires + SKEW + 1.0 + BLUR, refuse: to >= expires - BLUR }
            }
            (Mode::Token, _) => Self::only(false),
        }
    }

    fn has(self, accepted: bool) -> bool {
        if accepted { self.accept } else { self.refuse }
    }
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// Before it was asked for.
    began: Instant,
    /// What was asked for, and what became of it.
    note: String,
    /// It never was.
    void: bool,
}

#[derive(Debug, Default)]
struct Belief {
    lowest: usize,
    durable: usize,
    /// What proved a new lowest, and when.
    evidence: Vec<(Instant, usize)>,
}

#[derive(Debug)]
struct Service {
    name: String,
    entries: Vec<Entry>,
    /// By gate.
    beliefs: Vec<Belief>,
    credentials: Vec<Credential>,
}

#[derive(Debug)]
struct Gate {
    /// Its way to the workspace.
    feed: Arc<Link>,
    /// Counts its processes.
    process: AtomicU64,
    /// The generation of the link over which a change was seen to arrive: the workspace counts this gate as connected.
    connected: Mutex<Option<u64>>,
    /// Why it was believed so last.
    reason: Mutex<String>,
}

/// The connections that the workspace knows of, at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Connected(Vec<Option<u64>>);

/// A check that is under way.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) service: usize,
    pub(crate) gate: usize,
    pub(crate) credential: Credential,
    lowest: usize,
    process: u64,
    began: Instant,
    wall: Seconds,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) must_accept: AtomicU64,
    pub(crate) must_refuse: AtomicU64,
    pub(crate) either: AtomicU64,
}

impl Counts {
    pub(crate) fn all(&self) -> [u64; 3] {
        [&self.must_accept, &self.must_refuse, &self.either].map(|count| count.load(Ordering::Relaxed))
    }
}

#[derive(Debug)]
pub(crate) struct Oracle {
    started: Instant,
    services: Vec<Mutex<Service>>,
    gates: Vec<Gate>,
    pub(crate) counts: Counts,
}

const CREDENTIALS: usize = 60;

impl Oracle {
    pub(crate) fn new(services: &[String], feeds: Vec<Arc<Link>>) -> Self {
        let started = Instant::now();
        let gates = feeds.len();
        let service = |name: &String| {
            let absent =
                Entry { state: State::ABSENT, began: started, note: "absent".to_owned(), void: false };
            let beliefs = (0..gates).map(|_| Belief::default()).collect();
            Mutex::new(Service {
                name: name.clone(),
                entries: vec![absent],
                beliefs,
                credentials: vec![Credential::Key("never-was-a-key-of-anything".to_owned())],
            })
        };
        let gate = |feed| Gate {
            feed,
            process: AtomicU64::new(0),
            connected: Mutex::new(None),
            reason: Mutex::default(),
        };
        Self {
            started,
            services: services.iter().map(service).collect(),
            gates: feeds.into_iter().map(gate).collect(),
            counts: Counts::default(),
        }
    }

    fn service(&self, service: usize) -> MutexGuard<'_, Service> {
        self.services[service].lock().unwrap()
    }

    pub(crate) fn services(&self) -> usize {
        self.services.len()
    }

    pub(crate) fn name(&self, service: usize) -> String {
        self.service(service).name.clone()
    }

    /// The latest state that was asked for and may be.
    pub(crate) fn latest(&self, service: usize) -> State {
        let service = self.service(service);
        service.entries.iter().rev().find(|entry| !entry.void).unwrap().state.clone()
    }

    /// A state is about to be asked for: from now on it may be.
    pub(crate) fn propose(&self, service: usize, state: State, note: String) -> usize {
        let mut service = self.service(service);
        service.entries.push(Entry { state, began: Instant::now(), note, void: false });
        service.entries.len() - 1
    }

    /// The keys that a state has turned out to have.
    pub(crate) fn fill(&self, service: usize, entry: usize, keys: &(String, String)) {
        {
            let state = &mut self.service(service).entries[entry].state;
            (state.primary, state.secondary) = (Some(keys.0.clone()), Some(keys.1.clone()));
        }
        self.add(service, Credential::Key(keys.0.clone()));
        self.add(service, Credential::Key(keys.1.clone()));
    }

    /// A state that was asked for has turned out never to have been.
    ///
    /// # Errors
    /// A gate had it in force.
    pub(crate) fn void(&self, service: usize, entry: usize) -> Result<(), String> {
        let mut service = self.service(service);
        service.entries[entry].void = true;
        match service.beliefs.iter().position(|belief| belief.lowest == entry) {
            Some(gate) => {
                Err(format!("gate-{gate} had in force what was never made\n{}", self.history(&service)))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn note(&self, service: usize, entry: usize, note: &str) {
        let at = self.started.elapsed().as_secs_f64();
        let mut service = self.service(service);
        let _ = write!(service.entries[entry].note, "; {note} at {at:.3}");
    }

    /// A credential that checks may try from now on.
    pub(crate) fn add(&self, service: usize, credential: Credential) {
        let mut service = self.service(service);
        if service.credentials.contains(&credential) {
            return;
        }
        if service.credentials.len() == CREDENTIALS {
            service.credentials.remove(1);
        }
        service.credentials.push(credential);
    }

    /// Draws a credential of a service: a recent one, mostly.
    pub(crate) fn draw(&self, service: usize, random: &mut Random) -> Credential {
        let service = self.service(service);
        let known = &service.credentials;
        let recent = known.len().min(6);
        let from = if random.percent(75) { known.len() - recent } else { 0 };
        known[from + random.below(known.len() - from)].clone()
    }

    pub(crate) fn begin(&self, service: usize, gate: usize, credential: Credential) -> Ticket {
        let process = self.gates[gate].process.load(Ordering::SeqCst);
        let lowest = self.service(service).beliefs[gate].lowest;
        Ticket { service, gate, credential, lowest, process, began: Instant::now(), wall: now() }
    }

    /// Judges an answer.
    ///
    /// # Errors
    /// It is wrong, and how.
    pub(crate) fn judge(&self, ticket: &Ticket, accepted: bool) -> Result<(), String> {
        let ended = now();
        let mut service = self.service(ticket.service);
        let may =
            |entry: &Entry| May::of(&entry.state, ticket.service, &ticket.credential, ticket.wall, ended);
        let possible = |(index, entry): &(usize, &Entry)| *index >= ticket.lowest && !entry.void;
        let entries = || service.entries.iter().enumerate().filter(possible);
        let Some((first, began)) =
            entries().find(|(_, entry)| may(entry).has(accepted)).map(|(index, entry)| (index, entry.began))
        else {
            return Err(self.wrong(ticket, accepted, &service));
        };
        let count = match (entries().any(|(_, e)| may(e).accept), entries().any(|(_, e)| may(e).refuse)) {
            (true, false) => &self.counts.must_accept,
            (false, true) => &self.counts.must_refuse,
            _ => &self.counts.either,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let gate = &self.gates[ticket.gate];
        let belief = &mut service.beliefs[ticket.gate];
        if first > belief.lowest && gate.process.load(Ordering::SeqCst) == ticket.process {
            belief.lowest = first;
            belief.evidence.push((Instant::now(), first));
            let life = gate.feed.life();
            if began > life.since {
                *gate.connected.lock().unwrap() = Some(life.generation);
                *gate.reason.lock().unwrap() = format!(
                    "connection {} since {:.3}: state {first} of `{}` was seen at {:.3}, by {} {}",
                    life.generation,
                    life.since.saturating_duration_since(self.started).as_secs_f64(),
                    service.name,
                    self.started.elapsed().as_secs_f64(),
                    ticket.credential.label(),
                    if accepted { "accepted" } else { "refused" }
                );
            }
        }
        Ok(())
    }

    fn wrong(&self, ticket: &Ticket, accepted: bool, service: &Service) -> String {
        let belief = &service.beliefs[ticket.gate];
        format!(
            "{} was {} by gate-{} for `{}`, asked at {:.3}, answered at {:.3} s of the run (now {:.3}); the gate was \
             known to be at state {} or later (now {}, durably {}); its feed: {:?} and {}\n{}",
            ticket.credential.label(),
            if accepted { "accepted" } else { "refused" },
            ticket.gate,
            service.name,
            ticket.began.duration_since(self.started).as_secs_f64(),
            self.started.elapsed().as_secs_f64(),
            now(),
            ticket.lowest,
            belief.lowest,
            belief.durable,
            self.gates[ticket.gate].feed.life(),
            self.gates[ticket.gate].reason.lock().unwrap(),
            self.history(service)
        )
    }

    /// How many states there were after the first.
    pub(crate) fn changes(&self, service: usize) -> u64 {
        self.service(service).entries.len() as u64 - 1
    }

    /// What is known of a service.
    pub(crate) fn tell(&self, service: usize) -> String {
        self.history(&self.service(service))
    }

    fn history(&self, service: &Service) -> String {
        let mut text = format!("the last states of `{}`:\n", service.name);
        let from = service.entries.len().saturating_sub(12);
        for (index, entry) in service.entries.iter().enumerate().skip(from) {
            let State { mode, life, era, primary, secondary } = &entry.state;
            let key =
                |key: &Option<String>| key.as_deref().and_then(|key| key.get(..8)).unwrap_or("?").to_owned();
            let began = entry.began.duration_since(self.started).as_secs_f64();
            let _ = writeln!(
                text,
                "  {index} at {began:.3}: {mode:?} life {life} era {era} keys {}… {}…{}: {}",
                key(primary),
                key(secondary),
                if entry.void { " (never was)" } else { "" },
                entry.note
            );
        }
        text
    }

    /// The gates that the workspace waits for, for all that is known.
    pub(crate) fn connected(&self) -> Connected {
        let connected = |gate: &Gate| {
            let generation = *gate.connected.lock().unwrap();
            generation.filter(|generation| gate.feed.life().generation == *generation)
        };
        Connected(self.gates.iter().map(connected).collect())
    }

    /// The workspace says that a state, which was asked for when those gates were connected, is enforced.
    pub(crate) fn enforced(&self, service: usize, entry: usize, asked: &Connected) {
        let still = self.connected();
        let mut service = self.service(service);
        for (gate, belief) in service.beliefs.iter_mut().enumerate() {
            if asked.0[gate].is_some() && asked.0[gate] == still.0[gate] {
                belief.lowest = belief.lowest.max(entry);
                belief.durable = belief.durable.max(entry);
            }
        }
    }

    /// A gate was killed, and is about to start again: from what was on its disk for certain, or something later.
    pub(crate) fn killed(&self, gate: usize) {
        self.gates[gate].process.fetch_add(1, Ordering::SeqCst);
        *self.gates[gate].connected.lock().unwrap() = None;
        for service in &self.services {
            let belief = &mut service.lock().unwrap().beliefs[gate];
            let old = belief.evidence.iter().filter(|(since, _)| since.elapsed() >= DURABLE_AFTER);
            let durable = old.map(|(_, entry)| *entry).max().unwrap_or(0);
            belief.durable = belief.durable.max(durable);
            belief.lowest = belief.durable;
            belief.evidence.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    /// An oracle of one gate, which is connected, and a service with two keys.
    fn oracle() -> Oracle {
        let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let oracle = Oracle::new(&["one".to_owned()], vec![Link::to(nowhere)]);
        *oracle.gates[0].connected.lock().unwrap() = Some(0);
        change(&oracle, state("first-key", "other-key"));
        oracle
    }

    fn state(primary: &str, secondary: &str) -> State {
        let key = |key: &str| Some(key.to_owned());
        State { mode: Mode::Key, life: 1, era: 0, primary: key(primary), secondary: key(secondary) }
    }

    fn change(oracle: &Oracle, state: State) {
        let asked = oracle.connected();
        let entry = oracle.propose(0, state, String::new());
        oracle.enforced(0, entry, &asked);
    }

    fn check(oracle: &Oracle, key: &str, accepted: bool) -> bool {
        let ticket = oracle.begin(0, 0, Credential::Key(key.to_owned()));
        oracle.judge(&ticket, accepted).is_ok()
    }

    #[test]
    fn enforced_state_is_the_only_one() {
        let oracle = oracle();
        assert!(check(&oracle, "first-key", true) && check(&oracle, "other-key", true));
        assert!(!check(&oracle, "first-key", false) && !check(&oracle, "stranger-key", true));
        change(&oracle, state("second-key", "other-key"));
        assert!(!check(&oracle, "first-key", true) && check(&oracle, "first-key", false));
        assert_eq!(oracle.counts.all(), [2, 1, 0]);
    }

    #[test]
    fn state_that_may_be_is_either_until_a_gate_shows_it() {
        let oracle = oracle();
        oracle.propose(0, state("second-key", "other-key"), String::new());
        assert!(check(&oracle, "first-key", true), "not yet");
        assert!(check(&oracle, "first-key", false), "now it is in force");
        assert!(!check(&oracle, "first-key", true), "and never again not");
        assert!(!check(&oracle, "second-key", false));
    }

    #[test]
    fn state_that_never_was_must_not_have_shown() {
        let oracle = oracle();
        let entry = oracle.propose(0, state("second-key", "other-key"), String::new());
        assert!(oracle.void(0, entry).is_ok());
        assert!(!check(&oracle, "first-key", false));
        let entry = oracle.propose(0, state("third-key", "other-key"), String::new());
        assert!(check(&oracle, "third-key", true));
        assert!(oracle.void(0, entry).is_err());
    }

    #[test]
    fn killed_gate_comes_back_with_what_it_acknowledged() {
        let oracle = oracle();
        oracle.propose(0, state("second-key", "other-key"), String::new());
        assert!(check(&oracle, "first-key", false));
        oracle.killed(0);
        assert!(check(&oracle, "first-key", true), "it may have been killed before it had written that down");
        assert!(!check(&oracle, "stranger-key", true), "the state before that was acknowledged");
    }

    #[test]
    fn gate_that_is_cut_off_may_be_behind() {
        let oracle = oracle();
        *oracle.gates[0].connected.lock().unwrap() = None;
        change(&oracle, state("second-key", "other-key"));
        assert!(check(&oracle, "first-key", true));
    }

    #[test]
    fn token_ends_with_its_time_its_era_and_its_life() {
        let token = |service, life, era| {
            let text = "a.b.c".to_owned();
            Credential::Token { text, service, life, era, expires: 100.0 }
        };
        let state = State { mode: Mode::Token, life: 2, era: 3, primary: None, secondary: None };
        let may = |credential: &Credential, from, to| May::of(&state, 7, credential, from, to);
        assert_eq!(may(&token(7, 2, 3), 90.0, 91.0), May::only(true));
        assert_eq!(may(&token(7, 2, 3), 99.0, 101.0), May { accept: true, refuse: true });
        assert_eq!(may(&token(7, 2, 3), 107.0, 107.1), May::only(false));
        assert_eq!(may(&token(7, 2, 4), 90.0, 91.0), May::only(true));
        for other in [token(6, 2, 3), token(7, 1, 3), token(7, 2, 2), Credential::Key("a.b.c".to_owned())] {
            assert_eq!(may(&other, 90.0, 91.0), May::only(false));
        }
    }
}
