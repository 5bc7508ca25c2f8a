//! Tokens: JSON Web Tokens of the workspace for one service, verified from what policy holds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use crate::decision::{DenyReason, Finding, Refused};
use crate::json;
use crate::request::Trace;
use crate::service::{AUDIENCE_PREFIX, ServiceUid};

/// The `typ` of a token's header.
pub const TOKEN_TYPE: &str = "scoregate+jwt";

/// Greatest difference between the clocks of workspace and gate that may be tolerated.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Longest `sub`, in bytes.
pub const MAX_SUBJECT_LENGTH: usize = 256;

/// Latest second that a claim can name: the end of the year 9999.
const MAX_SECONDS: u64 = 253_402_300_799;

/// A point in time, as the time since the Unix epoch.
pub type UnixTime = Duration;

/// A signature algorithm that tokens may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// Ed25519.
    EdDsa,
}

impl TokenAlgorithm {
    /// The name in RFC 7518 and RFC 8037.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of that name, letter case included.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Es256, Self::Rs256, Self::EdDsa].into_iter().find(|known| known.as_str() == name)
    }

    /// The same in the words of `jsonwebtoken`.
    #[must_use]
    pub fn jsonwebtoken(self) -> Algorithm {
        match self {
            Self::Es256 => Algorithm::ES256,
            Self::Rs256 => Algorithm::RS256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// A public key that proves tokens, with the rules that hold for them.
pub struct VerificationKey {
    id: Arc<str>,
    algorithm: TokenAlgorithm,
    key: DecodingKey,
    issuer: String,
    max_lifetime: Duration,
    /// SHA-256 over all of the above as it came.
    fingerprint: [u8; 32],
}

/// Why a JSON Web Key is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableKey {
    /// Not a JSON object, a member twice, or too long.
    #[error("not a JSON Web Key")]
    Malformed,
    /// `kid` missing, empty or not a text.
    #[error("`kid` is missing")]
    KeyId,
    /// `alg` missing, unknown, or not that of the key.
    #[error("`alg` is not ES256, RS256 or EdDSA, or does not fit `kty` and `crv`")]
    Algorithm,
    /// `use` or `key_ops` say that it is for something else.
    #[error("`use` or `key_ops` do not allow it to verify signatures")]
    Use,
    /// It holds private or symmetric key material.
    #[error("it holds secret key material")]
    Secret,
    /// RSA below 2048 or above 8192 bits, or a public exponent below 65537.
    #[error("an RSA key has 2048 to 8192 bits and an odd public exponent of at least 65537")]
    WeakRsa,
    /// Coordinates of a wrong size.
    #[error("its coordinates have the wrong size")]
    Coordinates,
}

impl VerificationKey {
    /// Takes a JSON Web Key (RFC 7517), the `iss` of its tokens and their longest lifetime from `iat` to `exp`.
    ///
    /// # Errors
    /// What disqualifies the key.
    pub fn new(jwk: &str, issuer: String, max_lifetime: Duration) -> Result<Self, UnusableKey> {
        if jwk.len() > 4096 {
            return Err(UnusableKey::Malformed);
        }
        let members = json::object(jwk.as_bytes()).ok_or(UnusableKey::Malformed)?;
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let id = text("kid").filter(|id| !id.is_empty()).ok_or(UnusableKey::KeyId)?;
        if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| members.contains_key(*name)) {
            return Err(UnusableKey::Secret);
        }
        check_use(&members)?;
        let algorithm = text("alg").and_then(TokenAlgorithm::named).ok_or(UnusableKey::Algorithm)?;
        let key = match (algorithm, text("kty"), text("crv")) {
            (TokenAlgorithm::Es256, Some("EC"), Some("P-256")) => ec_key(text("x"), text("y"))?,
            (TokenAlgorithm::EdDsa, Some("OKP"), Some("Ed25519")) => ed_key(text("x"))?,
            (TokenAlgorithm::Rs256, Some("RSA"), None) => rsa_key(text("n"), text("e"))?,
            _ => return Err(UnusableKey::Algorithm),
        };
        let described = format!("{}\0{issuer}\0{jwk}", max_lifetime.as_secs());
        let fingerprint = sha256(described.as_bytes());
        Ok(Self { id: id.into(), algorithm, key, issuer, max_lifetime, fingerprint })
    }

    /// The `kid`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The refusal of a token that names this key.
    fn refuses(&self, reason: DenyReason) -> Refused {
        Refused { reason, finding: Some(Finding::SigningKey(Arc::clone(&self.id))) }
    }

    fn proves(&self, message: &[u8], signature: &str) -> bool {
        let algorithm = self.algorithm.jsonwebtoken();
        jsonwebtoken::crypto::verify(signature, message, &self.key, algorithm).unwrap_or(false)
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, algorithm, issuer, max_lifetime, .. } = self;
        f.debug_struct("VerificationKey")
            .field("id", id)
            .field("algorithm", algorithm)
            .field("issuer", issuer)
            .field("max_lifetime", max_lifetime)
            .finish_non_exhaustive()
    }
}

