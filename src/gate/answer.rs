//! What Envoy is told of a verdict.
//!
//! A `CheckResponse` with nothing in it *allows* the request, so none is ever built by default: each comes from the one
//! match over [`Decision`], and an allow takes the core's [`Permit`].

use prost_types::Struct;
use prost_types::value::Kind;
use scoregate_authz::{AuthMode, CredentialHeaders, Decision, Denial, DenyReason, Permit, Slot, Verdict};

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

/// The auth mode of a caller that proved nothing, at a service in shadow.
const SHADOW: &str = "shadow";

/// The closed list of identity headers. On an allow each is set or removed.
fn identity<'a>(permit: &'a Permit, verdict: &'a Verdict) -> [(&'static str, Option<&'a str>); 4] {
    [
        ("x-scoregate-service", verdict.service.as_ref().map(|service| service.name().as_str())),
        ("x-scoregate-auth-mode", Some(permit.auth_mode().map_or(SHADOW, AuthMode::as_str))),
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
        ("auth_mode", auth_mode.map(AuthMode::as_str)),
        ("shadow_reason", permit.and_then(Permit::would_be).map(DenyReason::code)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::fixtures::{key, key_service, open_service, peppers, shadow_service, snapshot, version};
    use crate::proto::envoy::config::core::v3::HeaderMap;
    use crate::proto::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
    use crate::proto::envoy::service::auth::v3::{AttributeContext, CheckRequest};
    use proptest::prelude::*;
    use scoregate_authz::{AllowReason, PortRule, Reason, Rules, TargetSource};
    use serde_json::{Value, json};

    fn request(service: &str, headers: &[(&str, &str)]) -> CheckRequest {
        let header = |(key, value): &(&str, &str)| HeaderValue {
            key: (*key).to_owned(),
            value: String::new(),
            raw_value: value.as_bytes().to_vec(),
        };
        let headers = headers.iter().map(header).collect();
        let http = HttpRequest { header_map: Some(HeaderMap { headers }), ..HttpRequest::default() };
        let context_extensions = [("service".to_owned(), service.to_owned())].into();
        let attributes = AttributeContext { request: Some(Request { http: Some(http) }), context_extensions };
        CheckRequest { attributes: Some(attributes) }
    }

    fn decide(request: &CheckRequest) -> Verdict {
        let rules = Rules {
            target: TargetSource::ContextExtensions,
            ports: PortRule::Any,
            credential_headers: CredentialHeaders::default(),
            clock_skew: std::time::Duration::ZERO,
            peppers: peppers(),
        };
        let services = [key_service("sklearn-iris", 1), open_service("demo"), shadow_service("trial", 1_100)];
        let (policy, now) = (snapshot(version(1, 42), &services), std::time::Duration::from_secs(1_000));
        let view = HttpView::new(request);
        let policy = scoregate_authz::Policy::Current(&policy);
        scoregate_authz::check(&rules, policy, view.as_ref(), now, &(), &mut ())
    }

    fn with_key(slot: &str) -> CheckRequest {
        let credential = format!("Bearer {}", key("sklearn-iris", slot, 1));
        request("sklearn-iris", &[("authorization", &credential)])
    }

    /// Whether the service is known, and whether a credential was presented, where this is the reason.
    fn circumstances(reason: DenyReason) -> (bool, bool) {
        use DenyReason as Deny;
        match reason {
            Deny::NoHttp | Deny::AmbiguousPath => (false, false),
            Deny::MissingCredential | Deny::EmptyCredential => (true, false),
            Deny::UnknownService => (false, true),
            Deny::MalformedCredential
            | Deny::UnsupportedScheme
            | Deny::DuplicateCredential
            | Deny::AmbiguousCredential
            | Deny::UnknownKey
            | Deny::WrongCredentialKind
            | Deny::MalformedToken
            | Deny::BadAlgorithm
            | Deny::UnknownSigningKey
            | Deny::BadSignature
            | Deny::Expired
            | Deny::NotYetValid
            | Deny::MissingClaim
            | Deny::UnsupportedCrit
            | Deny::Revoked
            | Deny::WrongIssuer
            | Deny::WrongService
            | Deny::WrongType
            | Deny::LifetimeTooLong => (true, true),
        }
    }

    fn verdict_of(reason: Reason) -> Verdict {
        let allowed = decide(&with_key("primary"));
        match reason {
            Reason::Allow(AllowReason::Ok) => allowed,
            Reason::Allow(AllowReason::Open) => decide(&request("demo", &[])),
            Reason::Allow(AllowReason::Shadow) => {
                decide(&request("trial", &[("authorization", "Bearer a-key-of-nobody")]))
            }
            Reason::Deny(reason) => {
                let (known, credential_presented) = circumstances(reason);
                let decision = Decision::Deny(Denial { reason, credential_presented });
                Verdict { decision, service: allowed.service.filter(|_| known), ..allowed }
            }
            Reason::Undecided(reason) => {
                Verdict { decision: Decision::Undecided(reason), service: None, ..allowed }
            }
        }
    }

    fn answers(undecided: UndecidedAnswer) -> Answers {
        Answers::new("scoregate", &CredentialHeaders::default(), undecided)
    }

    fn headers(options: &[HeaderValueOption]) -> Vec<(&str, &str)> {
        fn pair(option: &HeaderValueOption) -> (&str, &str) {
            assert_eq!(option.append_action(), HeaderAppendAction::OverwriteIfExistsOrAdd);
            option.header.as_ref().map(|header| (header.key.as_str(), header.value.as_str())).unwrap()
        }
        options.iter().map(pair).collect()
    }

    fn readable(response: &CheckResponse) -> Value {
        let denied = |denied: &DeniedHttpResponse| {
            json!({
                "status": denied.status.as_ref().unwrap().code,
                "headers": headers(&denied.headers),
                "body": denied.body,
            })
        };
        let (kind, http) = match response.http_response.as_ref().unwrap() {
            HttpResponse::DeniedResponse(response) => ("denied_response", denied(response)),
            HttpResponse::ErrorResponse(response) => ("error_response", denied(response)),
            HttpResponse::OkResponse(ok) => {
                let set = headers(&ok.headers);
                ("ok_response", json!({ "headers": set, "headers_to_remove": ok.headers_to_remove }))
            }
        };
        let metadata = &response.dynamic_metadata.as_ref().unwrap().fields;
        let metadata: serde_json::Map<_, _> = metadata
            .iter()
            .map(|(name, value)| {
                let value = match value.kind.as_ref().unwrap() {
                    Kind::StringValue(text) => json!(text),
                    Kind::NumberValue(number) => json!(number),
                    other => panic!("{other:?}"),
                };
                (name.clone(), value)
            })
            .collect();
        json!({ "status.code": response.status.as_ref().unwrap().code, kind: http, "metadata": metadata })
    }

    fn denied(response: CheckResponse) -> DeniedHttpResponse {
        match response.http_response {
            Some(HttpResponse::DeniedResponse(denied) | HttpResponse::ErrorResponse(denied)) => denied,
            other => panic!("no denial: {other:?}"),
        }
    }

    #[test]
    fn answer_of_each_reason_is_golden() {
        let (answers, http) = (answers(UndecidedAnswer::DeniedResponse), request("any", &[]));
        for reason in Reason::all() {
            let response = answers.answer(&verdict_of(reason), HttpView::new(&http));
            insta::assert_json_snapshot!(reason.metric_label(), readable(&response));
        }
    }

    #[test]
    fn t122_undecided_is_an_error_only_where_that_is_wanted() {
        for reason in scoregate_authz::UndecidedReason::ALL {
            let verdict = verdict_of(Reason::Undecided(*reason));
            let error = answers(UndecidedAnswer::ErrorResponse).answer(&verdict, None);
            assert_eq!(error.status.as_ref().unwrap().code, code::UNAVAILABLE);
            assert!(matches!(error.http_response, Some(HttpResponse::ErrorResponse(_))));
            let denial = answers(UndecidedAnswer::DeniedResponse).answer(&verdict, None);
            assert_eq!(denial.status, error.status);
            assert_eq!(denied(denial), denied(error));
        }
    }

    #[test]
    fn t120_allow_removes_the_credential_headers() {
        let configured = ["authorization", "x-api-key"].map(str::to_owned).to_vec();
        let configured = CredentialHeaders::new(configured).unwrap();
        let answers = Answers::new("r", &configured, UndecidedAnswer::DeniedResponse);
        for reason in AllowReason::ALL.iter().copied() {
            let response = answers.answer(&verdict_of(Reason::Allow(reason)), None);
            let Some(HttpResponse::OkResponse(ok)) = response.http_response else { panic!("no allow") };
            assert_eq!(ok.headers_to_remove[..2], ["authorization", "x-api-key"]);
        }
    }

    #[test]
    fn t121_allow_sets_or_removes_each_identity_header() {
        let forged = [("X_Scoregate-Subject", "admin"), ("x_scoregate_subject", "admin")];
        for (request, slot) in [(with_key("secondary"), Some("secondary")), (request("demo", &forged), None)]
        {
            let response =
                answers(UndecidedAnswer::default()).answer(&decide(&request), HttpView::new(&request));
            let Some(HttpResponse::OkResponse(ok)) = response.http_response else { panic!("no allow") };
            let set = headers(&ok.headers);
            let is_set = |name: &str| set.iter().any(|(key, _)| *key == name);
            let is_removed = |name: &str| ok.headers_to_remove.iter().any(|key| key == name);
            for name in ["service", "auth-mode", "key-slot", "subject"] {
                let name = format!("x-scoregate-{name}");
                assert!(is_set(&name) != is_removed(&name), "{name}");
            }
            let found = set.iter().find(|(key, _)| *key == "x-scoregate-key-slot").map(|(_, value)| *value);
            assert_eq!(found, slot);
            let lookalikes = ["x_scoregate-subject", "x_scoregate_subject"];
            assert_eq!(lookalikes.iter().all(|name| is_removed(name)), slot.is_none());
        }
    }

    #[test]
    fn t123_grpc_caller_gets_a_short_text() {
        let grpc = request("any", &[("content-type", "application/grpc+proto")]);
        let verdict = verdict_of(Reason::Deny(DenyReason::UnknownKey));
        let denied = denied(answers(UndecidedAnswer::default()).answer(&verdict, HttpView::new(&grpc)));
        assert_eq!(denied.body, "the credential was not accepted");
        assert!(headers(&denied.headers).iter().all(|(name, _)| *name != "content-type"));
    }

    #[test]
    fn t022_t124_unknown_service_looks_like_a_wrong_key() {
        let answers = answers(UndecidedAnswer::default());
        let mut all = DenyReason::ALL.iter().filter(|reason| circumstances(**reason).1).map(|reason| {
            let mut response = answers.answer(&verdict_of(Reason::Deny(*reason)), None);
            response.dynamic_metadata = None;
            response
        });
        let first = all.next().unwrap();
        assert!(all.all(|other| other == first));
    }

    #[test]
    fn t124_realm_is_escaped() {
        let answers = Answers::new("a\"b\\c\r\nä", &CredentialHeaders::default(), UndecidedAnswer::default());
        assert_eq!(answers.challenge, r#"Bearer realm="a\"b\\c???""#);
    }

    proptest! {
        #[test]
        fn t119_deny_always_has_a_code(
            at in 0..Reason::all().count(),
            presented: bool,
            error: bool,
            content_type in "application/(grpc|json)(\\+proto)?",
            realm in ".*",
        ) {
            let reason = Reason::all().nth(at).unwrap();
            let mut verdict = verdict_of(reason);
            if let Decision::Deny(denial) = &mut verdict.decision {
                denial.credential_presented = presented;
            }
            let kind = if error { UndecidedAnswer::ErrorResponse } else { UndecidedAnswer::DeniedResponse };
            let http = request("any", &[("content-type", &content_type)]);
            let answers = Answers::new(&realm, &CredentialHeaders::default(), kind);
            let response = answers.answer(&verdict, HttpView::new(&http));
            let code = response.status.as_ref().unwrap().code;
            prop_assert_eq!(code == 0, matches!(reason, Reason::Allow(_)));
            if code != 0 {
                let denied = denied(response);
                let status = denied.status.as_ref().unwrap().code;
                prop_assert!([400, 401, 503].contains(&status));
                let challenges = headers(&denied.headers);
                let challenges = challenges.iter().filter(|(name, _)| *name == "www-authenticate");
                prop_assert_eq!(challenges.count(), usize::from(status == 401));
                let visible = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
                prop_assert!(headers(&denied.headers).iter().all(|(_, value)| visible(value)));
                prop_assert!(visible(&denied.body));
            }
        }
    }
}
