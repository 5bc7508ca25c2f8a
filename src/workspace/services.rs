//! Services: read, made, changed, deleted.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use scoregate_authz::{
    AuthMode, MAX_SHADOW, PortRule, ServiceName, ServiceUid, UnixTime, canonical_host, is_path_prefix,
};
use serde_json::{Map, Value};

use super::audit::{self, AuditRecord, Origin};
use super::domain::{
    KeyPair, NewService, Operation, OperationTarget, Order, Page, Patch, ServiceFilter, ServiceRecord,
    WorkspaceError,
};
use super::store::{Change, CommitError, ListPosition, OperationRow, ServiceQuery, ServiceWrite, StoreError};
use super::{Workspace, keys, policy, shadow, timestamp};
use crate::terms::{AuditAction, MAX_PLACES};

/// Most services in one part of a list.
const MAX_PAGE_SIZE: u32 = 1000;

impl Workspace {
    /// A part of the list of services, of 1 to 1000. `from` is where the part before said that the next begins; it holds
    /// for the same order only.
    ///
    /// # Errors
    /// `from` is not such a text.
    pub async fn services(
        &self,
        filter: &ServiceFilter,
        page_size: u32,
        from: Option<&str>,
    ) -> Result<Page<ServiceRecord>, WorkspaceError> {
        let page_size = page_size.clamp(1, MAX_PAGE_SIZE);
        let query = ServiceQuery {
            name: filter.name.clone(),
            compute_type: filter.compute_type,
            tags: filter.tags.clone(),
            properties: filter.properties.clone(),
            order: filter.order,
            after: from.map(|text| read_position(text, filter.order)).transpose()?,
            // One more tells whether there is a next part.
            limit: page_size + 1,
        };
        let mut items = self.inner.store.services(&query).await?;
        items.iter_mut().for_each(|service| self.end_shadow(service));
        let size = usize::try_from(page_size).unwrap_or(usize::MAX);
        let has_more = items.len() > size;
        items.truncate(size);
        let next = items.last().filter(|_| has_more).map(|last| write_position(last, filter.order));
        Ok(Page { items, next })
    }

