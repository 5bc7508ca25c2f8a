//! `GET {workspace}/services`: services by filter, page by page.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::routing::MethodFilter;
use scoregate_authz::ComputeType;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::workspace::http::access::Endpoint;
use crate::workspace::http::description::{Description, Group};
use crate::workspace::http::error::ApiError;
use crate::workspace::http::service_object::{ServiceObject, service_object};
use crate::workspace::http::{Api, model_id, page_size};
use crate::workspace::{Order, Page, Role, ServiceFilter, ServiceRecord};

const SKIP_TOKEN: &str = "$skipToken";
/// Most tags, and most properties, of a filter. Each is a term of the store's query, whose depth has a limit.
const MOST_LABELS: usize = 32;

/// Filters on what is not kept here: no service has any of it.
const MATCH_NOTHING: [&str; 4] = ["imageDigest", "imageId", "imageName", "runId"];
/// Azure's other compute types, which a client may ask for and no service here has.
const FOREIGN_COMPUTE_TYPES: [&str; 4] = ["AKSENDPOINT", "AzureMLCompute", "IOT", "MIR"];
/// What online endpoints call the two that are here.
const ENDPOINT_COMPUTE_TYPES: [(&str, ComputeType); 2] =
    [("Kubernetes", ComputeType::Aks), ("Managed", ComputeType::Aci)];

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Services, "listServices", "List services")
        .detail("Filters are combined. Follow `nextLink` as it stands: it has the filters in it.")
        .query("name", "Its whole name.")
        .query("computeType", "`AKS` or `ACI`, `Kubernetes` or `Managed`, in any letter case. Azure's other types match nothing.")
        .query("tags", "`key` or `key=value`, separated by commas, 32 at most: all must match. `tag` is the same.")
        .query("properties", "Like `tags`.")
        .query("modelId", "`name:version` of a model that it was deployed with.")
        .query("modelName", "The name of a model that it was deployed with.")
        .query("orderby", "`CreatedAtDesc` (the default), `CreatedAtAsc`, `UpdatedAtDesc` or `UpdatedAtAsc`.")
        .query_number("count", 1, "The size of a page: 50 unless told, 500 at most.")
        .query("$skipToken", "From a `nextLink`.")
        .answer::<ServicePage>(StatusCode::OK, "A page.")
        .refusal(StatusCode::BAD_REQUEST, "A parameter cannot be as it is.");
    Endpoint::in_workspace(MethodFilter::GET, "/services", Role::Reader, list, description)
}

/// A page of services.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ServicePage {
    #[schema(value_type = Vec<ServiceObject>)]
    value: Vec<Value>,
    /// The URL of the next page; absent on the last one: clients look for the member, not at its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_link: Option<String>,
}

async fn list(State(api): State<Api>, RawQuery(query): RawQuery) -> Result<Json<ServicePage>, ApiError> {
    let query = Query::read(query.as_deref().unwrap_or_default())?;
    let page = query.page(&api).await?;
    let value = page.items.iter().map(|service| service_object(service, &api.urls)).collect();
    let next_link = query.next_link(&format!("{}/services", api.workspace_url()), &page);
    Ok(Json(ServicePage { value, next_link }))
}

/// Which services a client asks for, and which page of them.
#[derive(Default)]
pub(in crate::workspace::http) struct Query {
    /// As it was asked, the place apart.
    pairs: Vec<(String, String)>,
    filter: ServiceFilter,
    page_size: u32,
    from: Option<String>,
    matches_nothing: bool,
}

impl Query {
    /// Parameters that are not known are ignored: `expand` is one, and every object is complete anyhow.
    pub(in crate::workspace::http) fn read(text: &str) -> Result<Self, ApiError> {
        let mut query = Self { page_size: page_size::DEFAULT, ..Self::default() };
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            query.read_parameter(&name, &value)?;
            if name != SKIP_TOKEN {
                query.pairs.push((name.into_owned(), value.into_owned()));
            }
        }
        Ok(query)
    }

    fn read_parameter(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        match name {
            "name" => self.filter.name = Some(value.to_owned()),
            "computeType" => self.read_compute_type(value)?,
            "tag" | "tags" => add(&mut self.filter.tags, name, labels(value))?,
            "properties" => add(&mut self.filter.properties, name, labels(value))?,
            "modelId" => add(&mut self.filter.properties, name, [model_id::with_id(value)])?,
            "modelName" => add(&mut self.filter.properties, name, [model_id::of_name(value)])?,
            "orderby" | "orderBy" => self.filter.order = order(value)?,
            "count" => self.page_size = page_size::read(value, "services")?,
            SKIP_TOKEN => self.from = Some(value.to_owned()),
            _ if MATCH_NOTHING.contains(&name) => self.matches_nothing = true,
            _ => {}
        }
        Ok(())
    }

    /// The page that is asked for.
    pub(in crate::workspace::http) async fn page(&self, api: &Api) -> Result<Page<ServiceRecord>, ApiError> {
        if self.matches_nothing {
            return Ok(Page { items: Vec::new(), next: None });
        }
        Ok(api.workspace.services(&self.filter, self.page_size, self.from.as_deref()).await?)
    }

    /// Where the next page is. Absolute and with the filters in it, since clients add none.
    pub(in crate::workspace::http) fn next_link<T>(&self, url: &str, page: &Page<T>) -> Option<String> {
        page.next.as_ref().map(|next| format!("{url}?{}", self.of_page(next)))
    }

    fn read_compute_type(&mut self, value: &str) -> Result<(), ApiError> {
        if FOREIGN_COMPUTE_TYPES.iter().any(|foreign| foreign.eq_ignore_ascii_case(value)) {
            self.matches_nothing = true;
            return Ok(());
        }
        let known = ENDPOINT_COMPUTE_TYPES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(value));
        let known = known.map_or_else(|| value.parse(), |(_, known)| Ok(known));
        let known =
            known.map_err(|rule| ApiError::invalid("computeType", format!("cannot be this: {rule}")))?;
        self.filter.compute_type = Some(known);
        Ok(())
    }

    /// The same query for the page that begins there.
    fn of_page(&self, from: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.pairs).append_pair(SKIP_TOKEN, from).finish()
    }
}

