//! What is known of a service: its name, uid, compute type and authentication mode.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a service: 3 to 32 lower-case letters, digits and dashes, from a letter to a letter or digit.
///
/// The rule is that of Azure ML's clients, which check it before they create a service.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

/// A text that cannot be the name of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a service name has 3 to 32 lower-case letters, digits and dashes, starts with a letter and ends with a letter or digit"
)]
pub struct InvalidServiceName;

impl ServiceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = InvalidServiceName;

    fn from_str(text: &str) -> Result<Self, InvalidServiceName> {
        Arc::<str>::from(text).try_into()
    }
}

/// Shares the text.
impl TryFrom<Arc<str>> for ServiceName {
    type Error = InvalidServiceName;

    fn try_from(text: Arc<str>) -> Result<Self, InvalidServiceName> {
        let bytes = text.as_bytes();
        let allowed = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let valid = (3..=32).contains(&bytes.len())
            && bytes.iter().all(allowed)
            && bytes[0].is_ascii_lowercase()
            && bytes[bytes.len() - 1] != b'-';
        if valid { Ok(Self(text)) } else { Err(InvalidServiceName) }
    }
}

/// So that maps keyed by names can be asked with the text of a request.
impl std::borrow::Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The identity of a service for its whole life. A service made again under the same name gets another one.
///
/// 1 to 64 letters, digits and dashes. The workspace's are UUIDs of version 7, so that their order is the order of
/// creation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceUid(Arc<str>);

/// A text that cannot be the uid of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a service uid has 1 to 64 letters, digits and dashes")]
pub struct InvalidServiceUid;

impl ServiceUid {
    /// The uid as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one `aud` of this service's tokens.
    #[must_use]
    pub fn audience(&self) -> String {
        format!("{AUDIENCE_PREFIX}{self}")
    }
}

pub(crate) const AUDIENCE_PREFIX: &str = "urn:scoregate:service:";

impl FromStr for ServiceUid {
    type Err = InvalidServiceUid;

    fn from_str(text: &str) -> Result<Self, InvalidServiceUid> {
        Arc::<str>::from(text).try_into()
    }
}

/// Shares the text.
impl TryFrom<Arc<str>> for ServiceUid {
    type Error = InvalidServiceUid;

    fn try_from(text: Arc<str>) -> Result<Self, InvalidServiceUid> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let valid = (1..=64).contains(&text.len()) && text.bytes().all(allowed);
        if valid { Ok(Self(text)) } else { Err(InvalidServiceUid) }
    }
}

impl fmt::Display for ServiceUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Where a service's model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ComputeType {
    /// Azure Kubernetes Service.
    Aks,
    /// Azure Container Instances.
    Aci,
}

impl ComputeType {
    /// The name on the wire, in upper case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aks => "AKS",
            Self::Aci => "ACI",
        }
    }
}

impl ComputeType {
    /// The path prefix of a service that declares none: the scoring path of AKS, or that of ACI for a service of ACI that
    /// has a host of its own.
    #[must_use]
    pub fn default_path_prefix(self, name: &ServiceName, has_hosts: bool) -> String {
        match self {
            Self::Aci if has_hosts => "/score".to_owned(),
            Self::Aci | Self::Aks => format!("/api/v1/service/{name}"),
        }
    }
}

impl fmt::Display for ComputeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is neither `AKS` nor `ACI`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the compute type is `AKS` or `ACI`")]
pub struct UnknownComputeType;

impl FromStr for ComputeType {
    type Err = UnknownComputeType;

    /// Letter case does not matter.
    fn from_str(text: &str) -> Result<Self, UnknownComputeType> {
        [Self::Aks, Self::Aci]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(text))
            .ok_or(UnknownComputeType)
    }
}

/// How callers of a service prove themselves. Never two ways at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthMode {
    /// Not at all: the service is open.
    Disabled,
    /// With the primary or the secondary key.
    Key,
    /// With a token of the workspace.
    Token,
}

