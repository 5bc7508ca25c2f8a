//! The text of a token to its claims: nothing but what was signed is ever allowed.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use scoregate_authz::Decision;
use scoregate_fuzz::signer::{EDDSA, ES256};
use scoregate_fuzz::world::{TOKEN_SERVICE, decide, request_in_map};

static EDDSA_TOKEN: LazyLock<String> = LazyLock::new(|| EDDSA.good_token());
static ES256_TOKEN: LazyLock<String> = LazyLock::new(|| ES256.good_token());

fuzz_target!(
    init: scoregate_fuzz::seeds::plant("token", [&EDDSA_TOKEN, &ES256_TOKEN].map(|token| token.as_bytes().to_vec())),
    |token: &str| {
        let decision = decide(&request_in_map(TOKEN_SERVICE, &format!("Bearer {token}")));
        assert!(!matches!(decision, Decision::Undecided(_)), "{decision:?}");
        let is_allowed = matches!(decision, Decision::Allow(_));
        // ECDSA has more than one signature for a message, and makes another one each time.
        let message = |token: &str| token.rsplit_once('.').map(|(message, _)| message.to_owned());
        let is_signed = token.trim_end_matches([' ', '\t']) == *EDDSA_TOKEN || message(token) == message(&ES256_TOKEN);
        assert!(is_signed || !is_allowed, "a forged token");
    }
);
