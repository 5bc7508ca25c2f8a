//! d. Finding the credential.

use rstest::rstest;
use scoregate_authz::{
    CredentialHeaders, DenyReason, EntryChange, InvalidCredentialHeaders, MAX_CREDENTIAL_LENGTH, Reason, Slot,
};
use serde_json::json;

use crate::support::*;

use DenyReason::{
    AmbiguousCredential, DuplicateCredential, EmptyCredential, MalformedCredential, MissingCredential,
    UnknownKey, UnsupportedScheme,
};
use Outcome::{Key, Refused, RefusedBare};

const BOTH: [Encoding; 2] = [Encoding::Map, Encoding::Raw];

/// What is decided of one `authorization`, sent in either encoding. `<K1>` stands for the primary key.
fn decide_authorization(value: &[u8]) -> Outcome {
    let [in_map, raw] = BOTH.map(|encoding| {
        World::with_keys().decide(&Request::to(SCORER.0).header_in(encoding, "authorization", value))
    });
    assert_eq!(in_map, raw, "the encodings differ");
    raw
}

fn with_keys_in(text: &str) -> Vec<u8> {
    text.replace("<K1>", K1).replace("<K2>", K2).replace("<T>", &ES256.good_token()).into_bytes()
}

#[rstest]
#[case::map(Encoding::Map)]
#[case::raw(Encoding::Raw)]
fn t038_one_value_in_two_headers(#[case] encoding: Encoding) {
    let request = Request::to(SCORER.0)
        .header_in(encoding, "authorization", format!("Bearer {K1}"))
        .header_in(encoding, "authorization", format!("Bearer {K1}"));
    assert_eq!(World::with_keys().decide(&request), Refused(DuplicateCredential));
}

#[rstest]
#[case::good_then_bad(K1, WRONG_KEY)]
#[case::bad_then_good(WRONG_KEY, K1)]
#[case::both_good(K1, K2)]
#[case::good_then_nothing(K1, "")]
#[case::nothing_then_good("", K1)]
fn t039_two_values_in_two_headers(#[case] first: &str, #[case] second: &str) {
    for encoding in BOTH {
        for name in ["authorization", "Authorization"] {
            let request = Request::to(SCORER.0)
                .header_in(encoding, "authorization", format!("Bearer {first}"))
                .header_in(encoding, name, format!("Bearer {second}"));
            assert_eq!(World::with_keys().decide(&request), Refused(DuplicateCredential));
        }
    }
}

#[rstest]
#[case("Bearer <K1>, Bearer <T>")]
#[case("Bearer <T>, Bearer <K1>")]
#[case("Bearer bad,Bearer <K1>")]
#[case("Bearer <K1>,Bearer bad")]
#[case("Bearer <K1>,<K2>")]
#[case("Bearer <K1>,")]
#[case("Bearer ,<K1>")]
#[case("Bearer , Bearer <K1>")]
fn t040_values_joined_by_commas(#[case] value: &str) {
    assert_eq!(decide_authorization(&with_keys_in(value)), Refused(DuplicateCredential));
}

#[rstest]
#[case(",Bearer <K1>", MalformedCredential)]
#[case(", Bearer <K1>", MalformedCredential)]
#[case("Bearer,Bearer <K1>", MalformedCredential)]
#[case("Basic dXNlcjpLMQ==, Bearer <K1>", UnsupportedScheme)]
#[case("Bearer <K1>; Bearer <K2>", MalformedCredential)]
fn t040_other_joined_forms(#[case] value: &str, #[case] reason: DenyReason) {
    assert_eq!(decide_authorization(&with_keys_in(value)), Refused(reason));
}

const TWO_HEADERS: [&str; 2] = ["authorization", "x-api-key"];

