//! Connections of proxies, before anybody knows whose they are: so many at a time, and silent ones not for long.
//!
//! With TLS each shakes hands in a task of its own, beside the loop that accepts, so that nobody waits for one that is slow or
//! means harm. It has its place among the connections from the beginning, and one span of time for all before its first word.

use crate::clock::Monotonic;
use crate::tls::{self, Tls};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::server::Connected;

/// Connections at a time: each of the most streams and logs may have its own (an Envoy has one for each thread), and some more
/// are coming or going. More wait in the system's queue.
const CONNECTIONS_MAX: usize = super::STREAMS_MAX + super::access_logs::LOGS_MAX + 1_000;
/// A peer that connects says something at once, its handshake of TLS included; HTTP/2's own questions begin after its first
/// words.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a failed accept is left alone: without descriptors, the next one fails too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Handshakes that failed are told in the log so often, however many they are: an Envoy tries again and again.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Connections as they are accepted, within the bounds; with TLS once hands are shaken.
pub(super) fn incoming(listener: TcpListener, tls: Option<Arc<Tls>>) -> impl Stream<Item = io::Result<Connection>> {
    futures_util::stream::unfold(Accepting::new(CONNECTIONS_MAX, listener, tls), |mut accepting| async move {
        let connection = accepting.next().await?;
        Some((Ok(connection), accepting))
    })
}

/// What accepts. Dropping it ends the handshakes that are under way.
struct Accepting {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    room: Arc<Semaphore>,
    handshakes: JoinSet<Result<Connection, Failed>>,
    told: Told,
}

impl Accepting {
    fn new(most: usize, listener: TcpListener, tls: Option<Arc<Tls>>) -> Self {
        let room = Arc::new(Semaphore::new(most));
        Self { listener, tls, room, handshakes: JoinSet::new(), told: Told::default() }
    }

    async fn next(&mut self) -> Option<Connection> {
        loop {
            tokio::select! {
                accepted = accept(&self.listener, &self.room) => {
                    let beginning = accepted?;
                    let Some(tls) = &self.tls else { return Some(beginning.plain()) };
                    self.handshakes.spawn(beginning.shake_hands(tls.config_of_proxies()));
                }
                Some(done) = self.handshakes.join_next() => match done {
                    Ok(Ok(connection)) => return Some(connection),
                    Ok(Err(failed)) => self.told.failed(&failed),
                    // A panic was told where it was.
                    Err(_) => {}
                },
            }
        }
    }
}