    /// One service.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn service(&self, name: &str) -> Result<ServiceRecord, WorkspaceError> {
        let mut service = self.stored_service(name).await?;
        self.end_shadow(&mut service);
        Ok(service)
    }

    /// A shadow that has ended is none, though the store still has it.
    fn end_shadow(&self, service: &mut ServiceRecord) {
        let now = timestamp(self.now());
        service.shadow_until = service.shadow_until.filter(|until| *until > now);
    }

    /// The same as it is stored, to be changed.
    pub(super) async fn stored_service(&self, name: &str) -> Result<ServiceRecord, WorkspaceError> {
        let service = self.inner.store.service(name).await?;
        service.ok_or_else(|| WorkspaceError::UnknownService(name.to_owned()))
    }

    /// Makes a service. Readable at once; the operation tells when the gates know it.
    ///
    /// # Errors
    /// The name or a place is taken, the flags contradict each other, the keys are equal, a host or prefix cannot be one.
    pub async fn create_service(
        &self,
        origin: &Origin,
        new: NewService,
    ) -> Result<(ServiceRecord, Operation), WorkspaceError> {
        let name = new.name.clone();
        let keys = new_keys(&new)?;
        let turn = self.turn(origin).await?;
        let mut record = self.new_record(new)?;
        let mut change = Change::recorded(vec![self.creation_record(origin, &record)]);
        self.add_creation(&record, &keys, &mut change)?;
        let operation = self.service_operation(origin, "Create", &name, format!("`{name}` has been created"));
        change.operation = Some(operation.clone());
        let committed = self.commit(turn, change).await.map_err(refusal)?;
        record.revision = committed.revision;
        Ok((record, committed.operation.unwrap_or(operation.operation)))
    }

    /// Makes many services, all or none, in one commit.
    ///
    /// # Errors
    /// Those of [`Workspace::create_service`], for the first one that has one.
    pub async fn create_services(&self, origin: &Origin, new: Vec<NewService>) -> Result<(), WorkspaceError> {
        let turn = self.turn(origin).await?;
        let mut change = Change::recorded(Vec::with_capacity(new.len()));
        for new in new {
            let keys = new_keys(&new)?;
            let record = self.new_record(new)?;
            change.audit.push(self.creation_record(origin, &record));
            self.add_creation(&record, &keys, &mut change)?;
        }
        self.commit(turn, change).await.map_err(refusal)?;
        Ok(())
    }

    fn creation_record(&self, origin: &Origin, service: &ServiceRecord) -> AuditRecord {
        let details = audit::of_creation(service);
        self.service_record(origin, AuditAction::ServiceCreated, service, details)
    }

    fn add_creation(
        &self,
        record: &ServiceRecord,
        keys: &KeyPair,
        change: &mut Change,
    ) -> Result<(), WorkspaceError> {
        warn_if_open(record, None);
        shadow::tell(record, None);
        change.services.push(ServiceWrite::Create(Box::new(record.clone())));
        change.keys.push((record.uid.clone(), self.seal_keys(&record.uid, keys)?));
        change.entries.push(policy::service_entry(record, keys, &self.inner.pepper));
        Ok(())
    }

    /// Changes a service.
    ///
    /// # Errors
    /// There is none of this name, a place is taken, the flags contradict each other, a host or prefix cannot be one.
    pub async fn update_service(
        &self,
        origin: &Origin,
        name: &str,
        patch: Patch,
    ) -> Result<ServiceRecord, WorkspaceError> {
        Ok(self.change_service(origin, name, patch, None).await?.0)
    }

    /// Changes a service; the operation tells when the gates know it. Its uid and its keys stay.
    ///
    /// # Errors
    /// Those of [`Workspace::update_service`].
    pub async fn update_service_at_gates(
        &self,
        origin: &Origin,
        name: &ServiceName,
        patch: Patch,
    ) -> Result<(ServiceRecord, Operation), WorkspaceError> {
        let row = self.service_operation(origin, "Update", name, format!("`{name}` has been changed"));
        let begun = row.operation.clone();
        let (record, operation) = self.change_service(origin, name.as_str(), patch, Some(row)).await?;
        Ok((record, operation.unwrap_or(begun)))
    }

    async fn change_service(
        &self,
        origin: &Origin,
        name: &str,
        patch: Patch,
        operation: Option<OperationRow>,
    ) -> Result<(ServiceRecord, Option<Operation>), WorkspaceError> {
        let turn = self.turn(origin).await?;
        let before = self.stored_service(name).await?;
        let keys = self.keys_of(&before).await?;
        let mut record = self.patched(&before, patch)?;
        let is_same = ServiceRecord { updated_at: before.updated_at, ..record.clone() } == before;
        if is_same && operation.is_none() {
            return Ok((before, None));
        }
        let entries = vec![policy::service_entry(&record, &keys, &self.inner.pepper)];
        if is_same {
            // Nothing is written but the operation: what is in force may still have to reach a gate.
            let change = Change { entries, operation, ..Change::recorded(Vec::new()) };
            let committed = self.commit(turn, change).await.map_err(refusal)?;
            return Ok((before, committed.operation));
        }
        warn_if_open(&record, Some(before.auth_mode));
        shadow::tell(&record, before.shadow_until);
        let details = audit::of_update(&before, &record);
        let audit = self.service_record(origin, AuditAction::ServiceUpdated, &record, details);
        let change = Change {
            entries,
            services: vec![ServiceWrite::Update {
                record: Box::new(record.clone()),
                expected: before.revision,
            }],
            operation,
            ..Change::recorded(vec![audit])
        };
        let committed = self.commit(turn, change).await.map_err(refusal)?;
        record.revision = committed.revision;
        Ok((record, committed.operation))
    }

    /// Revokes all tokens of a service that were issued so far. The operation tells when no gate accepts them any more.
    ///
    /// # Errors
    /// There is no service of this name.
    pub async fn revoke_tokens(&self, origin: &Origin, name: &str) -> Result<Operation, WorkspaceError> {
        self.pass_not_before(name).await;
        let turn = self.turn(origin).await?;
        let before = self.stored_service(name).await?;
        let keys = self.keys_of(&before).await?;
        let now = self.now();
        let record = ServiceRecord {
            tokens_not_before: next_not_before(before.tokens_not_before, now),
            updated_at: timestamp(now),
            ..before.clone()
        };
        let effect = format!("the tokens of `{}` have been revoked", before.name);
        let operation = self.service_operation(origin, "RevokeTokens", &before.name, effect);
        let details = audit::details([("tokensNotBefore", record.tokens_not_before.into())]);
        let audit = self.service_record(origin, AuditAction::TokensRevoked, &record, details);
        let change = Change {
            entries: vec![policy::service_entry(&record, &keys, &self.inner.pepper)],
            services: vec![ServiceWrite::Update { record: Box::new(record), expected: before.revision }],
            operation: Some(operation.clone()),
            ..Change::recorded(vec![audit])
        };
        let committed = self.commit(turn, change).await.map_err(refusal)?;
        self.inner.tokens.forget(&before.uid);
        Ok(committed.operation.unwrap_or(operation.operation))
    }

    /// Waits until the last revocation's second has come, for a moment at most. One revocation after the other would stamp
    /// new tokens ever further in the future, and gates would find that their time has not come.
    async fn pass_not_before(&self, name: &str) {
        let Some(service) = self.inner.directory.service(name) else { return };
        let rest = Duration::from_secs(service.tokens_not_before).saturating_sub(self.now());
        tokio::time::sleep(rest.min(Duration::from_secs(1))).await;
    }

    /// Deletes a service; `None` if there was none. Its tokens end with it: they belong to its uid.
    ///
    /// # Errors
    /// The store failed.
    pub async fn delete_service(
        &self,
        origin: &Origin,
        name: &str,
    ) -> Result<Option<Operation>, WorkspaceError> {
        let turn = self.turn(origin).await?;
        let Some(record) = self.inner.store.service(name).await? else { return Ok(None) };
        let operation = self.service_operation(
            origin,
            "Delete",
            &record.name,
            format!("`{}` has been deleted", record.name),
        );
        let details = audit::details([]);
        let audit = self.service_record(origin, AuditAction::ServiceDeleted, &record, details);
        let write = ServiceWrite::Delete {
            uid: record.uid.clone(),
            name: record.name.clone(),
            expected: record.revision,
        };
        let change = Change {
            services: vec![write],
            entries: vec![policy::service_tombstone(&record.uid)],
            operation: Some(operation.clone()),
            ..Change::recorded(vec![audit])
        };
        let committed = self.commit(turn, change).await.map_err(refusal)?;
        self.inner.tokens.forget(&record.uid);
        self.inner.issues.forget_service(&record.uid);
        self.inner.uses.forget(&record.uid);
        Ok(Some(committed.operation.unwrap_or(operation.operation)))
    }

    pub(super) fn service_operation(
        &self,
        origin: &Origin,
        operation_type: &str,
        service: &ServiceName,
        effect: String,
    ) -> OperationRow {
        self.new_operation(origin, operation_type, OperationTarget::Service(service.clone()), effect)
    }

    fn new_record(&self, new: NewService) -> Result<ServiceRecord, WorkspaceError> {
        let now = self.now();
        let uid = self.new_id(now).to_string().parse();
        let default_prefix = new.compute_type.default_path_prefix(&new.name, !new.hosts.is_empty());
        let auth_mode = AuthMode::on_create(new.compute_type, new.auth.key, new.auth.token)?;
        Ok(ServiceRecord {
            uid: uid.map_err(|_| StoreError::Corrupt { column: "uid" })?,
            shadow_until: new.shadow_for.map(|length| shadow_until(length, auth_mode, now)).transpose()?,
            auth_mode,
            tokens_not_before: 0,
            hosts: hosts(new.hosts)?,
            path_prefixes: path_prefixes(new.path_prefixes, default_prefix)?,
            name: new.name,
            compute_type: new.compute_type,
            description: new.description,
            tags: new.tags,
            properties: new.properties,
            attributes: new.attributes,
            created_at: timestamp(now),
            updated_at: timestamp(now),
            revision: 0,
        })
    }

    fn patched(&self, before: &ServiceRecord, patch: Patch) -> Result<ServiceRecord, WorkspaceError> {
        let now = self.now();
        let mut record = before.clone();
        record.auth_mode =
            before.auth_mode.on_update(before.compute_type, patch.auth.key, patch.auth.token)?;
        if before.auth_mode == AuthMode::Token && record.auth_mode != AuthMode::Token {
            record.tokens_not_before = next_not_before(before.tokens_not_before, now);
        }
        if let Some(description) = patch.description {
            record.description = description;
        }
        if let Some(tags) = patch.tags {
            record.tags = tags;
        }
        if let Some(properties) = patch.properties {
            record.properties = properties;
        }
        for (key, value) in patch.add_properties {
            record.properties.entry(key).or_insert(value);
        }
        if let Some(new) = patch.hosts {
            record.hosts = hosts(new)?;
        }
        if let Some(new) = patch.path_prefixes {
            let default = record.compute_type.default_path_prefix(&record.name, !record.hosts.is_empty());
            record.path_prefixes = path_prefixes(new, default)?;
        }
        record.shadow_until = match patch.shadow_for {
            Some(length) => length.map(|length| shadow_until(length, record.auth_mode, now)).transpose()?,
            // What is closed again some day is not to be in shadow then.
            None => before.shadow_until.filter(|_| record.auth_mode != AuthMode::Disabled),
        };
        merge(&mut record.attributes, patch.attributes);
        record.updated_at = timestamp(now);
        Ok(record)
    }
}

