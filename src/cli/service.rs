//! `scoregate service`: services of a workspace.

use std::io::{self, Write};

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use jiff::SignedDuration;
use reqwest::Method;
use scoregate_authz::{AuthMode, ComputeType, MAX_SHADOW, ServiceName};
use serde_json::{Map, Value, json};

use super::client::{Client, Content, next_query};
use super::connection::ConnectionArgs;
use super::exit::CliError;
use super::output::{self, items, text};
use super::wait::{WaitArgs, warn_of_absent};

/// The member by which a shadow is begun and ended.
const SHADOW: &str = "/scoregate/shadowForSeconds";
/// What shadow means, for people.
const LET_THROUGH: &str = "requests without a good credential are let through";

/// Commands about services.
#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    /// Make a service
    Create(CreateArgs),
    /// List services
    List(ListArgs),
    /// Show a service
    Show(ShowArgs),
    /// Change a service; what is not mentioned stays
    Update(UpdateArgs),
    /// Delete a service, and wait until no gate accepts its keys and tokens
    Delete(DeleteArgs),
    /// Show who was given its keys and tokens, how often and when last
    Issues(IssuesArgs),
}

impl ServiceCommand {
    /// Carries it out.
    ///
    /// # Errors
    /// What the workspace, the way to it or the output has against it.
    pub(super) async fn run(self) -> Result<(), CliError> {
        match self {
            Self::Create(args) => args.run().await,
            Self::List(args) => args.run().await,
            Self::Show(args) => args.run().await,
            Self::Update(args) => args.run().await,
            Self::Delete(args) => args.run().await,
            Self::Issues(args) => args.run().await,
        }
    }
}

/// Flags of `service create`.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// 3 to 32 lower-case letters, digits and dashes
    name: ServiceName,
    /// Where its model runs
    #[arg(long, value_name = "AKS|ACI", default_value = "AKS")]
    compute_type: ComputeType,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Flags of `service update`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true)
    .args(["auth", "description", "tag", "host", "path_prefix", "shadow_for", "no_shadow"]))]
pub(super) struct UpdateArgs {
    /// Its name
    name: ServiceName,
    #[command(flatten)]
    settings: SettingsArgs,
    /// End its shadow: refuse what is not good from now on
    #[arg(long, conflicts_with = "shadow_for")]
    no_shadow: bool,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// What both `create` and `update` set. A list that is given is the whole list.
#[derive(Debug, Args)]
struct SettingsArgs {
    /// How callers prove themselves; a new service has keys on AKS and is open on ACI
    #[arg(long, value_enum)]
    auth: Option<Auth>,
    /// Free text; empty for none
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A tag; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = tag)]
    tag: Vec<(String, String)>,
    /// A host under which gates find it; may be repeated
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// A path prefix under which gates find it; may be repeated
    #[arg(long, value_name = "PATH")]
    path_prefix: Vec<String>,
    /// Put it in shadow: for this long from now on gates decide and count as always, but let refused requests through; at
    /// most `7d`
    #[arg(long, value_name = "DURATION", value_parser = shadow_length)]
    shadow_for: Option<u64>,
}

/// An authentication mode as a flag.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Auth {
    /// With the primary or the secondary key
    Key,
    /// With a token of the workspace
    Token,
    /// Not at all: everybody may score
    Disabled,
}

/// Flags of `service list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only those of this type
    #[arg(long, value_name = "AKS|ACI")]
    compute_type: Option<ComputeType>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Flags of `service show`.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Its name
    name: ServiceName,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Flags of `service delete`.
#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// Its name
    name: ServiceName,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Flags of `service issues`.
#[derive(Debug, Args)]
pub(super) struct IssuesArgs {
    /// Its name
    name: ServiceName,
    #[command(flatten)]
    connection: ConnectionArgs,
}

impl CreateArgs {
    async fn run(self) -> Result<(), CliError> {
        let (client, printer) = self.connection.open().await?;
        let (name, wait) = (self.name.clone(), self.wait.clone());
        let client = wait.apply(client);
        let begun = client.send(Method::POST, &["services"], Content::Json(&self.body())).await?;
        wait.end_of(&client, begun).await?;
        let service = client.get(&["services", name.as_str()]).await?;
        printer.print(&service, |out| write_service(out, &service))
    }

