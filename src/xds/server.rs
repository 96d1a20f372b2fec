//! ADS over gRPC: one task for each stream, between the proxy's messages and what it is offered.
//!
//! Everything that a peer can make grow is bounded: the size and number of its messages, the streams of all and of one
//! resource, and what waits to be sent. A stream that breaks a bound ends with a status that says so; its proxy goes on with
//! what it has and connects again.

mod access_logs;
mod connections;
mod form;
mod node;

#[cfg(feature = "testing")]
#[doc(hidden)]
pub use self::form::asked;

use self::connections::Peer;
use self::form::{DeltaForm, StreamForm, WholeForm};
use self::node::Caller;
use super::counts::{Configured, Counts};
use super::door::{Call, Door};
use super::registry::{Entry, Registry};
use super::session::{Session, TooManyNames};
use super::source::{Offer, Source};
use super::translate::Type;
use crate::base::ids::RouteRef;
use crate::clock::{Clock, Monotonic};
use crate::ports::ConnectedProxy;
use crate::tls::Tls;
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use http::uri::Authority;
use pb::aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tonic::codegen::tokio_stream::Stream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

/// A message of a proxy: the names of the largest mesh, with room.
const MESSAGE_MAX: usize = 4 << 20;
/// Streams in all: a task and a few tables each.
const STREAMS_MAX: usize = 10_000;
/// Streams that one connection may hold; Envoy needs one.
const STREAMS_PER_CONNECTION: u32 = 16;
/// Messages that a stream may send in a burst, and then in a second: Envoy sends one for each answer, and one for each type
/// when it starts.
const MESSAGES_BURST: u32 = 2_000;
const MESSAGES_PER_SECOND: u32 = 200;
/// A peer that takes nothing for so long is gone or stuck; the system's own notice would take a quarter of an hour.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// A stream says who it is at once.
const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(15);
/// Characters of a proxy's reason in a line of the log: it names the field, and a hostile proxy must not fill the disk.
const LOGGED_REASON_MAX: usize = 500;
/// What waits for time alone is looked at so often.
const TICK: Duration = Duration::from_millis(500);
/// Silent connections are asked whether they live so often, and given up after so long (appmesh "Bootstrap").
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams end so long after the process was told to stop: proxies keep what they have, so nothing is waited for.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The service.
#[derive(Clone)]
pub struct AdsServer {
    inner: Arc<Inner>,
}

struct Inner {
    source: Source,
    registry: Registry,
    counts: Counts,
    door: Arc<dyn Door>,
    clock: Arc<dyn Clock>,
    /// Names are looked up here and not by proxies.
    names_here: bool,
    /// Streams of one resource; 50 under AWS's quotas.
    per_resource: usize,
    tls: Option<Arc<Tls>>,
    stopping: watch::Receiver<bool>,
}

/// What a server is made of.
pub struct AdsParts {
    /// What proxies are sent.
    pub source: Source,
    /// Where they are entered.
    pub registry: Registry,
    /// Where what Envoys tell of their requests is added up.
    pub counts: Counts,
    /// Who may have what.
    pub door: Arc<dyn Door>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Whether names are looked up by this control plane, because it has a file that says where they are.
    pub names_here: bool,
    /// Streams of one node or gateway at a time; more end with gRPC status 8, as App Mesh ended them.
    pub per_resource: usize,
    /// The certificate that is shown to proxies, whose files somebody else follows; `None` for clear text.
    pub tls: Option<Arc<Tls>>,
    /// Turns true when the process stops.
    pub stopping: watch::Receiver<bool>,
}

impl AdsServer {
    /// A server that listens nowhere yet.
    #[must_use]
    pub fn new(parts: AdsParts) -> Self {
        let AdsParts { source, registry, counts, door, clock, names_here, per_resource, tls, stopping } = parts;
        let per_resource = per_resource.min(STREAMS_MAX);
        let inner = Inner { source, registry, counts, door, clock, names_here, per_resource, tls, stopping };
        Self { inner: Arc::new(inner) }
    }

    /// Serves until the process stops.
    pub async fn serve(self, listener: TcpListener) -> Result<(), tonic::transport::Error> {
        let mut stopping = self.inner.stopping.clone();
        let incoming = connections::incoming(listener, self.inner.tls.clone());
        let logs = access_logs::service(&self.inner);
        let service = AggregatedDiscoveryServiceServer::new(self)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(usize::MAX);
        tonic::transport::Server::builder()
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .layer(tower::util::MapRequestLayer::new(with_authority))
            .add_service(service)
            .add_service(logs)
            .serve_with_incoming_shutdown(incoming, async move {
                let _ = stopping.wait_for(|stopping| *stopping).await;
                tokio::time::sleep(STOP_TIMEOUT).await;
            })
            .await
    }

