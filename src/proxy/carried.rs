//! Connections that are carried as they are (`tcp`): to a target that is drawn once for each, or to the application.
//!
//! The unit that is judged is the connection: good when an endpoint took it, with the time that took, else a reset.

use super::connection::Open;
use super::counters::Outcome;
use super::record::Record;
use super::stream::Stream;
use super::tls::Towards;
use super::tunnel::{self, Tunnel};
use super::upstream::dial;
use super::worker::{Placement, Worker};
use crate::clock::Monotonic;
use crate::mesh::snapshot::Own;
use bytes::Bytes;
use std::net::SocketAddr;
use std::rc::Rc;

/// Carries a connection to the target that was drawn for it; where none was, it is closed. `read` came of it already.
pub(super) async fn run(worker: Rc<Worker>, client: Stream, read: Bytes, placement: Option<Placement>) {
    let view = Rc::clone(&worker);
    let (open, connection) = Open::carried(worker);
    let Some(placement) = placement.filter(|placement| !placement.set().towards.is_unusable()) else { return };
    let record = Record::of_connection(&view, client.socket(), Ok(&placement));
    let _ = client.socket().set_nodelay(true);
    let started = Monotonic::now();
    let Some(endpoint) = connect(&view, &placement).await else {
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
    // What it routed by may go while the connection stays.
    drop(placement);
    let tunnel = Tunnel { endpoint, early: Bytes::new(), inside: None, record };
    tunnel::run(&connection, tunnel, client, read).await;
    drop(open);
}

/// A connection to one of the target's endpoints: another one is tried where one refuses, as often as the route says.
async fn connect(worker: &Worker, placement: &Placement) -> Option<Stream> {
    let policy = &placement.route().route.retry;
    let tries = if policy.on_connect_failure { policy.max_retries.saturating_add(1) } else { 1 };
    let mut tried = 0_u64;
    for _ in 0..tries {
        let endpoint = placement.local.turn(placement.set_index(), tried)?;
        tried |= 1_u64.checked_shl(u32::try_from(endpoint).unwrap_or(u32::MAX)).unwrap_or(0);
        placement.endpoint.set(Some(endpoint));
        let (set, address) = (placement.set(), placement.set().addresses[endpoint]);
        let connected = dial(address, &set.towards).await.ok();
        if let Some(most) = set.max_failures
            && set.failures[endpoint].note(connected.is_none(), most)
        {
            worker.shared.tell_failing(&set.key, address);
        }
        if connected.is_some() {
            return connected;
        }
    }
    None
}

/// Carries a connection to this address, which Envoy has a cluster of this name for. One that nobody takes there is closed. `read`
/// came of it already.
pub(super) async fn run_to(
    worker: Rc<Worker>,
    client: Stream,
    read: Bytes,
    address: SocketAddr,
    cluster: fn(&Own) -> String,
) {
    let record = Record::of_connection(&worker, client.socket(), Err(cluster));
    if let Some(record) = &record {
        record.reached(address);
    }
    let (_open, connection) = Open::carried(worker);
    let _ = client.socket().set_nodelay(true);
    if let Ok(endpoint) = dial(address, &Towards::Plain).await {
        let tunnel = Tunnel { endpoint, early: Bytes::new(), inside: None, record };
        tunnel::run(&connection, tunnel, client, read).await;
    } else if let Some(record) = record {
        record.not_carried(Some(address));
    }
}
