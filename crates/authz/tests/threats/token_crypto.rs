//! g. Tokens: cryptography.

use std::net::TcpListener;
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
    RSA_PSS_SHA256,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rstest::rstest;
use scoregate_authz::{
    DenyReason, Entry, EntryChange, Item, TOKEN_TYPE, UndecidedReason, UnusableKey, VerificationKey,
};
use serde_json::{Value, json};

use crate::support::*;

use DenyReason::{
    BadAlgorithm, BadSignature, MalformedCredential, MalformedToken, UnknownSigningKey, UnsupportedCrit,
    WrongType,
};
use Outcome::{Refused, Subject, Undecided};

/// A service with tokens, and a key of each algorithm.
fn world() -> World {
    World::of(vec![token_service(SCORER), ES256.entry(), EDDSA.entry(), RS256.entry()])
}

fn present(token: &str) -> Outcome {
    world().decide(&Request::to(SCORER.0).bearer(token))
}

fn good_payload() -> String {
    claims(SCORER.1).to_string()
}

/// Header, good payload, and a signature of any bytes.
fn assembled(header: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encode(header.to_string()), encode(good_payload()));
    format!("{message}.{}", encode(sign(message.as_bytes())))
}

#[rstest]
#[case(json!("none"))]
#[case(json!("None"))]
#[case(json!("nOnE"))]
#[case(json!("NONE"))]
#[case(json!(""))]
#[case(json!(null))]
#[case(json!(0))]
#[case(json!(["ES256"]))]
#[case(json!({ "alg": "ES256" }))]
#[case(json!("es256"))]
#[case(json!("ES256 "))]
#[case(json!("ES256K"))]
#[case(json!("ES384"))]
#[case(json!("HS256"))]
#[case(json!("PS256"))]
#[case(json!("EdDSA\0"))]
#[case(json!("Ed25519"))]
fn t079_algorithms_that_are_none(#[case] algorithm: Value) {
    let header = ES256.header_with(&json!({ "alg": algorithm }));
    assert_eq!(present(&ES256.token_of(header.to_string(), good_payload())), Refused(BadAlgorithm));
    let unsigned = assembled(&header, |_| b"x".to_vec());
    assert_eq!(present(&unsigned), Refused(BadAlgorithm));
}

#[test]
fn t079_no_algorithm() {
    let header = json!({ "typ": TOKEN_TYPE, "kid": ES256.kid() }).to_string();
    assert_eq!(present(&ES256.token_of(header, good_payload())), Refused(BadAlgorithm));
    let header = encode(ES256.header_with(&json!({ "alg": "none" })).to_string());
    let unsigned = format!("{header}.{}.", encode(good_payload()));
    assert_eq!(present(&unsigned), Refused(MalformedToken), "an empty signature is no segment");
}

/// DER of the public key (SubjectPublicKeyInfo), as in PEM.
pub(crate) fn public_der() -> Vec<u8> {
    let jwk = RS256.jwk();
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let long = |tag: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], length.as_slice(), content].concat()
    };
    let modulus = long(0x02, &[&[0], bytes("n").as_slice()].concat());
    let exponent = [&[0x02, 0x03], bytes("e").as_slice()].concat();
    let key = long(0x30, &[modulus, exponent].concat());
    let algorithm = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    long(0x30, &[algorithm.as_slice(), &long(0x03, &[&[0], key.as_slice()].concat())].concat())
}

pub(crate) fn public_pem() -> String {
    let text = STANDARD.encode(public_der());
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

#[rstest]
#[case::pem(public_pem().into_bytes())]
#[case::pem_without_newline(public_pem().trim_end().as_bytes().to_vec())]
#[case::der(public_der())]
#[case::jwk(RS256.jwk().to_string().into_bytes())]
#[case::modulus(URL_SAFE_NO_PAD.decode(RS256.jwk()["n"].as_str().unwrap()).unwrap())]
#[case::modulus_as_text(RS256.jwk()["n"].as_str().unwrap().as_bytes().to_vec())]
#[case::key_id(RS256.kid().as_bytes().to_vec())]
#[case::nothing(Vec::new())]
fn t080_a_public_key_is_not_an_hmac_secret(#[case] secret: Vec<u8>) {
    let sign =
        |message: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message).as_ref().to_vec();
    let as_hmac = RS256.header_with(&json!({ "alg": "HS256" }));
    assert_eq!(present(&assembled(&as_hmac, sign)), Refused(BadAlgorithm));
    assert_eq!(present(&assembled(&RS256.header(), sign)), Refused(BadSignature));
}

