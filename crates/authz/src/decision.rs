//! What a check ends in: a closed set of answers, each with its reason.

use std::sync::Arc;

use crate::key::Slot;
use crate::policy::Service;
use crate::service::AuthMode;

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $code:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Each of them once.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The published code: what metadata, logs and metrics say.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)+
                }
            }
        }
    };
}

reasons! {
    /// Why a request was allowed.
    AllowReason {
        /// The credential was right.
        Ok => "ok",
        /// The service has no authentication.
        Open => "open",
        /// The credential was refused, and the service is in shadow: it is counted, and let through for now.
        Shadow => "shadow",
    }
}

reasons! {
    /// Why a request was refused.
    DenyReason {
        /// No credential header.
        MissingCredential => "missing_credential",
        /// A credential header without a value. Published as `missing_credential`, counted apart.
        EmptyCredential => "missing_credential",
        /// A credential header whose value is not `Bearer`, one space and a credential, or is too long.
        MalformedCredential => "malformed_credential",
        /// An authentication scheme other than `Bearer`.
        UnsupportedScheme => "unsupported_scheme",
        /// One credential header several times, or several values joined by commas.
        DuplicateCredential => "duplicate_credential",
        /// Credentials in several headers, or two different readings of the headers.
        AmbiguousCredential => "ambiguous_credential",
        /// No key of the service.
        UnknownKey => "unknown_key",
        /// A key for a service that takes tokens, or a token for one that takes keys.
        WrongCredentialKind => "wrong_credential_kind",
        /// Not a signed JSON Web Token in compact form, or one with members that it must not have.
        MalformedToken => "malformed_token",
        /// An algorithm that is not accepted, or not the one of the signing key.
        BadAlgorithm => "bad_algorithm",
        /// No such signing key, or none named.
        UnknownSigningKey => "unknown_signing_key",
        /// The signature does not prove the token.
        BadSignature => "bad_signature",
        /// Past its expiry.
        Expired => "expired",
        /// Before its time, or issued in the future.
        NotYetValid => "not_yet_valid",
        /// A required claim is not there.
        MissingClaim => "missing_claim",
        /// Demands an extension of the token format; there are none.
        UnsupportedCrit => "unsupported_crit",
        /// Issued before the service's tokens were revoked.
        Revoked => "revoked",
        /// Not from the issuer whose key signed it.
        WrongIssuer => "wrong_issuer",
        /// For another service.
        WrongService => "wrong_service",
        /// A signed document of another kind.
        WrongType => "wrong_type",
        /// Valid for longer than any token may be.
        LifetimeTooLong => "lifetime_too_long",
        /// No service by what the request says.
        UnknownService => "unknown_service",
        /// A path that Envoy and a model server may read differently.
        AmbiguousPath => "ambiguous_path",
        /// Not an HTTP request.
        NoHttp => "no_http",
    }
}

reasons! {
    /// Why no decision was possible.
    UndecidedReason {
        /// No snapshot yet.
        NoPolicy => "no_policy",
        /// The policy was confirmed longer ago than it may be.
        StalePolicy => "stale_policy",
        /// The service's policy is contradictory, incomplete or of a kind that this version does not know.
        InvalidPolicy => "invalid_policy",
        /// The service takes tokens and there is no key to prove one with.
        NoVerificationKey => "no_verification_key",
        /// A fault of scoregate itself.
        Internal => "internal",
    }
}

/// Any reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Of an allow.
    Allow(AllowReason),
    /// Of a deny.
    Deny(DenyReason),
    /// Of neither.
    Undecided(UndecidedReason),
}

impl Reason {
    /// Each reason once.
    pub fn all() -> impl Iterator<Item = Self> {
        let allow = AllowReason::ALL.iter().copied().map(Self::Allow);
        let deny = DenyReason::ALL.iter().copied().map(Self::Deny);
        let undecided = UndecidedReason::ALL.iter().copied().map(Self::Undecided);
        allow.chain(deny).chain(undecided)
    }

    /// The published code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Allow(reason) => reason.code(),
            Self::Deny(reason) => reason.code(),
            Self::Undecided(reason) => reason.code(),
        }
    }

    /// The code in metrics, where each reason has its own.
    #[must_use]
    pub fn metric_label(self) -> &'static str {
        match self {
            Self::Deny(DenyReason::EmptyCredential) => "empty_credential",
            other => other.code(),
        }
    }

    /// `allow`, `deny` or `undecided`.
    #[must_use]
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Allow(_) => "allow",
            Self::Deny(_) => "deny",
            Self::Undecided(_) => "undecided",
        }
    }
}

