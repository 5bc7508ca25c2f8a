//! The members of Azure's service object that a workspace keeps and shows, but does not act upon.
//!
//! They describe where and how a model runs, which is not decided here. What is not in the list is not kept:
//! `imageId` and `environmentImageRequest`, because nothing is built or hosted here; `sslKey` and `sslCertificate`,
//! because nothing here ends TLS, and a private key (also one in the same PEM text as a certificate) that is not kept
//! cannot leak.

use serde_json::{Map, Value};
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

use super::error::ApiError;

/// What a member may be, apart from null.
enum Kind {
    Flag,
    Integer,
    Number,
    Text,
    Object(&'static [(&'static str, Kind)]),
}

const KNOWN: &[(&str, Kind)] = &[
    ("appInsightsEnabled", Kind::Flag),
    ("autoScaler", Kind::Object(AUTO_SCALER)),
    ("cname", Kind::Text),
    ("computeName", Kind::Text),
    ("containerResourceRequirements", Kind::Object(CONTAINER_RESOURCES)),
    ("dataCollection", Kind::Object(DATA_COLLECTION)),
    ("dnsNameLabel", Kind::Text),
    ("encryptionProperties", Kind::Object(ENCRYPTION)),
    ("livenessProbeRequirements", Kind::Object(LIVENESS_PROBE)),
    ("location", Kind::Text),
    ("maxConcurrentRequestsPerContainer", Kind::Integer),
    ("maxQueueWaitMs", Kind::Integer),
    ("namespace", Kind::Text),
    ("numReplicas", Kind::Integer),
    ("scoringTimeoutMs", Kind::Integer),
    ("sslEnabled", Kind::Flag),
    ("vnetConfiguration", Kind::Object(VNET)),
];

const AUTO_SCALER: &[(&str, Kind)] = &[
    ("autoscaleEnabled", Kind::Flag),
    ("minReplicas", Kind::Integer),
    ("maxReplicas", Kind::Integer),
    ("targetUtilization", Kind::Integer),
    ("refreshPeriodInSeconds", Kind::Integer),
];

const CONTAINER_RESOURCES: &[(&str, Kind)] = &[
    ("cpu", Kind::Number),
    ("cpuLimit", Kind::Number),
    ("memoryInGB", Kind::Number),
    ("memoryInGBLimit", Kind::Number),
    ("gpu", Kind::Integer),
];

const DATA_COLLECTION: &[(&str, Kind)] = &[("storageEnabled", Kind::Flag), ("eventHubEnabled", Kind::Flag)];

const LIVENESS_PROBE: &[(&str, Kind)] = &[
    ("periodSeconds", Kind::Integer),
    ("initialDelaySeconds", Kind::Integer),
    ("timeoutSeconds", Kind::Integer),
    ("successThreshold", Kind::Integer),
    ("failureThreshold", Kind::Integer),
];

const ENCRYPTION: &[(&str, Kind)] =
    &[("vaultBaseUrl", Kind::Text), ("keyName", Kind::Text), ("keyVersion", Kind::Text)];

const VNET: &[(&str, Kind)] = &[("vnetName", Kind::Text), ("subnetName", Kind::Text)];

impl Kind {
    fn schema_type(&self) -> Type {
        match self {
            Self::Flag => Type::Boolean,
            Self::Integer => Type::Integer,
            Self::Number => Type::Number,
            Self::Text => Type::String,
            Self::Object(_) => Type::Object,
        }
    }

    /// Its schema in a request, where everything may be null or absent; or in an answer, where nothing is absent and only
    /// that is null which has no default.
    fn schema(&self, place: Place<'_>) -> Object {
        let schema_type = match place {
            Place::Answer(default) if !default.is_null() => SchemaType::Type(self.schema_type()),
            _ => SchemaType::from_iter([self.schema_type(), Type::Null]),
        };
        let schema = ObjectBuilder::new().schema_type(schema_type);
        match self {
            Self::Integer => schema.minimum(Some(0)).build(),
            Self::Object(inner) => {
                inner.iter().fold(schema.build(), |schema, member| put(schema, member, place))
            }
            _ => schema.build(),
        }
    }
}

/// Where a member is.
#[derive(Clone, Copy)]
enum Place<'a> {
    Request,
    /// With the default that it has there.
    Answer(&'a Value),
}

/// Adds a member to the schema of the object in that place.
fn put(mut schema: Object, (name, kind): &(&str, Kind), place: Place<'_>) -> Object {
    let inner = match place {
        Place::Request => Place::Request,
        Place::Answer(default) => Place::Answer(&default[*name]),
    };
    schema.properties.insert((*name).to_owned(), kind.schema(inner).into());
    if let Place::Answer(_) = place {
        schema.required.push((*name).to_owned());
    }
    schema
}

/// Adds the members that a request may have to its schema.
pub(super) fn describe_request(schema: Object) -> Object {
    KNOWN.iter().fold(schema, |schema, member| put(schema, member, Place::Request))
}

/// Adds the members that an answer has to its schema: those with a default, and others where they were said.
pub(super) fn describe_answer(schema: Object, defaults: &Map<String, Value>) -> Object {
    KNOWN.iter().fold(schema, |mut schema, (name, kind)| {
        let default = defaults.get(*name);
        let place = Place::Answer(default.unwrap_or(&Value::Null));
        schema.properties.insert((*name).to_owned(), kind.schema(place).into());
        schema.required.extend(default.map(|_| (*name).to_owned()));
        schema
    })
}

