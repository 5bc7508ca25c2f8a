//! A service as SDK v2 sees it.

use scoregate_authz::{AuthMode, ComputeType};
use serde_json::{Value, json};

use super::attributes::Shown;
use crate::workspace::ServiceRecord;
use crate::workspace::http::Api;
use crate::workspace::http::urls::LOCATION;

/// The compute of a service that names none: SDK v2 takes an endpoint without a compute for a managed one.
pub(super) const DEFAULT_COMPUTE: &str = "unnamed";

const KIND: &str = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints";

/// The complete object. There is no `systemData`: the SDK would write it into the properties of an endpoint that it
/// updates. Keys are never part of it.
pub(super) fn endpoint_object(api: &Api, service: &ServiceRecord) -> Value {
    let shown = Shown::of(service);
    let scope = api.workspace.scope();
    let scoring_uri = api.urls.scoring_uri(service);
    json!({
        "id": format!("{scope}/onlineEndpoints/{}", service.name),
        "name": service.name.as_str(),
        "type": KIND,
        "location": LOCATION,
        "kind": kind(service.compute_type),
        "tags": service.tags,
        "identity": shown.identity,
        "properties": {
            "authMode": auth_mode(service.auth_mode),
            "compute": compute(service).map(|name| format!("{scope}/computes/{name}")),
            "description": service.description,
            "mirrorTraffic": shown.mirror_traffic,
            "properties": service.properties,
            "provisioningState": "Succeeded",
            "publicNetworkAccess": shown.public_network_access,
            "scoringUri": scoring_uri,
            "swaggerUri": scoring_uri.as_deref().map(swagger_uri),
            "traffic": shown.traffic,
        },
    })
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
