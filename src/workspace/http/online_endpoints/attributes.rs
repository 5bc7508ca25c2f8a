//! The members of an online endpoint that a workspace keeps and shows, but does not act upon.
//!
//! They are one attribute of the service. Objects in it become lists, because a change merges objects member by member,
//! and a `PUT` has them whole.

use serde_json::{Map, Value, json};

use crate::workspace::ServiceRecord;
use crate::workspace::http::error::ApiError;
use crate::workspace::http::members::Members;

/// Where they are among the attributes of a service. SDK v1's object of a service does not have it.
pub(in crate::workspace::http) const ATTRIBUTE: &str = "onlineEndpoint";

const IDENTITY_TYPE: &str = "identityType";
const IDENTITIES: &str = "userAssignedIdentities";
const PUBLIC_NETWORK_ACCESS: &str = "publicNetworkAccess";
const TRAFFIC: &str = "traffic";
const MIRROR_TRAFFIC: &str = "mirrorTraffic";

/// What is kept of the body of a `PUT` and of its `properties`.
///
/// # Errors
/// The member that cannot be as it is.
pub(super) fn kept(body: &Members<'_>, properties: &Members<'_>) -> Result<Value, ApiError> {
    let identity = body.object("identity")?;
    let identity_type = identity.map(|identity| identity.text("type")).transpose()?;
    Ok(json!({
        IDENTITY_TYPE: identity_type.flatten(),
        IDENTITIES: identity.map(|identity| user_assigned(&identity)).transpose()?,
        PUBLIC_NETWORK_ACCESS: properties.text(PUBLIC_NETWORK_ACCESS)?,
        TRAFFIC: percentages(properties, TRAFFIC)?,
        MIRROR_TRAFFIC: percentages(properties, MIRROR_TRAFFIC)?,
    }))
}

/// The ids alone: all else of them is Azure's to say.
fn user_assigned(identity: &Members<'_>) -> Result<Vec<String>, ApiError> {
    Ok(identity.map(IDENTITIES)?.map(|ids| ids.keys().cloned().collect()).unwrap_or_default())
}

/// Names of deployments, each with its part of the traffic.
fn percentages(properties: &Members<'_>, name: &str) -> Result<Vec<(String, u64)>, ApiError> {
    let Some(members) = properties.map(name)? else { return Ok(Vec::new()) };
    let percentage = |(deployment, value): (&String, &Value)| {
        let percentage = value.as_u64().filter(|percentage| *percentage <= 100);
        let percentage = percentage.ok_or_else(|| {
            ApiError::invalid(
                properties.place_of(name),
                "must have whole numbers from 0 to 100 as its values",
            )
        })?;
        Ok((deployment.clone(), percentage))
    };
    members.iter().map(percentage).collect()
}

/// What is shown of a service. Where nothing was said it is what Azure's SDK says by default.
pub(super) struct Shown {
    pub(super) identity: Value,
    pub(super) public_network_access: Value,
    pub(super) traffic: Value,
    pub(super) mirror_traffic: Value,
}

impl Shown {
    pub(super) fn of(service: &ServiceRecord) -> Self {
        let kept = service.attributes.get(ATTRIBUTE).unwrap_or(&Value::Null);
        let text = |name: &str, default| Value::from(kept[name].as_str().unwrap_or(default));
        Self {
            identity: identity(&text(IDENTITY_TYPE, "SystemAssigned"), &kept[IDENTITIES]),
            public_network_access: text(PUBLIC_NETWORK_ACCESS, "Enabled"),
            traffic: object(&kept[TRAFFIC]),
            mirror_traffic: object(&kept[MIRROR_TRAFFIC]),
        }
    }
}

fn identity(kind: &Value, ids: &Value) -> Value {
    let mut identity = json!({ "type": kind });
    if let Some(ids) = ids.as_array().filter(|ids| !ids.is_empty()) {
        let entry = |id: &Value| (id.as_str().unwrap_or_default().to_owned(), json!({}));
        identity[IDENTITIES] = ids.iter().map(entry).collect::<Map<_, _>>().into();
    }
    identity
}

/// An object from the list of its members.
fn object(members: &Value) -> Value {
    let entry = |member: &Value| (member[0].as_str().unwrap_or_default().to_owned(), member[1].clone());
    members.as_array().into_iter().flatten().map(entry).collect::<Map<_, _>>().into()
}
