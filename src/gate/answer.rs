//! What Envoy is told of a verdict.
//!
//! A `CheckResponse` with nothing in it *allows* the request, so none is ever built by default: each comes from the one
//! match over [`Decision`], and an allow takes the core's [`Permit`].

use prost_types::Struct;
use prost_types::value::Kind;
use scoregate_authz::{CredentialHeaders, Decision, Denial, DenyReason, Permit, Slot, Verdict};

use super::request::HttpView;
use crate::config::UndecidedAnswer;
use crate::proto::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use crate::proto::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use crate::proto::envoy::service::auth::v3::check_response::HttpResponse;
use crate::proto::envoy::service::auth::v3::{CheckResponse, DeniedHttpResponse, OkHttpResponse};
use crate::proto::envoy::r#type::v3::HttpStatus;
use crate::proto::google::rpc::Status;

/// Codes of `google.rpc.Code`. Every answer but an allow has one that is not zero.
mod code {
    pub(super) const OK: i32 = 0;
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const UNAVAILABLE: i32 = 14;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// Makes answers.
#[derive(Debug)]
pub struct Answers {
    undecided: UndecidedAnswer,
    credential_headers: Vec<String>,
    /// `WWW-Authenticate` where no credential came.
    challenge: String,
    /// The same where one came and was refused (RFC 6750, section 3).
    challenge_after_refusal: String,
}

/// What a client that does not get the model's answer is told. It is all that it is told.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    CredentialMissing,
    CredentialRefused,
    BadRequest,
    Undecided,
}

impl Refusal {
    /// Depends on two things only, so that it tells nothing of the service.
    fn of(denial: Denial) -> Self {
        match denial.reason {
            DenyReason::NoHttp | DenyReason::AmbiguousPath => Self::BadRequest,
            _ if denial.credential_presented => Self::CredentialRefused,
            _ => Self::CredentialMissing,
        }
    }

    fn http_status(self) -> i32 {
        match self {
            Self::CredentialMissing | Self::CredentialRefused => 401,
            Self::BadRequest => 400,
            Self::Undecided => 503,
        }
    }

    fn grpc_code(self) -> i32 {
        match self {
            Self::CredentialMissing | Self::CredentialRefused => code::UNAUTHENTICATED,
            Self::BadRequest => code::INVALID_ARGUMENT,
            Self::Undecided => code::UNAVAILABLE,
        }
    }

    /// `error.code` of the body.
    fn name(self) -> &'static str {
        match self {
            Self::CredentialMissing | Self::CredentialRefused => "Unauthorized",
            Self::BadRequest => "BadRequest",
            Self::Undecided => "ServiceUnavailable",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::CredentialMissing => "a credential is required",
            Self::CredentialRefused => "the credential was not accepted",
            Self::BadRequest => "the request can be understood in more than one way",
            Self::Undecided => "authorization is not available at the moment",
        }
    }
}

impl Answers {
    /// Answers of a gate. Characters of the realm that no header can have are replaced.
    #[must_use]
    pub fn new(realm: &str, credential_headers: &CredentialHeaders, undecided: UndecidedAnswer) -> Self {
        let challenge = format!("Bearer realm=\"{}\"", escape(realm));
        Self {
            undecided,
            credential_headers: credential_headers.names().map(str::to_owned).collect(),
            challenge_after_refusal: format!("{challenge}, error=\"invalid_token\""),
            challenge,
        }
    }

    /// The answer to a request, which is `None` where it was not about HTTP.
    #[must_use]
    pub fn answer(&self, verdict: &Verdict, request: Option<HttpView<'_>>) -> CheckResponse {
        let is_grpc = request.is_some_and(|request| request.is_grpc());
        let (code, response) = match &verdict.decision {
            Decision::Allow(permit) => {
                (code::OK, HttpResponse::OkResponse(self.allow(permit, verdict, request)))
            }
            Decision::Deny(denial) => {
                let refusal = Refusal::of(*denial);
                (refusal.grpc_code(), HttpResponse::DeniedResponse(self.refuse(refusal, is_grpc)))
            }
            Decision::Undecided(_) => {
                let response = self.refuse(Refusal::Undecided, is_grpc);
                let response = match self.undecided {
                    UndecidedAnswer::DeniedResponse => HttpResponse::DeniedResponse(response),
                    UndecidedAnswer::ErrorResponse => HttpResponse::ErrorResponse(response),
                };
                (Refusal::Undecided.grpc_code(), response)
            }
        };
        CheckResponse {
            status: Some(Status { code, message: String::new() }),
            http_response: Some(response),
            dynamic_metadata: Some(metadata(verdict)),
        }
    }

