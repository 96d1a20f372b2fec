//! What one request, or one carried connection, leaves behind where somebody asked for that: facts are noted on the way, and
//! the last part of the request that goes away hands them on. Where nothing is asked for there is no record, and each place that
//! would note something passes by one branch.

use super::access_log::Log;
use super::access_log::facts::{Facts, Fields, Flags, Place};
use super::body::{Late, ResponseBody};
use super::connection::{For, InFlight};
use super::ended::Ended;
use super::headers::is_grpc;
use super::intake::{Refusal, number};
use super::listener::original_address;
use super::names;
use super::retry::Failure;
use super::stats::Watch;
use super::trace::Traced;
use super::trace::segment::Begun;
use super::worker::{Local, Placement, Worker};
use crate::clock::{Clock, Monotonic, SystemClock};
use crate::mesh::snapshot::Own;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, Version, request};
use http_body::Frame;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Begins to count a request, and to note what becomes of it where somebody wants to know.
pub(super) fn begin(
    worker: &Rc<Worker>,
    in_flight: &mut InFlight,
    head: &mut request::Parts,
    placed: Result<&Placement, &Refusal>,
    started: Monotonic,
) -> Option<Rc<Record>> {
    let watch = Watch::new(worker, in_flight.whom(), placed.ok(), started);
    if head.version == Version::HTTP_2 {
        watch.is_http2();
        if is_grpc(&head.headers) {
            watch.is_grpc();
        }
    }
    let is_inbound = !matches!(in_flight.whom(), For::Services { .. });
    let traced = worker.shared.tracer.as_ref().map(|tracer| tracer.begin(head, is_inbound, || worker.draw()));
    if placed.is_err() && worker.local().compiled.log.is_some() {
        // Those that go on have it already; a log tells it of all.
        number(worker, &mut head.headers);
    }
    let record = Record::of_request(worker, in_flight, head, (placed.ok(), traced), started);
    if let (Some(record), Err(refusal)) = (&record, placed) {
        record.refused(refusal);
    }
    in_flight.note(watch, record.clone());
    record
}

/// The two ends of a client's connection.
pub(super) struct Ends {
    client: Option<SocketAddr>,
    local: Option<SocketAddr>,
}

impl Ends {
    /// Asks the system, where anybody wants to know. The local one is where the connection went before it was redirected here.
    pub(super) fn of(worker: &Worker, stream: &TcpStream) -> Option<Self> {
        if worker.local().compiled.log.is_none() && worker.shared.tracer.is_none() {
            return None;
        }
        let local = original_address(stream).or_else(|| stream.local_addr().ok());
        Some(Self { client: stream.peer_addr().ok(), local })
    }
}

/// What a record needs of the snapshot.
enum Source {
    /// All of it, as long as the request is under way: that costs one count on the same thread.
    Whole(Rc<Local>),
    /// What is left once its place has a name.
    Rest { log: Option<Arc<Log>>, own: Option<Arc<Own>> },
}

impl Source {
    fn log(&self) -> Option<&Log> {
        match self {
            Self::Whole(local) => local.compiled.log.as_deref(),
            Self::Rest { log, .. } => log.as_deref(),
        }
    }

    fn own(&self) -> Option<&Own> {
        match self {
            Self::Whole(local) => local.compiled.config.own.as_deref(),
            Self::Rest { own, .. } => own.as_deref(),
        }
    }

    /// Names a place of the snapshot, where anybody wants to know.
    fn name(&self, (route, set): (Option<usize>, Option<usize>), is_traced: bool, facts: &mut Facts) {
        let Self::Whole(local) = self else { return };
        if !is_traced && !self.log().is_some_and(|log| log.format.wants_place()) {
            return;
        }
        let compiled = &local.compiled;
        if let Some(route) = route.and_then(|route| compiled.routes.get(route)) {
            facts.route = Some(names::route(&route.route));
        }
        if let Some(set) = set.and_then(|set| compiled.sets.get(set)) {
            facts.cluster = Some(set.name.clone());
        }
    }
}

/// What is known of a request so far.
pub(super) struct Record {
    worker: Rc<Worker>,
    /// Of the snapshot that it began under: its log is the one that the line goes to.
    source: RefCell<Source>,
    /// Index of its route, and of the set of endpoints that it went to.
    place: Cell<(Option<usize>, Option<usize>)>,
    began: Monotonic,
    /// Whether nothing of the answer is missing.
    is_complete: Cell<bool>,
    is_grpc: bool,
    facts: RefCell<Facts>,
    /// What its segment is made of, where it is traced.
    begun: Option<Begun>,
}