/// A key, and the value that it is to have, if it is not to have just any.
type Label = (String, Option<String>);

fn add(wanted: &mut Vec<Label>, name: &str, labels: impl IntoIterator<Item = Label>) -> Result<(), ApiError> {
    wanted.extend(labels);
    if wanted.len() > MOST_LABELS {
        return Err(ApiError::invalid(name, format!("has more than {MOST_LABELS} to match")));
    }
    Ok(())
}

/// `key` or `key=value`, separated by commas.
fn labels(text: &str) -> impl Iterator<Item = Label> {
    let label = |item: &str| match item.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (item.to_owned(), None),
    };
    text.split(',').filter(|item| !item.is_empty()).map(label)
}

fn order(text: &str) -> Result<Order, ApiError> {
    let known = [
        ("CreatedAtDesc", Order::CreatedAtDesc),
        ("CreatedAtAsc", Order::CreatedAtAsc),
        ("UpdatedAtDesc", Order::UpdatedAtDesc),
        ("UpdatedAtAsc", Order::UpdatedAtAsc),
    ];
    let found = known.into_iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    found.map(|(_, order)| order).ok_or_else(|| {
        ApiError::invalid(
            "orderby",
            "must be `CreatedAtDesc`, `CreatedAtAsc`, `UpdatedAtDesc` or `UpdatedAtAsc`",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn read_takes_filters_and_keeps_them_for_the_next_page() {
        let text = "expand=true&computeType=aks&tags=a%3Db%2Cc&count=7&orderby=UpdatedAtAsc&%24skipToken=x";
        let query = Query::read(text).unwrap();
        assert_eq!(query.filter.compute_type, Some(ComputeType::Aks));
        assert_eq!(query.filter.tags, [("a".to_owned(), Some("b".to_owned())), ("c".to_owned(), None)]);
        assert_eq!((query.page_size, query.filter.order), (7, Order::UpdatedAtAsc));
        assert_eq!(query.from.as_deref(), Some("x"));
        assert_eq!(
            query.of_page("y z"),
            "expand=true&computeType=aks&tags=a%3Db%2Cc&count=7&orderby=UpdatedAtAsc&%24skipToken=y+z"
        );
    }

    #[test]
    fn read_of_what_is_not_kept_matches_nothing() {
        for text in ["imageName=i", "imageDigest=d", "computeType=MIR", "computeType=iot"] {
            assert!(Query::read(text).unwrap().matches_nothing, "{text}");
        }
    }

    #[test]
    fn read_takes_the_compute_types_of_online_endpoints() {
        for (text, expected) in [("Kubernetes", ComputeType::Aks), ("managed", ComputeType::Aci)] {
            let query = Query::read(&format!("computeType={text}")).unwrap();
            assert_eq!(query.filter.compute_type, Some(expected));
        }
    }

    #[rstest]
    #[case::one_list("tags", ",", "")]
    #[case::one_by_one("tag", "&tag=", "")]
    #[case::both_spellings("tags", ",", "tag=x&")]
    #[case::properties("properties", ",", "")]
    #[case::models("modelName", "&modelName=", "modelId=a:1&")]
    fn read_takes_32_labels_and_no_more(#[case] name: &str, #[case] between: &str, #[case] before: &str) {
        let text = |count| format!("{before}{name}={}", vec!["a"; count].join(between));
        let most = MOST_LABELS - usize::from(!before.is_empty());
        assert!(Query::read(&text(most)).is_ok());
        let refusal = Query::read(&text(most + 1)).err().unwrap().to_string();
        assert_eq!(refusal, format!("`{name}` has more than 32 to match"));
    }

    #[test]
    fn read_refuses_what_it_cannot_do() {
        for text in ["computeType=VM", "count=0", "count=-1", "count=many", "orderby=Name"] {
            assert!(Query::read(text).is_err(), "{text}");
        }
    }
}
