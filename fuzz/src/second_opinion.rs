//! What `jsonwebtoken`'s own verifier, as strict as it can be, says of a token.
//!
//! Of that crate scoregate uses the signature check alone; here it reads header and claims too. The mathematics of the
//! signature are therefore the same on both sides: published vectors test those (case 134 of docs/threats.md).

use std::sync::LazyLock;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;

use crate::signer::{EDDSA, audience};
use crate::world::{ISSUER, MAX_LIFETIME, NOW};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub struct Claims {
    pub sub: String,
    iat: f64,
    nbf: f64,
    exp: f64,
}

/// The claims of a token by [`EDDSA`] that is good now, or why there are none.
///
/// # Errors
/// What is wrong with the token.
pub fn claims(token: &str) -> Result<Claims, String> {
    static KEY: LazyLock<DecodingKey> = LazyLock::new(|| {
        let jwk = EDDSA.jwk();
        DecodingKey::from_ed_components(jwk["x"].as_str().unwrap()).unwrap()
    });
    static VALIDATION: LazyLock<Validation> = LazyLock::new(validation);
    let claims = decode::<Claims>(token, &KEY, &VALIDATION).map_err(|error| error.to_string())?.claims;
    let now = NOW as f64;
    let is_good_now = claims.nbf <= now
        && claims.iat <= now
        && now < claims.exp
        && claims.exp - claims.iat <= MAX_LIFETIME as f64;
    if is_good_now { Ok(claims) } else { Err(format!("not good at {now}: {claims:?}")) }
}

/// Times apart: it knows no clock but the system's, and an input has to mean the same tomorrow.
fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
    validation.set_audience(&[audience()]);
    validation.set_issuer(&[ISSUER]);
    validation.validate_exp = false;
    validation
}
