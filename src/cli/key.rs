//! `scoregate key`: the two keys of a service.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use reqwest::Method;
use scoregate_authz::{ServiceName, Slot};
use serde_json::json;
use zeroize::Zeroizing;

use super::client::{Client, Content};
use super::connection::{ConnectionArgs, read_secret};
use super::error::CliError;
use super::output::{self, Format, text};

/// Keys of a service: show, regenerate
#[derive(Debug, clap::Args)]
pub struct KeyCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show both keys
    Show {
        /// The service
        name: ServiceName,
    },
    /// Replace one key, and wait until every gate refuses the old one; the other key works throughout
    Regenerate {
        /// The service
        name: ServiceName,
        /// Which key
        #[arg(value_enum)]
        slot: SlotArg,
        /// File with the new key, `-` for standard input; random without it
        #[arg(long, value_name = "FILE")]
        value_file: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
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

impl KeyCommand {
    /// Carries it out.
    ///
    /// # Errors
    /// What the workspace, the way to it or the output has against it; [`CliError::NotEnforced`] if a key was replaced
    /// but not every gate confirmed it.
    pub async fn run(self, out: &mut (dyn Write + Send)) -> Result<(), CliError> {
        let client = Client::connect(&self.connection).await?;
        let format = self.connection.output;
        match self.action {
            Action::Show { name } => show(&client, name.as_str(), format, out).await,
            Action::Regenerate { name, slot, value_file } => {
                let value = value_file.as_deref().map(read_value).transpose()?;
                regenerate(&client, name.as_str(), slot.into(), value, format, out).await
            }
        }
    }
}

async fn show(
    client: &Client,
    name: &str,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let keys = client.send(Method::POST, &["services", name, "listkeys"], Content::Nothing).await?;
    match format {
        Format::Json => output::json(out, &keys)?,
        Format::Table => {
            let fields = [("primary", text(&keys, "primaryKey")), ("secondary", text(&keys, "secondaryKey"))];
            output::fields(out, &fields)?;
        }
    }
    Ok(())
}

async fn regenerate(
    client: &Client,
    name: &str,
    slot: Slot,
    value: Option<Zeroizing<String>>,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let key_type = match slot {
        Slot::Primary => "Primary",
        Slot::Secondary => "Secondary",
    };
    let body = json!({ "keyType": key_type, "keyValue": value.as_deref() });
    let path = ["services", name, "regenerateKeys"];
    let operation = client.send(Method::POST, &path, Content::Json(&body)).await?;
    let operation = client.wait(&operation).await?;
    match format {
        Format::Json => output::json(out, &operation)?,
        Format::Table => writeln!(
            out,
            "the {slot} key of `{name}` is new, and no gate admits the old one any more; `scoregate key show {name}` shows it"
        )?,
    }
    Ok(())
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