/// From when on tokens are good again after all of now are revoked.
///
/// Tokens are stamped with whole seconds, so that those of this second are revoked with the next one. A new one is stamped
/// with that second at once: where it is still to come, another revocation needs the one after it.
pub(super) fn next_not_before(before: u64, now: UnixTime) -> u64 {
    let now = now.as_secs();
    if before > now { before + 1 } else { now + 1 }
}

/// When a shadow that begins now ends, in whole seconds.
pub(super) fn shadow_until(
    length: Duration,
    mode: AuthMode,
    now: UnixTime,
) -> Result<Timestamp, WorkspaceError> {
    let problem = match mode {
        AuthMode::Disabled => "an open service refuses nobody, so that there is nothing to let through",
        _ if length.is_zero() || length > MAX_SHADOW => "a service can be in shadow for 7 days at most",
        AuthMode::Key | AuthMode::Token => {
            return Ok(timestamp(UnixTime::from_secs((now + length).as_secs())));
        }
    };
    Err(invalid("scoregate.shadowForSeconds", problem))
}

fn invalid(field: &str, problem: impl Into<String>) -> WorkspaceError {
    WorkspaceError::Invalid { field: field.to_owned(), problem: problem.into() }
}

/// The chosen keys of a service, or random ones.
fn new_keys(new: &NewService) -> Result<KeyPair, WorkspaceError> {
    let (primary, secondary) = new.keys.clone();
    let keys = KeyPair { primary: keys::chosen_or_new(primary)?, secondary: keys::chosen_or_new(secondary)? };
    check_keys(&new.name, &keys)?;
    Ok(keys)
}

