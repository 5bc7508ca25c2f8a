//! The way of a check, in one straight line: target, credential, look-up, decision.

use std::sync::Arc;
use std::time::Duration;

use crate::credential::{self, Credential, CredentialHeaders};
use crate::decision::{Decision, Denial, DenyReason, Finding, Permit, Refused, UndecidedReason, Verdict};
use crate::key::{self, Found, Keys, Peppers};
use crate::policy::{Access, Service};
use crate::request::{RequestView, Trace};
use crate::snapshot::Snapshot;
use crate::target::{self, PortRule, TargetSource, canonical_host};
use crate::token::{self, Expected, MAX_CLOCK_SKEW, ProofCache, UnixTime};

/// What a listener decides by, apart from policy.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How it learns the service.
    pub target: TargetSource,
    /// What it does with ports in host names.
    pub ports: PortRule,
    /// Where it looks for credentials.
    pub credential_headers: CredentialHeaders,
    /// The difference of clocks that it tolerates; never more than [`MAX_CLOCK_SKEW`].
    pub clock_skew: Duration,
    /// The peppers of the installation.
    pub peppers: Peppers,
}

/// The policy that is there to decide by.
#[derive(Debug, Clone, Copy)]
pub enum Policy<'a> {
    /// None was ever received.
    None,
    /// It is older than it may be.
    Stale(&'a Snapshot),
    /// It may be used.
    Current(&'a Snapshot),
}

impl<'a> Policy<'a> {
    /// Zero without one.
    fn revision(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Stale(snapshot) | Self::Current(snapshot) => snapshot.version().revision,
        }
    }

    fn usable(self) -> Result<&'a Snapshot, UndecidedReason> {
        match self {
            Self::None => Err(UndecidedReason::NoPolicy),
            Self::Stale(_) => Err(UndecidedReason::StalePolicy),
            Self::Current(snapshot) => Ok(snapshot),
        }
    }
}

/// Decides one request; `request` is `None` where the call was not about HTTP.
pub fn check<R: RequestView>(
    rules: &Rules,
    policy: Policy<'_>,
    request: Option<&R>,
    now: UnixTime,
    proofs: &impl ProofCache,
    trace: &mut impl Trace,
) -> Verdict {
    let revision = policy.revision();
    let refuse = |reason, credential_presented| Verdict {
        decision: Decision::Deny(Denial { reason, credential_presented }),
        service: None,
        finding: None,
        revision,
    };
    let Some(request) = request else {
        trace.step("request", || "not about HTTP".to_owned());
        return refuse(DenyReason::NoHttp, false);
    };
    let snapshot = match policy.usable() {
        Ok(snapshot) => snapshot,
        Err(reason) => {
            trace.step("snapshot", || reason.code().to_owned());
            return Verdict { decision: Decision::Undecided(reason), service: None, finding: None, revision };
        }
    };
    let path = target::plain_path(request.path());
    trace.step("path", || path.map_or("may be read in two ways", |_| "read in one way only").to_owned());
    let Ok(path) = path else {
        return refuse(DenyReason::AmbiguousPath, false);
    };
    let credential = credential::find(request, &rules.credential_headers);
    trace.step("credential", || match credential {
        Ok(credential) => format!("one, of {} characters", credential.text().len()),
        Err(reason) => reason.code().to_owned(),
    });
    let Some(service) = find_service(rules, snapshot, request, path, trace) else {
        if let Ok(credential) = credential {
            rules.peppers.match_nothing(credential.text());
        }
        return refuse(DenyReason::UnknownService, is_presented(credential.err()));
    };
    let (decision, finding) = decide(rules, snapshot, service, credential, now, proofs, trace);
    Verdict { decision, service: Some(Arc::clone(service)), finding, revision }
}

fn find_service<'s, R: RequestView>(
    rules: &Rules,
    snapshot: &'s Snapshot,
    request: &R,
    path: &str,
    trace: &mut impl Trace,
) -> Option<&'s Arc<Service>> {
    let found = match rules.target {
        TargetSource::ContextExtensions => request.service().and_then(|name| snapshot.service_named(name)),
        TargetSource::HostPath => {
            canonical_host(request.host(), rules.ports).and_then(|host| snapshot.service_at(&host, path))
        }
    };
    trace.step("service", || {
        let by = match rules.target {
            TargetSource::ContextExtensions => "context_extensions",
            TargetSource::HostPath => "host and path",
        };
        match found {
            Some(service) => format!("`{}` (uid {}), by {by}", service.name(), service.uid()),
            None => format!("none, by {by}"),
        }
    });
    found
}

