//! Certificates: files, as a configuration names them, and what they hold.

use crate::base::secret::Redacted;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Files (PEM) that stand in for a certificate of AWS Certificate Manager, or for an authority of its private ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandIn {
    /// What they stand in for.
    pub arn: String,
    /// Chain, the own certificate first, and its key; none for an authority.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// Whom to believe where the ARN is trusted.
    pub authorities: PathBuf,
}

/// Files (PEM) of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// Chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities by one of which proxies must have a certificate; `None` where none is asked for.
    pub clients: Option<PathBuf>,
}

/// Certificates and authorities by what names them: the ARNs of AWS Certificate Manager, or secrets of an SDS server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretFiles {
    /// By the ARN of a certificate or of an authority, or by the name of a secret.
    pub by_name: BTreeMap<String, SecretPem>,
}

/// PEMs of one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretPem {
    /// Chain, leaf first; empty for an authority alone.
    pub chain: String,
    /// Key of the chain; empty for an authority alone.
    pub key: Redacted<String>,
    /// Authorities that a client should believe for it; empty for a certificate alone.
    pub authorities: String,
}
