//! Secrets of an SDS server beside the proxy (Envoy's `SecretDiscoveryService`, as SPIRE's agent serves it), over a Unix socket.
//!
//! One stream asks for all that the configuration names, and is opened again whenever it ends. What was told stays until
//! something else is.

use super::translate::Type;
use crate::base::certificate::{SecretFiles, SecretPem};
use crate::base::fault::chain;
use crate::base::pause::pause_after;
use crate::base::secret::Redacted;
use crate::clock::{Monotonic, seed};
use crate::mesh::snapshot::NodeConfig;
use envoy_types::pb::envoy::config::core::v3 as config_core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::rpc;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

/// Time to connect: the other end is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After a stream that ended, the first pause; twice as long each further time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A stream that lasted this long was a good one.
const GOOD: Duration = Duration::from_secs(60);
/// Secrets of one message: chains have a few kB, and a proxy names a handful.
const MESSAGE_MAX: usize = 4 << 20;
/// Requests that wait to be sent: one answers each message, and one asks for other secrets.
const WAITING_MAX: usize = 4;

/// Follows the secrets that a configuration names, within a runtime, for as long as anybody listens. `node` is whose proxy asks.
#[must_use]
pub fn follow(
    socket: PathBuf,
    node: String,
    config: watch::Receiver<Arc<NodeConfig>>,
) -> watch::Receiver<Arc<SecretFiles>> {
    let (told, receiver) = watch::channel(Arc::default());
    tokio::spawn(Client { socket, node, config, told }.run());
    receiver
}

struct Client {
    socket: PathBuf,
    node: String,
    config: watch::Receiver<Arc<NodeConfig>>,
    told: watch::Sender<Arc<SecretFiles>>,
}

impl Client {
    async fn run(mut self) {
        let mut failures: u32 = 0;
        let mut last_reason = String::new();
        let closed = self.told.clone();
        loop {
            let began = Monotonic::now();
            let ended = tokio::select! {
                ended = self.stream() => ended,
                () = closed.closed() => return,
            };
            failures = if began.elapsed() >= GOOD { 1 } else { failures + 1 };
            if ended != last_reason {
                let socket = self.socket.display();
                tracing::warn!(%socket, reason = ended, "no stream of secrets; what was told stays");
                last_reason = ended;
            }
            tokio::select! {
                () = sleep(pause_after(failures, FIRST_PAUSE, LONGEST_PAUSE, seed())) => {}
                () = closed.closed() => return,
            }
        }
    }

    /// One stream, until it ends; why it did.
    async fn stream(&mut self) -> String {
        // Whose configuration names no secret asks nobody.
        let waited = self.config.wait_for(|config| !config.sds_secrets().is_empty()).await.is_ok();
        if !waited {
            std::future::pending::<()>().await;
        }
        match self.follow_one().await {
            Ok(()) => "the SDS server ended the stream".to_owned(),
            Err(status) => status.message().to_owned(),
        }
    }

    async fn connect(&self) -> Result<Channel, Status> {
        let path = self.socket.clone();
        // Its authority is said and goes nowhere.
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(CONNECT_TIMEOUT);
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let connected = timeout(CONNECT_TIMEOUT, endpoint.connect_with_connector(connector)).await;
        let connected = connected.map_err(|_| Status::unavailable("no connection within 5 s"))?;
        connected.map_err(|error| Status::unavailable(chain(&error)))
    }