impl AuthMode {
    /// The name in metadata, metrics and identity headers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Key => "key",
            Self::Token => "token",
        }
    }

    /// The mode that follows from what was said of key and token authentication when a service is created.
    ///
    /// # Errors
    /// Both on, or token authentication on ACI.
    pub fn on_create(
        compute: ComputeType,
        key: Option<bool>,
        token: Option<bool>,
    ) -> Result<Self, AuthModeError> {
        let token = token.unwrap_or(false);
        let key = key.unwrap_or(compute == ComputeType::Aks && !token);
        Self::from_flags(compute, key, token)
    }

    /// The mode after a change of one or both flags; a flag that was not mentioned stays as it is.
    ///
    /// # Errors
    /// Both on, or token authentication on ACI.
    pub fn on_update(
        self,
        compute: ComputeType,
        key: Option<bool>,
        token: Option<bool>,
    ) -> Result<Self, AuthModeError> {
        let key = key.unwrap_or(self == Self::Key);
        let token = token.unwrap_or(self == Self::Token);
        Self::from_flags(compute, key, token)
    }

    fn from_flags(compute: ComputeType, key: bool, token: bool) -> Result<Self, AuthModeError> {
        match (key, token) {
            (true, true) => Err(AuthModeError::Both),
            (_, true) if compute == ComputeType::Aci => Err(AuthModeError::TokenOnAci),
            (true, false) => Ok(Self::Key),
            (false, true) => Ok(Self::Token),
            (false, false) => Ok(Self::Disabled),
        }
    }
}

impl fmt::Display for AuthMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A combination of authentication flags that no service may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthModeError {
    /// Key and token authentication together.
    #[error("key and token authentication cannot both be on: turn one of them off in the same request")]
    Both,
    /// Token authentication on ACI.
    #[error("token authentication is for AKS only: an ACI service has keys or no authentication")]
    TokenOnAci,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const ON: Option<bool> = Some(true);
    const OFF: Option<bool> = Some(false);
    const UNSAID: Option<bool> = None;

    #[rstest]
    fn on_create_of_the_whole_matrix(
        #[values(ComputeType::Aks, ComputeType::Aci)] compute: ComputeType,
        #[values(ON, OFF, UNSAID)] key: Option<bool>,
        #[values(ON, OFF, UNSAID)] token: Option<bool>,
    ) {
        use AuthModeError::{Both, TokenOnAci};
        let expected = match (compute, key, token) {
            (_, ON, ON) => Err(Both),
            (ComputeType::Aks, ON | UNSAID, OFF | UNSAID) => Ok(AuthMode::Key),
            (ComputeType::Aks, OFF, OFF | UNSAID) => Ok(AuthMode::Disabled),
            (ComputeType::Aks, OFF | UNSAID, ON) => Ok(AuthMode::Token),
            (ComputeType::Aci, ON, OFF | UNSAID) => Ok(AuthMode::Key),
            (ComputeType::Aci, OFF | UNSAID, OFF | UNSAID) => Ok(AuthMode::Disabled),
            (ComputeType::Aci, OFF | UNSAID, ON) => Err(TokenOnAci),
        };
        assert_eq!(AuthMode::on_create(compute, key, token), expected);
    }

    #[rstest]
    #[case(AuthMode::Key, UNSAID, ON, Err(AuthModeError::Both))]
    #[case(AuthMode::Key, OFF, ON, Ok(AuthMode::Token))]
    #[case(AuthMode::Key, OFF, UNSAID, Ok(AuthMode::Disabled))]
    #[case(AuthMode::Key, UNSAID, OFF, Ok(AuthMode::Key))]
    #[case(AuthMode::Token, ON, UNSAID, Err(AuthModeError::Both))]
    #[case(AuthMode::Token, ON, OFF, Ok(AuthMode::Key))]
    #[case(AuthMode::Token, UNSAID, OFF, Ok(AuthMode::Disabled))]
    #[case(AuthMode::Disabled, ON, UNSAID, Ok(AuthMode::Key))]
    #[case(AuthMode::Disabled, UNSAID, ON, Ok(AuthMode::Token))]
    #[case(AuthMode::Disabled, UNSAID, UNSAID, Ok(AuthMode::Disabled))]
    fn on_update_of_aks(
        #[case] now: AuthMode,
        #[case] key: Option<bool>,
        #[case] token: Option<bool>,
        #[case] expected: Result<AuthMode, AuthModeError>,
    ) {
        assert_eq!(now.on_update(ComputeType::Aks, key, token), expected);
    }

    #[test]
    fn on_update_of_aci_refuses_tokens() {
        let refused = AuthMode::Disabled.on_update(ComputeType::Aci, UNSAID, ON);
        assert_eq!(refused, Err(AuthModeError::TokenOnAci));
    }

    #[rstest]
    #[case("abc", true)]
    #[case("a-1", true)]
    #[case("a2345678901234567890123456789012", true)]
    #[case("a23456789012345678901234567890123", false)]
    #[case("ab", false)]
    #[case("", false)]
    #[case("1abc", false)]
    #[case("-abc", false)]
    #[case("abc-", false)]
    #[case("Abc", false)]
    #[case("a_c", false)]
    #[case("a.c", false)]
    #[case("äbc", false)]
    fn service_name_is_checked(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<ServiceName>().is_ok(), valid, "{text}");
    }
}
