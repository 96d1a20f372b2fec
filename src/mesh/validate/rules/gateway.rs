//! Rules of virtual gateways and gateway routes.

use super::Rules;
use crate::mesh::model::spec::{GatewayRouteSpec, HostnameMatch, HttpGatewayRoute, VirtualGatewaySpec};

/// Paths that App Mesh keeps for itself (user guide, "Gateway routes").
const RESERVED_PREFIXES: [&str; 2] = ["/aws-appmesh", "/aws-app-mesh"];

/// gRPC services that App Mesh keeps for itself (user guide, "Gateway routes").
const RESERVED_SERVICES: [&str; 2] = ["aws.appmesh", "aws.app-mesh"];

impl Rules<'_> {
    pub(super) fn gateway(&mut self, gateway: &VirtualGatewaySpec) {
        self.unique_ports(gateway.listeners.iter().map(|listener| listener.port_mapping));
        for (at, listener) in gateway.listeners.iter().enumerate() {
            self.listener(listener, &format!("spec.listeners[{at}]"));
        }
    }

    pub(super) fn gateway_route(&mut self, route: &GatewayRouteSpec) {
        let given = [route.http_route.is_some(), route.http2_route.is_some(), route.grpc_route.is_some()];
        if given.into_iter().filter(|given| *given).count() != 1 {
            self.wrong("spec", "must have exactly one of httpRoute, http2Route, grpcRoute");
            return;
        }
        let path = format!("spec.{}", route.member());
        for http in [&route.http_route, &route.http2_route].into_iter().flatten() {
            self.http_gateway_route(http, &path);
        }
        if let Some(grpc) = &route.grpc_route {
            let path = format!("{path}.match");
            self.grpc_match(&grpc.matches.grpc, &path);
            self.hostname(grpc.matches.hostname.as_ref(), &path);
            let service = grpc.matches.grpc.service_name.as_deref().unwrap_or_default();
            if RESERVED_SERVICES.iter().any(|reserved| service.starts_with(reserved)) {
                self.wrong(format!("{path}.serviceName"), "is reserved for App Mesh");
            }
        }
    }

    fn http_gateway_route(&mut self, route: &HttpGatewayRoute, path: &str) {
        let matches = &route.matches.http;
        let match_path = format!("{path}.match");
        self.http_match(matches, &match_path);
        self.hostname(route.matches.hostname.as_ref(), &match_path);
        let prefix = matches.prefix.as_deref();
        if prefix.is_some_and(|prefix| RESERVED_PREFIXES.iter().any(|reserved| prefix.starts_with(reserved))) {
            self.wrong(format!("{match_path}.prefix"), "is reserved for App Mesh");
        }
        let Some(rewrite) = &route.action.rewrite else { return };
        let path = format!("{path}.action.rewrite");
        if rewrite.prefix.is_some() && rewrite.path.is_some() {
            self.wrong(&path, "must have only one of prefix and path");
        }
        if let Some(rewrite) = &rewrite.prefix {
            let path = format!("{path}.prefix");
            if prefix.is_none() {
                self.wrong(&path, "needs a match.prefix to rewrite");
            }
            match (&rewrite.default_prefix, &rewrite.value) {
                (None, Some(value)) => {
                    if !(value.starts_with('/') && value.ends_with('/')) {
                        self.wrong(format!("{path}.value"), "must start and end with /");
                    }
                    if prefix.is_some_and(|prefix| !prefix.ends_with('/')) {
                        self.wrong(format!("{match_path}.prefix"), "must end with / when it is rewritten to a value");
                    }
                }
                (Some(_), None) => {}
                _ => self.wrong(path, "must have exactly one of defaultPrefix, value"),
            }
        }
        if let Some(rewrite) = &rewrite.path {
            let path = format!("{path}.path");
            if matches.path.is_none() {
                self.wrong(&path, "needs a match.path to rewrite");
            }
            match &rewrite.exact {
                Some(exact) if exact.starts_with('/') => {}
                Some(_) => self.wrong(format!("{path}.exact"), "must start with /"),
                None => self.wrong(path, "must have the member exact"),
            }
        }
    }

    fn hostname(&mut self, hostname: Option<&HostnameMatch>, path: &str) {
        if hostname.is_some_and(|hostname| hostname.exact.is_some() == hostname.suffix.is_some()) {
            self.wrong(format!("{path}.hostname"), "must have exactly one of exact, suffix");
        }
    }
}
