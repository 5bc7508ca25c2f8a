//! Signing keys, and tokens made with them.
//!
//! Key pairs are parsed once and held: `jsonwebtoken` would parse and validate the private key for each signature.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use scoregate_authz::TokenAlgorithm;
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// A signing key that could not be made or read, or would not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// No new key came of it, for want of random numbers.
    #[error("a {} signing key could not be made", .0.as_str())]
    Generate(TokenAlgorithm),
    /// What was unsealed is no private key of its algorithm.
    #[error("the stored {} signing key is not one", .0.as_str())]
    Unreadable(TokenAlgorithm),
    /// No signature came of it.
    #[error("the {} signing key does not sign", .0.as_str())]
    Sign(TokenAlgorithm),
}

/// A private key with what the public may know of it.
#[derive(Debug)]
pub(super) struct SigningKey {
    /// RFC 7638 thumbprint of the public key.
    pub(super) id: String,
    pub(super) algorithm: TokenAlgorithm,
    /// The public key as a JSON Web Key.
    pub(super) jwk: Value,
    /// When it was made.
    pub(super) created_at: Timestamp,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

/// The claims of a token. Times are Unix seconds.
#[derive(Debug, Serialize)]
pub(super) struct Claims<'a> {
    pub(super) iss: &'a str,
    pub(super) aud: &'a str,
    pub(super) sub: &'a str,
    pub(super) iat: u64,
    pub(super) nbf: u64,
    pub(super) exp: u64,
    pub(super) jti: String,
}

/// Makes a private key, in PKCS#8. RSA ones have 3072 bits.
pub(super) fn generate(algorithm: TokenAlgorithm) -> Result<Zeroizing<Vec<u8>>, SigningError> {
    let random = SystemRandom::new();
    let failed = |_| SigningError::Generate(algorithm);
    let document = match algorithm {
        TokenAlgorithm::Es256 => {
            let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
            document.map_err(failed)?.as_ref().to_vec()
        }
        TokenAlgorithm::Rs256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa3072).map_err(failed)?;
            pair.as_der().map_err(failed)?.as_ref().to_vec()
        }
        TokenAlgorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&random).map_err(failed)?.as_ref().to_vec(),
    };
    Ok(Zeroizing::new(document))
}

impl SigningKey {
    /// Reads a private key in PKCS#8.
    pub(super) fn from_pkcs8(
        algorithm: TokenAlgorithm,
        pkcs8: &[u8],
        created_at: Timestamp,
    ) -> Result<Self, SigningError> {
        let pair = Pair::from_pkcs8(algorithm, pkcs8).ok_or(SigningError::Unreadable(algorithm))?;
        let (id, jwk) = pair.describe();
        Ok(Self { id, algorithm, jwk, created_at, pair })
    }

    /// The signed token of a type: header, claims and signature, in compact form.
    pub(super) fn sign(&self, token_type: &str, claims: &impl Serialize) -> Result<String, SigningError> {
        let failed = SigningError::Sign(self.algorithm);
        let header = json!({ "alg": self.algorithm.as_str(), "kid": self.id, "typ": token_type });
        let claims = serde_json::to_vec(claims).map_err(|_| failed)?;
        let mut token = format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(&claims));
        let signature = self.pair.sign(token.as_bytes()).ok_or(failed)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Whether a signature is this key's.
    pub(super) fn proves(&self, message: &[u8], signature: &[u8]) -> bool {
        self.pair.proves(message, signature)
    }
}

