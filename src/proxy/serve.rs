//! One request from its head to the head of its answer: route, draw, try, retry, answer.
//!
//! The outcome belongs to the target that was drawn, whatever is tried for it. Requests that no draw placed (no such
//! service, no such route, refused by this version) are answered by the proxy and not judged.

/// Whether another try is made.
mod again;

use super::body::{Deadline, Late, Pending, Relay, ResponseBody};
use super::budget::Retry;
use super::connection::{For, InFlight};
use super::counters::{Outcome, Totals};
use super::ended::{Ended, TryError};
use super::extension;
use super::gate::{Bound, Inside};
use super::headers::{is_grpc, is_grpc_failure, say_upgrade, strip_hop_by_hop};
use super::held::Held;
use super::intake::{place, prepare, spell_path};
use super::mirror;
use super::record;
use super::reply::{
    CONNECT_FAILED, NO_UPSTREAM, OVERFLOW, STREAM_IDLE, TIMED_OUT, UNSECURED, WAS_REFUSED, WAS_RESET, own,
};
use super::retry::Failure;
use super::stats;
use super::tunnel::Tunnel;
use super::upload::{ClientBody, RequestBody};
use super::upstream::{Lease, NoConnection, Pool, Spoken, Unsuccessful, Upstream};
use super::worker::{Placement, Worker};
use crate::clock::Monotonic;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request};
use http_body::Body;
use hyper::body::Incoming;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::sleep;

/// How long the service took to the head of its answer, in milliseconds, as Envoys under App Mesh told.
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// The client is gone; its connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the client went away")]
pub(super) struct ClientGone;