    fn body(self) -> Value {
        let settings = self.settings;
        let mut body = json!({
            "name": self.name.as_str(),
            "computeType": self.compute_type.as_str(),
            "description": settings.description.filter(|text| !text.is_empty()),
            "kvTags": tags(settings.tag),
            "scoregate": { "hosts": settings.host, "pathPrefixes": settings.path_prefix },
        });
        if let Some((key, token)) = settings.auth.map(Auth::flags) {
            body["authEnabled"] = key.into();
            body["aadAuthEnabled"] = token.into();
        }
        if let Some(seconds) = settings.shadow_for {
            body["scoregate"]["shadowForSeconds"] = seconds.into();
        }
        body
    }
}

impl UpdateArgs {
    async fn run(self) -> Result<(), CliError> {
        let patch = self.settings.into_patch(self.no_shadow);
        let (client, printer) = self.connection.open().await?;
        let client = self.wait.apply(client);
        let path = ["services", self.name.as_str()];
        let mut service = client.send(Method::PATCH, &path, Content::JsonPatch(&patch)).await?;
        if service.get("operationType").is_some() {
            self.wait.end_of(&client, service).await?;
            service = client.get(&path).await?;
        } else if self.wait.is_wanted() {
            warn_of_absent(&client).await;
        }
        printer.print(&service, |out| write_service(out, &service))
    }
}

impl SettingsArgs {
    fn into_patch(self, no_shadow: bool) -> Value {
        let mut changes: Vec<(&str, Value)> = Vec::new();
        if let Some((key, token)) = self.auth.map(Auth::flags) {
            changes.extend([("/authEnabled", key.into()), ("/aadAuthEnabled", token.into())]);
        }
        if let Some(text) = self.description {
            changes.push(("/description", Some(text).filter(|text| !text.is_empty()).into()));
        }
        if !self.tag.is_empty() {
            changes.push(("/kvTags", tags(self.tag)));
        }
        if !self.host.is_empty() {
            changes.push(("/scoregate/hosts", self.host.into()));
        }
        if !self.path_prefix.is_empty() {
            changes.push(("/scoregate/pathPrefixes", self.path_prefix.into()));
        }
        if no_shadow || self.shadow_for.is_some() {
            changes.push((SHADOW, self.shadow_for.into()));
        }
        let operation = |(path, value)| json!({ "op": "replace", "path": path, "value": value });
        changes.into_iter().map(operation).collect()
    }
}

impl Auth {
    /// `authEnabled` and `aadAuthEnabled`.
    fn flags(self) -> (bool, bool) {
        match self {
            Self::Key => (true, false),
            Self::Token => (false, true),
            Self::Disabled => (false, false),
        }
    }
}

impl ListArgs {
    async fn run(self) -> Result<(), CliError> {
        let (client, printer) = self.connection.open().await?;
        let services = all_services(&client, self.compute_type).await?;
        let row = |service: &Value| {
            [
                text(service, "name"),
                text(service, "computeType"),
                mode_and_shadow(service),
                text(service, "updatedTime"),
                text(service, "scoringUri"),
            ]
        };
        let rows: Vec<_> = services.iter().map(row).collect();
        let header = ["NAME", "TYPE", "AUTH", "UPDATED", "SCORING URI"];
        printer.print(&services.into(), |out| output::table(out, header, &rows))
    }
}

impl ShowArgs {
    async fn run(self) -> Result<(), CliError> {
        let (client, printer) = self.connection.open().await?;
        let service = client.get(&["services", self.name.as_str()]).await?;
        printer.print(&service, |out| write_service(out, &service))
    }
}

impl DeleteArgs {
    async fn run(self) -> Result<(), CliError> {
        let (client, printer) = self.connection.open().await?;
        let client = self.wait.apply(client);
        let name = self.name;
        let operation = client.send(Method::DELETE, &["services", name.as_str()], Content::Nothing).await?;
        let existed = !operation.is_null();
        if existed {
            self.wait.end_of(&client, operation).await?;
        }
        printer.print(&json!({ "deleted": existed }), |out| match (existed, self.wait.is_wanted()) {
            (true, true) => {
                writeln!(out, "deleted `{name}`: no connected gate accepts its keys or tokens any more")
            }
            (true, false) => writeln!(out, "deleted `{name}`: gates are about to refuse its keys and tokens"),
            (false, _) => writeln!(out, "there was no service `{name}`"),
        })
    }
}

