//! Models, of which a workspace knows no more than what clients call them.
//!
//! Azure's SDK cannot deploy without a model object, and its users look services up by model. So each model that is asked
//! for is there, as a stand-in, and a service remembers the models that it was deployed with in properties:
//! `scoregate.model.{name}` is the version.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

const PROPERTY: &str = "scoregate.model.";
/// Longest name, in bytes: Azure's.
const MAX_NAME: usize = 255;
const FIRST_VERSION: u64 = 1;

/// The name and the version of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ModelId<'a> {
    name: &'a str,
    version: u64,
}

impl<'a> ModelId<'a> {
    /// Reads `name:version`, or `name` for its first version. `None` if it cannot be one: a file's path, for example.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let (name, version) = match text.split_once(':') {
            Some((name, version)) => (name, version.parse().ok()?),
            None => (text, FIRST_VERSION),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let is_name = name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.len() <= MAX_NAME
            && name.bytes().all(is_plain);
        is_name.then_some(Self { name, version })
    }

    /// The model as Azure's clients see one. `Multi` is a framework whose models the SDK deploys without a script.
    pub(super) fn stand_in(self) -> ModelObject {
        let Self { name, version } = self;
        ModelObject {
            id: format!("{name}:{version}"),
            name: name.to_owned(),
            version,
            framework: "Multi",
            description: "A stand-in: scoregate keeps no models. It is there to be named in a deployment.",
            mime_type: "application/octet-stream",
            ..ModelObject::default()
        }
    }
}

/// A model that is there to be named in a deployment. Members that only a real one would have are empty or null.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Model)]
pub(super) struct ModelObject {
    /// `name:version`.
    id: String,
    name: String,
    version: u64,
    framework: &'static str,
    #[schema(required)]
    framework_version: Option<String>,
    description: &'static str,
    mime_type: &'static str,
    url: &'static str,
    unpack: bool,
    datasets: Vec<String>,
    kv_tags: BTreeMap<String, String>,
    properties: BTreeMap<String, String>,
    #[schema(required)]
    created_time: Option<String>,
    #[schema(required)]
    created_by: Option<String>,
    #[schema(required)]
    experiment_name: Option<String>,
    #[schema(required)]
    run_id: Option<String>,
}

/// The property of a service that was deployed with the model of this id.
pub(super) fn property(id: &str) -> (String, String) {
    let (name, version) = id.rsplit_once(':').unwrap_or((id, ""));
    (format!("{PROPERTY}{name}"), version.to_owned())
}

/// What the properties of services with the model of this id have.
pub(super) fn with_id(id: &str) -> (String, Option<String>) {
    let (key, version) = property(id);
    (key, Some(version))
}

/// What the properties of services with any version of a model have.
pub(super) fn of_name(name: &str) -> (String, Option<String>) {
    (format!("{PROPERTY}{name}"), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("m", Some(("m", 1)))]
    #[case("my-model_1.onnx:12", Some(("my-model_1.onnx", 12)))]
    #[case("m:", None)]
    #[case("m:latest", None)]
    #[case("", None)]
    #[case("./model.pkl", None)]
    #[case("a/b", None)]
    #[case("https://models.example/m", None)]
    fn read_takes_names_and_versions(#[case] text: &str, #[case] expected: Option<(&str, u64)>) {
        assert_eq!(ModelId::read(text).map(|id| (id.name, id.version)), expected);
    }

    #[test]
    fn property_is_what_filters_look_for() {
        assert_eq!(property("m:1"), ("scoregate.model.m".to_owned(), "1".to_owned()));
        assert_eq!(with_id("m:1"), ("scoregate.model.m".to_owned(), Some("1".to_owned())));
        assert_eq!(of_name("m"), ("scoregate.model.m".to_owned(), None));
    }
}
