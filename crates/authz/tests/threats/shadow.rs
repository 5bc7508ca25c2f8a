//! Shadow: what it lets through, and for how long.

use std::time::Duration;

use rstest::rstest;
use scoregate_authz::{DenyReason, Finding, MAX_SHADOW, PolicyDocument, Slot, UndecidedReason};
use serde_json::json;

use crate::support::{
    ES256, K1, K2, NOW, Outcome, Request, SCORER, WRONG_KEY, World, claims_with, key_policy, open_policy,
    service, token_policy,
};

const DAY: u64 = 24 * 3600;

fn in_shadow(policy: PolicyDocument) -> World {
    World::of(vec![
        service(SCORER, Some(PolicyDocument { shadow_until: NOW + DAY, ..policy })),
        ES256.entry(),
    ])
}

fn keyed() -> World {
    in_shadow(key_policy(SCORER.1, K1, K2))
}

#[test]
fn shadow_lets_a_refused_credential_through_and_says_why_it_would_be_refused() {
    use DenyReason::{AmbiguousCredential, DuplicateCredential, MissingCredential, UnknownKey};
    let world = keyed();
    let request = Request::to(SCORER.0);
    let twice = request.clone().header("authorization", "Bearer one").header("authorization", "Bearer two");
    assert_eq!(world.decide(&request), Outcome::Shadow(MissingCredential));
    assert_eq!(world.decide(&request.clone().bearer(WRONG_KEY)), Outcome::Shadow(UnknownKey));
    assert!(matches!(world.decide(&twice), Outcome::Shadow(DuplicateCredential | AmbiguousCredential)));
    assert_eq!(world.decide(&request.bearer(K1)), Outcome::Key(Slot::Primary), "proven all the same");
    let token = ES256.token(&claims_with(&json!({ "exp": NOW - 1 })));
    let world = in_shadow(token_policy());
    assert_eq!(world.decide(&Request::to(SCORER.0).bearer(&token)), Outcome::Shadow(DenyReason::Expired));
}

#[rstest]
#[case::a_second_before_the_end(DAY - 1, true)]
#[case::the_end(DAY, false)]
#[case::long_after(10 * DAY, false)]
fn shadow_ends_by_the_gates_own_clock(#[case] later: u64, #[case] lets_through: bool) {
    let world = keyed().at(Duration::from_secs(NOW + later));
    let outcome = world.decide(&Request::to(SCORER.0).bearer(WRONG_KEY));
    let reason = DenyReason::UnknownKey;
    assert_eq!(outcome, if lets_through { Outcome::Shadow(reason) } else { Outcome::Refused(reason) });
}

#[test]
fn shadow_that_would_last_longer_than_any_may_is_none() {
    let begins = NOW + DAY - MAX_SHADOW.as_secs();
    for (early, expected) in
        [(60, Outcome::Shadow(DenyReason::UnknownKey)), (61, Outcome::Refused(DenyReason::UnknownKey))]
    {
        let world = keyed().at(Duration::from_secs(begins - early));
        assert_eq!(world.decide(&Request::to(SCORER.0).bearer(WRONG_KEY)), expected, "{early}");
    }
}

#[test]
fn shadow_lets_nothing_through_that_concerns_no_service_or_cannot_be_decided() {
    let world = keyed();
    let wrong = Request::to(SCORER.0).bearer(WRONG_KEY);
    let ambiguous = wrong.clone().path("/score/../admin");
    assert_eq!(world.decide(&ambiguous), Outcome::RefusedBare(DenyReason::AmbiguousPath));
    let unknown = Request::to("nobody").bearer(WRONG_KEY);
    assert_eq!(world.decide(&unknown), Outcome::Refused(DenyReason::UnknownService));
    let invalid = in_shadow(PolicyDocument { secondary: None, ..key_policy(SCORER.1, K1, K2) });
    assert_eq!(invalid.decide(&wrong), Outcome::Undecided(UndecidedReason::InvalidPolicy));
    let policy = PolicyDocument { shadow_until: NOW + DAY, ..token_policy() };
    let without_keys = World::of(vec![service(SCORER, Some(policy))]);
    assert_eq!(without_keys.decide(&wrong), Outcome::Undecided(UndecidedReason::NoVerificationKey));
    assert_eq!(in_shadow(open_policy()).decide(&wrong), Outcome::Open);
}

#[test]
fn shadow_is_a_step_of_the_explanation() {
    let steps = keyed().steps(&Request::to(SCORER.0).bearer(WRONG_KEY));
    assert!(steps.contains("unknown_key is let through, for another 86400 s"), "{steps}");
}

#[test]
fn snapshot_lists_the_services_in_shadow() {
    let mut world = keyed();
    let names = |world: &World| {
        world.snapshot.shadows().map(|service| service.name().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&world), [SCORER.0]);
    let put = service(SCORER, Some(key_policy(SCORER.1, K1, K2)));
    world.change(vec![scoregate_authz::EntryChange::Put(put)]);
    assert!(names(&world).is_empty());
    assert!(names(&in_shadow(open_policy())).is_empty(), "there is nothing to refuse");
}

#[test]
fn finding_is_told_of_what_shadow_lets_through() {
    let token = ES256.token(&claims_with(&json!({ "exp": NOW - 1 })));
    let verdict = in_shadow(token_policy()).verdict(&Request::to(SCORER.0).bearer(&token), &());
    assert_eq!(verdict.finding, Some(Finding::SigningKey(ES256.kid().into())));
}
