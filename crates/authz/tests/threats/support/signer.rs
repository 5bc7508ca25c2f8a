//! Signing keys, and tokens that are really signed.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaEncoding,
    RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use scoregate_authz::{Entry, Item, TOKEN_TYPE, VerificationKey};
use serde_json::{Value, json};

use super::{NOW, SCORER, key_id};

pub(crate) const ISSUER: &str = "https://good.example";
pub(crate) const MAX_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// Made once in a process: an RSA key takes a while.
pub(crate) static ES256: LazyLock<Signer> = LazyLock::new(|| Signer::es256("es-1"));
pub(crate) static OTHER_ES256: LazyLock<Signer> = LazyLock::new(|| Signer::es256("es-2"));
pub(crate) static EDDSA: LazyLock<Signer> = LazyLock::new(|| Signer::eddsa("ed-1"));
pub(crate) static RS256: LazyLock<Signer> = LazyLock::new(|| Signer::rs256("rs-1"));

#[derive(Debug)]
pub(crate) struct Signer {
    kid: String,
    key: Key,
}

#[derive(Debug)]
enum Key {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

impl Signer {
    pub(crate) fn es256(kid: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { kid: kid.to_owned(), key: Key::Es256(key) }
    }

    fn eddsa(kid: &str) -> Self {
        Self { kid: kid.to_owned(), key: Key::EdDsa(Ed25519KeyPair::generate().unwrap()) }
    }

    fn rs256(kid: &str) -> Self {
        Self { kid: kid.to_owned(), key: Key::Rs256(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()) }
    }

    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        match self.key {
            Key::Es256(_) => "ES256",
            Key::EdDsa(_) => "EdDSA",
            Key::Rs256(_) => "RS256",
        }
    }

    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            Key::Es256(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) })
            }
            Key::EdDsa(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key()) })
            }
            Key::Rs256(key) => {
                let (n, e) = (key.public_key().modulus(), key.public_key().exponent());
                let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
                json!({ "kty": "RSA", "n": encode(n), "e": encode(e) })
            }
        };
        jwk["kid"] = self.kid.clone().into();
        jwk["alg"] = self.algorithm().into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// Its public key, as an entry of policy.
    pub(crate) fn entry(&self) -> Entry {
        let jwk = self.jwk().to_string();
        let key = VerificationKey::new(&jwk, ISSUER.to_owned(), MAX_LIFETIME).unwrap();
        let item = Item::VerificationKey(Arc::new(key));
        Entry::new(key_id(&self.kid), String::new(), jwk.into_bytes(), item)
    }

    pub(crate) fn header(&self) -> Value {
        json!({ "alg": self.algorithm(), "typ": TOKEN_TYPE, "kid": self.kid })
    }

    /// The header with some members set to other values.
    pub(crate) fn header_with(&self, members: &Value) -> Value {
        merged(self.header(), members)
    }

    /// A token with the usual header.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_of(self.header().to_string(), claims.to_string())
    }

    /// A token of any two texts, signed.
    pub(crate) fn token_of(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let message = format!("{}.{}", encode(header), encode(payload));
        let signature = encode(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// A good token for [`SCORER`].
    pub(crate) fn good_token(&self) -> String {
        self.token(&claims(SCORER.1))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.key {
            Key::Es256(key) => key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Key::EdDsa(key) => key.sign(message).as_ref().to_vec(),
            Key::Rs256(_) => self.sign_rsa(&RSA_PKCS1_SHA256, message),
        }
    }

    /// A signature of another kind with the RSA key.
    pub(crate) fn sign_rsa(&self, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let Key::Rs256(key) = &self.key else { panic!("not an RSA key") };
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }
}

/// Good claims for a service, by its uid.
pub(crate) fn claims(uid: &str) -> Value {
    json!({
        "iss": ISSUER,
        "aud": format!("urn:scoregate:service:{uid}"),
        "sub": "someone",
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 3600,
    })
}

/// Good claims for [`SCORER`], with some set to other values.
pub(crate) fn claims_with(members: &Value) -> Value {
    merged(claims(SCORER.1), members)
}

fn merged(mut into: Value, members: &Value) -> Value {
    for (name, value) in members.as_object().unwrap() {
        into[name] = value.clone();
    }
    into
}

/// Base64url without padding.
pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
