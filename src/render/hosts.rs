//! Which services are at which host, in the order in which their routes have to be tried.

use std::collections::HashMap;

use scoregate_authz::ServiceName;

use super::RenderError;
use crate::policy_file::DeclaredService;

/// A host and the routes at it; the longest path first, so that it is as it is for a gate that goes by host and path.
#[derive(Debug)]
pub(super) struct Host<'a> {
    /// `None` for every host that is not named.
    pub(super) name: Option<&'a str>,
    pub(super) routes: Vec<Route<'a>>,
}

/// What is for a service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) service: &'a ServiceName,
    /// Path prefix: itself, and what is below it.
    pub(super) path: &'a str,
    pub(super) way: Way,
}

/// What a route does with the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Matches everything.
    Root,
    /// Passes the path on as it is.
    AsItIs,
    /// Takes the prefix away: it is the one that Azure ML's ingress took away, so that models answer at `/score`. The prefix by
    /// itself is no scoring path: in a configuration of Envoy, whose routes name their service, it is not of this route.
    Cut,
}

impl Host<'_> {
    pub(super) fn has_root(&self) -> bool {
        self.routes.iter().any(|route| route.way == Way::Root)
    }
}

impl Route<'_> {
    /// The prefix with a slash at its end.
    pub(super) fn below(&self) -> String {
        if self.way == Way::Root { "/".to_owned() } else { format!("{}/", self.path) }
    }
}

/// The routes of a service.
pub(super) fn routes_of(service: &DeclaredService) -> impl Iterator<Item = Route<'_>> {
    service.places.path_prefixes.iter().map(|path| {
        let way = match path.as_str() {
            "/" => Way::Root,
            path if path == format!("/api/v1/service/{}", service.name) => Way::Cut,
            _ => Way::AsItIs,
        };
        Route { service: &service.name, path, way }
    })
}

/// All hosts in the order of the services, and at the end what has no host.
///
/// # Errors
/// There is no service, or two have one place.
pub(super) fn hosts_of(services: &[DeclaredService]) -> Result<Vec<Host<'_>>, RenderError> {
    if services.is_empty() {
        return Err(RenderError::NoService);
    }
    let (mut named, mut any) = (Vec::<Host<'_>>::new(), Host { name: None, routes: Vec::new() });
    let mut places = HashMap::new();
    let mut numbers = HashMap::new();
    for service in services {
        for host in &service.places.hosts {
            let number = *numbers.entry(host.as_str()).or_insert_with(|| {
                named.push(Host { name: Some(host), routes: Vec::new() });
                named.len() - 1
            });
            named[number].routes.extend(routes_of(service));
        }
        if service.places.hosts.is_empty() {
            any.routes.extend(routes_of(service));
        }
    }
    named.push(any);
    for host in &mut named {
        for route in &host.routes {
            if let Some(other) = places.insert((host.name, route.path), route.service) {
                let place = format!("{}{}", host.name.unwrap_or("*"), route.path);
                return Err(RenderError::SamePlace {
                    one: other.clone(),
                    other: route.service.clone(),
                    place,
                });
            }
        }
        host.routes.sort_by_key(|route| std::cmp::Reverse(route.path.len()));
    }
    Ok(named)
}
