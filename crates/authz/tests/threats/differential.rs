//! The token verifier against a second one: `jsonwebtoken`'s own `decode`, as strict as it can be.
//!
//! The core uses that crate for the signature alone and reads header and claims itself; here both read both. What the
//! core allows, the other must accept as well. The mathematics of signatures are the same on both sides; those are tested
//! by published vectors (`t134_published_vectors_...`).

use std::cell::Cell;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::*;

/// For each of two signers, in each of two tests.
const CASES: u32 = 2000;

#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    iat: f64,
    nbf: f64,
    exp: f64,
}

/// The other verifier, for tokens of one signer to [`SCORER`].
struct Second {
    key: DecodingKey,
    validation: Validation,
}

impl Second {
    fn of(signer: &Signer) -> Self {
        let (key, algorithm) = match signer.algorithm() {
            "EdDSA" => (ed_key(&signer.jwk()), Algorithm::EdDSA),
            _ => (ec_key(&signer.jwk()), Algorithm::ES256),
        };
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
        validation.set_audience(&[format!("urn:scoregate:service:{}", SCORER.1)]);
        validation.set_issuer(&[ISSUER]);
        // It knows no clock but the system's: times are compared below.
        validation.validate_exp = false;
        Self { key, validation }
    }

    /// The subject of a token that is good at [`NOW`], or why there is none.
    fn subject(&self, token: &str) -> Result<String, String> {
        let claims =
            decode::<Claims>(token, &self.key, &self.validation).map_err(|error| error.to_string())?;
        let Claims { sub, iat, nbf, exp } = claims.claims;
        let now = NOW as f64;
        let is_good_now = nbf <= now && iat <= now && now < exp && exp - iat <= MAX_LIFETIME.as_secs() as f64;
        if is_good_now { Ok(sub) } else { Err(format!("not good at {now}: {iat} {nbf} {exp}")) }
    }
}

fn ed_key(jwk: &Value) -> DecodingKey {
    DecodingKey::from_ed_components(jwk["x"].as_str().unwrap()).unwrap()
}

fn ec_key(jwk: &Value) -> DecodingKey {
    DecodingKey::from_ec_components(jwk["x"].as_str().unwrap(), jwk["y"].as_str().unwrap()).unwrap()
}

/// Presents each token to both, and sees to it that enough of them were good.
fn compare(signer: &Signer, tokens: &impl Strategy<Value = String>, at_least_allowed: u32) {
    let world = World::of(vec![token_service(SCORER), signer.entry()]);
    let second = Second::of(signer);
    let allowed = Cell::new(0);
    let present = |token: String| -> TestCaseResult {
        if let Outcome::Subject(subject) = world.decide(&Request::to(SCORER.0).bearer(&token)) {
            prop_assert_eq!(second.subject(&token), Ok(subject), "allowed: {}", token);
            allowed.set(allowed.get() + 1);
        }
        Ok(())
    };
    TestRunner::new(ProptestConfig::with_cases(CASES)).run(tokens, present).unwrap();
    assert!(allowed.get() >= at_least_allowed, "only {} of {CASES} were good", allowed.get());
}

