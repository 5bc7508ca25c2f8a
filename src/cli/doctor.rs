//! `scoregate doctor`: finds the usual mistakes from outside.

mod envoy;
mod finding;
mod processes;
mod scoring;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::Response;
use reqwest::header::DATE;
use scoregate_authz::Version;

use super::client::{http_client, http_root};
use super::connection::{TlsArgs, credential};
use super::exit::{CliError, Exit};
use super::output::{OutputFormat, Printer};
use crate::clock::{Clock, SystemClock};
use crate::config::without_user;
use finding::{Code, Report};

/// How far apart two clocks may seem: `Date` has whole seconds, and an answer takes its time.
const MAX_SKEW: i64 = 5;

/// Looks at a running system from outside, as far as it is told where its parts are: workspace, gates, Envoy, a service.
/// Exit code 0 if nothing is wrong, 1 if something is.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Base URL of the workspace's REST, or `unix:PATH`; the credential of a contributor shows all
    #[arg(long, value_name = "URL", env = "SCOREGATE_WORKSPACE")]
    workspace: Option<String>,
    /// File with the credential [default: the credential in SCOREGATE_CREDENTIAL]
    #[arg(long, value_name = "FILE")]
    credential_file: Option<PathBuf>,
    /// Admin listener of a gate (or a workspace), `http://HOST:PORT` or `unix:PATH`; may be repeated
    #[arg(long, value_name = "URL", env = "SCOREGATE_ADMIN", value_delimiter = ',')]
    admin: Vec<String>,
    /// Admin listener of Envoy, whose configuration is read
    #[arg(long, value_name = "URL")]
    envoy_admin: Option<String>,
    /// A service to score
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Where it is scored, through Envoy [default: its scoring URI, as the workspace has it]
    #[arg(long, value_name = "URL")]
    scoring_url: Option<String>,
    /// File with a right key or token of the service [default: fetched from the workspace]
    #[arg(long, value_name = "FILE")]
    scoring_credential_file: Option<PathBuf>,
    /// Header with the credential, as in gate.credential_headers; may be repeated
    #[arg(long, value_name = "NAME", default_value = "authorization")]
    credential_header: Vec<String>,
    /// Leave out what is known and meant; may be repeated
    #[arg(long, value_name = "CODE")]
    ignore: Vec<Code>,
    #[command(flatten)]
    tls: TlsArgs,
    /// Text for people, JSON for programs
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

impl DoctorArgs {
    /// Looks, and tells.
    ///
    /// # Errors
    /// It cannot look at all: an address, a file or a credential is not there, or is none.
    pub(super) async fn run(self) -> Result<ExitCode, CliError> {
        let mut report = Report::default();
        let asked = [self.workspace.is_some(), !self.admin.is_empty(), self.envoy_admin.is_some()];
        if !asked.contains(&true) && self.scoring_url.is_none() {
            return Err(CliError::NothingToLookAt);
        }
        let known = self.look_at_workspace(&mut report).await?;
        self.look_at_processes(known.version, &mut report).await?;
        match &self.envoy_admin {
            Some(admin) => envoy::look(&self.site(admin)?, &self.credential_header, &mut report).await,
            None => report.unseen("Envoy's configuration: --envoy-admin"),
        }
        self.look_at_scoring(known.service, &mut report).await?;
        report.ignore(&self.ignore);
        Printer::new(self.output).print(&report.document(), |out| report.write(out))?;
        Ok(if report.is_clean() { ExitCode::SUCCESS } else { Exit::Failure.into() })
    }

    async fn look_at_workspace(&self, report: &mut Report) -> Result<workspace::Known, CliError> {
        let Some(base) = &self.workspace else {
            report.unseen("the workspace: --workspace");
            return Ok(workspace::Known::default());
        };
        let credential = match credential(self.credential_file.as_deref()) {
            Err(CliError::NoCredential) => None,
            other => Some(other?),
        };
        if credential.is_some() {
            self.tls.guard(base)?;
        }
        let site = self.site(base)?;
        let visit =
            workspace::Visit { site: &site, trust: self.tls.trust()?, service: self.service.as_deref() };
        Ok(visit.look(credential, report).await)
    }

    async fn look_at_processes(&self, latest: Option<Version>, report: &mut Report) -> Result<(), CliError> {
        if self.admin.is_empty() {
            report.unseen("gates: --admin");
        }
        let sites = self.admin.iter().map(|base| self.site(base)).collect::<Result<Vec<_>, _>>()?;
        processes::look(&sites, latest, report).await;
        Ok(())
    }

    async fn look_at_scoring(
        &self,
        service: Option<workspace::KnownService>,
        report: &mut Report,
    ) -> Result<(), CliError> {
        let known_uri = service.as_ref().and_then(|service| service.scoring_uri.clone());
        let Some(url) = self.scoring_url.clone().or(known_uri) else {
            report.unseen(match service {
                Some(_) => {
                    "what callers see: --scoring-url, since the workspace does not know its scoring URI"
                }
                None => "what callers see: --scoring-url, or --workspace and --service",
            });
            return Ok(());
        };
        let credential = match &self.scoring_credential_file {
            Some(path) => Some(super::connection::read_secret(path)?.trim().into()),
            None => service.as_ref().and_then(|service| service.credential.clone()),
        };
        let is_open = service.is_some_and(|service| service.is_open);
        let http = http_client(&url, self.tls.trust()?)?;
        scoring::Scoring { http, url, headers: &self.credential_header, credential, is_open }
            .look(report)
            .await;
        Ok(())
    }

    fn site(&self, base: &str) -> Result<Site, CliError> {
        let root = http_root(base).ok_or_else(|| CliError::AdminUrl { url: without_user(base) })?;
        Ok(Site { base: base.to_owned(), root, http: http_client(base, self.tls.trust()?)? })
    }
}

/// An address that is looked at.
#[derive(Debug)]
struct Site {
    /// As it was given.
    base: String,
    /// What URLs begin with.
    root: String,
    http: reqwest::Client,
}

impl Site {
    /// Without a credential.
    async fn get(&self, path: &str) -> Result<Response, String> {
        let sent = self.http.get(format!("{}{path}", self.root)).send().await;
        sent.map_err(|error| crate::causes::with_causes(&error.without_url()))
    }

    /// Compares its clock with this machine's.
    fn compare_clocks(&self, response: &Response, report: &mut Report) {
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        let Some(theirs) = date.and_then(|date| rfc2822::parse(date).ok()) else { return };
        let ours = i64::try_from(SystemClock.now().as_secs()).unwrap_or(i64::MAX);
        let ahead = Timestamp::as_second(theirs.timestamp()) - ours;
        if ahead.abs() > MAX_SKEW {
            let way = if ahead > 0 { "ahead of" } else { "behind" };
            report.found(
                Code::ClockSkew,
                &self.base,
                format!("its clock is {} s {way} that of this machine", ahead.abs()),
            );
        }
    }
}
