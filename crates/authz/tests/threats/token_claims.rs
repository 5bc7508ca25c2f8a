//! h. Tokens: claims.

use std::time::Duration;

use rstest::rstest;
use scoregate_authz::{
    DenyReason, EntryChange, MAX_CLOCK_SKEW, MAX_SUBJECT_LENGTH, PolicyDocument, ServiceUid,
};
use serde_json::{Value, json};

use crate::support::*;

use DenyReason::{
    BadSignature, Expired, LifetimeTooLong, MalformedCredential, MalformedToken, MissingClaim, NotYetValid,
    Revoked, UnknownKey, UnknownSigningKey, WrongIssuer, WrongService,
};
use Outcome::{Refused, Subject};

fn good() -> Outcome {
    Subject("someone".to_owned())
}

fn present_to(world: &World, token: &str) -> Outcome {
    world.decide(&Request::to(SCORER.0).bearer(token))
}

fn present(token: &str) -> Outcome {
    present_to(&World::with_tokens(), token)
}

/// What is decided of good claims with one set to a value, given as JSON text.
fn with_claim(name: &str, json: &str) -> Outcome {
    let mut members = claims(SCORER.1);
    members.as_object_mut().unwrap().remove(name);
    let payload = members.to_string().replacen('{', &format!("{{\"{name}\":{json},"), 1);
    present(&ES256.token_of(ES256.header().to_string(), payload))
}

#[rstest]
fn t093_each_claim_is_required(#[values("iss", "aud", "sub", "exp", "nbf", "iat")] name: &str) {
    let mut members = claims(SCORER.1);
    members.as_object_mut().unwrap().remove(name);
    assert_eq!(present(&ES256.token(&members)), Refused(MissingClaim));
}

#[rstest]
#[case("\"1999999999\"", Refused(MalformedToken))]
#[case("\"never\"", Refused(MalformedToken))]
#[case("null", Refused(MalformedToken))]
#[case("true", Refused(MalformedToken))]
#[case("[1999999999]", Refused(MalformedToken))]
#[case("{}", Refused(MalformedToken))]
#[case("-1", Refused(MalformedToken))]
#[case("-0.5", Refused(MalformedToken))]
#[case("1e308", Refused(MalformedToken))]
#[case("NaN", Refused(MalformedToken))]
#[case("9223372036854775807", Refused(MalformedToken))]
#[case("9223372036854775808", Refused(MalformedToken))]
#[case("18446744073709551615", Refused(MalformedToken))]
#[case("18446744073709551616", Refused(MalformedToken))]
#[case("253402300800", Refused(MalformedToken))]
#[case("253402300799", Refused(LifetimeTooLong))]
#[case("253402300799.5", Refused(LifetimeTooLong))]
#[case("0", Refused(Expired))]
#[case("-0", Refused(Expired))]
#[case("-0.0", Refused(Expired))]
#[case("1e3", Refused(Expired))]
#[case("1e-400", Refused(Expired))]
#[case("1999999999", good())]
#[case("1999999999.9", good())]
#[case("1999999999.0", good())]
#[case("1.999999999e9", good())]
fn t093_values_of_an_expiry(#[case] json: &str, #[case] expected: Outcome) {
    assert_eq!(with_claim("exp", json), expected);
}

/// Seconds and nanoseconds relative to the expiry.
#[rstest]
#[case::without_skew(0, 0)]
#[case::with_some(30, 30)]
#[case::with_the_most(60, 60)]
#[case::with_too_much(3600, 60)]
fn t094_the_boundary_of_expiry_is_exact(#[case] configured: u64, #[case] effective: u64) {
    let expiry = NOW + 3600;
    let token = ES256.good_token();
    let world = || World::with_tokens().clock_skew(Duration::from_secs(configured));
    let end = Duration::from_secs(expiry + effective);
    let nanosecond = Duration::from_nanos(1);
    assert_eq!(present_to(&world().at(end - nanosecond), &token), good());
    assert_eq!(present_to(&world().at(end), &token), Refused(Expired));
    assert_eq!(present_to(&world().at(end + nanosecond), &token), Refused(Expired));
    assert!(Duration::from_secs(effective) <= MAX_CLOCK_SKEW);
}

#[test]
fn t094_a_fraction_of_a_second_counts() {
    let token = ES256.token(&claims_with(&json!({ "exp": 1_999_990_100.5 })));
    let at = |nanos: u32| World::with_tokens().at(Duration::new(1_999_990_100, nanos));
    assert_eq!(present_to(&at(499_999_999), &token), good());
    assert_eq!(present_to(&at(500_000_000), &token), Refused(Expired));
}