/// Those of the members that are kept. A kept object has all its members, null where nothing was said, because
/// Azure's clients reject an object that lacks one.
///
/// # Errors
/// One that is not of its kind.
pub(super) fn kept(members: &Map<String, Value>) -> Result<Map<String, Value>, ApiError> {
    let mut kept = Map::new();
    for (name, kind) in KNOWN {
        if let Some(value) = members.get(*name).filter(|value| !value.is_null()) {
            kept.insert((*name).to_owned(), checked(name, kind, value)?);
        }
    }
    Ok(kept)
}

/// Puts a value at the place that a JSON Pointer's segments name.
///
/// # Errors
/// No such place, or not a value for it.
pub(super) fn set(into: &mut Map<String, Value>, segments: &[&str], value: &Value) -> Result<(), ApiError> {
    let place = format!("/{}", segments.join("/"));
    let unknown = || ApiError::invalid(&*place, "is not a member of a service that can be changed");
    match segments {
        [name] => {
            let kind = kind_of(KNOWN, name).ok_or_else(unknown)?;
            into.insert((*name).to_owned(), checked(&place, kind, value)?);
        }
        [object, name] => {
            let Some(Kind::Object(inner)) = kind_of(KNOWN, object) else { return Err(unknown()) };
            let kind = kind_of(inner, name).ok_or_else(unknown)?;
            let value = checked(&place, kind, value)?;
            // An earlier operation may have set the whole object to null.
            let members = into.entry(*object).or_insert(Value::Null);
            if !members.is_object() {
                *members = Value::Object(Map::new());
            }
            members[*name] = value;
        }
        _ => return Err(unknown()),
    }
    Ok(())
}

/// Whether a member of this name is kept.
pub(super) fn is_known(name: &str) -> bool {
    kind_of(KNOWN, name).is_some()
}

fn kind_of<'a>(known: &'a [(&str, Kind)], name: &str) -> Option<&'a Kind> {
    known.iter().find(|(candidate, _)| *candidate == name).map(|(_, kind)| kind)
}

/// The value, if it is of the kind, with what is not known of it left out.
fn checked(place: &str, kind: &Kind, value: &Value) -> Result<Value, ApiError> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    let expected = match kind {
        Kind::Flag if value.is_boolean() => return Ok(value.clone()),
        Kind::Integer if value.is_u64() => return Ok(value.clone()),
        Kind::Number if value.is_number() => return Ok(value.clone()),
        Kind::Text if value.is_string() => return Ok(value.clone()),
        Kind::Object(inner) if let Some(members) = value.as_object() => {
            return checked_members(place, inner, members);
        }
        Kind::Flag => "must be `true`, `false` or null",
        Kind::Integer => "must be a whole number or null",
        Kind::Number => "must be a number or null",
        Kind::Text => "must be a text or null",
        Kind::Object(_) => "must be an object or null",
    };
    Err(ApiError::invalid(place, expected))
}

fn checked_members(
    place: &str,
    known: &[(&str, Kind)],
    members: &Map<String, Value>,
) -> Result<Value, ApiError> {
    let member = |(name, kind): &(&str, Kind)| {
        let value = members.get(*name).unwrap_or(&Value::Null);
        Ok(((*name).to_owned(), checked(&format!("{place}.{name}"), kind, value)?))
    };
    known.iter().map(member).collect::<Result<Map<_, _>, _>>().map(Value::Object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn kept_of(members: &Value) -> Result<Value, String> {
        kept(members.as_object().unwrap()).map(Value::Object).map_err(|error| error.to_string())
    }

    #[test]
    fn kept_leaves_out_secrets_nulls_and_what_is_unknown() {
        let given = json!({
            "computeName": "aks", "numReplicas": null, "sslKey": "-----BEGIN", "sslCertificate": "-----BEGIN",
            "dataCollection": { "storageEnabled": true, "surprise": 1 }, "imageId": "i", "surprise": 1,
        });
        let kept = kept_of(&given).unwrap();
        let expected = json!({
            "computeName": "aks", "dataCollection": { "storageEnabled": true, "eventHubEnabled": null },
        });
        assert_eq!(kept, expected);
    }

    #[rstest]
    #[case(json!({ "numReplicas": 1.5 }), "`numReplicas` must be a whole number or null")]
    #[case(json!({ "numReplicas": -1 }), "`numReplicas` must be a whole number or null")]
    #[case(json!({ "autoScaler": [] }), "`autoScaler` must be an object or null")]
    #[case(json!({ "autoScaler": { "minReplicas": "1" } }), "`autoScaler.minReplicas` must be a whole number or null")]
    #[case(json!({ "computeName": 1 }), "`computeName` must be a text or null")]
    fn kept_refuses_wrong_kinds(#[case] given: Value, #[case] message: &str) {
        assert_eq!(kept_of(&given), Err(message.to_owned()));
    }

    #[test]
    fn set_places_nested_members() {
        let mut into = Map::new();
        set(&mut into, &["autoScaler", "minReplicas"], &json!(2)).unwrap();
        set(&mut into, &["autoScaler", "maxReplicas"], &json!(null)).unwrap();
        assert_eq!(json!(into), json!({ "autoScaler": { "minReplicas": 2, "maxReplicas": null } }));
        assert!(set(&mut into, &["autoScaler", "surprise"], &json!(2)).is_err());
        assert!(set(&mut into, &["computeName", "x"], &json!(2)).is_err());
        assert!(set(&mut into, &["autoScaler", "minReplicas", "x"], &json!(2)).is_err());
    }
}
