//! Changes one service, again and again, and tells the oracle what that makes possible and what becomes of it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::oracle::{Connected, Credential, Mode, State};
use crate::random::Random;
use crate::rest::{Rest, Seen};
use crate::run::{Run, Stop};
use crate::support::Answer;
use crate::time::now;

/// For how long the workspace may be away, disturbed or slow, before that counts as a failure.
const PATIENCE: Duration = Duration::from_secs(90);

/// What became of a change that was asked for.
enum Outcome {
    /// The workspace said that it is done; in this operation the gates are waited for, if they have not followed already.
    Done(Option<String>),
    /// Nobody knows: the answer was lost, or the store failed.
    Unknown(String),
}

pub(crate) struct Driver<'a> {
    pub(crate) run: &'a Run,
    pub(crate) service: usize,
    pub(crate) name: String,
    pub(crate) rest: Rest,
    pub(crate) random: Random,
    /// Makes chosen keys new.
    pub(crate) chosen: u32,
}

type Step = Result<(), Stop>;

impl Driver<'_> {
    pub(crate) fn drive(mut self) -> Step {
        loop {
            self.step()?;
            self.run.sleep(self.random.millis(20, 300))?;
        }
    }

    fn step(&mut self) -> Step {
        let state = self.run.oracle.latest(self.service);
        let draw = self.random.below(100);
        match (state.mode, draw) {
            (Mode::Absent, _) => self.create(&state),
            (Mode::Key, 0..60) => self.regenerate(&state),
            (Mode::Token, 0..48) => self.fetch_token(&state),
            (Mode::Token, 48..56) => self.revoke_tokens(&state),
            (Mode::Token, 56..60) => self.rotate_signing_keys(),
            (_, 60..72) => self.switch(&state, Mode::Key),
            (_, 72..84) => self.switch(&state, Mode::Token),
            (_, 84..89) => self.switch(&state, Mode::Disabled),
            (_, 89..97) => self.delete(&state),
            (Mode::Disabled, 0..60) => self.switch(&state, Mode::Token),
            _ => self.read_back(&state),
        }
    }

    fn create(&mut self, before: &State) -> Step {
        let mode = *self.random.pick(&[Mode::Key, Mode::Key, Mode::Token, Mode::Disabled]);
        let mut body = json!({ "name": self.name, "computeType": "AKS" });
        match mode {
            Mode::Token => body["aadAuthEnabled"] = true.into(),
            Mode::Disabled => body["authEnabled"] = false.into(),
            Mode::Absent | Mode::Key => {}
        }
        let mut state = State { mode, life: before.life + 1, era: 0, primary: None, secondary: None };
        if self.random.percent(40) {
            let (primary, secondary) = (self.choose_key(), self.choose_key());
            if primary != secondary {
                body["keys"] = json!({ "primaryKey": primary, "secondaryKey": secondary });
                (state.primary, state.secondary) = (Some(primary), Some(secondary));
            }
        }
        self.change("create", &state, "POST", "/services", Some(&body))
    }

    fn regenerate(&mut self, before: &State) -> Step {
        let is_primary = self.random.percent(50);
        let chosen = self.random.percent(35).then(|| self.choose_key());
        let mut state = before.clone();
        let (slot, other) = if is_primary {
            (&mut state.primary, &before.secondary)
        } else {
            (&mut state.secondary, &before.primary)
        };
        if chosen.is_some() && chosen == *other {
            return Ok(());
        }
        slot.clone_from(&chosen);
        let what = if chosen.is_some() { "regenerate to a chosen key" } else { "regenerate" };
        let body = json!({ "keyType": if is_primary { "Primary" } else { "Secondary" }, "keyValue": chosen });
        let path = format!("/services/{}/regenerateKeys", self.name);
        self.change(what, &state, "POST", &path, Some(&body))
    }

    /// A key that was used before, of this service or another one, or one that is new.
    fn choose_key(&mut self) -> String {
        let service = if self.random.percent(80) { self.service } else { 0 };
        match self.run.oracle.draw(service, &mut self.random) {
            Credential::Key(key) if self.random.percent(50) => key,
            _ => {
                self.chosen += 1;
                format!(
                    "chosen-{:03}-for-{}-{:08x}",
                    self.chosen,
                    self.name,
                    self.random.next() & 0xffff_ffff
                )
            }
        }
    }

    fn switch(&mut self, before: &State, mode: Mode) -> Step {
        if before.mode == mode {
            return self.read_back(before);
        }
        let leaves = u32::from(before.mode == Mode::Token);
        let state = State { mode, era: before.era + leaves, ..before.clone() };
        let patch = Rest::modes(mode == Mode::Key, mode == Mode::Token);
        self.change("switch", &state, "PATCH", &format!("/services/{}", self.name), Some(&patch))
    }

    fn delete(&mut self, before: &State) -> Step {
        let state = State { life: before.life, ..State::ABSENT };
        self.change("delete", &state, "DELETE", &format!("/services/{}", self.name), None)
    }

    /// Asks for a change, and sees to it that its outcome is known.
    fn change(&mut self, what: &str, state: &State, method: &str, path: &str, body: Option<&Value>) -> Step {
        let oracle = &self.run.oracle;
        let before = oracle.latest(self.service);
        for key in [&state.primary, &state.secondary].into_iter().flatten() {
            oracle.add(self.service, Credential::Key(key.clone()));
        }
        let asked = oracle.connected();
        let entry = oracle.propose(self.service, state.clone(), what.to_owned());
        let outcome = match self.rest.call(method, path, body) {
            Ok(answer) => self.outcome(&answer)?,
            Err(error) => Outcome::Unknown(error.to_string()),
        };
        match outcome {
            Outcome::Done(operation) => {
                oracle.note(self.service, entry, "done");
                let is_enforced = match operation {
                    Some(operation) => self.wait_for(&operation)?,
                    None => true,
                };
                self.learn(entry, &before, state)?;
                if is_enforced {
                    oracle.enforced(self.service, entry, &asked);
                    oracle.note(self.service, entry, "enforced");
                }
                Ok(())
            }
            Outcome::Unknown(problem) => {
                self.run.unknown();
                oracle.note(self.service, entry, &format!("no answer ({problem})"));
                self.resolve(entry, &before, state)
            }
        }
    }

    fn outcome(&self, answer: &Answer) -> Result<Outcome, Stop> {
        match answer.status {
            200 => Ok(Outcome::Done(None)),
            202 => {
                let location = answer.header("operation-location").unwrap_or_default();
                Ok(Outcome::Done(location.rsplit('/').next().map(str::to_owned)))
            }
            500.. => Ok(Outcome::Unknown(answer.status.to_string())),
            // The service is not what it was made: that is a lost change.
            status => Err(self.fail(&format!("a change was refused with {status}: {}", answer.text()))),
        }
    }

    /// Whether the operation ended as enforced. Where it did not, the change is made all the same.
    fn wait_for(&self, operation: &str) -> Result<bool, Stop> {
        let state = self.insist("an operation", || {
            let answer = self.rest.call("GET", &format!("/operations/{operation}"), None).ok()?;
            match answer.status {
                200 => answer.json()["state"].as_str().filter(|state| *state != "Running").map(str::to_owned),
                404 => Some("lost".to_owned()),
                _ => None,
            }
        })?;
        match state.as_str() {
            "Succeeded" => Ok(true),
            "TimedOut" => Ok(false),
            other => Err(self.fail(&format!("the operation of a change that was made is {other}"))),
        }
    }

    /// Reads what a change that was made has led to.
    fn learn(&self, entry: usize, before: &State, state: &State) -> Step {
        let seen = self.insist("the service", || self.rest.look(&self.name).ok())?;
        if !is(seen.as_ref(), before, state) {
            return Err(self.fail("a change that was acknowledged is lost"));
        }
        if let Some(seen) = seen {
            self.run.oracle.fill(self.service, entry, &seen.keys);
        }
        Ok(())
    }

    /// Finds out whether a change was made: what is read after another one was accepted is what the store has.
    fn resolve(&self, entry: usize, before: &State, state: &State) -> Step {
        let oracle = &self.run.oracle;
        let path = format!("/services/{}", self.name);
        let patch = json!([{ "op": "replace", "path": "/description", "value": format!("state {entry}") }]);
        self.insist("a change", || {
            let status = self.rest.call("PATCH", &path, Some(&patch)).ok()?.status;
            matches!(status, 200 | 202 | 404).then_some(())
        })?;
        let seen = self.insist("the service", || self.rest.look(&self.name).ok())?;
        let (was_made, was_not) = (is(seen.as_ref(), before, state), is(seen.as_ref(), before, before));
        // Where both fit, there is nothing that they could be told apart by.
        if was_made {
            oracle.note(self.service, entry, "was made");
            if let Some(seen) = &seen {
                oracle.fill(self.service, entry, &seen.keys);
            }
        } else if was_not {
            oracle.note(self.service, entry, "was not made");
            let voided = oracle.void(self.service, entry);
            return voided.map_err(|problem| self.run.fail(&problem));
        } else {
            return Err(self.fail("the service is neither what it was nor what it was to be"));
        }
        seen.map_or(Ok(()), |seen| self.enforce(entry, &seen))
    }

    /// Waits until the gates that are connected enforce what is in force: a switch to the mode that there is.
    fn enforce(&self, entry: usize, seen: &Seen) -> Step {
        let asked: Connected = self.run.oracle.connected();
        let patch = Rest::modes(seen.key, seen.token);
        let answer = self.rest.call("PATCH", &format!("/services/{}", self.name), Some(&patch));
        if answer.is_ok_and(|answer| answer.status == 200) {
            self.run.oracle.enforced(self.service, entry, &asked);
            self.run.oracle.note(self.service, entry, "enforced");
        }
        Ok(())
    }

    /// Nothing tells whether it was done but that it is done: it is asked for until it is.
    fn revoke_tokens(&self, before: &State) -> Step {
        let oracle = &self.run.oracle;
        let state = State { era: before.era + 1, ..before.clone() };
        let entry = oracle.propose(self.service, state, "revoke tokens".to_owned());
        let path = format!("/scoregate/v1/services/{}/revokeTokens", self.name);
        let (asked, answer) = self.insist("a revocation", || {
            let asked = oracle.connected();
            let answer = self.rest.send("POST", &path, None).ok()?;
            (answer.status < 500).then_some((asked, answer))
        })?;
        oracle.note(self.service, entry, "done");
        if let Outcome::Done(Some(operation)) = self.outcome(&answer)?
            && self.wait_for(&operation)?
        {
            oracle.enforced(self.service, entry, &asked);
            oracle.note(self.service, entry, "enforced");
        }
        Ok(())
    }

    /// Whatever becomes of it: it changes nothing of what is accepted.
    fn rotate_signing_keys(&self) -> Step {
        match self.rest.send("POST", "/scoregate/v1/signing-keys", None) {
            Ok(answer) if answer.status < 500 => self.outcome(&answer).map(|_| ()),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn read_back(&self, state: &State) -> Step {
        // While the workspace is away there is nothing to read.
        let Ok(seen) = self.rest.look(&self.name) else { return Ok(()) };
        if is(seen.as_ref(), state, state) {
            Ok(())
        } else {
            Err(self.fail("the workspace has another state"))
        }
    }

    fn fetch_token(&mut self, state: &State) -> Step {
        let body = match self.random.below(4) {
            0 => json!({}),
            _ => json!({ "expiresIn": 1 + self.random.below(5) }),
        };
        let path = format!("/services/{}/token", self.name);
        let Ok(answer) = self.rest.call("POST", &path, Some(&body)) else { return Ok(()) };
        match answer.status {
            201 | 200 => {}
            500.. => return Ok(()),
            status => return Err(self.fail(&format!("no token: {status} {}", answer.text()))),
        }
        let answer = answer.json();
        let text = answer["accessToken"].as_str().unwrap_or_default().to_owned();
        self.run.signed(&text);
        let expires = answer["expiryOn"].as_f64().unwrap_or_else(now);
        let token =
            Credential::Token { text, service: self.service, life: state.life, era: state.era, expires };
        self.run.oracle.add(self.service, token);
        Ok(())
    }

    /// Asks again and again.
    fn insist<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T, Stop> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask() {
                return Ok(answer);
            }
            if Instant::now() > deadline {
                return Err(self.fail(&format!("waited {PATIENCE:?} for {what}")));
            }
            self.run.sleep(Duration::from_millis(50))?;
        }
    }

    fn fail(&self, problem: &str) -> Stop {
        self.run.fail(&format!("{}: {problem}\n{}", self.name, self.run.oracle.tell(self.service)))
    }
}

/// Whether what was read is a state. A key that only the workspace knew until now is another one than the one before.
fn is(seen: Option<&Seen>, before: &State, state: &State) -> bool {
    let Some(seen) = seen else { return state.mode == Mode::Absent };
    let mode = match (seen.key, seen.token) {
        (true, false) => Mode::Key,
        (false, true) => Mode::Token,
        (false, false) => Mode::Disabled,
        (true, true) => return false,
    };
    let fits = |seen: &String, key: &Option<String>, old: &Option<String>| match key {
        Some(key) => key == seen,
        None => old.as_ref() != Some(seen),
    };
    mode == state.mode
        && fits(&seen.keys.0, &state.primary, &before.primary)
        && fits(&seen.keys.1, &state.secondary, &before.secondary)
}
