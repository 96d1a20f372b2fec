//! A virtual gateway: which of its routes a request meets, and what becomes of the request's path. Pure.
//!
//! Envoy does this with two hops through itself: the gateway's listener rewrites a request and sends it to an egress listener,
//! which looks for the service (`xds::translate::gateway`). Here both are one step, with the same result.

use super::route::{RequestView, matches};
use crate::mesh::snapshot::{GatewayRoute, NodeConfig, PathMatch, PathRewrite, gateway_hosts};
use http::HeaderValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A gateway route with what it leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Entrance {
    /// The route.
    pub route: Arc<GatewayRoute>,
    /// Name of the service, in lower case.
    pub service: String,
    /// The same as a Host; `None` for a name that no header may have, which no service has.
    pub host: Option<HeaderValue>,
    /// Port of the service that is called; `None` where it has none, or several and the route says none of them.
    pub port: Option<u16>,
}

/// The hosts of one listener. Looked up as Envoy looks up its virtual hosts (its `VirtualHost.domains`): a whole name, else the
/// longest end, else the longest start, else whatever is for any.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hosts {
    whole: BTreeMap<String, usize>,
    /// Longest first.
    ends: Vec<(String, usize)>,
    /// Longest first.
    starts: Vec<(String, usize)>,
    any: usize,
    hosts: Vec<Vec<Entrance>>,
}

/// The hosts of all gateways' listeners by their port; empty for what is no gateway.
#[must_use]
pub fn listeners(config: &NodeConfig) -> BTreeMap<u16, Hosts> {
    let mut all = BTreeMap::new();
    for (own, routes) in config.all_gateways() {
        all.extend(own.listeners.iter().map(|listener| (listener.port, Hosts::new(config, routes, listener.port))));
    }
    all
}

impl Hosts {
    fn new(config: &NodeConfig, routes: &[Arc<GatewayRoute>], listener_port: u16) -> Self {
        let mut all = Self::default();
        for (number, host) in gateway_hosts(routes, listener_port).into_iter().enumerate() {
            for domain in host.domains {
                match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
                    (Some(""), _) => all.any = number,
                    (Some(end), _) => all.ends.push((end.to_owned(), number)),
                    (None, Some(start)) => all.starts.push((start.to_owned(), number)),
                    (None, None) => drop(all.whole.insert(domain, number)),
                }
            }
            all.hosts.push(host.routes.into_iter().map(|route| entrance(config, route)).collect());
        }
        for list in [&mut all.ends, &mut all.starts] {
            list.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        }
        all
    }

    /// The first route that a request meets.
    #[must_use]
    pub fn first_match(&self, request: &RequestView<'_>) -> Option<&Entrance> {
        let routes = self.hosts.get(self.host(request.authority))?;
        routes.iter().find(|entrance| matches(&entrance.route.matches, request))
    }

    fn host(&self, authority: &str) -> usize {
        // Most gateways ask for no host.
        if self.hosts.len() < 2 {
            return self.any;
        }
        let host = if authority.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(authority.to_ascii_lowercase())
        } else {
            Cow::Borrowed(authority)
        };
        // Something has to stand in the place of a star.
        let longer = |text: &str| host.len() > text.len();
        let whole = self.whole.get(&*host).copied();
        let by_end = || self.ends.iter().find(|(end, _)| longer(end) && host.ends_with(end.as_str()));
        let by_start = || self.starts.iter().find(|(start, _)| longer(start) && host.starts_with(start.as_str()));
        whole.or_else(|| by_end().or_else(by_start).map(|(_, number)| *number)).unwrap_or(self.any)
    }
}

fn entrance(config: &NodeConfig, route: &Arc<GatewayRoute>) -> Entrance {
    let target = &route.target;
    let ports = config.services.get(&target.service).map_or(&[][..], |service| &service.ports);
    let port = match ports {
        [] => None,
        [only] => Some(only.port),
        _ => target.port,
    };
    let host = HeaderValue::from_bytes(target.service.as_bytes()).ok();
    Entrance { route: Arc::clone(route), service: target.service.clone(), host, port }
}

