//! e. Static keys.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rstest::rstest;
use scoregate_authz::{
    DenyReason, DigestDocument, Entry, EntryChange, InvalidPolicy, Item, Pepper, Peppers, PlainKey, Policy,
    PolicyDocument, Service, ServiceUid, Slot, Snapshot, UndecidedReason, check,
};

use crate::support::*;

use DenyReason::{DuplicateCredential, MalformedCredential, UnknownKey, UnknownService, WrongCredentialKind};
use Outcome::{Key, Refused, Undecided};

fn present(world: &World, key: &str) -> Outcome {
    world.decide(&Request::to(SCORER.0).bearer(key))
}

#[test]
fn t054_each_key_opens_and_is_told_apart() {
    let world = World::with_keys();
    assert_eq!(present(&world, K1), Key(Slot::Primary));
    assert_eq!(present(&world, K2), Key(Slot::Secondary));
    let (primary, secondary) = (generated_key(1), generated_key(2));
    let world = World::of(vec![key_service(SCORER, primary.expose(), secondary.expose())]);
    assert_eq!(present(&world, primary.expose()), Key(Slot::Primary));
    assert_eq!(present(&world, secondary.expose()), Key(Slot::Secondary));
}

#[rstest]
#[case::chosen(K1.to_owned())]
#[case::generated(generated_key(1).expose().to_owned())]
fn t055_a_key_with_any_bit_flipped(#[case] key: String) {
    let world = World::of(vec![key_service(SCORER, &key, K2)]);
    assert_eq!(present(&world, &key), Key(Slot::Primary));
    for position in 0..key.len() {
        for bit in 0..8 {
            let mut flipped = key.clone().into_bytes();
            flipped[position] ^= 1 << bit;
            let is_key_character = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
            let is_last = position == key.len() - 1;
            let expected = match flipped[position] {
                b',' => DuplicateCredential,
                b'=' if is_last => UnknownKey,
                byte if is_key_character(&byte) => UnknownKey,
                _ => MalformedCredential,
            };
            let request =
                Request::to(SCORER.0).header("authorization", [b"Bearer ", flipped.as_slice()].concat());
            assert_eq!(world.decide(&request), Refused(expected), "bit {bit} at {position}");
        }
    }
}

#[rstest]
#[case::chosen(K1.to_owned())]
#[case::generated(generated_key(1).expose().to_owned())]
fn t055_a_key_truncated_or_extended_by_one(#[case] key: String) {
    let world = World::of(vec![key_service(SCORER, &key, K2)]);
    let others = [
        key[1..].to_owned(),
        key[..key.len() - 1].to_owned(),
        format!("{key}a"),
        format!("a{key}"),
        format!("{key}="),
        format!("{key}{key}"),
    ];
    for other in others {
        assert_eq!(present(&world, &other), Refused(UnknownKey));
    }
}

#[test]
fn t056_what_is_stored_is_not_a_key() {
    let world = World::with_keys();
    let stored = key_digest(SCORER.1, K1);
    let plain = digest::digest(&digest::SHA256, K1.as_bytes());
    for bytes in [stored.as_bytes().as_slice(), plain.as_ref()] {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let forms = [
            hex.clone(),
            hex.to_uppercase(),
            STANDARD.encode(bytes),
            URL_SAFE_NO_PAD.encode(bytes),
            format!("sha256-{hex}"),
            format!("{}.{hex}", pepper().id()),
        ];
        for form in forms {
            assert_eq!(present(&world, &form), Refused(UnknownKey), "{form}");
        }
        assert_eq!(present(&world, &format!("sha256:{hex}")), Refused(MalformedCredential));
        let raw = Request::to(SCORER.0).header("authorization", [b"Bearer ", bytes].concat());
        assert!(!matches!(world.decide(&raw), Key(_)));
    }
}

#[test]
fn t057_the_key_of_another_service() {
    let world = World::of(vec![key_service(SCORER, K1, K2), key_service(OTHER, "another-key-of-other", K2)]);
    let foreign = world.decide(&Request::to(OTHER.0).bearer(K1));
    assert_eq!(foreign, Refused(UnknownKey));
    assert_eq!(foreign.answer(), world.decide(&Request::to(OTHER.0).bearer(WRONG_KEY)).answer());
}

