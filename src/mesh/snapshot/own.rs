//! What a proxy itself is: the listeners of its virtual node or gateway, and what it lets out.

use super::tls::ServerTls;
use super::{IpPreference, Protocol, RouteMatch};
use crate::base::time::Millis;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The virtual node or gateway that a proxy runs for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Own {
    /// Name of the mesh.
    pub mesh: String,
    /// Name of the node or gateway.
    pub name: String,
    /// Which of the two.
    pub role: Role,
    /// What it listens on, in the order of the spec.
    pub listeners: Vec<Listener>,
    /// Whether what is no backend may be called as well (`ALLOW_ALL`).
    pub allow_all: bool,
    /// Where every request is logged; `None` for nowhere.
    pub access_log: Option<AccessLog>,
    /// Families of addresses that it binds and reaches its application by.
    pub ip_preference: IpPreference,
}

/// A virtual node or a virtual gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Role {
    /// Runs beside an application.
    Node,
    /// Lets traffic in from outside, by these routes in match order.
    Gateway(Vec<Arc<GatewayRoute>>),
}

/// A listener of the proxy's own node or gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// Port of the application, or of the gateway.
    pub port: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Time allowed for a whole request; `None` for no limit.
    pub request_timeout: Option<Millis>,
    /// How long a request or connection may be silent; `None` for no limit.
    pub idle_timeout: Option<Millis>,
    /// Bounds towards the application; `None` for none.
    pub pool: Option<Pool>,
    /// `None` for plain connections.
    pub tls: Option<ServerTls>,
}

/// Bounds of connections and requests (App Mesh API 2019-01-25, `VirtualNodeConnectionPool`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pool {
    /// Connections (http, tcp).
    pub connections: Option<u32>,
    /// Requests that wait for a connection (http).
    pub pending: Option<u32>,
    /// Requests at a time (http2, grpc).
    pub requests: Option<u32>,
}

/// Where the application of a node is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppAddress {
    /// 127.0.0.1.
    V4,
    /// ::1.
    V6,
}

impl IpPreference {
    /// Where the application beside the proxy listens (appmesh "Service discovery", table of preferences).
    #[must_use]
    pub const fn app_address(self) -> AppAddress {
        match self {
            Self::V6Preferred | Self::V6Only => AppAddress::V6,
            Self::Unset | Self::V4Preferred | Self::V4Only => AppAddress::V4,
        }
    }

    /// Whether the proxy binds `::` for both families instead of `0.0.0.0` (same table).
    #[must_use]
    pub const fn binds_both(self) -> bool {
        !matches!(self, Self::Unset)
    }
}

/// File access log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// Path, such as `/dev/stdout`.
    pub path: String,
    /// What a line holds.
    pub format: LogFormat,
}

/// Format of a line, in Envoy's command operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// Envoy's own.
    Default,
    /// Verbatim, with the user's line ends.
    Text(String),
    /// An object of these members.
    Json(Vec<(String, String)>),
}

/// A gateway route: which requests go to which virtual service, and how they are rewritten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatewayRoute {
    /// Its name.
    pub name: String,
    /// Its metadata version.
    pub version: u64,
    /// What is spoken by it.
    pub protocol: Protocol,
    /// Host that it is for; `None` for any.
    pub host: Option<HostMatch>,
    /// Further conditions; `port` is the gateway's listener.
    pub matches: RouteMatch,
    /// Where matching requests go.
    pub target: GatewayTarget,
    /// Whether Host becomes the virtual service's name.
    pub rewrite_host: bool,
    /// What becomes of the path.
    pub path: PathRewrite,
    /// Time allowed for a whole request: the longest of the target's routes (appmesh "Timeouts"); `None` for no limit.
    pub request_timeout: Option<Millis>,
}

/// The virtual service behind a gateway route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayTarget {
    /// Its name, as in [`super::NodeConfig::services`].
    pub service: String,
    /// Port of the service, where it has several.
    pub port: Option<u16>,
}

/// Condition on a request's host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HostMatch {
    /// The whole name.
    Exact(String),
    /// Its end.
    Suffix(String),
}

/// What a gateway route makes of a path; the query stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathRewrite {
    /// Nothing.
    Keep,
    /// The matched prefix becomes this.
    Prefix(String),
    /// The whole path becomes this.
    Whole(String),
}
