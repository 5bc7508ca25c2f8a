//! Which service has which place: a host and a path prefix.

use std::sync::Arc;

use super::index::{Index, Key, Keyed};
use crate::policy::Service;
use crate::service::ServiceUid;
use crate::target::prefixes_of;

/// A service, and which of the places that it declares.
#[derive(Debug, Clone)]
struct Claim {
    service: Arc<Service>,
    /// INVARIANT: less than the number of its places.
    number: usize,
}

impl Keyed for Claim {
    fn key(&self) -> Key<'_> {
        self.service.place(self.number).unwrap_or_default()
    }
}

impl Keyed for Arc<[Claim]> {
    fn key(&self) -> Key<'_> {
        self[0].key()
    }
}

/// All places that services declare.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// Who gets each place: the oldest service that declares it.
    granted: Index<Claim>,
    /// INVARIANT: the places that several services declare, with all their claims. The oldest comes first: uids are in the
    /// order of creation.
    contested: Index<Arc<[Claim]>>,
}

impl Places {
    pub(super) fn insert(&mut self, service: &Arc<Service>) {
        for (number, place) in declared(service) {
            let mut claims = self.others(place, service.uid());
            let older = claims.partition_point(|other| other.service.uid() < service.uid());
            claims.insert(older, Claim { service: Arc::clone(service), number });
            self.put(place, claims);
        }
    }

    pub(super) fn remove(&mut self, service: &Service) {
        for (_, place) in declared(service) {
            let others = self.others(place, service.uid());
            self.put(place, others);
        }
    }

    /// The service that has the longest prefix of a path.
    pub(super) fn find(&self, host: &str, path: &str) -> Option<&Arc<Service>> {
        let claim = prefixes_of(path).find_map(|prefix| self.granted.get((host, prefix)));
        claim.map(|claim| &claim.service)
    }

    /// Host, path prefix, and the service that does not get the place.
    pub(super) fn contested(&self) -> impl Iterator<Item = (&str, &str, &ServiceUid)> {
        self.contested.iter().flat_map(|claims| {
            let (host, prefix) = claims.key();
            claims[1..].iter().map(move |loser| (host, prefix, loser.service.uid()))
        })
    }

    fn others(&self, place: Key<'_>, uid: &ServiceUid) -> Vec<Claim> {
        let contested = self.contested.get(place).map(Arc::as_ref);
        let granted = || self.granted.get(place).map(std::slice::from_ref);
        let claims = contested.or_else(granted).unwrap_or_default();
        claims.iter().filter(|other| other.service.uid() != uid).cloned().collect()
    }

    fn put(&mut self, place: Key<'_>, claims: Vec<Claim>) {
        self.granted.remove(place);
        self.contested.remove(place);
        if let Some(first) = claims.first() {
            self.granted.insert(first.clone());
        }
        if claims.len() > 1 {
            self.contested.insert(claims.into());
        }
    }
}

/// The places that a service declares, with their numbers.
fn declared(service: &Service) -> impl Iterator<Item = (usize, Key<'_>)> {
    (0..).map_while(|number| Some((number, service.place(number)?)))
}
