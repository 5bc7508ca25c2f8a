//! Published test vectors (Wycheproof) against verification keys as policy brings them.
//!
//! The vectors sign messages of any kind, and no such message is a token: they go to [`VerificationKey::proves`], which
//! is where every token's signature goes.

use serde_json::{Value, json};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify as rsa};

use super::*;

fn verification_key(mut jwk: Value) -> Result<VerificationKey, UnusableKey> {
    jwk["kid"] = "a-key".into();
    VerificationKey::new(&jwk.to_string(), "https://issuer.example".to_owned(), Duration::from_secs(3600))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Compares one verdict. What is merely acceptable, RFC 8017 does not allow, and nor does a token.
fn assert_verdict(key: &VerificationKey, message: &[u8], signature: &[u8], result: TestResult, case: &str) {
    let proven = key.proves(message, &encode(signature));
    assert_eq!(proven, result == TestResult::Valid, "{case}");
}

#[test]
fn t134_published_vectors_of_es256() {
    let vectors = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    for group in &vectors.test_groups {
        let (x, y) = group.key.key[1..].split_at(32);
        let jwk = json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "x": encode(x), "y": encode(y) });
        let key = verification_key(jwk).unwrap();
        for test in &group.tests {
            let case = format!("{} {}", test.tc_id, test.comment);
            assert_verdict(&key, &test.msg, &test.sig, test.result, &case);
        }
    }
    assert_eq!(vectors.number_of_tests, 262);
}

#[test]
fn t134_published_vectors_of_eddsa() {
    let vectors = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    for group in &vectors.test_groups {
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": encode(&group.key.pk) });
        let key = verification_key(jwk).unwrap();
        for test in &group.tests {
            let case = format!("{} {}", test.tc_id, test.comment);
            assert_verdict(&key, &test.msg, &test.sig, test.result, &case);
        }
    }
    assert_eq!(vectors.number_of_tests, 151);
}

#[test]
fn t134_published_vectors_of_rs256() {
    use rsa::TestName::{Rsa2048Sha256, Rsa3072Sha256, Rsa4096Sha256};
    let mut verdicts = 0;
    for name in [Rsa2048Sha256, Rsa3072Sha256, Rsa4096Sha256] {
        for group in &rsa::TestSet::load(name).unwrap().test_groups {
            let (n, e) = (without_leading_zeros(&group.key.n), without_leading_zeros(&group.key.e));
            let made =
                verification_key(json!({ "kty": "RSA", "alg": "RS256", "n": encode(n), "e": encode(e) }));
            if e == [3] {
                // What makes some of these signatures forgeable; not even the valid ones are taken.
                assert_eq!(made.err(), Some(UnusableKey::WeakRsa));
                continue;
            }
            let key = made.unwrap();
            for test in &group.tests {
                let case = format!("{name:?} {} {}", test.tc_id, test.comment);
                assert_verdict(&key, &test.msg, &test.sig, test.result, &case);
                verdicts += 1;
            }
        }
    }
    assert!(verdicts > 700, "{verdicts}");
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
