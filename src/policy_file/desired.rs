//! What a workspace is to have: the services of one file, or of all files of a directory.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use scoregate_authz::{AuthMode, ComputeType, ServiceName};

use super::FileError;
use super::places::ServicePlaces;
use super::read::{FileContent, Located, documents};
use super::service::{Common, ServicePlace, Unique};
use super::shape;
use crate::terms::{SCORING_URI_TAG, is_scoring_uri};

/// All services that a workspace is to have, in the order of the files.
#[derive(Debug)]
pub(crate) struct Desired {
    pub(crate) services: Vec<DesiredService>,
}

/// A service that a workspace is to have.
#[derive(Debug, Clone)]
pub(crate) struct DesiredService {
    pub(crate) name: ServiceName,
    pub(crate) compute_type: ComputeType,
    pub(crate) auth_mode: AuthMode,
    pub(crate) places: ServicePlaces,
    /// `None` where the file says nothing of it: what is there stays.
    pub(crate) description: Option<String>,
    /// `None` where the file says nothing of them: what is there stays.
    pub(crate) tags: Option<BTreeMap<String, String>>,
    pub(crate) place: ServicePlace,
}

impl Desired {
    /// Reads files, directories of files, and `-` for standard input.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self, FileError> {
        let (mut services, mut unique) = (Vec::new(), Unique::default());
        for located in all_documents(paths)? {
            add_document(&located, &mut unique, &mut services)?;
        }
        Ok(Self { services })
    }

    /// An error about a service.
    pub(crate) fn error(&self, name: &str, problem: &str) -> FileError {
        match self.services.iter().find(|service| service.name.as_str() == name) {
            Some(service) => service.place.error(problem),
            None => FileError::unusable(Path::new(name), problem),
        }
    }
}

fn add_document(
    Located { at, document }: &Located,
    unique: &mut Unique,
    services: &mut Vec<DesiredService>,
) -> Result<(), FileError> {
    if let Some(keys) = &document.verification_keys {
        return Err(at.error(keys, "verificationKeys", OF_A_GATE));
    }
    for (index, spanned) in document.services.iter().enumerate() {
        let (common, place) = unique.read(at, index, spanned)?;
        services.push(DesiredService::read(&spanned.value, common, place)?);
    }
    Ok(())
}

const OF_A_GATE: &str = "this is for a gate without a workspace: a workspace makes it by itself";

impl DesiredService {
    fn read(service: &shape::Service, common: Common, place: ServicePlace) -> Result<Self, FileError> {
        if let Some(uid) = &service.uid {
            return Err(place.field(uid, "uid", OF_A_GATE));
        }
        if let Some(keys) = &service.keys {
            return Err(place.field(keys, "keys", OF_A_GATE));
        }
        if let Some(time) = &service.tokens_not_before {
            return Err(place.field(time, "tokensNotBefore", OF_A_GATE));
        }
        let tags = service.tags.as_ref().map(|tags| {
            tags.value
                .iter()
                .map(|(key, value)| (key.clone(), value.value.clone()))
                .collect::<BTreeMap<_, _>>()
        });
        let uri = service.tags.as_ref().and_then(|tags| tags.value.get(SCORING_URI_TAG));
        if let Some(uri) = uri.filter(|uri| !is_scoring_uri(&uri.value)) {
            let rule = "is not an http or https URL without user, query and fragment";
            return Err(place.field(uri, &format!("tags.{SCORING_URI_TAG}"), rule));
        }
        let Common { name, compute_type, auth_mode, hosts, path_prefixes } = common;
        let places = ServicePlaces { hosts, path_prefixes };
        let description = service.description.as_ref().map(|text| text.value.clone());
        Ok(Self { name, compute_type, auth_mode, places, description, tags, place })
    }
}

/// The documents of files, directories of files, and `-` for standard input.
///
/// # Errors
/// The first that cannot be read, or is not of the shape.
pub(super) fn all_documents(paths: &[PathBuf]) -> Result<Vec<Located>, FileError> {
    let mut all = Vec::new();
    for path in paths {
        for (path, content) in contents(path)? {
            all.extend(documents(&path, &content.bytes)?);
        }
    }
    Ok(all)
}

/// The files that a path names, and what they hold.
fn contents(path: &Path) -> Result<Vec<(PathBuf, FileContent)>, FileError> {
    if path == Path::new("-") {
        return Ok(vec![(PathBuf::from("standard input"), standard_input()?)]);
    }
    let failed = |source| FileError::Unreadable { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![(path.to_owned(), FileContent::read(path)?)]);
    }
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed)?;
    let mut files: Vec<_> =
        entries.iter().map(std::fs::DirEntry::path).filter(|path| is_yaml(path)).collect();
    // The order of a directory is any, and what is said of it should not be.
    files.sort();
    if files.is_empty() {
        // With --prune, nothing would mean to delete everything.
        return Err(FileError::unusable(path, "has no file that ends in `.yaml` or `.yml`"));
    }
    files.into_iter().map(|path| FileContent::read(&path).map(|content| (path, content))).collect()
}