    async fn follow_one(&mut self) -> Result<(), Status> {
        let mut client =
            SecretDiscoveryServiceClient::new(self.connect().await?).max_decoding_message_size(MESSAGE_MAX);
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let mut last = pb::DiscoveryRequest {
            node: Some(config_core::Node {
                id: self.node.clone(),
                user_agent_name: "tidegate".into(),
                ..Default::default()
            }),
            type_url: Type::Secret.url().to_owned(),
            resource_names: self.names(),
            ..Default::default()
        };
        let hung_up = |_| Status::unavailable("the stream ended");
        requests.send(last.clone()).await.map_err(hung_up)?;
        last.node = None;
        let call = client.stream_secrets(ReceiverStream::new(waiting));
        tokio::pin!(call);
        // A server may begin its answer only once it has one, and other secrets may be wanted before.
        let mut answers = loop {
            tokio::select! {
                answered = &mut call => break answered?.into_inner(),
                changed = self.config.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    last.resource_names = self.names();
                    requests.send(last.clone()).await.map_err(hung_up)?;
                }
            }
        };
        loop {
            tokio::select! {
                answer = answers.message() => {
                    let Some(answer) = answer? else { return Ok(()) };
                    last.response_nonce = answer.nonce.clone();
                    last.error_detail = match self.take(&answer) {
                        Ok(()) => {
                            last.version_info = answer.version_info;
                            None
                        }
                        Err(why) => {
                            tracing::warn!(why, "a secret that this proxy does not take; the last good one stays");
                            Some(rpc::Status { code: Code::InvalidArgument.into(), message: why, details: Vec::new() })
                        }
                    };
                }
                changed = self.config.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let names = self.names();
                    if names == last.resource_names {
                        continue;
                    }
                    last.resource_names = names;
                    last.error_detail = None;
                }
            }
            requests.send(last.clone()).await.map_err(hung_up)?;
        }
    }

    fn names(&mut self) -> Vec<String> {
        self.config.borrow_and_update().sds_secrets().into_iter().map(str::to_owned).collect()
    }

    /// Adds what came to what is known: an answer need not repeat what has not changed.
    fn take(&self, answer: &pb::DiscoveryResponse) -> Result<(), String> {
        let (mut all, mut wrong) = (SecretFiles::clone(&self.told.borrow()), Vec::new());
        for resource in &answer.resources {
            let secret = tls::Secret::decode(&*resource.value).map_err(|error| error.to_string())?;
            match pem(&secret) {
                Ok(pem) => drop(all.by_name.insert(secret.name, pem)),
                Err(why) => wrong.push(format!("{}: {why}", secret.name)),
            }
        }
        self.told.send_if_modified(|last| {
            let is_new = **last != all;
            *last = Arc::new(all);
            is_new
        });
        // The others of the message are good all the same.
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

/// What a secret holds.
fn pem(secret: &tls::Secret) -> Result<SecretPem, String> {
    use tls::secret::Type::{TlsCertificate, ValidationContext};
    match &secret.r#type {
        Some(TlsCertificate(certificate)) => Ok(SecretPem {
            chain: text(certificate.certificate_chain.as_ref())?,
            key: Redacted::new(text(certificate.private_key.as_ref())?),
            authorities: String::new(),
        }),
        Some(ValidationContext(context)) => {
            Ok(SecretPem { authorities: text(context.trusted_ca.as_ref())?, ..SecretPem::default() })
        }
        _ => Err("it is neither a certificate nor authorities".to_owned()),
    }
}

/// PEM that is said in the secret itself. The error never quotes it.
fn text(source: Option<&config_core::DataSource>) -> Result<String, String> {
    use config_core::data_source::Specifier::{InlineBytes, InlineString};
    match source.and_then(|source| source.specifier.as_ref()) {
        Some(InlineBytes(bytes)) => String::from_utf8(bytes.clone()).map_err(|_| "its PEM is not text".to_owned()),
        Some(InlineString(text)) => Ok(text.clone()),
        _ => Err("its PEM does not stand in it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_and_authorities_are_taken_and_keys_are_not_shown() {
        use config_core::data_source::Specifier;
        let source = |specifier| Some(config_core::DataSource { specifier: Some(specifier), ..Default::default() });
        let inline = |text: &str| source(Specifier::InlineBytes(text.as_bytes().to_vec()));
        let secret = |inner| tls::Secret { name: "n".into(), r#type: inner };
        let certificate = |key| {
            tls::secret::Type::TlsCertificate(tls::TlsCertificate {
                certificate_chain: inline("CHAIN"),
                private_key: key,
                ..Default::default()
            })
        };
        let taken = pem(&secret(Some(certificate(inline("KEY"))))).unwrap();
        assert_eq!((taken.chain.as_str(), taken.key.reveal().as_str()), ("CHAIN", "KEY"));
        assert!(!format!("{taken:?}").contains("KEY"));
        let context = tls::CertificateValidationContext { trusted_ca: inline("CA"), ..Default::default() };
        let taken = pem(&secret(Some(tls::secret::Type::ValidationContext(context)))).unwrap();
        assert_eq!((taken.authorities.as_str(), taken.chain.as_str()), ("CA", ""));
        let elsewhere = source(Specifier::Filename("/etc/key".into()));
        assert!(pem(&secret(Some(certificate(elsewhere)))).unwrap_err().contains("does not stand in it"));
        assert!(pem(&secret(Some(certificate(source(Specifier::InlineBytes(vec![0xff])))))).is_err());
        assert!(pem(&secret(None)).is_err());
    }
}