#[rstest]
#[case::es256_under_rsa(&ES256, &RS256)]
#[case::rs256_under_ec(&RS256, &ES256)]
#[case::eddsa_under_ec(&EDDSA, &ES256)]
#[case::es256_under_ed(&ES256, &EDDSA)]
fn t081_the_algorithm_is_the_keys(#[case] signer: &Signer, #[case] named: &Signer) {
    let own_algorithm = signer.header_with(&json!({ "kid": named.kid() }));
    assert_eq!(present(&signer.token_of(own_algorithm.to_string(), good_payload())), Refused(BadAlgorithm));
    let keys_algorithm = named.header();
    assert_eq!(present(&signer.token_of(keys_algorithm.to_string(), good_payload())), Refused(BadSignature));
}

#[test]
fn t081_es256_with_a_key_on_p384() {
    let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let sign = |message: &[u8]| key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
    assert_eq!(present(&assembled(&ES256.header(), sign)), Refused(BadSignature));
    let (x, y) = key.public_key().as_ref()[1..].split_at(48);
    for curve in ["P-384", "P-256"] {
        let jwk =
            json!({ "kty": "EC", "crv": curve, "alg": "ES256", "kid": "x", "x": encode(x), "y": encode(y) });
        let expected = if curve == "P-256" { UnusableKey::Coordinates } else { UnusableKey::Algorithm };
        assert_eq!(unusable(&jwk), Some(expected));
    }
}

#[test]
fn t081_other_rsa_signatures_under_rs256() {
    for encoding in [
        &RSA_PSS_SHA256 as &'static dyn aws_lc_rs::signature::RsaEncoding,
        &RSA_PKCS1_SHA384,
        &RSA_PKCS1_SHA512,
    ] {
        let token = assembled(&RS256.header(), |message| RS256.sign_rsa(encoding, message));
        assert_eq!(present(&token), Refused(BadSignature));
    }
    for algorithm in ["PS256", "RS384", "RS512"] {
        let header = RS256.header_with(&json!({ "alg": algorithm }));
        let token = assembled(&header, |message| RS256.sign_rsa(&RSA_PSS_SHA256, message));
        assert_eq!(present(&token), Refused(BadAlgorithm));
    }
}

#[test]
fn t081_eddsa_on_another_curve() {
    for curve in ["X25519", "Ed448", "P-256"] {
        let mut jwk = EDDSA.jwk();
        jwk["crv"] = curve.into();
        assert_eq!(unusable(&jwk), Some(UnusableKey::Algorithm));
    }
}

fn unusable(jwk: &Value) -> Option<UnusableKey> {
    VerificationKey::new(&jwk.to_string(), ISSUER.to_owned(), MAX_LIFETIME).err()
}

#[rstest]
#[case::bits_512(64)]
#[case::bits_1024(128)]
#[case::bits_2040(255)]
#[case::bits_8200(1025)]
#[case::nothing(0)]
fn t083_rsa_keys_of_other_sizes(#[case] bytes: usize) {
    let mut jwk = RS256.jwk();
    jwk["n"] = encode(vec![0xc1; bytes]).into();
    assert_eq!(unusable(&jwk), Some(UnusableKey::WeakRsa));
}

#[test]
fn t083_a_small_modulus_does_not_grow_by_leading_zeros() {
    let mut jwk = RS256.jwk();
    jwk["n"] = encode([vec![0; 128], vec![0xc1; 128]].concat()).into();
    assert_eq!(unusable(&jwk), Some(UnusableKey::WeakRsa));
}

#[rstest]
#[case::zero(&[0])]
#[case::one(&[1])]
#[case::three(&[3])]
#[case::seventeen(&[17])]
#[case::even(&[1, 0, 0])]
#[case::just_below(&[0, 255, 255])]
#[case::huge(&[1, 0, 0, 0, 1])]
#[case::nothing(&[])]
fn t083_rsa_exponents(#[case] exponent: &[u8]) {
    // Small exponents are what forged padding needs (Bleichenbacher 2006): no such key is ever used.
    let mut jwk = RS256.jwk();
    jwk["e"] = encode(exponent).into();
    assert_eq!(unusable(&jwk), Some(UnusableKey::WeakRsa));
}

