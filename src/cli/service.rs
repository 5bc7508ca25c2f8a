//! `scoregate service`: services of a workspace.

use std::io::Write;

use reqwest::Method;
use scoregate_authz::{AuthMode, ComputeType, ServiceName};
use serde_json::{Map, Value, json};

use super::client::{Client, Content};
use super::connection::ConnectionArgs;
use super::error::CliError;
use super::output::{self, Format, text};

/// Services: create, list, show, update, delete
#[derive(Debug, clap::Args)]
pub struct ServiceCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a service
    Create(CreateArgs),
    /// List services
    List {
        /// Only those of this type
        #[arg(long, value_name = "AKS|ACI")]
        compute_type: Option<ComputeType>,
    },
    /// Show a service
    Show {
        /// Its name
        name: ServiceName,
    },
    /// Change a service; what is not mentioned stays
    Update(UpdateArgs),
    /// Delete a service, its keys and its tokens
    Delete {
        /// Its name
        name: ServiceName,
    },
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// 3 to 32 lower-case letters, digits and dashes
    name: ServiceName,
    /// Where its model runs
    #[arg(long, value_name = "AKS|ACI", default_value = "AKS")]
    compute_type: ComputeType,
    /// How callers prove themselves; by default with a key on AKS, not at all on ACI
    #[arg(long, value_enum)]
    auth: Option<Auth>,
    #[command(flatten)]
    description: DescriptionArgs,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true, args = ["auth", "description", "tag", "host", "path_prefix"])]
struct UpdateArgs {
    /// Its name
    name: ServiceName,
    /// How callers prove themselves
    #[arg(long, value_enum)]
    auth: Option<Auth>,
    #[command(flatten)]
    description: DescriptionArgs,
}

/// What both `create` and `update` set. A list that is given is the whole list.
#[derive(Debug, clap::Args)]
struct DescriptionArgs {
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
}

/// An authentication mode as a flag.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Auth {
    /// With the primary or the secondary key
    Key,
    /// With a token of the workspace
    Token,
    /// Not at all: everybody may score
    Disabled,
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

impl ServiceCommand {
    /// Carries it out.
    ///
    /// # Errors
    /// What the workspace, the way to it or the output has against it.
    pub async fn run(self, out: &mut (dyn Write + Send)) -> Result<(), CliError> {
        let client = Client::connect(&self.connection).await?;
        let format = self.connection.output;
        match self.action {
            Action::Create(arguments) => create(&client, arguments, format, out).await,
            Action::List { compute_type } => list(&client, compute_type, format, out).await,
            Action::Show { name } => show(&client, name.as_str(), format, out).await,
            Action::Update(arguments) => update(&client, arguments, format, out).await,
            Action::Delete { name } => delete(&client, name.as_str(), format, out).await,
        }
    }
}

async fn create(
    client: &Client,
    arguments: CreateArgs,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let CreateArgs { name, compute_type, auth, description } = arguments;
    let mut body = json!({
        "name": name.as_str(),
        "computeType": compute_type.as_str(),
        "description": description.description.filter(|text| !text.is_empty()),
        "kvTags": tags(description.tag),
        "scoregate": { "hosts": description.host, "pathPrefixes": description.path_prefix },
    });
    if let Some((key, token)) = auth.map(Auth::flags) {
        body["authEnabled"] = key.into();
        body["aadAuthEnabled"] = token.into();
    }
    client.send(Method::POST, &["services"], Content::Json(&body)).await?;
    show(client, name.as_str(), format, out).await
}

async fn update(
    client: &Client,
    arguments: UpdateArgs,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let name = arguments.name.clone();
    let service = client
        .send(Method::PATCH, &["services", name.as_str()], Content::JsonPatch(&patch(arguments)))
        .await?;
    write_service(&service, format, out)
}

