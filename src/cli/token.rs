//! `scoregate token`: tokens for services in token mode.

mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use scoregate_authz::ServiceName;
use serde_json::{Value, json};

use super::GlobalArgs;
use super::client::{Client, Content};
use super::connection::ConnectionArgs;
use super::exit::CliError;
use super::output::{self, text};
use super::wait::WaitArgs;

/// Commands about tokens.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Get a token for scoring a service
    Get(GetArgs),
    /// Revoke all tokens of a service, and wait until every gate refuses them
    Revoke(RevokeArgs),
}

impl TokenCommand {
    /// Carries it out.
    ///
    /// # Errors
    /// What the workspace, the way to it or the output has against it.
    pub(super) async fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        match self {
            Self::Get(args) => args.run(global).await,
            Self::Revoke(args) => args.run().await,
        }
    }
}

/// Flags of `token get`.
#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// The service
    name: ServiceName,
    /// How long it is good for, such as `2s` or `30m`; shorter than the workspace's default only
    #[arg(long, value_name = "TIME", value_parser = whole_seconds)]
    expires_in: Option<Duration>,
    /// Keep a fresh token in this file, mode 0600, until a signal ends it: for clients that cannot get one themselves
    #[arg(long, value_name = "FILE", conflicts_with = "expires_in")]
    watch: Option<PathBuf>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Flags of `token revoke`.
#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// The service
    name: ServiceName,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

impl RevokeArgs {
    async fn run(self) -> Result<(), CliError> {
        let (client, printer) = self.connection.open().await?;
        let client = self.wait.apply(client);
        let name = self.name;
        let path = ["services", name.as_str(), "revokeTokens"];
        let begun = client.send_own(Method::POST, &path, Content::Nothing).await?;
        let operation = self.wait.end_of(&client, begun).await?;
        printer.print(&operation, |out| match self.wait.is_wanted() {
            true => writeln!(out, "revoked the tokens of `{name}`: no connected gate accepts them any more"),
            false => writeln!(out, "revoked the tokens of `{name}`: gates are about to refuse them"),
        })
    }
}

impl GetArgs {
    async fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        if let Some(file) = self.watch {
            return watch::run(global, self.name, file, self.connection).await;
        }
        let (client, printer) = self.connection.open().await?;
        let body = self.expires_in.map(|time| json!({ "expiresIn": time.as_secs() }));
        let content = body.as_ref().map_or(Content::Nothing, Content::Json);
        let token = issue(&client, &self.name, content).await?;
        let fields = [
            ("token", text(&token, "accessToken")),
            ("expires", time(&token["expiryOn"])),
            ("refresh after", time(&token["refreshAfter"])),
        ];
        printer.print(&token, |out| output::fields(out, &fields))
    }
}

async fn issue(client: &Client, name: &ServiceName, content: Content<'_>) -> Result<Value, CliError> {
    client.send(Method::POST, &["services", name.as_str(), "token"], content).await
}

fn time(seconds: &Value) -> String {
    let time = seconds.as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(String::new, |time| time.to_string())
}

fn whole_seconds(text: &str) -> Result<Duration, String> {
    let time: Option<SignedDuration> = text.parse().ok();
    match time.and_then(|time| Duration::try_from(time).ok()) {
        Some(time) if time.as_secs() > 0 && time.subsec_nanos() == 0 => Ok(time),
        _ => Err("a time is written as `2s`, `30m` or `1h`, in whole seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_reads_times() {
        assert_eq!(whole_seconds("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(whole_seconds("1h 30m"), Ok(Duration::from_secs(5400)));
        for bad in ["", "2", "0s", "-1s", "500ms", "soon"] {
            assert!(whole_seconds(bad).is_err(), "{bad}");
        }
    }
}
