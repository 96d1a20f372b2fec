//! Virtual gateways: which requests from outside go to which virtual service.

use super::{Compiler, keep, matching, own, tls_of, version};
use crate::base::time::Millis;
use crate::mesh::model::spec::{
    GatewayAction, GatewayRewrite, GatewayRouteSpec, HostnameMatch, HttpMatch, PortMapping, Switch,
};
use crate::mesh::model::{Key, Kind, Resource};
use crate::mesh::snapshot::{
    GatewayRoute, GatewayTarget, HostMatch, Own, PathRewrite, Protocol, Role, RouteMatch, VirtualService,
};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Compiler<'_> {
    /// A virtual gateway: the services that its routes lead to, and itself.
    pub(super) fn gateway(&mut self, mesh: &str, key: &Key) -> Option<Own> {
        let mesh_spec = self.look(Key::mesh(mesh))?;
        let resource = self.look(key.clone())?;
        let spec = resource.spec.virtual_gateway()?;
        self.policy = spec.backend_defaults.as_ref().and_then(|defaults| tls_of(defaults.client_policy.as_ref()));
        let mut found: Vec<(&Resource, &GatewayRouteSpec)> = self
            .state
            .children(mesh, Kind::GatewayRoute, &key.name)
            .filter_map(|route| Some((&**route, route.spec.gateway_route()?)))
            .collect();
        found.sort_by_cached_key(|(route, spec)| matching::gateway_order(&route.key.name, spec));
        let ports: Vec<PortMapping> = spec.listeners.iter().map(|listener| listener.port_mapping).collect();
        let last = self.last.own.as_ref().and_then(|own| match &own.role {
            Role::Gateway(routes) => Some(routes),
            Role::Node => None,
        });
        let last: BTreeMap<&str, &Arc<GatewayRoute>> =
            last.into_iter().flatten().map(|route| (route.name.as_str(), route)).collect();
        let mut routes = Vec::new();
        for (resource, spec) in found {
            if let Some(route) = self.gateway_route(resource, spec, &ports) {
                routes.push(keep(last.get(route.name.as_str()).copied(), route));
            }
        }
        Some(own::gateway(mesh_spec, &key.name, spec, routes))
    }

    fn gateway_route(
        &mut self,
        resource: &Resource,
        spec: &GatewayRouteSpec,
        ports: &[PortMapping],
    ) -> Option<GatewayRoute> {
        let http = spec.http_route.as_ref().or(spec.http2_route.as_ref());
        let (host, conditions, action) = match (http, &spec.grpc_route) {
            (Some(route), _) => (&route.matches.hostname, matching::http(&route.matches.http), &route.action),
            (None, Some(route)) => (&route.matches.hostname, matching::grpc(&route.matches.grpc), &route.action),
            (None, None) => return None,
        };
        let mut matches = conditions.unwrap_or_else(|reason| {
            self.problem(&resource.key, format!("matches nothing: {reason}"));
            RouteMatch::never()
        });
        // The only listener is always the one that the request came in on.
        if ports.len() > 1 {
            matches.port = spec.match_port();
        }
        let name = &action.target.virtual_service.virtual_service_name;
        let service = self.look(Key::child(&*resource.key.mesh, Kind::VirtualService, &**name))?;
        self.add_service(service);
        let service = self.services.get(&name.to_lowercase()).cloned()?;
        let protocol = match spec.member() {
            "httpRoute" => Protocol::Http,
            "http2Route" => Protocol::Http2,
            _ => Protocol::Grpc,
        };
        Some(GatewayRoute {
            name: resource.key.name.clone(),
            version: version(resource),
            protocol,
            host: host.as_ref().and_then(host_match),
            path: http.map_or(PathRewrite::Keep, |route| path_rewrite(&route.matches.http, action.rewrite.as_ref())),
            rewrite_host: rewrites_host(action),
            request_timeout: longest_timeout(&service),
            target: GatewayTarget { service: name.to_lowercase(), port: action.target.port },
            matches,
        })
    }
}

fn host_match(host: &HostnameMatch) -> Option<HostMatch> {
    let exact = host.exact.clone().map(HostMatch::Exact);
    exact.or_else(|| host.suffix.clone().map(HostMatch::Suffix))
}

fn rewrites_host(action: &GatewayAction) -> bool {
    let hostname = action.rewrite.as_ref().and_then(|rewrite| rewrite.hostname);
    hostname.and_then(|hostname| hostname.default_target_hostname) != Some(Switch::Disabled)
}

/// A matched prefix becomes `/` unless told otherwise; a path stays unless told otherwise (appmesh "Virtual gateway and
/// gateway routes").
fn path_rewrite(matches: &HttpMatch, rewrite: Option<&GatewayRewrite>) -> PathRewrite {
    let path = rewrite.and_then(|rewrite| rewrite.path.as_ref()).and_then(|path| path.exact.clone());
    if let Some(path) = path {
        return PathRewrite::Whole(path);
    }
    if matches.prefix.is_none() {
        return PathRewrite::Keep;
    }
    match rewrite.and_then(|rewrite| rewrite.prefix.as_ref()) {
        Some(prefix) if prefix.default_prefix == Some(Switch::Disabled) => PathRewrite::Keep,
        Some(prefix) => PathRewrite::Prefix(prefix.value.clone().unwrap_or_else(|| "/".into())),
        None => PathRewrite::Prefix("/".into()),
    }
}

/// The longest of the target's routes; a route without a limit lifts it.
fn longest_timeout(service: &VirtualService) -> Option<Millis> {
    let mut longest = None;
    for route in &service.routes {
        longest = longest.max(Some(route.request_timeout?));
    }
    longest.or(Some(super::REQUEST_TIMEOUT))
}
