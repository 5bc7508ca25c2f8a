//! `GET {workspace}/onlineEndpoints`: endpoints by filter, page by page.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde::Serialize;
use utoipa::ToSchema;

use super::endpoint_object::{EndpointObject, endpoint_object};
use crate::workspace::Role;
use crate::workspace::http::Api;
use crate::workspace::http::access::Endpoint;
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::services::Query;

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::OnlineEndpoints, "listEndpoints", "List endpoints")
        .detail("Takes the filters of the list of services.")
        .query("name", "Its whole name.")
        .query("computeType", "`Kubernetes` or `Managed`.")
        .query("tags", "`key` or `key=value`, separated by commas, 32 at most: all must match.")
        .query("properties", "Like `tags`.")
        .query("orderBy", "`CreatedAtDesc` (the default), `CreatedAtAsc`, `UpdatedAtDesc` or `UpdatedAtAsc`.")
        .query_number("count", 1, "The size of a page: 50 unless told, 500 at most.")
        .query("$skipToken", "From a `nextLink`.")
        .answer::<EndpointPage>(StatusCode::OK, "A page.")
        .refusal(StatusCode::BAD_REQUEST, "A parameter cannot be as it is.");
    Endpoint::in_resource(MethodFilter::GET, "/onlineEndpoints", Role::Reader, list, description)
}

/// A page of endpoints.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EndpointPage {
    value: Vec<EndpointObject>,
    /// The URL of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_link: Option<String>,
}

async fn list(State(api): State<Api>, RawQuery(query): RawQuery) -> Result<Json<EndpointPage>, ApiError> {
    let query = Query::read(query.as_deref().unwrap_or_default())?;
    let page = query.page(&api).await?;
    let value = page.items.iter().map(|service| endpoint_object(&api, service)).collect();
    let next_link = query.next_link(&format!("{}/onlineEndpoints", api.resource_url()), &page);
    Ok(Json(EndpointPage { value, next_link }))
}
