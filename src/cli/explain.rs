//! `scoregate explain`: the steps of a decision, from the live policy of a gate.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use super::client::{http_client, http_root};
use super::connection::TlsArgs;
use super::exit::CliError;
use super::output::OutputFormat;
use crate::config::without_user;

/// Flags of `explain`.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Admin listener of the gate, `http://HOST:PORT` or `unix:PATH`
    #[arg(long, value_name = "URL", env = "SCOREGATE_ADMIN", default_value = "http://127.0.0.1:9192")]
    admin: String,
    /// A recorded CheckRequest, in JSON or in protobuf's binary form; `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["service", "host", "path", "header"])]
    request: Option<PathBuf>,
    /// The service, as Envoy's route would name it in `context_extensions`
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// The `:authority` of the request
    #[arg(long, default_value = "")]
    host: String,
    /// The path of the request, with its query
    #[arg(long, default_value = "/")]
    path: String,
    /// A header, `name: value`; may be repeated
    #[arg(long, value_name = "HEADER", value_parser = header)]
    header: Vec<(String, String)>,
    #[command(flatten)]
    tls: TlsArgs,
    /// How the answer looks
    #[arg(long, value_enum, default_value = "table")]
    output: OutputFormat,
}

/// What a gate says of a request.
#[derive(Debug, Deserialize)]
struct Explanation {
    decision: String,
    reason: String,
    service: Option<String>,
    revision: u64,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    step: String,
    detail: String,
}

const BINARY: &str = "application/x-protobuf";
const JSON: &str = "application/json";

impl ExplainArgs {
    /// Asks the gate and shows its answer.
    pub(super) async fn run(self) -> Result<(), CliError> {
        let (content_type, body) = match &self.request {
            Some(path) => recorded(path)?,
            None => (JSON, self.described()),
        };
        let root =
            http_root(&self.admin).ok_or_else(|| CliError::AdminUrl { url: without_user(&self.admin) })?;
        let request = http_client(&self.admin, self.tls.trust()?)?.post(format!("{root}/explain"));
        let sent = request.header("content-type", content_type).body(body).send().await;
        let unreachable = |error: reqwest::Error| {
            CliError::failed(format!(
                "cannot ask the gate at `{}`: {}; is it running, and is `--admin` its admin listener?",
                self.admin,
                error.without_url()
            ))
        };
        let answer = sent.map_err(unreachable)?;
        let status = answer.status();
        let text = answer.text().await.map_err(unreachable)?;
        if !status.is_success() {
            return Err(CliError::failed(format!("the gate answered {status}: {}", text.trim())));
        }
        let mut out = io::stdout().lock();
        match self.output {
            OutputFormat::Json | OutputFormat::Jsonl => writeln!(out, "{text}")?,
            OutputFormat::Table => {
                let explanation: Explanation = serde_json::from_str(&text).map_err(|error| {
                    CliError::failed(format!("the gate's answer is not understood: {error}"))
                })?;
                explanation.write(&mut out)?;
            }
        }
        Ok(())
    }

    fn described(&self) -> Vec<u8> {
        let request = json!({
            "service": self.service, "host": self.host, "path": self.path, "headers": self.header,
        });
        request.to_string().into_bytes()
    }
}

fn header(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once(':').ok_or("a header is written as `name: value`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// A file is JSON if it looks like an object; a CheckRequest in binary starts with a field's tag.
fn recorded(path: &Path) -> Result<(&'static str, Vec<u8>), CliError> {
    let read = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::stdin(), &mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let bytes = read.map_err(|error| {
        CliError::failed(format!("cannot read the request from `{}`: {error}", path.display()))
    })?;
    let is_json = bytes.trim_ascii_start().starts_with(b"{");
    Ok((if is_json { JSON } else { BINARY }, bytes))
}

impl Explanation {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let widest = self.steps.iter().map(|step| step.step.len()).max().unwrap_or_default();
        for Step { step, detail } in &self.steps {
            writeln!(out, "{step:<widest$}  {detail}")?;
        }
        let service = self.service.as_deref().unwrap_or("no service");
        writeln!(out)?;
        writeln!(out, "{}: {} ({service}, at revision {})", self.decision, self.reason, self.revision)
    }
}
