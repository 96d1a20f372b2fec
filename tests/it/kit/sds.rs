//! An SDS server as SPIRE's agent is one: over a Unix socket, and whoever asks for a secret is told it again whenever it changes.
//! SPIRE itself cannot be had here; what this one says is held against a real Envoy.

use envoy_types::pb::envoy::config::core::v3 as core_v3;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server as service;
use envoy_types::pb::google::protobuf::Any;
use futures_util::stream::{self, BoxStream, StreamExt};
use prost::Message;
use std::collections::BTreeMap;
use std::path::Path;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

const URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

type Secrets = BTreeMap<String, tls::Secret>;

/// A server of secrets, until it is dropped.
pub(crate) struct Sds {
    secrets: watch::Sender<(u64, Secrets)>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Sds {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn inline(text: &str) -> Option<core_v3::DataSource> {
    let specifier = core_v3::data_source::Specifier::InlineBytes(text.as_bytes().to_vec());
    Some(core_v3::DataSource { specifier: Some(specifier), ..Default::default() })
}

/// A certificate with its key as a secret.
pub(crate) fn certificate((chain, key): &(String, String)) -> tls::secret::Type {
    tls::secret::Type::TlsCertificate(tls::TlsCertificate {
        certificate_chain: inline(chain),
        private_key: inline(key),
        ..Default::default()
    })
}

/// Authorities as a secret.
pub(crate) fn authorities(pem: &str) -> tls::secret::Type {
    let context = tls::CertificateValidationContext { trusted_ca: inline(pem), ..Default::default() };
    tls::secret::Type::ValidationContext(context)
}

impl Sds {
    pub(crate) fn start(socket: &Path) -> Self {
        let (secrets, told) = watch::channel((0, Secrets::new()));
        let listener = UnixListener::bind(socket).unwrap();
        let incoming = stream::unfold(listener, async |listener| {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        });
        let server = service::SecretDiscoveryServiceServer::new(Server(told));
        let serving = tonic::transport::Server::builder().add_service(server).serve_with_incoming(incoming);
        let task = tokio::spawn(async move {
            // It ends with the test.
            let _ = serving.await;
        });
        Self { secrets, task }
    }

    /// Changes a secret.
    pub(crate) fn tell(&self, name: &str, secret: tls::secret::Type) {
        self.secrets.send_modify(|(version, all)| {
            *version += 1;
            all.insert(name.to_owned(), tls::Secret { name: name.to_owned(), r#type: Some(secret) });
        });
    }
}

struct Server(watch::Receiver<(u64, Secrets)>);

/// One stream: what it asks for, and what it was told.
struct Asked {
    requests: Streaming<pb::DiscoveryRequest>,
    names: Vec<String>,
    told: Option<Vec<tls::Secret>>,
    secrets: watch::Receiver<(u64, Secrets)>,
}

impl Asked {
    async fn next(mut self) -> Option<(Result<pb::DiscoveryResponse, Status>, Self)> {
        loop {
            let (version, wanted) = {
                let (version, all) = &*self.secrets.borrow_and_update();
                let wanted: Option<Vec<tls::Secret>> = self.names.iter().map(|name| all.get(name).cloned()).collect();
                (version.to_string(), wanted.filter(|wanted| !wanted.is_empty()))
            };
            if wanted.is_some() && wanted != self.told {
                let any = |secret: &tls::Secret| Any { type_url: URL.into(), value: secret.encode_to_vec() };
                let resources = wanted.iter().flatten().map(any).collect();
                self.told = wanted;
                let (nonce, type_url) = (version.clone(), URL.to_owned());
                let answer =
                    pb::DiscoveryResponse { version_info: version, nonce, type_url, resources, ..Default::default() };
                return Some((Ok(answer), self));
            }
            tokio::select! {
                request = self.requests.message() => {
                    let request = request.ok()??;
                    assert!(request.error_detail.is_none(), "{request:?}");
                    self.names = request.resource_names;
                }
                changed = self.secrets.changed() => changed.ok()?,
            }
        }
    }
}

#[tonic::async_trait]
impl service::SecretDiscoveryService for Server {
    type StreamSecretsStream = BoxStream<'static, Result<pb::DiscoveryResponse, Status>>;
    type DeltaSecretsStream = BoxStream<'static, Result<pb::DeltaDiscoveryResponse, Status>>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<pb::DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let asked = Asked { requests: request.into_inner(), names: Vec::new(), told: None, secrets: self.0.clone() };
        Ok(Response::new(stream::unfold(asked, Asked::next).boxed()))
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<pb::DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("as SPIRE"))
    }

    async fn fetch_secrets(&self, _: Request<pb::DiscoveryRequest>) -> Result<Response<pb::DiscoveryResponse>, Status> {
        Err(Status::unimplemented("nobody asks so here"))
    }
}