#[rstest]
#[case::both_good(K1, "Bearer <K2>")]
#[case::key_good(K1, "Bearer bad-bad-bad-bad-bad")]
#[case::token_good("bad-bad-bad-bad-bad", "Bearer <T>")]
#[case::both_bad("bad", "bad")]
#[case::one_empty(K1, "")]
fn t041_credentials_in_two_headers(#[case] api_key: &str, #[case] authorization: &str) {
    for world in [World::with_keys(), World::with_tokens()] {
        let world = world.credential_headers(&TWO_HEADERS);
        for encoding in BOTH {
            let request = Request::to(SCORER.0).header_in(encoding, "x-api-key", api_key).header_in(
                encoding,
                "authorization",
                with_keys_in(authorization),
            );
            assert_eq!(world.decide(&request), Refused(AmbiguousCredential));
        }
    }
}

#[test]
fn t041_either_header_alone_is_read() {
    let world = World::with_keys().credential_headers(&TWO_HEADERS);
    assert_eq!(world.decide(&Request::to(SCORER.0).bearer(K1)), Key(Slot::Primary));
    assert_eq!(world.decide(&Request::to(SCORER.0).header("X-Api-Key", K2)), Key(Slot::Secondary));
    let prefixed = Request::to(SCORER.0).header("x-api-key", format!("Bearer {K1}"));
    assert_eq!(world.decide(&prefixed), Refused(MalformedCredential));
    let only_authorization = World::with_keys();
    assert_eq!(
        only_authorization.decide(&Request::to(SCORER.0).header("x-api-key", K1)),
        RefusedBare(MissingCredential)
    );
}

#[test]
fn t042_a_good_credential_does_not_heal_a_bad_one() {
    let mut world = World::with_tokens().credential_headers(&TWO_HEADERS);
    let expired = ES256.token(&claims_with(&json!({ "exp": NOW - 1 })));
    let revoked_key_good_token =
        Request::to(SCORER.0).header("x-api-key", WRONG_KEY).bearer(&ES256.good_token());
    let good_key_expired_token = Request::to(SCORER.0).header("x-api-key", K1).bearer(&expired);
    assert_eq!(world.decide(&revoked_key_good_token), Refused(AmbiguousCredential));
    world.change(vec![EntryChange::Put(key_service(SCORER, K1, K2))]);
    assert_eq!(world.decide(&good_key_expired_token), Refused(AmbiguousCredential));
}

#[rstest]
#[case("/score?access_token=<K1>")]
#[case("/score?apikey=<K1>&api_key=<K1>")]
#[case("/score?Authorization=Bearer%20<K1>")]
#[case("/score?access_token=<T>")]
fn t043_the_query_is_never_read(#[case] path: &str) {
    let path = String::from_utf8(with_keys_in(path)).unwrap();
    for world in [World::with_keys(), World::with_tokens()] {
        assert_eq!(world.decide(&Request::to(SCORER.0).path(&path)), RefusedBare(MissingCredential));
    }
}

#[rstest]
#[case("Bearer <K1>")]
#[case("bearer <K1>")]
#[case("BEARER <K1>")]
#[case("bEaReR <K1>")]
#[case(" Bearer <K1>")]
#[case("Bearer <K1> ")]
#[case("\t Bearer <K1> \t")]
fn t046_forms_of_the_scheme_that_are_good(#[case] value: &str) {
    assert_eq!(decide_authorization(&with_keys_in(value)), Key(Slot::Primary));
}

#[rstest]
#[case("Bearer  <K1>")]
#[case("Bearer\t<K1>")]
#[case("Bearer \t<K1>")]
#[case("Bearer<K1>")]
#[case("Bearer")]
#[case("Bearer ")]
#[case("Bearer <K1> x")]
#[case("Bearer <K1>=x")]
#[case("Bearer =")]
#[case("Bearer \"<K1>\"")]
#[case("Bearer: <K1>")]
#[case("<K1>")]
#[case("=")]
fn t046_forms_of_the_scheme_that_are_not(#[case] value: &str) {
    assert_eq!(decide_authorization(&with_keys_in(value)), Refused(MalformedCredential));
}

