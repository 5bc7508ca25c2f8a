//! `GET /scoregate/v1/audit`: who changed what, newest first, by filter and page by page. Our own, for the CLI.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::access::{Access, Endpoint};
use super::description::{Description, Group, words};
use super::error::ApiError;
use super::{Api, page_size};
use crate::workspace::{AuditAction, AuditEntry, AuditFilter, AuditRecord, Page, Role};

const PATH: &str = "/scoregate/v1/audit";

const SKIP_TOKEN: &str = "$skipToken";

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Workspace, "listAudit", "List who changed what, newest first")
        .detail("Follow `nextLink` as it stands: it has the filters in it. A parameter that is not known, or that comes twice, is refused.")
        .query("service", "The name of a service, for all that had it, or the uid of one.")
        .query("principal", "Who did it; `local` is the process or somebody with its data directory.")
        .query("action", "What was done.")
        .query("since", "Not before this time, such as `2026-01-31T12:00:00Z`.")
        .query("until", "Before this time.")
        .query_number("count", 1, "The size of a page: 50 unless told, 500 at most.")
        .query(SKIP_TOKEN, "From a `nextLink`.")
        .answer::<AuditPage>(StatusCode::OK, "A page.")
        .refusal(StatusCode::BAD_REQUEST, "A parameter cannot be as it is.");
    Endpoint::new(MethodFilter::GET, PATH, Access::Role(Role::Owner), list, description)
}

/// A page of the audit.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AuditPage {
    value: Vec<AuditEntryObject>,
    /// The URL of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_link: Option<String>,
}

/// A change, as it was recorded together with it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEntry)]
struct AuditEntryObject {
    /// Its place in the order of all changes.
    sequence: u64,
    #[schema(format = DateTime)]
    time: String,
    #[schema(schema_with = actions)]
    action: &'static str,
    target: AuditTargetObject,
    #[schema(required)]
    service_uid: Option<String>,
    /// `local` where it was the process, or somebody with its data directory.
    principal: String,
    #[schema(required)]
    role: Option<&'static str>,
    /// IP address and port of the connection's other end, `unix`, or `local`.
    remote: String,
    /// The `x-request-id` of the answer.
    #[schema(required)]
    request_id: Option<String>,
    /// Null where gates do not hear of it.
    #[schema(required)]
    epoch: Option<u64>,
    #[schema(required)]
    revision: Option<u64>,
    /// What helps to understand it. Never a secret.
    details: Map<String, Value>,
}

/// What a change was done to.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditTarget)]
struct AuditTargetObject {
    kind: &'static str,
    name: String,
}

fn actions() -> Object {
    words(AuditAction::ALL.map(AuditAction::as_str))
}

async fn list(State(api): State<Api>, RawQuery(query): RawQuery) -> Result<Json<AuditPage>, ApiError> {
    let query = Query::read(query.as_deref().unwrap_or_default())?;
    let page = api.workspace.audit(&query.filter, query.page_size, query.from.as_deref()).await?;
    Ok(Json(audit_page(&api, &query, page)))
}

/// As the list of services: `nextLink` is absolute, has the filters in it, and is absent on the last page.
fn audit_page(api: &Api, query: &Query, page: Page<AuditEntry>) -> AuditPage {
    let link = |next: String| format!("{}{PATH}?{}", api.urls.base, query.of_page(&next));
    AuditPage { value: page.items.into_iter().map(Into::into).collect(), next_link: page.next.map(link) }
}

impl From<AuditEntry> for AuditEntryObject {
    fn from(AuditEntry { sequence, version, record }: AuditEntry) -> Self {
        let AuditRecord { at, origin, action, target, details } = record;
        Self {
            sequence,
            time: at.to_string(),
            action: action.as_str(),
            target: AuditTargetObject { kind: target.kind(), name: target.name() },
            service_uid: target.uid().map(ToString::to_string),
            principal: origin.principal,
            role: origin.role.map(Role::as_str),
            remote: origin.remote,
            request_id: origin.request_id.map(|id| id.to_string()),
            epoch: version.map(|version| version.epoch),
            revision: version.map(|version| version.revision),
            details,
        }
    }
}

#[derive(Default)]
struct Query {
    /// As it was asked, the place apart.
    pairs: Vec<(String, String)>,
    filter: AuditFilter,
    page_size: u32,
    from: Option<String>,
}

impl Query {
    /// A parameter that is not known is refused: a filter that is misspelt would show everything as if it were all that
    /// there is. So is one that comes twice: only one of them would be the filter.
    fn read(text: &str) -> Result<Self, ApiError> {
        let mut query = Self { page_size: page_size::DEFAULT, ..Self::default() };
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            if query.has(&name) {
                return Err(ApiError::invalid(name, "is given more than once"));
            }
            query.read_parameter(&name, &value)?;
            if name != SKIP_TOKEN {
                query.pairs.push((name.into_owned(), value.into_owned()));
            }
        }
        Ok(query)
    }

    fn has(&self, name: &str) -> bool {
        name == SKIP_TOKEN && self.from.is_some() || self.pairs.iter().any(|(known, _)| known == name)
    }

    fn read_parameter(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        let filter = &mut self.filter;
        match name {
            "service" => {
                let service = value.parse();
                filter.service = Some(
                    service
                        .map_err(|_| ApiError::invalid(name, "must be the name or the uid of a service"))?,
                );
            }
            "principal" => filter.principal = Some(value.to_owned()),
            "action" => {
                let action = value.parse();
                let action =
                    action.map_err(|rule| ApiError::invalid(name, format!("cannot be this: {rule}")));
                filter.action = Some(action?);
            }
            "since" => filter.since = Some(time(name, value)?),
            "until" => filter.until = Some(time(name, value)?),
            "count" => self.page_size = page_size::read(value, "records")?,
            SKIP_TOKEN => self.from = Some(value.to_owned()),
            _ => return Err(ApiError::invalid(name, "is not a parameter of this list")),
        }
        Ok(())
    }

    /// The same query for the page that begins there.
    fn of_page(&self, from: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.pairs).append_pair(SKIP_TOKEN, from).finish()
    }
}

fn time(name: &str, text: &str) -> Result<Timestamp, ApiError> {
    text.parse().map_err(|_| ApiError::invalid(name, "must be a time such as `2026-01-31T12:00:00Z`"))
}