fn check_use(members: &Map<String, Value>) -> Result<(), UnusableKey> {
    let for_signatures = members.get("use").is_none_or(|usage| usage == "sig");
    let may_verify = members.get("key_ops").is_none_or(|operations| {
        operations.as_array().is_some_and(|operations| operations.iter().any(|one| one == "verify"))
    });
    if for_signatures && may_verify { Ok(()) } else { Err(UnusableKey::Use) }
}

fn coordinate(text: Option<&str>) -> Result<&str, UnusableKey> {
    let text = text.ok_or(UnusableKey::Coordinates)?;
    match URL_SAFE_NO_PAD.decode(text) {
        Ok(bytes) if bytes.len() == 32 => Ok(text),
        _ => Err(UnusableKey::Coordinates),
    }
}

fn ec_key(x: Option<&str>, y: Option<&str>) -> Result<DecodingKey, UnusableKey> {
    DecodingKey::from_ec_components(coordinate(x)?, coordinate(y)?).map_err(|_| UnusableKey::Coordinates)
}

fn ed_key(x: Option<&str>) -> Result<DecodingKey, UnusableKey> {
    DecodingKey::from_ed_components(coordinate(x)?).map_err(|_| UnusableKey::Coordinates)
}

fn rsa_key(n: Option<&str>, e: Option<&str>) -> Result<DecodingKey, UnusableKey> {
    let decode = |text: Option<&str>| text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let (n, e) = decode(n).zip(decode(e)).ok_or(UnusableKey::WeakRsa)?;
    let long_enough = (256..=1024).contains(&n.len()) && n[0] & 0x80 != 0;
    let exponent = (e.len() <= 4).then(|| e.iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte)));
    if !long_enough || exponent.is_none_or(|exponent| exponent < 65_537 || exponent % 2 == 0) {
        return Err(UnusableKey::WeakRsa);
    }
    Ok(DecodingKey::from_rsa_raw_components(&n, &e))
}

/// What a token says, once its signature is proven.
#[derive(Debug)]
struct Claims {
    issuer: String,
    audience: String,
    subject: Arc<str>,
    expires_at: UnixTime,
    not_before: UnixTime,
    issued_at: UnixTime,
}

/// A token whose signature was proven, and the key that proved it. Says nothing of whether the token is good now.
#[derive(Debug)]
pub struct Proof {
    claims: Claims,
    key_id: Arc<str>,
    key_fingerprint: [u8; 32],
}

/// Remembers proofs, so that one token is not verified anew for every request. Losing one costs time, nothing else.
pub trait ProofCache {
    /// The proof of the token with this SHA-256.
    fn lookup(&self, token: &[u8; 32]) -> Option<Arc<Proof>>;

    /// Keeps a proof, or not.
    fn insert(&self, token: [u8; 32], proof: Arc<Proof>);
}

/// Remembers nothing.
impl ProofCache for () {
    fn lookup(&self, _: &[u8; 32]) -> Option<Arc<Proof>> {
        None
    }

    fn insert(&self, _: [u8; 32], _: Arc<Proof>) {}
}

/// What a token has to hold against.
#[derive(Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) service: &'a ServiceUid,
    pub(crate) tokens_not_before: u64,
    pub(crate) now: UnixTime,
    pub(crate) clock_skew: Duration,
}

/// Gives the verification key of an id.
pub(crate) type FindKey<'a> = &'a dyn Fn(&str) -> Option<&'a Arc<VerificationKey>>;

/// The subject of a token that is good for the service now.
pub(crate) fn verify(
    token: &str,
    expected: Expected<'_>,
    find_key: FindKey<'_>,
    proofs: &impl ProofCache,
    trace: &mut impl Trace,
) -> Result<Arc<str>, Refused> {
    let digest = sha256(token.as_bytes());
    let still_trusted = |proof: &Arc<Proof>| {
        find_key(&proof.key_id).is_some_and(|key| key.fingerprint == proof.key_fingerprint)
    };
    let proof = match proofs.lookup(&digest).filter(still_trusted) {
        Some(proof) => {
            trace.step("token signature", || format!("proven before by key `{}`", proof.key_id));
            proof
        }
        None => {
            let proof = Arc::new(prove(token, find_key, trace)?);
            proofs.insert(digest, Arc::clone(&proof));
            proof
        }
    };
    // `prove` and `still_trusted` both found the key in this very snapshot.
    let key = find_key(&proof.key_id).ok_or(DenyReason::UnknownSigningKey)?;
    let outcome = evaluate(&proof.claims, key, expected);
    trace.step("token claims", || match outcome {
        Ok(()) => "good for this service now".to_owned(),
        Err(reason) => reason.code().to_owned(),
    });
    outcome.map(|()| Arc::clone(&proof.claims.subject)).map_err(|reason| key.refuses(reason))
}