impl Record {
    /// Of a request whose head went on like this, or was refused.
    pub(super) fn of_request(
        worker: &Rc<Worker>,
        in_flight: &InFlight,
        head: &request::Parts,
        (placement, traced): (Option<&Placement>, Option<Traced>),
        began: Monotonic,
    ) -> Option<Rc<Self>> {
        let local = placement.map_or_else(|| worker.local(), |placement| Rc::clone(&placement.local));
        let log = local.compiled.log.as_deref();
        let trace = traced.as_ref().filter(|_| log.is_some());
        let trace = trace.map(|traced| (format!("{:032x}", traced.trace), format!("{:016x}", traced.span)));
        let begun = traced.and_then(|traced| traced.begun);
        if log.is_none() && begun.is_none() {
            return None;
        }
        let wanted = log.map_or(&[][..], |log| log.format.wanted());
        let mut fields = Fields::with_room(wanted.len());
        fields.take_request(wanted, &head.method, &head.uri, &head.headers);
        let facts = Facts {
            protocol: Some(match head.version {
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            }),
            // Until its body says otherwise.
            received: Some(std::time::Duration::ZERO),
            fields,
            trace,
            ..Self::begun(in_flight.ends())
        };
        let mut record = Self::new(worker, local, began, facts, is_grpc(&head.headers));
        record.begun = begun;
        if let Some(placement) = placement {
            record.place.set((Some(placement.route), Some(placement.set_index())));
        }
        Some(Rc::new(record))
    }

    /// Of a connection that is carried, to a target or to the cluster that the own node calls so.
    pub(super) fn of_connection(
        worker: &Rc<Worker>,
        stream: &TcpStream,
        place: Result<&Placement, fn(&Own) -> String>,
    ) -> Option<Rc<Self>> {
        let ends = Ends::of(worker, stream)?;
        // The snapshot of the draw: what is noted by index is of that one.
        let local = place.as_ref().map_or_else(|_| worker.local(), |placement| Rc::clone(&placement.local));
        let facts = Facts { is_connection: true, ..Self::begun(Some(&ends)) };
        let record = Self::new(worker, local, Monotonic::now(), facts, false);
        match place {
            Ok(placement) => record.place.set((Some(placement.route), Some(placement.set_index()))),
            Err(name) => {
                record.facts.borrow_mut().cluster = record.source.borrow().own().map(name);
            }
        }
        Some(Rc::new(record))
    }

    fn begun(ends: Option<&Ends>) -> Facts {
        let (client, local) = ends.map_or((None, None), |ends| (ends.client, ends.local));
        Facts { started: SystemClock.now(), client, local, ..Facts::default() }
    }

    fn new(worker: &Rc<Worker>, local: Rc<Local>, began: Monotonic, facts: Facts, is_grpc: bool) -> Self {
        let (place, is_complete) = (Cell::new((None, None)), Cell::new(false));
        let (worker, facts) = (Rc::clone(worker), RefCell::new(facts));
        let source = RefCell::new(Source::Whole(local));
        Self { worker, source, place, began, is_complete, is_grpc, facts, begun: None }
    }

    /// It goes on for as long as its two sides like, and what it was routed by may go meanwhile.
    pub(super) fn settle(&self) {
        let mut source = self.source.borrow_mut();
        source.name(self.place.get(), self.begun.is_some(), &mut self.facts.borrow_mut());
        if let Source::Whole(local) = &*source {
            let rest = Source::Rest { log: local.compiled.log.clone(), own: local.compiled.config.own.clone() };
            *source = rest;
        }
    }

    /// More of the client's body came.
    pub(super) fn received(&self, bytes: usize) {
        let mut facts = self.facts.borrow_mut();
        facts.bytes_received += bytes as u64;
        if !facts.is_connection {
            facts.received = Some(self.began.elapsed());
        }
    }

