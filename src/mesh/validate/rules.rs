//! What a spec must keep to beyond the shapes: rules within one resource (appmesh "Validation beyond shape ranges").

mod gateway;

use crate::mesh::error::Violation;
use crate::mesh::model::spec::{
    Backend, GrpcMatch, HttpMatch, Listener, MatchMethod, NamedMatch, PortMapping, PortProtocol, RetryPolicySpec,
    RouteSpec, Spec, VirtualNodeSpec, WeightedTarget,
};
use std::collections::BTreeSet;

/// Largest compiled size of a regular expression, in bytes. Envoy allows RE2 programs of 1000 instructions in App
/// Mesh's images; this holds those with room and stops a short pattern from growing into megabytes.
const REGEX_SIZE_MAX: usize = 256 * 1024;

/// Longest pattern that is compiled, in bytes: 255 characters of four. A longer one is a violation of its shape
/// already.
const REGEX_BYTES_MAX: usize = 255 * 4;

/// Pushes every broken rule.
pub(super) fn check(spec: &Spec, out: &mut Vec<Violation>) {
    let mut rules = Rules { out };
    match spec {
        Spec::Mesh(_) | Spec::VirtualService(_) => {}
        Spec::VirtualNode(node) => rules.node(node),
        Spec::VirtualRouter(router) => {
            rules.unique_ports(router.listeners.iter().map(|listener| listener.port_mapping));
        }
        Spec::Route(route) => rules.route(route),
        Spec::VirtualGateway(gateway) => rules.gateway(gateway),
        Spec::GatewayRoute(route) => rules.gateway_route(route),
    }
}

struct Rules<'a> {
    out: &'a mut Vec<Violation>,
}