/// Proof that this crate allowed a request, and who called.
///
/// INVARIANT: made only in this crate, by a decision that looked at a policy. An answer that allows needs one.
///
/// Anybody may look at one:
///
/// ```
/// fn caller(permit: &scoregate_authz::Permit) -> &str {
///     permit.subject().unwrap_or("a key, or anybody")
/// }
/// ```
///
/// Nobody else can make one, neither from its parts nor by the ways in which this crate does:
///
/// ```compile_fail,E0451
/// fn forge(permit: scoregate_authz::Permit) -> scoregate_authz::Permit {
///     scoregate_authz::Permit { ..permit }
/// }
/// ```
///
/// ```compile_fail,E0624
/// let forged = scoregate_authz::Permit::open();
/// ```
///
/// ```compile_fail,E0624
/// let forged = scoregate_authz::Permit::shadow(scoregate_authz::DenyReason::UnknownKey);
/// ```
///
/// ```compile_fail,E0277
/// fn is_default<T: Default>() {}
/// is_default::<scoregate_authz::Permit>();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    caller: Caller,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Caller {
    Anybody,
    Key(Slot),
    Subject(Arc<str>),
    /// Nobody who proved anything: refused for this reason, and the service is in shadow.
    Unproven(DenyReason),
}

impl Permit {
    pub(crate) fn open() -> Self {
        Self { caller: Caller::Anybody }
    }

    pub(crate) fn key(slot: Slot) -> Self {
        Self { caller: Caller::Key(slot) }
    }

    pub(crate) fn token(subject: Arc<str>) -> Self {
        Self { caller: Caller::Subject(subject) }
    }

    pub(crate) fn shadow(reason: DenyReason) -> Self {
        Self { caller: Caller::Unproven(reason) }
    }

    /// How the caller proved itself; `None` if it did not, and was let through because the service is in shadow.
    #[must_use]
    pub fn auth_mode(&self) -> Option<AuthMode> {
        match self.caller {
            Caller::Anybody => Some(AuthMode::Disabled),
            Caller::Key(_) => Some(AuthMode::Key),
            Caller::Subject(_) => Some(AuthMode::Token),
            Caller::Unproven(_) => None,
        }
    }

    /// Why it would be refused if the service were not in shadow.
    #[must_use]
    pub fn would_be(&self) -> Option<DenyReason> {
        match self.caller {
            Caller::Unproven(reason) => Some(reason),
            _ => None,
        }
    }

    /// Which key it was, if it was one.
    #[must_use]
    pub fn key_slot(&self) -> Option<Slot> {
        match self.caller {
            Caller::Key(slot) => Some(slot),
            _ => None,
        }
    }

    /// The token's `sub`, if it was one.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match &self.caller {
            Caller::Subject(subject) => Some(subject),
            _ => None,
        }
    }

    /// Why it was allowed.
    #[must_use]
    pub fn reason(&self) -> AllowReason {
        match self.caller {
            Caller::Anybody => AllowReason::Open,
            Caller::Key(_) | Caller::Subject(_) => AllowReason::Ok,
            Caller::Unproven(_) => AllowReason::Shadow,
        }
    }
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// May score.
    Allow(Permit),
    /// May not.
    Deny(Denial),
    /// Cannot be told; never an allow.
    Undecided(UndecidedReason),
}

impl Decision {
    /// Its reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Allow(permit) => Reason::Allow(permit.reason()),
            Self::Deny(denial) => Reason::Deny(denial.reason),
            Self::Undecided(reason) => Reason::Undecided(*reason),
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial {
    /// For the operator.
    pub reason: DenyReason,
    /// Whether the request carried anything where a credential belongs: the one thing that the answer to the client
    /// depends on, so that it tells nothing of the service.
    pub credential_presented: bool,
}

/// A decision with what it was based on.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The answer.
    pub decision: Decision,
    /// The service as policy knows it; `None` where no service was found.
    pub service: Option<Arc<Service>>,
    /// What is known of a credential that was refused.
    pub finding: Option<Finding>,
    /// Revision of the snapshot that decided; 0 without one.
    pub revision: u64,
}

/// What is known of a credential that was refused. For the operator: it never makes a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is the key that was in this slot until it was replaced, and this gate saw that.
    ReplacedKey(Slot),
    /// A token that names this signing key, which is one of the workspace's; whether that key signed it, the reason says.
    SigningKey(Arc<str>),
}

/// Why a credential is refused, and what is known of it.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reason: DenyReason,
    pub(crate) finding: Option<Finding>,
}

impl From<DenyReason> for Refused {
    fn from(reason: DenyReason) -> Self {
        Self { reason, finding: None }
    }
}

impl Verdict {
    /// That of a fault inside scoregate.
    #[must_use]
    pub fn internal() -> Self {
        let decision = Decision::Undecided(UndecidedReason::Internal);
        Self { decision, service: None, finding: None, revision: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn reason_labels_are_unique_and_in_snake_case() {
        let codes: Vec<_> = Reason::all().map(Reason::metric_label).collect();
        assert_eq!(codes.iter().collect::<HashSet<_>>().len(), codes.len());
        let snake = |code: &&str| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(codes.iter().all(snake));
    }
}