#[test]
fn t058_one_key_on_two_services() {
    let mut world =
        World::of(vec![key_service(SCORER, K1, K2), key_service(OTHER, "another-key-of-other", K1)]);
    let of = |world: &World, name: &str| {
        let verdict = world.verdict(&Request::to(name).bearer(K1), &());
        (Outcome::from(&verdict.decision), verdict.service.unwrap().name().to_string())
    };
    assert_eq!(of(&world, SCORER.0), (Key(Slot::Primary), SCORER.0.to_owned()));
    assert_eq!(of(&world, OTHER.0), (Key(Slot::Secondary), OTHER.0.to_owned()));
    assert_ne!(key_digest(SCORER.1, K1).as_bytes(), key_digest(OTHER.1, K1).as_bytes());
    world.change(vec![EntryChange::Put(key_service(SCORER, "a-new-key-of-scorer", K2))]);
    assert_eq!(of(&world, SCORER.0).0, Refused(UnknownKey));
    assert_eq!(of(&world, OTHER.0).0, Key(Slot::Secondary));
}

#[test]
fn t059_two_equal_keys_make_the_policy_invalid_and_revive_no_older_one() {
    let revoked = "a-key-revoked-long-ago";
    let mut world = World::of(vec![key_service(SCORER, revoked, K2), key_service(OTHER, K1, K2)]);
    assert_eq!(present(&world, revoked), Key(Slot::Primary));
    world.change(vec![EntryChange::Put(key_service(SCORER, K1, K1))]);
    let problem = world.snapshot.services().next().unwrap().problem().cloned();
    assert_eq!(problem, Some(InvalidPolicy::EqualKeys));
    for key in [K1, K2, revoked] {
        assert_eq!(present(&world, key), Undecided(UndecidedReason::InvalidPolicy));
    }
    assert_eq!(world.decide(&Request::to(OTHER.0).bearer(K1)), Key(Slot::Primary));
}

/// The digest of the empty text: what a lost key leaves behind.
fn digest_of_nothing() -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, PEPPER);
    hmac::sign(&key, format!("{}\0", SCORER.1).as_bytes()).as_ref().to_vec()
}

#[rstest]
#[case::of_the_empty_text(digest_of_nothing())]
#[case::all_zero(vec![0; 32])]
#[case::empty(Vec::new())]
#[case::too_short(vec![7; 31])]
#[case::too_long(vec![7; 33])]
#[case::hexadecimal("ab".repeat(32).into_bytes())]
#[case::not_hexadecimal("zz".repeat(32).into_bytes())]
fn t060_impossible_digests_in_policy(#[case] digest: Vec<u8>) {
    for slot in Slot::ALL {
        let mut policy = key_policy(SCORER.1, K1, K2);
        let slot_in_policy = match slot {
            Slot::Primary => &mut policy.primary,
            Slot::Secondary => &mut policy.secondary,
        };
        *slot_in_policy = Some(digest_document(&digest));
        let world = World::of(vec![service(SCORER, Some(policy))]);
        let problem = world.snapshot.services().next().unwrap().problem().cloned();
        assert_eq!(problem, Some(InvalidPolicy::Digest(slot)));
        assert_eq!(present(&world, K1), Undecided(UndecidedReason::InvalidPolicy));
    }
}

#[test]
fn t060_an_empty_credential_matches_no_digest() {
    // Not even one of the plain SHA-256 of nothing, which no key has.
    let of_nothing = digest::digest(&digest::SHA256, b"");
    let policy = PolicyDocument {
        secondary: Some(digest_document(of_nothing.as_ref())),
        ..key_policy(SCORER.1, K1, K2)
    };
    let world = World::of(vec![service(SCORER, Some(policy))]);
    let empty = world.decide(&Request::to(SCORER.0).header("authorization", "Bearer "));
    assert_eq!(empty, Refused(MalformedCredential));
    assert_eq!(present(&world, "="), Refused(MalformedCredential));
    assert_eq!(present(&world, K1), Key(Slot::Primary));
}

const NEW_KEY: &str = "the-regenerated-primary-key";

#[test]
fn t061_a_regenerated_primary_replaces_the_old_and_leaves_the_secondary() {
    let mut world = World::with_keys();
    world.change(vec![EntryChange::Put(key_service(SCORER, NEW_KEY, K2))]);
    assert_eq!(present(&world, NEW_KEY), Key(Slot::Primary));
    assert_eq!(present(&world, K2), Key(Slot::Secondary));
    assert_eq!(present(&world, K1), Refused(UnknownKey));
}

