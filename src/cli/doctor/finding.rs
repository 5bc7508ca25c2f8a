//! What can be wrong, and what to do about it: a closed list.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

/// A mistake that is usual enough to be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub(super) enum Code {
    /// Nobody answers at the workspace's address
    WorkspaceUnreachable,
    /// The workspace refuses the credential, or what was asked with it
    WorkspaceRefuses,
    /// The workspace has no service of this name
    ServiceUnknown,
    /// The workspace's database does not work
    StoreDown,
    /// Clocks differ
    ClockSkew,
    /// Anybody may score a service
    OpenService,
    /// A service is in shadow: refusals are counted only
    ShadowService,
    /// Nobody answers at an admin listener
    AdminUnreachable,
    /// A process says that it is not ready
    NotReady,
    /// A gate does not hear of changes
    FeedDisconnected,
    /// A gate does not enforce the latest policy
    GateBehind,
    /// A gate's policy is too old, or soon will be
    PolicyOld,
    /// A gate refuses its policy file, and goes on with an older one
    PolicyFileRefused,
    /// Nobody answers where services are scored, or at Envoy's admin listener
    EnvoyUnreachable,
    /// Requests come to the model without the gate being asked
    NotProtected,
    /// A wrong credential is accepted
    WrongCredentialAccepted,
    /// A right credential is refused
    RightCredentialRefused,
    /// A request with a right credential does not come to the model
    ModelUnreachable,
    /// The model sees the caller's credential
    CredentialLeaks,
    /// Envoy gets no decision
    NoDecision,
    /// No listener of Envoy has the filter
    FilterMissing,
    /// The filter is switched off, or asks for a part of the requests only
    FilterPartial,
    /// Envoy lets requests through when the gate does not answer
    FailureModeAllow,
    /// Envoy joins repeated headers
    RawHeadersOff,
    /// Envoy's time for a check is not set, or too long
    CheckTimeout,
    /// Envoy does not tell the gate the credential
    HeaderNotSent,
    /// Envoy would not take the credential away
    HeaderRules,
    /// A route to a model names no service
    RouteWithoutService,
    /// A route to a model does not ask the gate
    RouteUnprotected,
}