#[test]
fn t083_signatures_shorter_or_longer_than_the_modulus() {
    type Change = fn(Vec<u8>) -> Vec<u8>;
    let changes: [Change; 6] = [
        |signature| signature[1..].to_vec(),
        |signature| signature[..255].to_vec(),
        |signature| [&[0], signature.as_slice()].concat(),
        |signature| [signature.as_slice(), &[0]].concat(),
        |signature| signature.repeat(2),
        |signature| signature[..1].to_vec(),
    ];
    for change in changes {
        let token = assembled(&RS256.header(), |message| change(RS256.sign(message)));
        assert_eq!(present(&token), Refused(BadSignature));
    }
    let forged: [Vec<u8>; 4] =
        [vec![0; 256], vec![0xff; 256], vec![1; 256], [vec![0; 255], vec![1]].concat()];
    for signature in forged {
        assert_eq!(present(&assembled(&RS256.header(), |_| signature)), Refused(BadSignature));
    }
}

#[rstest]
#[case::es256(&ES256)]
#[case::eddsa(&EDDSA)]
#[case::rs256(&RS256)]
fn t084_no_signature_or_that_of_another_token(#[case] signer: &Signer) {
    let token = signer.good_token();
    let (message, _) = token.rsplit_once('.').unwrap();
    assert_eq!(present(&format!("{message}.")), Refused(MalformedToken));
    assert_eq!(present(message), Refused(MalformedToken));
    let other = signer.token(&claims_with(&json!({ "sub": "someone-else" })));
    let (_, signature) = other.rsplit_once('.').unwrap();
    assert_eq!(present(&format!("{message}.{signature}")), Refused(BadSignature));
}

#[rstest]
#[case::zeros(vec![0; 64])]
#[case::ones(vec![0xff; 64])]
#[case::r_is_zero([vec![0; 32], vec![1; 32]].concat())]
#[case::s_is_zero([vec![1; 32], vec![0; 32]].concat())]
#[case::short(vec![1; 63])]
#[case::long(vec![1; 65])]
#[case::der(b"\x30\x06\x02\x01\x01\x02\x01\x01".to_vec())]
fn t084_degenerate_signatures(#[case] signature: Vec<u8>) {
    // CVE-2022-21449: r = s = 0 proved anything.
    for signer in [&*ES256, &*EDDSA] {
        assert_eq!(present(&assembled(&signer.header(), |_| signature.clone())), Refused(BadSignature));
    }
}

#[test]
fn t085_members_that_would_choose_another_key() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let attacker = Signer::es256("attacker");
    let lures = json!({
        "jwk": attacker.jwk(), "jku": url, "x5u": url, "x5c": ["AAAA"], "x5t": "AAAA", "x5t#S256": "AAAA",
        "iss": url,
    });
    let with_a_known_kid = attacker.header_with(&lures).to_string().replace("attacker\"", "es-1\"");
    assert_eq!(present(&attacker.token_of(with_a_known_kid, good_payload())), Refused(BadSignature));
    let with_its_own_kid = attacker.header_with(&lures).to_string();
    assert_eq!(present(&attacker.token_of(with_its_own_kid, good_payload())), Refused(UnknownSigningKey));
    let good = ES256.token_of(ES256.header_with(&lures).to_string(), good_payload());
    assert_eq!(present(&good), Subject("someone".to_owned()));
    let error = listener.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "nobody called");
}

#[rstest]
#[case(json!("../../dev/null"))]
#[case(json!("' UNION SELECT 'x"))]
#[case(json!("|id"))]
#[case(json!("http://127.0.0.1/key"))]
#[case(json!("es-1\0"))]
#[case(json!("es-1 "))]
#[case(json!("ES-1"))]
#[case(json!("es-"))]
#[case(json!(""))]
#[case(json!("\0"))]
#[case(json!(1))]
#[case(json!(null))]
#[case(json!(["es-1"]))]
#[case(json!({ "kid": "es-1" }))]
#[case(json!("k".repeat(4000)))]
fn t086_key_ids_of_no_key(#[case] kid: Value) {
    let header = ES256.header_with(&json!({ "kid": kid })).to_string();
    assert_eq!(present(&ES256.token_of(header, good_payload())), Refused(UnknownSigningKey));
}

#[test]
fn t086_a_key_id_of_a_megabyte() {
    let header = ES256.header_with(&json!({ "kid": "k".repeat(1 << 20) })).to_string();
    assert_eq!(present(&ES256.token_of(header, good_payload())), Refused(MalformedCredential));
}