impl Rules<'_> {
    fn wrong(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.out.push(Violation { path: path.into(), message: message.into() });
    }

    /// Two listeners cannot share a port.
    fn unique_ports(&mut self, mappings: impl Iterator<Item = PortMapping>) {
        let mut seen = BTreeSet::new();
        for (at, mapping) in mappings.enumerate() {
            if !seen.insert(mapping.port) {
                let path = format!("spec.listeners[{at}].portMapping.port");
                self.wrong(path, format!("port {} is used by another listener", mapping.port));
            }
        }
    }

    fn node(&mut self, node: &VirtualNodeSpec) {
        // The reverse, a listener without discovery, may be left open: `ops` has the word on it.
        if node.service_discovery.is_some() && node.listeners.is_empty() {
            // In the words of AWS, so that people who search for them find them.
            self.wrong("spec.serviceDiscovery", "Service Discovery can't be set without a listener.");
        }
        self.unique_ports(node.listeners.iter().map(|listener| listener.port_mapping));
        for (at, listener) in node.listeners.iter().enumerate() {
            self.listener(listener, &format!("spec.listeners[{at}]"));
        }
        let mut names = BTreeSet::new();
        for (at, Backend::VirtualService(backend)) in node.backends.iter().enumerate() {
            let path = format!("spec.backends[{at}].virtualService.virtualServiceName");
            if backend.virtual_service_name.is_empty() {
                self.wrong(path, "must not be empty");
            } else if !names.insert(&backend.virtual_service_name) {
                self.wrong(path, format!("{} is given twice", backend.virtual_service_name));
            }
        }
    }

    fn listener(&mut self, listener: &Listener, path: &str) {
        let mapping = listener.port_mapping;
        let word = mapping.protocol.word();
        if let Some(timeout) = &listener.timeout
            && timeout.protocol() != mapping.protocol
        {
            self.wrong(format!("{path}.timeout"), format!("must have the member {word}, as the listener's protocol"));
        }
        if let Some(pool) = &listener.connection_pool
            && pool.protocol() != mapping.protocol
        {
            let path = format!("{path}.connectionPool");
            self.wrong(path, format!("must have the member {word}, as the listener's protocol"));
        }
        let Some(health) = &listener.health_check else { return };
        if health.port.is_some_and(|port| port != mapping.port) {
            self.wrong(format!("{path}.healthCheck.port"), format!("must be the listener's port, {}", mapping.port));
        }
        if health.protocol == PortProtocol::Grpc
            && !matches!(mapping.protocol, PortProtocol::Http2 | PortProtocol::Grpc)
        {
            let message = "GRPC HealthCheck requires listener type of HTTP2 or GRPC.";
            self.wrong(format!("{path}.healthCheck.protocol"), message);
        }
        let asks_path = matches!(health.protocol, PortProtocol::Http | PortProtocol::Http2);
        if asks_path && health.path.as_ref().is_some_and(|health_path| !health_path.starts_with('/')) {
            self.wrong(format!("{path}.healthCheck.path"), "must start with /");
        }
    }

    fn route(&mut self, route: &RouteSpec) {
        let given = [
            route.http_route.is_some(),
            route.http2_route.is_some(),
            route.grpc_route.is_some(),
            route.tcp_route.is_some(),
        ];
        if given.into_iter().filter(|given| *given).count() != 1 {
            self.wrong("spec", "must have exactly one of httpRoute, http2Route, grpcRoute, tcpRoute");
            return;
        }
        let path = format!("spec.{}", route.member());
        self.targets(route.targets(), &format!("{path}.action.weightedTargets"));
        for http in [&route.http_route, &route.http2_route].into_iter().flatten() {
            self.http_match(&http.matches, &format!("{path}.match"));
            self.retry(http.retry_policy.as_ref(), &format!("{path}.retryPolicy"));
        }
        if let Some(grpc) = &route.grpc_route {
            self.grpc_match(&grpc.matches, &format!("{path}.match"));
            self.retry(grpc.retry_policy.as_ref(), &format!("{path}.retryPolicy"));
        }
    }

    /// Weights are relative and sum to 1..=100: the model forbids more, and data planes cannot draw from nothing.
    fn targets(&mut self, targets: &[WeightedTarget], path: &str) {
        let sum: u64 = targets.iter().map(|target| u64::from(target.weight)).sum();
        if sum > 100 {
            self.wrong(path, format!("weights must sum to at most 100, not {sum}"));
        } else if sum == 0 {
            self.wrong(path, "weights must not all be 0");
        }
        let mut seen = BTreeSet::new();
        for (at, target) in targets.iter().enumerate() {
            if !seen.insert((&target.virtual_node, target.port)) {
                let path = format!("{path}[{at}].virtualNode");
                self.wrong(path, format!("{} is given twice with the same port", target.virtual_node));
            }
        }
    }

    fn http_match(&mut self, matches: &HttpMatch, path: &str) {
        if let Some(prefix) = &matches.prefix {
            if matches.path.is_some() {
                self.wrong(path, "must have only one of prefix and path");
            }
            if !prefix.starts_with('/') {
                self.wrong(format!("{path}.prefix"), "must start with /");
            }
        }
        if let Some(spec) = &matches.path {
            let path = format!("{path}.path");
            match (&spec.exact, &spec.regex) {
                (Some(exact), None) if !exact.starts_with('/') => {
                    self.wrong(format!("{path}.exact"), "must start with /");
                }
                (Some(_), None) => {}
                (None, Some(regex)) => self.regex(regex, &format!("{path}.regex")),
                _ => self.wrong(path, "must have exactly one of exact, regex"),
            }
        }
        self.named(&matches.headers, &format!("{path}.headers"));
        for (at, parameter) in matches.query_parameters.iter().enumerate() {
            let path = format!("{path}.queryParameters[{at}]");
            if parameter.name.is_empty() {
                self.wrong(format!("{path}.name"), "must not be empty");
            }
            if parameter.matches.as_ref().is_some_and(|value| value.exact.is_none()) {
                self.wrong(format!("{path}.match"), "must have the member exact, or be left out");
            }
        }
    }

    fn grpc_match(&mut self, matches: &GrpcMatch, path: &str) {
        if matches.method_name.is_some() && matches.service_name.is_none() {
            self.wrong(format!("{path}.serviceName"), "is required when there is a methodName");
        }
        self.named(&matches.metadata, &format!("{path}.metadata"));
    }

    fn named(&mut self, conditions: &[NamedMatch], path: &str) {
        for (at, condition) in conditions.iter().enumerate() {
            match &condition.matches {
                Some(MatchMethod::Regex(regex)) => self.regex(regex, &format!("{path}[{at}].match.regex")),
                Some(MatchMethod::Range { start, end }) if start >= end => {
                    self.wrong(format!("{path}[{at}].match.range"), format!("start {start} must be below end {end}"));
                }
                _ => {}
            }
        }
    }

    /// `regex` speaks the RE2 dialect as far as App Mesh needs it: no look-around, no back-references.
    fn regex(&mut self, pattern: &str, path: &str) {
        if pattern.len() > REGEX_BYTES_MAX {
            return;
        }
        if let Err(error) = regex::RegexBuilder::new(pattern).size_limit(REGEX_SIZE_MAX).build() {
            // Its first lines draw the pattern with a caret; the last one says what is wrong.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            self.wrong(path, format!("is not a regular expression of RE2: {reason}"));
        }
    }

    fn retry(&mut self, policy: Option<&RetryPolicySpec>, path: &str) {
        if let Some(policy) = policy
            && policy.http_retry_events.is_empty()
            && policy.tcp_retry_events.is_empty()
            && policy.grpc_retry_events.is_empty()
        {
            self.wrong(path, "must have at least one retry event");
        }
    }
}