impl Pair {
    fn from_pkcs8(algorithm: TokenAlgorithm, pkcs8: &[u8]) -> Option<Self> {
        match algorithm {
            TokenAlgorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).ok().map(Self::Es256)
            }
            TokenAlgorithm::Rs256 => RsaKeyPair::from_pkcs8(pkcs8).ok().map(Self::Rs256),
            TokenAlgorithm::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8).ok().map(Self::EdDsa),
        }
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Es256(pair) => {
                pair.sign(&random, message).ok().map(|signature| signature.as_ref().to_vec())
            }
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Self::EdDsa(pair) => pair.try_sign(message).ok().map(|signature| signature.as_ref().to_vec()),
        }
    }

    fn proves(&self, message: &[u8], signature: &[u8]) -> bool {
        let (algorithm, public): (&dyn VerificationAlgorithm, &[u8]) = match self {
            Self::Es256(pair) => (&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref()),
            Self::Rs256(pair) => (&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref()),
            Self::EdDsa(pair) => (&ED25519, pair.public_key().as_ref()),
        };
        UnparsedPublicKey::new(algorithm, public).verify(message, signature).is_ok()
    }

    /// The thumbprint of the public key (RFC 7638), and the key itself (RFC 7517).
    fn describe(&self) -> (String, Value) {
        // The required members in lexical order, which is what RFC 7638, section 3.2 hashes; `json!` keeps them sorted.
        let (required, algorithm) = match self {
            Self::Es256(pair) => {
                // 0x04, x, y: SEC 1, section 2.3.3.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                let point = json!({ "crv": "P-256", "kty": "EC", "x": base64url(x), "y": base64url(y) });
                (point, TokenAlgorithm::Es256)
            }
            Self::Rs256(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                let numbers = json!({ "e": base64url(&public.e), "kty": "RSA", "n": base64url(&public.n) });
                (numbers, TokenAlgorithm::Rs256)
            }
            Self::EdDsa(pair) => {
                let x = base64url(pair.public_key().as_ref());
                (json!({ "crv": "Ed25519", "kty": "OKP", "x": x }), TokenAlgorithm::EdDsa)
            }
        };
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, required.to_string().as_bytes());
        let id = base64url(digest.as_ref());
        let mut jwk = required;
        jwk["kid"] = id.as_str().into();
        jwk["alg"] = algorithm.as_str().into();
        jwk["use"] = "sig".into();
        (id, jwk)
    }
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use scoregate_authz::VerificationKey;
    use std::time::Duration;

    fn key(algorithm: TokenAlgorithm) -> SigningKey {
        SigningKey::from_pkcs8(algorithm, &generate(algorithm).unwrap(), Timestamp::UNIX_EPOCH).unwrap()
    }

    #[rstest]
    fn a_generated_key_is_one_that_gates_accept(
        #[values(TokenAlgorithm::Es256, TokenAlgorithm::Rs256, TokenAlgorithm::EdDsa)]
        algorithm: TokenAlgorithm,
    ) {
        let key = key(algorithm);
        let jwk = key.jwk.to_string();
        let accepted = VerificationKey::new(&jwk, "iss".to_owned(), Duration::from_secs(1)).unwrap();
        assert_eq!(accepted.id(), key.id);
    }

    #[rstest]
    fn the_key_id_is_the_thumbprint(
        #[values(TokenAlgorithm::Es256, TokenAlgorithm::Rs256, TokenAlgorithm::EdDsa)]
        algorithm: TokenAlgorithm,
    ) {
        let key = key(algorithm);
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(key.jwk).unwrap();
        assert_eq!(key.id, jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap());
    }

    #[rstest]
    fn a_signature_is_proven_by_its_key_only(
        #[values(TokenAlgorithm::Es256, TokenAlgorithm::Rs256, TokenAlgorithm::EdDsa)]
        algorithm: TokenAlgorithm,
    ) {
        let (key, other) = (key(algorithm), key(algorithm));
        let signature = key.pair.sign(b"message").unwrap();
        assert!(key.proves(b"message", &signature));
        assert!(!key.proves(b"massage", &signature));
        assert!(!key.proves(b"message", &signature[1..]));
        assert!(!key.proves(b"message", b""));
        assert!(!other.proves(b"message", &signature));
    }

    #[test]
    fn from_pkcs8_of_another_algorithm_is_refused() {
        let pkcs8 = generate(TokenAlgorithm::Es256).unwrap();
        let refused = SigningKey::from_pkcs8(TokenAlgorithm::EdDsa, &pkcs8, Timestamp::UNIX_EPOCH);
        assert_eq!(refused.unwrap_err(), SigningError::Unreadable(TokenAlgorithm::EdDsa));
    }
}
