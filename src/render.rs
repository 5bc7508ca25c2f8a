//! Routes to models, and the policies that let nobody pass unasked, as the proxies in front of gates read them.
//!
//! What it writes is what is committed in envoy/ and k8s/overlays, for other services.

mod hosts;
mod template;

use std::net::IpAddr;

use scoregate_authz::{ComputeType, PortRule, ServiceName, canonical_host};
use serde_json::json;

use self::hosts::{Host, Route, Way, hosts_of, routes_of};
use self::template::Template;
use crate::policy_file::{DeclaredService, ServicePlaces};

/// Why nothing is written: what would be would not be what is meant, or leave a model open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Routes to nothing.
    #[error("there is no service to write routes for")]
    NoService,
    /// A gate could not find them by host and path.
    #[error(
        "Istio does not tell the gate which service a route is for, so that the gate has to find it by its host: {} no host \
         (`scoregate service update NAME --host HOST`, or `hosts` in a policy file)",
        have(.0)
    )]
    WithoutHost(Vec<ServiceName>),
    /// A request there could be for either.
    #[error("`{one}` and `{other}` are both at `{place}`: their callers could not be told apart")]
    SamePlace {
        /// Which was there first.
        one: ServiceName,
        /// Which came after it.
        other: ServiceName,
        /// Host, or `*` for any, and path prefix.
        place: String,
    },
    /// A host that no route can have.
    #[error("`{service}` has the host `{host}`, which Kubernetes takes for no host name")]
    Host {
        /// Whose.
        service: ServiceName,
        /// Which.
        host: String,
    },
    /// Several services, or none, where there is one.
    #[error("a container group is one service, and there are {0}: name the one that is meant")]
    NotOne(usize),
    /// A service of AKS where one of ACI is meant.
    #[error("`{0}` is not a service of ACI")]
    NotAci(ServiceName),
    /// An Envoy that would not start with it, or leave out what it does not know.
    #[error("Envoy {found} is too old: {needs} needs {minimum} or later")]
    Envoy {
        /// The one that is to read it.
        found: EnvoyVersion,
        /// The oldest that can.
        minimum: EnvoyVersion,
        /// What for.
        needs: &'static str,
    },
}

fn have(services: &[ServiceName]) -> String {
    let names: Vec<_> = services.iter().map(|name| format!("`{name}`")).collect();
    format!("{} {}", names.join(", "), if names.len() == 1 { "has" } else { "have" })
}

/// A version of Envoy: major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvoyVersion(u32, u32, u32);

impl std::fmt::Display for EnvoyVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Without a patch, the first one is meant.
impl std::str::FromStr for EnvoyVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<u32>, _> = text.split('.').map(str::parse).collect();
        match numbers.as_deref() {
            Ok([major, minor]) => Ok(Self(*major, *minor, 0)),
            Ok([major, minor, patch]) => Ok(Self(*major, *minor, *patch)),
            _ => Err("a version of Envoy is such as `1.40` or `1.38.1`".to_owned()),
        }
    }
}

/// What an Envoy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EnvoyForm {
    /// One model server beside it.
    Sidecar,
    /// The same, and nobody is refused.
    Shadow,
    /// The ingress of a cluster: TLS, and each model behind a Service of its own.
    AksIngress,
    /// One service in a container group.
    Aci,
}

impl EnvoyForm {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Shadow => "shadow",
            Self::AksIngress => "aks-ingress",
            Self::Aci => "aci",
        }
    }

    /// The oldest Envoy that starts with it, and the setting that makes it so.
    fn minimum(self) -> (EnvoyVersion, &'static str) {
        match self {
            Self::Shadow => (EnvoyVersion(1, 38, 1), "`shadow_mode`"),
            Self::Sidecar | Self::AksIngress | Self::Aci => {
                (EnvoyVersion(1, 36, 0), "what envoy/ was tried with")
            }
        }
    }
}

/// The Services of the models: each has the name of its scoregate service.
#[derive(Debug, Clone)]
pub(crate) struct ModelServices {
    pub(crate) namespace: String,
    pub(crate) port: u16,
}

