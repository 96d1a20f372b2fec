//! Client connections of one worker: accepting them, bounding their number, sweeping over them, and ending them in
//! good order.

use super::application;
use super::carried::{self, Beside};
use super::connection::{self, For, Order};
use super::doors;
use super::fused;
use super::hello::{self, Beginning};
use super::names;
use super::shared::Phase;
use super::stream::Stream;
use super::tls::ServerSide;
use super::worker::{Placement, Worker};
use crate::clock::Monotonic;
use crate::mesh::snapshot::{self, Own};
use bytes::Bytes;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Connections that may wait to be accepted: enough for a burst while a worker is busy; the kernel caps it anyway.
const BACKLOG: i32 = 4096;
/// Pause after a failed accept (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Where TLS is spoken, and so the port on which AWS's services are let out by their names (appmesh "Egress filter").
const TLS_PORT: u16 = 443;
/// Silence after which a connection to what is no part of the mesh ends: App Mesh's documented idle timeout.
const OUTSIDE_IDLE: Duration = Duration::from_secs(300);
/// What a client beyond the connection limit reads.
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nx-tidegate-reason: too many connections\r\n\
    content-length: 0\r\nconnection: close\r\n\r\n";

/// One listening socket for each worker on the same address; the kernel spreads connections over them.
pub(super) fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    if address.port() != 0 {
        // Sockets that share a port would hide that another process already serves it, so ask without sharing first.
        new_socket(address, false)?.bind(&address.into())?;
    }
    bind_beside(address, count)
}

