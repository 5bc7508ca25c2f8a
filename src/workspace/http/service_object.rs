//! A service as Azure's clients see it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use scoregate_authz::{AuthMode, ComputeType};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::openapi::schema::{Object, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Discriminator, Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::description::words;
use super::urls::PublicUrls;
use super::{attributes, online_endpoints};
use crate::workspace::ServiceRecord;

/// The complete object: the clients reject one that lacks a member.
///
/// `updatedTime` is never null and `imageDetails` never there, because both crash them. `scoregate` is ours; what they
/// do not know they ignore. Keys are never part of it.
pub(super) fn service_object(service: &ServiceRecord, urls: &PublicUrls) -> Value {
    let mut object = defaults(service.compute_type);
    overlay(&mut object, &service.attributes);
    object.remove(online_endpoints::ATTRIBUTE);
    let Ok(Value::Object(own)) = serde_json::to_value(own_members(service, urls)) else { return Value::Null };
    object.extend(own);
    if service.compute_type == ComputeType::Aks {
        object.insert("aadAuthEnabled".into(), (service.auth_mode == AuthMode::Token).into());
    }
    Value::Object(object)
}

/// What every service has, whatever its compute type.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OwnMembers<'a> {
    id: &'a str,
    name: &'a str,
    #[schema(required)]
    description: Option<&'a str>,
    kv_tags: &'a BTreeMap<String, String>,
    properties: &'a BTreeMap<String, String>,
    /// Always `Healthy`: whether the model runs is not known here.
    state: &'static str,
    #[schema(format = DateTime)]
    created_time: String,
    #[schema(format = DateTime)]
    updated_time: String,
    /// Always null.
    #[schema(value_type = Option<String>, required)]
    error: (),
    compute_type: &'static str,
    deployment_type: &'static str,
    /// Whether callers need a key.
    auth_enabled: bool,
    /// Where callers score it; null where `workspace.scoring_base_url` is not set.
    #[schema(required)]
    scoring_uri: Option<String>,
    scoregate: ServicePlaces<'a>,
}

/// Where gates with `target = "host_path"` look for it, and whether it is in shadow.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ServicePlaces<'a> {
    hosts: &'a [String],
    path_prefixes: &'a [String],
    /// Until then gates let refused credentials through, and count them; null if they refuse them.
    #[schema(required, format = DateTime)]
    shadow_until: Option<String>,
}

fn own_members<'a>(service: &'a ServiceRecord, urls: &PublicUrls) -> OwnMembers<'a> {
    OwnMembers {
        id: service.name.as_str(),
        name: service.name.as_str(),
        description: service.description.as_deref(),
        kv_tags: &service.tags,
        properties: &service.properties,
        state: "Healthy",
        created_time: service.created_at.to_string(),
        updated_time: service.updated_at.to_string(),
        error: (),
        compute_type: service.compute_type.as_str(),
        deployment_type: "HttpRealtimeEndpoint",
        auth_enabled: service.auth_mode == AuthMode::Key,
        scoring_uri: urls.scoring_uri(service),
        scoregate: ServicePlaces {
            hosts: &service.hosts,
            path_prefixes: &service.path_prefixes,
            shadow_until: service.shadow_until.map(|until| until.to_string()),
        },
    }
}

/// What OpenAPI says of a service.
pub(super) struct ServiceObject;

impl ToSchema for ServiceObject {
    fn name() -> Cow<'static, str> {
        "Service".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        for compute in [ComputeType::Aks, ComputeType::Aci] {
            schemas.push((schema_name(compute), schema_of(compute).into()));
        }
        OwnMembers::schemas(schemas);
    }
}

impl PartialSchema for ServiceObject {
    fn schema() -> RefOr<Schema> {
        let types = [ComputeType::Aks, ComputeType::Aci];
        let reference = |compute| Ref::from_schema_name(schema_name(compute));
        let mapping = types.map(|compute| (compute.as_str(), reference(compute).ref_location));
        let one_of =
            types.into_iter().fold(OneOfBuilder::new(), |one_of, compute| one_of.item(reference(compute)));
        one_of.discriminator(Some(Discriminator::with_mapping("computeType", mapping))).into()
    }
}

