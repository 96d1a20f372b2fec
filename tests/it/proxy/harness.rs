//! Backends, clients and configurations for tests of the proxy.

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tidegate::base::fault::Fault;
use tidegate::base::ids::RouteRef;
use tidegate::base::time::Millis;
use tidegate::discovery::dns::DnsSource;
use tidegate::mesh::snapshot::{
    Cluster, ClusterKey, ClusterPort, Discovery, Extensions, HealthCheck, NodeConfig, NodeExtensions, PathMatch,
    Protocol, RetryPolicy, Route, RouteMatch, Target, VirtualService,
};
use tidegate::ports::EndpointSource;
use tidegate::proxy::{self, ProxyHandle, ProxySettings};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(super) type Body = BoxBody<Bytes, std::io::Error>;

/// A body of these bytes.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

/// A body of these frames, of unknown length; one that stalls never ends.
pub(super) struct Frames {
    frames: std::vec::IntoIter<Bytes>,
    stalls: bool,
}

impl Frames {
    pub(super) fn body(frames: &[&'static [u8]]) -> Body {
        Self::new(frames, false).boxed()
    }

    pub(super) fn stalling(frames: &[&'static [u8]]) -> Body {
        Self::new(frames, true).boxed()
    }

    fn new(frames: &[&'static [u8]], stalls: bool) -> Self {
        let frames: Vec<Bytes> = frames.iter().map(|frame| Bytes::from_static(frame)).collect();
        Self { frames: frames.into_iter(), stalls }
    }
}

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        match self.frames.next() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None if self.stalls => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

/// Waits until a condition holds; fails after ten seconds.
pub(super) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..1000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}

/// A server on a free port.
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Backend {
    /// Serves raw connections.
    pub(super) async fn raw<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, accepted }
    }

