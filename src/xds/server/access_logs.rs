//! Logs of Envoys (`envoy.service.accesslog.v3.AccessLogService`), on the port that configures them: each thread of an Envoy
//! opens one when it has something to tell, and says who it is with its first message.
//!
//! A log is bounded in the size of its messages and in entries a second; one that breaks a bound ends with a status that says
//! so, is noted as cut off, and Envoy begins a new one. Whoever tells faster than it is read is held up by HTTP/2.

use super::connections::Peer;
use super::node::Caller;
use super::{Allowance, FIRST_MESSAGE_TIMEOUT, Inner, going_away};
use crate::clock::Monotonic;
use crate::xds::counts::{Heard, Told};
use crate::xds::door::Call;
use crate::xds::outcome::outcome;
use crate::xds::source::Offer;
use crate::xds::translate::counted::{CLUSTER_TAG, LOG_NAME};
use envoy_types::pb::envoy::config::core::v3::Address;
use envoy_types::pb::envoy::config::core::v3::address::Address::SocketAddress;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::data::accesslog::v3::HttpAccessLogEntry;
use envoy_types::pb::envoy::service::accesslog::v3 as pb;
use http::uri::Authority;
use pb::access_log_service_server::{AccessLogService, AccessLogServiceServer};
use pb::stream_access_logs_message::LogEntries;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tonic::{Code, Request, Response, Status, Streaming};

/// Logs in all: one for each thread of every Envoy.
pub(super) const LOGS_MAX: usize = 20_000;
/// A message: 64 KiB, as Envoy is told, and one entry more, with a path and headers of 60 KiB at most each.
const MESSAGE_MAX: usize = 1 << 20;
/// Entries that a log may have at once, and then in a second: more than a thread of Envoy serves requests.
const ENTRIES_BURST: u32 = 200_000;
const ENTRIES_PER_SECOND: u32 = 50_000;
/// An Envoy may come before its configuration was made, after a restart of this process.
const OFFER_TIMEOUT: Duration = Duration::from_secs(5);
/// What went wrong is told in the daemon's log so often, however often it does: an Envoy that is refused comes again with each
/// 250 ms of requests.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// What the call is for, as it is signed.
const PATH: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";

/// The service.
pub(super) struct LogServer {
    inner: Arc<Inner>,
    room: Semaphore,
    told_at: Mutex<Option<Monotonic>>,
}

/// The service of a server.
pub(super) fn service(inner: &Arc<Inner>) -> AccessLogServiceServer<LogServer> {
    let server = LogServer { inner: Arc::clone(inner), room: Semaphore::new(LOGS_MAX), told_at: Mutex::default() };
    AccessLogServiceServer::new(server).max_decoding_message_size(MESSAGE_MAX)
}

#[tonic::async_trait]
impl AccessLogService for LogServer {
    async fn stream_access_logs(
        &self,
        request: Request<Streaming<pb::StreamAccessLogsMessage>>,
    ) -> Result<Response<pb::StreamAccessLogsResponse>, Status> {
        let ended = self.follow(request).await;
        if let Err(status) = &ended {
            self.tell(status);
        }
        ended.map(|()| Response::new(pb::StreamAccessLogsResponse {}))
    }
}

