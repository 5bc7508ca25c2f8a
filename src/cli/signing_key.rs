//! `scoregate signing-key`: the keys that sign tokens.

use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use super::client::{Client, Content};
use super::connection::ConnectionArgs;
use super::exit::CliError;
use super::output::{self, items, text};
use super::wait::WaitArgs;

/// Between two looks at a key that is about to sign.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// More than the workspace waits after every gate knows a key.
const LONGEST_START: Duration = Duration::from_secs(620);

/// Commands about signing keys.
#[derive(Debug, Subcommand)]
pub(super) enum SigningKeyCommand {
    /// Publish the next key, and wait until it signs; no token is refused for it
    Rotate(RotateArgs),
    /// Withdraw a key that leaked, and wait until every gate refuses its tokens; where it signs, the next one takes over
    Withdraw(WithdrawArgs),
    /// List keys: published to gates, signing, or retired until their last token has expired
    List(ListArgs),
}

impl SigningKeyCommand {
    /// Carries it out.
    ///
    /// # Errors
    /// What the workspace, the way to it or the output has against it; [`CliError::NotEnforced`] if it was done but not
    /// every gate confirmed it.
    pub(super) async fn run(self) -> Result<(), CliError> {
        match self {
            Self::Rotate(args) => args.run().await,
            Self::Withdraw(args) => args.run().await,
            Self::List(args) => args.run().await,
        }
    }
}

/// Flags of `signing-key rotate`.
#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Flags of `signing-key withdraw`.
#[derive(Debug, Args)]
pub(super) struct WithdrawArgs {
    /// Its id, the `kid` of its tokens
    id: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Flags of `signing-key list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
}

impl RotateArgs {
    async fn run(self) -> Result<(), CliError> {
        let (client, printer) = self.connection.open().await?;
        let client = self.wait.apply(client);
        let begun = client.send_own(Method::POST, &["signing-keys"], Content::Nothing).await?;
        let id = key_of(&begun);
        let operation = self.wait.end_of(&client, begun).await?;
        if self.wait.is_wanted() {
            until_it_signs(&client, &id).await?;
        }
        printer.print(&operation, |out| match self.wait.is_wanted() {
            true => writeln!(out, "the signing key `{id}` signs, and every gate knows it"),
            false => writeln!(out, "the signing key `{id}` is published, and signs when every gate knows it"),
        })
    }
}

/// The last segment of the operation's target.
fn key_of(operation: &Value) -> String {
    let location = operation["resourceLocation"].as_str().unwrap_or_default();
    location.rsplit('/').next().unwrap_or_default().to_owned()
}

/// It does not sign before `workspace.enforcement_timeout` is over, nor while a gate that has just connected lacks it.
async fn until_it_signs(client: &Client, id: &str) -> Result<(), CliError> {
    let signs = async {
        loop {
            let keys = client.get_own(&["signing-keys"]).await?;
            let key = items(&keys["value"]).iter().find(|key| key["id"] == id);
            match key.map(|key| text(key, "state")).as_deref() {
                Some("published") => tokio::time::sleep(LOOK_AGAIN).await,
                Some(_) => return Ok(()),
                None => {
                    return Err(CliError::failed(format!("the signing key `{id}` was withdrawn meanwhile")));
                }
            }
        }
    };
    let overdue =
        || CliError::NotEnforced(format!("the signing key `{id}` is published and does not sign yet"));
    tokio::time::timeout(LONGEST_START, signs).await.unwrap_or_else(|_| Err(overdue()))
}

impl WithdrawArgs {
    async fn run(self) -> Result<(), CliError> {
        let (client, printer) = self.connection.open().await?;
        let client = self.wait.apply(client);
        let path = ["signing-keys", self.id.as_str()];
        let begun = client.send_own(Method::DELETE, &path, Content::Nothing).await?;
        let operation = self.wait.end_of(&client, begun).await?;
        let id = self.id;
        printer.print(&operation, |out| match self.wait.is_wanted() {
            true => writeln!(
                out,
                "withdrew the signing key `{id}`: no connected gate accepts its tokens any more"
            ),
            false => writeln!(out, "withdrew the signing key `{id}`: gates are about to refuse its tokens"),
        })
    }
}

impl ListArgs {
    async fn run(self) -> Result<(), CliError> {
        let (client, printer) = self.connection.open().await?;
        let keys = client.get_own(&["signing-keys"]).await?["value"].take();
        let rows: Vec<_> = items(&keys).iter().map(row).collect();
        let header = ["ID", "ALGORITHM", "STATE", "SINCE", "NEXT", "WAITING FOR"];
        printer.print(&keys, |out| output::table(out, header, &rows))
    }
}

fn row(key: &Value) -> [String; 6] {
    let next = match (&key["signsFrom"], &key["droppedFrom"]) {
        (Value::String(time), _) => format!("signs from {time}"),
        (_, Value::String(time)) => format!("dropped at {time}"),
        _ => String::new(),
    };
    let gates: Vec<_> = items(&key["waitingFor"]).iter().filter_map(Value::as_str).collect();
    let [id, algorithm, state, since] = ["id", "algorithm", "state", "since"].map(|name| text(key, name));
    [id, algorithm, state, since, next, gates.join(", ")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_say_what_comes_next() {
        let published = json!({
            "id": "k", "algorithm": "ES256", "state": "published", "since": "2026-01-01T00:00:00Z",
            "signsFrom": "2026-01-02T00:00:00Z", "droppedFrom": null, "waitingFor": ["a", "b"],
        });
        assert_eq!(row(&published)[4..], ["signs from 2026-01-02T00:00:00Z", "a, b"]);
        let retired = json!({ "id": "k", "droppedFrom": "2026-01-02T00:00:00Z", "waitingFor": [] });
        assert_eq!(row(&retired)[4..], ["dropped at 2026-01-02T00:00:00Z", ""]);
    }

    #[test]
    fn the_key_of_an_operation_is_in_its_location() {
        let operation = json!({ "resourceLocation": "http://h/scoregate/v1/signing-keys/abc-_1" });
        assert_eq!(key_of(&operation), "abc-_1");
    }
}