/// That it could ask anybody about an id is out of the question: the core has no means to.
#[test]
fn t106_a_hundred_thousand_unknown_key_ids_leave_nothing_behind() {
    let (world, cache) = (world(), Cache::default());
    let good = ES256.good_token();
    let (_, rest) = good.split_once('.').unwrap();
    let before = world.snapshot.state_hash();
    for number in 0..100_000_u32 {
        let kid = format!("es-{:08x}", number.wrapping_mul(2_654_435_761));
        let header = URL_SAFE_NO_PAD.encode(ES256.header_with(&json!({ "kid": kid })).to_string());
        let request = Request::to(SCORER.0).bearer(&format!("{header}.{rest}"));
        assert_eq!(world.decide_with(&request, &cache), Refused(UnknownSigningKey));
    }
    assert_eq!((cache.len(), world.snapshot.state_hash()), (0, before));
    let good = Request::to(SCORER.0).bearer(&good);
    assert_eq!(world.decide_with(&good, &cache), Subject("someone".to_owned()));
}

#[rstest]
#[case::of_one_key(World::with_tokens())]
#[case::of_several_keys(world())]
fn t087_no_key_id_no_key(#[case] world: World) {
    let header = json!({ "alg": "ES256", "typ": TOKEN_TYPE }).to_string();
    let request = Request::to(SCORER.0).bearer(&ES256.token_of(header, good_payload()));
    assert_eq!(world.decide(&request), Refused(UnknownSigningKey));
}

#[rstest]
#[case(json!({ "use": "enc" }), UnusableKey::Use)]
#[case(json!({ "use": null }), UnusableKey::Use)]
#[case(json!({ "key_ops": ["encrypt"] }), UnusableKey::Use)]
#[case(json!({ "key_ops": ["sign"] }), UnusableKey::Use)]
#[case(json!({ "key_ops": [] }), UnusableKey::Use)]
#[case(json!({ "key_ops": "verify" }), UnusableKey::Use)]
#[case(json!({ "alg": "RS256" }), UnusableKey::Algorithm)]
#[case(json!({ "alg": "none" }), UnusableKey::Algorithm)]
#[case(json!({ "alg": "HS256" }), UnusableKey::Algorithm)]
#[case(json!({ "alg": null }), UnusableKey::Algorithm)]
#[case(json!({ "kty": "RSA" }), UnusableKey::Algorithm)]
#[case(json!({ "kty": "oct", "alg": "HS256", "k": "AAAA" }), UnusableKey::Secret)]
#[case(json!({ "kty": "oct" }), UnusableKey::Algorithm)]
#[case(json!({ "d": "AAAA" }), UnusableKey::Secret)]
#[case(json!({ "d": null }), UnusableKey::Secret)]
#[case(json!({ "p": "AAAA" }), UnusableKey::Secret)]
#[case(json!({ "kid": "" }), UnusableKey::KeyId)]
#[case(json!({ "kid": 1 }), UnusableKey::KeyId)]
#[case(json!({ "x": "AAAA" }), UnusableKey::Coordinates)]
#[case(json!({ "y": 1 }), UnusableKey::Coordinates)]
#[case(json!({ "x": "=".repeat(43) }), UnusableKey::Coordinates)]
#[case(json!({ "note": "x".repeat(4096) }), UnusableKey::Malformed)]
fn t089_keys_that_are_not_for_this_are_not_used(#[case] members: Value, #[case] problem: UnusableKey) {
    let mut jwk = ES256.jwk();
    for (name, value) in members.as_object().unwrap() {
        jwk[name] = value.clone();
    }
    assert_eq!(unusable(&jwk), Some(problem));
}

#[rstest]
#[case("")]
#[case("[]")]
#[case(r#"{"kid":"a","kid":"b"}"#)]
fn t089_documents_that_are_no_keys(#[case] jwk: &str) {
    let made = VerificationKey::new(jwk, ISSUER.to_owned(), MAX_LIFETIME);
    assert_eq!(made.err(), Some(UnusableKey::Malformed));
}

#[test]
fn t089_an_unusable_key_proves_nothing_and_harms_no_other() {
    let unused = || Entry::new(key_id("es-1"), String::new(), b"unusable".to_vec(), Item::Unused);
    let request = Request::to(SCORER.0).bearer(&ES256.good_token());
    let mut world = World::of(vec![token_service(SCORER), unused(), EDDSA.entry()]);
    assert_eq!(world.decide(&request), Refused(UnknownSigningKey));
    let other = Request::to(SCORER.0).bearer(&EDDSA.good_token());
    assert_eq!(world.decide(&other), Subject("someone".to_owned()));
    world.change(vec![EntryChange::Delete(key_id(EDDSA.kid()))]);
    assert_eq!(world.decide(&request), Undecided(UndecidedReason::NoVerificationKey));
}