impl LogServer {
    /// Says why a log ended: a peer that hung up is no news.
    fn tell(&self, status: &Status) {
        let is_news = !matches!(status.code(), Code::Cancelled | Code::Unavailable | Code::Unknown);
        // Valid after any panic: it is one value.
        let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        if is_news && told_at.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            *told_at = Some(Monotonic::now());
            tracing::warn!(code = ?status.code(), reason = status.message(), "a log of an Envoy ended, and what is in it is not counted");
        } else {
            tracing::debug!(code = ?status.code(), reason = status.message(), "a log of an Envoy ended");
        }
    }

    async fn follow(&self, request: Request<Streaming<pb::StreamAccessLogsMessage>>) -> Result<(), Status> {
        let full = || Status::resource_exhausted(format!("{LOGS_MAX} logs are open; that is the most allowed"));
        let _permit = self.room.try_acquire().map_err(|_| full())?;
        let (metadata, extensions, mut messages) = request.into_parts();
        let first = tokio::time::timeout(FIRST_MESSAGE_TIMEOUT, messages.message()).await;
        let Some(first) = first.map_err(|_| Status::deadline_exceeded("no message within 15 s"))?? else {
            return Ok(());
        };
        let says = first.identifier.as_ref();
        let caller = Caller::read(says.and_then(|says| says.node.as_ref())).map_err(Status::invalid_argument)?;
        let peer = extensions.get::<Peer>().cloned().unwrap_or_default();
        let authority = extensions.get::<Authority>().map(ToString::to_string).unwrap_or_default();
        let call = Call {
            metadata: &metadata,
            authority: &authority,
            path: PATH,
            names: peer.names.as_deref(),
            resource: &caller.resource,
        };
        let server = &self.inner;
        server.door.admit(call, caller.mesh(), server.clock.now()).map_err(Status::unauthenticated)?;
        if caller.options.reports_to.is_none() || says.is_none_or(|says| says.log_name != LOG_NAME) {
            return Err(Status::invalid_argument(
                "nobody asked for this log: it is for Envoys with a bootstrap of `tidegate envoy bootstrap`, and they are told \
                 to keep it",
            ));
        }
        let mut options = caller.options.clone();
        options.names_by_control_plane = server.names_here;
        let offers = server.source.watch(caller.view.clone(), options);
        let heard = server.counts.hears(&caller.resource, peer.address.map(|address| address.ip()));
        let log = Log { heard, offers, allowance: Allowance::new(ENTRIES_BURST, ENTRIES_PER_SECOND) };
        log.read(first, messages, server.stopping.clone()).await
    }
}

/// A log whose Envoy is known.
struct Log {
    heard: Heard,
    offers: watch::Receiver<Offer>,
    allowance: Allowance,
}

impl Log {
    async fn read(
        mut self,
        first: pb::StreamAccessLogsMessage,
        mut messages: Streaming<pb::StreamAccessLogsMessage>,
        mut stopping: watch::Receiver<bool>,
    ) -> Result<(), Status> {
        // What has no configuration yet is nobody's; a resource that is unknown stays so.
        let _ = tokio::time::timeout(OFFER_TIMEOUT, self.offers.wait_for(|offer| offer.known)).await;
        let mut next = Some(first);
        while let Some(message) = next {
            self.take(message)?;
            next = tokio::select! {
                message = messages.message() => message.inspect_err(|status| {
                    // Ours alone: the other end has no reason to say so.
                    if matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted | Code::Internal) {
                        self.heard.cut();
                    }
                })?,
                _ = stopping.wait_for(|stopping| *stopping) => return Err(going_away()),
            };
        }
        Ok(())
    }

    fn take(&mut self, message: pb::StreamAccessLogsMessage) -> Result<(), Status> {
        let Some(LogEntries::HttpLogs(entries)) = message.log_entries else { return Ok(()) };
        let entries = entries.log_entry;
        let number = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        self.allowance.take(number, Monotonic::now()).inspect_err(|_| self.heard.cut())?;
        let offer = self.offers.borrow().clone();
        let strange = self.heard.count(entries.iter().filter_map(|entry| told(entry, &offer)));
        if strange > 0 {
            tracing::debug!(requests = strange, "an Envoy tells of requests to clusters that their routes do not have");
        }
        Ok(())
    }
}

/// What an entry counts as; nothing where its route is not counted, or not known any more, or its request is not judged.
fn told<'r>(entry: &'r HttpAccessLogEntry, offer: &'r Offer) -> Option<Told<'r>> {
    let common = entry.common_properties.as_ref()?;
    let route = offer.resources.counted.get(&common.route_name)?;
    let outcome = outcome(entry, route)?;
    let endpoint = common.upstream_remote_address.as_ref().and_then(endpoint).unwrap_or_default();
    let cluster = common.custom_tags.get(CLUSTER_TAG).map_or("", String::as_str);
    Some(Told { route, cluster, endpoint, outcome })
}

/// Where an endpoint is.
fn endpoint(address: &Address) -> Option<String> {
    let Some(SocketAddress(socket)) = &address.address else { return None };
    let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else { return None };
    let brackets = socket.address.contains(':');
    Some(if brackets { format!("[{}]:{port}", socket.address) } else { format!("{}:{port}", socket.address) })
}
