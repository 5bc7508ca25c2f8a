//! Requests to create a service, as Azure's clients write them.

use std::collections::BTreeMap;
use std::time::Duration;

use scoregate_authz::{
    AuthMode, ComputeType, MAX_SHADOW, PlainKey, PortRule, ServiceName, canonical_host, is_path_prefix,
};
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::description::words;
use super::error::ApiError;
use super::members::Members;
use super::{attributes, model_id};
use crate::terms::{SCORING_URI_TAG, is_scoring_uri};
use crate::workspace::{AuthFlags, NewService, Patch, WorkspaceError};

/// What OpenAPI says of a request: [`SaidOfService`], and the members of which it is only kept what was said.
pub(super) struct NewServiceBody;

impl PartialSchema for NewServiceBody {
    fn schema() -> RefOr<Schema> {
        match SaidOfService::schema() {
            RefOr::T(Schema::Object(said)) => attributes::describe_request(said).into(),
            other => other,
        }
    }
}

impl ToSchema for NewServiceBody {
    fn name() -> std::borrow::Cow<'static, str> {
        "NewService".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        SaidOfService::schemas(schemas);
    }
}

/// A service that is to be. Null says as little as nothing.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "a description: bodies are read by `Members`, which tells the place of an error"
)]
struct SaidOfService {
    #[schema(pattern = "^[a-z][a-z0-9-]{1,30}[a-z0-9]$")]
    name: String,
    #[schema(schema_with = compute_types)]
    compute_type: String,
    /// Whether callers need a key. Without a word about either: AKS yes, ACI no.
    auth_enabled: Option<bool>,
    /// Whether callers need a token; AKS only, and never with keys.
    aad_auth_enabled: Option<bool>,
    keys: Option<ChosenKeys>,
    description: Option<String>,
    /// Numbers, `true` and `false` are kept as texts.
    kv_tags: Option<BTreeMap<String, String>>,
    properties: Option<BTreeMap<String, String>>,
    environment_image_request: Option<NamedModels>,
    scoregate: Option<Places>,
    /// Whether a service of this name is changed.
    overwrite: Option<bool>,
}

/// Keys that their owner chose; random ones without it.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "a description: bodies are read by `Members`, which tells the place of an error"
)]
pub(super) struct ChosenKeys {
    #[schema(pattern = "^[A-Za-z0-9._~+/-]+=*$", min_length = 16, max_length = 512)]
    primary_key: Option<String>,
    #[schema(pattern = "^[A-Za-z0-9._~+/-]+=*$", min_length = 16, max_length = 512)]
    secondary_key: Option<String>,
}

/// The models that a service is deployed with, by which it is found.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "a description: bodies are read by `Members`, which tells the place of an error"
)]
struct NamedModels {
    /// `name:version`.
    model_ids: Option<Vec<String>>,
}

/// Where gates with `target = "host_path"` look for the service, and whether it is in shadow. Azure's clients send nothing
/// of it.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "a description: bodies are read by `Members`, which tells the place of an error"
)]
struct Places {
    hosts: Option<Vec<String>>,
    path_prefixes: Option<Vec<String>>,
    /// For how long from now on gates let refused credentials through, and count them: 7 days at most.
    #[schema(minimum = 1, maximum = 604_800)]
    shadow_for_seconds: Option<u64>,
}

fn compute_types() -> Object {
    words([ComputeType::Aks, ComputeType::Aci].map(ComputeType::as_str))
}

/// A service to be made, or to be put in the place of the one of its name.
#[derive(Clone)]
pub(super) struct CreateRequest {
    pub(super) new: NewService,
    /// Whether one that exists is changed.
    pub(super) overwrite: bool,
}

impl CreateRequest {
    /// Reads it. Members that are not known are ignored, as Azure ignores them.
    ///
    /// # Errors
    /// The member that cannot be as it is.
    pub(super) fn read(body: &Value) -> Result<Self, ApiError> {
        let members = Members::of_body(body)?;
        let compute_type = compute_type(&members)?;
        let auth = AuthFlags { key: members.flag("authEnabled")?, token: members.flag("aadAuthEnabled")? };
        AuthMode::on_create(compute_type, auth.key, auth.token).map_err(WorkspaceError::from)?;
        let (hosts, path_prefixes) = places(&members)?;
        let new = NewService {
            name: service_name("name", members.required_text("name")?)?,
            compute_type,
            auth,
            keys: keys(&members)?,
            description: members.text("description")?.map(str::to_owned),
            tags: checked_tags("kvTags", members.text_map("kvTags")?.unwrap_or_default())?,
            properties: properties(&members)?,
            hosts,
            path_prefixes,
            shadow_for: shadow_for(&members)?,
            attributes: attributes::kept(body.as_object().unwrap_or(&serde_json::Map::new()))?,
        };
        Ok(Self { new, overwrite: members.flag("overwrite")?.unwrap_or(false) })
    }

    /// The change that makes an existing service what is asked for. Description, tags and properties are the request's;
    /// authentication, hosts and the rest stay as they are where the request says nothing of them.
    pub(super) fn into_patch(self) -> Patch {
        let NewService {
            auth,
            description,
            tags,
            properties,
            hosts,
            path_prefixes,
            shadow_for,
            attributes,
            ..
        } = self.new;
        Patch {
            auth: whole_mode(auth),
            description: Some(description),
            tags: Some(tags),
            properties: Some(properties),
            add_properties: [].into(),
            hosts: Some(hosts).filter(|hosts| !hosts.is_empty()),
            path_prefixes: Some(path_prefixes).filter(|prefixes| !prefixes.is_empty()),
            shadow_for: shadow_for.map(Some),
            attributes,
        }
    }
}

