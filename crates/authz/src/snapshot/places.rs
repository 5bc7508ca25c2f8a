//! Which service has which place: a host and a path prefix.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use equivalent::Equivalent;
use imbl::HashMap;

use crate::policy::Service;
use crate::service::ServiceUid;
use crate::target::{is_path_prefix, prefixes_of};

/// The services that declare one place.
///
/// INVARIANT: never empty, and the oldest comes first, which gets it: uids are in the order of creation.
#[derive(Debug)]
struct Claim {
    host: Arc<str>,
    prefix: Arc<str>,
    services: Box<[Arc<Service>]>,
}

/// A claim that is found by its place. One pointer, because the nodes of a map have more slots than claims.
#[derive(Debug, Clone)]
struct ByPlace(Arc<Claim>);

/// A place as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place<'a> {
    host: &'a str,
    prefix: &'a str,
}

impl ByPlace {
    fn place(&self) -> Place<'_> {
        Place { host: &self.0.host, prefix: &self.0.prefix }
    }
}

impl PartialEq for ByPlace {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for ByPlace {}

impl Hash for ByPlace {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place().hash(state);
    }
}

impl Equivalent<ByPlace> for Place<'_> {
    fn equivalent(&self, key: &ByPlace) -> bool {
        *self == key.place()
    }
}

/// All places that services declare.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    claims: HashMap<ByPlace, ()>,
    /// INVARIANT: those of the claims that are several services'.
    contested: HashMap<ByPlace, ()>,
}

impl Places {
    pub(super) fn insert(&mut self, service: &Arc<Service>) {
        for (host, prefix) in declared(service) {
            let mut services = self.others(host, prefix, service.uid());
            let older = services.partition_point(|other| other.uid() < service.uid());
            services.insert(older, Arc::clone(service));
            self.put(host, prefix, services);
        }
    }

    pub(super) fn remove(&mut self, service: &Service) {
        for (host, prefix) in declared(service) {
            let others = self.others(host, prefix, service.uid());
            self.put(host, prefix, others);
        }
    }

    /// The service that has the longest prefix of a path.
    pub(super) fn find(&self, host: &str, path: &str) -> Option<&Arc<Service>> {
        let claims = prefixes_of(path).find_map(|prefix| self.claims.get_key_value(&Place { host, prefix }));
        claims.map(|(claim, ())| &claim.0.services[0])
    }

    /// Host, path prefix, and the service that does not get the place.
    pub(super) fn contested(&self) -> impl Iterator<Item = (&str, &str, &ServiceUid)> {
        self.contested.keys().flat_map(|claim| {
            let Place { host, prefix } = claim.place();
            claim.0.services[1..].iter().map(move |loser| (host, prefix, loser.uid()))
        })
    }

    fn others(&self, host: &str, prefix: &str, uid: &ServiceUid) -> Vec<Arc<Service>> {
        let claim = self.claims.get_key_value(&Place { host, prefix });
        let services = claim.into_iter().flat_map(|(claim, ())| claim.0.services.iter());
        services.filter(|other| other.uid() != uid).cloned().collect()
    }

    fn put(&mut self, host: &Arc<str>, prefix: &Arc<str>, services: Vec<Arc<Service>>) {
        let place = Place { host, prefix };
        // Or the claim that was there would stay: it is equal to the new one.
        self.claims.remove(&place);
        self.contested.remove(&place);
        if services.is_empty() {
            return;
        }
        let is_contested = services.len() > 1;
        let (host, prefix) = (Arc::clone(host), Arc::clone(prefix));
        let claim = ByPlace(Arc::new(Claim { host, prefix, services: services.into() }));
        if is_contested {
            self.contested.insert(claim.clone(), ());
        }
        self.claims.insert(claim, ());
    }
}

/// The hosts and path prefixes that a service declares.
fn declared(service: &Service) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
    service.hosts().iter().flat_map(|host| {
        let prefixes = service.path_prefixes().iter().filter(|prefix| is_path_prefix(prefix));
        prefixes.map(move |prefix| (host, prefix))
    })
}
