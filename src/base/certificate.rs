//! Files of certificates, as a configuration names them.

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
