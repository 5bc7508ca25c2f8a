//! `GET {workspace}/onlineEndpoints`: endpoints by filter, page by page.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::routing::MethodFilter;
use serde_json::Value;

use super::endpoint_object::endpoint_object;
use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::error::ApiError;
use crate::workspace::http::services::{Query, page_object};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::in_resource(MethodFilter::GET, "/onlineEndpoints", Role::Reader, list)
}

async fn list(State(api): State<Api>, RawQuery(query): RawQuery) -> Result<Json<Value>, ApiError> {
    let query = Query::read(query.as_deref().unwrap_or_default())?;
    let page = query.page(&api).await?;
    let endpoints = page.items.iter().map(|service| endpoint_object(&api, service)).collect();
    let link = query.next_link(&format!("{}/onlineEndpoints", api.resource_url()), &page);
    Ok(Json(page_object(endpoints, link)))
}