impl Code {
    /// What to do.
    fn advice(self) -> &'static str {
        match self {
            Self::WorkspaceUnreachable => {
                "is it running, and is the address right (--workspace, http or https, --ca-file)? Gates go on with the \
                 policy that they have until gate.max_policy_age"
            }
            Self::WorkspaceRefuses => {
                "check SCOREGATE_CREDENTIAL; a contributor may see all that is looked at here (`scoregate principal list`); a lost \
                 owner credential is replaced with `scoregate principal reset-owner`"
            }
            Self::ServiceUnknown => "check --service; `scoregate service list` has all names",
            Self::StoreDown => {
                "look into the workspace's log: disk full, file moved, locked? Changes are refused meanwhile"
            }
            Self::ClockSkew => {
                "let NTP set the clocks; tokens are refused when they differ by more than gate.clock_skew"
            }
            Self::OpenService => {
                "if that is not meant: `scoregate service update NAME --auth key`; otherwise `--ignore open_service`"
            }
            Self::ShadowService => {
                "when its callers are known to have credentials, end the shadow; otherwise it ends by itself at that time"
            }
            Self::AdminUnreachable => {
                "is the process running, and is the address that of `admin.listen`, with http or https as it is there? \
                 Where it wants a client certificate: --certificate-file and --key-file"
            }
            Self::NotReady => "the reason is what the process says; its log says more",
            Self::FeedDisconnected => {
                "check gate.feed, its credential and the network between them; the gate's log names the cause. A gate \
                 without a workspace by design: `--ignore feed_disconnected`"
            }
            Self::GateBehind => {
                "`scoregate gate list` tells what it refused last, its log why; keys that were regenerated meanwhile may \
                 still be accepted there"
            }
            Self::PolicyOld => {
                "bring the workspace back, or give the gate a source with later policy (gate.policy_sources); past \
                 gate.max_policy_age it answers 503"
            }
            Self::PolicyFileRefused => {
                "mend the file: `/policy` of the admin listener and `scoregate policy check FILE` name the line"
            }
            Self::EnvoyUnreachable => "is Envoy running, and is the address right?",
            Self::NotProtected => {
                "put envoy.filters.http.ext_authz before the router, for this route too, with failure_mode_allow: false \
                 (see envoy/sidecar.yaml)"
            }
            Self::WrongCredentialAccepted => {
                "is the service open or in shadow, or does the route's context_extensions name another one? \
                 `scoregate explain` shows the decision"
            }
            Self::RightCredentialRefused => {
                "does the route's context_extensions name this service, does Envoy tell the gate the header \
                 (allowed_headers), and is the gate one of this workspace, up to date, with its pepper? `scoregate explain \
                 --last 1 --admin URL` at the gate shows why"
            }
            Self::ModelUnreachable => {
                "is the model server running, where Envoy's cluster says? May the gate change the headers \
                 (decoder_header_mutation_rules)? `details` in Envoy's access log says which"
            }
            Self::CredentialLeaks => {
                "let decoder_header_mutation_rules allow the gate to remove the credential header, and set disallow_is_error"
            }
            Self::NoDecision => {
                "is the gate running, ready, and where Envoy's cluster says? Envoy's log and /clusters say"
            }
            Self::FilterMissing => {
                "add envoy.filters.http.ext_authz before the router (see envoy/sidecar.yaml)"
            }
            Self::FilterPartial => "remove `disabled`, and `filter_enabled` or set deny_at_disable",
            Self::FailureModeAllow => "set failure_mode_allow: false",
            Self::RawHeadersOff => {
                "set encode_raw_headers: true, or repeated and odd headers reach the gate changed"
            }
            Self::CheckTimeout => "set grpc_service.timeout between 0.25s and 0.5s",
            Self::HeaderNotSent => {
                "add the header to allowed_headers of the ext_authz filter: without it every credential is missing"
            }
            Self::HeaderRules => {
                "add the header to allow_expression of decoder_header_mutation_rules: a removal that is not allowed is skipped"
            }
            Self::RouteWithoutService => {
                "add check_settings.context_extensions { service: NAME } to the route; with gate.target = host_path: \
                 `--ignore route_without_service`"
            }
            Self::RouteUnprotected => "remove `disabled: true` from the route's typed_per_filter_config",
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Finding {
    pub(super) code: Code,
    /// An address, or a place in a configuration.
    #[serde(rename = "where")]
    pub(super) place: String,
    pub(super) problem: String,
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: Vec<Finding>,
    /// What was not looked at, and why.
    unseen: Vec<String>,
}

impl Report {
    pub(super) fn found(&mut self, code: Code, place: impl Into<String>, problem: impl Into<String>) {
        let finding = Finding { code, place: place.into(), problem: problem.into() };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    pub(super) fn unseen(&mut self, what: impl Into<String>) {
        self.unseen.push(what.into());
    }

    /// Leaves out what the operator knows of.
    pub(super) fn ignore(&mut self, codes: &[Code]) {
        self.findings.retain(|finding| !codes.contains(&finding.code));
    }

    pub(super) fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    #[cfg(test)]
    pub(super) fn codes(&self) -> Vec<Code> {
        self.findings.iter().map(|finding| finding.code).collect()
    }

    pub(super) fn document(&self) -> serde_json::Value {
        let finding = |finding: &Finding| {
            serde_json::json!({
                "code": finding.code, "where": finding.place, "problem": finding.problem,
                "advice": finding.code.advice(),
            })
        };
        let findings: Vec<_> = self.findings.iter().map(finding).collect();
        serde_json::json!({ "findings": findings, "notLookedAt": self.unseen })
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for Finding { code, place, problem } in &self.findings {
            let name = code.to_possible_value();
            let name = name.as_ref().map_or("", clap::builder::PossibleValue::get_name);
            writeln!(out, "{name}  {place}\n  {problem}\n  what to do: {}\n", code.advice())?;
        }
        for what in &self.unseen {
            writeln!(out, "not looked at: {what}")?;
        }
        match self.findings.len() {
            0 => writeln!(out, "nothing wrong was found"),
            1 => writeln!(out, "1 problem was found"),
            many => writeln!(out, "{many} problems were found"),
        }
    }
}
