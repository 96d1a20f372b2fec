//! Certificates and authorities by where a policy says that they are: files of this machine, secrets of the SDS server beside
//! the proxy, and what stands in for AWS Certificate Manager. Pure: what the sources hold is read elsewhere.

use crate::base::certificate::SecretFiles;
use crate::base::time::Timestamp;
use crate::mesh::snapshot::{Certificate, Trust};
use crate::tls;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

/// Where secrets come from that are no files; each is followed as long as its sender is there.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// What stands in for AWS Certificate Manager, by ARN: the control plane tells it.
    pub acm: Option<watch::Receiver<Arc<SecretFiles>>>,
    /// Secrets of the SDS server beside the proxy, by name.
    pub sds: Option<watch::Receiver<Arc<SecretFiles>>>,
}

/// What a file holds, or why it cannot be had.
pub(super) type FileRead = Result<Vec<u8>, String>;

/// Everything that was found.
#[derive(Default)]
pub(super) struct Found {
    /// By path.
    pub(super) files: BTreeMap<String, FileRead>,
    pub(super) acm: Arc<SecretFiles>,
    pub(super) sds: Arc<SecretFiles>,
}

/// PEM of a chain and of its key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// What people call it.
    pub(super) name: String,
    pub(super) chain: Vec<u8>,
    /// What people call the key.
    pub(super) key_name: String,
    pub(super) key: Vec<u8>,
}

impl Shown {
    /// How its certificate is out of its time, if it is.
    pub(super) fn out_of_time(&self, now: Timestamp) -> Option<String> {
        tls::out_of_time(Path::new(&self.name), &self.chain, now).map(|error| error.to_string())
    }
}

/// PEM of authorities.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Believed {
    /// What people call them.
    pub(super) name: String,
    pub(super) authorities: Vec<u8>,
}

impl Found {
    /// A certificate with its key.
    ///
    /// # Errors
    /// It is not there, and what to do.
    pub(super) fn shown(&self, certificate: &Certificate) -> Result<Shown, String> {
        let (name, pem) = match certificate {
            Certificate::File { chain, key } => {
                let (name, key_name) = (chain.clone(), key.clone());
                return Ok(Shown { name, chain: self.file(chain)?, key_name, key: self.file(key)? });
            }
            Certificate::Sds { secret } => (secret, self.sds.by_name.get(secret).ok_or_else(|| no_secret(secret))?),
            Certificate::Acm { arn } => (arn, self.acm.by_name.get(arn).ok_or_else(|| no_stand_in(arn))?),
        };
        if pem.chain.is_empty() || pem.key.reveal().is_empty() {
            return Err(format!("{name} has no certificate with a key"));
        }
        let (chain, key) = (pem.chain.clone().into_bytes(), pem.key.reveal().clone().into_bytes());
        Ok(Shown { name: name.clone(), chain, key_name: name.clone(), key })
    }

    /// Authorities.
    ///
    /// # Errors
    /// They are not there, and what to do.
    pub(super) fn believed(&self, trust: &Trust) -> Result<Believed, String> {
        let pem = match trust {
            Trust::File { chain } => return Ok(Believed { name: chain.clone(), authorities: self.file(chain)? }),
            Trust::Sds { secret } => {
                let pem = self.sds.by_name.get(secret).ok_or_else(|| no_secret(secret))?;
                (secret.clone(), pem.authorities.clone())
            }
            Trust::Acm { arns } => {
                let mut all = String::new();
                for arn in arns {
                    all.push_str(&self.acm.by_name.get(arn).ok_or_else(|| no_stand_in(arn))?.authorities);
                }
                (arns.join(", "), all)
            }
        };
        Ok(Believed { name: pem.0, authorities: pem.1.into_bytes() })
    }

    fn file(&self, path: &str) -> FileRead {
        self.files.get(path).cloned().unwrap_or_else(|| Err(format!("{path} was not read yet")))
    }
}

fn no_secret(name: &str) -> String {
    format!(
        "the SDS server beside the proxy has told no secret {name:?}; see that it runs, that $APPMESH_SDS_SOCKET_PATH or \
         --sds names its socket, and that it has an entry for this proxy"
    )
}

fn no_stand_in(arn: &str) -> String {
    format!("the control plane told nothing that stands in for {arn} of AWS Certificate Manager")
}