#[rstest]
#[case::now("nbf", 0, 0, good())]
#[case::one_second_on("nbf", 1, 0, Refused(NotYetValid))]
#[case::within_skew("nbf", 60, 60, good())]
#[case::beyond_skew("nbf", 61, 60, Refused(NotYetValid))]
#[case::beyond_the_most("nbf", 61, 3600, Refused(NotYetValid))]
#[case::long_past("nbf", -1_999_990_000, 0, good())]
#[case::issued_one_second_on("iat", 1, 0, Refused(NotYetValid))]
#[case::issued_within_skew("iat", 60, 60, good())]
#[case::issued_beyond_skew("iat", 61, 60, Refused(NotYetValid))]
fn t095_not_before(#[case] claim: &str, #[case] offset: i64, #[case] skew: u64, #[case] expected: Outcome) {
    let value = i64::try_from(NOW).unwrap() + offset;
    let token = ES256.token(&claims_with(&json!({ claim: value })));
    let world = World::with_tokens().clock_skew(Duration::from_secs(skew));
    assert_eq!(present_to(&world, &token), expected);
}

#[rstest]
fn t095_times_that_are_no_numbers(
    #[values("nbf", "iat")] claim: &str,
    #[values("\"1999990000\"", "\"\"", "null", "false", "[]", "-1", "1e308")] json: &str,
) {
    assert_eq!(with_claim(claim, json), Refused(MalformedToken));
}

#[rstest]
#[case::far_future(json!({ "iat": NOW + 1_000_000, "exp": NOW + 1_000_100 }), Refused(NotYetValid))]
#[case::end_of_time(json!({ "iat": 253_402_300_799_u64, "exp": 253_402_300_799_u64 }), Refused(NotYetValid))]
#[case::longest_lifetime(json!({ "exp": NOW + 12 * 3600 }), good())]
#[case::one_second_more(json!({ "exp": NOW + 12 * 3600 + 1 }), Refused(LifetimeTooLong))]
#[case::a_fraction_more(json!({ "exp": 1_999_990_000.5 + 43_200.0 }), Refused(LifetimeTooLong))]
#[case::issued_long_ago(json!({ "iat": 0, "nbf": 0 }), Refused(LifetimeTooLong))]
#[case::ends_before_it_begins(json!({ "iat": NOW, "exp": NOW - 1 }), Refused(Expired))]
fn t096_issue_time_and_lifetime(#[case] members: Value, #[case] expected: Outcome) {
    assert_eq!(present(&ES256.token(&claims_with(&members))), expected);
}

#[rstest]
#[case(json!("https://good.example/"))]
#[case(json!("HTTPS://GOOD.EXAMPLE"))]
#[case(json!("https://good.example.evil"))]
#[case(json!("https://good.exampl"))]
#[case(json!(" https://good.example"))]
#[case(json!("https://good.example\0"))]
#[case(json!("http://good.example"))]
#[case(json!("good.example"))]
#[case(json!(""))]
#[case(json!(["https://good.example"]))]
#[case(json!({ "iss": "https://good.example" }))]
#[case(json!(null))]
#[case(json!(1))]
fn t097_issuers_that_are_not_the_one(#[case] issuer: Value) {
    assert_eq!(present(&ES256.token(&claims_with(&json!({ "iss": issuer })))), Refused(WrongIssuer));
}

#[test]
fn t097_no_issuer() {
    let mut members = claims(SCORER.1);
    members.as_object_mut().unwrap().remove("iss");
    assert_eq!(present(&ES256.token(&members)), Refused(MissingClaim));
}

#[rstest]
#[case::empty_array(json!([]))]
#[case::empty(json!(""))]
#[case::array_of_the_right_one(json!(["urn:scoregate:service:uid-1"]))]
#[case::array_of_right_and_wrong(json!(["urn:scoregate:service:uid-1", "urn:scoregate:service:uid-2"]))]
#[case::nested(json!({ "aud": "urn:scoregate:service:uid-1" }))]
#[case::nested_arrays(json!([["urn:scoregate:service:uid-1"]]))]
#[case::null(json!(null))]
#[case::shorter(json!("urn:scoregate:service:uid-"))]
#[case::longer(json!("urn:scoregate:service:uid-11"))]
#[case::prefix_only(json!("urn:scoregate:service:"))]
#[case::uid_only(json!("uid-1"))]
#[case::name(json!("scorer"))]
#[case::by_name(json!("urn:scoregate:service:scorer"))]
#[case::other_case(json!("URN:scoregate:service:uid-1"))]
#[case::spaces(json!(" urn:scoregate:service:uid-1 "))]
#[case::several_in_one(json!("urn:scoregate:service:uid-1 urn:scoregate:service:uid-2"))]
#[case::prefix_twice(json!("urn:scoregate:service:urn:scoregate:service:uid-1"))]
#[case::another_service(json!("urn:scoregate:service:uid-2"))]
fn t098_audiences_that_are_not_the_one(#[case] audience: Value) {
    assert_eq!(present(&ES256.token(&claims_with(&json!({ "aud": audience })))), Refused(WrongService));
}

