//! The subset of JSON Patch (RFC 6902) in which Azure's clients write a change of a service.

use std::borrow::Cow;

use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::attributes;
use super::description::words;
use super::error::ApiError;
use super::members::{Members, flag, label, text, text_map, texts};
use super::service_request::{canonical_hosts, checked_prefixes, checked_tags, shadow_length};
use crate::workspace::Patch;

/// A change of a service, all of it or nothing.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "a description: bodies are read by `Members`, which tells the place of an error"
)]
pub(super) struct JsonPatch(Vec<JsonPatchOperation>);

/// A member and its new value. `replace` also works where nothing was.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "a description: bodies are read by `Members`, which tells the place of an error"
)]
struct JsonPatchOperation {
    #[schema(schema_with = operations)]
    op: String,
    /// `/authEnabled`, `/aadAuthEnabled`, `/description`, `/kvTags`, `/properties/{name}`, `/scoregate/hosts`,
    /// `/scoregate/pathPrefixes`, `/scoregate/shadowForSeconds` (null ends a shadow), or a member that describes where and how the model runs, such as `/numReplicas` or
    /// `/autoScaler/maxReplicas`.
    #[schema(pattern = "^/")]
    path: String,
    /// Of the member's type.
    value: Value,
}

fn operations() -> Object {
    words(["add", "replace"])
}

/// Taken and not kept, for the reasons in [`attributes`].
const NOT_KEPT: [&str; 4] = ["/environmentImageRequest", "/imageId", "/sslCertificate", "/sslKey"];

/// Reads all operations, in their order, into one change. `replace` also works where nothing was: the clients count on
/// it, unlike RFC 6902, section 4.3.
///
/// # Errors
/// An operation that is not one of these, by its place in the document. Then none is carried out.
pub(super) fn read(document: &Value) -> Result<Patch, ApiError> {
    let operations = document
        .as_array()
        .ok_or_else(|| ApiError::invalid("body", "must be a list of JSON Patch operations"))?;
    let mut patch = Patch::default();
    for (index, operation) in operations.iter().enumerate() {
        read_operation(index, operation, &mut patch)?;
    }
    Ok(patch)
}

fn read_operation(index: usize, operation: &Value, patch: &mut Patch) -> Result<(), ApiError> {
    let at = |member: &str| format!("{index}/{member}");
    let members =
        Members::of_body(operation).map_err(|_| ApiError::invalid(index.to_string(), "must be an object"))?;
    let op = members.text("op")?.unwrap_or_default();
    if !matches!(op, "add" | "replace") {
        return Err(ApiError::invalid(at("op"), "must be `add` or `replace`"));
    }
    let path = members.text("path")?.ok_or_else(|| ApiError::invalid(at("path"), "is missing"))?;
    let value = operation.get("value").ok_or_else(|| ApiError::invalid(at("value"), "is missing"))?;
    put(path, value, patch)
}

fn put(path: &str, value: &Value, patch: &mut Patch) -> Result<(), ApiError> {
    match path {
        "/authEnabled" => patch.auth.key = Some(flag(path, value)?),
        "/aadAuthEnabled" => patch.auth.token = Some(flag(path, value)?),
        "/description" => patch.description = Some(nullable_text(path, value)?),
        "/kvTags" if value.is_null() => patch.tags = Some([].into()),
        "/kvTags" => patch.tags = Some(checked_tags(path, text_map(path, value)?)?),
        "/scoregate/hosts" => patch.hosts = Some(canonical_hosts(path, &texts(path, value)?)?),
        "/scoregate/pathPrefixes" => {
            patch.path_prefixes = Some(checked_prefixes(path, texts(path, value)?)?);
        }
        "/scoregate/shadowForSeconds" if value.is_null() => patch.shadow_for = Some(None),
        "/scoregate/shadowForSeconds" => patch.shadow_for = Some(Some(shadow_length(path, value)?)),
        _ if NOT_KEPT.contains(&path) => {}
        _ => match path.strip_prefix("/properties/") {
            Some(key) => {
                let value = label(path, value)?;
                patch.add_properties.extend(value.map(|value| (unescaped(key).into_owned(), value)));
            }
            None => put_attribute(path, value, patch)?,
        },
    }
    Ok(())
}