/// As [`bind`], also where this user's sockets that share their port have it already.
pub(super) fn bind_beside(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
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

/// Runs a worker until the proxy ends. Returns how many connections were cut at the deadline.
pub(super) async fn run(
    worker: Rc<Worker>,
    index: usize,
    (egress, ingress): (TcpListener, Option<TcpListener>),
) -> usize {
    tokio::task::spawn_local(housekeeping(Rc::clone(&worker)));
    let mut phase = worker.shared.phase.subscribe();
    let mut doors = doors::Own::new(index);
    tokio::select! {
        () = accept(&worker, Some(&egress), serve_egress) => {}
        () = accept(&worker, ingress.as_ref(), serve_ingress) => {}
        () = accept_gateway(&worker, &mut doors) => {}
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
    }
    worker.draining.set(true);
    worker.connections.tell_those(Order::Finish, |_| true);
    // Also where a successor has the same sockets: it need not have made all of them its own.
    accept_waiting(&worker, egress, serve_egress);
    if let Some(ingress) = ingress {
        accept_waiting(&worker, ingress, serve_ingress);
    }
    // Those that came last may not be listened on yet.
    let last = Arc::clone(&worker.shared.doors.borrow());
    let closed = doors.follow(&last);
    let all = closed.into_iter().chain(doors.into_listeners());
    all.for_each(|listener| accept_waiting(&worker, listener, serve_gateway));
    let ending = phase.wait_for(|phase| matches!(phase, Phase::Ending { .. })).await.map(|phase| *phase);
    let Ok(Phase::Ending { grace, deadline }) = ending else { return 0 };
    end(&worker, grace, deadline).await
}

/// What is done with a connection that was let in.
type Serve = fn(&Rc<Worker>, TcpStream);

async fn accept(worker: &Rc<Worker>, listener: Option<&TcpListener>, serve: Serve) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => admit(worker, stream, serve),
            // Also errors of the one connection (reset before it was accepted), where the pause does no harm.
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Accepts at a virtual gateway's ports, as they come and go.
async fn accept_gateway(worker: &Rc<Worker>, own: &mut doors::Own) {
    let mut doors = worker.shared.doors.subscribe();
    doors.mark_changed();
    loop {
        tokio::select! {
            changed = doors.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = Arc::clone(&doors.borrow_and_update());
                own.follow(&now).into_iter().for_each(|closed| accept_waiting(worker, closed, serve_gateway));
                let local = worker.local();
                worker.connections.tell_those(Order::Finish, |whom| local.compiled.is_leaving(whom));
            }
            accepted = own.accept() => match accepted {
                Ok(stream) => admit(worker, stream, serve_gateway),
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
}

/// Accepts what the kernel has already taken in; closing the socket would reset those. No more than can have waited: where a
/// successor has the socket too, others go on coming.
fn accept_waiting(worker: &Rc<Worker>, listener: TcpListener, serve: Serve) {
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..BACKLOG {
        let Ok((stream, _)) = listener.accept() else { return };
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            admit(worker, stream, serve);
        }
    }
}

fn admit(worker: &Rc<Worker>, stream: TcpStream, serve: Serve) {
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
    serve(worker, stream);
}

/// A connection of an application that calls services.
fn serve_egress(worker: &Rc<Worker>, stream: TcpStream) {
    // Only beside an application anything is redirected, or anybody else could come.
    let is_sidecar = worker.shared.is_own();
    let original = if is_sidecar { original_address(&stream) } else { None };
    let original = original.filter(|address| address.port() != worker.shared.port);
    if is_sidecar && !is_from_here(&stream) {
        return turn_away(worker);
    }
    match original.filter(|address| address.port() == TLS_PORT) {
        Some(address) if !lets_all_out(worker) => {
            lead(worker, by_name(Rc::clone(worker), stream, address));
        }
        _ => by_port(worker, stream, Bytes::new(), original),
    }
}

/// Whether the mesh lets out what it does not know.
fn lets_all_out(worker: &Rc<Worker>) -> bool {
    worker.local().compiled.lets_all_out()
}

/// To what is no part of the mesh.
const fn outside(address: SocketAddr, cluster: fn(&Own) -> String) -> Beside {
    Beside { address, cluster, idle: Some(OUTSIDE_IDLE), bound: None }
}

/// A connection that may ask for a name of AWS, which is let out whatever the mesh says of others.
async fn by_name(worker: Rc<Worker>, mut stream: TcpStream, address: SocketAddr) {
    match hello::beginning(&mut stream).await {
        None => turn_away(&worker),
        Some(Beginning::Plain) => by_port(&worker, stream, Bytes::new(), Some(address)),
        Some(Beginning::Tls { name: Some(name), read }) if hello::is_aws(&name) => {
            carried::run_to(worker, stream.into(), read, outside(address, names::aws_cluster)).await;
        }
        Some(Beginning::Tls { read, .. }) => by_port(&worker, stream, read, Some(address)),
    }
}

/// A connection by the port that it was sent to: carried as it is where that is one of connections, else full of requests that
/// name their services. `read` came of it already; who began with TLS has no requests.
fn by_port(worker: &Rc<Worker>, stream: TcpStream, read: Bytes, original: Option<SocketAddr>) {
    let local = worker.local();
    if let Some(address) = original.filter(|address| !local.compiled.is_known(address.port())) {
        // The mesh has nothing on this port: what is no part of it is let out or not, whatever is spoken.
        if local.compiled.lets_all_out() {
            let to = outside(address, names::outside_cluster);
            lead(worker, carried::run_to(Rc::clone(worker), stream.into(), read, to));
        } else {
            turn_away(worker);
        }
        return;
    }
    let port = original.map_or(worker.shared.port, |address| address.port());
    if let Some(route) = local.compiled.carried(port) {
        let place = Placement::drawn(worker, local, route);
        lead(worker, carried::run(Rc::clone(worker), stream.into(), read, place));
    } else if read.is_empty() {
        tokio::task::spawn_local(connection::run(
            Rc::clone(worker),
            stream.into(),
            For::Services { sent_to: original },
        ));
    } else {
        turn_away(worker);
    }
}

/// A connection of somebody who calls the application. One for a port on which nothing is taken is closed.
fn serve_ingress(worker: &Rc<Worker>, stream: TcpStream) {
    let own_port = worker.shared.ingress;
    let sent_to = original_address(&stream).map(|address| address.port()).filter(|port| Some(*port) != own_port);
    let local = worker.local();
    let found = local.compiled.config.own.as_ref().and_then(|own| Some((own, application::listener(own, sent_to)?)));
    let Some((own, listener)) = found else { return turn_away(worker) };
    let (address, port) = (SocketAddr::new(application::address(own), listener.port), listener.port);
    let is_carried = listener.protocol == snapshot::Protocol::Tcp;
    let idle = listener.idle_timeout.map(|idle| idle.duration());
    let bound = local.compiled.own_connections.get(&port).cloned();
    let serve = move |worker: Rc<Worker>, stream: Stream| {
        if is_carried {
            let to = Beside { address, cluster: names::own_connections, idle, bound };
            lead(&worker, carried::run_to(Rc::clone(&worker), stream, Bytes::new(), to));
        } else {
            tokio::task::spawn_local(connection::run(worker, stream, For::Application { port }));
        }
    };
    let secured = listener.tls.as_ref().map(|_| local.compiled.secured.own(listener.port).map(Arc::clone));
    serve_own(worker, stream, secured, serve);
}

/// Serves a connection to an own listener, after its handshake where it takes TLS. `secured` is what that begins with, where there is
/// a certificate for it.
fn serve_own(
    worker: &Rc<Worker>,
    stream: TcpStream,
    secured: Option<Option<Arc<ServerSide>>>,
    serve: impl FnOnce(Rc<Worker>, Stream) + 'static,
) {
    let Some(side) = secured else { return serve(Rc::clone(worker), stream.into()) };
    let Some(side) = side else { return turn_away(worker) };
    let accepting = Rc::clone(worker);
    lead(worker, async move {
        match side.accept(stream).await {
            Some(stream) => serve(accepting, stream),
            None => turn_away(&accepting),
        }
    });
}

/// A connection that was let in and is not entered yet, as while its handshake goes on.
struct Entering(Rc<Worker>);

impl Entering {
    fn of(worker: &Rc<Worker>) -> Self {
        worker.connections.leads(true);
        Self(Rc::clone(worker))
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        self.0.connections.leads(false);
    }
}

/// Runs what leads a connection to where it is entered: a worker that ends waits for it as for those that are.
fn lead(worker: &Rc<Worker>, task: impl Future<Output = ()> + 'static) {
    let entering = Entering::of(worker);
    tokio::task::spawn_local(async move {
        task.await;
        drop(entering);
    });
}

/// A connection of somebody who calls the gateway.
fn serve_gateway(worker: &Rc<Worker>, stream: TcpStream) {
    let Ok(port) = stream.local_addr().map(|address| address.port()) else { return turn_away(worker) };
    // Also of a port that is given up: this is who had come before.
    let Some(secured) = worker.local().compiled.entrance(port).map(|listener| listener.secured.clone()) else {
        return turn_away(worker);
    };
    serve_own(worker, stream, secured, move |worker, stream| {
        tokio::task::spawn_local(connection::run(worker, stream, For::Gateway { port }));
    });
}

/// A connection that was let in and is closed all the same.
fn turn_away(worker: &Worker) {
    worker.shared.connections.fetch_sub(1, Ordering::Relaxed);
    super::counters::Totals::count(&worker.view.totals.turned_away);
}

/// Whether a connection comes from this machine (or its network namespace): whoever else comes to the egress would call with
/// this node's identity.
fn is_from_here(stream: &TcpStream) -> bool {
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return false };
    // What this machine sent and the system redirected arrives at a loopback address; nothing from elsewhere can.
    let ends_here = local.ip().to_canonical().is_loopback() || peer.ip().to_canonical().is_loopback();
    ends_here || peer.ip() == local.ip()
}

/// Where a connection was sent to before the system redirected it here; `None` where it was sent here.
pub(super) fn original_address(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let original = socket.original_dst_v4().or_else(|_| socket.original_dst_v6());
    original.ok()?.as_socket()
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
                worker.connections.sweep();
                if worker.shared.gateway.is_some() {
                    let local = worker.local();
                    let is_over = |whom| matches!(whom, For::Gateway { port } if local.compiled.entrance(port).is_none());
                    worker.connections.tell_those(Order::Cut, is_over);
                }
                worker.expire_idle();
                fused::sweep(&worker.local().compiled, worker.shared.started.elapsed());
                worker.lines.flush(&worker.shared.logs);
                nudge_allocator();
            }
        }
    }
}

/// Lets the allocator give back what parked connections freed: mimalloc looks for memory to return when something large
/// is freed, and a worker whose clients are all idle frees nothing.
fn nudge_allocator() {
    const LARGE: usize = 4 << 20;
    // Never written to, so it takes addresses and no memory.
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
}

/// Ends all connections: for `grace` they may close by themselves after an answer that says so, then idle ones are
/// closed, and at `deadline` the rest are cut.
async fn end(worker: &Rc<Worker>, grace: Duration, deadline: Duration) -> usize {
    let (connections, started) = (&worker.connections, Monotonic::now());
    let _ = timeout(grace.min(deadline), connections.all_closed()).await;
    connections.tell_all(Order::Finish);
    let _ = timeout(deadline.saturating_sub(started.elapsed()), connections.all_closed()).await;
    connections.count()
}

#[cfg(test)]
mod tests;
