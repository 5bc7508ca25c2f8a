//! f. Tokens: structure.

use rstest::rstest;
use scoregate_authz::DenyReason;
use serde_json::json;

use crate::support::*;

use DenyReason::{
    BadSignature, DuplicateCredential, MalformedCredential, MalformedToken, UnknownSigningKey,
    WrongCredentialKind,
};
use Outcome::{Refused, Subject};

fn present(token: &str) -> Outcome {
    World::with_tokens().decide(&Request::to(SCORER.0).bearer(token))
}

#[test]
fn a_good_token_of_each_algorithm_is_good() {
    for signer in [&*ES256, &*EDDSA, &*RS256] {
        let world = World::of(vec![token_service(SCORER), signer.entry()]);
        let outcome = world.decide(&Request::to(SCORER.0).bearer(&signer.good_token()));
        assert_eq!(outcome, Subject("someone".to_owned()), "{}", signer.algorithm());
    }
}

/// `H`, `P` and `S` stand for the segments of a good token.
#[rstest]
#[case("H", MalformedToken)]
#[case("H.P", MalformedToken)]
#[case("H.P.S.S", MalformedToken)]
#[case("H.P.S.S.S", MalformedToken)]
#[case("H.P.P.P.P.S", MalformedToken)]
#[case(".P.S", MalformedToken)]
#[case("H..S", MalformedToken)]
#[case("H.P.", MalformedToken)]
#[case("..", MalformedToken)]
#[case("...", MalformedToken)]
#[case(".", MalformedToken)]
#[case("a..c", MalformedToken)]
#[case(".H.P.S", MalformedToken)]
#[case("H.P.S.", MalformedToken)]
#[case("H.P.S=", BadSignature)]
#[case("H=.P.S", MalformedCredential)]
#[case("H. P.S", MalformedCredential)]
#[case("H.P.S x", MalformedCredential)]
#[case("H\t.P.S", MalformedCredential)]
#[case("H.P\n.S", MalformedCredential)]
#[case("H.P.S,H.P.S", DuplicateCredential)]
fn t073_forms_that_are_not_three_segments(#[case] form: &str, #[case] reason: DenyReason) {
    let token = ES256.good_token();
    let segments: Vec<_> = token.split('.').collect();
    let text: String = form
        .chars()
        .map(|letter| match letter {
            'H' => segments[0].to_owned(),
            'P' => segments[1].to_owned(),
            'S' => segments[2].to_owned(),
            other => other.to_string(),
        })
        .collect();
    assert_eq!(present(&text), Refused(reason));
}

