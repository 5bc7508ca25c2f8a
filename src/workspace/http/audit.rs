//! `GET /scoregate/v1/audit`: who changed what, newest first, by filter and page by page. Our own, for the CLI.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::routing::MethodFilter;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Api;
use super::access::{Access, Endpoint};
use super::error::ApiError;
use crate::workspace::{AuditEntry, AuditFilter, Page, Role};

const PATH: &str = "/scoregate/v1/audit";

const DEFAULT_PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 500;
const SKIP_TOKEN: &str = "$skipToken";

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(MethodFilter::GET, PATH, Access::Role(Role::Owner), list)
}

async fn list(State(api): State<Api>, RawQuery(query): RawQuery) -> Result<Json<Value>, ApiError> {
    let query = Query::read(query.as_deref().unwrap_or_default())?;
    let page = api.workspace.audit(&query.filter, query.page_size, query.from.as_deref()).await?;
    Ok(Json(page_object(&api, &query, &page)))
}

/// As the list of services: `nextLink` is absolute, has the filters in it, and is absent on the last page.
fn page_object(api: &Api, query: &Query, page: &Page<AuditEntry>) -> Value {
    let entries: Vec<Value> = page.items.iter().map(entry_object).collect();
    let mut object = Map::new();
    object.insert("value".into(), entries.into());
    if let Some(next) = &page.next {
        let link = format!("{}{PATH}?{}", api.urls.base, query.of_page(next));
        object.insert("nextLink".into(), link.into());
    }
    Value::Object(object)
}

fn entry_object(entry: &AuditEntry) -> Value {
    let AuditEntry { sequence, version, record } = entry;
    json!({
        "sequence": sequence,
        "time": record.at.to_string(),
        "action": record.action.as_str(),
        "target": { "kind": record.target.kind(), "name": record.target.name() },
        "serviceUid": record.target.uid().map(ToString::to_string),
        "principal": record.origin.principal,
        "role": record.origin.role.map(Role::as_str),
        "remote": record.origin.remote,
        "requestId": record.origin.request_id.map(|id| id.to_string()),
        "epoch": version.map(|version| version.epoch),
        "revision": version.map(|version| version.revision),
        "details": record.details,
    })
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
    /// there is.
    fn read(text: &str) -> Result<Self, ApiError> {
        let mut query = Self { page_size: DEFAULT_PAGE, ..Self::default() };
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            query.read_parameter(&name, &value)?;
            if name != SKIP_TOKEN {
                query.pairs.push((name.into_owned(), value.into_owned()));
            }
        }
        Ok(query)
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
            "count" => self.page_size = page_size(value)?,
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

/// More than the largest page is that page: what is left comes with the next one.
fn page_size(text: &str) -> Result<u32, ApiError> {
    match text.parse::<u32>() {
        Ok(count) if count > 0 => Ok(count.min(LARGEST_PAGE)),
        _ => Err(ApiError::invalid("count", "must be a number of records, 1 or more")),
    }
}
