//! Connections that are carried as they are (`tcp`): to a target that is drawn once for each, or to the application.
//!
//! The unit that is judged is the connection: good when an endpoint took it, with the time that took, else a reset.

use super::connection::Open;
use super::counters::Outcome;
use super::gate::{Bound, Inside};
use super::held::Held;
use super::record::Record;
use super::stream::Stream;
use super::tls::Towards;
use super::tunnel::{self, Tunnel};
use super::upstream::dial;
use super::worker::{Placement, Worker};
use crate::clock::Monotonic;
use crate::mesh::snapshot::{Own, Protocol, Role};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Carries a connection to the target that was drawn for it; where none was, it is closed. `read` came of it already.
pub(super) async fn run(worker: Rc<Worker>, client: Stream, read: Bytes, placement: Option<Placement>) {
    let view = Rc::clone(&worker);
    let (open, connection) = Open::carried(worker);
    let Some(placement) = placement else { return };
    let record = Record::of_connection(&view, client.socket(), Ok(&placement));
    let _ = client.socket().set_nodelay(true);
    let started = Monotonic::now();
    let Some((endpoint, held)) = connect(&view, &placement).await else {
        placement.count(&view.view, Outcome::Reset);
        if let Some(record) = record {
            record.not_carried(placement.address());
        }
        return;
    };
    let latency_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    placement.count(&view.view, Outcome::Good { latency_us });
    if let (Some(record), Some(address)) = (&record, placement.address()) {
        record.reached(address);
    }
    let idle = placement.route().route.idle_timeout.map(|idle| idle.duration());
    // What it routed by may go while the connection stays.
    drop(placement);
    let tunnel = Tunnel { endpoint, early: Bytes::new(), places: (None, held), idle, record };
    tunnel::run(&connection, tunnel, client, read).await;
    drop(open);
}

/// A connection to one of the target's endpoints: another one is tried where one refuses, as often as the route says.
async fn connect(worker: &Worker, placement: &Placement) -> Option<(Stream, Option<Box<Held>>)> {
    if placement.set().towards.is_unusable() {
        return None;
    }
    let policy = &placement.route().route.retry;
    let tries = if policy.on_connect_failure { policy.max_retries.saturating_add(1) } else { 1 };
    let mut tried = 0_u64;
    for _ in 0..tries {
        let endpoint = placement.local.turn(worker, placement.set_index(), tried)?;
        tried |= 1_u64.checked_shl(u32::try_from(endpoint).unwrap_or(u32::MAX)).unwrap_or(0);
        placement.endpoint.set(Some(endpoint));
        let (set, address) = (placement.set(), placement.set().addresses[endpoint]);
        let mut held = Held::at(worker, placement, endpoint, Monotonic::now());
        let connected = dial(address, &set.towards).await.ok();
        if let Some(most) = set.max_failures
            && set.failures[endpoint].note(connected.is_none(), most)
        {
            worker.shared.tell_failing(&set.key, address);
        }
        if let Some(stream) = connected {
            if let Some(held) = &mut held {
                held.connected();
            }
            return Some((stream, held));
        }
    }
    None
}

/// Where a connection is carried to that no route places.
pub(super) struct Beside {
    pub(super) address: SocketAddr,
    /// What Envoy calls the cluster that it would go to.
    pub(super) cluster: fn(&Own) -> String,
    /// After how long a silence it ends; `None` for never.
    pub(super) idle: Option<Duration>,
    /// How many may be carried there at a time, where that is bounded.
    pub(super) bound: Option<Bound>,
}

/// Carries a connection there. One that nobody takes there, and one too many, is closed. `read` came of it already.
pub(super) async fn run_to(worker: Rc<Worker>, client: Stream, read: Bytes, to: Beside) {
    let Beside { address, cluster, idle, bound } = to;
    let record = Record::of_connection(&worker, client.socket(), Err(cluster));
    if let Some(record) = &record {
        record.reached(address);
    }
    let (_open, connection) = Open::carried(worker);
    let Ok(inside) = enter(bound) else {
        if let Some(record) = record {
            record.over_bound();
        }
        return;
    };
    let _ = client.socket().set_nodelay(true);
    if let Ok(endpoint) = dial(address, &Towards::Plain).await {
        let tunnel = Tunnel { endpoint, early: Bytes::new(), places: (inside, None), idle, record };
        tunnel::run(&connection, tunnel, client, read).await;
    } else if let Some(record) = record {
        record.not_carried(Some(address));
    }
}

/// A place, where places are counted. Nobody waits for one (Envoy's circuit breaker, by which App Mesh did it).
fn enter(bound: Option<Bound>) -> Result<Option<Inside>, ()> {
    let Some((pool, gate)) = bound else { return Ok(None) };
    gate.try_enter(pool.connections.unwrap_or(u32::MAX)).map(Some).ok_or(())
}

/// How many connections the application takes at a time, by its ports (`connectionPool.tcp` of a listener).
pub(super) fn bounds(own: Option<&Own>) -> BTreeMap<u16, Bound> {
    let own = own.filter(|own| own.role == Role::Node);
    let listeners = own.into_iter().flat_map(|own| &own.listeners);
    let carried = listeners.filter(|listener| listener.protocol == Protocol::Tcp);
    carried.filter_map(|listener| Some((listener.port, (listener.pool?, Arc::default())))).collect()
}
