//! Routes: what they match and where they send (App Mesh API 2019-01-25, `RouteSpec`).

use super::{Span, Timeouts};
use crate::mesh::snapshot::extension::{Extensions, Flaw, PREFIX};
use serde::Deserialize;
use std::collections::BTreeMap;

/// `RouteSpec`: exactly one of the four routes is there.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// 0 is tried first; absent comes after 1000.
    pub priority: Option<u16>,
    /// For an http router.
    pub http_route: Option<HttpRoute>,
    /// For an http2 router.
    pub http2_route: Option<HttpRoute>,
    /// For a grpc router.
    pub grpc_route: Option<GrpcRoute>,
    /// For a tcp router.
    pub tcp_route: Option<TcpRoute>,
}

impl RouteSpec {
    /// Member that holds the route: `httpRoute`.
    #[must_use]
    pub fn member(&self) -> &'static str {
        match (&self.http_route, &self.http2_route, &self.grpc_route) {
            (Some(_), _, _) => "httpRoute",
            (_, Some(_), _) => "http2Route",
            (_, _, Some(_)) => "grpcRoute",
            _ => "tcpRoute",
        }
    }

    /// Where it sends, whatever its type.
    #[must_use]
    pub fn targets(&self) -> &[WeightedTarget] {
        let action = self.http_route.as_ref().map(|route| &route.action);
        let action = action.or_else(|| self.http2_route.as_ref().map(|route| &route.action));
        let action = action.or_else(|| self.grpc_route.as_ref().map(|route| &route.action));
        let action = action.or_else(|| self.tcp_route.as_ref().map(|route| &route.action));
        action.map_or(&[], |action| &action.weighted_targets)
    }

    /// `match.port`, whatever its type.
    #[must_use]
    pub fn match_port(&self) -> Option<u16> {
        let http = self.http_route.as_ref().or(self.http2_route.as_ref()).and_then(|route| route.matches.port);
        let grpc = self.grpc_route.as_ref().and_then(|route| route.matches.port);
        let tcp = self.tcp_route.as_ref().and_then(|route| route.matches.as_ref()).and_then(|matches| matches.port);
        http.or(grpc).or(tcp)
    }

    /// What its resource's tags add to it, and what is wrong with them.
    #[must_use]
    pub fn extensions(&self, tags: &BTreeMap<String, String>) -> (Option<Box<Extensions>>, Vec<Flaw>) {
        if self.tcp_route.is_none() {
            let targets: Vec<&str> = self.targets().iter().map(|target| &*target.virtual_node).collect();
            return Extensions::of(tags, &targets);
        }
        let ours = tags.keys().filter(|tag| tag.starts_with(PREFIX));
        let message = "is for requests, and this route carries connections (tcpRoute)";
        (None, ours.map(|tag| Flaw { tag: tag.clone(), at: None, message: message.into() }).collect())
    }
}

/// `HttpRoute`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRoute {
    /// All of it must hold.
    #[serde(rename = "match")]
    pub matches: HttpMatch,
    /// Where requests go.
    pub action: RouteAction,
    /// Which failures are tried again; absent means App Mesh's default policy.
    pub retry_policy: Option<RetryPolicySpec>,
    /// How long they may take; absent means 15 s.
    pub timeout: Option<Timeouts>,
}

/// `HttpRouteAction` and its twins.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteAction {
    /// One to ten.
    pub weighted_targets: Vec<WeightedTarget>,
}

/// `WeightedTarget`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightedTarget {
    /// Name of the node.
    pub virtual_node: String,
    /// Relative, 0 to 100; 0 gets nothing.
    pub weight: u32,
    /// Listener of the node, when it has several.
    pub port: Option<u16>,
}

/// `HttpRouteMatch`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpMatch {
    /// Prefix of the path.
    pub prefix: Option<String>,
    /// The whole path.
    pub path: Option<PathSpec>,
    /// Method.
    pub method: Option<String>,
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// Header conditions.
    #[serde(default)]
    pub headers: Vec<NamedMatch>,
    /// Query conditions.
    #[serde(default)]
    pub query_parameters: Vec<QueryMatch>,
    /// Router listener that the request came in on.
    pub port: Option<u16>,
}

/// `HttpPathMatch`: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PathSpec {
    /// The whole path.
    pub exact: Option<String>,
    /// RE2, must match the whole path.
    pub regex: Option<String>,
}

/// `HttpRouteHeader` and `GrpcRouteMetadata`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct NamedMatch {
    /// Header name, whatever its case.
    pub name: String,
    /// Absent asks only that the header is there.
    #[serde(rename = "match")]
    pub matches: Option<MatchMethod>,
    /// True when it must not match.
    pub invert: Option<bool>,
}

/// `HeaderMatchMethod` and `GrpcRouteMetadataMatchMethod`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MatchMethod {
    /// The whole value.
    Exact(String),
    /// Its start.
    Prefix(String),
    /// Its end.
    Suffix(String),
    /// RE2, must match the whole value.
    Regex(String),
    /// A decimal number in `[start, end)`.
    Range {
        /// First inside.
        start: i64,
        /// First after.
        end: i64,
    },
}

/// `HttpQueryParameter`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct QueryMatch {
    /// Parameter name.
    pub name: String,
    /// Absent asks only that the parameter is there.
    #[serde(rename = "match")]
    pub matches: Option<QueryValue>,
}

/// `QueryParameterMatch`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct QueryValue {
    /// The whole value.
    pub exact: Option<String>,
}

/// `HttpRetryPolicy` and `GrpcRetryPolicy`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicySpec {
    /// Retries after the first try.
    pub max_retries: u64,
    /// Time for each try, the first too.
    pub per_retry_timeout: Span,
    /// `server-error`, `gateway-error`, `client-error`, `stream-error`.
    #[serde(default)]
    pub http_retry_events: Vec<String>,
    /// `connection-error`.
    #[serde(default)]
    pub tcp_retry_events: Vec<String>,
    /// `cancelled`, `deadline-exceeded`, `internal`, `resource-exhausted`, `unavailable`.
    #[serde(default)]
    pub grpc_retry_events: Vec<String>,
}

/// `GrpcRoute`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRoute {
    /// All of it must hold.
    #[serde(rename = "match")]
    pub matches: GrpcMatch,
    /// Where requests go.
    pub action: RouteAction,
    /// Which failures are tried again; absent means App Mesh's default policy.
    pub retry_policy: Option<RetryPolicySpec>,
    /// How long they may take; absent means 15 s.
    pub timeout: Option<Timeouts>,
}

/// `GrpcRouteMatch`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcMatch {
    /// Fully qualified service.
    pub service_name: Option<String>,
    /// Method of that service.
    pub method_name: Option<String>,
    /// Metadata conditions.
    #[serde(default)]
    pub metadata: Vec<NamedMatch>,
    /// Router listener that the request came in on.
    pub port: Option<u16>,
}

/// `TcpRoute`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TcpRoute {
    /// Optional here alone.
    #[serde(rename = "match")]
    pub matches: Option<TcpMatch>,
    /// Where connections go.
    pub action: RouteAction,
    /// Idle timeout.
    pub timeout: Option<Timeouts>,
}

/// `TcpRouteMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct TcpMatch {
    /// Router listener that the connection came in on.
    pub port: Option<u16>,
}
