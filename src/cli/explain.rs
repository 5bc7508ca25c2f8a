//! `scoregate explain`: the steps of a decision, from the live policy of a gate.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::client::{http_client, http_root};
use super::connection::TlsArgs;
use super::exit::CliError;
use super::output::{self, OutputFormat};
use crate::causes::with_causes;
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
    /// A request that was refused: its `x-request-id`, as Envoy's access log or the answer has it
    #[arg(long, value_name = "ID", conflicts_with_all = DESCRIBED, conflicts_with_all = ["trace_id", "last"])]
    request_id: Option<String>,
    /// The same by its trace id
    #[arg(long, value_name = "ID", conflicts_with_all = DESCRIBED)]
    trace_id: Option<String>,
    /// The last requests that were refused, this many; 10 where no number is given
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, default_missing_value = "10", conflicts_with_all = DESCRIBED)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    last: Option<u32>,
    #[command(flatten)]
    tls: TlsArgs,
    /// How the answer looks
    #[arg(long, value_enum, default_value = "table")]
    output: OutputFormat,
}

/// Flags that describe a request which did not happen, or is not known to have.
const DESCRIBED: [&str; 5] = ["request", "service", "host", "path", "header"];

/// What a gate says of a request.
#[derive(Debug, Deserialize)]
struct Explanation {
    decision: String,
    reason: String,
    #[serde(default)]
    shadow_reason: Option<String>,
    service: Option<String>,
    revision: u64,
    #[serde(default)]
    steps: Option<Vec<Step>>,
    #[serde(flatten)]
    happened: Option<Happened>,
}

/// What is only known of a request that happened.
#[derive(Debug, Deserialize)]
struct Happened {
    time: String,
    key_slot: Option<String>,
    signing_key: Option<String>,
    request_id: Option<String>,
    trace_id: Option<String>,
}