/// What a route makes of a path that it matches, query apart; `None` where it stays as it is. Where a prefix without a slash at
/// its end is replaced, one slash goes with it: `/p` and `/p/x` become `/` and `/x`.
#[must_use]
pub fn rewritten(route: &GatewayRoute, path: &str) -> Option<String> {
    match (&route.path, &route.matches.path) {
        (PathRewrite::Prefix(to), PathMatch::Prefix(from)) if from != to => {
            let rest = path.get(from.len()..).unwrap_or_default();
            match rest.strip_prefix('/') {
                Some(below) if !from.ends_with('/') => Some(format!("{}/{below}", to.strip_suffix('/').unwrap_or(to))),
                _ => Some(format!("{to}{rest}")),
            }
        }
        (PathRewrite::Whole(to), _) => Some(to.clone()),
        (PathRewrite::Keep | PathRewrite::Prefix(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Millis;
    use crate::mesh::snapshot::{
        GatewayTarget, HostMatch, IpPreference, Listener, Own, Pattern, Protocol, Role, RouteMatch, ServicePort,
        VirtualService,
    };
    use http::HeaderMap;

    fn route(name: &str, host: Option<HostMatch>, prefix: &str) -> GatewayRoute {
        GatewayRoute {
            name: name.into(),
            version: 1,
            protocol: Protocol::Http,
            host,
            matches: RouteMatch { path: PathMatch::Prefix(prefix.into()), ..RouteMatch::default() },
            target: GatewayTarget { service: "one.local".into(), port: Some(8082) },
            rewrite_host: true,
            path: PathRewrite::Prefix("/".into()),
            request_timeout: Some(Millis(15_000)),
        }
    }

    fn config(routes: Vec<GatewayRoute>, ports: &[u16]) -> NodeConfig {
        let listener = |port| Listener {
            port,
            protocol: Protocol::Http,
            request_timeout: None,
            idle_timeout: None,
            pool: None,
            tls: None,
        };
        let own = Own {
            mesh: "m".into(),
            name: "front".into(),
            role: Role::Gateway(routes.into_iter().map(Arc::new).collect()),
            listeners: vec![listener(80), listener(81)],
            allow_all: false,
            access_log: None,
            ip_preference: IpPreference::Unset,
        };
        let ports = ports.iter().map(|port| ServicePort { port: *port, protocol: Protocol::Http }).collect();
        let one = VirtualService { mesh: "m".into(), name: "One.local".into(), ports, routes: Vec::new() };
        let services = BTreeMap::from([("one.local".to_owned(), Arc::new(one))]);
        NodeConfig { services, own: Some(Arc::new(own)), ..NodeConfig::default() }
    }

    fn met<'h>(hosts: &'h BTreeMap<u16, Hosts>, port: u16, authority: &str, path: &str) -> Option<&'h str> {
        let headers = HeaderMap::new();
        let (query, scheme) = (None, None);
        let request =
            RequestView { method: "GET", path, query, authority, scheme, headers: &headers, port: Some(port) };
        Some(&hosts[&port].first_match(&request)?.route.name)
    }

    #[test]
    fn a_host_is_looked_up_as_envoy_looks_it_up() {
        let exact = |name: &str| Some(HostMatch::Exact(name.into()));
        let suffix = |name: &str| Some(HostMatch::Suffix(name.into()));
        let only_81 = |mut route: GatewayRoute| {
            route.matches.port = Some(81);
            route
        };
        let hosts = listeners(&config(
            vec![
                only_81(route("other port", None, "/")),
                route("exact", exact("Shop.example.com"), "/"),
                route("long", suffix(".a.example.org"), "/long"),
                route("short", suffix(".example.org"), "/"),
                route("star", exact("x.*"), "/"),
                route("any", None, "/any"),
            ],
            &[],
        ));
        for (port, authority, path, name) in [
            (80, "shop.example.com", "/", Some("exact")),
            (80, "SHOP.example.com:80", "/", Some("exact")),
            (80, "shop.example.com:81", "/", None),
            (80, "shop.example.com:81", "/any", Some("any")),
            (80, "b.a.example.org", "/long", Some("long")),
            (80, "b.a.example.org:80", "/", Some("short")),
            (80, "b.example.org", "/long", Some("short")),
            (80, ".example.org", "/", None),
            (80, "x.example.net", "/", Some("star")),
            (80, "x.", "/", None),
            (80, "", "/any/thing", Some("any")),
            (81, "shop.example.com", "/", Some("other port")),
            (81, "", "/", Some("other port")),
        ] {
            assert_eq!(met(&hosts, port, authority, path), name, "{authority} {path} on {port}");
        }
    }

    #[test]
    fn the_port_of_a_target_is_the_only_one_or_the_one_that_is_said() {
        for (ports, port) in [(&[][..], None), (&[8081], Some(8081)), (&[8081, 8082], Some(8082))] {
            let config = config(vec![route("r", None, "/")], ports);
            assert_eq!(listeners(&config)[&80].hosts[0][0].port, port, "{ports:?}");
        }
    }

    #[test]
    fn what_matched_is_replaced_and_the_rest_stays() {
        let with = |matches: PathMatch, path: PathRewrite| {
            let mut route = route("r", None, "/");
            (route.matches.path, route.path) = (matches, path);
            route
        };
        let prefix = |from: &str, to: &str| with(PathMatch::Prefix(from.into()), PathRewrite::Prefix(to.into()));
        let regex = PathMatch::Regex(Pattern::new("/[a-z]+").unwrap());
        let whole = || PathRewrite::Whole("/w".into());
        for (route, path, becomes) in [
            (prefix("/p", "/"), "/p", Some("/")),
            (prefix("/p", "/"), "/p/", Some("/")),
            (prefix("/p", "/"), "/p/x", Some("/x")),
            (prefix("/p", "/"), "/px", Some("/x")),
            (prefix("/p/", "/"), "/p/x", Some("/x")),
            (prefix("/p/", "/red/"), "/p/x", Some("/red/x")),
            (prefix("/", "/"), "/x", None),
            (with(PathMatch::Prefix("/p".into()), PathRewrite::Keep), "/p/x", None),
            (with(PathMatch::Exact("/e".into()), whole()), "/e", Some("/w")),
            (with(regex, whole()), "/abc", Some("/w")),
        ] {
            assert_eq!(rewritten(&route, path).as_deref(), becomes, "{route:?} {path}");
        }
    }
}