pub(super) fn check_keys(name: &ServiceName, keys: &KeyPair) -> Result<(), WorkspaceError> {
    let equal = keys.primary.expose() == keys.secondary.expose();
    if equal { Err(WorkspaceError::EqualKeys(name.clone())) } else { Ok(()) }
}

/// What a failed commit means to whoever asked for it.
pub(super) fn refusal(error: CommitError) -> WorkspaceError {
    match error {
        CommitError::NameTaken(name) => WorkspaceError::ServiceExists(name),
        CommitError::PlaceTaken { host, prefix, owner } => WorkspaceError::PlaceTaken { host, prefix, owner },
        CommitError::Store(error) => error.into(),
        CommitError::Stale => WorkspaceError::Store(error.into()),
    }
}

fn warn_if_open(record: &ServiceRecord, before: Option<AuthMode>) {
    if record.auth_mode == AuthMode::Disabled && before != Some(AuthMode::Disabled) {
        tracing::warn!(service = %record.name, uid = %record.uid, "authentication is disabled: anybody may score");
    }
}

fn hosts(hosts: Vec<String>) -> Result<Vec<String>, WorkspaceError> {
    for host in &hosts {
        if canonical_host(host, PortRule::Any).as_ref() != Some(host) {
            let problem = format!("`{host}` is not a host name in lower case, without port or wildcard");
            return Err(invalid("hosts", problem));
        }
    }
    distinct("hosts", hosts)
}