impl ModelServices {
    fn host(&self, service: &str) -> String {
        format!("{service}.{}.svc.cluster.local", self.namespace)
    }
}

/// An address of a model server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelAddress {
    host: String,
    port: u16,
}

impl std::str::FromStr for ModelAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let of = |(host, port): (&str, &str)| Some(Self { host: host.to_owned(), port: port.parse().ok()? });
        let is_host = |host: &str| is_kubernetes_host(host) || host.parse::<IpAddr>().is_ok();
        let address =
            text.rsplit_once(':').and_then(of).filter(|address| address.port > 0 && is_host(&address.host));
        address.ok_or_else(|| "an address is `host:port`".to_owned())
    }
}

/// What the objects for a cluster are called, and where they are.
#[derive(Debug, Clone)]
pub(crate) struct ClusterNames {
    /// Namespace of the routes.
    pub(crate) namespace: String,
    /// The Gateway that takes callers' requests.
    pub(crate) gateway: String,
    pub(crate) models: ModelServices,
}

/// The proxy that Istio's policy is for.
#[derive(Debug, Clone)]
pub(crate) struct IstioProxy {
    /// Label of the gateway's pods.
    pub(crate) selector: (String, String),
    /// Their namespace.
    pub(crate) namespace: String,
    /// Name of the extension provider in the mesh's configuration.
    pub(crate) provider: String,
}

/// A complete configuration of Envoy.
///
/// # Errors
/// See [`RenderError`].
pub(crate) fn envoy(
    services: &[DeclaredService],
    form: EnvoyForm,
    version: Option<EnvoyVersion>,
    model: &ModelAddress,
    models: &ModelServices,
) -> Result<String, RenderError> {
    let (minimum, needs) = form.minimum();
    if let Some(found) = version.filter(|found| *found < minimum) {
        return Err(RenderError::Envoy { found, minimum, needs });
    }
    let services = match form {
        EnvoyForm::Aci => vec![of_a_container_group(services)?],
        EnvoyForm::Sidecar | EnvoyForm::Shadow | EnvoyForm::AksIngress => services.to_vec(),
    };
    let by_itself = form == EnvoyForm::AksIngress;
    let cluster = |service: &str| if by_itself { format!("model-{service}") } else { "model".to_owned() };
    let clusters: Vec<_> = if by_itself {
        let of_service = |service: &DeclaredService| {
            let name = service.name.as_str();
            json!({ "name": cluster(name), "type": "STRICT_DNS", "host": models.host(name), "port": models.port })
        };
        services.iter().map(of_service).collect()
    } else {
        let kind = if model.host.parse::<IpAddr>().is_ok() { "STATIC" } else { "STRICT_DNS" };
        vec![json!({ "name": "model", "type": kind, "host": model.host, "port": model.port })]
    };
    let route = |route: &Route<'_>| {
        let (matched, path) = match route.way {
            Way::Cut => ("prefix", route.below()),
            Way::Root => ("prefix", "/".to_owned()),
            Way::AsItIs => ("path_separated_prefix", route.path.to_owned()),
        };
        let (service, is_cut) = (route.service.as_str(), route.way == Way::Cut);
        json!({ "match": matched, "path": path, "service": service, "cluster": cluster(service), "is_cut": is_cut })
    };
    let host = |host: &Host<'_>| {
        let routes: Vec<_> = host.routes.iter().map(route).collect();
        let name = host.name.unwrap_or(if routes.is_empty() { "unknown" } else { "models" });
        json!({ "name": name, "domain": host.name.unwrap_or("*"), "routes": routes, "has_root": host.has_root() })
    };
    let hosts = hosts_of(&services)?.iter().map(host).collect::<Vec<_>>();
    let is_edge = matches!(form, EnvoyForm::AksIngress | EnvoyForm::Aci);
    let context = json!({ "form": form.as_str(), "is_edge": is_edge, "hosts": hosts, "clusters": clusters });
    Ok(Template::Envoy.render(&context))
}