#[test]
fn t061_under_constant_load_the_secondary_never_fails() {
    let world = World::with_keys();
    let current = Mutex::new(Arc::new(world.snapshot.clone()));
    let is_done = AtomicBool::new(false);
    let request = Request::to(SCORER.0).bearer(K2);
    let decide = |snapshot: &Snapshot| {
        let verdict = check(&world.rules, Policy::Current(snapshot), Some(&request), world.now, &(), &mut ());
        Outcome::from(&verdict.decision)
    };
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                let snapshot = Arc::clone(&current.lock().unwrap());
                assert_eq!(decide(&snapshot), Key(Slot::Secondary));
            }
        });
        for round in 0..200 {
            let before = Arc::clone(&current.lock().unwrap());
            let next = key_service(SCORER, &format!("primary-key-of-round-{round}"), K2);
            let after = changed(&before, vec![EntryChange::Put(next)]).unwrap();
            *current.lock().unwrap() = Arc::new(after);
        }
        is_done.store(true, Ordering::Relaxed);
        caller.join().unwrap();
    });
}

#[test]
fn t063_two_quick_regenerations_leave_no_window_with_neither() {
    let mut world = World::with_keys();
    for (primary, secondary) in [(NEW_KEY, K2), ("the-primary-key-after-that", K2)] {
        let before = world.snapshot.clone();
        world.change(vec![EntryChange::Put(key_service(SCORER, primary, secondary))]);
        assert_eq!(present(&world, primary), Key(Slot::Primary));
        assert_eq!(present(&world, K2), Key(Slot::Secondary));
        let still_before = World { snapshot: before, ..World::with_keys() };
        assert_eq!(present(&still_before, K2), Key(Slot::Secondary), "the old snapshot is untouched");
    }
}

#[test]
fn t063_swapped_keys_stay_good_throughout() {
    let mut world = World::with_keys();
    assert_eq!((present(&world, K1), present(&world, K2)), (Key(Slot::Primary), Key(Slot::Secondary)));
    world.change(vec![EntryChange::Put(key_service(SCORER, K2, K1))]);
    assert_eq!((present(&world, K1), present(&world, K2)), (Key(Slot::Secondary), Key(Slot::Primary)));
}

#[rstest]
#[case::primary(Slot::Primary)]
#[case::secondary(Slot::Secondary)]
fn t067_every_byte_of_both_digests_counts(#[case] slot: Slot) {
    let of_slot = |policy: &PolicyDocument| match slot {
        Slot::Primary => policy.primary.clone(),
        Slot::Secondary => policy.secondary.clone(),
    };
    let (key, other_key) = match slot {
        Slot::Primary => (K1, K2),
        Slot::Secondary => (K2, K1),
    };
    for position in 0..32 {
        let mut policy = key_policy(SCORER.1, K1, K2);
        let mut digest = of_slot(&policy).unwrap();
        digest.digest[position] ^= 1;
        match slot {
            Slot::Primary => policy.primary = Some(digest),
            Slot::Secondary => policy.secondary = Some(digest),
        }
        let world = World::of(vec![service(SCORER, Some(policy))]);
        assert_eq!(present(&world, key), Refused(UnknownKey), "mismatch at {position}");
        assert_eq!(present(&world, other_key), Key(slot.other()), "the other slot is compared all the same");
    }
}

#[test]
fn t067_an_unknown_service_is_refused_as_a_wrong_key_is() {
    let world = World::with_keys();
    for credential in [WRONG_KEY, generated_key(9).expose(), "x", &ES256.good_token(), &"a".repeat(600)] {
        let unknown = world.decide(&Request::to("nobody").bearer(credential));
        assert_eq!(unknown, Refused(UnknownService));
        assert_eq!(unknown.answer(), present(&world, credential).answer());
    }
}

#[test]
fn t068_a_hundred_thousand_random_keys_leave_nothing_behind() {
    let world = World::of(vec![key_service(SCORER, K1, K2), token_service(OTHER), ES256.entry()]);
    let cache = Cache::default();
    let before = world.snapshot.state_hash();
    for number in 0..100_000_u32 {
        let key = format!("random-key-{:08x}", number.wrapping_mul(2_654_435_761));
        let to_keys = Request::to(SCORER.0).bearer(&key);
        assert_eq!(world.decide_with(&to_keys, &cache), Refused(UnknownKey));
        if number % 10 == 0 {
            let to_tokens = Request::to(OTHER.0).bearer(&key);
            assert_eq!(world.decide_with(&to_tokens, &cache), Refused(DenyReason::MalformedToken));
        }
    }
    assert_eq!(cache.len(), 0, "only what was proven is remembered");
    assert_eq!(world.snapshot.state_hash(), before);
    assert_eq!(present(&world, K1), Key(Slot::Primary));
}