fn path_prefixes(prefixes: Vec<String>, default: String) -> Result<Vec<String>, WorkspaceError> {
    if prefixes.is_empty() {
        return Ok(vec![default]);
    }
    if let Some(prefix) = prefixes.iter().find(|prefix| !is_path_prefix(prefix)) {
        let problem = format!("`{prefix}` is not a plain path without a slash at its end");
        return Err(invalid("pathPrefixes", problem));
    }
    distinct("pathPrefixes", prefixes)
}

/// Each once, in the order given.
fn distinct(field: &str, mut items: Vec<String>) -> Result<Vec<String>, WorkspaceError> {
    let mut seen = BTreeSet::new();
    items.retain(|item| seen.insert(item.clone()));
    if items.len() > MAX_PLACES {
        return Err(invalid(field, format!("there are more than {MAX_PLACES}")));
    }
    Ok(items)
}

/// Sets members; those that are objects on both sides, member by member.
fn merge(target: &mut Map<String, Value>, source: Map<String, Value>) {
    for (key, value) in source {
        match (target.get_mut(&key), value) {
            (Some(Value::Object(inner)), Value::Object(members)) => merge(inner, members),
            (_, value) => {
                target.insert(key, value);
            }
        }
    }
}

/// Where the part after this service begins, as an opaque text.
fn write_position(last: &ServiceRecord, order: Order) -> String {
    let (tag, time) = match order {
        Order::CreatedAtAsc | Order::CreatedAtDesc => ('c', last.created_at),
        Order::UpdatedAtAsc | Order::UpdatedAtDesc => ('u', last.updated_at),
    };
    URL_SAFE_NO_PAD.encode(format!("{tag}:{}:{}", time.as_millisecond(), last.uid))
}

fn read_position(text: &str, order: Order) -> Result<ListPosition, WorkspaceError> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (tag, rest) = text.split_once(':')?;
        let (time, uid) = rest.split_once(':')?;
        let by_creation = matches!(order, Order::CreatedAtAsc | Order::CreatedAtDesc);
        if tag != if by_creation { "c" } else { "u" } {
            return None;
        }
        let uid: ServiceUid = uid.parse().ok()?;
        let time = Timestamp::from_millisecond(time.parse().ok()?).ok()?;
        Some(ListPosition { time, uid: uid.to_string() })
    };
    read().ok_or_else(|| invalid("$skipToken", "it was not made by this list"))
}
