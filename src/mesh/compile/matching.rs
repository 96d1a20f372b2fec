//! Which route is tried when, and what its conditions become.

use crate::mesh::model::spec::{
    GatewayRouteSpec, GrpcMatch, HttpMatch, MatchMethod, NamedMatch, RouteSpec, RouterListener,
};
use crate::mesh::snapshot::{HeaderMatch, PathMatch, Pattern, QueryMatch, RouteMatch, ValueMatch};
use std::cmp::Reverse;

/// A route without a priority comes after every one with (`priority` is 0 to 1000).
const NO_PRIORITY: u16 = 1001;

/// Sort key: see [`order`].
type Order = (u16, u8, Reverse<usize>, Reverse<usize>, String);

/// Routes are tried by priority, then by the length of their prefix, longest first: these two are App Mesh's. It leaves
/// the rest open; here it is settled: exact paths before prefixes before regular expressions, more conditions first,
/// then by name.
pub(super) fn order(name: &str, spec: &RouteSpec) -> Order {
    let http = spec.http_route.as_ref().or(spec.http2_route.as_ref()).map(|route| &route.matches);
    key(name, spec.priority, http, spec.grpc_route.as_ref().map(|route| &route.matches))
}

/// The same for routes of a gateway.
pub(super) fn gateway_order(name: &str, spec: &GatewayRouteSpec) -> Order {
    let http = spec.http_route.as_ref().or(spec.http2_route.as_ref()).map(|route| &route.matches.http);
    key(name, spec.priority, http, spec.grpc_route.as_ref().map(|route| &route.matches.grpc))
}

fn key(name: &str, priority: Option<u16>, http: Option<&HttpMatch>, grpc: Option<&GrpcMatch>) -> Order {
    let priority = priority.unwrap_or(NO_PRIORITY);
    let (class, length, conditions) = match (http, grpc) {
        (Some(matches), _) => {
            let (class, length) = match &matches.path {
                Some(path) if path.exact.is_some() => (0, 0),
                Some(_) => (2, 0),
                None => (1, matches.prefix.as_ref().map_or(0, String::len)),
            };
            let conditions = matches.headers.len()
                + matches.query_parameters.len()
                + usize::from(matches.method.is_some())
                + usize::from(matches.scheme.is_some());
            (class, length, conditions)
        }
        (None, Some(matches)) => {
            let class = u8::from(matches.method_name.is_none());
            (class, matches.service_name.as_ref().map_or(0, String::len), matches.metadata.len())
        }
        (None, None) => (1, 0, 0),
    };
    (priority, class, Reverse(length), Reverse(conditions), name.to_owned())
}

/// The conditions, or why they cannot be checked.
pub(super) fn conditions(spec: &RouteSpec, listeners: &[RouterListener]) -> Result<RouteMatch, String> {
    let http_route = spec.http_route.as_ref().or(spec.http2_route.as_ref());
    let mut matches = match (http_route, &spec.grpc_route) {
        (Some(route), _) => http(&route.matches)?,
        (None, Some(route)) => grpc(&route.matches)?,
        (None, None) => RouteMatch::default(),
    };
    matches.port = match (spec.match_port(), listeners) {
        // The only listener is always the one that the request came in on.
        (Some(port), [only]) if only.port_mapping.port == port => None,
        (port, _) => port,
    };
    Ok(matches)
}

/// Conditions of an http or http2 route; a port is left to the caller.
pub(super) fn http(matches: &HttpMatch) -> Result<RouteMatch, String> {
    let exact = matches.path.as_ref().and_then(|path| path.exact.clone());
    let regex = matches.path.as_ref().and_then(|path| path.regex.as_deref());
    let path = match (exact, regex, &matches.prefix) {
        (Some(exact), ..) => PathMatch::Exact(exact),
        (None, Some(regex), _) => PathMatch::Regex(pattern("match.path.regex", regex)?),
        (None, None, Some(prefix)) => PathMatch::Prefix(prefix.clone()),
        (None, None, None) => PathMatch::Any,
    };
    let headers = matches.headers.iter().map(header).collect::<Result<Vec<_>, _>>()?;
    let query = matches.query_parameters.iter().map(|query| QueryMatch {
        name: query.name.clone(),
        exact: query.matches.as_ref().and_then(|matches| matches.exact.clone()),
    });
    Ok(RouteMatch {
        path,
        method: matches.method.clone(),
        headers,
        query: query.collect(),
        scheme: matches.scheme.clone(),
        ..RouteMatch::default()
    })
}

/// Conditions of a gRPC route: a method is a path (gRPC over HTTP/2, "Requests": `/service/method`), metadata are
/// headers.
pub(super) fn grpc(matches: &GrpcMatch) -> Result<RouteMatch, String> {
    let path = match (&matches.service_name, &matches.method_name) {
        (Some(service), Some(method)) => PathMatch::Exact(format!("/{service}/{method}")),
        (Some(service), None) => PathMatch::Prefix(format!("/{service}/")),
        (None, _) => PathMatch::Any,
    };
    let headers = matches.metadata.iter().map(header).collect::<Result<Vec<_>, _>>()?;
    Ok(RouteMatch { path, headers, grpc: true, ..RouteMatch::default() })
}

/// Was checked when the route was made, in the same dialect; only the bound on its size is another.
fn pattern(place: &str, source: &str) -> Result<Pattern, String> {
    Pattern::new(source).map_err(|error| format!("{place} cannot be used: {error}"))
}

fn header(matches: &NamedMatch) -> Result<HeaderMatch, String> {
    let value = match &matches.matches {
        None => ValueMatch::Present,
        Some(MatchMethod::Exact(text)) => ValueMatch::Exact(text.clone()),
        Some(MatchMethod::Prefix(text)) => ValueMatch::Prefix(text.clone()),
        Some(MatchMethod::Suffix(text)) => ValueMatch::Suffix(text.clone()),
        Some(MatchMethod::Range { start, end }) => ValueMatch::Range { start: *start, end: *end },
        Some(MatchMethod::Regex(source)) => ValueMatch::Regex(pattern("match.headers", source)?),
    };
    Ok(HeaderMatch { name: matches.name.to_ascii_lowercase(), value, invert: matches.invert.unwrap_or(false) })
}
