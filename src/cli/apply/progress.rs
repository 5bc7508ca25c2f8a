//! What was done of a plan, for people and for programs.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::super::exit::CliError;
use super::super::output::Printer;
use super::plan::{Action, Field, FieldChange, Plan, Step};

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is only shown.
    Planned,
    /// Not yet, or not any more.
    NotDone,
    Done,
    /// The workspace did not do it.
    Failed,
    /// Nobody knows: the answer got lost, or it was that the workspace failed.
    Unknown,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::NotDone => "notDone",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// A plan, and what became of each step.
#[derive(Debug)]
pub(super) struct Progress<'a> {
    plan: &'a Plan,
    states: Vec<State>,
}

impl<'a> Progress<'a> {
    /// A plan that is only shown.
    pub(super) fn shown(plan: &'a Plan) -> Self {
        Self { plan, states: vec![State::Planned; plan.steps.len()] }
    }

    /// A plan that is carried out.
    pub(super) fn begun(plan: &'a Plan) -> Self {
        Self { plan, states: vec![State::NotDone; plan.steps.len()] }
    }

    pub(super) fn done(&mut self, index: usize) {
        self.states[index] = State::Done;
    }

    pub(super) fn failed(&mut self, index: usize, error: &CliError) {
        let was_not_sent = match error {
            CliError::Unreachable { source, .. } | CliError::Untrusted { source, .. } => source.is_connect(),
            CliError::Trouble { .. } | CliError::NoWorkspace { .. } => false,
            _ => true,
        };
        self.states[index] = if was_not_sent { State::Failed } else { State::Unknown };
    }

    /// How many steps are not known to be done.
    pub(super) fn unfinished(&self) -> usize {
        self.states.iter().filter(|state| **state != State::Done).count()
    }

    /// Shows it; `none` where there is nothing to do.
    pub(super) fn print(&self, printer: &Printer, none: &str) -> Result<(), CliError> {
        printer.print(&self.document(), |out| self.write(out, none))
    }

    fn steps(&self) -> impl Iterator<Item = (&Step, State)> {
        self.plan.steps.iter().zip(self.states.iter().copied())
    }

    fn document(&self) -> Value {
        let changes: Vec<_> = self.steps().map(|(step, state)| described(step, state)).collect();
        json!({ "changes": changes, "unmanaged": self.plan.unmanaged })
    }

    fn write(&self, out: &mut dyn Write, none: &str) -> io::Result<()> {
        for (step, state) in self.steps() {
            writeln!(out, "{} `{}`{}", verb(&step.action, state), step.service, details(&step.action))?;
        }
        if self.plan.steps.is_empty() {
            writeln!(out, "{none}")?;
        }
        if self.plan.unmanaged.is_empty() {
            return Ok(());
        }
        let names = self.plan.unmanaged.join(", ");
        writeln!(out, "in no file, and kept: {names} (--prune deletes what no file has)")
    }
}

fn described(step: &Step, state: State) -> Value {
    let action = match &step.action {
        Action::Create(_) => "create",
        Action::Change(_) => "change",
        Action::Delete => "delete",
    };
    let mut change = json!({ "service": step.service, "action": action, "state": state.as_str() });
    let field = |change: &FieldChange| {
        let FieldChange { field, from, to } = change;
        json!({ "field": field.as_str(), "from": from, "to": to })
    };
    match &step.action {
        Action::Create(service) => {
            change["computeType"] = service.compute_type.as_str().into();
            change["authMode"] = service.auth_mode.as_str().into();
        }
        Action::Change(changes) => change["fields"] = changes.iter().map(field).collect(),
        Action::Delete => {}
    }
    change
}

fn verb(action: &Action, state: State) -> String {
    let [base, past] = match action {
        Action::Create(_) => ["create", "created"],
        Action::Change(_) => ["change", "changed"],
        Action::Delete => ["delete", "deleted"],
    };
    match state {
        State::Planned => format!("would {base}"),
        State::NotDone => format!("did not {base}"),
        State::Done => past.to_owned(),
        State::Failed => format!("failed to {base}"),
        State::Unknown => format!("may or may not have {past}"),
    }
}

fn details(action: &Action) -> String {
    const OPEN: &str = " (everybody may score it)";
    match action {
        Action::Create(service) => {
            let open = if service.auth_mode.as_str() == "disabled" { OPEN } else { "" };
            format!(": {}, {}{open}", service.compute_type, service.auth_mode)
        }
        Action::Change(changes) => {
            let shown = |FieldChange { field, from, to }: &FieldChange| {
                let open = if *field == Field::AuthMode && to == "disabled" { OPEN } else { "" };
                format!("{} {} -> {}{open}", field.as_str(), brief(from), brief(to))
            };
            format!(": {}", changes.iter().map(shown).collect::<Vec<_>>().join("; "))
        }
        Action::Delete => String::new(),
    }
}

/// On one line, since JSON escapes line ends and control characters.
fn brief(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            text.clone()
        }
        other => other.to_string(),
    }
}
