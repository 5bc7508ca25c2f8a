//! What the workspace says.

use scoregate_authz::Version;
use secrecy::SecretString;
use serde_json::Value;

use super::Site;
use super::finding::{Code, Report};
use crate::causes::with_causes;
use crate::cli::client::{Client, Content, Trust, next_query};
use crate::cli::exit::CliError;
use crate::cli::output::{items, text};
use crate::count::counted;

/// For how long a gate may lack a change: it is on its way.
const MAX_LAG: f64 = 5.0;
/// Services that are named of many.
const NAMED: usize = 10;

/// What other looks go on with.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The latest policy.
    pub(super) version: Option<Version>,
    pub(super) service: Option<KnownService>,
}

/// The service that is to be scored.
#[derive(Debug)]
pub(super) struct KnownService {
    pub(super) scoring_uri: Option<String>,
    /// A right one.
    pub(super) credential: Option<SecretString>,
    /// No credential is needed, or none is refused.
    pub(super) is_open: bool,
}

/// A look at a workspace.
pub(super) struct Visit<'a> {
    pub(super) site: &'a Site,
    pub(super) trust: Trust,
    pub(super) service: Option<&'a str>,
}

impl Visit<'_> {
    pub(super) async fn look(self, credential: Option<SecretString>, report: &mut Report) -> Known {
        let place = self.site.base.as_str();
        match self.site.get("/scoregate/v1/workspace").await {
            Ok(response) => self.site.compare_clocks(&response, report),
            Err(problem) => {
                report.found(Code::WorkspaceUnreachable, place, problem);
                return Known::default();
            }
        }
        let Some(credential) = credential else {
            report.unseen("services and gates of the workspace: SCOREGATE_CREDENTIAL or --credential-file");
            return Known::default();
        };
        let client = match Client::connect(place, &credential, self.trust).await {
            Ok(client) => client,
            Err(error) => {
                refused(place, &error, report);
                return Known::default();
            }
        };
        look_at_services(place, &client, report).await;
        let version = look_at_gates(place, &client, report).await;
        let service = match self.service {
            Some(name) => known_service(place, &client, name, report).await,
            None => None,
        };
        Known { version, service }
    }
}

fn refused(place: &str, error: &CliError, report: &mut Report) {
    let code = match error {
        CliError::Unreachable { .. } | CliError::Untrusted { .. } | CliError::NoWorkspace { .. } => {
            Code::WorkspaceUnreachable
        }
        CliError::Trouble { .. } => Code::StoreDown,
        _ => Code::WorkspaceRefuses,
    };
    report.found(code, place, with_causes(error));
}

async fn look_at_services(place: &str, client: &Client, report: &mut Report) {
    let (mut open, mut shadow) = (Vec::new(), Vec::new());
    let mut query = vec![("$top".to_owned(), "500".to_owned())];
    loop {
        let page = match client.get_query(&["services"], &query).await {
            Ok(page) => page,
            Err(error) => return refused(place, &error, report),
        };
        for service in items(&page["value"]) {
            if is_disabled(service) {
                open.push(format!("`{}`", text(service, "name")));
            }
            if let Some(until) = shadow_until(service) {
                shadow.push(format!("`{}` until {until}", text(service, "name")));
            }
        }
        match next_query(&page) {
            Some(next) => query = next,
            None => break,
        }
    }
    if !open.is_empty() {
        report.found(Code::OpenService, place, format!("anybody may score {}", named(&open)));
    }
    if !shadow.is_empty() {
        report.found(Code::ShadowService, place, format!("nobody is refused: {}", named(&shadow)));
    }
}

fn is_disabled(service: &Value) -> bool {
    service["authEnabled"] == false && service["aadAuthEnabled"] != true
}

fn shadow_until(service: &Value) -> Option<&str> {
    service["scoregate"]["shadowUntil"].as_str()
}

