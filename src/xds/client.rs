//! A native proxy's way to its configuration, when it is a process of its own: one stream of the control plane, opened again
//! whenever it ends, and a file that has the last configuration for when nobody can be asked.
//!
//! What is not understood is refused with the reason, which people read at the control plane; the last good one stays. A
//! configuration from the file may be any time old, so weights that somebody had to renew are those of their fallback.

mod calling;
mod kept;

use crate::base::certificate::SecretFiles;
use crate::base::fault::chain;
use crate::base::pause::pause_after;
use crate::base::secret::Redacted;
use crate::clock::{Monotonic, seed};
use crate::mesh::snapshot::NodeConfig;
use crate::xds::translate::{Type, native};
use calling::Calling;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use envoy_types::pb::google::protobuf::{Struct, Value, value};
use envoy_types::pb::google::rpc;
use kept::Kept;
use pb::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Time to connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After a stream that ended, the first pause; twice as long each further time, half of it by chance, so that the proxies of a
/// control plane that was restarted do not come back together.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A stream that lasted this long was a good one: the next pause is the first again.
const GOOD: Duration = Duration::from_secs(60);
/// For this long after its start a proxy prefers to be told its configuration to what it kept.
const PATIENCE: Duration = Duration::from_secs(5);
/// A configuration: that of the largest mesh, with room.
const MESSAGE_MAX: usize = 64 << 20;
/// Requests that wait to be sent: one answers each message.
const WAITING_MAX: usize = 4;

/// Where a proxy's configuration comes from.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    pub control_plane: String,
    /// `mesh/M/virtualNode/N`, `mesh/M/virtualGateway/G`, or the ARN of one.
    pub node: String,
    /// Access key `ID:SECRET`, sent as a bearer token.
    pub token: Option<Redacted<String>>,
    /// What TLS needs.
    pub tls: TlsFiles,
    /// File of the last configuration; `None` keeps none.
    pub kept: Option<PathBuf>,
}

/// Files of PEM, which are read anew whenever a stream begins, so that they may be renewed.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// The authorities that the control plane's certificate is judged by; `None` for the system's.
    pub authorities: Option<PathBuf>,
    /// A certificate and its key that are shown to it.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why there can be no stream at all.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("--control-plane {url}: {why}; write http://HOST:PORT or https://HOST:PORT")]
    Address {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// What TLS needs is not usable.
    #[error("--ca, --certificate or --key: {0}")]
    Tls(String),
    /// The token cannot be sent.
    #[error("the token has characters that no header may have")]
    Token,
}

/// Follows a node's configuration. A handle to wait by.
pub struct Following {
    config: watch::Receiver<Arc<NodeConfig>>,
    secrets: watch::Receiver<Arc<SecretFiles>>,
    first: watch::Receiver<Option<Origin>>,
}

/// Where the first configuration came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The control plane told it.
    Told,
    /// It was kept from an earlier run, which ended at an unknown time.
    Kept,
}

impl Following {
    /// Waits for the first configuration, however long, and tells where it came from.
    pub async fn first(&mut self) -> Origin {
        match self.first.wait_for(Option::is_some).await {
            Ok(origin) => origin.unwrap_or(Origin::Told),
            // The follower never ends before its listeners do.
            Err(_) => std::future::pending().await,
        }
    }

    /// The configuration as it changes.
    #[must_use]
    pub fn config(&self) -> watch::Receiver<Arc<NodeConfig>> {
        self.config.clone()
    }

    /// The certificates of AWS Certificate Manager that it names, as they are renewed.
    #[must_use]
    pub fn secrets(&self) -> watch::Receiver<Arc<SecretFiles>> {
        self.secrets.clone()
    }
}

