//! Bytes of a `CheckRequest` to the answer: nobody is allowed without a credential, and an allow is never by mistake.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use scoregate::config::UndecidedAnswer;
use scoregate::gate::{Answers, HttpView};
use scoregate::proto::envoy::service::auth::v3::check_response::HttpResponse;
use scoregate::proto::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use scoregate_authz::{AuthMode, CredentialHeaders, Decision, Permit, TargetSource};
use scoregate_fuzz::signer::{EDDSA, ES256};
use scoregate_fuzz::world::{
    KEY_SERVICE, OPEN_SERVICE, PRIMARY, SECONDARY, SNAPSHOT, TOKEN_SERVICE, request_in_list, request_in_map,
    rules, verdict,
};

fuzz_target!(
    init: {
        let key = format!("Bearer {PRIMARY}");
        let token = format!("Bearer {}", EDDSA.good_token());
        let requests = [
            request_in_list(KEY_SERVICE, key.as_bytes()),
            request_in_map(KEY_SERVICE, &key),
            request_in_list(TOKEN_SERVICE, token.as_bytes()),
            request_in_map(OPEN_SERVICE, ""),
        ];
        scoregate_fuzz::seeds::plant("check_request", requests.iter().map(Message::encode_to_vec));
    },
    |bytes: &[u8]| {
        let Ok(request) = CheckRequest::decode(bytes) else { return };
        for target in [TargetSource::ContextExtensions, TargetSource::HostPath] {
            let rules = rules(target);
            let verdict = verdict(&rules, &SNAPSHOT, &request);
            if let Decision::Allow(permit) = &verdict.decision {
                assert_is_earned(permit, bytes);
            }
            let answers = Answers::new("r", &CredentialHeaders::default(), UndecidedAnswer::DeniedResponse);
            let response = answers.answer(&verdict, HttpView::new(&request));
            assert_eq!(is_allow(&response), matches!(verdict.decision, Decision::Allow(_)));
        }
    }
);

/// The credential that the permit is for is somewhere in the request.
fn assert_is_earned(permit: &Permit, request: &[u8]) {
    let holds = |text: &str| request.windows(text.len()).any(|window| window == text.as_bytes());
    let earned = match permit.auth_mode() {
        // Hosts have no letter case.
        Some(AuthMode::Disabled) => {
            let mut windows = request.windows(OPEN_SERVICE.len());
            windows.any(|window| window.eq_ignore_ascii_case(OPEN_SERVICE.as_bytes()))
        }
        Some(AuthMode::Key) => holds(PRIMARY) || holds(SECONDARY),
        Some(AuthMode::Token) => {
            // The signature of ES256 is another one each time; what it signs is not.
            let es256 = ES256.good_token();
            holds(&EDDSA.good_token()) || holds(es256.rsplit_once('.').unwrap().0)
        }
        // No service here is in shadow.
        None => false,
    };
    assert!(earned, "{permit:?}");
}

/// As Envoy reads it: it goes by the status first, and by the kind of answer then.
fn is_allow(response: &CheckResponse) -> bool {
    let is_ok = response.status.as_ref().is_none_or(|status| status.code == 0);
    let is_ok_response = matches!(response.http_response, Some(HttpResponse::OkResponse(_)) | None);
    assert_eq!(is_ok, is_ok_response, "{response:?}");
    is_ok
}