#[test]
fn t098_no_audience_and_the_right_one() {
    let mut members = claims(SCORER.1);
    members.as_object_mut().unwrap().remove("aud");
    assert_eq!(present(&ES256.token(&members)), Refused(MissingClaim));
    let audience = SCORER.1.parse::<ServiceUid>().unwrap().audience();
    assert_eq!(present(&ES256.token(&claims_with(&json!({ "aud": audience })))), good());
}

#[test]
fn t098_another_workspace() {
    // Its services have other uids, its issuer is another, and its keys are not known here.
    let of_their_service = claims_with(&json!({ "aud": "urn:scoregate:service:uid-of-theirs" }));
    assert_eq!(present(&ES256.token(&of_their_service)), Refused(WrongService));
    let of_their_issuer = claims_with(&json!({ "iss": "https://their.example" }));
    assert_eq!(present(&ES256.token(&of_their_issuer)), Refused(WrongIssuer));
    assert_eq!(present(&OTHER_ES256.good_token()), Refused(UnknownSigningKey));
}

#[test]
fn t100_the_token_of_another_service() {
    let world = World::of(vec![token_service(SCORER), token_service(OTHER), ES256.entry()]);
    let of_scorer = ES256.good_token();
    let to_other = world.decide(&Request::to(OTHER.0).bearer(&of_scorer));
    assert_eq!(to_other, Refused(WrongService));
    let bad_token = world.decide(&Request::to(OTHER.0).bearer("a.bad.token"));
    let bad_key = World::with_keys().decide(&Request::to(SCORER.0).bearer(WRONG_KEY));
    assert_eq!((&bad_token, &bad_key), (&Refused(MalformedToken), &Refused(UnknownKey)));
    assert_eq!(to_other.answer(), bad_token.answer());
    assert_eq!(to_other.answer(), bad_key.answer());
}

#[rstest]
#[case::in_two_changes(false)]
#[case::in_one_change(true)]
fn t100b_the_token_of_a_service_made_again_under_its_name(#[case] at_once: bool) {
    let mut world = World::with_tokens();
    let cache = Cache::default();
    let request = Request::to(SCORER.0).bearer(&ES256.good_token());
    assert_eq!(world.decide_with(&request, &cache), good());
    let again = || EntryChange::Put(token_service((SCORER.0, "uid-9")));
    let gone = || EntryChange::Delete(service_id(SCORER.1));
    if at_once {
        world.change(vec![again(), gone()]);
    } else {
        world.change(vec![gone()]);
        world.change(vec![again()]);
    }
    assert_eq!(world.decide_with(&request, &cache), Refused(WrongService));
    let new = ES256.token(&claims("uid-9"));
    assert_eq!(world.decide_with(&Request::to(SCORER.0).bearer(&new), &cache), good());
}

#[test]
fn t101_a_remembered_token_is_evaluated_anew_for_another_service() {
    let world = World::of(vec![token_service(SCORER), token_service(OTHER), ES256.entry()]);
    let cache = Cache::default();
    let token = ES256.good_token();
    assert_eq!(world.decide_with(&Request::to(SCORER.0).bearer(&token), &cache), good());
    assert_eq!(world.decide_with(&Request::to(OTHER.0).bearer(&token), &cache), Refused(WrongService));
    assert_eq!((cache.hits(), cache.len()), (1, 1), "the proof was found, and did not decide");
    assert_eq!(world.decide_with(&Request::to(SCORER.0).bearer(&token), &cache), good());
}

/// A world in which the good token was just allowed and is remembered.
fn remembered() -> (World, Cache, Request) {
    let (world, cache) =
        (World::of(vec![token_service(SCORER), ES256.entry(), EDDSA.entry()]), Cache::default());
    let request = Request::to(SCORER.0).bearer(&ES256.good_token());
    assert_eq!(world.decide_with(&request, &cache), good());
    assert_eq!(world.decide_with(&request, &cache), good());
    assert_eq!((cache.lookups(), cache.hits()), (2, 1));
    (world, cache, request)
}