/// The refusals that a gate remembers, or some of them.
#[derive(Debug, Deserialize)]
struct Refusals {
    /// The latest first.
    refusals: Vec<Explanation>,
    remembered: usize,
    forgotten: u64,
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
        if self.request_id.is_some() || self.trace_id.is_some() || self.last.is_some() {
            return self.explain_what_happened().await;
        }
        // A described request may have a credential in it.
        self.tls.guard(&self.admin)?;
        let (content_type, body) = match &self.request {
            Some(path) => recorded(path)?,
            None => (JSON, self.described()),
        };
        let request = |client: reqwest::Client, root: &str| {
            client.post(format!("{root}/explain")).header("content-type", content_type).body(body)
        };
        let text = self.ask(request).await?;
        self.print(&text, |out| understood::<Explanation>(&text)?.write(out))
    }

    async fn explain_what_happened(&self) -> Result<(), CliError> {
        let last = self.last.map(|last| last.to_string());
        let query = [("request_id", &self.request_id), ("trace_id", &self.trace_id), ("last", &last)];
        let query = query.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let request = |client: reqwest::Client, root: &str| client.get(format!("{root}/refusals?{query}"));
        let text = self.ask(request).await?;
        let found: Refusals = understood(&text)?;
        let is_wanted = self.request_id.is_some() || self.trace_id.is_some();
        if found.refusals.is_empty() && is_wanted {
            return Err(CliError::failed(found.nothing()));
        }
        self.print(&text, |out| found.write(out))
    }

    async fn ask(
        &self,
        request: impl FnOnce(reqwest::Client, &str) -> reqwest::RequestBuilder,
    ) -> Result<String, CliError> {
        let root =
            http_root(&self.admin).ok_or_else(|| CliError::AdminUrl { url: without_user(&self.admin) })?;
        let sent = request(http_client(&self.admin, self.tls.trust()?)?, &root).send().await;
        let unreachable = |error: reqwest::Error| {
            CliError::failed(format!(
                "cannot ask the gate at `{}`: {}; is it running, and is that its admin listener (--admin or SCOREGATE_ADMIN)?",
                self.admin,
                with_causes(&error.without_url())
            ))
        };
        let answer = sent.map_err(unreachable)?;
        let status = answer.status();
        let text = answer.text().await.map_err(unreachable)?;
        if status == StatusCode::NOT_FOUND {
            let problem = "no gate answers there: --admin or SCOREGATE_ADMIN names a gate's admin listener";
            return Err(CliError::failed(format!("cannot ask at `{}`: {problem}", self.admin)));
        }
        if !status.is_success() {
            return Err(CliError::failed(format!("the gate answered {status}: {}", text.trim())));
        }
        Ok(text)
    }

    fn print(
        &self,
        text: &str,
        for_people: impl FnOnce(&mut dyn Write) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        match self.output {
            OutputFormat::Json | OutputFormat::Jsonl => writeln!(out, "{text}")?,
            OutputFormat::Table => for_people(&mut out)?,
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

fn understood<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, CliError> {
    serde_json::from_str(text)
        .map_err(|error| CliError::failed(format!("the gate's answer is not understood: {error}")))
}

impl Refusals {
    fn write(&self, out: &mut dyn Write) -> Result<(), CliError> {
        for (index, refusal) in self.refusals.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            refusal.write(out)?;
        }
        if self.refusals.is_empty() {
            writeln!(out, "{}", self.nothing())?;
        }
        Ok(())
    }

    fn nothing(&self) -> String {
        format!(
            "this gate remembers no such refusal: it has {}, and {} more are forgotten; ask the other gates too, each by \
             its --admin",
            self.remembered, self.forgotten
        )
    }
}

impl Explanation {
    fn write(&self, out: &mut dyn Write) -> Result<(), CliError> {
        if let Some(happened) = &self.happened {
            output::fields(out, &happened.fields())?;
            writeln!(out)?;
        }
        let steps = self.steps.as_deref().unwrap_or_default();
        let widest = steps.iter().map(|step| step.step.len()).max().unwrap_or_default();
        for Step { step, detail } in steps {
            writeln!(out, "{step:<widest$}  {detail}")?;
        }
        if !steps.is_empty() {
            writeln!(out)?;
        }
        let service = self.service.as_deref().unwrap_or("no service");
        writeln!(out, "{}: {} ({service}, at revision {})", self.decision, self.reason, self.revision)?;
        if let Some(reason) = &self.shadow_reason {
            writeln!(out, "without shadow it would be: {reason}")?;
        }
        if let Some((meaning, help)) = meaning(self.shadow_reason.as_ref().unwrap_or(&self.reason)) {
            writeln!(out, "  {meaning}")?;
            if !help.is_empty() {
                writeln!(out, "  what helps: {help}")?;
            }
        }
        Ok(())
    }
}

impl Happened {
    fn fields(&self) -> Vec<(&'static str, String)> {
        let slot = self.key_slot.as_ref().map(|slot| format!("the {slot} one of before"));
        let fields = [
            ("time", Some(self.time.clone())),
            ("request id", self.request_id.clone()),
            ("trace id", self.trace_id.clone()),
            ("key", slot),
            ("signing key", self.signing_key.clone()),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

const REASONS: &str = include_str!("../../docs/reasons.md");

/// What a reason means, and what helps against it.
fn meaning(reason: &str) -> Option<(&'static str, &'static str)> {
    REASONS.lines().find_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let code = cells.next()?.strip_suffix('`')?;
        let (_status, meaning, help) = (cells.next()?, cells.next()?, cells.next()?);
        (code == reason).then_some((meaning, help))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use scoregate_authz::Reason;

    #[test]
    fn each_reason_has_a_meaning_and_many_have_help() {
        for reason in Reason::all() {
            assert!(meaning(reason.code()).is_some_and(|(meaning, _)| !meaning.is_empty()), "{reason:?}");
        }
        let (_, help) = meaning("unknown_key").unwrap();
        assert_eq!(help, "fetch the keys again; was one regenerated?");
        assert_eq!(meaning("bad_signature").unwrap(), ("the signature does not prove the token", ""));
        assert_eq!(meaning("reason"), None);
    }
}
