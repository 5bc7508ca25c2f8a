//! Requests to make or change an online endpoint, as SDK v2 writes them.

use std::collections::BTreeMap;

use scoregate_authz::ComputeType;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::attributes::{ATTRIBUTE, kept};
use super::endpoint_object::DEFAULT_COMPUTE;
use crate::workspace::http::error::ApiError;
use crate::workspace::http::members::Members;
use crate::workspace::http::service_request::{ChosenKeys, CreateRequest, checked_tags, keys, service_name};
use crate::workspace::{AuthFlags, NewService};

/// An endpoint that is to be.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "a description: bodies are read by `Members`, which tells the place of an error"
)]
pub(super) struct NewEndpoint {
    tags: Option<BTreeMap<String, String>>,
    /// Kept and shown, not acted upon.
    identity: Option<BTreeMap<String, Value>>,
    properties: NewEndpointProperties,
}

/// What the endpoint is to be like.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "a description: bodies are read by `Members`, which tells the place of an error"
)]
struct NewEndpointProperties {
    /// `Key`, `AMLToken` or, ours, `Disabled`; without it what the service has, or keys.
    auth_mode: Option<String>,
    /// Any name, or a resource id that ends with one; needed for a new endpoint, which without it would be a managed one.
    compute: Option<String>,
    keys: Option<ChosenKeys>,
    description: Option<String>,
    properties: Option<BTreeMap<String, String>>,
    /// Kept and shown, not acted upon.
    public_network_access: Option<String>,
    /// Percentages by the names of deployments. Kept and shown, not acted upon.
    traffic: Option<BTreeMap<String, u64>>,
    mirror_traffic: Option<BTreeMap<String, u64>>,
}

/// Reads one. Members that are not known are ignored, as Azure ignores them.
///
/// # Errors
/// The member that cannot be as it is.
pub(super) fn read(name: &str, body: &Value) -> Result<CreateRequest, ApiError> {
    let members = Members::of_body(body)?;
    let properties = members.object("properties")?;
    let properties = properties.ok_or_else(|| ApiError::invalid("properties", "is missing"))?;
    let compute = properties.text("compute")?;
    let mut attributes = Map::new();
    attributes.insert(ATTRIBUTE.into(), kept(&members, &properties)?);
    if let Some(name) = compute.map(compute_name).transpose()?.filter(|name| *name != DEFAULT_COMPUTE) {
        attributes.insert("computeName".into(), name.into());
    }
    let new = NewService {
        name: service_name("name", name)?,
        // Azure's managed endpoints are those without a compute.
        compute_type: if compute.is_some() { ComputeType::Aks } else { ComputeType::Aci },
        auth: auth(properties.text("authMode")?.unwrap_or_default())?,
        keys: keys(&properties)?,
        description: properties.text("description")?.map(str::to_owned),
        tags: checked_tags("tags", members.text_map("tags")?.unwrap_or_default())?,
        properties: properties.text_map("properties")?.unwrap_or_default(),
        hosts: Vec::new(),
        path_prefixes: Vec::new(),
        shadow_for: None,
        attributes,
    };
    Ok(CreateRequest { new, overwrite: true })
}

/// `Disabled` is ours. Nothing is what an open endpoint shows, so it says nothing.
fn auth(mode: &str) -> Result<AuthFlags, ApiError> {
    let flags = |key, token| Ok(AuthFlags { key: Some(key), token: Some(token) });
    let invalid = |problem: &str| Err(ApiError::invalid("properties.authMode", problem));
    match mode.to_ascii_lowercase().as_str() {
        "" => Ok(AuthFlags::default()),
        "key" => flags(true, false),
        "amltoken" => flags(false, true),
        "disabled" => flags(false, false),
        "aadtoken" => invalid(
            "cannot be `AADToken`: scoregate does not know the tokens of Microsoft Entra. Use `aml_token`, for tokens \
             that the workspace issues, or `key`",
        ),
        _ => invalid("must be `Key`, `AMLToken` or `Disabled`"),
    }
}

/// The name of a compute, of which the SDK sends the whole resource id.
fn compute_name(id: &str) -> Result<&str, ApiError> {
    let name = id.rsplit('/').next().unwrap_or_default();
    if name.is_empty() {
        Err(ApiError::invalid("properties.compute", "must end with a name"))
    } else {
        Ok(name)
    }
}
