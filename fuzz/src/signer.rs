//! Signing keys made from constants, and the tokens that they signed.

use std::sync::LazyLock;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use scoregate_authz::TOKEN_TYPE;
use serde_json::{Value, json};

use crate::world::{ISSUER, NOW, TOKEN_SERVICE, uid};

pub static EDDSA: LazyLock<Signer> = LazyLock::new(Signer::eddsa);
pub static ES256: LazyLock<Signer> = LazyLock::new(Signer::es256);

pub struct Signer {
    kid: &'static str,
    key: Key,
}

enum Key {
    EdDsa(Ed25519KeyPair),
    Es256(EcdsaKeyPair),
}

impl Signer {
    fn eddsa() -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        Self { kid: "ed-1", key: Key::EdDsa(key) }
    }

    fn es256() -> Self {
        let scalar = [1; 32];
        let public = PrivateKey::from_private_key(&ECDH_P256, &scalar).unwrap().compute_public_key().unwrap();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &scalar, public.as_ref()).unwrap();
        Self { kid: "es-1", key: Key::Es256(key) }
    }

    #[must_use]
    pub fn kid(&self) -> &'static str {
        self.kid
    }

    #[must_use]
    pub fn jwk(&self) -> Value {
        let kid = self.kid;
        match &self.key {
            Key::EdDsa(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": kid, "x": encode(key.public_key()) })
            }
            Key::Es256(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": kid, "x": encode(x), "y": encode(y) })
            }
        }
    }

    #[must_use]
    pub fn header(&self) -> Value {
        let algorithm = match self.key {
            Key::EdDsa(_) => "EdDSA",
            Key::Es256(_) => "ES256",
        };
        json!({ "alg": algorithm, "kid": self.kid, "typ": TOKEN_TYPE })
    }

    /// A token of any bytes, signed.
    #[must_use]
    pub fn token(&self, header: &[u8], payload: &[u8]) -> String {
        let message = format!("{}.{}", encode(header), encode(payload));
        let signature = match &self.key {
            Key::EdDsa(key) => key.sign(message.as_bytes()).as_ref().to_vec(),
            Key::Es256(key) => key.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{message}.{}", encode(signature))
    }

    /// The token that is good for [`TOKEN_SERVICE`].
    #[must_use]
    pub fn good_token(&self) -> String {
        self.token(self.header().to_string().as_bytes(), claims().to_string().as_bytes())
    }
}

/// Claims that are good for [`TOKEN_SERVICE`].
#[must_use]
pub fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "aud": audience(),
        "sub": "someone",
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 3600,
    })
}

#[must_use]
pub fn audience() -> String {
    format!("urn:scoregate:service:{}", uid(TOKEN_SERVICE))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