    fn open<F: StreamForm>(&self, request: Request<Streaming<F::Request>>) -> Replies<F::Response> {
        let (replies, receiver) = mpsc::channel(1);
        let (metadata, extensions, messages) = request.into_parts();
        let peer = extensions.get::<Peer>().cloned().unwrap_or_default();
        let authority = extensions.get::<Authority>().map(ToString::to_string).unwrap_or_default();
        let server = Arc::clone(&self.inner);
        let stream = AdsStream { server, peer, authority, metadata, messages, replies: replies.clone() };
        tokio::spawn(async move {
            if let Err(status) = stream.run::<F>().await {
                tracing::info!(code = ?status.code(), reason = status.message(), "a stream of a proxy ended");
                // A peer that is gone is not told.
                let _ = tokio::time::timeout(STOP_TIMEOUT, replies.send(Err(status))).await;
            }
        });
        Replies(receiver)
    }
}

/// Keeps what the call was for, which its signature covers.
fn with_authority(mut request: http::Request<tonic::body::Body>) -> http::Request<tonic::body::Body> {
    if let Some(authority) = request.uri().authority().cloned() {
        request.extensions_mut().insert(authority);
    }
    request
}

/// Answers on their way to a peer.
pub struct Replies<T>(mpsc::Receiver<Result<T, Status>>);

impl<T> Stream for Replies<T> {
    type Item = Result<T, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for AdsServer {
    type StreamAggregatedResourcesStream = Replies<pb::DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Replies<pb::DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<pb::DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Ok(Response::new(self.open::<WholeForm>(request)))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<pb::DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Ok(Response::new(self.open::<DeltaForm>(request)))
    }
}

/// A stream, as it came.
struct AdsStream<Q, R> {
    server: Arc<Inner>,
    peer: Peer,
    authority: String,
    metadata: MetadataMap,
    messages: Streaming<Q>,
    replies: mpsc::Sender<Result<R, Status>>,
}

/// A stream whose proxy is known.
struct Known<R> {
    server: Arc<Inner>,
    replies: mpsc::Sender<Result<R, Status>>,
    session: Session,
    offers: watch::Receiver<Offer>,
    offer: Offer,
    entry: Entry,
    /// Its Envoy tells of its requests.
    told: Option<Routed>,
}

/// What an Envoy goes by, for those who count its requests.
struct Routed {
    stream: Configured,
    /// Route configurations that it has as they are, by name and version.
    has: Vec<(String, String)>,
    /// Counted routes of each route configuration, as it has it.
    by_configuration: BTreeMap<String, BTreeMap<RouteRef, u64>>,
}

impl<Q, R> AdsStream<Q, R> {
    async fn run<F: StreamForm<Request = Q, Response = R>>(mut self) -> Result<(), Status> {
        let mut stopping = self.server.stopping.clone();
        let first = tokio::time::timeout(FIRST_MESSAGE_TIMEOUT, self.messages.message()).await;
        let Some(first) = first.map_err(|_| Status::deadline_exceeded("no message within 15 s"))?? else {
            return Ok(());
        };
        let caller = Caller::read(F::node(&first)).map_err(Status::invalid_argument)?;
        let mut known = self.enter::<F>(&caller)?;
        let mut allowance = Allowance::new(MESSAGES_BURST, MESSAGES_PER_SECOND);
        known.hear::<F>(first)?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            known.say::<F>().await?;
            tokio::select! {
                message = self.messages.message() => match message? {
                    Some(message) => {
                        allowance.take(1, Monotonic::now())?;
                        known.hear::<F>(message)?;
                    }
                    None => return Ok(()),
                },
                changed = known.offers.changed() => {
                    if changed.is_err() {
                        return Err(going_away());
                    }
                    known.take_offer();
                }
                _ = tick.tick(), if known.session.is_pending() => {}
                _ = stopping.wait_for(|stopping| *stopping) => {
                    return Err(going_away());
                }
            }
        }
    }

    /// Lets the caller in, within the bounds.
    fn enter<F: StreamForm>(&self, caller: &Caller) -> Result<Known<R>, Status> {
        let server = &self.server;
        let now = server.clock.now();
        let call = Call {
            metadata: &self.metadata,
            authority: &self.authority,
            path: F::PATH,
            names: self.peer.names.as_deref(),
            resource: &caller.resource,
        };
        server.door.admit(call, caller.mesh(), now).map_err(Status::unauthenticated)?;
        let mut options = caller.options.clone();
        options.names_by_control_plane = server.names_here;
        let mut offers = server.source.watch(caller.view.clone(), options);
        let offer = offers.borrow_and_update().clone();
        let proxy = ConnectedProxy {
            node: caller.node.clone(),
            resource: caller.resource.clone(),
            known: offer.known,
            peer: self.peer.address.map(|address| address.to_string()).unwrap_or_default(),
            build: caller.build.clone(),
            form: F::WORD,
            connected_at: now.rfc3339(),
            counted: caller.options.reports_to.is_some(),
            types: Default::default(),
            problems: offer.resources.problems.clone(),
        };
        let entry = server.registry.enter(proxy, server.per_resource, STREAMS_MAX).map_err(|full| {
            let (same, all, resource) = (full.same, full.all, &caller.resource);
            let message =
                format!("{same} proxies of {resource} and {all} in all are connected; that is the most allowed");
            Status::resource_exhausted(message)
        })?;
        let session = Session::new(F::FORM, Arc::clone(&offer.resources));
        let told = caller.options.reports_to.as_ref().map(|_| {
            let stream = server.counts.configures(&caller.resource, self.peer.address.map(|address| address.ip()));
            Routed { stream, has: Vec::new(), by_configuration: BTreeMap::new() }
        });
        let replies = self.replies.clone();
        Ok(Known { server: Arc::clone(server), replies, session, offers, offer, entry, told })
    }
}

