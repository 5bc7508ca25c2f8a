//! What has to be done so that a workspace has what files say, and in which order.

use std::collections::{BTreeMap, HashMap, HashSet};

use scoregate_authz::{AuthMode, ComputeType};
use serde_json::{Value, json};

use super::super::exit::CliError;
use super::super::output::items;
use crate::policy_file::{DeclaredService, Desired, DesiredService, FileError, ServicePlaces};

/// A service as the workspace has it.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Present {
    pub(super) name: String,
    compute_type: Option<ComputeType>,
    auth_mode: AuthMode,
    places: ServicePlaces,
    description: String,
    tags: BTreeMap<String, String>,
}

impl Present {
    /// Reads the object of a service.
    pub(in crate::cli) fn read(service: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let texts = |list: &Value| items(list).iter().map(text).collect();
        let tags = service["kvTags"].as_object().into_iter().flatten();
        Self {
            name: text(&service["name"]),
            compute_type: text(&service["computeType"]).parse().ok(),
            auth_mode: match (&service["authEnabled"], &service["aadAuthEnabled"]) {
                (Value::Bool(true), _) => AuthMode::Key,
                (_, Value::Bool(true)) => AuthMode::Token,
                _ => AuthMode::Disabled,
            },
            places: ServicePlaces {
                hosts: texts(&service["scoregate"]["hosts"]),
                path_prefixes: texts(&service["scoregate"]["pathPrefixes"]),
            },
            description: text(&service["description"]),
            tags: tags.map(|(key, value)| (key.clone(), text(value))).collect(),
        }
    }
}

/// For those to whom it does not matter where it was read.
impl TryFrom<Present> for DeclaredService {
    type Error = CliError;

    fn try_from(present: Present) -> Result<Self, CliError> {
        let Present { name, compute_type, auth_mode, places, .. } = present;
        let unknown =
            |what| CliError::failed(format!("this version does not know the {what} of the service `{name}`"));
        let compute_type = compute_type.ok_or_else(|| unknown("compute type"))?;
        let name = name.parse().map_err(|_| unknown("name"))?;
        Ok(Self { name, compute_type, auth_mode, places })
    }
}

/// Something to do with one service.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) service: String,
    pub(super) action: Action,
    /// Places that it needs, and places that it leaves to others.
    takes: Vec<ServicePlace>,
    frees: Vec<ServicePlace>,
}

/// What is done with it.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Create(Box<DesiredService>),
    Change(Vec<FieldChange>),
    Delete,
}

/// A member that is to have another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldChange {
    pub(super) field: Field,
    pub(super) from: Value,
    pub(super) to: Value,
}

/// What can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    AuthMode,
    Hosts,
    PathPrefixes,
    Description,
    Tags,
}

impl Field {
    /// As it is named in files.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::AuthMode => "authMode",
            Self::Hosts => "hosts",
            Self::PathPrefixes => "pathPrefixes",
            Self::Description => "description",
            Self::Tags => "tags",
        }
    }
}

/// All that is to be done, in an order in which each step finds its places free.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Services that no file has, and that stay, because nobody said that they should not.
    pub(super) unmanaged: Vec<String>,
}

impl Plan {
    /// Compares.
    ///
    /// # Errors
    /// What cannot be done at all, before anything is.
    pub(super) fn new(desired: &Desired, present: &[Present], prune: bool) -> Result<Self, FileError> {
        let by_name: HashMap<&str, &Present> =
            present.iter().map(|service| (service.name.as_str(), service)).collect();
        let mut steps = Vec::new();
        for service in &desired.services {
            match by_name.get(service.name.as_str()) {
                None => steps.push(Step::create(service)),
                Some(present) => steps.extend(Step::change(service, present)?),
            }
        }
        let wanted: HashSet<&str> = desired.services.iter().map(|service| service.name.as_str()).collect();
        let others = present.iter().filter(|service| !wanted.contains(service.name.as_str()));
        let mut unmanaged = Vec::new();
        for service in others {
            if prune {
                steps.push(Step::delete(service));
            } else {
                unmanaged.push(service.name.clone());
            }
        }
        unmanaged.sort();
        match in_order(steps, present) {
            Ok(steps) => Ok(Self { steps, unmanaged }),
            Err(Blocked { service, problem }) => Err(desired.error(&service, &problem)),
        }
    }
}

/// A host and a path prefix.
type ServicePlace = (String, String);

fn owned(places: &ServicePlaces) -> Vec<ServicePlace> {
    places.all().map(|(host, prefix)| (host.to_owned(), prefix.to_owned())).collect()
}

impl Step {
    fn create(service: &DesiredService) -> Self {
        Self {
            service: service.name.to_string(),
            takes: owned(&service.places),
            frees: Vec::new(),
            action: Action::Create(Box::new(service.clone())),
        }
    }

