//! Client connections of one worker: accepting them, bounding them, closing idle ones, and ending them in good order.
//!
//! Connections carry no timer of their own: one sweep a second over all of them does, so that 10,000 idle ones cost a
//! short loop and no timers.

use super::alarm::Alarm;
use super::serve;
use super::shared::Phase;
use super::socket::HttpSocket;
use super::worker::Worker;
use crate::clock::Monotonic;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Connections that may wait to be accepted: enough for a burst while a worker is busy; the kernel caps it anyway.
const BACKLOG: i32 = 4096;
/// Largest head of a request, and how much of a body waits in memory when an upstream reads slowly. Envoy's default is
/// 60 KiB for heads.
const MAX_BUFFER: usize = 64 * 1024;
/// A connection without any request for this long is closed: App Mesh's documented idle timeout.
const MAX_IDLE_SECONDS: u32 = 300;
/// A connection that has not made its first request by then is closed: it is a port scan or an attack.
const MAX_SILENT_SECONDS: u32 = 30;
/// Pause after a failed accept (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a client beyond the connection limit reads.
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nx-tidegate-reason: too many connections\r\n\
    content-length: 0\r\nconnection: close\r\n\r\n";

/// One listening socket for each worker on the same address; the kernel spreads connections over them.
pub(super) fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    if address.port() != 0 {
        // Sockets that share a port would hide that another process already serves it, so ask without sharing first.
        new_socket(address, false)?.bind(&address.into())?;
    }
    let mut listeners = Vec::with_capacity(count);
    let mut address = address;
    for _ in 0..count.max(1) {
        let socket = new_socket(address, true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = std::net::TcpListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn new_socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    Ok(socket)
}

/// What a connection was told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Serve,
    /// Close now when idle, else after the answer under way.
    Finish,
    /// Close now.
    Cut,
}

/// One client connection.
pub(super) struct Connection {
    order: Cell<Order>,
    in_flight: Cell<u32>,
    /// Whether it ever made a request.
    used: Cell<bool>,
    /// Whether it had a request since the last sweep.
    active: Cell<bool>,
    idle_seconds: Cell<u32>,
    waker: RefCell<Option<Waker>>,
    alarm: Alarm,
}

impl Connection {
    fn new() -> Self {
        Self {
            order: Cell::new(Order::Serve),
            in_flight: Cell::new(0),
            used: Cell::new(false),
            active: Cell::new(false),
            idle_seconds: Cell::new(0),
            waker: RefCell::new(None),
            alarm: Alarm::default(),
        }
    }

    fn tell(&self, order: Order) {
        self.order.set(order);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn remember(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// One second has passed.
    fn sweep(&self) {
        if self.active.replace(false) || self.in_flight.get() > 0 {
            return self.idle_seconds.set(0);
        }
        self.idle_seconds.set(self.idle_seconds.get() + 1);
        let limit = if self.used.get() { MAX_IDLE_SECONDS } else { MAX_SILENT_SECONDS };
        if self.idle_seconds.get() > limit {
            self.tell(Order::Cut);
        }
    }
}

/// A request under way on a connection, until its answer is complete.
pub(super) struct InFlight(Rc<Connection>);

impl InFlight {
    pub(super) fn new(connection: Rc<Connection>) -> Self {
        connection.in_flight.set(connection.in_flight.get() + 1);
        connection.used.set(true);
        Self(connection)
    }

    /// The timer for the request's deadlines.
    pub(super) fn alarm(&self) -> &Alarm {
        &self.0.alarm
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
        self.0.active.set(true);
    }
}

/// A worker's open connections.
#[derive(Default)]
pub(super) struct Connections {
    open: RefCell<HashMap<u64, Rc<Connection>>>,
    next: Cell<u64>,
    emptied: Notify,
}

impl Connections {
    fn add(&self) -> (u64, Rc<Connection>) {
        let (id, connection) = (self.next.get(), Rc::new(Connection::new()));
        self.next.set(id + 1);
        self.open.borrow_mut().insert(id, Rc::clone(&connection));
        (id, connection)
    }

    fn remove(&self, id: u64) {
        self.open.borrow_mut().remove(&id);
        if self.open.borrow().is_empty() {
            self.emptied.notify_one();
        }
    }

    fn tell_all(&self, order: Order) {
        self.open.borrow().values().for_each(|connection| connection.tell(order));
    }

    async fn all_closed(&self) {
        while !self.open.borrow().is_empty() {
            self.emptied.notified().await;
        }
    }
}

/// Runs a worker until the proxy ends. Returns how many connections were cut at the deadline.
pub(super) async fn run(worker: Rc<Worker>, listener: std::net::TcpListener) -> usize {
    tokio::task::spawn_local(housekeeping(Rc::clone(&worker)));
    let mut phase = worker.shared.phase.subscribe();
    if let Ok(listener) = TcpListener::from_std(listener) {
        tokio::select! {
            () = accept(&worker, &listener) => {}
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
        }
        worker.draining.set(true);
        accept_waiting(&worker, listener);
    }
    let ending = phase.wait_for(|phase| matches!(phase, Phase::Ending { .. })).await.map(|phase| *phase);
    let Ok(Phase::Ending { grace, deadline }) = ending else { return 0 };
    end(&worker, grace, deadline).await
}

async fn accept(worker: &Rc<Worker>, listener: &TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => admit(worker, stream),
            // Also errors of the one connection (reset before it was accepted), where the pause does no harm.
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Accepts what the kernel has already taken in; closing the socket would reset those.
fn accept_waiting(worker: &Rc<Worker>, listener: TcpListener) {
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, _)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            admit(worker, stream);
        }
    }
}

