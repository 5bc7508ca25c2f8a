//! Whether a command that changes something waits until the gates enforce it.

use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use serde_json::Value;

use super::client::Client;
use super::exit::CliError;
use super::output::{self, items, text};

/// Flags of every command that changes what gates enforce.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Enforcement")]
pub(super) struct WaitArgs {
    /// Return when every connected gate enforces it, or with exit code 4 and the names of those that do not: the default
    #[arg(long, conflicts_with = "no_wait")]
    wait: bool,
    /// Return as soon as the workspace has stored it
    #[arg(long)]
    no_wait: bool,
    /// For how long to wait for the gates, such as `30s`, 10m at most [default: the workspace's `enforcement_timeout`]
    #[arg(long, value_name = "TIME", value_parser = patience, conflicts_with = "no_wait")]
    timeout: Option<Duration>,
}

impl WaitArgs {
    /// The client, asking for as much patience as is wanted.
    #[must_use]
    pub(super) fn apply(&self, client: Client) -> Client {
        client.with_patience(self.timeout)
    }

    /// Whether it is waited for.
    #[must_use]
    pub(super) fn is_wanted(&self) -> bool {
        !self.no_wait
    }

    /// The operation at its end; as it is, if nobody wants to wait for that.
    ///
    /// # Errors
    /// [`CliError::NotEnforced`], with the workspace's words, if not every gate confirmed it in time.
    pub(super) async fn end_of(&self, client: &Client, operation: Value) -> Result<Value, CliError> {
        if !self.is_wanted() {
            return Ok(operation);
        }
        let ended = client.wait(&operation).await?;
        warn_of_absent(client).await;
        Ok(ended)
    }
}

/// Only connected gates were waited for: says so where others may decide as before. Where that cannot be told, nothing is
/// said.
pub(super) async fn warn_of_absent(client: &Client) {
    let gates = client.get_own(&["gates"]).await.unwrap_or_default()["value"].take();
    let names: Vec<_> =
        items(&gates).iter().filter(|gate| is_absent(gate)).map(|gate| text(gate, "name")).collect();
    if !names.is_empty() {
        output::hint(&format!(
            "warning: not connected, and deciding as before until they are: {} (`scoregate gate list`)",
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        ));
    }
}

/// Whether it disconnected without the latest policy.
fn is_absent(gate: &Value) -> bool {
    gate["state"] == "away" && gate["lagRevisions"] != 0
}

fn patience(text: &str) -> Result<Duration, String> {
    let time = text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    match time {
        Some(time) if (1..=600).contains(&time.as_secs()) && time.subsec_nanos() == 0 => Ok(time),
        _ => Err("a time is written as `30s` or `2m`: whole seconds, 10 minutes at most".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_is_who_is_away_without_the_latest_policy() {
        let gate = |state: &str, lag: Value| json!({ "name": "gate-1", "state": state, "lagRevisions": lag });
        assert!(is_absent(&gate("away", json!(1))));
        assert!(is_absent(&gate("away", Value::Null)), "it has nothing of this epoch");
        assert!(!is_absent(&gate("away", json!(0))));
        assert!(!is_absent(&gate("connected", json!(1))), "it was waited for");
    }

    #[test]
    fn patience_is_what_a_workspace_takes() {
        assert_eq!(patience("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(patience("10m"), Ok(Duration::from_secs(600)));
        for bad in ["", "0s", "30", "500ms", "10m 1s", "-5s"] {
            assert!(patience(bad).is_err(), "{bad}");
        }
    }
}
