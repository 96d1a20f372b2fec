//! Typed specs of the resource kinds (App Mesh API 2019-01-25, `MeshSpec`, `VirtualNodeSpec`, … and what they hold).
//!
//! They are read only from JSON that `validate` found to have the API's shape, which also says all that is wrong;
//! serde would stop at the first error. Unknown members are gone by then.

mod client;
mod gateway;
mod listener;
mod route;

pub use client::*;
pub use gateway::*;
pub use listener::*;
pub use route::*;

use super::Kind;
use crate::base::time::Millis;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The spec of a resource of some kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// Of a mesh.
    Mesh(MeshSpec),
    /// Of a virtual node.
    VirtualNode(VirtualNodeSpec),
    /// Of a virtual router.
    VirtualRouter(VirtualRouterSpec),
    /// Of a route.
    Route(RouteSpec),
    /// Of a virtual service.
    VirtualService(VirtualServiceSpec),
    /// Of a virtual gateway.
    VirtualGateway(VirtualGatewaySpec),
    /// Of a gateway route.
    GatewayRoute(GatewayRouteSpec),
}

impl Spec {
    /// Reads a spec of the kind. The error names a member, but is meant for a programmer: `validate` comes first.
    pub fn read(kind: Kind, raw: &Value) -> Result<Self, String> {
        match kind {
            Kind::Mesh => MeshSpec::deserialize(raw).map(Self::Mesh),
            Kind::VirtualNode => VirtualNodeSpec::deserialize(raw).map(Self::VirtualNode),
            Kind::VirtualRouter => VirtualRouterSpec::deserialize(raw).map(Self::VirtualRouter),
            Kind::Route => RouteSpec::deserialize(raw).map(Self::Route),
            Kind::VirtualService => VirtualServiceSpec::deserialize(raw).map(Self::VirtualService),
            Kind::VirtualGateway => VirtualGatewaySpec::deserialize(raw).map(Self::VirtualGateway),
            Kind::GatewayRoute => GatewayRouteSpec::deserialize(raw).map(Self::GatewayRoute),
        }
        .map_err(|error| error.to_string())
    }

    /// The spec of a mesh, if it is one.
    #[must_use]
    pub fn mesh(&self) -> Option<&MeshSpec> {
        if let Self::Mesh(spec) = self { Some(spec) } else { None }
    }

    /// The spec of a virtual node, if it is one.
    #[must_use]
    pub fn virtual_node(&self) -> Option<&VirtualNodeSpec> {
        if let Self::VirtualNode(spec) = self { Some(spec) } else { None }
    }

    /// The spec of a virtual router, if it is one.
    #[must_use]
    pub fn virtual_router(&self) -> Option<&VirtualRouterSpec> {
        if let Self::VirtualRouter(spec) = self { Some(spec) } else { None }
    }

    /// The spec of a route, if it is one.
    #[must_use]
    pub fn route(&self) -> Option<&RouteSpec> {
        if let Self::Route(spec) = self { Some(spec) } else { None }
    }

    /// The spec of a virtual gateway, if it is one.
    #[must_use]
    pub fn virtual_gateway(&self) -> Option<&VirtualGatewaySpec> {
        if let Self::VirtualGateway(spec) = self { Some(spec) } else { None }
    }

    /// The spec of a gateway route, if it is one.
    #[must_use]
    pub fn gateway_route(&self) -> Option<&GatewayRouteSpec> {
        if let Self::GatewayRoute(spec) = self { Some(spec) } else { None }
    }

    /// The spec of a virtual service, if it is one.
    #[must_use]
    pub fn virtual_service(&self) -> Option<&VirtualServiceSpec> {
        if let Self::VirtualService(spec) = self { Some(spec) } else { None }
    }
}

/// `Duration`: a number and its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Span {
    /// How many; 0 disables a timeout.
    pub value: u64,
    /// Of what.
    pub unit: Unit,
}

impl Span {
    /// As milliseconds.
    #[must_use]
    pub fn millis(self) -> Millis {
        match self.unit {
            Unit::Seconds => Millis(self.value.saturating_mul(1000)),
            Unit::Millis => Millis(self.value),
        }
    }
}

/// `DurationUnit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Unit {
    /// `s`.
    #[serde(rename = "s")]
    Seconds,
    /// `ms`.
    #[serde(rename = "ms")]
    Millis,
}