/// Answers one request.
///
/// Routing happens at once and what is to be waited for goes into a box: the future is moved about and its room is kept
/// as long as the connection, so it has to be small.
pub(super) fn handle(
    worker: &Rc<Worker>,
    mut in_flight: InFlight,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, ClientGone>> + use<> {
    let started = Monotonic::now();
    let (mut head, body) = request.into_parts();
    let (version, whom) = (head.version, in_flight.whom());
    let record;
    let placed = match spell_path(&mut head)
        .and_then(|()| place(worker, (in_flight.whom(), in_flight.is_secure()), &mut head))
    {
        Ok(placement) => {
            prepare(worker, &placement, in_flight.is_secure(), &mut head, &body);
            record = record::begin(worker, &mut in_flight, &mut head, Ok(&placement), started);
            Ok(Box::new(Exchange::new(Rc::clone(worker), placement, head, body, in_flight, started)))
        }
        Err(refusal) => {
            record = record::begin(worker, &mut in_flight, &mut head, Err(&refusal), started);
            Err(Box::new(refusal.answer(worker, &head.headers)))
        }
    };
    let (worker, local) = (Rc::clone(worker), worker.local());
    let http = stats::prefix(&local, whom);
    async move {
        let mut response = match placed {
            Ok(exchange) => exchange.answer().await?,
            Err(refused) => *refused,
        };
        // A connection of HTTP/2 is told by a frame of its own.
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let is_leaving = worker.draining.get() || local.compiled.is_leaving(whom);
        if is_leaving && version != Version::HTTP_2 && !switches {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        local.http(&worker, http).answered(response.status().as_u16());
        if let Some(record) = record {
            record.head(&response);
        }
        Ok(response)
    }
}

/// A request on its way to one of the drawn target's endpoints.
struct Exchange {
    worker: Rc<Worker>,
    placement: Placement,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Option<ClientBody>,
    deadline: RefCell<Option<Deadline>>,
    /// Its place at the endpoint, where places are counted.
    inside: Cell<Option<Inside>>,
    /// The places of the try under way, and of the retry that it is, where those are counted. Here, so that the future stays
    /// small.
    held: Cell<Option<Box<Held>>>,
    retry: Cell<Option<Retry>>,
    in_flight: InFlight,
    started: Monotonic,
    /// The time as this request last read it. Reading a clock costs, and what is decided by it can be a moment off.
    now: Cell<Monotonic>,
}

impl Exchange {
    fn new(
        worker: Rc<Worker>,
        placement: Placement,
        head: request::Parts,
        body: Incoming,
        in_flight: InFlight,
        started: Monotonic,
    ) -> Self {
        let route = &placement.route().route;
        let is_copied = placement.extra.as_ref().is_some_and(|extra| extra.mirror.is_some());
        let (keeps, is_http2) = (route.retry.max_retries > 0 || is_copied, head.version == Version::HTTP_2);
        let body = (!body.is_end_stream()).then(|| ClientBody::new(body, keeps, is_http2, started));
        let upload = body.as_ref().map(ClientBody::upload);
        let watched = (upload, is_grpc(&head.headers));
        let deadline = Deadline::new(route.request_timeout, route.idle_timeout, started, watched);
        Self {
            worker,
            placement,
            method: head.method,
            uri: head.uri,
            headers: head.headers,
            body,
            deadline: RefCell::new(deadline),
            inside: Cell::new(None),
            held: Cell::new(None),
            retry: Cell::new(None),
            in_flight,
            started,
            now: Cell::new(started),
        }
    }

    /// Gets the answer and passes it on, or answers for an upstream that did not.
    async fn answer(self: Box<Self>) -> Result<Response<ResponseBody>, ClientGone> {
        let guard = AbortGuard(&self.worker);
        let ended = self.run_in_time().await;
        std::mem::forget(guard);
        if matches!(ended, Err(Ended::Late(Late::Upstream | Late::Idle))) {
            // The try that it came from was broken off.
            self.note_outlier(&ended);
        }
        let Some(extra) = self.placement.extra.clone() else { return self.conclude(ended) };
        if let Some(target) = extra.mirror {
            self.mirror(target);
        }
        let mut answer = self.conclude(ended)?;
        extra.tell(answer.headers_mut());
        Ok(answer)
    }

    /// The answer, of the endpoint or the proxy's own.
    fn conclude(self: Box<Self>, ended: Result<Lease, Ended>) -> Result<Response<ResponseBody>, ClientGone> {
        match ended {
            Ok(answered) => Ok(self.relay(answered)),
            Err(ended) => self.fail(ended),
        }
    }

    /// Sends a copy to another target of the route.
    fn mirror(&self, target: usize) {
        let body = self.body.as_ref().map(ClientBody::copy);
        let placement = Placement::at(Rc::clone(&self.placement.local), self.placement.route, target);
        let head = (self.method.clone(), self.uri.clone(), self.headers.clone());
        mirror::send(&self.worker, placement, head, body);
    }

    /// As [`Self::run`], but until the deadline at most.
    async fn run_in_time(&self) -> Result<Lease, Ended> {
        let mut run = pin!(self.run());
        poll_fn(|cx| {
            if let Poll::Ready(ended) = run.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            match &*self.deadline.borrow() {
                Some(deadline) => deadline.poll(cx, self.in_flight.alarm()).map(|late| Err(Ended::Late(late))),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn relay(self: Box<Self>, mut answered: Lease) -> Response<ResponseBody> {
        let exchange = *self;
        let now = Monotonic::now();
        if let Some(record) = exchange.in_flight.record() {
            record.answered(now, exchange.placement.address());
        }
        let status = answered.upstream.status().as_u16();
        exchange.placement.tally(&exchange.worker).answered(status);
        let latency_us = u64::try_from(now.since(exchange.started).as_micros()).unwrap_or(u64::MAX);
        let mut response = answered.upstream.take_response(exchange.headers);
        strip_hop_by_hop(response.headers_mut());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some((endpoint, early, held)) = answered.into_socket() else {
                // Nobody asked for it over HTTP/2, which has no such answer.
                exchange.placement.count(&exchange.worker.view, Outcome::Reset);
                let reason = HeaderValue::from_static(WAS_RESET);
                return own(&HeaderMap::new(), StatusCode::SERVICE_UNAVAILABLE, WAS_RESET, reason);
            };
            exchange.placement.count(&exchange.worker.view, Outcome::Good { latency_us });
            let record = exchange.in_flight.record().cloned();
            exchange.in_flight.lead_to(Tunnel {
                endpoint,
                early: early.freeze(),
                places: (exchange.inside.take(), held),
                idle: exchange.placement.route().route.idle_timeout.map(|idle| idle.duration()),
                record,
            });
            say_upgrade(response.headers_mut());
            return response.map(|()| ResponseBody::Own(None));
        }
        response.headers_mut().insert(SERVICE_TIME, HeaderValue::from(latency_us / 1000));
        let pending = if response.status().is_server_error() || is_grpc_failure(response.headers()) {
            // Nothing that follows can make it better.
            exchange.placement.count(&exchange.worker.view, Outcome::Status5xx);
            None
        } else {
            Some(Pending { worker: exchange.worker, placement: exchange.placement, latency_us })
        };
        let relay = Relay::new(
            pending,
            answered,
            exchange.deadline.into_inner(),
            now,
            (exchange.in_flight, exchange.inside.into_inner()),
        );
        response.map(|()| ResponseBody::Relayed(Box::new(relay)))
    }

    fn fail(&self, ended: Ended) -> Result<Response<ResponseBody>, ClientGone> {
        if let Some(record) = self.in_flight.record() {
            record.ended(&ended, self.placement.address());
        }
        let (outcome, status, text) = match ended {
            Ended::ClientGone => {
                Totals::count(&self.worker.view.totals.aborted);
                return Err(ClientGone);
            }
            Ended::Late(Late::Client) => {
                Totals::count(&self.worker.view.totals.aborted);
                let reason = HeaderValue::from_static("the request body did not arrive in time");
                return Ok(own(&self.headers, StatusCode::REQUEST_TIMEOUT, "", reason));
            }
            Ended::Injected(status) => (self.injected(status), status, extension::ABORTED),
            Ended::Unsupported(why) => (Outcome::Reset, StatusCode::NOT_IMPLEMENTED, why),
            Ended::Unsecured => (Outcome::Reset, StatusCode::SERVICE_UNAVAILABLE, UNSECURED),
            Ended::NoEndpoint => (Outcome::Reset, StatusCode::SERVICE_UNAVAILABLE, NO_UPSTREAM),
            Ended::Failed(Failure::Connect) => (Outcome::Reset, StatusCode::SERVICE_UNAVAILABLE, CONNECT_FAILED),
            Ended::Late(Late::Idle) => (Outcome::Timeout, StatusCode::GATEWAY_TIMEOUT, STREAM_IDLE),
            Ended::Late(Late::Upstream) | Ended::Failed(Failure::TryTimeout) => {
                (Outcome::Timeout, StatusCode::GATEWAY_TIMEOUT, TIMED_OUT)
            }
            Ended::Failed(Failure::Overflow) => (Outcome::Reset, StatusCode::SERVICE_UNAVAILABLE, OVERFLOW),
            Ended::Failed(Failure::Refused) => (Outcome::Reset, StatusCode::SERVICE_UNAVAILABLE, WAS_REFUSED),
            // An answer that was not tried again is passed on.
            Ended::Failed(Failure::Reset | Failure::Status(_) | Failure::Grpc(_)) => {
                (Outcome::Reset, StatusCode::SERVICE_UNAVAILABLE, WAS_RESET)
            }
        };
        let answer = own(&self.headers, status, text, HeaderValue::from_static(text));
        let is_injected = matches!(ended, Ended::Injected(_));
        // To gRPC a status of HTTP becomes one of its own, by which it is judged.
        let outcome = if is_injected && is_grpc_failure(answer.headers()) { Outcome::Status5xx } else { outcome };
        self.placement.count(&self.worker.view, outcome);
        // What is played to callers alone is no answer of the target.
        if !(is_injected && self.placement.is_unjudged()) {
            self.placement.tally(&self.worker).failed(&ended, status.as_u16());
        }
        Ok(answer)
    }

    /// What a status that was given on purpose comes to: what it would have come to had the target given it.
    fn injected(&self, status: StatusCode) -> Outcome {
        if status.is_server_error() {
            return Outcome::Status5xx;
        }
        let took = self.started.elapsed();
        Outcome::Good { latency_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX) }
    }

    /// Tries endpoints of the drawn target until one answers or the policy allows no more.
    async fn run(&self) -> Result<Lease, Ended> {
        if let Some(extra) = &self.placement.extra {
            extra.meet(&self.worker).await.map_err(Ended::Injected)?;
            self.now.set(Monotonic::now());
        }
        let Some(spoken) = self.placement.set().spoken else {
            return Err(Ended::Unsupported("the target takes connections and no requests"));
        };
        if self.placement.set().towards.is_unusable() {
            return Err(Ended::Unsecured);
        }
        if spoken == Spoken::Http2 && self.headers.contains_key(UPGRADE) {
            return Err(Ended::Unsupported("a WebSocket needs an endpoint that speaks HTTP/1.1"));
        }
        if let Some((pool, gate)) = self.bound() {
            let inside = gate.enter(*pool).await.ok_or(Ended::Failed(Failure::Overflow))?;
            self.inside.set(Some(inside));
            self.now.set(Monotonic::now());
        }
        let policy = &self.placement.route().route.retry;
        let (mut retries, mut tried) = (0, 0_u64);
        loop {
            let set = self.placement.set_index();
            let endpoint = self.placement.local.turn(&self.worker, set, tried).ok_or(Ended::NoEndpoint)?;
            tried |= 1_u64.checked_shl(u32::try_from(endpoint).unwrap_or(u32::MAX)).unwrap_or(0);
            if let Some(record) = self.in_flight.record() {
                record.tried();
            }
            self.held.set(Held::of(self.body.as_ref(), (&self.worker, &self.placement), endpoint, self.now.get()));
            let result = self.try_endpoint(endpoint, spoken).await;
            let result = self.let_go_of(result);
            self.note_outlier(&result);
            let failure = match &result {
                Ok(answered) => Failure::of(answered.upstream.status(), answered.upstream.headers()),
                Err(Ended::Failed(failure)) => {
                    self.placement.tally(&self.worker).try_failed(*failure);
                    *failure
                }
                Err(_) => return result,
            };
            let Some(pause) = self.pause_before_retry(policy, retries, failure) else { return result };
            if let Ok(answered) = result {
                answered.let_go(Monotonic::now());
            }
            retries += 1;
            Totals::count(&self.worker.view.totals.retries);
            self.placement.tally(&self.worker).retries.add();
            sleep(pause).await;
            self.now.set(Monotonic::now());
        }
    }

    /// How much may be under way on the request's way, where that is bounded.
    fn bound(&self) -> Option<&Bound> {
        match self.in_flight.whom() {
            For::Gateway { port } => self.placement.local.compiled.entrance(port)?.bound.as_ref(),
            For::Application { .. } | For::Services { .. } => self.placement.set().bound.as_ref(),
        }
    }

    /// Notes how a try ended where endpoints that fail too often are left out.
    fn note_outlier(&self, result: &Result<Lease, Ended>) {
        let set = self.placement.set();
        let (Some(most), Some(endpoint)) = (set.max_failures, self.placement.endpoint.get()) else { return };
        let failed = match result {
            Ok(answered) => has_failed(answered),
            Err(Ended::Failed(_) | Ended::Late(Late::Upstream | Late::Idle)) => true,
            Err(_) => return,
        };
        if set.failures[endpoint].note(failed, most) {
            self.worker.shared.tell_failing(&set.key, set.addresses[endpoint]);
        }
    }

    /// One try, within the time that the policy gives it.
    async fn try_endpoint(&self, endpoint: usize, spoken: Spoken) -> Result<Lease, Ended> {
        let limit = self.placement.route().route.retry.per_try_timeout;
        let began = self.now.get();
        let mut attempt = pin!(self.try_addresses(endpoint, spoken));
        poll_fn(|cx| {
            if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(Ended::from));
            }
            match limit {
                Some(limit) => self.poll_try_limit(cx, began, limit.duration()),
                None => Poll::Pending,
            }
            .map(|()| Err(Ended::Failed(Failure::TryTimeout)))
        })
        .await
    }

    /// Ready when a try has taken too long: from when its client had delivered the request, whose slowness is not held against
    /// the endpoint.
    fn poll_try_limit(&self, cx: &mut Context<'_>, began: Monotonic, limit: Duration) -> Poll<()> {
        let upload = self.body.as_ref().map(ClientBody::upload);
        loop {
            let due = upload.as_ref().map_or(began, |upload| upload.last().max(began)).plus(limit);
            ready!(self.in_flight.alarm().poll_until(cx, due));
            if upload.as_ref().is_none_or(|upload| upload.last().max(began).plus(limit) == due) {
                // The client's next piece wakes this too.
                let waits = upload.is_some_and(|upload| upload.waits_for_client());
                return if waits { Poll::Pending } else { Poll::Ready(()) };
            }
        }
    }

    /// An endpoint, and where its name has addresses of the other family too, those when it refuses.
    async fn try_addresses(&self, endpoint: usize, spoken: Spoken) -> Result<Lease, TryError> {
        let set = self.placement.set();
        let others = set.fallback_from..set.addresses.len();
        if others.is_empty() {
            return self.try_address(endpoint, spoken).await;
        }
        let refused_lately = self.placement.local.pool(&self.worker, set, endpoint).was_refused();
        let (before, after) = if refused_lately { (None, Some(endpoint)) } else { (Some(endpoint), None) };
        let mut last = TryError::NoConnection(NoConnection::Refused);
        for address in before.into_iter().chain(others).chain(after) {
            match self.try_address(address, spoken).await {
                Err(error @ TryError::NoConnection(NoConnection::Refused)) => last = error,
                result => return result,
            }
        }
        Err(last)
    }

    /// Sends over a kept connection, or over a new one when there is none or it turns out to be closed. What a reset stream
    /// of HTTP/2 came to is for the retry policy: its connection was not the reason.
    async fn try_address(&self, address: usize, spoken: Spoken) -> Result<Lease, TryError> {
        self.placement.endpoint.set(Some(address));
        let pool = self.placement.local.pool(&self.worker, self.placement.set(), address);
        // RFC 9110 section 9.2.2: only what has the same effect twice may be sent twice unasked.
        let repeatable = self.body.is_none() && self.method.is_idempotent();
        while let Some(upstream) = pool.take(spoken, repeatable, self.now.get()) {
            match self.send(upstream, pool).await {
                Ok(answered) => return Ok(answered),
                Err(Unsuccessful::Unsent) => {}
                Err(Unsuccessful::Broken) if repeatable && spoken == Spoken::Http1 => {
                    Totals::count(&self.worker.view.totals.replays);
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let upstream = pool.connect(spoken).await.map_err(TryError::NoConnection)?;
        Totals::count(&self.worker.view.totals.connects);
        self.placement.tally(&self.worker).connections.add();
        self.send(upstream, pool).await.map_err(TryError::from)
    }

    async fn send(&self, mut upstream: Upstream, pool: &Rc<Pool>) -> Result<Lease, Unsuccessful> {
        self.placement.tally(&self.worker).requests.add();
        upstream.begin(&self.method, &self.uri, &self.headers, self.request_body());
        poll_fn(|cx| upstream.poll_head(cx)).await?;
        Ok(Lease { upstream, pool: Rc::clone(pool), held: None })
    }

    /// The client's body from its beginning.
    fn request_body(&self) -> Option<RequestBody> {
        Some(self.body.as_ref()?.begin(self.in_flight.also()))
    }
}

/// Whether an answer is a failure of its endpoint.
fn has_failed(answered: &Lease) -> bool {
    answered.upstream.status().is_server_error() || is_grpc_failure(answered.upstream.headers())
}

/// Counts a request whose future is dropped before it is answered: its client went away.
struct AbortGuard<'a>(&'a Worker);

impl Drop for AbortGuard<'_> {
    fn drop(&mut self) {
        Totals::count(&self.0.view.totals.aborted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// hyper keeps room for a request's future with every connection, and moves it into place for every request.
    #[test]
    fn a_requests_future_stays_small() {
        fn size_of_future<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
            size_of::<F>()
        }
        fn handled(with: (&Rc<Worker>, InFlight, Request<Incoming>)) -> impl Future + use<> {
            handle(with.0, with.1, with.2)
        }
        let size = size_of_future(handled);
        assert!(size <= 1200, "{size} bytes");
    }
}
