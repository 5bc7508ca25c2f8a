//! A service as Azure's clients see it.

use scoregate_authz::{AuthMode, ComputeType};
use serde_json::{Map, Value, json};

use super::online_endpoints;
use super::urls::PublicUrls;
use crate::workspace::ServiceRecord;

/// The complete object: the clients reject one that lacks a member.
///
/// `updatedTime` is never null and `imageDetails` never there, because both crash them. `scoregate` is ours; what they
/// do not know they ignore. Keys are never part of it.
pub(super) fn service_object(service: &ServiceRecord, urls: &PublicUrls) -> Value {
    let mut object = defaults(service.compute_type);
    overlay(&mut object, &service.attributes);
    object.remove(online_endpoints::ATTRIBUTE);
    let Value::Object(own) = own_members(service, urls) else { return Value::Null };
    object.extend(own);
    if service.compute_type == ComputeType::Aks {
        object.insert("aadAuthEnabled".into(), (service.auth_mode == AuthMode::Token).into());
    }
    Value::Object(object)
}

fn own_members(service: &ServiceRecord, urls: &PublicUrls) -> Value {
    json!({
        "id": service.name.as_str(),
        "name": service.name.as_str(),
        "description": service.description,
        "kvTags": service.tags,
        "properties": service.properties,
        "state": "Healthy",
        "createdTime": service.created_at.to_string(),
        "updatedTime": service.updated_at.to_string(),
        "error": null,
        "computeType": service.compute_type.as_str(),
        "deploymentType": "HttpRealtimeEndpoint",
        "authEnabled": service.auth_mode == AuthMode::Key,
        "scoringUri": urls.scoring_uri(service),
        "scoregate": { "hosts": service.hosts, "pathPrefixes": service.path_prefixes },
    })
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
            ]
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
            ]
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
