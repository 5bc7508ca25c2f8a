//! What the workspace signs: that a state of policy is the latest.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use scoregate_authz::{UnixTime, Version};

use super::image::Image;
use crate::proto::scoregate::policy::v1 as wire;
use crate::statement::{PolicyKey, Statement};

/// For how long a statement is good enough to be sent again: gates in hundreds hear of the same state.
const REUSE: Duration = Duration::from_secs(1);

/// Signs statements, and keeps the latest.
#[derive(Debug)]
pub(super) struct Statements {
    key: Arc<PolicyKey>,
    workspace: String,
    latest: Mutex<Option<Signed>>,
}

#[derive(Debug)]
struct Signed {
    version: Version,
    issued_at: UnixTime,
    statement: wire::Statement,
}

impl Statements {
    pub(super) fn new(key: Arc<PolicyKey>, workspace: String) -> Self {
        Self { key, workspace, latest: Mutex::default() }
    }

    /// Of the policy key.
    pub(super) fn key_id(&self) -> String {
        self.key.public().id()
    }

    /// That this image is the latest, now or a moment ago.
    pub(super) fn about(&self, image: &Image, now: UnixTime) -> wire::Statement {
        let version = image.version();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        // Also if the clock was set back: what it said before is not said again.
        let reusable = |signed: &&Signed| {
            signed.version == version && now >= signed.issued_at && now - signed.issued_at < REUSE
        };
        if let Some(signed) = latest.as_ref().filter(reusable) {
            return signed.statement.clone();
        }
        let statement = self.key.sign(&Statement {
            workspace: self.workspace.clone(),
            version,
            state_hash: image.state_hash(),
            issued_at: now,
        });
        *latest = Some(Signed { version, issued_at: now, statement: statement.clone() });
        statement
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::TrustedPolicyKeys;
    use jiff::Timestamp;

    #[test]
    fn a_statement_is_used_again_for_a_second_and_one_state() {
        let key = Arc::new(PolicyKey::from_pem(&PolicyKey::generate().unwrap()).unwrap());
        let trusted = TrustedPolicyKeys::new([key.public()]).unwrap();
        let statements = Statements::new(key, "w".to_owned());
        let image = |revision| Image::new(Version { epoch: 1, revision }, Vec::new(), Timestamp::UNIX_EPOCH);
        let issued = |revision, millis| {
            let statement = statements.about(&image(revision), UnixTime::from_millis(millis));
            let stated = trusted.verify(Some(&statement)).unwrap();
            assert_eq!(stated.version.revision, revision);
            stated.issued_at.as_millis()
        };
        assert_eq!(issued(1, 10_000), 10_000);
        assert_eq!(issued(1, 10_999), 10_000);
        assert_eq!(issued(1, 11_000), 11_000);
        assert_eq!(issued(2, 11_001), 11_001);
        assert_eq!(issued(2, 9_000), 9_000);
    }
}