#[test]
fn t102_a_remembered_token_expires() {
    let (world, cache, request) = remembered();
    let at_expiry = world.at(Duration::from_secs(NOW + 3600));
    assert_eq!(at_expiry.decide_with(&request, &cache), Refused(Expired));
    assert_eq!(cache.hits(), 2);
}

#[test]
fn t102_a_remembered_token_goes_with_its_key() {
    let (mut world, cache, request) = remembered();
    world.change(vec![EntryChange::Delete(key_id(ES256.kid()))]);
    assert_eq!(world.decide_with(&request, &cache), Refused(UnknownSigningKey));
    world.change(vec![EntryChange::Put(ES256.entry())]);
    assert_eq!(world.decide_with(&request, &cache), good(), "and comes back with it");
}

#[test]
fn t102_a_remembered_token_goes_when_its_key_id_gets_another_key() {
    let (mut world, cache, request) = remembered();
    world.change(vec![EntryChange::Put(Signer::es256(ES256.kid()).entry())]);
    assert_eq!(world.decide_with(&request, &cache), Refused(BadSignature));
}

#[rstest]
#[case::up_to_its_second(NOW, good())]
#[case::past_it(NOW + 1, Refused(Revoked))]
fn t102_a_remembered_token_is_revoked_by_time(#[case] not_before: u64, #[case] expected: Outcome) {
    let (mut world, cache, request) = remembered();
    let policy = PolicyDocument { tokens_not_before: not_before, ..token_policy() };
    world.change(vec![EntryChange::Put(service(SCORER, Some(policy)))]);
    assert_eq!(world.decide_with(&request, &cache), expected);
    assert_eq!(cache.hits(), 2);
}

#[test]
fn t102_a_remembered_token_is_refused_in_another_mode() {
    let (mut world, cache, request) = remembered();
    world.change(vec![EntryChange::Put(key_service(SCORER, K1, K2))]);
    assert_eq!(world.decide_with(&request, &cache), Refused(DenyReason::WrongCredentialKind));
}

#[rstest]
#[case("__proto__")]
#[case("constructor")]
#[case("../../admin")]
#[case("{{7*7}}\"'<>")]
#[case("a")]
fn t104_subjects_are_only_ever_text(#[case] subject: &str) {
    let token = ES256.token(&claims_with(&json!({ "sub": subject })));
    assert_eq!(present(&token), Subject(subject.to_owned()));
}

#[rstest]
#[case::empty(json!(""))]
#[case::space(json!("a b"))]
#[case::line_break(json!("admin\r\nx-scoregate-service: other"))]
#[case::nul(json!("a\0"))]
#[case::not_ascii(json!("\u{e4}dmin"))]
#[case::right_to_left(json!("\u{202e}nimda"))]
#[case::null(json!(null))]
#[case::number(json!(0))]
#[case::array(json!(["admin"]))]
#[case::one_too_long(json!("a".repeat(MAX_SUBJECT_LENGTH + 1)))]
fn t104_subjects_that_no_header_could_carry(#[case] subject: Value) {
    assert_eq!(present(&ES256.token(&claims_with(&json!({ "sub": subject })))), Refused(MalformedToken));
}

#[test]
fn t104_long_subjects() {
    let of_length = |length: usize| ES256.token(&claims_with(&json!({ "sub": "a".repeat(length) })));
    assert_eq!(present(&of_length(MAX_SUBJECT_LENGTH)), Subject("a".repeat(MAX_SUBJECT_LENGTH)));
    assert_eq!(present(&of_length(10 * 1024)), Refused(MalformedCredential));
}

#[rstest]
#[case::the_first_second(Duration::ZERO, Refused(NotYetValid))]
#[case::the_last(Duration::MAX, Refused(Expired))]
fn clocks_that_are_far_out_do_not_panic(#[case] now: Duration, #[case] expected: Outcome) {
    let world = World::with_tokens().at(now).clock_skew(Duration::MAX);
    assert_eq!(present_to(&world, &ES256.good_token()), expected);
    let latest = json!({ "exp": 253_402_300_799.9, "nbf": 253_402_300_799.9, "iat": 253_402_300_799.9 });
    assert_eq!(present_to(&world, &ES256.token(&claims_with(&latest))), expected);
}