#[rstest]
#[case(json!({ "crit": ["exp"] }))]
#[case(json!({ "crit": ["x"], "x": true }))]
#[case(json!({ "crit": [] }))]
#[case(json!({ "crit": null }))]
#[case(json!({ "crit": "exp" }))]
#[case(json!({ "b64": false }))]
#[case(json!({ "b64": true }))]
#[case(json!({ "b64": false, "crit": ["b64"] }))]
fn t090_extensions_that_must_be_understood(#[case] members: Value) {
    let header = ES256.header_with(&members).to_string();
    assert_eq!(present(&ES256.token_of(header, good_payload())), Refused(UnsupportedCrit));
}

#[test]
fn crit_in_the_payload_is_a_claim_like_any_other() {
    let token = ES256.token(&claims_with(&json!({ "crit": ["exp"], "b64": false, "alg": "none" })));
    assert_eq!(present(&token), Subject("someone".to_owned()));
}

#[rstest]
#[case(json!({ "zip": "DEF" }))]
#[case(json!({ "zip": null }))]
#[case(json!({ "cty": "JWT" }))]
#[case(json!({ "cty": "" }))]
fn t091_compressed_and_nested_tokens(#[case] members: Value) {
    let header = ES256.header_with(&members).to_string();
    let inner = ES256.good_token();
    for payload in [good_payload(), inner] {
        let refused = present(&ES256.token_of(&header, payload));
        assert_eq!(refused, Refused(MalformedToken));
    }
}

#[rstest]
#[case(json!("JWT"))]
#[case(json!("jwt"))]
#[case(json!("at+jwt"))]
#[case(json!("application/at+jwt"))]
#[case(json!("application/scoregate+jwt"))]
#[case(json!("refresh"))]
#[case(json!("SCOREGATE+JWT"))]
#[case(json!("scoregate+statement"))]
#[case(json!("dpop+jwt"))]
#[case(json!(""))]
#[case(json!(null))]
#[case(json!(["scoregate+jwt"]))]
fn t092_documents_of_another_kind_by_the_same_signer(#[case] kind: Value) {
    let header = ES256.header_with(&json!({ "typ": kind })).to_string();
    assert_eq!(present(&ES256.token_of(header, good_payload())), Refused(WrongType));
}

#[test]
fn t092_no_kind_at_all() {
    let header = json!({ "alg": "ES256", "kid": "es-1" }).to_string();
    assert_eq!(present(&ES256.token_of(header, good_payload())), Refused(WrongType));
}

#[test]
fn a_point_that_is_not_on_the_curve_proves_nothing() {
    let mut jwk = ES256.jwk();
    jwk["y"] = encode([1; 32]).into();
    let key = VerificationKey::new(&jwk.to_string(), ISSUER.to_owned(), MAX_LIFETIME).unwrap();
    let item = Item::VerificationKey(Arc::new(key));
    let entry = Entry::new(key_id("es-1"), String::new(), b"off the curve".to_vec(), item);
    let world = World::of(vec![token_service(SCORER), entry]);
    assert_eq!(world.decide(&Request::to(SCORER.0).bearer(&ES256.good_token())), Refused(BadSignature));
}

#[test]
fn a_key_under_the_id_of_another_entry_is_not_used() {
    let attacker = Signer::es256("es-1");
    let key = VerificationKey::new(&attacker.jwk().to_string(), ISSUER.to_owned(), MAX_LIFETIME).unwrap();
    let item = Item::VerificationKey(Arc::new(key));
    let misplaced = Entry::new(key_id("es-9"), String::new(), b"a key of another id".to_vec(), item);
    let mut world = World::with_tokens();
    world.change(vec![EntryChange::Put(misplaced)]);
    let forged = Request::to(SCORER.0).bearer(&attacker.good_token());
    let good = Request::to(SCORER.0).bearer(&ES256.good_token());
    assert_eq!(world.decide(&forged), Refused(BadSignature));
    assert_eq!(world.decide(&good), Subject("someone".to_owned()));
    world.change(vec![EntryChange::Delete(key_id("es-9"))]);
    assert_eq!(world.decide(&good), Subject("someone".to_owned()));
}