    /// `None` where nothing is to be done.
    fn change(service: &DesiredService, present: &Present) -> Result<Option<Self>, FileError> {
        if present.compute_type != Some(service.compute_type) {
            let is = present.compute_type.map_or("of another type", ComputeType::as_str);
            let problem = format!(
                "`{}` is {is} in the workspace, and a compute type cannot be changed: delete the service first",
                service.name
            );
            return Err(service.place.error(problem));
        }
        let changes = changes(service, present);
        if changes.is_empty() {
            return Ok(None);
        }
        let (before, after) = (owned(&present.places), owned(&service.places));
        let without = |all: &[ServicePlace], others: &[ServicePlace]| {
            all.iter().filter(|place| !others.contains(place)).cloned().collect()
        };
        Ok(Some(Self {
            service: service.name.to_string(),
            takes: without(&after, &before),
            frees: without(&before, &after),
            action: Action::Change(changes),
        }))
    }

    fn delete(service: &Present) -> Self {
        Self {
            service: service.name.clone(),
            takes: Vec::new(),
            frees: owned(&service.places),
            action: Action::Delete,
        }
    }

    /// Makes before breaks, where places allow it.
    fn rank(&self) -> u8 {
        match self.action {
            Action::Create(_) => 0,
            Action::Change(_) => 1,
            Action::Delete => 2,
        }
    }
}

fn changes(service: &DesiredService, present: &Present) -> Vec<FieldChange> {
    let (now, then) = (&present.places, &service.places);
    let mode = |mode: AuthMode| json!(mode.as_str());
    let all = [
        (Field::AuthMode, mode(present.auth_mode), Some(mode(service.auth_mode))),
        (Field::Hosts, json!(now.hosts), Some(json!(then.hosts))),
        (Field::PathPrefixes, json!(now.path_prefixes), Some(json!(then.path_prefixes))),
        (
            Field::Description,
            json!(present.description),
            service.description.as_ref().map(|text| json!(text)),
        ),
        (Field::Tags, json!(present.tags), service.tags.as_ref().map(|tags| json!(tags))),
    ];
    let differs = |(field, from, to): (Field, Value, Option<Value>)| {
        to.filter(|to| *to != from).map(|to| FieldChange { field, from, to })
    };
    all.into_iter().filter_map(differs).collect()
}

/// Sorts steps so that a place is free when it is taken.
fn in_order(mut steps: Vec<Step>, present: &[Present]) -> Result<Vec<Step>, Blocked> {
    let mut owners: HashMap<ServicePlace, String> = HashMap::new();
    for service in present {
        owners.extend(owned(&service.places).into_iter().map(|place| (place, service.name.clone())));
    }
    steps.sort_by(|one, other| (one.rank(), &one.service).cmp(&(other.rank(), &other.service)));
    check_owners(&steps, &owners)?;
    let mut ordered = Vec::with_capacity(steps.len());
    while !steps.is_empty() {
        let before = ordered.len();
        steps = take_ready(steps, &mut owners, &mut ordered);
        if ordered.len() == before {
            return Err(Blocked::in_a_circle(&steps));
        }
    }
    Ok(ordered)
}

/// A service that cannot have its places, and why.
struct Blocked {
    service: String,
    problem: String,
}

impl Blocked {
    fn in_a_circle(steps: &[Step]) -> Self {
        let names: Vec<_> = steps.iter().map(|step| format!("`{}`", step.service)).collect();
        let problem = format!(
            "services exchange their places ({}): do it in two steps, of which the first gives one of them another place",
            names.join(", ")
        );
        Self { service: steps.first().map_or_else(String::new, |step| step.service.clone()), problem }
    }
}

/// A place that nobody gives up is not to be had.
fn check_owners(steps: &[Step], owners: &HashMap<ServicePlace, String>) -> Result<(), Blocked> {
    let freed: HashSet<_> = steps.iter().flat_map(|step| &step.frees).collect();
    for step in steps {
        let taken = step.takes.iter().filter(|place| !freed.contains(place));
        if let Some((place, owner)) = taken.filter_map(|place| Some((place, owners.get(place)?))).next() {
            let problem =
                format!("the service `{owner}` of the workspace is at `{}{}` already", place.0, place.1);
            return Err(Blocked { service: step.service.clone(), problem });
        }
    }
    Ok(())
}

/// Moves the steps whose places are free; returns the others.
fn take_ready(
    steps: Vec<Step>,
    owners: &mut HashMap<ServicePlace, String>,
    ordered: &mut Vec<Step>,
) -> Vec<Step> {
    let mut waiting = Vec::new();
    for step in steps {
        if step.takes.iter().any(|place| owners.contains_key(place)) {
            waiting.push(step);
            continue;
        }
        step.frees.iter().for_each(|place| {
            owners.remove(place);
        });
        ordered.push(step);
    }
    waiting
}
