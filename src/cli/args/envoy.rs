//! Arguments of `tidegate envoy`.

use clap::{Args, Subcommand};
use std::net::SocketAddr;

/// `tidegate envoy …`.
#[derive(Debug, Subcommand)]
pub enum EnvoyCommand {
    /// Print the file that an Envoy of this mesh starts with: YAML, or JSON with --output json
    Bootstrap(BootstrapArguments),
}

/// `tidegate envoy bootstrap`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "The file is the same for a sidecar that gets its traffic by redirection, for one whose listeners are \
                  addressed, and for a gateway: listeners come from the control plane. The variables of the App Mesh image \
                  are heeded (docs/envoy.md lists them). Files are named as they are where Envoy runs. The token of \
                  $TIDEGATE_TOKEN is not written down: Envoy reads the variable when it starts."
)]
pub struct BootstrapArguments {
    /// Virtual node or gateway: mesh/MESH/virtualNode/NAME, mesh/MESH/virtualGateway/NAME or an ARN
    /// [default: $APPMESH_RESOURCE_ARN]
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// The control plane: https://HOST:PORT, http://HOST:PORT or unix:///PATH [default: $APPMESH_XDS_ENDPOINT, by TLS]
    #[arg(long, value_name = "URL")]
    pub control_plane: Option<String>,
    /// Envoy's admin pages [default: 127.0.0.1:9901; 0.0.0.0:9901 where the App Mesh image's variables are set]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
    /// Where it takes what its application sends [default: every address, port 15001]
    #[arg(long, value_name = "ADDRESS")]
    pub egress: Option<SocketAddr>,
    /// Where it takes what is meant for its application [default: every address, port 15000]
    #[arg(long, value_name = "ADDRESS")]
    pub ingress: Option<SocketAddr>,
    /// Roots (PEM) that the control plane's certificate is judged by [default: /etc/ssl/certs/ca-certificates.crt]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<String>,
    /// Certificate (PEM) that Envoy shows to the control plane
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<String>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE")]
    pub key: Option<String>,
}