fn prove(token: &str, find_key: FindKey<'_>, trace: &mut impl Trace) -> Result<Proof, Refused> {
    let (message, signature) = token.rsplit_once('.').ok_or(DenyReason::MalformedToken)?;
    let (header, payload) = message.split_once('.').ok_or(DenyReason::MalformedToken)?;
    if header.is_empty() || payload.is_empty() || signature.is_empty() || payload.contains('.') {
        return Err(DenyReason::MalformedToken.into());
    }
    let (header, payload) = (segment(header)?, segment(payload)?);
    let (algorithm, key_id) = check_header(&header)?;
    let key = find_key(key_id).ok_or(DenyReason::UnknownSigningKey)?;
    // INVARIANT: the algorithm is the key's. The token's word for it is only ever compared.
    if key.algorithm != algorithm {
        return Err(key.refuses(DenyReason::BadAlgorithm));
    }
    if !key.proves(message.as_bytes(), signature) {
        return Err(key.refuses(DenyReason::BadSignature));
    }
    trace.step("token signature", || format!("proven by key `{}`", key.id));
    let claims = Claims::read(&payload).map_err(|reason| key.refuses(reason))?;
    Ok(Proof { claims, key_id: Arc::clone(&key.id), key_fingerprint: key.fingerprint })
}

fn segment(text: &str) -> Result<Map<String, Value>, DenyReason> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| DenyReason::MalformedToken)?;
    json::object(&bytes).ok_or(DenyReason::MalformedToken)
}

/// Algorithm and key id. Members that would choose a key by other means are not looked at.
fn check_header(header: &Map<String, Value>) -> Result<(TokenAlgorithm, &str), DenyReason> {
    let text = |name: &str| header.get(name).and_then(Value::as_str);
    let algorithm = text("alg").and_then(TokenAlgorithm::named).ok_or(DenyReason::BadAlgorithm)?;
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(DenyReason::UnsupportedCrit);
    }
    if header.contains_key("zip") || header.contains_key("cty") {
        return Err(DenyReason::MalformedToken);
    }
    if text("typ") != Some(TOKEN_TYPE) {
        return Err(DenyReason::WrongType);
    }
    let key_id = text("kid").ok_or(DenyReason::UnknownSigningKey)?;
    Ok((algorithm, key_id))
}

impl Claims {
    fn read(members: &Map<String, Value>) -> Result<Self, DenyReason> {
        if ["iss", "aud", "sub", "exp", "nbf", "iat"].iter().any(|name| !members.contains_key(*name)) {
            return Err(DenyReason::MissingClaim);
        }
        let text = |name: &str, wrong| members[name].as_str().ok_or(wrong);
        let subject = text("sub", DenyReason::MalformedToken)?;
        if !(1..=MAX_SUBJECT_LENGTH).contains(&subject.len())
            || !subject.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(DenyReason::MalformedToken);
        }
        Ok(Self {
            issuer: text("iss", DenyReason::WrongIssuer)?.to_owned(),
            audience: text("aud", DenyReason::WrongService)?.to_owned(),
            subject: subject.into(),
            expires_at: seconds(&members["exp"])?,
            not_before: seconds(&members["nbf"])?,
            issued_at: seconds(&members["iat"])?,
        })
    }
}

/// A NumericDate (RFC 7519, section 2): a JSON number of seconds, whole or not.
fn seconds(value: &Value) -> Result<UnixTime, DenyReason> {
    let Value::Number(number) = value else {
        return Err(DenyReason::MalformedToken);
    };
    let time = match (number.as_u64(), number.as_f64()) {
        (Some(whole), _) => Some(Duration::from_secs(whole)),
        (None, Some(fraction)) => Duration::try_from_secs_f64(fraction).ok(),
        _ => None,
    };
    time.filter(|time| time.as_secs() <= MAX_SECONDS).ok_or(DenyReason::MalformedToken)
}

fn evaluate(claims: &Claims, key: &VerificationKey, expected: Expected<'_>) -> Result<(), DenyReason> {
    let Expected { service, tokens_not_before, now, clock_skew } = expected;
    if claims.issuer != key.issuer {
        return Err(DenyReason::WrongIssuer);
    }
    if claims.audience.strip_prefix(AUDIENCE_PREFIX) != Some(service.as_str()) {
        return Err(DenyReason::WrongService);
    }
    // RFC 7519, section 4.1.4: not "on or after" the expiry.
    if now >= claims.expires_at.saturating_add(clock_skew) {
        return Err(DenyReason::Expired);
    }
    let latest_now = now.saturating_add(clock_skew);
    if latest_now < claims.not_before || latest_now < claims.issued_at {
        return Err(DenyReason::NotYetValid);
    }
    if claims.expires_at.saturating_sub(claims.issued_at) > key.max_lifetime {
        return Err(DenyReason::LifetimeTooLong);
    }
    if claims.issued_at.as_secs() < tokens_not_before {
        return Err(DenyReason::Revoked);
    }
    Ok(())
}

/// Whether a text has the look of a JSON Web Token: three segments, the first an object's.
pub(crate) fn looks_like_token(text: &str) -> bool {
    text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut output = [0; 32];
    output.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    output
}

#[cfg(test)]
mod vectors;
