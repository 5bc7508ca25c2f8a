//! A service as SDK v2 sees it.

use std::collections::BTreeMap;

use scoregate_authz::{AuthMode, ComputeType};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::attributes::Shown;
use crate::workspace::ServiceRecord;
use crate::workspace::http::Api;
use crate::workspace::http::description::words;
use crate::workspace::http::urls::LOCATION;

/// The compute of a service that names none: SDK v2 takes an endpoint without a compute for a managed one.
pub(super) const DEFAULT_COMPUTE: &str = "unnamed";

const KIND: &str = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints";

/// A service, as SDK v2 sees one. Keys are never part of it.
#[derive(Serialize, ToSchema)]
#[schema(as = OnlineEndpoint)]
pub(super) struct EndpointObject {
    id: String,
    name: String,
    r#type: &'static str,
    location: &'static str,
    /// `K8S` for AKS, `Managed` for ACI.
    kind: &'static str,
    tags: BTreeMap<String, String>,
    #[schema(value_type = BTreeMap<String, Value>)]
    identity: Value,
    properties: EndpointProperties,
}

/// What an endpoint is like.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EndpointProperties {
    /// Empty for an open endpoint, for which Azure has no word.
    #[schema(schema_with = auth_modes)]
    auth_mode: &'static str,
    #[schema(required)]
    compute: Option<String>,
    #[schema(required)]
    description: Option<String>,
    #[schema(value_type = BTreeMap<String, u64>)]
    mirror_traffic: Value,
    properties: BTreeMap<String, String>,
    provisioning_state: &'static str,
    #[schema(value_type = String)]
    public_network_access: Value,
    /// Where callers score it; null where `workspace.scoring_base_url` is not set.
    #[schema(required)]
    scoring_uri: Option<String>,
    #[schema(required)]
    swagger_uri: Option<String>,
    #[schema(value_type = BTreeMap<String, u64>)]
    traffic: Value,
}

fn auth_modes() -> Object {
    words([AuthMode::Key, AuthMode::Token, AuthMode::Disabled].map(auth_mode))
}

/// The complete object. There is no `systemData`: the SDK would write it into the properties of an endpoint that it
/// updates. Keys are never part of it.
pub(super) fn endpoint_object(api: &Api, service: &ServiceRecord) -> EndpointObject {
    let shown = Shown::of(service);
    let scope = api.workspace.scope();
    let scoring_uri = api.urls.scoring_uri(service);
    EndpointObject {
        id: format!("{scope}/onlineEndpoints/{}", service.name),
        name: service.name.to_string(),
        r#type: KIND,
        location: LOCATION,
        kind: kind(service.compute_type),
        tags: service.tags.clone(),
        identity: shown.identity,
        properties: EndpointProperties {
            auth_mode: auth_mode(service.auth_mode),
            compute: compute(service).map(|name| format!("{scope}/computes/{name}")),
            description: service.description.clone(),
            mirror_traffic: shown.mirror_traffic,
            properties: service.properties.clone(),
            provisioning_state: "Succeeded",
            public_network_access: shown.public_network_access,
            swagger_uri: scoring_uri.as_deref().map(swagger_uri),
            scoring_uri,
            traffic: shown.traffic,
        },
    }
}

fn kind(compute: ComputeType) -> &'static str {
    match compute {
        ComputeType::Aks => "K8S",
        ComputeType::Aci => "Managed",
    }
}

/// Azure has no word for an open endpoint, and the SDK fails to print one with a word that it does not know.
fn auth_mode(mode: AuthMode) -> &'static str {
    match mode {
        AuthMode::Key => "Key",
        AuthMode::Token => "AMLToken",
        AuthMode::Disabled => "",
    }
}

fn compute(service: &ServiceRecord) -> Option<&str> {
    let name = service.attributes.get("computeName").and_then(Value::as_str);
    match service.compute_type {
        ComputeType::Aks => Some(name.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_COMPUTE)),
        ComputeType::Aci => None,
    }
}

/// Where SDK v1 looks for it: beside the scoring path.
fn swagger_uri(scoring_uri: &str) -> String {
    let parent = scoring_uri.rsplit_once('/').map_or(scoring_uri, |(parent, _)| parent);
    format!("{parent}/swagger.json")
}
