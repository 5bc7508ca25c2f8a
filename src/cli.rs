//! The command line.

mod apply;
mod audit;
mod client;
mod config;
mod connection;
mod doctor;
// Documents have the commands of the whole program.
#[cfg(feature = "workspace")]
#[cfg(test)]
mod documents;
mod exit;
mod explain;
mod gate;
mod key;
mod output;
mod policy;
mod principal;
mod render;
#[cfg(feature = "workspace")]
mod reset_owner;
mod serve;
mod service;
mod signing_key;
mod token;
#[cfg(feature = "workspace")]
mod up;
mod wait;
#[cfg(feature = "workspace")]
mod workspace;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{LogFormat, Sources};

pub use exit::CliError;

/// Decides, for every call to a model web service, whether the caller may score it.
///
/// Exit codes: 0 done; 1 failed; 2 wrong usage; 3 refused by the workspace; 4 done, but not confirmed by every gate in
/// time; 5 different (`diff`); 64 wrong configuration, or a wrong policy file.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub struct GlobalArgs {
    /// Configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// `error`, `warn`, `info`, `debug`, or a filter such as `info,scoregate::gate=debug`
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How log lines look
    #[arg(long, global = true, value_enum)]
    log_format: Option<LogFormat>,
}

impl GlobalArgs {
    fn sources(&self) -> Sources {
        let format = self.log_format.map(|format| match format {
            LogFormat::Pretty => "pretty",
            LogFormat::Json => "json",
        });
        // Variables of others need not be UTF-8; in one of ours, what is not shows up in the value.
        let variable = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        };
        Sources::new(self.config.clone(), std::env::vars_os().filter_map(variable))
            .flag("--log-level", "log.level", self.log_level.clone())
            .flag("--log-format", "log.format", format)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run workspace and gate in one process, no configuration needed
    #[cfg(feature = "workspace")]
    Up(up::UpArgs),
    /// Run a workspace: services, keys and tokens, and the policy feed
    #[cfg(feature = "workspace")]
    Workspace(workspace::WorkspaceArgs),
    /// Run a gate: the ext_authz server that Envoy asks; or list those of a workspace
    Gate(gate::GateArgs),
    /// Create, show, change and delete services
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Show and regenerate the keys of a service
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Get tokens of a service, or revoke them
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Rotate, withdraw and list the keys that sign tokens
    #[command(subcommand)]
    SigningKey(signing_key::SigningKeyCommand),
    /// Manage who may use the workspace
    #[command(subcommand)]
    Principal(principal::PrincipalCommand),
    /// Make the services of a workspace what YAML files say; a second time nothing changes
    Apply(apply::ApplyArgs),
    /// Show what `apply` would do: exit code 0 where that is nothing, 5 where it is something
    Diff(apply::DiffArgs),
    /// Show who changed what, when and from where, newest first
    Audit(audit::AuditArgs),
    /// Show step by step how a gate decides a request
    Explain(explain::ExplainArgs),
    /// Write routes to models and the policies that protect them, for the proxy in front of the gates
    #[command(subcommand)]
    Render(render::RenderCommand),
    /// Check and write policy files, for gates without a workspace
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Find the usual mistakes of a running system, from outside, and what to do about them
    Doctor(Box<doctor::DoctorArgs>),
    /// Check configuration without starting anything
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

/// The program: cryptography, then what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    // The only ones there are; said explicitly, because a second one that a dependency brought would panic at first use.
    if jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default().is_err() {
        return ExitCode::FAILURE;
    }
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    run(Cli::parse())
}

/// Does what the command line says.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let Cli { global, command } = cli;
    let outcome = match command {
        #[cfg(feature = "workspace")]
        Command::Up(args) => up::run(&global, &args).map_err(CliError::from),
        #[cfg(feature = "workspace")]
        Command::Workspace(args) => workspace::run(&global, args),
        Command::Gate(gate::GateArgs { command: Some(command), .. }) => remote(command.run()),
        Command::Gate(args) => gate::run(&global, &args).map_err(CliError::from),
        Command::Config(command) => config::run(&global, &command).map_err(CliError::from),
        #[cfg(feature = "workspace")]
        Command::Principal(principal::PrincipalCommand::ResetOwner(args)) => {
            reset_owner::run(&global, &args).map_err(CliError::from)
        }
        Command::Service(command) => remote(command.run()),
        Command::Key(command) => remote(command.run()),
        Command::Token(command) => remote(command.run(&global)),
        Command::SigningKey(command) => remote(command.run()),
        Command::Principal(command) => remote(command.run()),
        Command::Policy(command) => policy::run(&command),
        Command::Render(command) => remote(command.run()),
        Command::Apply(args) => remote(args.run()),
        Command::Diff(args) => remote(args.run()),
        Command::Audit(args) => remote(args.run()),
        Command::Explain(args) => remote(args.run()),
        Command::Doctor(args) => on_runtime(args.run()).and_then(std::convert::identity),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if error.is_unread() => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// Runs a command that talks to a process.
fn remote(command: impl Future<Output = Result<(), CliError>>) -> Result<ExitCode, CliError> {
    on_runtime(command)?.map(|()| ExitCode::SUCCESS)
}

/// Runs what a command does, on this thread.
fn on_runtime<T>(command: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let failed = |source| serve::ServeError::Io { what: "cannot start a runtime".to_owned(), source };
    Ok(runtime.map_err(failed)?.block_on(command))
}