/// A create request that turns one kind of authentication on means the other one off.
fn whole_mode(auth: AuthFlags) -> AuthFlags {
    match auth {
        AuthFlags { key: None, token: Some(true) } => AuthFlags { key: Some(false), ..auth },
        AuthFlags { key: Some(true), token: None } => AuthFlags { token: Some(false), ..auth },
        said => said,
    }
}

/// A service name.
///
/// # Errors
/// It breaks the rules, which the message states.
pub(super) fn service_name(place: &str, text: &str) -> Result<ServiceName, ApiError> {
    text.parse().map_err(|rule| ApiError::invalid(place, format!("cannot be this: {rule}")))
}

/// Hosts in canonical form.
///
/// # Errors
/// One is not plainly a host name.
pub(super) fn canonical_hosts(place: &str, hosts: &[String]) -> Result<Vec<String>, ApiError> {
    let canonical = |(index, host): (usize, &String)| {
        canonical_host(host, PortRule::Any)
            .ok_or_else(|| ApiError::invalid(format!("{place}[{index}]"), "is no host name"))
    };
    hosts.iter().enumerate().map(canonical).collect()
}

/// Path prefixes that gates can match.
///
/// # Errors
/// One could be read in two ways, or ends with a slash.
pub(super) fn checked_prefixes(place: &str, prefixes: Vec<String>) -> Result<Vec<String>, ApiError> {
    match prefixes.iter().position(|prefix| !is_path_prefix(prefix)) {
        None => Ok(prefixes),
        Some(index) => {
            let problem = "must be `/` or a plain path without a slash at its end, such as `/models/one`";
            Err(ApiError::invalid(format!("{place}[{index}]"), problem))
        }
    }
}

/// Tags, of which those that mean something here mean something possible.
///
/// # Errors
/// The tag with the scoring URI has none.
pub(super) fn checked_tags(
    place: &str,
    tags: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ApiError> {
    if tags.get(SCORING_URI_TAG).is_none_or(|uri| is_scoring_uri(uri)) {
        return Ok(tags);
    }
    let place = format!("{place}.{SCORING_URI_TAG}");
    Err(ApiError::invalid(place, "must be an http or https URL without user, query and fragment"))
}

/// The properties of the request, and one for each model that it names, by which the service is found.
fn properties(members: &Members<'_>) -> Result<BTreeMap<String, String>, ApiError> {
    let mut properties = members.text_map("properties")?.unwrap_or_default();
    if let Some(image) = members.object("environmentImageRequest")? {
        let ids = image.texts("modelIds")?.unwrap_or_default();
        properties.extend(ids.iter().map(|id| model_id::property(id)));
    }
    Ok(properties)
}

fn compute_type(members: &Members<'_>) -> Result<ComputeType, ApiError> {
    let text = members.required_text("computeType")?;
    text.parse().map_err(|rule| ApiError::invalid("computeType", format!("cannot be this: {rule}")))
}

/// Both keys of `keys`, of which either may be left to us.
///
/// # Errors
/// Why one cannot be a key. Never what it is.
pub(super) fn keys(members: &Members<'_>) -> Result<(Option<PlainKey>, Option<PlainKey>), ApiError> {
    let Some(keys) = members.object("keys")? else { return Ok((None, None)) };
    Ok((chosen_key(&keys, "primaryKey")?, chosen_key(&keys, "secondaryKey")?))
}

/// A key that its owner chose.
///
/// # Errors
/// Why it cannot be one. Never what it is.
pub(super) fn chosen_key(members: &Members<'_>, name: &str) -> Result<Option<PlainKey>, ApiError> {
    let Some(text) = members.text(name)? else { return Ok(None) };
    PlainKey::choose(text)
        .map(Some)
        .map_err(|rule| ApiError::invalid(members.place_of(name), format!("cannot be used: {rule}")))
}

fn shadow_for(members: &Members<'_>) -> Result<Option<Duration>, ApiError> {
    let own = members.object("scoregate")?;
    let seconds = own.and_then(|own| own.present("shadowForSeconds"));
    seconds.map(|value| shadow_length("scoregate.shadowForSeconds", value)).transpose()
}

/// For how long a service is to be in shadow.
///
/// # Errors
/// It is no such number of seconds.
pub(super) fn shadow_length(place: &str, value: &Value) -> Result<Duration, ApiError> {
    let seconds = value.as_u64().filter(|seconds| (1..=MAX_SHADOW.as_secs()).contains(seconds));
    let problem = "must be a whole number of seconds, 604800 (7 days) at most";
    seconds.map(Duration::from_secs).ok_or_else(|| ApiError::invalid(place, problem))
}

/// Hosts and path prefixes: our own member, which Azure's clients do not send.
fn places(members: &Members<'_>) -> Result<(Vec<String>, Vec<String>), ApiError> {
    let Some(own) = members.object("scoregate")? else { return Ok(Default::default()) };
    let hosts = own.texts("hosts")?.unwrap_or_default();
    let prefixes = own.texts("pathPrefixes")?.unwrap_or_default();
    Ok((canonical_hosts("scoregate.hosts", &hosts)?, checked_prefixes("scoregate.pathPrefixes", prefixes)?))
}
