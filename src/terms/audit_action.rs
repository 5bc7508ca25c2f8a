//! What can be done to a workspace, in the words of its audit.

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditAction {
    /// The first start.
    WorkspaceFounded,
    /// Another `iss`, from the configuration.
    IssuerChanged,
    /// Another lifetime of tokens, from the configuration: gates learn the new limit.
    TokenLifetimeChanged,
    /// A backup, at the beginning of an epoch.
    WorkspaceRestored,
    /// A key that is to sign tokens, or does so at once.
    SigningKeyCreated,
    /// A published key, which is to sign sooner than was planned.
    SigningKeyHastened,
    /// It signs from now on.
    SigningKeyActivated,
    /// It signs no more, and is trusted until its last token has expired.
    SigningKeyRetired,
    /// Its last token has expired, or it never signed one.
    SigningKeyDropped,
    /// It is not trusted from now on, nor any of its tokens.
    SigningKeyWithdrawn,
    /// A new service.
    ServiceCreated,
    /// Members of a service.
    ServiceUpdated,
    /// A service, with its keys.
    ServiceDeleted,
    /// One of the two keys of a service.
    KeyRegenerated,
    /// All tokens of a service that were issued before.
    TokensRevoked,
    /// A new principal.
    PrincipalCreated,
    /// A principal, with its credential.
    PrincipalDeleted,
    /// A new credential for the owner, with access to the data directory.
    OwnerReset,
}

impl AuditAction {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::WorkspaceFounded,
        Self::IssuerChanged,
        Self::TokenLifetimeChanged,
        Self::WorkspaceRestored,
        Self::SigningKeyCreated,
        Self::SigningKeyHastened,
        Self::SigningKeyActivated,
        Self::SigningKeyRetired,
        Self::SigningKeyDropped,
        Self::SigningKeyWithdrawn,
        Self::ServiceCreated,
        Self::ServiceUpdated,
        Self::ServiceDeleted,
        Self::KeyRegenerated,
        Self::TokensRevoked,
        Self::PrincipalCreated,
        Self::PrincipalDeleted,
        Self::OwnerReset,
    ];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WorkspaceFounded => "workspace_founded",
            Self::IssuerChanged => "issuer_changed",
            Self::TokenLifetimeChanged => "token_lifetime_changed",
            Self::WorkspaceRestored => "workspace_restored",
            Self::SigningKeyCreated => "signing_key_created",
            Self::SigningKeyHastened => "signing_key_hastened",
            Self::SigningKeyActivated => "signing_key_activated",
            Self::SigningKeyRetired => "signing_key_retired",
            Self::SigningKeyDropped => "signing_key_dropped",
            Self::SigningKeyWithdrawn => "signing_key_withdrawn",
            Self::ServiceCreated => "service_created",
            Self::ServiceUpdated => "service_updated",
            Self::ServiceDeleted => "service_deleted",
            Self::KeyRegenerated => "key_regenerated",
            Self::TokensRevoked => "tokens_revoked",
            Self::PrincipalCreated => "principal_created",
            Self::PrincipalDeleted => "principal_deleted",
            Self::OwnerReset => "owner_reset",
        }
    }
}

/// A text that is no action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownAction;

impl std::fmt::Display for UnknownAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = AuditAction::ALL.map(|action| format!("`{}`", action.as_str()));
        write!(f, "an action is one of {}", words.join(", "))
    }
}

impl std::error::Error for UnknownAction {}

impl std::str::FromStr for AuditAction {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        Self::ALL.into_iter().find(|action| action.as_str() == text).ok_or(UnknownAction)
    }
}
