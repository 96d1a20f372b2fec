//! How connections are secured, resolved: what a listener shows and asks for, and what a client checks and shows.

use super::NodeConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

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

impl NodeConfig {
    /// Every certificate and every authority that it names: of the own listeners, and towards nodes. Some may come twice.
    #[must_use]
    pub fn certificates(&self) -> (Vec<&Certificate>, Vec<&Trust>) {
        let (mut certificates, mut trusts) = (Vec::new(), Vec::new());
        for tls in self.own.iter().flat_map(|own| &own.listeners).filter_map(|listener| listener.tls.as_ref()) {
            certificates.push(&tls.certificate);
            trusts.extend(&tls.client_trust);
        }
        for tls in self.clusters.values().flat_map(|cluster| &cluster.ports).filter_map(|port| port.tls.as_ref()) {
            certificates.extend(&tls.certificate);
            trusts.extend(&tls.trust);
        }
        (certificates, trusts)
    }

    /// Secrets of the SDS server beside the proxy that it names.
    #[must_use]
    pub fn sds_secrets(&self) -> BTreeSet<&str> {
        let (certificates, trusts) = self.certificates();
        let shown = certificates.into_iter().filter_map(|certificate| match certificate {
            Certificate::Sds { secret } => Some(secret.as_str()),
            Certificate::File { .. } | Certificate::Acm { .. } => None,
        });
        let believed = trusts.into_iter().filter_map(|trust| match trust {
            Trust::Sds { secret } => Some(secret.as_str()),
            Trust::File { .. } | Trust::Acm { .. } => None,
        });
        shown.chain(believed).collect()
    }

    /// Files of certificates, keys and authorities that it names.
    #[must_use]
    pub fn certificate_files(&self) -> BTreeSet<&str> {
        let (certificates, trusts) = self.certificates();
        let shown = certificates.into_iter().flat_map(|certificate| match certificate {
            Certificate::File { chain, key } => vec![chain.as_str(), key.as_str()],
            Certificate::Sds { .. } | Certificate::Acm { .. } => Vec::new(),
        });
        let believed = trusts.into_iter().filter_map(|trust| match trust {
            Trust::File { chain } => Some(chain.as_str()),
            Trust::Sds { .. } | Trust::Acm { .. } => None,
        });
        shown.chain(believed).collect()
    }

    /// ARNs of AWS Certificate Manager that it names.
    #[must_use]
    pub fn certificate_arns(&self) -> BTreeSet<&str> {
        let (certificates, trusts) = self.certificates();
        let shown = certificates.into_iter().filter_map(|certificate| match certificate {
            Certificate::Acm { arn } => Some(arn.as_str()),
            Certificate::File { .. } | Certificate::Sds { .. } => None,
        });
        let believed = trusts.into_iter().flat_map(|trust| match trust {
            Trust::Acm { arns } => arns.as_slice(),
            Trust::File { .. } | Trust::Sds { .. } => &[],
        });
        shown.chain(believed.map(String::as_str)).collect()
    }
}
