//! Tokens: signed, and handed out again while they are fresh.

use std::time::Duration;

use dashmap::DashMap;
use scoregate_authz::{AuthMode, ServiceUid, TOKEN_TYPE, UnixTime};

use super::Workspace;
use super::directory::IssuingService;
use super::domain::{IssuedToken, Principal, WorkspaceError};
use super::issues::IssueEvent;
use super::signer::{Claims, SigningError, SigningKey};

/// Tokens by all that must be as it was for one to be handed out again.
#[derive(Debug, Default)]
pub(super) struct Tokens(DashMap<TokenKey, IssuedToken>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TokenKey {
    service: ServiceUid,
    principal: String,
    signing_key: String,
    tokens_not_before: u64,
}

impl Tokens {
    /// Drops the tokens that are not handed out any more.
    pub(super) fn purge(&self, now: UnixTime) {
        self.0.retain(|_, token| now.as_secs() < token.refresh_after);
    }

    /// Drops the tokens of a service that is gone.
    pub(super) fn forget(&self, service: &ServiceUid) {
        self.0.retain(|key, _| key.service != *service);
    }

    /// Drops the tokens of a signing key that is gone.
    pub(super) fn forget_signed_by(&self, key_id: &str) {
        self.0.retain(|key, _| key.signing_key != key_id);
    }
}

impl Workspace {
    /// A token for a service. Without a lifetime it is one of the configured lifetime, and the same one again as long as
    /// half of the time to its refresh remains.
    ///
    /// # Errors
    /// There is no service of this name, it is not in token mode, or the lifetime is below a second or longer than the
    /// configured one (field `expiresIn`).
    pub fn issue_token(
        &self,
        name: &str,
        principal: &Principal,
        lifetime: Option<Duration>,
    ) -> Result<IssuedToken, WorkspaceError> {
        self.check_lifetime(lifetime)?;
        let service = self.issuing_service(name)?;
        if service.auth_mode != AuthMode::Token {
            return Err(WorkspaceError::NotInTokenMode {
                name: service.name.clone(),
                mode: service.auth_mode,
            });
        }
        let signing_keys = self.inner.signing_keys.load();
        let signing_key = &*signing_keys.signing().key;
        if let Some(lifetime) = lifetime {
            let token = self.sign_token(&service, principal, signing_key, lifetime)?;
            self.note_issue(&token.issue, principal);
            return Ok(token);
        }
        let key = TokenKey {
            service: service.uid.clone(),
            principal: principal.name.clone(),
            signing_key: signing_key.id.clone(),
            tokens_not_before: service.tokens_not_before,
        };
        if let Some(token) = self.inner.tokens.0.get(&key).filter(|token| self.is_fresh(token)) {
            let mut token = token.clone();
            token.issue.event = IssueEvent::TokenReused;
            self.note_issue(&token.issue, principal);
            return Ok(token);
        }
        let token = self.sign_token(&service, principal, signing_key, self.inner.token_lifetime)?;
        self.inner.tokens.0.insert(key, token.clone());
        self.note_issue(&token.issue, principal);
        Ok(token)
    }

    /// The public keys that prove its tokens, as a JSON Web Key Set (RFC 7517, section 5).
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        let keys = self.inner.signing_keys.load();
        let keys: Vec<_> = keys.all().iter().map(|held| held.key.jwk.clone()).collect();
        serde_json::json!({ "keys": keys })
    }

    fn check_lifetime(&self, lifetime: Option<Duration>) -> Result<(), WorkspaceError> {
        let longest = self.inner.token_lifetime;
        match lifetime {
            Some(lifetime) if lifetime < Duration::from_secs(1) || lifetime > longest => {
                Err(WorkspaceError::Invalid {
                    field: "expiresIn".to_owned(),
                    problem: format!("it is from 1 s to the default of {} s", longest.as_secs()),
                })
            }
            _ => Ok(()),
        }
    }

    fn is_fresh(&self, token: &IssuedToken) -> bool {
        self.now().as_secs() + self.inner.token_refresh_after.as_secs() / 2 <= token.refresh_after
    }

    fn sign_token(
        &self,
        service: &IssuingService,
        principal: &Principal,
        signing_key: &SigningKey,
        lifetime: Duration,
    ) -> Result<IssuedToken, WorkspaceError> {
        let now = self.now();
        // INVARIANT: a new token is not among those that its service has revoked.
        let issued_at = now.as_secs().max(service.tokens_not_before);
        let expires_at = issued_at + lifetime.as_secs();
        let is_short = lifetime < self.inner.token_lifetime;
        let most = if is_short { lifetime / 2 } else { lifetime };
        let refresh_after = issued_at + self.inner.token_refresh_after.min(most).as_secs();
        let claims = Claims {
            iss: &self.inner.issuer,
            aud: &service.uid.audience(),
            sub: &principal.name,
            iat: issued_at,
            nbf: issued_at,
            exp: expires_at,
            jti: self.new_id(now).to_string(),
        };
        let token = signing_key.sign(TOKEN_TYPE, &claims)?;
        let issue = service.issue(IssueEvent::TokenIssued);
        Ok(IssuedToken { token, refresh_after, expires_at, issue })
    }
}

impl From<SigningError> for WorkspaceError {
    fn from(error: SigningError) -> Self {
        Self::Store(error.into())
    }
}
