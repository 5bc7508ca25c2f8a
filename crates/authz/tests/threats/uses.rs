//! Uses of credentials as they are counted, and what is found of refused ones.

use std::time::Duration;

use scoregate_authz::{
    Decision, EntryChange, Finding, KeyFingerprint, PolicyDocument, Slot, Snapshot, UsedCredential, Uses,
};
use serde_json::json;

use crate::support::{
    ES256, K1, K2, NOW, OTHER_ES256, Request, SCORER, WRONG_KEY, World, changed, claims_with, key_digest,
    key_policy, key_service, service, snapshot_of, token_policy,
};

const NEW_KEY: &str = "another-primary-key";

/// Decides, and counts as a gate does.
fn use_credential(world: &World, credential: &str) {
    let verdict = world.verdict(&Request::to(SCORER.0).bearer(credential), &());
    if let Decision::Allow(permit) = &verdict.decision {
        verdict.service.unwrap().note_use(permit, world.now);
    }
}

fn taken(snapshot: &Snapshot) -> Vec<Uses> {
    snapshot.services().flat_map(|service| service.take_uses().collect::<Vec<_>>()).collect()
}

fn fingerprint(key: &str) -> KeyFingerprint {
    key_digest(SCORER.1, key).fingerprint()
}

fn uses(slot: Slot, key: &str, count: u64, last_used: u64) -> Uses {
    Uses { credential: UsedCredential::Key(slot, fingerprint(key)), count, last_used }
}

fn replace_primary(world: &mut World) {
    world.change(vec![EntryChange::Put(key_service(SCORER, NEW_KEY, K2))]);
}

#[test]
fn uses_are_counted_by_slot_and_taken_once() {
    let world = World::with_keys();
    use_credential(&world, K1);
    let world = world.at(Duration::from_secs(NOW + 5));
    use_credential(&world, K1);
    use_credential(&world, K2);
    use_credential(&world, WRONG_KEY);
    let expected = [uses(Slot::Primary, K1, 2, NOW + 5), uses(Slot::Secondary, K2, 1, NOW + 5)];
    assert_eq!(taken(&world.snapshot), expected);
    assert_eq!(taken(&world.snapshot), []);
    let world = world.at(Duration::from_secs(NOW));
    use_credential(&world, K2);
    let expected = [uses(Slot::Secondary, K2, 1, NOW + 5)];
    assert_eq!(taken(&world.snapshot), expected, "a clock that is set back makes no use older");
}

#[test]
fn uses_of_tokens_are_counted_together() {
    let world = World::with_tokens();
    use_credential(&world, &ES256.good_token());
    use_credential(&world, &ES256.token(&claims_with(&json!({ "sub": "another" }))));
    let expected = Uses { credential: UsedCredential::Token, count: 2, last_used: NOW };
    assert_eq!(taken(&world.snapshot), [expected]);
}

#[test]
fn what_shadow_lets_through_is_no_use() {
    let policy = PolicyDocument { shadow_until: NOW + 60, ..key_policy(SCORER.1, K1, K2) };
    let world = World::of(vec![service(SCORER, Some(policy))]);
    use_credential(&world, WRONG_KEY);
    assert_eq!(taken(&world.snapshot), []);
}

#[test]
fn uses_of_a_key_that_stays_survive_a_change() {
    let mut world = World::with_keys();
    use_credential(&world, K1);
    use_credential(&world, K2);
    let before = world.snapshot.clone();
    replace_primary(&mut world);
    use_credential(&world, NEW_KEY);
    use_credential(&world, K2);
    let expected = [uses(Slot::Primary, NEW_KEY, 1, NOW), uses(Slot::Secondary, K2, 2, NOW)];
    assert_eq!(taken(&world.snapshot), expected, "the new key has none of the old one's");
    assert_eq!(taken(&before), [uses(Slot::Primary, K1, 1, NOW)]);
}

#[test]
fn uses_survive_a_change_of_another_service_and_a_complete_snapshot() {
    let mut world = World::with_keys();
    use_credential(&world, K1);
    world.change(vec![EntryChange::Put(key_service(("another", "uid-9"), K1, K2))]);
    let complete = snapshot_of(vec![key_service(SCORER, K1, K2)]).unwrap();
    complete.succeed(&world.snapshot);
    world.snapshot = complete;
    use_credential(&world, K1);
    assert_eq!(taken(&world.snapshot), [uses(Slot::Primary, K1, 2, NOW)]);
}

#[test]
fn uses_end_with_the_service() {
    let mut world = World::with_keys();
    use_credential(&world, K1);
    world.change(vec![EntryChange::Delete(crate::support::service_id(SCORER.1))]);
    world.change(vec![EntryChange::Put(key_service(SCORER, K1, K2))]);
    assert_eq!(taken(&world.snapshot), []);
}

fn finding(world: &World, credential: &str) -> Option<Finding> {
    world.verdict(&Request::to(SCORER.0).bearer(credential), &()).finding
}

#[test]
fn a_key_that_was_replaced_is_told_from_an_unknown_one() {
    let mut world = World::with_keys();
    assert_eq!(finding(&world, K1), None, "it is allowed");
    replace_primary(&mut world);
    assert_eq!(finding(&world, K1), Some(Finding::ReplacedKey(Slot::Primary)));
    assert_eq!(finding(&world, WRONG_KEY), None);
    let steps = world.steps(&Request::to(SCORER.0).bearer(K1));
    assert!(steps.contains("the key that was the primary one until it was replaced"), "{steps}");
    // Another change of the service, and then a snapshot that was not made from this one.
    world.change(vec![EntryChange::Put(key_service(SCORER, NEW_KEY, "another-secondary-key"))]);
    assert_eq!(finding(&world, K1), Some(Finding::ReplacedKey(Slot::Primary)));
    assert_eq!(finding(&world, K2), Some(Finding::ReplacedKey(Slot::Secondary)));
    let again = snapshot_of(vec![key_service(SCORER, NEW_KEY, "another-secondary-key")]).unwrap();
    again.succeed(&world.snapshot);
    world.snapshot = again;
    assert_eq!(finding(&world, K2), Some(Finding::ReplacedKey(Slot::Secondary)));
    world.snapshot = changed(&world.snapshot, vec![EntryChange::Put(key_service(SCORER, K1, K2))]).unwrap();
    assert_eq!(finding(&world, K1), None, "it came back");
}

#[test]
fn only_a_signing_key_of_the_workspace_is_named() {
    let world = World::with_tokens();
    let known = Some(Finding::SigningKey(ES256.kid().into()));
    let expired = ES256.token(&claims_with(&json!({ "exp": NOW - 1 })));
    assert_eq!(finding(&world, &expired), known);
    let forged = OTHER_ES256.token_of(ES256.header().to_string(), claims_with(&json!({})).to_string());
    assert_eq!(finding(&world, &forged), known, "a bad signature, by its own word of this key");
    assert_eq!(finding(&world, &OTHER_ES256.good_token()), None, "its `kid` is anybody's text");
    let policy = service(SCORER, Some(PolicyDocument { tokens_not_before: NOW + 1, ..token_policy() }));
    let revoked = World::of(vec![policy, ES256.entry()]);
    assert_eq!(finding(&revoked, &ES256.good_token()), known);
}
