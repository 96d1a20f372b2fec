//! One client connection: what is known of it, and its task.
//!
//! Connections carry no timer of their own: one sweep a second over all of them does, so that 10,000 idle ones cost a
//! short loop. One that has been idle for a moment is **parked**: hyper's state for it (a read buffer of 8 KiB, room
//! for a request's future, and more) is taken apart, and only the socket waits. The next byte puts it together again.

use super::alarm::Alarm;
use super::counters::Totals;
use super::record::{Ends, Record};
use super::serve;
use super::socket::{Flow, HttpSocket, OnThisThread, Protocol};
use super::stats::{self, Http, Watch};
use super::stream::Stream;
use super::tunnel::{self, Tunnel};
pub(super) use super::whom::For;
use super::whom::Whom;
use super::worker::Worker;
use crate::clock::Monotonic;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// Largest head of a request, and how much of a body waits in memory when an upstream reads slowly. Envoy's default is
/// 60 KiB for heads.
const MAX_BUFFER: usize = 64 * 1024;
/// Streams of one connection of HTTP/2 at a time. Envoy's default is no bound; a worker serves fewer at once.
const MAX_STREAMS: u32 = 1024;
/// What a client may send of one body that its endpoint has not taken yet, and of all bodies together.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Largest head of a request over HTTP/2, as over HTTP/1.1.
const MAX_HEAD: u32 = 64 * 1024;
/// A connection without any request for this long is closed: App Mesh's documented idle timeout.
const MAX_IDLE_SECONDS: u16 = 300;
/// A connection that has not made its first request by then is closed: it is a port scan or an attack.
const MAX_SILENT_SECONDS: u16 = 30;
/// One that was told to end since it is idle, and does not (half a request may have come), is cut after so much more.
const MAX_ENDING_SECONDS: u16 = 10;
/// An idle connection is parked after this. Putting one together again costs about a microsecond, so only connections
/// that pause for longer than busy ones do are worth it.
const PARK_AFTER_SECONDS: u16 = 2;

/// What a connection was told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Serve,
    /// Give up the memory for requests until the next one.
    Park,
    /// Close now when idle, else after the answer under way.
    Finish,
    /// Close now.
    Cut,
}

/// What is rarely known of a connection.
struct About {
    /// Where it was sent to, before it was redirected.
    sent_to: Option<SocketAddr>,
    /// Where it comes from and leads to, where that is logged.
    ends: Option<Ends>,
}

/// One client connection.
pub(super) struct Connection {
    /// Whom its requests are for; `None` for one that carries none.
    whom: Option<Whom>,
    /// Apart, since most connections were not redirected and few proxies log, and there are many connections.
    about: Option<Box<About>>,
    /// Whether TLS protects it.
    is_secure: bool,
    order: Cell<Order>,
    in_flight: Cell<u32>,
    /// Whether it ever made a request.
    used: Cell<bool>,
    /// Whether it had a request since the last sweep.
    active: Cell<bool>,
    idle_seconds: Cell<u16>,
    waker: RefCell<Option<Waker>>,
    alarm: Alarm,
    /// What its socket takes.
    flow: Rc<Flow>,
    stalled_seconds: Cell<u16>,
    /// Whether it speaks HTTP/2.
    is_http2: Cell<bool>,
    /// Where it leads once the answer under way is out, when it is no HTTP any more.
    tunnel: Cell<Option<Box<Tunnel>>>,
}

impl Connection {
    fn new(whom: Option<For>, ends: Option<Ends>, is_secure: bool) -> Self {
        let (whom, sent_to) = match whom {
            None => (None, None),
            Some(For::Services { sent_to }) => (Some(Whom::Services), sent_to),
            Some(For::Application { port }) => (Some(Whom::Application(port)), None),
            Some(For::Gateway { port }) => (Some(Whom::Gateway(port)), None),
        };
        let about = (sent_to.is_some() || ends.is_some()).then(|| Box::new(About { sent_to, ends }));
        Self {
            whom,
            about,
            is_secure,
            order: Cell::new(Order::Serve),
            in_flight: Cell::new(0),
            used: Cell::new(false),
            active: Cell::new(false),
            idle_seconds: Cell::new(0),
            waker: RefCell::new(None),
            alarm: Alarm::default(),
            flow: Rc::default(),
            stalled_seconds: Cell::new(0),
            is_http2: Cell::new(false),
            tunnel: Cell::new(None),
        }
    }