/// `IpPreference`; absent is a fifth behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum IpPreference {
    /// Both, IPv6 first.
    #[serde(rename = "IPv6_PREFERRED")]
    V6Preferred,
    /// Both, IPv4 first.
    #[serde(rename = "IPv4_PREFERRED")]
    V4Preferred,
    /// IPv4 only.
    #[serde(rename = "IPv4_ONLY")]
    V4Only,
    /// IPv6 only.
    #[serde(rename = "IPv6_ONLY")]
    V6Only,
}

/// `MeshSpec`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshSpec {
    /// What nodes may reach outside the mesh; absent means `DROP_ALL`.
    pub egress_filter: Option<EgressFilter>,
    /// Defaults for the service discovery of the nodes.
    pub service_discovery: Option<MeshServiceDiscovery>,
}

/// `EgressFilter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct EgressFilter {
    /// What passes.
    #[serde(rename = "type")]
    pub kind: EgressFilterType,
}

/// `EgressFilterType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EgressFilterType {
    /// Everything passes.
    AllowAll,
    /// Only backends pass.
    DropAll,
}

/// `MeshServiceDiscovery`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshServiceDiscovery {
    /// Which addresses are used.
    pub ip_preference: Option<IpPreference>,
}

/// `VirtualNodeSpec`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualNodeSpec {
    /// How it is found.
    pub service_discovery: Option<ServiceDiscovery>,
    /// What it listens on.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// Which virtual services it calls.
    #[serde(default)]
    pub backends: Vec<Backend>,
    /// For backends that say nothing themselves.
    pub backend_defaults: Option<BackendDefaults>,
    /// Where its proxy logs.
    pub logging: Option<Logging>,
}

/// `ServiceDiscovery`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ServiceDiscovery {
    /// By name.
    Dns(DnsServiceDiscovery),
    /// By AWS Cloud Map.
    AwsCloudMap(AwsCloudMapServiceDiscovery),
}

/// `DnsServiceDiscovery`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsServiceDiscovery {
    /// Name to resolve.
    pub hostname: String,
    /// What the answer means; absent means `LOADBALANCER`.
    pub response_type: Option<DnsResponseType>,
    /// Which addresses are used; overrides the mesh's.
    pub ip_preference: Option<IpPreference>,
}

/// `DnsResponseType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum DnsResponseType {
    /// The first address, at each new connection.
    #[serde(rename = "LOADBALANCER")]
    LoadBalancer,
    /// Every address is an endpoint.
    #[serde(rename = "ENDPOINTS")]
    Endpoints,
}

/// `AwsCloudMapServiceDiscovery`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AwsCloudMapServiceDiscovery {
    /// Namespace name.
    pub namespace_name: String,
    /// Service name.
    pub service_name: String,
    /// What an instance must carry: all of them.
    #[serde(default)]
    pub attributes: Vec<CloudMapAttribute>,
    /// Which addresses are used; overrides the mesh's.
    pub ip_preference: Option<IpPreference>,
}

impl AwsCloudMapServiceDiscovery {
    /// The attributes as a map; of equal keys the last wins.
    #[must_use]
    pub fn attribute_map(&self) -> BTreeMap<String, String> {
        self.attributes.iter().map(|attribute| (attribute.key.clone(), attribute.value.clone())).collect()
    }
}

/// `AwsCloudMapInstanceAttribute`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CloudMapAttribute {
    /// Name.
    pub key: String,
    /// Value.
    pub value: String,
}

/// `VirtualRouterSpec`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct VirtualRouterSpec {
    /// What it listens on.
    #[serde(default)]
    pub listeners: Vec<RouterListener>,
}

/// `VirtualRouterListener`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterListener {
    /// Port and protocol.
    pub port_mapping: PortMapping,
}

/// `VirtualServiceSpec`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct VirtualServiceSpec {
    /// Who answers; without one, nobody does.
    pub provider: Option<Provider>,
}

/// `VirtualServiceProvider`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Provider {
    /// One node gets everything.
    #[serde(rename_all = "camelCase")]
    VirtualNode {
        /// Its name.
        virtual_node_name: String,
    },
    /// The routes of a router decide.
    #[serde(rename_all = "camelCase")]
    VirtualRouter {
        /// Its name.
        virtual_router_name: String,
    },
}
