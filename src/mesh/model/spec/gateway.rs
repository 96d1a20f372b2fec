//! Virtual gateways and their routes (App Mesh API 2019-01-25, `VirtualGatewaySpec`, `GatewayRouteSpec`).

use super::{BackendDefaults, GrpcMatch, HttpMatch, Listener, Logging};
use serde::Deserialize;

/// `VirtualGatewaySpec`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualGatewaySpec {
    /// What it listens on: http, http2 or grpc, never with a timeout or outlier detection.
    pub listeners: Vec<Listener>,
    /// For every service that its routes name.
    pub backend_defaults: Option<BackendDefaults>,
    /// Where it logs.
    pub logging: Option<Logging>,
}

/// `GatewayRouteSpec`: exactly one of the three routes is there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRouteSpec {
    /// 0 is tried first; absent comes after 1000.
    pub priority: Option<u16>,
    /// For an http listener.
    pub http_route: Option<HttpGatewayRoute>,
    /// For an http2 listener.
    pub http2_route: Option<HttpGatewayRoute>,
    /// For a grpc listener.
    pub grpc_route: Option<GrpcGatewayRoute>,
}

impl GatewayRouteSpec {
    /// Member that holds the route: `httpRoute`.
    #[must_use]
    pub fn member(&self) -> &'static str {
        match (&self.http_route, &self.http2_route) {
            (Some(_), _) => "httpRoute",
            (_, Some(_)) => "http2Route",
            _ => "grpcRoute",
        }
    }

    /// Where it sends, whatever its type.
    #[must_use]
    pub fn target(&self) -> Option<&GatewayTarget> {
        let http = self.http_route.as_ref().or(self.http2_route.as_ref()).map(|route| &route.action);
        http.or(self.grpc_route.as_ref().map(|route| &route.action)).map(|action| &action.target)
    }

    /// `match.port`, whatever its type.
    #[must_use]
    pub fn match_port(&self) -> Option<u16> {
        let http = self.http_route.as_ref().or(self.http2_route.as_ref()).and_then(|route| route.matches.http.port);
        http.or(self.grpc_route.as_ref().and_then(|route| route.matches.grpc.port))
    }
}

/// `HttpGatewayRoute`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct HttpGatewayRoute {
    /// All of it must hold.
    #[serde(rename = "match")]
    pub matches: HttpGatewayMatch,
    /// Where requests go, and as what.
    pub action: GatewayAction,
}

/// `HttpGatewayRouteMatch`: the conditions of a route but `scheme`, and the host name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct HttpGatewayMatch {
    /// As in a route.
    #[serde(flatten)]
    pub http: HttpMatch,
    /// On the host name.
    pub hostname: Option<HostnameMatch>,
}

/// `GrpcGatewayRoute`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct GrpcGatewayRoute {
    /// All of it must hold.
    #[serde(rename = "match")]
    pub matches: GrpcGatewayMatch,
    /// Where requests go, and as what.
    pub action: GatewayAction,
}

/// `GrpcGatewayRouteMatch`: the conditions of a route but `methodName`, and the host name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct GrpcGatewayMatch {
    /// As in a route.
    #[serde(flatten)]
    pub grpc: GrpcMatch,
    /// On the host name.
    pub hostname: Option<HostnameMatch>,
}

/// `GatewayRouteHostnameMatch`: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HostnameMatch {
    /// The whole name.
    pub exact: Option<String>,
    /// Its end.
    pub suffix: Option<String>,
}

/// `HttpGatewayRouteAction` and `GrpcGatewayRouteAction`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GatewayAction {
    /// Where requests go.
    pub target: GatewayTarget,
    /// As what they arrive there.
    pub rewrite: Option<GatewayRewrite>,
}

/// `GatewayRouteTarget`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayTarget {
    /// The service.
    pub virtual_service: GatewayService,
    /// Listener of the service's provider, when it has several.
    pub port: Option<u16>,
}

/// `GatewayRouteVirtualService`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayService {
    /// Its name.
    pub virtual_service_name: String,
}

/// `HttpGatewayRouteRewrite` and `GrpcGatewayRouteRewrite`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GatewayRewrite {
    /// Of the host name.
    pub hostname: Option<HostnameRewrite>,
    /// Of the matched prefix; http only.
    pub prefix: Option<PrefixRewrite>,
    /// Of the whole path; http only.
    pub path: Option<PathRewrite>,
}

/// `GatewayRouteHostnameRewrite`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostnameRewrite {
    /// Whether the host name becomes that of the service; absent means it does.
    pub default_target_hostname: Option<Switch>,
}

/// `HttpGatewayRoutePrefixRewrite`: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixRewrite {
    /// Whether the prefix becomes `/`.
    pub default_prefix: Option<Switch>,
    /// What the prefix becomes.
    pub value: Option<String>,
}

/// `HttpGatewayRoutePathRewrite`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PathRewrite {
    /// What the path becomes.
    pub exact: Option<String>,
}

/// `DefaultGatewayRouteRewrite`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Switch {
    /// On.
    Enabled,
    /// Off.
    Disabled,
}