/// Begins to follow, within a runtime, for as long as anybody listens.
///
/// # Errors
/// [`ClientError`]: no stream can be opened whoever answers.
pub fn follow(settings: ClientSettings) -> Result<Following, ClientError> {
    let calling = Calling::new(settings.control_plane, settings.tls)?;
    let token = match &settings.token {
        Some(token) => {
            let text = format!("Bearer {}", token.reveal());
            Some(MetadataValue::try_from(text).map_err(|_| ClientError::Token)?)
        }
        None => None,
    };
    let (config, config_receiver) = watch::channel(Arc::new(NodeConfig::default()));
    let (secrets, secrets_receiver) = watch::channel(Arc::default());
    let (first, first_receiver) = watch::channel(None);
    let kept = settings.kept.map(|path| Kept::new(path, settings.node.clone()));
    let (told, to_keep) = watch::channel(None);
    if let Some(kept) = kept.clone() {
        tokio::spawn(keep(kept, to_keep));
    }
    let client = Client { node: settings.node, calling, token, config, secrets, first, told, kept };
    tokio::spawn(client.run());
    Ok(Following { config: config_receiver, secrets: secrets_receiver, first: first_receiver })
}

struct Client {
    node: String,
    calling: Calling,
    token: Option<MetadataValue<tonic::metadata::Ascii>>,
    config: watch::Sender<Arc<NodeConfig>>,
    secrets: watch::Sender<Arc<SecretFiles>>,
    first: watch::Sender<Option<Origin>>,
    /// What was told last, for whoever keeps it.
    told: watch::Sender<Option<Told>>,
    kept: Option<Kept>,
}

/// A configuration with the certificates that it names.
type Told = (Arc<NodeConfig>, Arc<SecretFiles>);

/// Writes down what was told last, whenever that changes.
async fn keep(kept: Kept, mut told: watch::Receiver<Option<Told>>) {
    while told.changed().await.is_ok() {
        let last = told.borrow_and_update().clone();
        if let Some((config, secrets)) = last
            && let Err(why) = kept.write(&config, &secrets).await
        {
            tracing::warn!(why, "the configuration is not kept: without the control plane a restart would have none");
        }
    }
}

