//! Arguments of `tidegate proxy`.

use crate::config::{ADMIN_PORT, EGRESS_PORT, INGRESS_PORT, loopback};
use crate::intercept::Address;
use clap::Args;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// `tidegate proxy`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Its configuration comes from the control plane of `tidegate serve` or `tidegate local`, over the address that \
                  Envoys are configured at, and goes on being followed. An access key of the mesh goes into $TIDEGATE_TOKEN as \
                  ID:SECRET. Of the App Mesh image's variables APPMESH_RESOURCE_ARN, APPMESH_RESOURCE_NAME, APPMESH_VIRTUAL_NODE_NAME, \
                  APPMESH_XDS_ENDPOINT, APPMESH_SDS_SOCKET_PATH and ENVOY_ADMIN_ACCESS_PORT are heeded."
)]
pub struct ProxyArguments {
    /// Virtual node or gateway: mesh/MESH/virtualNode/NAME, mesh/MESH/virtualGateway/NAME or an ARN
    /// [default: $APPMESH_RESOURCE_ARN]
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// The control plane: https://HOST:PORT or http://HOST:PORT [default: $APPMESH_XDS_ENDPOINT, by TLS]
    #[arg(long, value_name = "URL")]
    pub control_plane: Option<String>,
    /// Where the application sends its requests; the Host header names the virtual service
    /// [default: 127.0.0.1:15001; 0.0.0.0:15001 with --transparent]
    #[arg(long, value_name = "ADDRESS")]
    pub egress: Option<SocketAddr>,
    /// Where it takes what is meant for its application; redirected connections go by the port that they were sent to,
    /// others to the node's first listener. Of a virtual gateway, whose ports the mesh says, only the host counts
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), INGRESS_PORT))]
    pub ingress: SocketAddr,
    /// Redirects what this machine (or network namespace) sends, and what comes for the node's listeners, to itself while it
    /// runs, by iptables; takes root or CAP_NET_ADMIN
    #[arg(long)]
    pub transparent: bool,
    /// Address or network to which nothing is redirected; may be given several times
    /// [default: $APPMESH_EGRESS_IGNORED_IP, else those of AWS's metadata: 169.254.169.254 and 169.254.170.2]
    #[arg(long, value_name = "ADDRESS", requires = "transparent")]
    pub ignored_ip: Vec<Address>,
    /// Port to which nothing is redirected, beside 22; may be given several times [default: $APPMESH_EGRESS_IGNORED_PORTS]
    #[arg(long, value_name = "PORT", requires = "transparent")]
    pub ignored_port: Vec<u16>,
    /// Admin pages (/ready, /server_info, /stats/prometheus, …)
    /// [default: 127.0.0.1:9901; every address where the App Mesh image's variables are set]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
    /// Keeps the last configuration in this file, for a start without the control plane
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// File that stands in for Cloud Map and DNS
    #[arg(long, value_name = "FILE")]
    pub discovery: Option<PathBuf>,
    /// Socket of the SDS server beside it, such as SPIRE's agent, for certificates that the mesh takes from there
    /// [default: $APPMESH_SDS_SOCKET_PATH]
    #[arg(long, value_name = "SOCKET")]
    pub sds: Option<PathBuf>,
    /// Threads, which share the port [default: one to each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Authorities (PEM) that the control plane's certificate is judged by [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Certificate (PEM) that is shown to the control plane
    #[arg(long, value_name = "FILE", requires = "key")]
    pub certificate: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
}

impl ProxyArguments {
    /// Where the application sends its requests: redirected connections do not come to 127.0.0.1 everywhere.
    #[must_use]
    pub fn egress(&self) -> SocketAddr {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), EGRESS_PORT);
        self.egress.unwrap_or(if self.transparent { any } else { loopback(EGRESS_PORT) })
    }

    /// Where the admin pages are, by the option, else by the App Mesh image's variables, else on loopback.
    #[must_use]
    pub fn admin(&self, by_image: Option<u16>, is_image: bool) -> SocketAddr {
        let any = if is_image { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        self.admin.unwrap_or_else(|| SocketAddr::new(any.into(), by_image.unwrap_or(ADMIN_PORT)))
    }
}