impl IssuesArgs {
    async fn run(self) -> Result<(), CliError> {
        let (client, printer) = self.connection.open().await?;
        let issues = client.get_own(&["services", self.name.as_str(), "issues"]).await?;
        let since = text(&issues, "since");
        let row = |item: &Value| {
            let (keys, tokens) = (&item["keys"], &item["tokens"]);
            [
                text(item, "principal"),
                text(keys, "count"),
                text(keys, "lastTime"),
                text(tokens, "count"),
                text(tokens, "lastTime"),
            ]
        };
        let rows: Vec<_> = items(&issues["value"]).iter().map(row).collect();
        printer.print(&issues, |out| {
            writeln!(out, "since {since}:")?;
            output::table(out, ["PRINCIPAL", "KEYS", "LAST KEYS", "TOKENS", "LAST TOKEN"], &rows)
        })
    }
}

/// All pages.
pub(super) async fn all_services(
    client: &Client,
    compute_type: Option<ComputeType>,
) -> Result<Vec<Value>, CliError> {
    let mut query = vec![("count".to_owned(), "500".to_owned())];
    query.extend(compute_type.map(|compute| ("computeType".to_owned(), compute.to_string())));
    let mut services = Vec::new();
    loop {
        let mut page = client.get_query(&["services"], &query).await?;
        if let Value::Array(items) = page["value"].take() {
            services.extend(items);
        }
        match next_query(&page) {
            None => return Ok(services),
            Some(next) => query = next,
        }
    }
}

fn write_service(out: &mut dyn Write, service: &Value) -> io::Result<()> {
    let list = |list: &Value| items(list).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    let fields = [
        ("name", text(service, "name")),
        ("type", text(service, "computeType")),
        ("auth", mode(service).to_string()),
        ("shadow", shadow(service).map(|until| format!("until {until}: {LET_THROUGH}")).unwrap_or_default()),
        ("description", text(service, "description")),
        ("tags", pairs(&service["kvTags"])),
        ("hosts", list(&service["scoregate"]["hosts"])),
        ("path prefixes", list(&service["scoregate"]["pathPrefixes"])),
        ("created", text(service, "createdTime")),
        ("updated", text(service, "updatedTime")),
        ("scoring uri", text(service, "scoringUri")),
    ];
    let said: Vec<_> = fields.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    output::fields(out, &said)
}

fn mode(service: &Value) -> AuthMode {
    match (&service["authEnabled"], &service["aadAuthEnabled"]) {
        (Value::Bool(true), _) => AuthMode::Key,
        (_, Value::Bool(true)) => AuthMode::Token,
        _ => AuthMode::Disabled,
    }
}

fn shadow(service: &Value) -> Option<&str> {
    service["scoregate"]["shadowUntil"].as_str()
}

fn mode_and_shadow(service: &Value) -> String {
    let mode = mode(service);
    shadow(service).map_or_else(|| mode.to_string(), |until| format!("{mode}, IN SHADOW until {until}"))
}

/// Whole seconds.
fn shadow_length(text: &str) -> Result<u64, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok());
    let length = match days {
        Some(days) => days.checked_mul(24 * 3600).map(SignedDuration::from_secs),
        None => text.parse::<SignedDuration>().ok(),
    };
    let seconds = length.and_then(|length| u64::try_from(length.as_secs()).ok());
    let wrong = || "a duration is written as `90m`, `24h` or `7d`, and is 7 days at most".to_owned();
    seconds.filter(|seconds| (1..=MAX_SHADOW.as_secs()).contains(seconds)).ok_or_else(wrong)
}

fn pairs(tags: &Value) -> String {
    let pair = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
    tags.as_object().map(|tags| tags.iter().map(pair).collect::<Vec<_>>().join(", ")).unwrap_or_default()
}

fn tags(tags: Vec<(String, String)>) -> Value {
    let tags = tags.into_iter().map(|(key, value)| (key, Value::from(value)));
    Value::Object(tags.collect::<Map<_, _>>())
}

fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a tag is written as `KEY=VALUE`".to_owned()),
    }
}
