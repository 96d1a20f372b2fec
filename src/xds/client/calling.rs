//! How the control plane is called: its address, and TLS as its files are now.
//!
//! The files are read whenever a stream begins. What cannot be used then, such as half a renewal, is said in the log once, and
//! what was good before is used again.

use super::{CONNECT_TIMEOUT, ClientError, TlsFiles};
use crate::base::fault::chain;
use crate::base::secret::Redacted;
use crate::tls;
use std::path::Path;
use std::time::Duration;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// Silent connections are asked whether they live so often, and given up after so long: as Envoys are (appmesh "Bootstrap").
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What the files hold.
#[derive(Clone, PartialEq, Eq, Default)]
struct Contents {
    authorities: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Redacted<Vec<u8>>)>,
}

/// The way to the control plane.
pub(super) struct Calling {
    url: String,
    files: TlsFiles,
    /// What the endpoint was made of.
    contents: Contents,
    endpoint: Endpoint,
    /// What was told to be wrong with the files.
    told: Option<String>,
}

impl Calling {
    /// # Errors
    /// [`ClientError`]: no stream can be opened whoever answers.
    pub(super) fn new(url: String, files: TlsFiles) -> Result<Self, ClientError> {
        let contents = files.read().map_err(ClientError::Tls)?;
        let endpoint = endpoint(&url, &contents)?;
        Ok(Self { url, files, contents, endpoint, told: None })
    }

    /// As it is called now.
    pub(super) async fn endpoint(&mut self) -> Endpoint {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        let read = read.unwrap_or_else(|error| Err(error.to_string()));
        let news = match read {
            Ok(contents) if contents == self.contents => Ok(()),
            Ok(contents) => match endpoint(&self.url, &contents) {
                Ok(endpoint) => {
                    tracing::info!("the files of TLS towards the control plane have changed");
                    (self.contents, self.endpoint) = (contents, endpoint);
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            },
            Err(why) => Err(why),
        };
        let flaw = news.err();
        if flaw.is_some() && flaw != self.told {
            let why = flaw.as_deref();
            tracing::warn!(
                why,
                "the files of TLS towards the control plane cannot be used; what was read before stays"
            );
        }
        self.told = flaw;
        self.endpoint.clone()
    }
}

impl TlsFiles {
    /// # Errors
    /// Which file cannot be read, and why.
    fn read(&self) -> Result<Contents, String> {
        let read = |what, path: &Path| tls::read(what, path).map_err(|error| error.to_string());
        let authorities = self.authorities.as_deref().map(|path| read("--ca", path)).transpose()?;
        let identity = match &self.identity {
            Some((certificate, key)) => Some((read("--certificate", certificate)?, Redacted::new(read("--key", key)?))),
            None => None,
        };
        Ok(Contents { authorities, identity })
    }
}

fn endpoint(url: &str, contents: &Contents) -> Result<Endpoint, ClientError> {
    let wrong = |why: String| ClientError::Address { url: url.to_owned(), why };
    let is_tls = url.starts_with("https://");
    if !is_tls && !url.starts_with("http://") {
        return Err(wrong("it begins with neither http:// nor https://".to_owned()));
    }
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| wrong(error.to_string()))?;
    if endpoint.uri().host().is_none() || endpoint.uri().port_u16().is_none() {
        return Err(wrong("it has no host or no port".to_owned()));
    }
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    if !is_tls {
        return Ok(endpoint);
    }
    let mut tls = match &contents.authorities {
        Some(pem) if !pem.windows(BEGIN.len()).any(|words| words == BEGIN) => {
            return Err(ClientError::Tls(
                "the file of authorities has no line `-----BEGIN CERTIFICATE-----`".to_owned(),
            ));
        }
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some((chain, key)) = &contents.identity {
        tls::certified(Path::new("--certificate"), Path::new("--key"), chain, key.reveal())
            .map_err(|error| ClientError::Tls(error.to_string()))?;
        tls = tls.identity(Identity::from_pem(chain, key.reveal()));
    }
    endpoint.tls_config(tls).map_err(|error| ClientError::Tls(chain(&error)))
}

/// What a certificate in PEM begins with.
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