/// A change to the text of a token.
#[derive(Debug, Clone)]
enum Edit {
    Nothing,
    Replace(prop::sample::Index, String),
    Insert(prop::sample::Index, String),
    Remove(prop::sample::Index, usize),
    SegmentOfOther(usize),
    SwapSegments(usize, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = || any::<prop::sample::Index>();
    let text = || prop_oneof!["[A-Za-z0-9_-]{1,3}", "[.=+/~ ]{1,2}", Just("e30".to_owned())];
    prop_oneof![
        1 => Just(Edit::Nothing),
        4 => (at(), text()).prop_map(|(at, text)| Edit::Replace(at, text)),
        2 => (at(), text()).prop_map(|(at, text)| Edit::Insert(at, text)),
        2 => (at(), 1..5_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        1 => (0..3_usize).prop_map(Edit::SegmentOfOther),
        1 => (0..3_usize, 0..3_usize).prop_map(|(one, other)| Edit::SwapSegments(one, other)),
    ]
}

fn edited(token: &str, other: &str, edit: &Edit) -> String {
    let mut text = token.to_owned();
    match edit {
        Edit::Nothing => {}
        Edit::Replace(at, with) => {
            let at = at.index(text.len());
            text.replace_range(at..text.len().min(at + with.len()), with);
        }
        Edit::Insert(at, with) => text.insert_str(at.index(text.len()), with),
        Edit::Remove(at, length) => {
            let at = at.index(text.len());
            text.replace_range(at..text.len().min(at + length), "");
        }
        Edit::SegmentOfOther(which) => {
            let segment = other.split('.').nth(*which).unwrap();
            text = with_segments(token, |segments| segments[*which] = segment);
        }
        Edit::SwapSegments(one, two) => text = with_segments(token, |segments| segments.swap(*one, *two)),
    }
    text
}

fn with_segments<'a>(token: &'a str, change: impl FnOnce(&mut Vec<&'a str>)) -> String {
    let mut segments: Vec<_> = token.split('.').collect();
    change(&mut segments);
    segments.join(".")
}

#[test]
fn t133_edited_tokens_are_allowed_only_if_a_second_verifier_accepts_them() {
    for signer in [&*EDDSA, &*ES256] {
        let (good, other) = (signer.good_token(), signer.token(&claims_with(&json!({ "sub": "other" }))));
        let tokens = edit().prop_map(move |edit| edited(&good, &other, &edit));
        compare(signer, &tokens, CASES / 20);
    }
}

/// Values that are almost right, for a member of header or claims.
fn value() -> impl Strategy<Value = Value> {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(-0.0),
        json!(NOW - 1),
        json!(NOW),
        json!(NOW as f64 + 0.25),
        json!(NOW + 1),
        json!(NOW + 3600),
        json!(NOW + 12 * 3600 + 1),
        json!(NOW.to_string()),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("someone"),
        json!("EdDSA"),
        json!("none"),
        json!("scoregate+jwt"),
        json!(ISSUER),
        json!([ISSUER]),
        json!(format!("urn:scoregate:service:{}", SCORER.1)),
        json!([format!("urn:scoregate:service:{}", SCORER.1)]),
        json!([]),
        json!({}),
    ];
    prop::sample::select(values.to_vec())
}

/// A change to the members of an object, before it is signed.
#[derive(Debug, Clone)]
enum Change {
    Nothing,
    Set(&'static str, Value),
    Without(&'static str),
    Twice(&'static str, Value),
}

fn change(names: &'static [&'static str]) -> impl Strategy<Value = Change> {
    let name = || prop::sample::select(names);
    prop_oneof![
        2 => Just(Change::Nothing),
        4 => (name(), value()).prop_map(|(name, value)| Change::Set(name, value)),
        1 => name().prop_map(Change::Without),
        1 => (name(), value()).prop_map(|(name, value)| Change::Twice(name, value)),
    ]
}

/// The text of an object after changes.
fn text_of(mut object: Value, changes: &[Change]) -> String {
    let mut twice = String::new();
    for change in changes {
        match change {
            Change::Nothing => {}
            Change::Set(name, value) => object[name] = value.clone(),
            Change::Without(name) => drop(object.as_object_mut().unwrap().remove(*name)),
            Change::Twice(name, value) => twice = format!(r#""{name}":{value},"#),
        }
    }
    object.to_string().replacen('{', &format!("{{{twice}"), 1)
}

#[test]
fn t133_signed_tokens_are_allowed_only_if_a_second_verifier_accepts_them() {
    const HEADER: &[&str] = &["alg", "typ", "kid", "crit", "b64", "zip", "cty", "x-other"];
    const CLAIMS: &[&str] = &["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "x-other"];
    for signer in [&*EDDSA, &*ES256] {
        let changes =
            (prop::option::weighted(0.3, change(HEADER)), prop::collection::vec(change(CLAIMS), 0..3));
        let tokens = changes.prop_map(|(header, payload)| {
            let header = text_of(signer.header(), header.as_slice());
            signer.token_of(header, text_of(claims(SCORER.1), &payload))
        });
        compare(signer, &tokens, CASES / 20);
    }
}
