//! Issues: keys and tokens that were handed out. They are told in the log, counted, and the last of each is remembered;
//! there are too many of them for the store.

use std::collections::HashMap;

use dashmap::DashMap;
use jiff::Timestamp;
use scoregate_authz::{ServiceName, ServiceUid, UnixTime};

use super::domain::{Principal, WorkspaceError};
use super::{Workspace, timestamp};

/// What was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssueEvent {
    /// Both keys.
    KeysListed,
    /// A new token.
    TokenIssued,
    /// A token that the principal was given before.
    TokenReused,
}

impl IssueEvent {
    /// Its word in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KeysListed => "keys_listed",
            Self::TokenIssued => "token_issued",
            Self::TokenReused => "token_reused",
        }
    }
}

/// All that may be said of keys or a token that were handed out, but to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// What it was.
    pub event: IssueEvent,
    /// Of which service.
    pub service: ServiceName,
    /// Its identity.
    pub uid: ServiceUid,
}

/// How often, and when last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssueCount {
    /// How often.
    pub count: u64,
    /// When last.
    pub last: Timestamp,
}

/// What one principal was given of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalIssues {
    /// To whom.
    pub principal: String,
    /// Both keys; `None` if never.
    pub keys: Option<IssueCount>,
    /// Tokens, the same ones again included; `None` if never.
    pub tokens: Option<IssueCount>,
}

/// What was handed out of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceIssues {
    /// From when on: what was before is in the log.
    pub since: Timestamp,
    /// By the names of the principals.
    pub principals: Vec<PrincipalIssues>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    keys: Count,
    tokens: Count,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    count: u64,
    last: UnixTime,
}

/// The last issues by service and principal, since the start.
///
/// Bounded by the pairs of a service and a principal that exist and have met: who is deleted is forgotten, and only
/// contributors make services and only owners principals. A pair takes about a hundred bytes.
#[derive(Debug)]
pub(super) struct Issues {
    since: Timestamp,
    counts: DashMap<ServiceUid, HashMap<String, Counts>>,
}

impl Issues {
    pub(super) fn new(since: Timestamp) -> Self {
        Self { since, counts: DashMap::new() }
    }

    /// Allocates only for a pair that has not met before: this is in the path of every issue.
    fn note(&self, issue: &Issue, principal: &str, now: UnixTime) {
        let mut of_service = match self.counts.get_mut(&issue.uid) {
            Some(of_service) => of_service,
            None => self.counts.entry(issue.uid.clone()).or_default(),
        };
        match of_service.get_mut(principal) {
            Some(counts) => counts.note(issue.event, now),
            None => of_service.entry(principal.to_owned()).or_default().note(issue.event, now),
        }
    }

    /// Drops what was handed out of a service that is gone. A request that is under way at this moment may be remembered
    /// still, under a uid that nobody asks for any more.
    pub(super) fn forget_service(&self, uid: &ServiceUid) {
        self.counts.remove(uid);
    }

    /// Drops what was handed out to a principal that is gone. The same holds for its requests.
    pub(super) fn forget_principal(&self, name: &str) {
        self.counts.retain(|_, of_service| {
            of_service.remove(name);
            !of_service.is_empty()
        });
    }

    /// How many services are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    fn of(&self, uid: &ServiceUid) -> Vec<PrincipalIssues> {
        let of_service = self.counts.get(uid).map(|of_service| of_service.clone()).unwrap_or_default();
        let shown = |(principal, counts): (String, Counts)| PrincipalIssues {
            principal,
            keys: counts.keys.shown(),
            tokens: counts.tokens.shown(),
        };
        let mut principals: Vec<_> = of_service.into_iter().map(shown).collect();
        principals.sort_by(|a, b| a.principal.cmp(&b.principal));
        principals
    }
}

impl Counts {
    fn note(&mut self, event: IssueEvent, now: UnixTime) {
        let count = match event {
            IssueEvent::KeysListed => &mut self.keys,
            IssueEvent::TokenIssued | IssueEvent::TokenReused => &mut self.tokens,
        };
        count.count += 1;
        count.last = count.last.max(now);
    }
}

impl Count {
    fn shown(self) -> Option<IssueCount> {
        (self.count > 0).then(|| IssueCount { count: self.count, last: timestamp(self.last) })
    }
}

impl Workspace {
    /// What was handed out of a service since the start, and to whom.
    ///
    /// # Errors
    /// There is no service of this name.
    pub async fn issues(&self, name: &str) -> Result<ServiceIssues, WorkspaceError> {
        let service = self.service(name).await?;
        let issues = &self.inner.issues;
        Ok(ServiceIssues { since: issues.since, principals: issues.of(&service.uid) })
    }

    /// Counts an issue and remembers it.
    pub(super) fn note_issue(&self, issue: &Issue, principal: &Principal) {
        let series = &self.inner.series;
        match issue.event {
            IssueEvent::KeysListed => series.keys_listed.inc(),
            IssueEvent::TokenIssued => series.tokens_issued.inc(),
            IssueEvent::TokenReused => series.tokens_reused.inc(),
        };
        self.inner.issues.note(issue, &principal.name, self.now());
    }
}
