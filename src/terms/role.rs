//! Who may do what in a workspace.

/// What a principal may do. Each of the first three may do all that the one before may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Read services, get tokens.
    Reader,
    /// Also read and regenerate keys; create, change and delete services.
    Contributor,
    /// Also principals and signing keys.
    Owner,
    /// Read the policy feed, nothing else.
    Gate,
}

impl Role {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Contributor => "contributor",
            Self::Owner => "owner",
            Self::Gate => "gate",
        }
    }

    /// Whether this role may do what needs `needed`.
    #[must_use]
    pub fn includes(self, needed: Self) -> bool {
        let rank = |role| match role {
            Self::Reader => 1,
            Self::Contributor => 2,
            Self::Owner => 3,
            Self::Gate => 0,
        };
        match (self, needed) {
            (Self::Gate, Self::Gate) => true,
            (Self::Gate, _) | (_, Self::Gate) => false,
            _ => rank(self) >= rank(needed),
        }
    }
}

/// A text that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a role is `reader`, `contributor`, `owner` or `gate`")]
pub struct UnknownRole;

impl std::str::FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let all = [Self::Reader, Self::Contributor, Self::Owner, Self::Gate];
        all.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}
