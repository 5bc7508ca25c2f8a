//! Where configuration comes from: a file, then the environment, then flags; the later one wins.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat};

use super::shape::Shape;
use super::{ConfigError, Problem};

/// The prefix of environment variables. Two underscores, because Kubernetes sets `SCOREGATE_PORT` and the like for a
/// Service named `scoregate`.
pub const ENVIRONMENT_PREFIX: &str = "SCOREGATE__";

/// The origin of what nobody said.
const DEFAULT: &str = "default";

/// Keys that hold lists; in the environment their items are separated by commas.
const LISTS: [&str; 10] = [
    "gate.ext_authz_listen",
    "gate.pepper_files",
    "gate.policy_key_files",
    "gate.policy_sources",
    "gate.credential_headers",
    "gate.tls.allowed_peers",
    "gate.peer_tls.allowed_peers",
    "workspace.tls.allowed_peers",
    "workspace.feed_tls.allowed_peers",
    "admin.tls.allowed_peers",
];

/// All that configuration is read from.
#[derive(Debug, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    environment: HashMap<String, String>,
    flags: Vec<Flag>,
}

#[derive(Debug)]
struct Flag {
    name: &'static str,
    key: &'static str,
    value: config::Value,
}

impl Sources {
    /// A file, if one was named, and the process's environment.
    #[must_use]
    pub fn new(file: Option<PathBuf>, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = |(name, _): &(String, String)| name.starts_with(ENVIRONMENT_PREFIX);
        Self { file, environment: environment.into_iter().filter(ours).collect(), flags: Vec::new() }
    }

    /// A flag of the command line, if it was given.
    #[must_use]
    pub fn flag<T: Into<config::Value>>(
        mut self,
        name: &'static str,
        key: &'static str,
        value: Option<T>,
    ) -> Self {
        self.flags.extend(value.map(|value| Flag { name, key, value: value.into() }));
        self
    }

    /// Reads them all.
    ///
    /// # Errors
    /// A file that cannot be read, a key that does not exist, or a value of the wrong form.
    pub fn read(&self) -> Result<Shape, ConfigError> {
        let merged = self.merge()?;
        let mut unknown = Vec::new();
        let mut track = serde_path_to_error::Track::new();
        let deserializer = serde_path_to_error::Deserializer::new(merged, &mut track);
        let shape = serde_ignored::deserialize(deserializer, |path| unknown.push(path.to_string()));
        match shape {
            Ok(shape) if unknown.is_empty() => Ok(shape),
            Ok(_) => Err(self.error(&unknown[0], Problem::UnknownKey)),
            Err(error) => {
                let key = track.path().to_string();
                Err(self.error(&key, Problem::Form(innermost(&error))))
            }
        }
    }

    fn merge(&self) -> Result<Config, ConfigError> {
        let mut builder = Config::builder();
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::File { path: path.clone(), source })?;
            builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
        }
        let environment = LISTS.iter().fold(
            Environment::with_prefix("SCOREGATE")
                .prefix_separator("__")
                .separator("__")
                .list_separator(",")
                .try_parsing(true)
                .source(Some(self.environment.clone())),
            |environment, key| environment.with_list_parse_key(key),
        );
        builder = builder.add_source(environment);
        for flag in &self.flags {
            builder = builder
                .set_override(flag.key, flag.value.clone())
                .map_err(|error| self.error(flag.key, Problem::Form(error.to_string())))?;
        }
        builder.build().map_err(|error| match &self.file {
            Some(path) => ConfigError::Syntax { path: path.clone(), problem: innermost(&error) },
            None => self.error("", Problem::Form(error.to_string())),
        })
    }

    /// An error about a key, with where its value came from.
    pub fn error(&self, key: &str, problem: Problem) -> ConfigError {
        ConfigError::Key { key: key.to_owned(), origin: self.origin(key), problem }
    }

    /// Whether somebody said something of a key.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.origin(key) != DEFAULT
    }

    fn origin(&self, key: &str) -> String {
        let variable = format!("{ENVIRONMENT_PREFIX}{}", key.to_uppercase().replace('.', "__"));
        let flag = self.flags.iter().find(|flag| flag.key == key);
        let variable = self.environment.keys().find(|name| name.eq_ignore_ascii_case(&variable));
        match (flag, variable, &self.file) {
            (Some(flag), _, _) => format!("flag `{}`", flag.name),
            (_, Some(variable), _) => format!("environment variable `{variable}`"),
            (_, _, Some(path)) if self.file_has(path, key) => format!("file `{}`", path.display()),
            _ => DEFAULT.to_owned(),
        }
    }

    fn file_has(&self, path: &Path, key: &str) -> bool {
        let Ok(text) = std::fs::read_to_string(path) else { return false };
        let file = Config::builder().add_source(File::from_str(&text, FileFormat::Toml)).build();
        file.is_ok_and(|file| file.get::<config::Value>(key).is_ok())
    }
}

/// The message of an error without the words that its wrappers add.
fn innermost(error: &config::ConfigError) -> String {
    match error {
        config::ConfigError::At { error, .. } => innermost(error),
        config::ConfigError::FileParse { cause, .. } => cause.to_string(),
        other => other.to_string(),
    }
}
