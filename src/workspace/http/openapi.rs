//! `GET /openapi.json`: what OpenAPI 3.1 says of every route, made from their descriptions.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::{Method, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::MethodFilter;
use serde_json::Value;
use utoipa::openapi::path::{HttpMethod, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::server::ServerBuilder;
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{
    ComponentsBuilder, Info, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Paths, RefOr, Required,
};
use utoipa::{PartialSchema, ToSchema};

use super::access::{Access, Endpoint};
use super::body::JSON;
use super::description::{BEARER, Description, Group, REFUSALS, SCOPE_PARAMETERS, SECRET};
use super::endpoints;
use super::error::{Dialect, Error, ResourceError};

const ABOUT: &str = "\
The REST of a workspace, which owns services, their keys and their tokens: the paths and shapes of Azure ML v1's model \
management service, a few of scoregate's own under `/scoregate/v1`, and under `/subscriptions` what SDK v2 and Resource Manager's \
clients ask for.

Every answer has an `x-request-id`; an error repeats it. What is behind a credential is `Cache-Control: no-store`.

A change that gates must know is answered with 202 and an operation: ask for it until its `state` is no longer \
`Running`. `Succeeded` means that every connected gate enforces the change.";

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut text = document(endpoints()).to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
});

/// The document, as it is served.
#[must_use]
pub fn openapi() -> &'static str {
    DOCUMENT.as_str()
}

/// A document of OpenAPI 3.1.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description of what utoipa writes")]
struct OpenApiDocument {
    openapi: String,
    info: BTreeMap<String, Value>,
    servers: Vec<BTreeMap<String, Value>>,
    tags: Vec<BTreeMap<String, Value>>,
    paths: BTreeMap<String, Value>,
    components: BTreeMap<String, Value>,
}

pub(super) fn endpoint() -> Endpoint {
    let description = Description::new(Group::Discovery, "readOpenApi", "Read this document")
        .answer::<OpenApiDocument>(StatusCode::OK, "This document.");
    Endpoint::new(MethodFilter::GET, "/openapi.json", Access::Anonymous, show, description)
}

async fn show() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, JSON)], openapi())
}

fn document(endpoints: Vec<Endpoint>) -> OpenApi {
    let mut components = components();
    let mut paths = Paths::new();
    for Endpoint { route, description, .. } in endpoints {
        let (operation, schemas) = description.operation(&route);
        paths.add_path_operation(&route.path, vec![http_method(&route.method)], operation);
        components = components.schemas_from_iter(schemas);
    }
    OpenApiBuilder::new()
        .info(info())
        // Relative to where the document is: it is the same wherever a workspace listens.
        .servers(Some([ServerBuilder::new().url("/").build()]))
        .tags(Some(Group::ALL.map(tag)))
        .paths(paths)
        .components(Some(components.build()))
        .build()
}

fn info() -> Info {
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0"));
    let info = InfoBuilder::new().title("scoregate workspace").version(env!("CARGO_PKG_VERSION"));
    info.description(Some(ABOUT)).license(Some(license.build())).build()
}

fn tag(group: Group) -> Tag {
    TagBuilder::new().name(group.name()).description(Some(group.text())).build()
}

/// What all descriptions refer to.
fn components() -> ComponentsBuilder {
    let components = ComponentsBuilder::new()
        .schema_from::<Error>()
        .schema_from::<ResourceError>()
        .schemas_from_iter(nested_schemas())
        .security_scheme(BEARER, bearer())
        .security_scheme(SECRET, secret());
    let components = SCOPE_PARAMETERS
        .into_iter()
        .fold(components, |components, name| components.parameter(name, scope_parameter(name)));
    let refusals = Dialect::ALL.into_iter().flat_map(|dialect| REFUSALS.map(|refusal| (dialect, refusal)));
    refusals.fold(components, |components, (dialect, refusal)| {
        components.response(refusal.name_in(dialect), refusal.response(dialect))
    })
}

fn nested_schemas() -> Vec<(String, RefOr<Schema>)> {
    let mut schemas = Vec::new();
    Error::schemas(&mut schemas);
    ResourceError::schemas(&mut schemas);
    schemas
}

fn bearer() -> SecurityScheme {
    let text = "The credential of a principal of the workspace, or a session token.";
    SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build())
}

fn secret() -> SecurityScheme {
    let text = "The credential of a principal; `x-identity-header` is the same.";
    SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description("secret", text)))
}

fn scope_parameter(name: &str) -> Parameter {
    let text = match name {
        "subscription" => "`workspace.subscription`, in any letter case.",
        "resource_group" => "`workspace.resource_group`, in any letter case.",
        _ => "`workspace.name`, in any letter case.",
    };
    let parameter =
        ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True);
    parameter.description(Some(text)).schema(Some(String::schema())).build()
}

fn http_method(method: &Method) -> HttpMethod {
    match *method {
        Method::POST => HttpMethod::Post,
        Method::PUT => HttpMethod::Put,
        Method::PATCH => HttpMethod::Patch,
        Method::DELETE => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}
