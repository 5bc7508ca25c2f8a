//! The audit: who changed what, when and from where. A record is part of its change, and stored or not together with it.

use std::time::Duration;

use jiff::Timestamp;
use scoregate_authz::{AuthMode, ServiceName, ServiceUid, Version};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::domain::{Page, Principal, ServiceRecord, WorkspaceError};
use super::principals::is_name;
use super::store::AuditQuery;
use super::{Workspace, timestamp};
use crate::listen::Peer;
use crate::terms::{AuditAction, Role};

/// Most records in one part of the list.
const MAX_PAGE_SIZE: u32 = 1000;

/// Who asks for a change, and by which way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The principal's name, or [`Origin::LOCAL`].
    pub principal: String,
    /// The role that it had; `local` has none.
    pub role: Option<Role>,
    /// When the principal was made, which tells it apart from an earlier one of its name. Not stored.
    pub since: Option<Timestamp>,
    /// IP address and port of the connection's other end, `unix`, or [`Origin::LOCAL`].
    pub remote: String,
    /// The `x-request-id` of the answer.
    pub request_id: Option<Uuid>,
    /// For how long they want gates to be waited for; `None` for the configured time. Not stored.
    pub patience: Option<Duration>,
}

impl Origin {
    /// What stands in place of a principal, whose name it cannot be, and of an address.
    pub const LOCAL: &'static str = "local";

    /// The process itself, at its start, or somebody who has the data directory.
    #[must_use]
    pub fn local() -> Self {
        let local = || Self::LOCAL.to_owned();
        let remote = local();
        Self { principal: local(), role: None, since: None, remote, request_id: None, patience: None }
    }

    /// A request of the REST.
    #[must_use]
    pub fn of_request(principal: &Principal, peer: Peer, request_id: Uuid) -> Self {
        Self {
            principal: principal.name.clone(),
            role: Some(principal.role),
            since: Some(principal.created_at),
            remote: peer.to_string(),
            request_id: Some(request_id),
            patience: None,
        }
    }
}

/// What a change was done to. It may not exist any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// The workspace, by its id.
    Workspace(Uuid),
    /// A signing key, by its id.
    SigningKey(String),
    /// A service.
    Service(ServiceName, ServiceUid),
    /// A principal, by its name.
    Principal(String),
}

impl AuditTarget {
    /// The word for what it is.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Workspace(_) => "workspace",
            Self::SigningKey(_) => "signing_key",
            Self::Service(..) => "service",
            Self::Principal(_) => "principal",
        }
    }

    /// Its name, or its id where it has none.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Workspace(id) => id.to_string(),
            Self::SigningKey(name) | Self::Principal(name) => name.clone(),
            Self::Service(name, _) => name.to_string(),
        }
    }

    /// Of a service.
    #[must_use]
    pub fn uid(&self) -> Option<&ServiceUid> {
        match self {
            Self::Service(_, uid) => Some(uid),
            _ => None,
        }
    }
}

/// A change, as it is told to the store together with it.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub origin: Origin,
    /// What.
    pub action: AuditAction,
    /// To what.
    pub target: AuditTarget,
    /// What helps to understand it.
    ///
    /// INVARIANT: words of ours, names of members, addresses of ours; never a secret, and never the value of a tag, a
    /// property or a description, which may be one.
    pub details: Details,
}

/// Members and their values.
pub(super) type Details = Map<String, Value>;

/// Details of these members.
pub(super) fn details<const N: usize>(members: [(&str, Value); N]) -> Details {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A record as it was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Its place in the order of all changes.
    pub sequence: u64,
    /// That the change made; `None` where gates do not hear of it.
    pub version: Option<Version>,
    /// The rest.
    pub record: AuditRecord,
}

/// A service in a filter: all that had the name, or the one of the uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditedService {
    /// One after the other.
    Named(ServiceName),
    /// One only.
    Uid(ServiceUid),
}

impl std::str::FromStr for AuditedService {
    type Err = scoregate_authz::InvalidServiceUid;

    /// What can be a name is one: the uids of a workspace are longer than names.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Named).or_else(|_| text.parse().map(Self::Uid))
    }
}

/// Which records a list has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// About this service.
    pub service: Option<AuditedService>,
    /// By this principal.
    pub principal: Option<String>,
    /// Of this kind.
    pub action: Option<AuditAction>,
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

