//! Servers of the namespaces, in this process: each says its name and remembers who came, and with which head.

use crate::kit::netns::Namespace;
use rcgen::{CertificateParams, KeyPair};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What a server speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// Answers requests.
    Http,
    /// The same by TLS, with a certificate of its own making.
    Https,
    /// Says its name before it is asked, as databases do, and closes.
    First,
}

/// A request, or a connection to one that speaks first.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) peer: IpAddr,
    /// Request line and headers, in lower case.
    pub(super) head: String,
}

impl Seen {
    /// Whether Envoy passed it on: it gives every request a number.
    pub(super) fn by_envoy(&self) -> bool {
        self.head.contains("\r\nx-request-id: ")
    }
}

/// A listening server; its end closes the listener.
pub(super) struct Server {
    seen: Arc<Mutex<Vec<Seen>>>,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) fn start(place: &Namespace, address: Ipv4Addr, port: u16, name: &'static str, speaks: Speaks) -> Self {
        let listener = place.listen(address, port);
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let noted = Arc::clone(&seen);
        let tls = (speaks == Speaks::Https).then(acceptor);
        let task = tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let (noted, tls) = (Arc::clone(&noted), tls.clone());
                tokio::spawn(async move {
                    let note = move |head: String| noted.lock().unwrap().push(Seen { peer: peer.ip(), head });
                    // Whoever leaves early is the business of the test's other end.
                    let _ = match tls {
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => answer(stream, name, note).await,
                            Err(error) => Err(error),
                        },
                        None if speaks == Speaks::First => speak(stream, name, note).await,
                        None => answer(stream, name, note).await,
                    };
                });
            }
        });
        Self { seen, task: task.abort_handle() }
    }

    /// Everything since the last look.
    pub(super) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// The one thing since the last look.
    #[track_caller]
    pub(super) fn one(&self) -> Seen {
        let seen = self.take();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.into_iter().next().unwrap()
    }
}

async fn speak(mut stream: TcpStream, name: &str, note: impl Fn(String)) -> std::io::Result<()> {
    note(String::new());
    stream.write_all(name.as_bytes()).await?;
    stream.shutdown().await
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, name: &str, note: impl Fn(String)) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        note(head.to_lowercase());
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
    }
}

fn acceptor() -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["anything.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let ring = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(ring).with_safe_default_protocol_versions().unwrap();
    TlsAcceptor::from(Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap()))
}
