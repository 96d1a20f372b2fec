//! How connections are secured, resolved: what a listener shows and asks for, and what a client checks and shows.

use serde::{Deserialize, Serialize};

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Certificate {
    /// Files on the proxy's machine.
    File {
        /// PEM of the chain, leaf first.
        chain: String,
        /// PEM of the key.
        key: String,
    },
    /// A secret of the SDS server beside the proxy (`APPMESH_SDS_SOCKET_PATH`).
    Sds {
        /// Its name.
        secret: String,
    },
    /// A certificate of AWS Certificate Manager, which the control plane has to be given as files.
    Acm {
        /// Its ARN.
        arn: String,
    },
}

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// A PEM of authorities on the proxy's machine.
    File {
        /// Its path.
        chain: String,
    },
    /// A validation context of the SDS server beside the proxy.
    Sds {
        /// Its name.
        secret: String,
    },
    /// Private authorities of AWS Certificate Manager, which the control plane has to be given as files.
    Acm {
        /// Their ARNs.
        arns: Vec<String>,
    },
}

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerTls {
    /// Whether plain connections are taken as well.
    pub mode: ServerTlsMode,
    /// What it shows.
    pub certificate: Certificate,
    /// Whose certificates clients must show; `None` asks for none.
    pub client_trust: Option<Trust>,
    /// Names of which a client's certificate must have one; empty for any.
    pub client_names: Vec<String>,
}

/// Whether a listener takes plain connections beside TLS. (`DISABLED` is no TLS at all.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerTlsMode {
    /// TLS alone.
    Strict,
    /// Both.
    Permissive,
}

/// TLS towards a virtual node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamTls {
    /// Whose certificates are believed; `None` believes any (appmesh "TLS": a server with certificates from files or
    /// SDS whose client has no policy).
    pub trust: Option<Trust>,
    /// Names of which the server's certificate must have one; empty for any.
    pub names: Vec<String>,
    /// What is shown to a server that asks.
    pub certificate: Option<Certificate>,
    /// Name asked for in the handshake.
    pub server_name: Option<String>,
}