#[rstest]
#[case("Basic dXNlcjpLMQ==")]
#[case("basic <K1>")]
#[case("Digest username=\"x\"")]
#[case("Negotiate YII=")]
#[case("DPoP <T>")]
#[case("Token <K1>")]
#[case("Bearer2 <K1>")]
#[case("ApiKey <K1>")]
fn t047_other_schemes(#[case] value: &str) {
    assert_eq!(decide_authorization(&with_keys_in(value)), Refused(UnsupportedScheme));
}

#[rstest]
fn t048_bytes_that_no_credential_has(
    #[values(0x00, 0x01, b'\r', b'\n', b'\t', b' ', 0x7f, 0x80, 0xa0, 0xc3, 0xff, b'!', b'"', b'%', b'\\')]
    byte: u8,
    #[values(0, 1, 10)] position: usize,
) {
    let mut value = format!("Bearer {K1}").into_bytes();
    value.insert("Bearer ".len() + position, byte);
    assert_eq!(decide_authorization(&value), Refused(MalformedCredential));
    let bare = &value["Bearer ".len()..];
    let surrounded_by_space = position == 0 && matches!(byte, b' ' | b'\t');
    if !surrounded_by_space {
        let world = World::with_keys().credential_headers(&["x-api-key"]);
        assert_eq!(
            world.decide(&Request::to(SCORER.0).header("x-api-key", bare)),
            Refused(MalformedCredential)
        );
    }
}

#[rstest]
#[case(format!("Bearer {K1}!"))]
#[case(format!("Bearer {K1}"))]
#[case(format!("Bearer {K1}, Bearer {K2}"))]
#[case(format!("Basic {K1}"))]
#[case(format!("Bearer {}", ES256.good_token()))]
fn t048_no_step_of_a_decision_shows_what_was_presented(#[case] value: String) {
    let secret = value.split_once(' ').unwrap().1;
    for world in [World::with_keys(), World::with_tokens(), World::of(Vec::new())] {
        let steps = world.steps(&Request::to(SCORER.0).header("authorization", &value));
        for part in [secret, &secret[..8], K1] {
            assert!(!steps.contains(part), "{steps}");
        }
    }
}

#[rstest]
#[case::empty("")]
#[case::space(" ")]
#[case::tabs("\t\t")]
fn t049_an_empty_header_is_counted_apart_from_none(#[case] value: &str) {
    let empty = decide_authorization(value.as_bytes());
    let absent = World::with_keys().decide(&Request::to(SCORER.0));
    assert_eq!((&empty, &absent), (&RefusedBare(EmptyCredential), &RefusedBare(MissingCredential)));
    assert_eq!(empty.answer(), absent.answer());
    let [empty, absent] = [EmptyCredential, MissingCredential].map(Reason::Deny);
    assert_eq!((empty.code(), absent.code()), ("missing_credential", "missing_credential"));
    assert_eq!((empty.metric_label(), absent.metric_label()), ("empty_credential", "missing_credential"));
}

#[rstest]
#[case::one_byte(1, UnknownKey)]
#[case::four_kib(4 * 1024, UnknownKey)]
#[case::the_longest(MAX_CREDENTIAL_LENGTH - "Bearer ".len(), UnknownKey)]
#[case::one_more(MAX_CREDENTIAL_LENGTH - "Bearer ".len() + 1, MalformedCredential)]
#[case::sixty_kib(60 * 1024, MalformedCredential)]
#[case::one_mib(1024 * 1024, MalformedCredential)]
fn t050_the_length_is_bounded(#[case] length: usize, #[case] reason: DenyReason) {
    assert_eq!(decide_authorization(format!("Bearer {}", "a".repeat(length)).as_bytes()), Refused(reason));
}