fn put_attribute(path: &str, value: &Value, patch: &mut Patch) -> Result<(), ApiError> {
    let pointer = path.strip_prefix('/');
    let pointer = pointer.ok_or_else(|| ApiError::invalid(path, "must begin with a slash"))?;
    let segments: Vec<&str> = pointer.split('/').collect();
    attributes::set(&mut patch.attributes, &segments, value)
}

fn nullable_text(path: &str, value: &Value) -> Result<Option<String>, ApiError> {
    if value.is_null() { Ok(None) } else { text(path, value).map(|text| Some(text.to_owned())) }
}

/// A property's name. Azure's clients do not escape it; those that follow RFC 6901, section 3, do. A raw name is
/// misread only if it has `~0` or `~1` in it.
fn unescaped(key: &str) -> Cow<'_, str> {
    if key.contains('~') { key.replace("~1", "/").replace("~0", "~").into() } else { key.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[test]
    fn read_takes_what_the_sdk_writes() {
        let patch = read(&json!([
            { "op": "replace", "path": "/authEnabled", "value": false },
            { "op": "replace", "path": "/aadAuthEnabled", "value": true },
            { "op": "replace", "path": "/description", "value": null },
            { "op": "replace", "path": "/kvTags", "value": { "a": "b", "n": 1 } },
            { "op": "replace", "path": "/numReplicas", "value": 2 },
            { "op": "replace", "path": "/containerResourceRequirements/cpu", "value": 0.5 },
            { "op": "replace", "path": "/imageId", "value": "i:1" },
            { "op": "add", "path": "/properties/azureml.git.branch", "value": "main" },
            { "op": "add", "path": "/properties/a/b", "value": "raw" },
            { "op": "add", "path": "/properties/c~1d~01", "value": "escaped" },
        ]))
        .unwrap();
        assert_eq!((patch.auth.key, patch.auth.token), (Some(false), Some(true)));
        assert_eq!(patch.description, Some(None));
        assert_eq!(json!(patch.tags), json!({ "a": "b", "n": "1" }));
        assert_eq!(
            json!(patch.attributes),
            json!({ "numReplicas": 2, "containerResourceRequirements": { "cpu": 0.5 } })
        );
        let properties = json!({ "azureml.git.branch": "main", "a/b": "raw", "c/d~1": "escaped" });
        assert_eq!(json!(patch.add_properties), properties);
    }

    #[rstest]
    #[case(json!({}), "`body` must be a list of JSON Patch operations")]
    #[case(json!(["x"]), "`0` must be an object")]
    #[case(json!([{ "op": "remove", "path": "/description" }]), "`0/op` must be `add` or `replace`")]
    #[case(json!([{ "op": "replace", "value": 1 }]), "`0/path` is missing")]
    #[case(json!([{ "op": "replace", "path": "/description" }]), "`0/value` is missing")]
    #[case(json!([{ "op": "replace", "path": "/authEnabled", "value": "no" }]), "`/authEnabled` must be `true` or `false`")]
    #[case(json!([{ "op": "replace", "path": "/authEnabled", "value": null }]), "`/authEnabled` must be `true` or `false`")]
    #[case(json!([{ "op": "replace", "path": "/name", "value": "x" }]), "`/name` is not a member of a service that can be changed")]
    #[case(json!([{ "op": "replace", "path": "authEnabled", "value": true }]), "`authEnabled` must begin with a slash")]
    #[case(json!([{ "op": "replace", "path": "/scoregate/hosts", "value": ["a b"] }]), "`/scoregate/hosts[0]` is no host name")]
    fn read_refuses(#[case] document: Value, #[case] message: &str) {
        assert_eq!(read(&document).unwrap_err().to_string(), message);
    }
}