fn standard_input() -> Result<FileContent, FileError> {
    let path = Path::new("standard input");
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|source| FileError::Unreadable { path: path.to_owned(), source })?;
    FileContent::new(path, bytes)
}

/// Hidden ones are not: editors and Kubernetes keep copies under such names.
fn is_yaml(path: &Path) -> bool {
    let is_hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let ends = |end: &str| path.extension().is_some_and(|extension| extension == end);
    !is_hidden && (ends("yaml") || ends("yml"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn file(directory: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// An error without the directory in it.
    fn refusal(directory: &tempfile::TempDir, path: &Path) -> String {
        let error = Desired::read(&[path.to_owned()]).unwrap_err().to_string();
        error.replace(&format!("{}/", directory.path().display()), "")
    }

    const TWO_DOCUMENTS: &str = "\
version: scoregate/v1
services:
  - name: one
    authMode: key
    tags: { team: a, size: 7 }
---
version: scoregate/v1
services:
  - { name: two, computeType: ACI, authMode: disabled, hosts: [two.example], description: \"\" }
";

    #[test]
    fn read_takes_documents_and_fills_in_places() {
        let directory = tempfile::tempdir().unwrap();
        let path = file(&directory, "a.yaml", TWO_DOCUMENTS);
        let services = Desired::read(&[path]).unwrap().services;
        let [one, two] = services.as_slice() else { panic!("{services:?}") };
        assert_eq!((one.compute_type, one.auth_mode), (ComputeType::Aks, AuthMode::Key));
        assert_eq!(one.places.path_prefixes, ["/api/v1/service/one"]);
        let tags = [("size", "7"), ("team", "a")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(one.tags, Some(BTreeMap::from(tags)));
        assert_eq!((&one.description, &two.tags), (&None, &None), "what is not said stays");
        assert_eq!((two.compute_type, two.auth_mode), (ComputeType::Aci, AuthMode::Disabled));
        assert_eq!(two.places.path_prefixes, ["/score"]);
        assert_eq!(two.description.as_deref(), Some(""));
    }

    #[test]
    fn read_of_a_directory_takes_its_yaml_files_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let text =
            |name: &str| format!("version: scoregate/v1\nservices: [{{ name: {name}, authMode: key }}]\n");
        for (name, service) in
            [("b.yml", "bbb"), ("a.yaml", "aaa"), (".hidden.yaml", "ccc"), ("c.txt", "ddd")]
        {
            file(&directory, name, &text(service));
        }
        let desired = Desired::read(&[directory.path().to_owned()]).unwrap();
        let names: Vec<_> = desired.services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["aaa", "bbb"]);
    }

    #[test]
    fn read_of_an_empty_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let error = Desired::read(&[directory.path().to_owned()]).unwrap_err().to_string();
        assert!(error.ends_with("has no file that ends in `.yaml` or `.yml`"), "{error}");
    }

    #[test]
    fn read_refuses_a_service_in_two_files() {
        let directory = tempfile::tempdir().unwrap();
        file(&directory, "a.yaml", TWO_DOCUMENTS);
        file(&directory, "b.yaml", "version: scoregate/v1\nservices:\n  - { name: two, authMode: key }\n");
        assert_eq!(
            refusal(&directory, directory.path()),
            "`b.yaml`, document 1, line 3, column 5, `services[0]`: the service `two` is in `a.yaml`, line 9 already"
        );
    }

    #[test]
    fn read_refuses_a_place_twice() {
        let directory = tempfile::tempdir().unwrap();
        let text = "\
version: scoregate/v1
services:
  - { name: one, authMode: key, hosts: [h], pathPrefixes: [/a, /b] }
  - { name: two, authMode: key, hosts: [g, h], pathPrefixes: [/b] }
";
        let path = file(&directory, "a.yaml", text);
        assert_eq!(
            refusal(&directory, &path),
            "`a.yaml`, document 1, line 4, column 5, `services[1]`: another service is at `h/b` already, in `a.yaml`, line 3"
        );
    }

    #[rstest]
    #[case::no_document("# nothing\n", "`a.yaml` holds no document")]
    #[case::control_character("\u{1}", "`a.yaml`, document 1, line 1, column 1: ")]
    #[case::version(
        "version: v2\nservices: []\n",
        "`a.yaml`, document 1, line 1, column 10, `version`: is not `scoregate/v1`"
    )]
    #[case::second_document(
        "version: scoregate/v1\nservices: []\n---\nversion: scoregate/v1\nservices: []\nmore: 1\n",
        "`a.yaml`, document 2, line 6, column 1: there is no field `more` here, but `version`, `services`, `verificationKeys`"
    )]
    #[case::missing(
        "version: scoregate/v1\n",
        "`a.yaml`, document 1, line 1, column 1: `services` is missing"
    )]
    #[case::verification_keys(
        "version: scoregate/v1\nservices: []\nverificationKeys: []\n",
        "`a.yaml`, document 1, line 3, column 19, `verificationKeys`: this is for a gate without a workspace"
    )]
    fn read_refuses_documents(#[case] text: &str, #[case] expected: &str) {
        let directory = tempfile::tempdir().unwrap();
        let path = file(&directory, "a.yaml", text);
        let refusal = refusal(&directory, &path);
        assert!(refusal.starts_with(expected), "{refusal}");
    }

    #[rstest]
    #[case("name: one", "line 4, column 5: `name` is here twice")]
    #[case("name2: one", "line 4, column 5: there is no field `name2` here")]
    #[case("authMode:", "line 4, column 13: there is no value")]
    #[case("authMode: none", "line 4, column 15, `services[0].authMode`: the auth mode is `key`, `token` or")]
    #[case("authMode: Key", "line 4, column 15, `services[0].authMode`: the auth mode is `key`, `token` or")]
    #[case(
        "computeType: VM",
        "line 4, column 18, `services[0].computeType`: the compute type is `AKS` or `ACI`"
    )]
    #[case("hosts: [a, B]", "line 4, column 16, `services[0].hosts[1]`: is not a host name in lower case")]
    #[case("hosts: ['*.example.com']", "line 4, column 13, `services[0].hosts[0]`: is not a host name")]
    #[case("hosts: [a, b, a]", "line 4, column 19, `services[0].hosts[2]`: it is here twice")]
    #[case(
        "pathPrefixes: [/a/]",
        "line 4, column 20, `services[0].pathPrefixes[0]`: is not `/` or a plain path"
    )]
    #[case("uid: one", "line 4, column 10, `services[0].uid`: this is for a gate without a workspace")]
    #[case("tags: a=b", "line 4, column 11: a mapping (`name: value`) is expected here")]
    #[case("hosts: a", "line 4, column 12: a list is expected here")]
    #[case("description: [a]", "line 4, column 18: a single value is expected here")]
    #[case("keys: {}", "line 4, column 11, `services[0].keys`: this is for a gate without a workspace")]
    #[case("tokensNotBefore: 1", "line 4, column 22, `services[0].tokensNotBefore`: this is for a gate")]
    #[case(
        "tags: { scoregate.scoringUri: 'ftp://x' }",
        "line 4, column 35, `services[0].tags.scoregate.scoringUri`: is not an http or https URL"
    )]
    #[case("<<: { authMode: key }", "line 4, column 5: `<<` is not taken")]
    fn read_refuses_services(#[case] line: &str, #[case] expected: &str) {
        let directory = tempfile::tempdir().unwrap();
        // Each line but those about the mode itself completes a good service.
        let mode = if line.starts_with("authMode") { "" } else { "    authMode: key\n" };
        let text = format!("version: scoregate/v1\nservices:\n  - name: one\n    {line}\n{mode}");
        let path = file(&directory, "a.yaml", &text);
        let refusal = refusal(&directory, &path);
        assert!(refusal.starts_with(&format!("`a.yaml`, document 1, {expected}")), "{refusal}");
    }

    #[test]
    fn read_refuses_tokens_on_aci() {
        let directory = tempfile::tempdir().unwrap();
        let text = "version: scoregate/v1\nservices:\n  - { name: one, computeType: ACI, authMode: token }\n";
        let path = file(&directory, "a.yaml", text);
        let refusal = refusal(&directory, &path);
        assert!(
            refusal.contains("`services[0].authMode`: token authentication is for AKS only"),
            "{refusal}"
        );
    }

    #[test]
    fn read_bounds_what_aliases_expand_to() {
        let directory = tempfile::tempdir().unwrap();
        let level =
            |name: char, of: char| format!("{name}: &{name} [{}]", vec![format!("*{of}"); 9].join(","));
        let levels: Vec<_> = ('b'..='i').zip('a'..='h').map(|(name, of)| level(name, of)).collect();
        let tags = format!("a: &a [x,x,x,x,x,x,x,x,x], {}", levels.join(", "));
        let text = format!(
            "version: scoregate/v1\nservices:\n  - {{ name: one, authMode: key, tags: {{ {tags} }} }}\n"
        );
        let path = file(&directory, "a.yaml", &text);
        let refusal = refusal(&directory, &path);
        assert!(refusal.starts_with("`a.yaml`, document 1, line 3"), "{refusal}");
    }
}
