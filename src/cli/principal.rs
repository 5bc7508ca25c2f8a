//! `scoregate principal`: who may do what in a workspace.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Content;
use super::connection::ConnectionArgs;
use super::exit::CliError;
use super::output::{self, items, text};
#[cfg(feature = "workspace")]
use super::reset_owner::ResetOwnerArgs;
use crate::terms::Role;

/// Commands about principals.
#[derive(Debug, Subcommand)]
pub(super) enum PrincipalCommand {
    /// Make a principal; its credential is shown this once only
    Create(CreateArgs),
    /// List principals
    List(ListArgs),
    /// Delete a principal; its credential is refused from then on
    Delete(DeleteArgs),
    /// Replace the owner's credential, with access to the data directory
    #[cfg(feature = "workspace")]
    ResetOwner(ResetOwnerArgs),
}

impl PrincipalCommand {
    /// Carries out what goes over the workspace's REST; `reset-owner` does not.
    ///
    /// # Errors
    /// What the workspace, the way to it or the output has against it.
    pub(super) async fn run(self) -> Result<(), CliError> {
        match self {
            Self::Create(args) => args.run().await,
            Self::List(args) => args.run().await,
            Self::Delete(args) => args.run().await,
            #[cfg(feature = "workspace")]
            Self::ResetOwner(_) => Err(CliError::failed("`reset-owner` is for the data directory only")),
        }
    }
}

/// Flags of `principal create`.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Its name
    name: String,
    /// `reader`, `contributor`, `owner`, or `gate` for the policy feed
    #[arg(long)]
    role: Role,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Flags of `principal list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Flags of `principal delete`.
#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

impl CreateArgs {
    async fn run(self) -> Result<(), CliError> {
        let (client, printer) = self.connection.open().await?;
        let body = json!({ "name": self.name, "role": self.role.as_str() });
        let principal = client.send_own(Method::POST, &["principals"], Content::Json(&body)).await?;
        let fields = ["name", "role", "credential"].map(|member| (member, text(&principal, member)));
        printer.print(&principal, |out| output::fields(out, &fields))
    }
}

impl ListArgs {
    async fn run(self) -> Result<(), CliError> {
        let (client, printer) = self.connection.open().await?;
        let principals = client.get_own(&["principals"]).await?["value"].take();
        let row = |item: &Value| ["name", "role", "createdTime"].map(|member| text(item, member));
        let rows: Vec<_> = items(&principals).iter().map(row).collect();
        printer.print(&principals, |out| output::table(out, ["NAME", "ROLE", "CREATED"], &rows))
    }
}

impl DeleteArgs {
    async fn run(self) -> Result<(), CliError> {
        let (client, printer) = self.connection.open().await?;
        client.send_own(Method::DELETE, &["principals", &self.name], Content::Nothing).await?;
        printer.print(&json!({ "deleted": true }), |out| {
            writeln!(out, "deleted `{}`: its credential is refused from now on", self.name)
        })
    }
}
