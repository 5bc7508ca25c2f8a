//! Any header and any payload, signed: what is allowed, a second verifier accepts as well.
//!
//! An input is a header and a payload with a zero byte between them; without one it is the payload under a good header.

#![no_main]

use libfuzzer_sys::fuzz_target;
use scoregate_authz::Decision;
use scoregate_fuzz::second_opinion;
use scoregate_fuzz::signer::{EDDSA, claims};
use scoregate_fuzz::world::{TOKEN_SERVICE, decide, request_in_map};
use serde_json::{Map, Value};

fuzz_target!(
    init: {
        let (header, claims) = (EDDSA.header().to_string(), claims().to_string());
        let seeds = [claims.clone(), format!("{header}\0{claims}")];
        scoregate_fuzz::seeds::plant("signed_token", seeds.map(String::into_bytes));
    },
    |input: &[u8]| {
        let good_header = EDDSA.header().to_string();
        let (header, payload) = match input.iter().position(|byte| *byte == 0) {
            Some(at) => (&input[..at], &input[at + 1..]),
            None => (good_header.as_bytes(), input),
        };
        let authorization = format!("Bearer {}", EDDSA.token(header, payload));
        let Decision::Allow(permit) = decide(&request_in_map(TOKEN_SERVICE, &authorization)) else { return };
        let token = EDDSA.token(&without_unread(header), payload);
        match second_opinion::claims(&token) {
            Ok(claims) => assert_eq!(permit.subject(), Some(claims.sub.as_str())),
            Err(problem) => panic!("allowed, but the other says: {problem}"),
        }
    }
);

/// The header with the members that are read. The other verifier has opinions on the form of members that it does not
/// use either, such as `x5c`; it stops at a member that it has twice, as a header that was allowed cannot have.
fn without_unread(header: &[u8]) -> Vec<u8> {
    let mut members: Map<String, Value> =
        serde_json::from_slice(header).expect("an allowed header is an object");
    members.retain(|name, _| ["alg", "typ", "kid", "crit", "cty", "zip", "b64"].contains(&name.as_str()));
    assert_eq!(Value::Object(members.clone()), EDDSA.header(), "read members that are not the good ones");
    serde_json::to_vec(&members).expect("an object can be written")
}