/// The one service, at any host that leads to its group.
fn of_a_container_group(services: &[DeclaredService]) -> Result<DeclaredService, RenderError> {
    let [service] = services else { return Err(RenderError::NotOne(services.len())) };
    if service.compute_type != ComputeType::Aci {
        return Err(RenderError::NotAci(service.name.clone()));
    }
    let places = ServicePlaces { hosts: Vec::new(), path_prefixes: vec!["/score".to_owned()] };
    Ok(DeclaredService { places, ..service.clone() })
}

/// VirtualServices, and an AuthorizationPolicy for all that passes the gateway.
///
/// # Errors
/// See [`RenderError`].
pub(crate) fn istio(
    services: &[DeclaredService],
    names: &ClusterNames,
    proxy: &IstioProxy,
) -> Result<String, RenderError> {
    let without: Vec<_> = services.iter().filter(|service| service.places.hosts.is_empty()).collect();
    if !without.is_empty() {
        return Err(RenderError::WithoutHost(
            without.into_iter().map(|service| service.name.clone()).collect(),
        ));
    }
    check_kubernetes_hosts(services)?;
    let route = |route: &Route<'_>| {
        json!({
            "service": route.service.as_str(),
            // The gate has not been told of the route, and has to come to the same service by itself. `prefix: /score` would also
            // match `/scored`, and without `exact` the prefix by itself would be left to a service above it.
            "exact": (route.way != Way::Root).then_some(route.path),
            "below": route.below(),
            "is_cut": route.way == Way::Cut,
            "host": names.models.host(route.service.as_str()),
        })
    };
    let hosts = hosts_of(services)?;
    let named = hosts.iter().filter_map(|host| Some((host.name?, &host.routes)));
    let hosts = named.map(
        |(name, routes)| json!({ "name": name, "routes": routes.iter().map(route).collect::<Vec<_>>() }),
    );
    let (label, value) = &proxy.selector;
    Ok(Template::Istio.render(&json!({
        "policy_namespace": proxy.namespace,
        "label": label,
        "value": value,
        "provider": proxy.provider,
        "namespace": names.namespace,
        "gateway": names.gateway,
        "port": names.models.port,
        "hosts": hosts.collect::<Vec<_>>(),
    })))
}

/// For each service an HTTPRoute and a SecurityPolicy.
///
/// # Errors
/// See [`RenderError`].
pub(crate) fn envoy_gateway(
    services: &[DeclaredService],
    names: &ClusterNames,
) -> Result<String, RenderError> {
    check_kubernetes_hosts(services)?;
    // Only for what it refuses: of several routes that match, the longest path is taken, whatever their order.
    hosts_of(services)?;
    let service = |service: &DeclaredService| {
        let route = |route: Route<'_>| json!({ "path": route.path, "is_cut": route.way == Way::Cut });
        let routes: Vec<_> = routes_of(service).map(route).collect();
        json!({ "name": service.name.as_str(), "hosts": service.places.hosts, "routes": routes })
    };
    Ok(Template::EnvoyGateway.render(&json!({
        "namespace": names.namespace,
        "gateway": names.gateway,
        "model_namespace": names.models.namespace,
        "port": names.models.port,
        "services": services.iter().map(service).collect::<Vec<_>>(),
    })))
}

fn check_kubernetes_hosts(services: &[DeclaredService]) -> Result<(), RenderError> {
    let all =
        services.iter().flat_map(|service| service.places.hosts.iter().map(move |host| (service, host)));
    match all.into_iter().find(|(_, host)| !is_kubernetes_host(host)) {
        Some((service, host)) => Err(RenderError::Host { service: service.name.clone(), host: host.clone() }),
        None => Ok(()),
    }
}

/// RFC 1123, section 2.1, in lower case, and no address.
fn is_kubernetes_host(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    host.bytes().all(allowed)
        && canonical_host(host, PortRule::Any).as_deref() == Some(host)
        && host.parse::<IpAddr>().is_err()
}
