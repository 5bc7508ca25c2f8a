//! The value of `authorization` to a key: both encodings agree, and only the two keys are allowed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use scoregate_authz::{Decision, Slot};
use scoregate_fuzz::world::{KEY_SERVICE, PRIMARY, SECONDARY, decide, request_in_list, request_in_map};

fuzz_target!(
    init: {
        let seeds = [format!("Bearer {PRIMARY}"), format!("bearer {SECONDARY}"), format!("Basic {PRIMARY}, x")];
        scoregate_fuzz::seeds::plant("credential", seeds.map(String::into_bytes));
    },
    |value: &[u8]| {
        let decision = decide(&request_in_list(KEY_SERVICE, value));
        if let Ok(text) = str::from_utf8(value) {
            assert_eq!(decide(&request_in_map(KEY_SERVICE, text)), decision, "one value, two readings");
        }
        let expected = slot_of(value);
        match decision {
            Decision::Allow(permit) => assert_eq!(permit.key_slot(), Some(expected.expect("a wrong key"))),
            Decision::Deny(_) => assert_eq!(expected, None, "a right key is refused"),
            Decision::Undecided(reason) => panic!("undecided: {reason:?}"),
        }
    }
);

/// Whose value it is, told in the plainest way.
fn slot_of(value: &[u8]) -> Option<Slot> {
    let text = str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    let (scheme, key) = text.split_once(' ')?;
    match key {
        _ if !scheme.eq_ignore_ascii_case("bearer") => None,
        PRIMARY => Some(Slot::Primary),
        SECONDARY => Some(Slot::Secondary),
        _ => None,
    }
}
