//! Which gateway routes a request may meet, by its host. A request is looked for under one name only, so each name has every
//! route that its requests may meet, in the order of all. Both data planes go by it.

use super::{GatewayRoute, HostMatch};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Header by which a gateway of Envoys tells itself the service when Host stays as it came (appmesh "Virtual gateway and
/// gateway routes"). Nobody outside may send it, and no service sees it.
pub const SERVICE_HEADER: &str = "x-app-mesh-virtual-service";
/// Header by which it tells itself the port of a service that has several; ours, since App Mesh's is not known.
pub const PORT_HEADER: &str = "x-app-mesh-virtual-service-port";

/// Names of hosts on a gateway's listener, and the routes that their requests may meet.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayHost<'r> {
    /// Names it for people.
    pub label: String,
    /// In lower case and Envoy's form (its `VirtualHost.domains`), port included where one was said: a name; `*` and the end
    /// of one, or the start of one and `*`, either with something in the place of the star; or `*` for whatever fits no
    /// other. No two hosts of a listener have the same.
    pub domains: Vec<String>,
    /// In match order; none is for another listener, and none matches nothing.
    pub routes: Vec<&'r Arc<GatewayRoute>>,
}

/// The hosts of a gateway's listener: one for each name that some route asks for, and one for the rest.
#[must_use]
pub fn gateway_hosts(routes: &[Arc<GatewayRoute>], listener_port: u16) -> Vec<GatewayHost<'_>> {
    let is_here = |route: &&Arc<GatewayRoute>| {
        !route.matches.is_never() && route.matches.port.is_none_or(|port| port == listener_port)
    };
    let here: Vec<&Arc<GatewayRoute>> = routes.iter().filter(is_here).collect();
    let names: BTreeSet<Option<&HostMatch>> =
        here.iter().map(|route| route.host.as_ref()).chain(std::iter::once(None)).collect();
    let mut hosts = Vec::new();
    // Envoy refuses all where two hosts have one domain: names that differ by case, or by the port that is meant anyway.
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for name in names {
        let (label, domains) = match name {
            None => ("self_redirect".to_owned(), vec!["*".to_owned()]),
            Some(HostMatch::Exact(name)) => {
                let name = name.to_lowercase();
                (format!("self_redirect_{name}"), vec![name.clone(), format!("{name}:{listener_port}")])
            }
            Some(HostMatch::Suffix(suffix)) => {
                let suffix = suffix.to_lowercase();
                let domains = vec![format!("*{suffix}"), format!("*{suffix}:{listener_port}")];
                (format!("self_redirect_*{suffix}"), domains)
            }
        };
        let domains: Vec<String> = domains.into_iter().filter(|domain| taken.insert(domain.clone())).collect();
        if domains.is_empty() {
            continue;
        }
        let routes = here.iter().filter(|route| meets(route.host.as_ref(), name)).copied().collect();
        hosts.push(GatewayHost { label, domains, routes });
    }
    hosts
}

/// Whether a request whose host is described by `name` can fulfil a route's condition.
fn meets(condition: Option<&HostMatch>, name: Option<&HostMatch>) -> bool {
    match (condition, name) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(HostMatch::Exact(wanted)), Some(HostMatch::Exact(name))) => wanted.eq_ignore_ascii_case(name),
        (Some(HostMatch::Exact(_)), Some(HostMatch::Suffix(_))) => false,
        (Some(HostMatch::Suffix(wanted)), Some(HostMatch::Exact(name) | HostMatch::Suffix(name))) => {
            name.to_lowercase().ends_with(&wanted.to_lowercase())
        }
    }
}