    /// A piece of the answer's body or its trailers went to the client.
    pub(super) fn passed(&self, frame: &Frame<Bytes>) {
        self.sent(frame.data_ref().map_or(0, Bytes::len));
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers(trailers);
        }
    }

    /// More went to the client.
    pub(super) fn sent(&self, bytes: usize) {
        self.facts.borrow_mut().bytes_sent += bytes as u64;
    }

    /// A try is made.
    pub(super) fn tried(&self) {
        self.facts.borrow_mut().attempts += 1;
    }

    /// A connection is carried to this endpoint.
    pub(super) fn reached(&self, endpoint: SocketAddr) {
        self.facts.borrow_mut().upstream = Some(endpoint);
    }

    /// The head of this endpoint's answer came.
    pub(super) fn answered(&self, now: Monotonic, endpoint: Option<SocketAddr>) {
        let mut facts = self.facts.borrow_mut();
        facts.upstream = endpoint;
        facts.answered = Some(now.since(self.began));
        facts.details = Some("via_upstream");
    }

    /// As many retries were made as may be.
    pub(super) fn retries_spent(&self) {
        self.flag(Flags::RETRIES_SPENT);
    }

    /// Something was left out because it would have been one too many: a retry, or a connection.
    pub(super) fn over_bound(&self) {
        self.flag(Flags::OVERFLOW);
    }

    fn flag(&self, flag: Flags) {
        let mut facts = self.facts.borrow_mut();
        facts.flags = facts.flags.and(flag);
    }

    /// There is no answer from the endpoint that was tried last, and this is why.
    pub(super) fn ended(&self, ended: &Ended, endpoint: Option<SocketAddr>) {
        let (flag, details) = told(ended);
        self.flag(flag);
        let mut facts = self.facts.borrow_mut();
        (facts.details, facts.upstream) = (Some(details), endpoint);
    }

    /// The request was refused before anything led anywhere.
    fn refused(&self, refusal: &Refusal) {
        let (flag, details) = match refusal.status() {
            StatusCode::NOT_FOUND => (Flags::NO_ROUTE, "route_not_found"),
            StatusCode::TOO_MANY_REQUESTS => (Flags::LIMITED, "local_rate_limited"),
            _ => return,
        };
        self.flag(flag);
        self.facts.borrow_mut().details = Some(details);
    }

    /// A connection could not be carried on to this endpoint, or to none.
    pub(super) fn not_carried(&self, endpoint: Option<SocketAddr>) {
        self.flag(if endpoint.is_some() { Flags::NO_CONNECTION } else { Flags::NO_ENDPOINT });
        self.facts.borrow_mut().upstream = endpoint;
    }

    /// The answer broke off behind its head.
    pub(super) fn broken_off(&self, late: Option<Late>) {
        let (flag, details) = match late {
            None => (Flags::UPSTREAM_ENDED, "upstream_reset_after_response_started{connection_termination}"),
            Some(Late::Upstream) => (Flags::TIMEOUT, "response_timeout"),
            Some(Late::Idle) => (Flags::IDLE, "stream_idle_timeout"),
            Some(Late::Client) => return,
        };
        self.flag(flag);
        self.facts.borrow_mut().details = Some(details);
    }

    /// The head of the answer that the client gets.
    pub(super) fn head(&self, response: &Response<ResponseBody>) {
        let mut facts = self.facts.borrow_mut();
        facts.status = response.status().as_u16();
        if let Some(log) = self.source.borrow().log() {
            facts.fields.take_answer(log.format.wanted(), Place::Response, response.headers());
        }
        drop(facts);
        self.note_grpc(response.headers());
        if let ResponseBody::Own(text) = response.body() {
            self.sent(text.as_ref().map_or(0, Bytes::len));
            self.complete();
        }
    }

    fn trailers(&self, trailers: &HeaderMap) {
        if let Some(log) = self.source.borrow().log() {
            self.facts.borrow_mut().fields.take_answer(log.format.wanted(), Place::Trailers, trailers);
        }
        self.note_grpc(trailers);
    }

    fn note_grpc(&self, headers: &HeaderMap) {
        if self.is_grpc
            && let Some(status) = headers.get("grpc-status").and_then(|status| status.to_str().ok()?.parse().ok())
        {
            self.facts.borrow_mut().grpc_status = Some(status);
        }
    }

    /// Nothing of the answer is missing.
    pub(super) fn complete(&self) {
        self.is_complete.set(true);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let facts = self.facts.get_mut();
        facts.duration = self.began.elapsed();
        if !self.is_complete.get() && facts.flags.is_empty() && !facts.is_connection {
            facts.flags = Flags::CLIENT_ENDED;
            facts.details = Some("downstream_remote_disconnect");
        }
        let source = self.source.get_mut();
        source.name(self.place.get(), self.begun.is_some(), facts);
        if let Some(log) = source.log() {
            self.worker.lines.add(&self.worker.shared.logs, log, facts);
        }
        if let (Some(begun), Some(tracer)) = (&self.begun, &self.worker.shared.tracer) {
            let own = source.own();
            tracer.ended(begun, facts, own.map_or(("", ""), |own| (&own.mesh, &own.name)));
        }
    }
}

/// What Envoy calls it (Envoy 1.40, pages "Access logging" and "Response Code Details").
const fn told(ended: &Ended) -> (Flags, &'static str) {
    match ended {
        Ended::ClientGone => (Flags::CLIENT_ENDED, "downstream_remote_disconnect"),
        // An Envoy has no endpoints where there is no TLS that the mesh wants.
        Ended::NoEndpoint | Ended::Unsecured => (Flags::NO_ENDPOINT, "no_healthy_upstream"),
        Ended::Unsupported(_) => (Flags::NO_ENDPOINT, "not_supported"),
        Ended::Injected(_) => (Flags::INJECTED, "fault_filter_abort"),
        Ended::Late(Late::Upstream) => (Flags::TIMEOUT, "response_timeout"),
        Ended::Late(Late::Idle) => (Flags::IDLE, "stream_idle_timeout"),
        Ended::Late(Late::Client) => (Flags::IDLE, "request_overall_timeout"),
        Ended::Failed(Failure::TryTimeout) => (Flags::TIMEOUT, "upstream_per_try_timeout"),
        Ended::Failed(Failure::Connect) => {
            (Flags::NO_CONNECTION, "upstream_reset_before_response_started{remote_connection_failure}")
        }
        Ended::Failed(Failure::Overflow) => (Flags::OVERFLOW, "upstream_reset_before_response_started{overflow}"),
        Ended::Failed(Failure::Refused) => {
            (Flags::REMOTE_RESET, "upstream_reset_before_response_started{remote_refused_stream_reset}")
        }
        Ended::Failed(Failure::Reset | Failure::Status(_) | Failure::Grpc(_)) => {
            (Flags::UPSTREAM_ENDED, "upstream_reset_before_response_started{connection_termination}")
        }
    }
}
