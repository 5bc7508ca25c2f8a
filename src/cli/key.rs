//! `scoregate key`: the two keys of a service.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use scoregate_authz::{Pepper, Peppers, PlainKey, ServiceName, ServiceUid, Slot};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::client::{Client, Content};
use super::connection::{ConnectionArgs, read_secret};
use super::exit::CliError;
use super::output::{self, items, say, text};
use super::wait::WaitArgs;
use crate::config;
use crate::policy_file::Digest;

/// Commands about keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Show both keys
    Show(ShowArgs),
    /// Tell of each key whether it is in use, how often it was and when last; not the keys themselves
    List(ListArgs),
    /// Replace one key, and wait until every gate refuses the old one; the other key works throughout
    Regenerate(RegenerateArgs),
    /// Make the entry of a policy file from a key on standard input; no workspace is asked
    Hash(HashArgs),
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
            Self::List(args) => args.run().await,
            Self::Regenerate(args) => args.run().await,
            Self::Hash(args) => args.run(),
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

/// Flags of `key list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
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

/// Flags of `key hash`.
#[derive(Debug, Args)]
pub(super) struct HashArgs {
    /// The service's uid; in a policy file its name, unless the file says another
    uid: ServiceUid,
    /// File with the pepper, which the gate needs too
    #[arg(long, value_name = "FILE")]
    pepper_file: PathBuf,
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

impl ListArgs {
    async fn run(self) -> Result<(), CliError> {
        let (client, printer) = self.connection.open().await?;
        let list = client.get_own(&["services", self.name.as_str(), "uses"]).await?;
        let rows: Vec<_> = Use::all(&list).iter().map(Use::row).collect();
        printer
            .print(&list, |out| output::table(out, ["CREDENTIAL", "IN USE", "LAST USE", "USES"], &rows))?;
        if printer.is_for_people() {
            output::hint("gates report once a minute: what was used since is not in it");
        }
        Ok(())
    }
}

/// What was used within this time is in use.
const IN_USE: SignedDuration = SignedDuration::from_hours(1);

/// Uses of a credential.
struct Use {
    credential: String,
    count: u64,
    /// When last, and how long ago that was.
    last: Option<(Timestamp, SignedDuration)>,
}

impl Use {
    fn all(list: &Value) -> Vec<Self> {
        let time = |text: &Value| text.as_str().and_then(|text| text.parse::<Timestamp>().ok());
        let as_of = time(&list["asOf"]).unwrap_or_default();
        let read = |item: &Value| Self {
            credential: text(item, "credential"),
            count: item["count"].as_u64().unwrap_or_default(),
            last: time(&item["lastTime"]).map(|last| (last, as_of.duration_since(last))),
        };
        items(&list["value"]).iter().map(read).collect()
    }

    fn is_in_use(&self) -> bool {
        self.last.is_some_and(|(_, ago)| ago <= IN_USE)
    }

    fn row(&self) -> [String; 4] {
        let last =
            self.last.map_or_else(|| "never".to_owned(), |(last, ago)| format!("{last} ({ago:#} ago)"));
        let in_use = if self.is_in_use() { "yes" } else { "no" };
        [self.credential.clone(), in_use.to_owned(), last, self.count.to_string()]
    }
}

/// Says so if the key that is to be replaced is still in use. Where that cannot be told, nothing is said.
async fn warn_if_in_use(client: &Client, name: &ServiceName, slot: Slot) {
    let list = client.get_own(&["services", name.as_str(), "uses"]).await.unwrap_or_default();
    let uses = Use::all(&list);
    let found = uses.iter().find(|used| used.credential == slot.as_str() && used.is_in_use());
    if let Some(Use { count, last: Some((_, ago)), .. }) = found {
        output::hint(&format!(
            "warning: the old {slot} key of `{name}` was still in use {ago:#} ago ({count} times since it was made): \
             whoever has it gets 401 from now on"
        ));
    }
}

impl RegenerateArgs {
    async fn run(self) -> Result<(), CliError> {
        let value = self.value_file.as_deref().map(read_value).transpose()?;
        let (client, printer) = self.connection.open().await?;
        let client = self.wait.apply(client);
        let (name, slot) = (self.name, Slot::from(self.slot));
        warn_if_in_use(&client, &name, slot).await;
        let body = json!({ "keyType": slot.as_str(), "keyValue": value.as_deref() });
        let path = ["services", name.as_str(), "regenerateKeys"];
        let begun = client.send(Method::POST, &path, Content::Json(&body)).await?;
        let ended = self.wait.end_of(&client, begun).await?;
        let effect = match self.wait.is_wanted() {
            true => "no connected gate accepts the old one any more",
            false => "gates are about to refuse the old one",
        };
        printer.print(&ended, |out| {
            writeln!(out, "regenerated the {slot} key of `{name}`: {effect}")?;
            writeln!(out, "show it with: scoregate key show {name}")
        })
    }
}

impl HashArgs {
    fn run(self) -> Result<(), CliError> {
        let pepper = pepper(&self.pepper_file)?;
        let text = read_value(Path::new("-"))?;
        let refused = |rule| CliError::failed(format!("what standard input holds is no key: {rule}"));
        let key = PlainKey::choose(&text).map_err(refused)?;
        let entry = Digest::new(pepper.digest(&self.uid, &key).as_bytes(), pepper.id());
        say(&entry.to_string());
        Ok(())
    }
}

fn pepper(path: &Path) -> Result<Pepper, CliError> {
    config::pepper_file(path).map_err(|problem| CliError::failed(problem.to_string()))
}

/// The peppers of files; `None` where there is no file.
///
/// # Errors
/// A file cannot be read, or holds no pepper.
pub(super) fn peppers(paths: &[PathBuf]) -> Result<Option<Peppers>, CliError> {
    let all: Vec<_> = paths.iter().map(|path| pepper(path)).collect::<Result<_, _>>()?;
    Ok(Peppers::new(all).ok())
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
