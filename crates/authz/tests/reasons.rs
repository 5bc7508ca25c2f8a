//! docs/reasons.md has every reason once, and no other.

use std::collections::BTreeSet;

use scoregate_authz::{DenyReason, Reason, UndecidedReason};

const DOCUMENT: &str = include_str!("../../../docs/reasons.md");

fn status(reason: Reason) -> &'static str {
    match reason {
        Reason::Allow(_) => "the model's",
        Reason::Deny(DenyReason::NoHttp | DenyReason::AmbiguousPath) => "400",
        Reason::Deny(_) => "401",
        Reason::Undecided(
            UndecidedReason::NoPolicy
            | UndecidedReason::StalePolicy
            | UndecidedReason::InvalidPolicy
            | UndecidedReason::NoVerificationKey
            | UndecidedReason::Internal,
        ) => "503",
    }
}

#[test]
fn document_lists_each_reason_with_its_status() {
    let listed: Vec<(&str, &str)> = DOCUMENT
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            Some((cells.next()?.strip_suffix('`')?, cells.next()?))
        })
        .collect();
    let expected: BTreeSet<_> = Reason::all().map(|reason| (reason.code(), status(reason))).collect();
    assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(listed.len(), expected.len(), "a reason is listed twice");
}