fn admit(worker: &Rc<Worker>, stream: TcpStream) {
    let shared = &worker.shared;
    let totals = &worker.view.totals;
    if shared.connections.fetch_add(1, Ordering::Relaxed) >= shared.max_connections {
        shared.connections.fetch_sub(1, Ordering::Relaxed);
        super::counters::Totals::count(&totals.turned_away);
        // A fresh socket takes these few bytes without waiting; if not, the close says enough.
        let _ = stream.try_write(TURNED_AWAY);
        return;
    }
    super::counters::Totals::count(&totals.accepted);
    tokio::task::spawn_local(serve_connection(Rc::clone(worker), stream));
}

async fn serve_connection(worker: Rc<Worker>, stream: TcpStream) {
    let (id, connection) = worker.connections.add();
    let _open = Open { worker: Rc::clone(&worker), id };
    let (handler, handled) = (Rc::clone(&worker), Rc::clone(&connection));
    let service = service_fn(move |request| serve::handle(Rc::clone(&handler), Rc::clone(&handled), request));
    let served = Builder::new().max_buf_size(MAX_BUFFER).serve_connection(HttpSocket::new(stream), service);
    let mut served = pin!(served);
    let mut finishing = false;
    poll_fn(|context| {
        match connection.order.get() {
            Order::Cut => return Poll::Ready(()),
            Order::Finish if !finishing => {
                finishing = true;
                served.as_mut().graceful_shutdown();
            }
            Order::Finish | Order::Serve => {}
        }
        connection.remember(context.waker());
        // An error here is the client's connection breaking; requests have counted what there is to count.
        served.as_mut().poll(context).map(|_| ())
    })
    .await;
}

/// Takes the connection off the books, however its task ends.
struct Open {
    worker: Rc<Worker>,
    id: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.connections.remove(self.id);
        self.worker.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Applies snapshots that no request has picked up, and sweeps once a second.
async fn housekeeping(worker: Rc<Worker>) {
    let mut published = worker.shared.published.subscribe();
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = published.changed() => {
                if changed.is_err() {
                    return;
                }
                drop(worker.local());
            }
            _ = second.tick() => {
                worker.connections.open.borrow().values().for_each(|connection| connection.sweep());
                worker.expire_idle();
            }
        }
    }
}

/// Ends all connections: for `grace` they may close by themselves after an answer that says so, then idle ones are
/// closed, and at `deadline` the rest are cut.
async fn end(worker: &Rc<Worker>, grace: Duration, deadline: Duration) -> usize {
    let (connections, started) = (&worker.connections, Monotonic::now());
    let _ = timeout(grace.min(deadline), connections.all_closed()).await;
    connections.tell_all(Order::Finish);
    let _ = timeout(deadline.saturating_sub(started.elapsed()), connections.all_closed()).await;
    connections.open.borrow().len()
}
