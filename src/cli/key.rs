//! `scoregate key`: the two keys of a service.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use scoregate_authz::{ServiceName, Slot};
use serde_json::json;
use zeroize::Zeroizing;

use super::client::Content;
use super::connection::{ConnectionArgs, read_secret};
use super::exit::CliError;
use super::output::{self, text};
use super::wait::WaitArgs;

/// Commands about keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Show both keys
    Show(ShowArgs),
    /// Replace one key, and wait until every gate refuses the old one; the other key works throughout
    Regenerate(RegenerateArgs),
}

impl KeyCommand {
    /// Carries it out.
    ///
    /// # Errors
    /// What the workspace, the way to it or the output has against it; [`CliError::NotEnforced`] if a key was replaced
    /// but not every gate confirmed it.
    pub(super) async fn run(self) -> Result<(), CliError> {
        match self {
            Self::Show(args) => args.run().await,
            Self::Regenerate(args) => args.run().await,
        }
    }
}

/// Flags of `key show`.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The service
    name: ServiceName,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Flags of `key regenerate`.
#[derive(Debug, Args)]
pub(super) struct RegenerateArgs {
    /// The service
    name: ServiceName,
    /// Which key
    #[arg(value_enum)]
    slot: SlotArg,
    /// File with the new key, `-` for standard input; random without it
    #[arg(long, value_name = "FILE")]
    value_file: Option<PathBuf>,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SlotArg {
    /// The primary key
    Primary,
    /// The secondary key
    Secondary,
}

impl From<SlotArg> for Slot {
    fn from(argument: SlotArg) -> Self {
        match argument {
            SlotArg::Primary => Self::Primary,
            SlotArg::Secondary => Self::Secondary,
        }
    }
}

impl ShowArgs {
    async fn run(self) -> Result<(), CliError> {
        let (client, printer) = self.connection.open().await?;
        let path = ["services", self.name.as_str(), "listkeys"];
        let keys = client.send(Method::POST, &path, Content::Nothing).await?;
        let fields = [("primary", text(&keys, "primaryKey")), ("secondary", text(&keys, "secondaryKey"))];
        printer.print(&keys, |out| output::fields(out, &fields))
    }
}

impl RegenerateArgs {
    async fn run(self) -> Result<(), CliError> {
        let value = self.value_file.as_deref().map(read_value).transpose()?;
        let (client, printer) = self.connection.open().await?;
        let client = self.wait.apply(client);
        let (name, slot) = (self.name, Slot::from(self.slot));
        let body = json!({ "keyType": slot.as_str(), "keyValue": value.as_deref() });
        let path = ["services", name.as_str(), "regenerateKeys"];
        let begun = client.send(Method::POST, &path, Content::Json(&body)).await?;
        let ended = self.wait.end_of(&client, begun).await?;
        let effect = match self.wait.is_wanted() {
            true => "no gate accepts the old one any more",
            false => "gates are about to refuse the old one",
        };
        printer.print(&ended, |out| {
            writeln!(out, "regenerated the {slot} key of `{name}`: {effect}")?;
            writeln!(out, "show it with: scoregate key show {name}")
        })
    }
}

/// The new key, without the line break at its end.
fn read_value(path: &Path) -> Result<Zeroizing<String>, CliError> {
    let text = if path == Path::new("-") { read_standard_input()? } else { read_secret(path)? };
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn read_standard_input() -> Result<Zeroizing<String>, CliError> {
    let mut text = Zeroizing::new(String::new());
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|source| CliError::ReadFile { path: "standard input".into(), source })?;
    Ok(text)
}