fn patch(arguments: UpdateArgs) -> Value {
    let UpdateArgs { auth, description, .. } = arguments;
    let mut changes: Vec<(&str, Value)> = Vec::new();
    if let Some((key, token)) = auth.map(Auth::flags) {
        changes.extend([("/authEnabled", key.into()), ("/aadAuthEnabled", token.into())]);
    }
    if let Some(text) = description.description {
        changes.push(("/description", Some(text).filter(|text| !text.is_empty()).into()));
    }
    if !description.tag.is_empty() {
        changes.push(("/kvTags", tags(description.tag)));
    }
    if !description.host.is_empty() {
        changes.push(("/scoregate/hosts", description.host.into()));
    }
    if !description.path_prefix.is_empty() {
        changes.push(("/scoregate/pathPrefixes", description.path_prefix.into()));
    }
    let operation = |(path, value)| json!({ "op": "replace", "path": path, "value": value });
    changes.into_iter().map(operation).collect()
}

async fn show(
    client: &Client,
    name: &str,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    write_service(&client.get(&["services", name]).await?, format, out)
}

async fn delete(
    client: &Client,
    name: &str,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let operation = client.send(Method::DELETE, &["services", name], Content::Nothing).await?;
    let message = match &operation {
        Value::Null => format!("there was no service `{name}`"),
        operation => {
            client.wait(operation).await?;
            format!("deleted `{name}`; no gate admits its keys or tokens any more")
        }
    };
    match format {
        Format::Table => writeln!(out, "{message}")?,
        Format::Json => output::json(out, &json!({ "deleted": !operation.is_null() }))?,
    }
    Ok(())
}

async fn list(
    client: &Client,
    compute_type: Option<ComputeType>,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let services = all_services(client, compute_type).await?;
    match format {
        Format::Json => output::json(out, &services.into())?,
        Format::Table => {
            let row = |service: &Value| {
                [
                    text(service, "name"),
                    text(service, "computeType"),
                    mode(service).to_string(),
                    text(service, "updatedTime"),
                    text(service, "scoringUri"),
                ]
            };
            let rows: Vec<_> = services.iter().map(row).collect();
            output::table(out, ["NAME", "TYPE", "AUTH", "UPDATED", "SCORING URI"], &rows)?;
        }
    }
    Ok(())
}

/// All pages. Of a next link only the query is used: it names the workspace's public URL, which may not be the one by
/// which it was reached, and the credential goes nowhere else.
async fn all_services(client: &Client, compute_type: Option<ComputeType>) -> Result<Vec<Value>, CliError> {
    let mut query = vec![("count".to_owned(), "500".to_owned())];
    query.extend(compute_type.map(|compute| ("computeType".to_owned(), compute.to_string())));
    let mut services = Vec::new();
    loop {
        let mut page = client.get_query(&["services"], &query).await?;
        if let Value::Array(items) = page["value"].take() {
            services.extend(items);
        }
        match page["nextLink"].as_str().and_then(|link| link.split_once('?')) {
            None => return Ok(services),
            Some((_, next)) => {
                query = form_urlencoded::parse(next.as_bytes()).into_owned().collect();
            }
        }
    }
}

fn write_service(service: &Value, format: Format, out: &mut dyn Write) -> Result<(), CliError> {
    if format == Format::Json {
        return Ok(output::json(out, service)?);
    }
    let list = |value: &Value| {
        let items = value.as_array().map_or(&[][..], Vec::as_slice);
        items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let fields = [
        ("name", text(service, "name")),
        ("type", text(service, "computeType")),
        ("auth", mode(service).to_string()),
        ("description", text(service, "description")),
        ("tags", pairs(&service["kvTags"])),
        ("hosts", list(&service["scoregate"]["hosts"])),
        ("path prefixes", list(&service["scoregate"]["pathPrefixes"])),
        ("created", text(service, "createdTime")),
        ("updated", text(service, "updatedTime")),
        ("scoring uri", text(service, "scoringUri")),
    ];
    let said: Vec<_> = fields.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    Ok(output::fields(out, &said)?)
}

fn mode(service: &Value) -> AuthMode {
    match (&service["authEnabled"], &service["aadAuthEnabled"]) {
        (Value::Bool(true), _) => AuthMode::Key,
        (_, Value::Bool(true)) => AuthMode::Token,
        _ => AuthMode::Disabled,
    }
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