#[test]
fn t050_a_value_that_is_too_long_is_neither_hashed_nor_decoded() {
    let world = World::with_tokens();
    let cache = Cache::default();
    // A token is looked up by its digest before anything else is done with it.
    for length in [60 * 1024, 1024 * 1024] {
        let token = format!("{}.{}", ES256.good_token(), "A".repeat(length));
        let request = Request::to(SCORER.0).bearer(&token);
        assert_eq!(world.decide_with(&request, &cache), Refused(MalformedCredential));
    }
    // Whatever is in it, even what would be refused for another reason if it were read.
    let mut joined = vec![b','; 60 * 1024];
    joined.extend(b"\0\xff");
    let request = Request::to(SCORER.0).header("authorization", joined);
    assert_eq!(world.decide_with(&request, &cache), Refused(MalformedCredential));
    assert_eq!(cache.lookups(), 0);
}

#[rstest]
#[case("x-forwarded-authorization")]
#[case("proxy-authorization")]
#[case("x-authorization")]
#[case("authentication")]
#[case("authorization ")]
#[case("authorization:")]
#[case("cookie")]
#[case("te")]
fn t053_other_headers_are_ignored(#[case] name: &str) {
    // Trailers never reach a check: it is made of the headers, before a body or trailers are read.
    let request = Request::to(SCORER.0).header(name, format!("Bearer {K1}"));
    assert_eq!(World::with_keys().decide(&request), RefusedBare(MissingCredential));
    assert_eq!(World::with_keys().decide(&request.bearer(K1)), Key(Slot::Primary));
}

#[rstest]
#[case("Authorization")]
#[case("AUTHORIZATION")]
#[case("aUTHORIZATION")]
fn names_of_headers_have_no_case(#[case] name: &str) {
    for encoding in BOTH {
        let request = Request::to(SCORER.0).header_in(encoding, name, format!("Bearer {K1}"));
        assert_eq!(World::with_keys().decide(&request), Key(Slot::Primary));
    }
}

#[rstest]
#[case::the_same(Some(K1), Some(K1), Key(Slot::Primary))]
#[case::two_keys(Some(K1), Some(K2), Refused(AmbiguousCredential))]
#[case::only_in_the_map(Some(K1), None, Refused(AmbiguousCredential))]
#[case::only_in_the_list(None, Some(K1), Refused(AmbiguousCredential))]
#[case::in_neither(None, None, RefusedBare(MissingCredential))]
fn two_encodings_at_once_have_to_agree(
    #[case] in_map: Option<&str>,
    #[case] in_list: Option<&str>,
    #[case] expected: Outcome,
) {
    let mut request = Request::to(SCORER.0).header_in(Encoding::Map, ":method", "POST").header_in(
        Encoding::Raw,
        ":method",
        "POST",
    );
    for (encoding, key) in [(Encoding::Map, in_map), (Encoding::Raw, in_list)] {
        if let Some(key) = key {
            request = request.header_in(encoding, "authorization", format!("Bearer {key}"));
        }
    }
    assert_eq!(World::with_keys().decide(&request), expected);
}

#[rstest]
#[case(&[], InvalidCredentialHeaders::None)]
#[case(&["Authorization"], InvalidCredentialHeaders::Name("Authorization".to_owned()))]
#[case(&[""], InvalidCredentialHeaders::Name(String::new()))]
#[case(&[":path"], InvalidCredentialHeaders::Name(":path".to_owned()))]
#[case(&["x_api_key"], InvalidCredentialHeaders::Name("x_api_key".to_owned()))]
#[case(&["host"], InvalidCredentialHeaders::Reserved("host".to_owned()))]
#[case(&["content-length"], InvalidCredentialHeaders::Reserved("content-length".to_owned()))]
#[case(&["cookie"], InvalidCredentialHeaders::Reserved("cookie".to_owned()))]
#[case(&["x-scoregate-subject"], InvalidCredentialHeaders::Reserved("x-scoregate-subject".to_owned()))]
#[case(&["x-api-key", "x-api-key"], InvalidCredentialHeaders::Twice("x-api-key".to_owned()))]
fn credential_headers_are_checked(#[case] names: &[&str], #[case] problem: InvalidCredentialHeaders) {
    let names = names.iter().copied().map(str::to_owned).collect();
    assert_eq!(CredentialHeaders::new(names).unwrap_err(), problem);
}