    fn allow(&self, permit: &Permit, verdict: &Verdict, request: Option<HttpView<'_>>) -> OkHttpResponse {
        let mut headers = Vec::with_capacity(4);
        let mut headers_to_remove = self.credential_headers.clone();
        for (name, value) in identity(permit, verdict) {
            match value {
                Some(value) => headers.push(set(name, value)),
                None => headers_to_remove.push(name.to_owned()),
            }
        }
        headers_to_remove.extend(request.iter().flat_map(HttpView::identity_lookalikes));
        OkHttpResponse { headers, headers_to_remove }
    }

    fn refuse(&self, refusal: Refusal, is_grpc: bool) -> DeniedHttpResponse {
        let challenge = match refusal {
            Refusal::CredentialMissing => Some(&self.challenge),
            Refusal::CredentialRefused => Some(&self.challenge_after_refusal),
            Refusal::BadRequest | Refusal::Undecided => None,
        };
        let mut headers = vec![set("cache-control", "no-store")];
        headers.extend(challenge.map(|challenge| set("www-authenticate", challenge)));
        let body = if is_grpc {
            // Envoy makes a gRPC answer of it, with this as its message; a content type would break that answer.
            refusal.message().to_owned()
        } else {
            headers.push(set("content-type", "application/json"));
            format!(r#"{{"error":{{"code":"{}","message":"{}"}}}}"#, refusal.name(), refusal.message())
        };
        DeniedHttpResponse { status: Some(HttpStatus { code: refusal.http_status() }), headers, body }
    }
}

/// The closed list of identity headers. On an allow each is set or removed.
fn identity<'a>(permit: &'a Permit, verdict: &'a Verdict) -> [(&'static str, Option<&'a str>); 4] {
    [
        ("x-scoregate-service", verdict.service.as_ref().map(|service| service.name().as_str())),
        ("x-scoregate-auth-mode", Some(permit.auth_mode().as_str())),
        ("x-scoregate-key-slot", permit.key_slot().map(Slot::as_str)),
        ("x-scoregate-subject", permit.subject()),
    ]
}

/// What access logs and rate limits get to know, of every answer.
fn metadata(verdict: &Verdict) -> Struct {
    let permit = match &verdict.decision {
        Decision::Allow(permit) => Some(permit),
        Decision::Deny(_) | Decision::Undecided(_) => None,
    };
    let service = verdict.service.as_ref();
    let auth_mode = service.and_then(|service| service.auth_mode());
    let texts = [
        ("reason", Some(verdict.decision.reason().code())),
        ("service", service.map(|service| service.name().as_str())),
        ("auth_mode", auth_mode.map(scoregate_authz::AuthMode::as_str)),
        ("key_slot", permit.and_then(Permit::key_slot).map(Slot::as_str)),
        ("subject", permit.and_then(Permit::subject)),
    ];
    let texts =
        texts.into_iter().filter_map(|(name, text)| Some((name, Kind::StringValue(text?.to_owned()))));
    // Exact up to 2^53, which no workspace lives to see.
    let revision = ("revision", Kind::NumberValue(verdict.revision as f64));
    let fields = texts.chain([revision]);
    let fields =
        fields.map(|(name, kind)| (name.to_owned(), prost_types::Value { kind: Some(kind) })).collect();
    Struct { fields }
}

fn set(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value: value.to_owned(), raw_value: Vec::new() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
    }
}

/// The inside of a quoted string (RFC 9110, section 5.6.4).
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' => escaped.extend(['\\', character]),
            ' '..='~' => escaped.push(character),
            _ => escaped.push('?'),
        }
    }
    escaped
}
