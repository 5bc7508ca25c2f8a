//! Which service has which place: a host and a path prefix.

use std::sync::Arc;

use super::index::{Index, Key, Keyed};
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

impl Keyed for Arc<Claim> {
    fn key(&self) -> Key<'_> {
        (&self.host, &self.prefix)
    }
}

/// All places that services declare.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    claims: Index<Arc<Claim>>,
    /// INVARIANT: those of the claims that are several services'.
    contested: Index<Arc<Claim>>,
}

impl Places {
    pub(super) fn insert(&mut self, service: &Arc<Service>) {
        for (host, prefix) in declared(service) {
            let mut services = self.others((host, prefix), service.uid());
            let older = services.partition_point(|other| other.uid() < service.uid());
            services.insert(older, Arc::clone(service));
            self.put(host, prefix, services);
        }
    }

    pub(super) fn remove(&mut self, service: &Service) {
        for (host, prefix) in declared(service) {
            let others = self.others((host, prefix), service.uid());
            self.put(host, prefix, others);
        }
    }

    /// The service that has the longest prefix of a path.
    pub(super) fn find(&self, host: &str, path: &str) -> Option<&Arc<Service>> {
        let claim = prefixes_of(path).find_map(|prefix| self.claims.get((host, prefix)));
        claim.map(|claim| &claim.services[0])
    }

    /// Host, path prefix, and the service that does not get the place.
    pub(super) fn contested(&self) -> impl Iterator<Item = (&str, &str, &ServiceUid)> {
        self.contested.iter().flat_map(|claim| {
            let (host, prefix) = claim.key();
            claim.services[1..].iter().map(move |loser| (host, prefix, loser.uid()))
        })
    }

    fn others(&self, place: Key<'_>, uid: &ServiceUid) -> Vec<Arc<Service>> {
        let services = self.claims.get(place).into_iter().flat_map(|claim| claim.services.iter());
        services.filter(|other| other.uid() != uid).cloned().collect()
    }

    fn put(&mut self, host: &Arc<str>, prefix: &Arc<str>, services: Vec<Arc<Service>>) {
        self.claims.remove((host, prefix));
        self.contested.remove((host, prefix));
        if services.is_empty() {
            return;
        }
        let is_contested = services.len() > 1;
        let (host, prefix) = (Arc::clone(host), Arc::clone(prefix));
        let claim = Arc::new(Claim { host, prefix, services: services.into() });
        if is_contested {
            self.contested.insert(Arc::clone(&claim));
        }
        self.claims.insert(claim);
    }
}

/// The hosts and path prefixes that a service declares.
fn declared(service: &Service) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
    service.hosts().iter().flat_map(|host| {
        let prefixes = service.path_prefixes().iter().filter(|prefix| is_path_prefix(prefix));
        prefixes.map(move |prefix| (host, prefix))
    })
}