    /// Serves HTTP requests.
    pub(super) async fn http<F: Future<Output = Response<Body>> + Send + 'static>(
        handle: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::raw(move |stream| {
            let handle = handle.clone();
            async move {
                let service = hyper::service::service_fn(move |request| {
                    let answer = handle(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await
    }

    /// Answers every request with this text.
    pub(super) async fn text(text: &'static str) -> Self {
        Self::http(move |_| async move { Response::new(full(text)) }).await
    }

    /// Answers every request with this status.
    pub(super) async fn status(status: u16) -> Self {
        Self::http(move |_| async move { Response::builder().status(status).body(full("x")).unwrap() }).await
    }

    /// Connections accepted so far.
    pub(super) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// Discovery that a test writes.
#[derive(Default)]
pub(super) struct Listed(Mutex<Vec<SocketAddr>>);

impl Listed {
    pub(super) fn of(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let listed = Self::default();
        listed.set(addresses);
        listed
    }

    pub(super) fn set(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        *self.0.lock().unwrap() = addresses.into_iter().collect();
    }
}

#[async_trait]
impl EndpointSource for Listed {
    async fn resolve(&self, _: &Discovery, _: u16) -> Result<Vec<SocketAddr>, Fault> {
        Ok(self.0.lock().unwrap().clone())
    }
}

/// An address where nobody listens.
pub(super) async fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A configuration with one service `shop.local` and one route.
#[derive(Clone)]
pub(super) struct Mesh {
    pub(super) config: NodeConfig,
    pub(super) route: Route,
}

impl Mesh {
    pub(super) fn new(version: u64) -> Self {
        let route = Route {
            id: RouteRef { mesh: "m".into(), router: "shop".into(), route: "all".into() },
            version,
            protocol: Protocol::Http,
            matches: RouteMatch::default(),
            targets: Vec::new(),
            request_timeout: Some(Millis(15_000)),
            idle_timeout: None,
            retry: RetryPolicy::default(),
            fallback: None,
            extensions: None,
            fuse: None,
        };
        Self { config: NodeConfig { version, ..NodeConfig::default() }, route }
    }

    pub(super) fn discovered(mut self, node: &str, discovery: Discovery, port: u16, weight: u32) -> Self {
        let key = ClusterKey { mesh: "m".into(), node: node.into() };
        let ports = vec![ClusterPort::plain(port, Protocol::Http)];
        let cluster = Cluster { key: key.clone(), discovery, ports, extensions: NodeExtensions::default() };
        self.config.clusters.insert(key.clone(), Arc::new(cluster));
        self.route.targets.push(Target { cluster: key, port, weight });
        self
    }

    pub(super) fn target(self, node: &str, address: SocketAddr, weight: u32) -> Self {
        self.discovered(node, Discovery::by_name(address.ip().to_string(), false), address.port(), weight)
    }

    pub(super) fn prefix(mut self, prefix: &str) -> Self {
        self.route.matches.path = PathMatch::Prefix(prefix.into());
        self
    }

    /// What this tag of the route says.
    pub(super) fn tag(mut self, tag: &str, value: &str) -> Self {
        let targets: Vec<&str> = self.route.targets.iter().map(|target| &*target.cluster.node).collect();
        let (extensions, flaws) = Extensions::read([(tag, value)], &targets);
        assert_eq!(flaws, []);
        self.route.extensions = extensions;
        self
    }

    pub(super) fn timeout(mut self, ms: u64) -> Self {
        self.route.request_timeout = Some(Millis(ms));
        self
    }

    /// App Mesh's default policy, and resets.
    pub(super) fn retries(mut self, max_retries: u32) -> Self {
        let statuses = vec![503];
        self.route.retry =
            RetryPolicy { max_retries, on_connect_failure: true, on_reset: true, statuses, ..RetryPolicy::default() };
        self
    }

    pub(super) fn health_check(mut self, check: &HealthCheck) -> Self {
        for cluster in self.config.clusters.values_mut() {
            Arc::make_mut(cluster).ports[0].health_check = Some(check.clone());
        }
        self
    }

    /// The same with other weights, one version on.
    pub(super) fn reweighted(mut self, weights: &[u32]) -> Self {
        self.config.version += 1;
        self.route.version += 1;
        for (target, weight) in self.route.targets.iter_mut().zip(weights) {
            target.weight = *weight;
        }
        self
    }

    pub(super) fn build(&self) -> Arc<NodeConfig> {
        let mut config = self.config.clone();
        let name = "shop.local".to_owned();
        let routes = vec![Arc::new(self.route.clone())];
        let service = VirtualService { mesh: "m".into(), name: name.clone(), ports: Vec::new(), routes };
        config.services = BTreeMap::from([(name, Arc::new(service))]);
        Arc::new(config)
    }
}

/// A proxy with two workers on free ports.
pub(super) struct Proxy {
    pub(super) handle: ProxyHandle,
    pub(super) config: watch::Sender<Arc<NodeConfig>>,
}

impl Proxy {
    pub(super) async fn start(mesh: Mesh) -> Self {
        Self::with(mesh, |_| {}).await
    }

    pub(super) async fn with(mesh: Mesh, change: impl FnOnce(&mut ProxySettings)) -> Self {
        Self::from_source(mesh, Arc::new(DnsSource), change).await
    }

    pub(super) async fn from_source(
        mesh: Mesh,
        source: Arc<dyn EndpointSource>,
        change: impl FnOnce(&mut ProxySettings),
    ) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut settings = ProxySettings { admin: Some(any), workers: 2, ..ProxySettings::new("test", any) };
        change(&mut settings);
        let (config, receiver) = watch::channel(mesh.build());
        let handle = proxy::start(settings, receiver, source).await.unwrap();
        Self { handle, config }
    }

    pub(super) async fn client(&self) -> Client {
        Client::connect(self.handle.egress_address()).await
    }

    /// Publishes and waits until every worker applies it.
    pub(super) async fn publish(&self, mesh: &Mesh) {
        self.config.send_replace(mesh.build());
        let version = mesh.config.version;
        eventually("applied", || async { self.handle.applied_version() >= version }).await;
    }

    /// Asks the admin interface.
    pub(super) async fn admin(&self, method: Method, path: &str) -> Answer {
        let mut client = Client::connect(self.handle.admin_address().unwrap()).await;
        client.request(method, "admin", path, &[]).await.unwrap()
    }

    /// One number of `/stats`.
    pub(super) async fn stat(&self, name: &str) -> u64 {
        let text = self.admin(Method::GET, "/stats").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One kept-alive client connection.
pub(super) struct Client {
    pub(super) sender: SendRequest<Body>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    pub(super) async fn get(&mut self, path: &str) -> hyper::Result<Answer> {
        self.request(Method::GET, "shop.local", path, &[]).await
    }

    pub(super) async fn request(
        &mut self,
        method: Method,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> hyper::Result<Answer> {
        let mut request = Request::builder().method(method).uri(path).header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(full("")).unwrap()).await
    }

    pub(super) async fn send(&mut self, request: Request<Body>) -> hyper::Result<Answer> {
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}