fn named(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let shown = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

async fn look_at_gates(place: &str, client: &Client, report: &mut Report) -> Option<Version> {
    let gates = match client.get_own(&["gates"]).await {
        Ok(gates) => gates,
        Err(CliError::Refused { status: 403, .. }) => {
            report.unseen("the workspace's gates: a contributor's credential");
            return None;
        }
        Err(error) => {
            refused(place, &error, report);
            return None;
        }
    };
    for gate in items(&gates["value"]) {
        if let Some(problem) = lag(gate) {
            report.found(Code::GateBehind, format!("gate `{}`", text(gate, "name")), problem);
        }
    }
    Some(Version { epoch: gates["epoch"].as_u64()?, revision: gates["revision"].as_u64()? })
}

/// What a gate lacks, for longer than a change is under way.
fn lag(gate: &Value) -> Option<String> {
    let nack = match &gate["lastNack"]["reason"] {
        Value::String(reason) => format!("; what it refused last: {reason}"),
        _ => String::new(),
    };
    if gate["state"] == "away" {
        return Some(format!("it has been disconnected since {}{nack}", text(gate, "since")));
    }
    if gate["state"] == "shared" {
        let problem =
            "two gates have this name, and neither confirms anything: each needs a `gate.name` of its own";
        return Some(problem.to_owned());
    }
    let seconds = gate["lagSeconds"].as_f64().filter(|seconds| *seconds > MAX_LAG)?;
    Some(match gate["lagRevisions"].as_u64() {
        Some(revisions) => format!("it lacks {}, for {seconds:.0} s{nack}", counted(revisions, "revision")),
        None => format!("it has nothing of this epoch, for {seconds:.0} s{nack}"),
    })
}

async fn known_service(
    place: &str,
    client: &Client,
    name: &str,
    report: &mut Report,
) -> Option<KnownService> {
    let service = match client.get(&["services", name]).await {
        Ok(service) => service,
        Err(CliError::Refused { status: 404, message }) => {
            report.found(Code::ServiceUnknown, place, message);
            return None;
        }
        Err(error) => {
            refused(place, &error, report);
            return None;
        }
    };
    let scoring_uri = service["scoringUri"].as_str().map(str::to_owned);
    let is_open = is_disabled(&service) || shadow_until(&service).is_some();
    let (path, member) = match service["aadAuthEnabled"] == true {
        true => ("token", "accessToken"),
        false => ("listkeys", "primaryKey"),
    };
    let given = client.send(reqwest::Method::POST, &["services", name, path], Content::Nothing).await;
    let credential = match given {
        Ok(given) => given[member].as_str().map(SecretString::from),
        Err(error) => {
            refused(place, &error, report);
            None
        }
    };
    Some(KnownService { scoring_uri, credential, is_open })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(json!({ "state": "connected", "lagRevisions": 0, "lagSeconds": 0.0 }), None)]
    #[case(json!({ "state": "connected", "lagRevisions": 1, "lagSeconds": 0.2 }), None)]
    #[case(
        json!({ "state": "connected", "lagRevisions": 1, "lagSeconds": 60.0, "lastNack": { "reason": "r" } }),
        Some("it lacks 1 revision, for 60 s; what it refused last: r")
    )]
    #[case(
        json!({ "state": "connected", "lagRevisions": null, "lagSeconds": 60.0 }),
        Some("it has nothing of this epoch, for 60 s")
    )]
    #[case(
        json!({ "state": "away", "since": "then", "lagSeconds": 0.0 }),
        Some("it has been disconnected since then")
    )]
    #[case(
        json!({ "state": "shared", "lagRevisions": 0, "lagSeconds": 0.0 }),
        Some("two gates have this name, and neither confirms anything: each needs a `gate.name` of its own")
    )]
    fn lag_is_told_of_gates_that_lack_something_for_long(#[case] gate: Value, #[case] told: Option<&str>) {
        assert_eq!(lag(&gate).as_deref(), told);
    }
}
