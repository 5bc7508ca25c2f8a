//! Session tokens: short-lived stand-ins for a principal's credential, for clients that insist on a JSON Web Token.
//!
//! Azure's clients read the tenant and the expiry of what they prove themselves with, and a credential has neither. They
//! exchange it for a session token, which is good at the REST and nowhere else: gates refuse its type, and the feed takes
//! credentials only. It ends with the credential that it was made from.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quick_cache::sync::Cache;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Workspace;
use super::domain::{Principal, WorkspaceError};
use super::store::CredentialHash;
use crate::terms::Role;

/// The `typ` of a session token's header.
const SESSION_TYPE: &str = "scoregate-session+jwt";
/// From issue to expiry.
pub(super) const LIFETIME: Duration = Duration::from_hours(1);
/// The same token is given again as long as it is good for longer than this. Azure's clients ask for two before each of
/// their requests.
const LEAST_REMAINING: Duration = Duration::from_mins(30);
/// By how much the clock may be set back without a new token being refused.
const CLOCK_STEP: Duration = Duration::from_secs(5);
/// Longest text that is looked at, in bytes. One with an RSA signature has about 1,000.
const MAX_LENGTH: usize = 2048;
/// How many principals' tokens are held, and how many proofs.
const CAPACITY: usize = 1000;

/// A session token.
#[derive(Debug, Clone)]
pub struct Session {
    /// The JSON Web Token.
    pub token: SecretString,
    /// When it expires, in Unix seconds.
    pub expires_at: u64,
}

/// Sessions as they were issued and proven. Losing one costs time, nothing else.
pub(super) struct Sessions {
    issued: Cache<CredentialHash, Arc<Issued>>,
    /// By the SHA-256 of the token's text.
    proven: Cache<[u8; 32], Arc<Proof>>,
}

struct Issued {
    session: Session,
    signing_key: String,
}

/// A session token whose signature was proven. Says nothing of whether it is good now.
struct Proof {
    signing_key: String,
    credential: CredentialHash,
    not_before: u64,
    expires_at: u64,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { issued: Cache::new(CAPACITY), proven: Cache::new(CAPACITY) }
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("issued", &self.issued.len()).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

/// Times are Unix seconds.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    /// Azure's clients need one: the workspace's id.
    tid: String,
    /// Tells the principal's credential apart from the one before and the next, without telling it.
    cred: String,
    iat: u64,
    nbf: u64,
    exp: u64,
}

impl Workspace {
    /// Whose bearer this is: the holder of a credential, or of a session token. `None` if nobody.
    #[must_use]
    pub fn authenticate_client(&self, bearer: &str) -> Option<Principal> {
        self.authenticate(bearer).or_else(|| self.holder_of_session(bearer))
    }

    /// A session token for the holder of a credential; `None` if that is nobody, or a gate, which has no use for one.
    ///
    /// A session token is no credential: sessions cannot be prolonged.
    ///
    /// # Errors
    /// The signing key does not sign.
    pub fn open_session(&self, credential: &str) -> Result<Option<(Principal, Session)>, WorkspaceError> {
        let holder = self.holder(credential).filter(|(_, principal)| principal.role != Role::Gate);
        let Some((hash, principal)) = holder else { return Ok(None) };
        let signing_keys = self.inner.signing_keys.load();
        let signing_key = &signing_keys.signing().key;
        let is_fresh = |issued: &Arc<Issued>| {
            let remaining = issued.session.expires_at.saturating_sub(self.now().as_secs());
            issued.signing_key == signing_key.id
                && (LEAST_REMAINING..=LIFETIME).contains(&Duration::from_secs(remaining))
        };
        if let Some(issued) = self.inner.sessions.issued.get(&hash).filter(is_fresh) {
            return Ok(Some((principal, issued.session.clone())));
        }
        let claims = self.session_claims(&principal, &hash);
        let token = signing_key.sign(SESSION_TYPE, &claims)?;
        let session = Session { token: token.into(), expires_at: claims.exp };
        tracing::debug!(principal = principal.name, "session opened");
        let issued = Issued { session: session.clone(), signing_key: signing_key.id.clone() };
        self.inner.sessions.issued.insert(hash, Arc::new(issued));
        Ok(Some((principal, session)))
    }

    fn session_claims(&self, principal: &Principal, credential: &CredentialHash) -> Claims {
        let now = self.now().as_secs();
        Claims {
            iss: self.inner.issuer.clone(),
            aud: self.session_audience(),
            sub: principal.name.clone(),
            tid: self.inner.id.to_string(),
            cred: credential_mark(credential),
            iat: now,
            nbf: now,
            exp: now + LIFETIME.as_secs(),
        }
    }

    fn session_audience(&self) -> String {
        format!("urn:scoregate:workspace:{}", self.inner.id)
    }

    fn holder_of_session(&self, token: &str) -> Option<Principal> {
        if token.len() > MAX_LENGTH {
            return None;
        }
        let mut id = [0; 32];
        id.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let proof = match self.inner.sessions.proven.get(&id) {
            Some(proof) => proof,
            None => {
                let proof = Arc::new(self.prove_session(token)?);
                self.inner.sessions.proven.insert(id, Arc::clone(&proof));
                proof
            }
        };
        // INVARIANT: a proof that is remembered is asked all that may have changed since.
        let now = self.now();
        let is_good = self.inner.signing_keys.load().with_id(&proof.signing_key).is_some()
            && (now + CLOCK_STEP).as_secs() >= proof.not_before
            && now.as_secs() < proof.expires_at;
        if is_good { self.inner.roster.with_credential(&proof.credential) } else { None }
    }

    fn prove_session(&self, token: &str) -> Option<Proof> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let header: Header = segment(header)?;
        let keys = self.inner.signing_keys.load();
        let key = &keys.with_id(&header.kid)?.key;
        // INVARIANT: the algorithm is the key's. The token's word for it is only compared.
        if header.typ != SESSION_TYPE || header.alg != key.algorithm.as_str() {
            return None;
        }
        if !key.proves(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?) {
            return None;
        }
        let claims: Claims = segment(claims)?;
        if claims.iss != self.inner.issuer || claims.aud != self.session_audience() {
            return None;
        }
        let credential = self.inner.roster.credential_of(&claims.sub)?;
        (credential_mark(&credential) == claims.cred).then_some(Proof {
            signing_key: header.kid,
            credential,
            not_before: claims.nbf,
            expires_at: claims.exp,
        })
    }
}

fn segment<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// Of no use to whoever reads it: what it is made of has 192 random bits.
fn credential_mark(hash: &CredentialHash) -> String {
    let mut context = Context::new(&SHA256);
    context.update(b"scoregate session\0");
    context.update(hash);
    URL_SAFE_NO_PAD.encode(&context.finish().as_ref()[..16])
}