    /// Whom its requests are for.
    fn whom(&self) -> Option<For> {
        self.whom.map(|whom| match whom {
            Whom::Services => For::Services { sent_to: self.about.as_ref().and_then(|about| about.sent_to) },
            Whom::Application(port) => For::Application { port },
            Whom::Gateway(port) => For::Gateway { port },
        })
    }

    fn tell(&self, order: Order) {
        self.order.set(order);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// What it was told.
    pub(super) fn order(&self) -> Order {
        self.order.get()
    }

    pub(super) fn remember(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// One second has passed.
    pub(super) fn sweep(&self) {
        let moved = self.flow.moved.replace(false);
        if self.flow.blocked.get() && !moved {
            // An answer that nobody reads holds an endpoint and its place there, whatever its deadline is.
            self.stalled_seconds.set(self.stalled_seconds.get().saturating_add(1));
            if self.stalled_seconds.get() > MAX_IDLE_SECONDS {
                return self.tell(Order::Cut);
            }
        } else {
            self.stalled_seconds.set(0);
        }
        if self.active.replace(false) || self.in_flight.get() > 0 {
            return self.idle_seconds.set(0);
        }
        self.idle_seconds.set(self.idle_seconds.get().saturating_add(1));
        let idle = self.idle_seconds.get();
        if self.used.get() && (MAX_IDLE_SECONDS + 1..=MAX_IDLE_SECONDS + MAX_ENDING_SECONDS).contains(&idle) {
            // Clients of HTTP/2 are told, so that no request of theirs is on its way meanwhile.
            self.tell(Order::Finish);
        } else if idle > if self.used.get() { MAX_IDLE_SECONDS } else { MAX_SILENT_SECONDS } {
            self.tell(Order::Cut);
        } else if self.idle_seconds.get() == PARK_AFTER_SECONDS && self.order.get() == Order::Serve {
            self.tell(Order::Park);
        }
    }

    /// Whether nothing of a request or an answer is under way between the client and hyper's buffers, so that what
    /// hyper knows of the connection can be thrown away. Bytes that came of a next request are handed on.
    fn can_park(&self) -> bool {
        self.in_flight.get() == 0 && !self.flow.blocked.get()
    }
}

/// A request under way on a connection: until its answer is complete, and as long as any of its body may come.
pub(super) struct InFlight {
    connection: Rc<Connection>,
    /// The request's own timer, where a connection has several requests at a time.
    alarm: Option<Rc<Alarm>>,
    /// What is noted of it, where that is asked for.
    record: Option<Rc<Record>>,
    /// Counts it, in one of its places.
    watch: Option<Watch>,
}

impl InFlight {
    /// A request that is alone on its connection at the time.
    pub(super) fn new(connection: Rc<Connection>) -> Self {
        Self::with(connection, None)
    }

    /// One of several.
    pub(super) fn among_others(connection: Rc<Connection>) -> Self {
        Self::with(connection, Some(Rc::default()))
    }

    fn with(connection: Rc<Connection>, alarm: Option<Rc<Alarm>>) -> Self {
        connection.in_flight.set(connection.in_flight.get() + 1);
        connection.used.set(true);
        Self { connection, alarm, record: None, watch: None }
    }

    /// The same request under way in one more place.
    pub(super) fn also(&self) -> Self {
        let mut also = Self::with(Rc::clone(&self.connection), self.alarm.clone());
        also.record.clone_from(&self.record);
        also
    }

    /// Counts it, and notes what becomes of it.
    pub(super) fn note(&mut self, watch: Watch, record: Option<Rc<Record>>) {
        (self.watch, self.record) = (Some(watch), record);
    }

    /// When its answer was complete, where that is known without a look at the clock.
    pub(super) fn ended_at(&self, at: Option<Monotonic>) {
        if let Some(watch) = &self.watch {
            watch.ended_at(at);
        }
    }

    /// Where that is noted.
    pub(super) fn record(&self) -> Option<&Rc<Record>> {
        self.record.as_ref()
    }

    /// The ends of its connection, where that is logged.
    pub(super) fn ends(&self) -> Option<&Ends> {
        self.connection.about.as_ref()?.ends.as_ref()
    }

    /// Whom its connection is for.
    pub(super) fn whom(&self) -> For {
        // One that carries none has none.
        self.connection.whom().unwrap_or(For::Services { sent_to: None })
    }

    /// Whether TLS protects its connection.
    pub(super) fn is_secure(&self) -> bool {
        self.connection.is_secure
    }

    /// Makes the connection one to this endpoint, once the answer is out.
    pub(super) fn lead_to(&self, tunnel: Tunnel) {
        self.connection.tunnel.replace(Some(Box::new(tunnel)));
    }

    /// The timer for the request's deadlines.
    pub(super) fn alarm(&self) -> &Alarm {
        self.alarm.as_deref().unwrap_or(&self.connection.alarm)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.connection.in_flight.set(self.connection.in_flight.get() - 1);
        self.connection.active.set(true);
    }
}

/// A worker's open connections.
#[derive(Default)]
pub(super) struct Connections {
    /// By where they are, which names them as long as they are here.
    open: RefCell<HashMap<*const Connection, Rc<Connection>>>,
    /// Those that are on their way to be entered.
    entering: Cell<usize>,
    emptied: Notify,
}

impl Connections {
    fn add(&self, whom: Option<For>, ends: Option<Ends>, is_secure: bool) -> Rc<Connection> {
        let connection = Rc::new(Connection::new(whom, ends, is_secure));
        self.open.borrow_mut().insert(Rc::as_ptr(&connection), Rc::clone(&connection));
        connection
    }

    fn remove(&self, connection: &Rc<Connection>) {
        let mut open = self.open.borrow_mut();
        open.remove(&Rc::as_ptr(connection));
        if open.is_empty() {
            self.emptied.notify_one();
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// One second has passed.
    pub(super) fn sweep(&self) {
        self.open.borrow().values().for_each(|connection| connection.sweep());
    }

    /// Tells those that are meant. To finish only those of HTTP/2 are told, which answers cannot tell.
    pub(super) fn tell_those(&self, order: Order, is_meant: impl Fn(For) -> bool) {
        let tells = |one: &&Rc<Connection>| order != Order::Finish || one.is_http2.get();
        let open = self.open.borrow();
        open.values().filter(tells).filter(|one| one.whom().is_some_and(&is_meant)).for_each(|one| one.tell(order));
    }

    pub(super) fn tell_all(&self, order: Order) {
        self.open.borrow().values().for_each(|connection| connection.tell(order));
    }

    /// One more is on its way to be entered, or one less.
    pub(super) fn leads(&self, one_more: bool) {
        let entering = self.entering.get();
        self.entering.set(if one_more { entering + 1 } else { entering - 1 });
        self.emptied.notify_one();
    }

    pub(super) async fn all_closed(&self) {
        while !self.open.borrow().is_empty() || self.entering.get() > 0 {
            self.emptied.notified().await;
        }
    }
}

/// Takes the connection off the books, however its task ends.
pub(super) struct Open {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    /// Where it was counted when it began: listeners may be others by now, and what counts its end there would be below zero.
    http: Option<Arc<Http>>,
}

impl Open {
    /// Enters a connection that carries no requests.
    pub(super) fn carried(worker: Rc<Worker>) -> (Self, Rc<Connection>) {
        let connection = worker.connections.add(None, None, false);
        // It may be silent as long as one that had a request.
        connection.used.set(true);
        (Self { worker, connection: Rc::clone(&connection), http: None }, connection)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.connections.remove(&self.connection);
        if let Some(http) = &self.http {
            http.connections_ended.add();
        }
        self.worker.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection's task, made of what was set up before: an `async fn` would keep its arguments beside what it makes of them.
pub(super) fn run(worker: Rc<Worker>, stream: Stream, whom: For) -> impl Future<Output = ()> {
    let ends = Ends::of(&worker, stream.socket());
    let local = worker.local();
    let http = Arc::clone(local.http(&worker, stats::prefix(&local, whom)));
    http.connections.add();
    let connection = worker.connections.add(Some(whom), ends, stream.is_secure());
    let mut socket = HttpSocket::watched(stream, Rc::clone(&connection.flow));
    let open = Open { worker, connection, http: Some(http) };
    async move {
        // A new connection begins parked: one that never sends anything costs next to nothing.
        match first_words(&open.connection, &mut socket).await {
            Some(Protocol::Http1) => {}
            Some(Protocol::Http2) => return Box::pin(serve_http2(&open.worker, &open.connection, socket)).await,
            None => return,
        }
        while wait_for_request(&open.connection, &mut socket).await {
            // Boxed, so that a parked connection does not keep the room for it.
            match Box::pin(serve_until_idle(&open.worker, &open.connection, socket)).await {
                Some(idle) => socket = idle,
                None => return,
            }
        }
    }
}

/// What the client speaks, by its first bytes; `None` when the connection ends before that is known.
async fn first_words(connection: &Connection, socket: &mut HttpSocket) -> Option<Protocol> {
    poll_fn(|cx| {
        if connection.order.get() == Order::Cut {
            return Poll::Ready(None);
        }
        connection.remember(cx.waker());
        match socket.poll_protocol(cx) {
            Poll::Pending if connection.order.get() == Order::Finish => Poll::Ready(None),
            // What has come already is answered.
            polled => polled.map(Result::ok),
        }
    })
    .await
}

/// Whether there is something to read. Not when the connection was told to end first.
async fn wait_for_request(connection: &Connection, socket: &mut HttpSocket) -> bool {
    poll_fn(|cx| {
        match connection.order.get() {
            Order::Cut => return Poll::Ready(false),
            // What has come already is answered.
            Order::Finish => return Poll::Ready(socket.poll_readable(cx).is_ready()),
            Order::Park | Order::Serve => connection.order.set(Order::Serve),
        }
        connection.remember(cx.waker());
        socket.poll_readable(cx).map(|()| true)
    })
    .await
}

/// Serves requests until the connection has ended (`None`) or was told to be parked.
async fn serve_until_idle(worker: &Rc<Worker>, connection: &Rc<Connection>, socket: HttpSocket) -> Option<HttpSocket> {
    let (handler, handled) = (Rc::clone(worker), Rc::clone(connection));
    let service = service_fn(move |request| serve::handle(&handler, InFlight::new(Rc::clone(&handled)), request));
    let mut served = http1::Builder::new().max_buf_size(MAX_BUFFER).serve_connection(socket, service);
    let mut finishing = false;
    let parks = poll_fn(|cx: &mut Context<'_>| {
        match connection.order.get() {
            Order::Cut => return Poll::Ready(false),
            Order::Park if connection.can_park() => return Poll::Ready(true),
            Order::Finish if !finishing => {
                finishing = true;
                // First what has come already: hyper closes an idle connection without another look.
                if Pin::new(&mut served).poll(cx).is_ready() {
                    return Poll::Ready(false);
                }
                Pin::new(&mut served).graceful_shutdown();
            }
            Order::Park => connection.order.set(Order::Serve),
            Order::Finish | Order::Serve => {}
        }
        connection.remember(cx.waker());
        // An error here is the client's connection breaking; requests have counted what there is to count.
        Pin::new(&mut served).poll(cx).map(|_| false)
    })
    .await;
    if !parks {
        if let Some(tunnel) = connection.tunnel.take() {
            let parts = served.into_parts();
            let (client, mut early) = parts.io.into_stream();
            early.extend_from_slice(&parts.read_buf);
            tunnel::run(connection, *tunnel, client, early.freeze()).await;
        }
        return None;
    }
    connection.alarm.clear();
    let parts = served.into_parts();
    let mut socket = parts.io;
    socket.put_back(&parts.read_buf);
    Totals::count(&worker.view.totals.parked);
    Some(socket)
}

/// Serves a connection of HTTP/2 until it has ended.
async fn serve_http2(worker: &Rc<Worker>, connection: &Rc<Connection>, socket: HttpSocket) {
    connection.is_http2.set(true);
    let is_leaving = connection.whom().is_some_and(|whom| worker.local().compiled.is_leaving(whom));
    if worker.draining.get() || is_leaving {
        connection.tell(Order::Finish);
    }
    let (handler, handled) = (Rc::clone(worker), Rc::clone(connection));
    let service =
        service_fn(move |request| serve::handle(&handler, InFlight::among_others(Rc::clone(&handled)), request));
    let mut served = http2::Builder::new(OnThisThread)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD)
        .max_send_buf_size(MAX_BUFFER)
        .serve_connection(socket, service);
    let mut finishing = false;
    poll_fn(|cx: &mut Context<'_>| {
        match connection.order.get() {
            Order::Cut => return Poll::Ready(()),
            Order::Finish if !finishing => {
                finishing = true;
                Pin::new(&mut served).graceful_shutdown();
            }
            Order::Park => connection.order.set(Order::Serve),
            Order::Finish | Order::Serve => {}
        }
        connection.remember(cx.waker());
        // An error here is the client's connection breaking; requests have counted what there is to count.
        Pin::new(&mut served).poll(cx).map(drop)
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a parked connection has of its own, beside tokio's part: 10,000 of them are common.
    #[test]
    fn a_parked_connection_stays_small() {
        fn size_of_future<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
            size_of::<F>()
        }
        let size = size_of_future(|(worker, stream)| run(worker, stream, For::Services { sent_to: None }))
            + size_of::<Connection>();
        assert!(size <= 264, "{size} bytes");
    }
}