impl Client {
    async fn run(mut self) {
        let mut failures: u32 = 0;
        let mut last_told = None;
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        loop {
            let began = Monotonic::now();
            let ended = {
                let endpoint = self.calling.endpoint().await;
                let stream = self.stream(&endpoint);
                tokio::pin!(stream);
                loop {
                    tokio::select! {
                        ended = &mut stream => break ended,
                        () = &mut patience, if self.first.borrow().is_none() && !patience.is_elapsed() => {
                            self.fall_back().await;
                        }
                        () = self.config.closed() => return,
                    }
                }
            };
            failures = if began.elapsed() >= GOOD { 1 } else { failures + 1 };
            let news = Some((ended.code(), ended.message().to_owned()));
            // Said when it is another reason than before, and once in a while, since it is tried for ever.
            if news != last_told || failures.is_multiple_of(20) {
                let (code, reason) = (ended.code(), ended.message());
                tracing::warn!(?code, reason, "no stream to the control plane; what is in force stays so");
                last_told = news;
            }
            let pause = tokio::time::sleep(pause_after(failures, FIRST_PAUSE, LONGEST_PAUSE, seed()));
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    () = &mut patience, if self.first.borrow().is_none() && !patience.is_elapsed() => {
                        self.fall_back().await;
                    }
                    () = self.config.closed() => return,
                }
            }
        }
    }

    /// Goes by what was kept, until the control plane tells something.
    async fn fall_back(&self) {
        let Some(kept) = &self.kept else { return };
        let read = tokio::time::timeout(PATIENCE, kept.read()).await;
        match read.unwrap_or_else(|_| Err("it could not be read within 5 s".to_owned())) {
            Ok(Some((config, secrets))) => {
                tracing::warn!("the control plane has told nothing yet; going by the configuration that was kept");
                self.secrets.send_replace(Arc::new(secrets));
                self.config.send_replace(Arc::new(config.lapsed()));
                self.first.send_replace(Some(Origin::Kept));
            }
            Ok(None) => {}
            Err(why) => tracing::warn!(why, "the configuration that was kept cannot be used"),
        }
    }

    /// One stream, until it ends; why it did.
    async fn stream(&self, endpoint: &Endpoint) -> Status {
        match self.follow_one(endpoint).await {
            Ok(()) => Status::new(Code::Unavailable, "the control plane ended the stream"),
            Err(status) => status,
        }
    }

    async fn follow_one(&self, endpoint: &Endpoint) -> Result<(), Status> {
        // The endpoint's own limit is for the connection alone, and a peer may be silent in the handshake of TLS too.
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await;
        let connected = connected.map_err(|_| Status::unavailable("no connection within 5 s"))?;
        let channel: Channel = connected.map_err(|error| Status::unavailable(chain(&error)))?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let mut call = Request::new(ReceiverStream::new(waiting));
        if let Some(token) = &self.token {
            call.metadata_mut().insert("authorization", token.clone());
        }
        let first = pb::DiscoveryRequest {
            node: Some(node(&self.node)),
            type_url: Type::Native.url().to_owned(),
            ..Default::default()
        };
        let hung_up = |_| Status::unavailable("the stream ended");
        requests.send(first).await.map_err(hung_up)?;
        let mut answers = client.stream_aggregated_resources(call).await?.into_inner();
        let mut taken = String::new();
        while let Some(answer) = answers.message().await? {
            let refusal = match self.take(&answer) {
                Ok(()) => {
                    taken.clone_from(&answer.version_info);
                    None
                }
                Err(why) => {
                    tracing::warn!(why, version = answer.version_info, "a configuration that this proxy does not take");
                    Some(rpc::Status { code: Code::InvalidArgument.into(), message: why, details: Vec::new() })
                }
            };
            let acknowledgement = pb::DiscoveryRequest {
                type_url: answer.type_url,
                version_info: taken.clone(),
                response_nonce: answer.nonce,
                error_detail: refusal,
                ..Default::default()
            };
            requests.send(acknowledgement).await.map_err(hung_up)?;
        }
        Ok(())
    }

    /// Makes what came the configuration.
    fn take(&self, answer: &pb::DiscoveryResponse) -> Result<(), String> {
        let [resource] = &answer.resources[..] else {
            return Err(format!("{} resources instead of one", answer.resources.len()));
        };
        let (config, secrets) = native::read(resource)?;
        let (config, secrets) = (Arc::new(config), Arc::new(secrets));
        // First, since the configuration may name new ones.
        self.secrets.send_if_modified(|last| {
            let is_new = *last != secrets;
            *last = Arc::clone(&secrets);
            is_new
        });
        self.config.send_replace(Arc::clone(&config));
        self.first.send_if_modified(|first| first.replace(Origin::Told).is_none());
        // In force first: a disk that hangs must not hold up a change of weights.
        self.told.send_replace(Some((config, secrets)));
        Ok(())
    }
}

/// Who this is: a native proxy of that node.
fn node(id: &str) -> core::Node {
    let boolean = |truth| Value { kind: Some(value::Kind::BoolValue(truth)) };
    let object = |name: &str, inner| Struct { fields: [(name.to_owned(), inner)].into() };
    let ours = Value { kind: Some(value::Kind::StructValue(object("native", boolean(true)))) };
    core::Node {
        id: id.to_owned(),
        metadata: Some(object("tidegate", ours)),
        user_agent_name: "tidegate".to_owned(),
        user_agent_version_type: Some(core::node::UserAgentVersionType::UserAgentVersion(
            env!("CARGO_PKG_VERSION").to_owned(),
        )),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_address_is_said_to_be_none() {
        for (url, why) in [
            ("tidegate:7072", "neither http:// nor https://"),
            ("http://", "invalid"),
            ("http://tidegate", "no host or no port"),
            ("http:// x:1", "invalid"),
        ] {
            let settings = ClientSettings {
                control_plane: url.to_owned(),
                node: "mesh/m/virtualNode/n".to_owned(),
                token: None,
                tls: TlsFiles::default(),
                kept: None,
            };
            let error = follow(settings).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(why), "{url}: {error}");
        }
    }
}