fn schema_name(compute: ComputeType) -> String {
    match compute {
        ComputeType::Aks => "AksService".to_owned(),
        ComputeType::Aci => "AciService".to_owned(),
    }
}

fn schema_of(compute: ComputeType) -> Object {
    let RefOr::T(Schema::Object(own)) = OwnMembers::schema() else { return Object::default() };
    let defaults = defaults(compute);
    let mut schema = attributes::describe_answer(own, &defaults);
    schema.description = Some(format!("A service of {}.", compute.as_str()));
    schema.properties.insert("computeType".to_owned(), words([compute.as_str()]).into());
    let mut always = |name: &str, schema_type| {
        schema
            .properties
            .insert(name.to_owned(), ObjectBuilder::new().schema_type(schema_type).build().into());
        schema.required.push(name.to_owned());
    };
    if compute == ComputeType::Aks {
        always("aadAuthEnabled", Type::Boolean);
    }
    let unkept: Vec<_> = defaults.keys().filter(|name| !attributes::is_known(name)).cloned().collect();
    unkept.iter().for_each(|name| always(name, Type::Null));
    schema
}

/// What is shown where nothing was said.
fn defaults(compute: ComputeType) -> Map<String, Value> {
    let defaults = match compute {
        ComputeType::Aks => aks_defaults(),
        ComputeType::Aci => aci_defaults(),
    };
    match defaults {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn aks_defaults() -> Value {
    json!({
        "appInsightsEnabled": false,
        "autoScaler": {
            "autoscaleEnabled": false, "minReplicas": 1, "maxReplicas": 10, "targetUtilization": 70,
            "refreshPeriodInSeconds": 1,
        },
        "computeName": null,
        "containerResourceRequirements": {
            "cpu": 0.1, "cpuLimit": null, "memoryInGB": 0.5, "memoryInGBLimit": null, "gpu": null,
        },
        "dataCollection": { "storageEnabled": false, "eventHubEnabled": false },
        "livenessProbeRequirements": {
            "periodSeconds": 10, "initialDelaySeconds": 310, "timeoutSeconds": 2, "successThreshold": 1,
            "failureThreshold": 3,
        },
        "maxConcurrentRequestsPerContainer": 1,
        "maxQueueWaitMs": 500,
        "namespace": null,
        "numReplicas": 1,
        "scoringTimeoutMs": 60_000,
    })
}

fn aci_defaults() -> Value {
    json!({
        "appInsightsEnabled": false,
        "cname": null,
        "containerResourceRequirements": {
            "cpu": 0.1, "cpuLimit": null, "memoryInGB": 0.5, "memoryInGBLimit": null, "gpu": null,
        },
        "location": null,
        "publicIp": null,
        "sslCertificate": null,
        "sslEnabled": false,
        "sslKey": null,
    })
}

/// Puts what was said over the defaults, object by object. Null says nothing, so that no default becomes null.
fn overlay(base: &mut Map<String, Value>, said: &Map<String, Value>) {
    for (name, value) in said {
        match (base.get_mut(name), value) {
            (Some(_), Value::Null) => {}
            (Some(Value::Object(base)), Value::Object(said)) => overlay(base, said),
            _ => {
                base.insert(name.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(compute_type: ComputeType, attributes: &Value) -> ServiceRecord {
        let time = "2024-05-01T10:00:00Z".parse().unwrap();
        ServiceRecord {
            uid: "0190".parse().unwrap(),
            name: "svc".parse().unwrap(),
            compute_type,
            auth_mode: AuthMode::Key,
            tokens_not_before: 0,
            description: None,
            tags: [("t".to_owned(), "u".to_owned())].into(),
            properties: [].into(),
            hosts: vec!["svc.example".into()],
            path_prefixes: vec!["/score".into()],
            shadow_until: None,
            attributes: attributes.as_object().unwrap().clone(),
            created_at: time,
            updated_at: time,
            revision: 1,
        }
    }

    fn shown(service: &ServiceRecord) -> Value {
        let scoring_base = Some("http://h:8080".to_owned());
        service_object(service, &PublicUrls { base: "http://h".into(), scoring_base })
    }

    #[test]
    fn service_object_of_aks_is_complete() {
        let said = json!({ "numReplicas": 3, "autoScaler": { "maxReplicas": 5, "minReplicas": null } });
        insta::assert_json_snapshot!(shown(&service(ComputeType::Aks, &said)), @r#"
        {
          "aadAuthEnabled": false,
          "appInsightsEnabled": false,
          "authEnabled": true,
          "autoScaler": {
            "autoscaleEnabled": false,
            "maxReplicas": 5,
            "minReplicas": 1,
            "refreshPeriodInSeconds": 1,
            "targetUtilization": 70
          },
          "computeName": null,
          "computeType": "AKS",
          "containerResourceRequirements": {
            "cpu": 0.1,
            "cpuLimit": null,
            "gpu": null,
            "memoryInGB": 0.5,
            "memoryInGBLimit": null
          },
          "createdTime": "2024-05-01T10:00:00Z",
          "dataCollection": {
            "eventHubEnabled": false,
            "storageEnabled": false
          },
          "deploymentType": "HttpRealtimeEndpoint",
          "description": null,
          "error": null,
          "id": "svc",
          "kvTags": {
            "t": "u"
          },
          "livenessProbeRequirements": {
            "failureThreshold": 3,
            "initialDelaySeconds": 310,
            "periodSeconds": 10,
            "successThreshold": 1,
            "timeoutSeconds": 2
          },
          "maxConcurrentRequestsPerContainer": 1,
          "maxQueueWaitMs": 500,
          "name": "svc",
          "namespace": null,
          "numReplicas": 3,
          "properties": {},
          "scoregate": {
            "hosts": [
              "svc.example"
            ],
            "pathPrefixes": [
              "/score"
            ],
            "shadowUntil": null
          },
          "scoringTimeoutMs": 60000,
          "scoringUri": "http://h:8080/score",
          "state": "Healthy",
          "updatedTime": "2024-05-01T10:00:00Z"
        }
        "#);
    }

    #[test]
    fn service_object_of_aci_is_complete() {
        let said = json!({ "location": "here", "cname": null });
        insta::assert_json_snapshot!(shown(&service(ComputeType::Aci, &said)), @r#"
        {
          "appInsightsEnabled": false,
          "authEnabled": true,
          "cname": null,
          "computeType": "ACI",
          "containerResourceRequirements": {
            "cpu": 0.1,
            "cpuLimit": null,
            "gpu": null,
            "memoryInGB": 0.5,
            "memoryInGBLimit": null
          },
          "createdTime": "2024-05-01T10:00:00Z",
          "deploymentType": "HttpRealtimeEndpoint",
          "description": null,
          "error": null,
          "id": "svc",
          "kvTags": {
            "t": "u"
          },
          "location": "here",
          "name": "svc",
          "properties": {},
          "publicIp": null,
          "scoregate": {
            "hosts": [
              "svc.example"
            ],
            "pathPrefixes": [
              "/score"
            ],
            "shadowUntil": null
          },
          "scoringUri": "http://svc.example:8080/score",
          "sslCertificate": null,
          "sslEnabled": false,
          "sslKey": null,
          "state": "Healthy",
          "updatedTime": "2024-05-01T10:00:00Z"
        }
        "#);
    }

    #[test]
    fn service_object_without_a_scoring_base_has_no_scoring_uri() {
        let urls = PublicUrls { base: "http://h".into(), scoring_base: None };
        let object = service_object(&service(ComputeType::Aks, &json!({})), &urls);
        assert_eq!(object["scoringUri"], Value::Null);
    }
}
