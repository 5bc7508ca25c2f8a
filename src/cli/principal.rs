//! `scoregate principal`: who may do what in a workspace.

use std::io::Write;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Content};
use super::connection::ConnectionArgs;
use super::error::CliError;
use super::output::{self, Format, text};
use crate::workspace::Role;

/// Principals, over the workspace's REST.
#[derive(Debug, clap::Subcommand)]
pub enum PrincipalAction {
    /// Make a principal; its credential is shown this once only
    Create {
        /// Its name
        name: String,
        /// What it may do: reader, contributor, owner or gate
        #[arg(long)]
        role: Role,
    },
    /// List principals
    List,
    /// Delete a principal; its credential is refused from then on
    Delete {
        /// Its name
        name: String,
    },
}

impl PrincipalAction {
    /// Carries it out.
    ///
    /// # Errors
    /// What the workspace, the way to it or the output has against it.
    pub async fn run(
        self,
        connection: &ConnectionArgs,
        out: &mut (dyn Write + Send),
    ) -> Result<(), CliError> {
        let client = Client::connect(connection).await?;
        match self {
            Self::Create { name, role } => create(&client, &name, role, connection.output, out).await,
            Self::List => list(&client, connection.output, out).await,
            Self::Delete { name } => delete(&client, &name, connection.output, out).await,
        }
    }
}

async fn create(
    client: &Client,
    name: &str,
    role: Role,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let body = json!({ "name": name, "role": role.as_str() });
    let principal = client.send_own(Method::POST, &["principals"], Content::Json(&body)).await?;
    match format {
        Format::Json => output::json(out, &principal)?,
        Format::Table => {
            let fields = ["name", "role", "credential"].map(|member| (member, text(&principal, member)));
            output::fields(out, &fields)?;
        }
    }
    Ok(())
}

async fn list(client: &Client, format: Format, out: &mut (dyn Write + Send)) -> Result<(), CliError> {
    let principals = client.get_own(&["principals"]).await?["value"].take();
    match format {
        Format::Json => output::json(out, &principals)?,
        Format::Table => {
            let items = principals.as_array().map_or(&[][..], Vec::as_slice);
            let row = |item: &Value| ["name", "role", "createdTime"].map(|member| text(item, member));
            let rows: Vec<_> = items.iter().map(row).collect();
            output::table(out, ["NAME", "ROLE", "CREATED"], &rows)?;
        }
    }
    Ok(())
}

async fn delete(
    client: &Client,
    name: &str,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    client.send_own(Method::DELETE, &["principals", name], Content::Nothing).await?;
    match format {
        Format::Table => writeln!(out, "deleted `{name}`; its credential is refused from now on")?,
        Format::Json => output::json(out, &json!({ "deleted": true }))?,
    }
    Ok(())
}