impl<R> Known<R> {
    fn hear<F: StreamForm<Response = R>>(&mut self, message: F::Request) -> Result<(), Status> {
        // Types that nobody here has anything of: the proxy waits for none of them.
        let Some(ask) = F::ask(message) else { return Ok(()) };
        if let Some(reason) = &ask.refusal {
            let reason: String = reason.chars().take(LOGGED_REASON_MAX).collect();
            tracing::warn!(
                kind = ask.kind.word(),
                node = self.entry.node(),
                reason,
                "a proxy does not take a configuration; it goes on with the last one"
            );
        }
        self.session.ask(ask).map_err(|error: TooManyNames| Status::resource_exhausted(error.to_string()))
    }

    fn take_offer(&mut self) {
        let offer = self.offers.borrow_and_update().clone();
        // A resource that is gone leaves its proxies with what they have: an empty configuration would refuse everybody.
        if offer.known {
            self.session.replace(Arc::clone(&offer.resources));
        }
        self.offer = offer;
    }

    /// Sends whatever may be sent, and notes how the proxy stands: also where nothing was to be said, because it came with
    /// all that there is. Once for each turn, since a note costs as much as a small message; before a proxy that takes its
    /// time is waited for, though, so that nobody sees less than it said.
    async fn say<F: StreamForm<Response = R>>(&mut self) -> Result<(), Status> {
        let mut stopping = self.server.stopping.clone();
        while self.offer.known
            && let Some(push) = self.session.next(self.server.clock.now())
        {
            if self.replies.capacity() == 0 {
                self.note();
            }
            let sent = tokio::time::timeout(SEND_TIMEOUT, self.replies.send(Ok(F::reply(push))));
            let sent = tokio::select! {
                sent = sent => sent.map_err(|_| Status::deadline_exceeded("the proxy took nothing for 60 s"))?,
                _ = stopping.wait_for(|stopping| *stopping) => return Err(going_away()),
            };
            sent.map_err(|_| Status::cancelled("the proxy hung up"))?;
        }
        self.note();
        Ok(())
    }

    fn note(&mut self) {
        self.entry.stands(self.offer.known, &self.session.standing(), &self.offer.resources.problems);
        if let Some(told) = &mut self.told {
            told.note(&self.session, &self.offer);
        }
    }
}

impl Routed {
    /// A configuration that it does not have as it is now counts as the one that it had.
    fn note(&mut self, session: &Session, offer: &Offer) {
        let has = session.in_force(Type::Route);
        if has == self.has {
            return;
        }
        self.by_configuration.retain(|name, _| offer.resources.of(Type::Route).contains_key(name));
        for (name, _) in &has {
            let routes = offer.resources.counted.within(name).map(|(route, version)| (route.clone(), version));
            self.by_configuration.insert(name.clone(), routes.collect());
        }
        let mut oldest: BTreeMap<RouteRef, u64> = BTreeMap::new();
        for (route, version) in self.by_configuration.values().flatten() {
            oldest.entry(route.clone()).and_modify(|known| *known = (*known).min(*version)).or_insert(*version);
        }
        self.stream.goes_by(oldest);
        self.has = has;
    }
}

fn going_away() -> Status {
    Status::unavailable("the control plane is going away; connect again")
}

/// How much more a stream may send.
struct Allowance {
    left: u32,
    most: u32,
    per_second: u32,
    since: Monotonic,
}

impl Allowance {
    fn new(most: u32, per_second: u32) -> Self {
        Self { left: most, most, per_second, since: Monotonic::now() }
    }

    fn take(&mut self, number: u32, now: Monotonic) -> Result<(), Status> {
        let seconds = u32::try_from(now.since(self.since).as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            self.since = now;
            self.left = self.left.saturating_add(seconds.saturating_mul(self.per_second)).min(self.most);
        }
        let spent = Status::resource_exhausted("too many messages on this stream; connect again, with patience");
        self.left = self.left.checked_sub(number).ok_or(spent)?;
        Ok(())
    }
}