#[test]
fn t073_an_encrypted_token() {
    let header = encode(r#"{"alg":"RSA-OAEP","enc":"A256GCM","kid":"es-1"}"#);
    assert_eq!(present(&format!("{header}.AAAA.AAAA.AAAA.AAAA")), Refused(MalformedToken));
    // Five empty segments but the first, as in CVE-2026-34986.
    assert_eq!(present(&format!("{header}....")), Refused(MalformedToken));
}

#[rstest]
#[case::empty(b"")]
#[case::not_json(b"hello")]
#[case::null(b"null")]
#[case::array(b"[]")]
#[case::array_of_an_object(b"[{}]")]
#[case::number(b"1")]
#[case::text(b"\"text\"")]
#[case::truncated(b"{\"alg\":\"ES256\"")]
#[case::trailing(b"{}x")]
#[case::two_objects(b"{}{}")]
#[case::byte_order_mark(b"\xef\xbb\xbf{}")]
#[case::utf_16(b"{\0}\0")]
#[case::invalid_utf8(b"{\"a\":\"\xff\"}")]
#[case::overlong_utf8(b"{\"a\":\"\xc0\xaf\"}")]
#[case::raw_surrogate(b"{\"a\":\"\xed\xa0\x80\"}")]
#[case::lone_surrogate(b"{\"a\":\"\\ud800\"}")]
#[case::reversed_surrogates(b"{\"a\":\"\\udc00\\ud800\"}")]
#[case::not_a_number(b"{\"a\":NaN}")]
#[case::infinity(b"{\"a\":Infinity}")]
#[case::raw_control(b"{\"a\":\"\n\"}")]
#[case::raw_nul(b"{\"a\":\"\0\"}")]
#[case::leading_zero(b"{\"a\":01}")]
#[case::plus(b"{\"a\":+1}")]
#[case::hexadecimal(b"{\"a\":0x1}")]
#[case::comment(b"{/**/}")]
#[case::single_quotes(b"{'a':1}")]
#[case::trailing_comma(b"{\"a\":1,}")]
#[case::name_without_quotes(b"{a:1}")]
fn t075_header_or_payload_that_is_no_json_object(#[case] text: &[u8]) {
    let good = claims(SCORER.1).to_string();
    assert_eq!(present(&ES256.token_of(text, &good)), Refused(MalformedToken), "as the header");
    assert_eq!(
        present(&ES256.token_of(ES256.header().to_string(), text)),
        Refused(MalformedToken),
        "as the payload"
    );
}

/// Something in a payload that is otherwise good, and signed.
fn with_extra_claim(json: &str) -> String {
    let good = claims(SCORER.1).to_string();
    ES256.token_of(ES256.header().to_string(), good.replacen('{', &format!("{{\"extra\":{json},"), 1))
}

#[rstest]
#[case::depth_of_2000(format!("{}{}", "[".repeat(2000), "]".repeat(2000)))]
#[case::depth_of_2000_objects(format!("{}1{}", "{\"a\":".repeat(700), "}".repeat(700)))]
#[case::unclosed("[".repeat(5000))]
#[case::exponent("1e400".to_owned())]
#[case::negative_exponent_of_much("-1e999999".to_owned())]
#[case::number_of_5000_digits("9".repeat(5000))]
fn t076_json_that_costs_much(#[case] json: String) {
    assert_eq!(present(&with_extra_claim(&json)), Refused(MalformedToken));
}

#[rstest]
#[case::depth_of_10_000(format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)))]
#[case::claim_of_1_mb(format!("\"{}\"", "a".repeat(1_000_000)))]
#[case::hundred_thousand_keys(format!("{{{}}}", (0..100_000).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(",")))]
#[case::number_of_a_million_digits("9".repeat(1_000_000))]
fn t076_json_that_is_too_long_is_not_even_decoded(#[case] json: String) {
    assert_eq!(present(&with_extra_claim(&json)), Refused(MalformedCredential));
}

#[test]
fn t076_claims_that_nobody_asked_for_do_no_harm() {
    for json in ["null", "[[[[1]]]]", r#"{"a":{"b":[]}}"#, "1e300", "\"\u{1f600}\""] {
        assert_eq!(present(&with_extra_claim(json)), Subject("someone".to_owned()));
    }
}

#[rstest]
#[case(r#""alg":"RS256","alg":"none""#)]
#[case(r#""alg":"ES256","alg":"ES256""#)]
#[case(r#""alg":"ES256","\u0061lg":"none""#)]
#[case(r#""alg":"ES256","x":{"a":1,"a":2}"#)]
#[case(r#""alg":"ES256","kid":"other""#)]
fn t077_duplicate_members_of_a_header(#[case] members: &str) {
    let header = format!(r#"{{{members},"typ":"scoregate+jwt","kid":"es-1"}}"#);
    assert_eq!(present(&ES256.token_of(header, claims(SCORER.1).to_string())), Refused(MalformedToken));
}

#[rstest]
#[case(r#""exp":1999999999"#)]
#[case(r#""aud":"urn:scoregate:service:uid-1""#)]
#[case(r#""\u0065xp":1999999999"#)]
#[case(r#""x":[{"a":1,"a":1}]"#)]
fn t077_duplicate_members_of_a_payload(#[case] member: &str) {
    let good = claims(SCORER.1).to_string();
    for payload in
        [good.replacen('{', &format!("{{{member},"), 1), good.replacen('}', &format!(",{member}}}"), 1)]
    {
        assert_eq!(present(&ES256.token_of(ES256.header().to_string(), payload)), Refused(MalformedToken));
    }
}

#[test]
fn names_of_members_have_case() {
    let header = json!({ "ALG": "none", "alg": "ES256", "typ": "scoregate+jwt", "kid": "es-1", "KID": "x" });
    let token = ES256.token_of(header.to_string(), claims(SCORER.1).to_string());
    assert_eq!(present(&token), Subject("someone".to_owned()));
    let header = json!({ "alg": "ES256", "typ": "scoregate+jwt", "Kid": "es-1" });
    let token = ES256.token_of(header.to_string(), claims(SCORER.1).to_string());
    assert_eq!(present(&token), Refused(UnknownSigningKey));
}

/// In a last base64 character that holds fewer than six bits, the others have to be zero: one token, one text.
#[test]
fn trailing_bits_of_base64_are_zero() {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let value_of = |letter: u8| ALPHABET.iter().position(|known| *known == letter).unwrap();
    let header = ES256.header_with(&json!({ "pad": "" })).to_string();
    let pad_to_one_byte_more = |text: &str| {
        let pad = (4 - text.len() % 3) % 3;
        text.replacen("\"pad\":\"", &format!("\"pad\":\"{}", "x".repeat(pad)), 1)
    };
    let payload = claims_with(&json!({ "pad": "" })).to_string();
    let token = ES256.token_of(pad_to_one_byte_more(&header), pad_to_one_byte_more(&payload));
    assert_eq!(present(&token), Subject("someone".to_owned()));
    for segment in 0..3 {
        let mut segments: Vec<_> = token.split('.').map(|segment| segment.as_bytes().to_vec()).collect();
        let last = segments[segment].last_mut().unwrap();
        let value = value_of(*last);
        assert_eq!(value % 16, 0, "segment {segment} has trailing bits, and they are zero");
        *last = ALPHABET[value + 1];
        let reason = if segment == 2 { BadSignature } else { MalformedToken };
        let other = String::from_utf8(segments.join(&b'.')).unwrap();
        assert_eq!(present(&other), Refused(reason), "segment {segment}");
    }
}

#[test]
fn standard_base64_is_not_base64url() {
    // Six bits of one are somewhere in `>>>>>`, however they are cut.
    let token = ES256.token(&claims_with(&json!({ "extra": ">>>>>" })));
    let (message, signature) = token.rsplit_once('.').unwrap();
    let standard = message.replace('-', "+").replace('_', "/");
    assert_ne!(standard, message);
    assert_eq!(present(&format!("{standard}.{signature}")), Refused(MalformedToken));
}

#[test]
fn a_key_with_the_look_of_a_token_is_still_a_key() {
    let key = "eyJhbGciOiJub25lIn0.e30.signature";
    let world = World::of(vec![key_service(SCORER, key, K2)]);
    let decide = |text: &str| world.decide(&Request::to(SCORER.0).bearer(text));
    assert_eq!(decide(key), Outcome::Key(scoregate_authz::Slot::Primary));
    assert_eq!(decide("eyJhbGciOiJub25lIn0.e30.signaturf"), Refused(WrongCredentialKind));
}
