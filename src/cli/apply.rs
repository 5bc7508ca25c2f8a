//! `scoregate apply` and `scoregate diff`: the services of a workspace as files say them.

mod plan;
mod progress;

use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use scoregate_authz::AuthMode;
use serde_json::{Value, json};

pub(super) use self::plan::Present;
use self::plan::{Action, Field, FieldChange, Plan, Step};
use self::progress::Progress;
use super::client::{Client, Content};
use super::connection::ConnectionArgs;
use super::exit::CliError;
use super::output::Printer;
use super::service::all_services;
use super::wait::warn_of_absent;
use crate::policy_file::{Desired, DesiredService};

/// Which files, and which workspace.
#[derive(Debug, Args)]
struct FileArgs {
    /// A YAML file, a directory (its `.yaml` and `.yml` files), or `-` for standard input; may be repeated
    #[arg(short, long = "file", value_name = "FILE|DIR", required = true)]
    file: Vec<PathBuf>,
    /// Delete services that no file has
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Flags of `apply`.
#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Flags of `diff`.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    files: FileArgs,
}

impl FileArgs {
    /// Everything is read and compared before anything is done.
    async fn plan(&self) -> Result<(Client, Printer, Plan), CliError> {
        let desired = Desired::read(&self.file)?;
        let (client, printer) = self.connection.open().await?;
        let services = all_services(&client, None).await?;
        let present: Vec<_> = services.iter().map(Present::read).collect();
        let plan = Plan::new(&desired, &present, self.prune)?;
        Ok((client, printer, plan))
    }
}

impl DiffArgs {
    /// # Errors
    /// [`CliError::Different`] where there is something to apply, and what the files, the workspace or the way to it have
    /// against it.
    pub(super) async fn run(self) -> Result<(), CliError> {
        let (_, printer, plan) = self.files.plan().await?;
        Progress::shown(&plan).print(&printer, "the workspace is as the files say")?;
        if plan.steps.is_empty() { Ok(()) } else { Err(CliError::Different) }
    }
}

impl ApplyArgs {
    /// # Errors
    /// What the files, the workspace or the way to it have against it. What was done until then is shown.
    pub(super) async fn run(self) -> Result<(), CliError> {
        let (client, printer, plan) = self.files.plan().await?;
        if self.dry_run {
            return Progress::shown(&plan).print(&printer, "nothing would change");
        }
        let mut progress = Progress::begun(&plan);
        let (answers, done) = carry_out_all(&client, &plan, &mut progress).await;
        let enforced = wait(&client, &answers).await;
        progress.print(&printer, "nothing to change")?;
        let left = progress.unfinished();
        done.map_err(|error| CliError::Unfinished { left, all: plan.steps.len(), source: Box::new(error) })?;
        enforced
    }
}

/// One step after the other, until one fails. Also returns what the workspace answered to those that were done.
async fn carry_out_all(
    client: &Client,
    plan: &Plan,
    progress: &mut Progress<'_>,
) -> (Vec<Value>, Result<(), CliError>) {
    let mut answers = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        match carry_out(client, step).await {
            Ok(answer) => {
                progress.done(index);
                answers.push(answer);
            }
            Err(error) => {
                progress.failed(index, &error);
                return (answers, Err(error));
            }
        }
    }
    (answers, Ok(()))
}

async fn carry_out(client: &Client, step: &Step) -> Result<Value, CliError> {
    let path = ["services", step.service.as_str()];
    match &step.action {
        Action::Create(service) => {
            client.send(Method::POST, &path[..1], Content::Json(&creation(service))).await
        }
        Action::Change(changes) => {
            client.send(Method::PATCH, &path, Content::JsonPatch(&patch(changes))).await
        }
        Action::Delete => client.send(Method::DELETE, &path, Content::Nothing).await,
    }
}

/// Waits until the gates enforce what was done. What is no operation was enforced when it was answered.
async fn wait(client: &Client, answers: &[Value]) -> Result<(), CliError> {
    let mut outcome = Ok(());
    for operation in answers.iter().filter(|answer| answer.get("operationType").is_some()) {
        if let Err(error) = client.wait(operation).await {
            outcome = Err(error);
        }
    }
    if outcome.is_ok() && !answers.is_empty() {
        warn_of_absent(client).await;
    }
    outcome
}

fn creation(service: &DesiredService) -> Value {
    json!({
        "name": service.name.as_str(),
        "computeType": service.compute_type.as_str(),
        "authEnabled": service.auth_mode == AuthMode::Key,
        "aadAuthEnabled": service.auth_mode == AuthMode::Token,
        "description": service.description.as_ref().filter(|text| !text.is_empty()),
        "kvTags": service.tags.clone().unwrap_or_default(),
        "scoregate": { "hosts": service.places.hosts, "pathPrefixes": service.places.path_prefixes },
    })
}

fn patch(changes: &[FieldChange]) -> Value {
    changes.iter().flat_map(operations).collect()
}

fn operations(FieldChange { field, to, .. }: &FieldChange) -> Vec<Value> {
    let replace = |path: &str, value: Value| json!({ "op": "replace", "path": path, "value": value });
    match field {
        Field::AuthMode => vec![
            replace("/authEnabled", (to == "key").into()),
            replace("/aadAuthEnabled", (to == "token").into()),
        ],
        Field::Hosts => vec![replace("/scoregate/hosts", to.clone())],
        Field::PathPrefixes => vec![replace("/scoregate/pathPrefixes", to.clone())],
        Field::Description if to == "" => vec![replace("/description", Value::Null)],
        Field::Description => vec![replace("/description", to.clone())],
        Field::Tags => vec![replace("/kvTags", to.clone())],
    }
}