/// The next connection that there is room for. Nothing is lost when it is not waited for to the end.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<Beginning> {
    loop {
        // Nobody closes it.
        let permit = Arc::clone(room).acquire_owned().await.ok()?;
        match listener.accept().await {
            Ok((stream, address)) => {
                // Small messages are not to wait for each other; a system that cannot do so loses milliseconds.
                let _ = stream.set_nodelay(true);
                return Some(Beginning {
                    stream,
                    address,
                    permit,
                    silent: Box::pin(tokio::time::sleep(FIRST_BYTE_TIMEOUT)),
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection of a proxy could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection on which nothing was said.
struct Beginning {
    stream: TcpStream,
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
    silent: Pin<Box<Sleep>>,
}

impl Beginning {
    fn plain(self) -> Connection {
        let Self { stream, address, permit, silent } = self;
        let peer = Peer { address: Some(address), names: None };
        Connection { stream: Box::new(stream), peer, silent: Some(silent), _permit: permit }
    }

    async fn shake_hands(self, config: Arc<ServerConfig>) -> Result<Connection, Failed> {
        let Self { stream, address, permit, mut silent } = self;
        let shaken = tokio::select! {
            shaken = TlsAcceptor::from(config).accept(stream) => shaken,
            () = silent.as_mut() => Err(io::ErrorKind::TimedOut.into()),
        };
        let stream = shaken.map_err(|error| Failed { address, error })?;
        // There is one only where one was asked for, and then it was verified.
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let names = certificate.map(|certificate| tls::uris(certificate).into());
        let peer = Peer { address: Some(address), names };
        Ok(Connection { stream: Box::new(stream), peer, silent: Some(silent), _permit: permit })
    }
}

/// A handshake that came to nothing.
struct Failed {
    address: SocketAddr,
    error: io::Error,
}

/// What was told of handshakes that failed.
#[derive(Default)]
struct Told {
    at: Option<Monotonic>,
    untold: u64,
}

impl Told {
    fn failed(&mut self, Failed { address, error }: &Failed) {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof};
        // Who leaves before the end was perhaps the health check of a load balancer, which comes all the time.
        let left = matches!(error.kind(), BrokenPipe | ConnectionReset | TimedOut | UnexpectedEof);
        if left || self.at.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            self.untold += u64::from(!left);
            tracing::debug!(peer = %address, %error, "a handshake of TLS with a proxy failed");
            return;
        }
        let more = std::mem::take(&mut self.untold);
        tracing::info!(peer = %address, %error, more, "a handshake of TLS with a proxy failed");
        self.at = Some(Monotonic::now());
    }
}

/// Who is at the other end, as far as the connection tells.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    /// Where it is.
    pub(super) address: Option<SocketAddr>,
    /// Names (URI) of the certificate by which it was verified; `None` where none was asked for.
    pub(super) names: Option<Arc<[String]>>,
}

/// What a connection is made of, with TLS or without.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A connection that counts, and is ended when nothing is said on it in time.
pub(super) struct Connection {
    stream: Box<dyn Socket>,
    peer: Peer,
    silent: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let (Poll::Pending, Some(silent)) = (&read, &mut self.silent) {
            ready!(silent.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.silent = None;
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::certificate::ServerFiles;
    use crate::clock::{Clock, SystemClock};
    use futures_util::StreamExt;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, HandshakeKind, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;

    const NODE: &str = "spiffe://a.test/mesh/shop/virtualNode/a";

    /// A server that asks for certificates, and a client that has one for that name.
    fn server_and_client() -> (Arc<Tls>, TlsConnector) {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of the test");
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let issue = |host: &[String], uri: &str| {
            let mut params = CertificateParams::new(host).unwrap();
            params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        let (certificate, key) = issue(&["localhost".to_owned()], "spiffe://a.test/server");
        let files = ServerFiles {
            certificate: write("certificate", &certificate),
            key: write("key", &key),
            clients: Some(write("clients", &authority)),
        };
        let tls = Tls::open(files, SystemClock.now()).unwrap();

        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        let (certificate, key) = issue(&[], NODE);
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions().unwrap();
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        (Arc::new(tls), TlsConnector::from(Arc::new(config)))
    }

    /// Whoever does not shake hands keeps nobody from it who does; it has a place until it is let go, in time.
    #[tokio::test]
    async fn handshakes_hold_up_nobody_and_count_among_the_connections() {
        let (tls, connector) = server_and_client();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut accepting = Accepting::new(2, listener, Some(tls));
        let shake_hands = async || {
            let stream = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            connector.connect(name, stream).await.unwrap()
        };
        let mut silent = TcpStream::connect(address).await.unwrap();
        let (connection, mut stream) = tokio::join!(accepting.next(), shake_hands());
        let mut connection = connection.unwrap();
        assert_eq!(connection.connect_info().names.as_deref(), Some(&[NODE.to_owned()][..]));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut byte = [0];
        stream.write_all(b"x").await.unwrap();
        assert_eq!(connection.read(&mut byte).await.unwrap(), 1);
        // The client has read whatever it was given to come back with.
        connection.write_all(b"y").await.unwrap();
        assert_eq!(stream.read(&mut byte).await.unwrap(), 1);
        assert_eq!(accepting.room.available_permits(), 0, "both have a place");
        drop((connection, stream));
        // One that speaks no TLS gets the free place, and gives it back at once.
        let mut strange = TcpStream::connect(address).await.unwrap();
        strange.write_all(b"PRI * HTTP/2.0\r\n\r\n").await.unwrap();
        let (connection, stream) = tokio::join!(accepting.next(), shake_hands());
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full), "it was verified anew");

        // From here on time passes by itself: neither silence is waited for.
        tokio::time::pause();
        tokio::select! {
            _ = accepting.next() => panic!("nobody shakes hands"),
            read = silent.read(&mut byte) => assert_eq!(read.unwrap(), 0),
        }
        let error = connection.unwrap().read(&mut byte).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "the handshake was no first word");
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_not_waited_for_and_who_spoke_may_be_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = Box::pin(incoming(listener, None));
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut connection = connections.next().await.unwrap().unwrap();
        let mut byte = [0];
        let error = connection.read(&mut byte).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let mut other = TcpStream::connect(address).await.unwrap();
        let mut connection = connections.next().await.unwrap().unwrap();
        other.write_all(b"x").await.unwrap();
        assert_eq!(connection.read(&mut byte).await.unwrap(), 1);
        let silent = tokio::time::timeout(FIRST_BYTE_TIMEOUT * 10, connection.read(&mut byte)).await;
        assert!(silent.is_err());
        client.shutdown().await.unwrap();
    }
}
