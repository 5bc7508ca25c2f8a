//! `scoregate token`: tokens for services in token mode.

use std::io::Write;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use scoregate_authz::ServiceName;
use serde_json::{Value, json};

use super::client::{Client, Content};
use super::connection::ConnectionArgs;
use super::error::CliError;
use super::output::{self, Format, text};

/// Tokens of a service: get
#[derive(Debug, clap::Args)]
pub struct TokenCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Get a token for scoring a service
    Get {
        /// The service
        name: ServiceName,
        /// For how long it is to be good, such as `2s` or `30m`; shorter than the workspace's default only
        #[arg(long, value_name = "TIME", value_parser = whole_seconds)]
        expires_in: Option<Duration>,
    },
}

impl TokenCommand {
    /// Carries it out.
    ///
    /// # Errors
    /// What the workspace, the way to it or the output has against it.
    pub async fn run(self, out: &mut (dyn Write + Send)) -> Result<(), CliError> {
        let client = Client::connect(&self.connection).await?;
        let Action::Get { name, expires_in } = self.action;
        let body = expires_in.map(|time| json!({ "expiresIn": time.as_secs() }));
        let content = body.as_ref().map_or(Content::Nothing, Content::Json);
        let token = client.send(Method::POST, &["services", name.as_str(), "token"], content).await?;
        write_token(&token, self.connection.output, out)
    }
}

fn write_token(token: &Value, format: Format, out: &mut dyn Write) -> Result<(), CliError> {
    let time = |member: &str| {
        let seconds = token[member].as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok());
        seconds.map_or_else(String::new, |time| time.to_string())
    };
    match format {
        Format::Json => output::json(out, token)?,
        Format::Table => {
            let fields = [
                ("token", text(token, "accessToken")),
                ("expires", time("expiryOn")),
                ("refresh after", time("refreshAfter")),
            ];
            output::fields(out, &fields)?;
        }
    }
    Ok(())
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