/// Whether the request carried anything in a credential header.
fn is_presented(problem: Option<DenyReason>) -> bool {
    !matches!(problem, Some(DenyReason::MissingCredential | DenyReason::EmptyCredential))
}

fn decide(
    rules: &Rules,
    snapshot: &Snapshot,
    service: &Service,
    credential: Result<Credential<'_>, DenyReason>,
    now: UnixTime,
    proofs: &impl ProofCache,
    trace: &mut impl Trace,
) -> (Decision, Option<Finding>) {
    let access = match service.access() {
        Ok(access) => access,
        Err(problem) => {
            trace.step("policy", || problem.to_string());
            return (Decision::Undecided(UndecidedReason::InvalidPolicy), None);
        }
    };
    let permit = match access {
        Access::Open => {
            trace.step("policy", || "no authentication: open to anybody".to_owned());
            Ok(Permit::open())
        }
        Access::Keys(keys) => credential
            .map_err(Refused::from)
            .and_then(|credential| check_key(service, keys, credential, trace)),
        Access::Tokens { .. } if !snapshot.has_verification_keys() => {
            trace.step("policy", || "tokens, but the snapshot has no verification key".to_owned());
            return (Decision::Undecided(UndecidedReason::NoVerificationKey), None);
        }
        Access::Tokens { not_before, .. } => credential.map_err(Refused::from).and_then(|credential| {
            let expected = Expected {
                service: service.uid(),
                tokens_not_before: *not_before,
                now,
                clock_skew: rules.clock_skew.min(MAX_CLOCK_SKEW),
            };
            check_token(snapshot, credential, expected, proofs, trace)
        }),
    };
    match permit {
        Ok(permit) => (Decision::Allow(permit), None),
        Err(Refused { reason, finding }) => (refused(service, reason, now, trace), finding),
    }
}

/// INVARIANT: shadow turns a refusal of a credential into an allow, and nothing else: what is refused before a service is
/// found concerns no service, and what cannot be decided is not known to be wrong only in its credential.
fn refused(service: &Service, reason: DenyReason, now: UnixTime, trace: &mut impl Trace) -> Decision {
    match service.shadow_left(now) {
        Some(left) => {
            trace.step("shadow", || {
                format!("{} is let through, for another {} s", reason.code(), left.as_secs())
            });
            Decision::Allow(Permit::shadow(reason))
        }
        None => Decision::Deny(Denial { reason, credential_presented: is_presented(Some(reason)) }),
    }
}

fn check_key(
    service: &Service,
    keys: &Keys,
    credential: Credential<'_>,
    trace: &mut impl Trace,
) -> Result<Permit, Refused> {
    let text = credential.text();
    let found = key::check(text).map(|()| keys.find(service.uid(), text));
    trace.step("key", || match found {
        Ok(Found::Key(slot)) => format!("the {slot} key"),
        Ok(Found::Replaced(slot)) => format!("the key that was the {slot} one until it was replaced"),
        Ok(Found::Nothing) => "neither the primary nor the secondary key".to_owned(),
        Err(problem) => format!("cannot be a key: {problem}"),
    });
    match found {
        Ok(Found::Key(slot)) => Ok(Permit::key(slot)),
        Ok(Found::Replaced(slot)) => {
            Err(Refused { reason: DenyReason::UnknownKey, finding: Some(Finding::ReplacedKey(slot)) })
        }
        _ if token::looks_like_token(text) => Err(DenyReason::WrongCredentialKind.into()),
        Ok(Found::Nothing) | Err(_) => Err(DenyReason::UnknownKey.into()),
    }
}

fn check_token(
    snapshot: &Snapshot,
    credential: Credential<'_>,
    expected: Expected<'_>,
    proofs: &impl ProofCache,
    trace: &mut impl Trace,
) -> Result<Permit, Refused> {
    let text = credential.text();
    if key::is_generated(text) {
        trace.step("token", || "this is a key".to_owned());
        return Err(DenyReason::WrongCredentialKind.into());
    }
    let find_key = |id: &str| snapshot.verification_key(id);
    token::verify(text, expected, &find_key, proofs, trace).map(Permit::token)
}