#[test]
fn t069_a_refused_key_that_is_added_is_allowed_at_once() {
    const K3: &str = "a-key-that-comes-later";
    let mut world = World::with_keys();
    let cache = Cache::default();
    let request = Request::to(SCORER.0).bearer(K3);
    assert_eq!(world.decide_with(&request, &cache), Refused(UnknownKey));
    world.change(vec![EntryChange::Put(key_service(SCORER, K3, K2))]);
    assert_eq!(world.decide_with(&request, &cache), Key(Slot::Primary));
}

#[test]
fn t069_a_refused_token_is_allowed_at_once_when_its_key_arrives() {
    let mut world = World::of(vec![token_service(SCORER), OTHER_ES256.entry()]);
    let cache = Cache::default();
    let request = Request::to(SCORER.0).bearer(&ES256.good_token());
    assert_eq!(world.decide_with(&request, &cache), Refused(DenyReason::UnknownSigningKey));
    world.change(vec![EntryChange::Put(ES256.entry())]);
    assert_eq!(world.decide_with(&request, &cache), Outcome::Subject("someone".to_owned()));
}

#[rstest]
#[case("' OR 1=1--", MalformedCredential)]
#[case("'OR'1'='1", MalformedCredential)]
#[case("${jndi:ldap://x/y}", MalformedCredential)]
#[case("%s%s%s%n", MalformedCredential)]
#[case("{{7*7}}", MalformedCredential)]
#[case("$(id)", MalformedCredential)]
#[case("{\"$ne\":null}", MalformedCredential)]
#[case("*)(uid=*", MalformedCredential)]
#[case(".*", MalformedCredential)]
#[case("<script>", MalformedCredential)]
#[case("../../", UnknownKey)]
#[case("../../../../etc/passwd", UnknownKey)]
#[case("..................", UnknownKey)]
#[case("primary-key-of-.......", UnknownKey)]
#[case("null", UnknownKey)]
#[case("undefined", UnknownKey)]
fn t070_keys_are_not_interpreted(#[case] key: &str, #[case] reason: DenyReason) {
    assert_eq!(present(&World::with_keys(), key), Refused(reason));
}

#[test]
fn t072_a_key_for_tokens_and_a_token_for_keys() {
    let (primary, secondary) = (generated_key(1), generated_key(2));
    let token = ES256.good_token();
    let mut world = World::of(vec![key_service(SCORER, primary.expose(), secondary.expose()), ES256.entry()]);
    assert_eq!(present(&world, &token), Refused(WrongCredentialKind));
    world.change(vec![EntryChange::Put(token_service(SCORER))]);
    assert_eq!(present(&world, &token), Outcome::Subject("someone".to_owned()));
    assert_eq!(present(&world, primary.expose()), Refused(WrongCredentialKind));
}

#[test]
fn t072_a_chosen_key_is_no_token_either() {
    // Nothing shows that this is a key: it is a malformed token as much.
    assert_eq!(present(&World::with_tokens(), K1), Refused(DenyReason::MalformedToken));
}

#[test]
fn keys_under_two_peppers_are_both_good_while_one_is_introduced() {
    let new = Pepper::new(b"another pepper, as long as it has to be").unwrap();
    let peppers = Peppers::new(vec![new.clone(), pepper()]).unwrap();
    let uid: ServiceUid = SCORER.1.parse().unwrap();
    let digest = new.digest(&uid, &PlainKey::choose(K1).unwrap());
    let primary = DigestDocument { digest: digest.as_bytes().to_vec(), pepper_id: new.id().to_owned() };
    let policy = PolicyDocument { primary: Some(primary), ..key_policy(SCORER.1, K1, K2) };
    let service = Service::new(uid, SCORER.0.parse().unwrap(), Some(policy), &peppers);
    let item = Item::Service(Arc::new(service));
    let entry = Entry::new(service_id(SCORER.1), SCORER.0.to_owned(), Vec::new(), item);
    let mut world = World::of(vec![entry]);
    world.rules.peppers = peppers;
    assert_eq!(present(&world, K1), Key(Slot::Primary));
    assert_eq!(present(&world, K2), Key(Slot::Secondary));
    assert_eq!(present(&world, WRONG_KEY), Refused(UnknownKey));
}

#[test]
fn debug_output_shows_no_digest_in_policy() {
    let world = World::with_keys();
    let digest = key_digest(SCORER.1, K1);
    let policy = key_policy(SCORER.1, K1, K2);
    let shown =
        format!("{:?} {policy:?} {:?}", world.snapshot, EntryChange::Put(key_service(SCORER, K1, K2)));
    let first_bytes = format!("{:?}", &digest.as_bytes()[..4]);
    assert!(!shown.contains(first_bytes.trim_matches(['[', ']'])), "{shown}");
}
