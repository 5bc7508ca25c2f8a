//! What a service is in both uses of the form: name, mode, places.

use std::collections::HashMap;

use scoregate_authz::{
    AuthMode, AuthModeError, ComputeType, PortRule, ServiceName, canonical_host, is_path_prefix,
};
use serde_saphyr::Spanned;

use super::FileError;
use super::read::{Reader, Spot};
use super::shape::{self, Text};
use crate::terms::MAX_PLACES;

/// A service without what only one of the uses knows.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) name: ServiceName,
    pub(super) compute_type: ComputeType,
    pub(super) auth_mode: AuthMode,
    pub(super) hosts: Vec<String>,
    /// Never empty.
    pub(super) path_prefixes: Vec<String>,
}

/// Where a service stands: makes errors about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServicePlace {
    at: Reader,
    spot: Spot,
    path: String,
}

impl ServicePlace {
    fn new(at: &Reader, spot: Spot, index: usize) -> Self {
        Self { at: at.clone(), spot, path: format!("services[{index}]") }
    }

    /// An error about the service as a whole.
    pub(crate) fn error(&self, problem: impl Into<String>) -> FileError {
        self.at.error_at(self.spot, self.path.clone(), problem)
    }

    /// An error about one of its fields.
    pub(super) fn field<T>(&self, about: &Spanned<T>, field: &str, problem: impl Into<String>) -> FileError {
        self.at.error(about, format!("{}.{field}", self.path), problem)
    }
}

/// For messages about another service.
impl std::fmt::Display for ServicePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`, {}", self.at.file().display(), self.spot)
    }
}

impl Common {
    fn read(service: &shape::Service, place: &ServicePlace) -> Result<Self, FileError> {
        let wrong = |text: &Text, field: &str, rule: String| place.field(text, field, rule);
        let name: ServiceName =
            service.name.value.parse().map_err(|rule| wrong(&service.name, "name", format!("{rule}")))?;
        let compute_type = match &service.compute_type {
            None => ComputeType::Aks,
            Some(text) => text.value.parse().map_err(|rule| wrong(text, "computeType", format!("{rule}")))?,
        };
        let auth_mode = auth_mode(&service.auth_mode.value)
            .ok_or_else(|| wrong(&service.auth_mode, "authMode", AUTH_MODES.to_owned()))?;
        if auth_mode == AuthMode::Token && compute_type == ComputeType::Aci {
            let rule = AuthModeError::TokenOnAci.to_string();
            return Err(wrong(&service.auth_mode, "authMode", rule));
        }
        let is_host = |host: &str| canonical_host(host, PortRule::Any).as_deref() == Some(host);
        let host_rule = "is not a host name in lower case, without port or wildcard";
        let hosts = list(&service.hosts, "hosts", is_host, host_rule, place)?;
        let prefix_rule = "is not `/` or a plain path without a slash at its end, such as `/models/one`";
        let mut path_prefixes =
            list(&service.path_prefixes, "pathPrefixes", is_path_prefix, prefix_rule, place)?;
        if path_prefixes.is_empty() {
            path_prefixes.push(compute_type.default_path_prefix(&name, !hosts.is_empty()));
        }
        Ok(Self { name, compute_type, auth_mode, hosts, path_prefixes })
    }
}

const AUTH_MODES: &str = "the auth mode is `key`, `token` or `disabled`";

fn auth_mode(text: &str) -> Option<AuthMode> {
    [AuthMode::Key, AuthMode::Token, AuthMode::Disabled].into_iter().find(|mode| mode.as_str() == text)
}

/// Each once, and good by itself.
fn list(
    items: &[Text],
    field: &str,
    is_good: impl Fn(&str) -> bool,
    rule: &str,
    place: &ServicePlace,
) -> Result<Vec<String>, FileError> {
    let mut taken: Vec<String> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let wrong = |problem: &str| Err(place.field(item, &format!("{field}[{index}]"), problem));
        if index == MAX_PLACES {
            return wrong(&format!("there are more than {MAX_PLACES}"));
        }
        if !is_good(&item.value) {
            return wrong(rule);
        }
        if taken.contains(&item.value) {
            return wrong("it is here twice");
        }
        taken.push(item.value.clone());
    }
    Ok(taken)
}

/// Sees to it that no two services have the same name or the same place.
#[derive(Debug, Default)]
pub(super) struct Unique {
    names: HashMap<ServiceName, ServicePlace>,
    places: HashMap<(String, String), ServicePlace>,
}

impl Unique {
    /// Reads what is common of a service, and takes its name and its places.
    pub(super) fn read(
        &mut self,
        at: &Reader,
        index: usize,
        service: &Spanned<shape::Service>,
    ) -> Result<(Common, ServicePlace), FileError> {
        let place = ServicePlace::new(at, Spot::of(service), index);
        let common = Common::read(&service.value, &place)?;
        self.add(&common, &place)?;
        Ok((common, place))
    }

    fn add(&mut self, service: &Common, place: &ServicePlace) -> Result<(), FileError> {
        if let Some(other) = self.names.insert(service.name.clone(), place.clone()) {
            return Err(place.error(format!("the service `{}` is in {other} already", service.name)));
        }
        for host in &service.hosts {
            for prefix in &service.path_prefixes {
                let taken = self.places.insert((host.clone(), prefix.clone()), place.clone());
                if let Some(other) = taken {
                    let problem = format!("another service is at `{host}{prefix}` already, in {other}");
                    return Err(place.error(problem));
                }
            }
        }
        Ok(())
    }
}