impl Workspace {
    /// A part of the audit, newest first, of 1 to 1000. `from` is where the part before said that the next begins.
    ///
    /// # Errors
    /// `from` is not such a text, or nobody could have the principal's name.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        page_size: u32,
        from: Option<&str>,
    ) -> Result<Page<AuditEntry>, WorkspaceError> {
        if filter.principal.as_deref().is_some_and(|name| !is_name(name)) {
            return Err(invalid("principal", "nobody can have this name"));
        }
        let page_size = page_size.clamp(1, MAX_PAGE_SIZE);
        let query = AuditQuery {
            filter: filter.clone(),
            before: from.map(read_position).transpose()?,
            // One more tells whether there is a next part.
            limit: page_size + 1,
        };
        let mut items = self.inner.store.audit(&query).await?;
        let size = usize::try_from(page_size).unwrap_or(usize::MAX);
        let has_more = items.len() > size;
        items.truncate(size);
        let next = items.last().filter(|_| has_more).map(|last| last.sequence.to_string());
        Ok(Page { items, next })
    }

    /// A record of a change that is made now.
    pub(super) fn record(
        &self,
        origin: &Origin,
        action: AuditAction,
        target: AuditTarget,
        details: Details,
    ) -> AuditRecord {
        AuditRecord { at: timestamp(self.now()), origin: origin.clone(), action, target, details }
    }

    /// The same for a change of a service.
    pub(super) fn service_record(
        &self,
        origin: &Origin,
        action: AuditAction,
        service: &ServiceRecord,
        details: Details,
    ) -> AuditRecord {
        let target = AuditTarget::Service(service.name.clone(), service.uid.clone());
        self.record(origin, action, target, details)
    }

    /// Forgets what is older than the retention, a bounded part at a time.
    pub(super) async fn prune_audit(&self) {
        let Some(retention) = self.inner.audit_retention.filter(|_| self.store_problem().is_none()) else {
            return;
        };
        let before = timestamp(self.now().saturating_sub(retention));
        match self.inner.store.prune_audit(before).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, %before, "old audit records were deleted"),
            Err(error) => self.note_failure(&error),
        }
    }
}

/// Details of a service's creation.
pub(super) fn of_creation(service: &ServiceRecord) -> Details {
    let mut details = details([
        ("computeType", service.compute_type.as_str().into()),
        ("authMode", service.auth_mode.as_str().into()),
    ]);
    if service.auth_mode == AuthMode::Disabled {
        details.insert("opened".to_owned(), true.into());
    }
    if let Some(until) = service.shadow_until {
        details.insert("shadowUntil".to_owned(), json!({ "before": null, "after": until.to_string() }));
    }
    details
}

/// Details of a service's change: the names of the members that are not what they were.
pub(super) fn of_update(before: &ServiceRecord, after: &ServiceRecord) -> Details {
    let mut details = details([("changed", changed_members(before, after).into())]);
    if before.auth_mode != after.auth_mode {
        let (from, to) = (before.auth_mode.as_str(), after.auth_mode.as_str());
        details.insert("authMode".to_owned(), json!({ "before": from, "after": to }));
        if after.auth_mode == AuthMode::Disabled {
            details.insert("opened".to_owned(), true.into());
        }
    }
    if before.shadow_until != after.shadow_until {
        let [before, after] =
            [before, after].map(|service| service.shadow_until.map(|time| time.to_string()));
        details.insert("shadowUntil".to_owned(), json!({ "before": before, "after": after }));
    }
    details
}

fn changed_members<'a>(before: &'a ServiceRecord, after: &'a ServiceRecord) -> Vec<&'a str> {
    let own = [
        ("authMode", before.auth_mode != after.auth_mode),
        ("description", before.description != after.description),
        ("tags", before.tags != after.tags),
        ("properties", before.properties != after.properties),
        ("hosts", before.hosts != after.hosts),
        ("pathPrefixes", before.path_prefixes != after.path_prefixes),
        ("shadowUntil", before.shadow_until != after.shadow_until),
    ];
    let own = own.into_iter().filter_map(|(name, changed)| changed.then_some(name));
    // Their names are of a closed set, and a change never takes one away.
    let attributes = after.attributes.iter();
    let attributes = attributes.filter(|(name, value)| before.attributes.get(*name) != Some(*value));
    own.chain(attributes.map(|(name, _)| name.as_str())).collect()
}

fn read_position(text: &str) -> Result<u64, WorkspaceError> {
    text.parse().map_err(|_| invalid("$skipToken", "it was not made by this list"))
}

fn invalid(field: &str, problem: &str) -> WorkspaceError {
    WorkspaceError::Invalid { field: field.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_read_by_their_words() {
        for action in AuditAction::ALL {
            assert_eq!(action.as_str().parse(), Ok(action));
        }
        insta::assert_snapshot!("king_crowned".parse::<AuditAction>().unwrap_err(), @"an action is one of `workspace_founded`, `issuer_changed`, `token_lifetime_changed`, `workspace_restored`, `signing_key_created`, `signing_key_hastened`, `signing_key_activated`, `signing_key_retired`, `signing_key_dropped`, `signing_key_withdrawn`, `service_created`, `service_updated`, `service_deleted`, `key_regenerated`, `tokens_revoked`, `principal_created`, `principal_deleted`, `owner_reset`");
    }

    #[test]
    fn a_service_is_a_name_or_a_uid() {
        let uid = "0199aaaa-0000-7000-8000-000000000000";
        assert_eq!("svc".parse(), Ok(AuditedService::Named("svc".parse().unwrap())));
        assert_eq!(uid.parse(), Ok(AuditedService::Uid(uid.parse().unwrap())));
        assert!("no such/thing".parse::<AuditedService>().is_err());
    }
}
