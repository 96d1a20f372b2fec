//! Answers on their way through: streamed, never buffered. The body of an answer is where a request's outcome becomes known:
//! it counts at the end, at a failure, or at the deadline.

use super::alarm::Alarm;
use super::connection::InFlight;
use super::counters::Outcome;
use super::gate::Inside;
use super::headers::is_grpc_failure;
use super::upload::Upload;
use super::upstream::{BodyError, Lease};
use super::worker::{Placement, Worker};
use crate::base::time::Millis;
use crate::clock::Monotonic;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// When a request has taken too long, by either of a route's limits.
///
/// **All of it**: `timeout` after the client has delivered all of the request. While a body is still coming in, the time since
/// the client last delivered something counts, and only while it is not the client that is waited for: a slow upload is not
/// the upstream's fault. Calls of gRPC may go on for long in both directions: while both talk, only the silence of both counts,
/// and 300 s of it are too much. **Silence**: `idle` after anything came from either side.
#[derive(Clone)]
pub(super) struct Deadline {
    timeout: Option<Duration>,
    idle: Option<Duration>,
    started: Monotonic,
    upload: Option<Rc<Upload>>,
    /// When the answer last brought something; only kept up where that matters.
    answered: Cell<Monotonic>,
    has_answer: Cell<bool>,
    is_grpc: bool,
}

/// While both sides of a call may talk, both may be silent for so long: App Mesh's documented idle timeout.
const MAX_BOTH_SILENT: Duration = Duration::from_secs(300);

/// Whose fault it is that time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// The upstream's: the request counts as timed out.
    Upstream,
    /// The upstream's too: nothing came from it for too long.
    Idle,
    /// The client's, which stopped sending: the request counts nowhere.
    Client,
}

impl Deadline {
    /// With the limits of a route, `None` without any. `upload` is the body that the client still sends, which moves them.
    pub(super) fn new(
        timeout: Option<Millis>,
        idle: Option<Millis>,
        started: Monotonic,
        (upload, is_grpc): (Option<Rc<Upload>>, bool),
    ) -> Option<Self> {
        let (timeout, idle) = (timeout.map(Millis::duration), idle.map(Millis::duration));
        let (answered, has_answer) = (Cell::new(started), Cell::new(false));
        let deadline = Self { timeout, idle, started, upload, answered, has_answer, is_grpc };
        (timeout.is_some() || idle.is_some()).then_some(deadline)
    }

    /// Something of the answer came.
    fn heard(&self) {
        self.has_answer.set(true);
        if self.idle.is_some() || self.is_grpc {
            self.answered.set(Monotonic::now());
        }
    }

    /// Since when the whole counts.
    fn from(&self) -> Monotonic {
        self.upload.as_ref().map_or(self.started, |upload| upload.last().max(self.started))
    }

    /// When the whole has taken too long.
    fn whole(&self) -> Option<Monotonic> {
        let timeout = self.timeout?;
        let is_open = || self.upload.as_ref().is_some_and(|upload| !upload.has_ended());
        if self.is_grpc && self.has_answer.get() && is_open() {
            return Some(self.from().max(self.answered.get()).plus(timeout.max(MAX_BOTH_SILENT)));
        }
        Some(self.from().plus(timeout))
    }

    /// When the first of the limits passes, if nothing comes any more.
    fn due(&self) -> Option<Monotonic> {
        let silence = self.idle.map(|idle| self.from().max(self.answered.get()).plus(idle));
        match (self.whole(), silence) {
            (Some(whole), Some(silence)) => Some(whole.min(silence)),
            (whole, silence) => whole.or(silence),
        }
    }

    /// Resolves when it has passed, with whose fault that is.
    pub(super) fn poll(&self, cx: &mut Context<'_>, alarm: &Alarm) -> Poll<Late> {
        loop {
            // There is one limit at least.
            let Some(due) = self.due() else { return Poll::Pending };
            ready!(alarm.poll_until(cx, due));
            if let Err(late) = self.left() {
                return Poll::Ready(late);
            }
        }
    }

    /// Time left, or whose fault it is that there is none.
    pub(super) fn left(&self) -> Result<Duration, Late> {
        let now = Monotonic::now();
        let left = self.due().map_or(Duration::MAX, |due| due.since(now));
        if !left.is_zero() {
            return Ok(left);
        }
        if self.upload.as_ref().is_some_and(|upload| upload.waits_for_client()) {
            return Err(Late::Client);
        }
        let whole = self.whole().is_some_and(|whole| whole.since(now).is_zero());
        Err(if whole { Late::Upstream } else { Late::Idle })
    }
}

/// Why an answer was broken off. The client sees its connection close in the middle of the body.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokenOff {
    /// The upstream's connection failed, or the client's under its own body.
    #[error("the answer was broken off: {0}")]
    Body(#[from] BodyError),
    /// The deadline passed.
    #[error("the answer was not complete at the request's deadline")]
    Deadline,
}

/// Body of an answer to a client.
pub(super) enum ResponseBody {
    /// The proxy's own words.
    Own(Option<Bytes>),
    /// The upstream's, as it comes.
    Relayed(Box<Relay>),
}

/// An upstream's answer on its way to the client.
pub(super) struct Relay {
    /// What to count at the end; `None` once counted.
    pending: Option<Pending>,
    /// The connection that the answer comes over, until it is complete.
    lease: Option<Lease>,
    deadline: Option<Deadline>,
    /// Its place at the endpoint, where places are counted.
    inside: Option<Inside>,
    /// When its head came, until more of it had to be waited for.
    head_came: Option<Monotonic>,
    in_flight: InFlight,
}

/// A request whose outcome is not known yet.
pub(super) struct Pending {
    pub(super) worker: Rc<Worker>,
    pub(super) placement: Placement,
    /// Microseconds to the head of the answer.
    pub(super) latency_us: u64,
}

impl Relay {
    /// Passes an answer on whose head came at `head_came`. `pending` is what still has to be counted.
    pub(super) fn new(
        pending: Option<Pending>,
        lease: Lease,
        deadline: Option<Deadline>,
        head_came: Monotonic,
        (in_flight, inside): (InFlight, Option<Inside>),
    ) -> Self {
        if let Some(deadline) = &deadline {
            deadline.heard();
        }
        let mut relay = Self { pending, lease: Some(lease), deadline, inside, head_came: Some(head_came), in_flight };
        // Answers without a body are never polled.
        if relay.is_complete() {
            relay.finish();
        }
        relay
    }

    fn finish(&mut self) {
        self.in_flight.ended_at(self.head_came);
        if let Some(record) = self.in_flight.record() {
            record.complete();
        }
        if let Some(pending) = self.pending.take() {
            pending.placement.count(&pending.worker.view, Outcome::Good { latency_us: pending.latency_us });
        }
        if let Some(lease) = self.lease.take() {
            lease.give_back(self.head_came.unwrap_or_else(Monotonic::now));
        }
        (self.deadline, self.inside) = (None, None);
    }

    fn fail(&mut self, outcome: Outcome) {
        if let Some(pending) = self.pending.take() {
            pending.placement.count(&pending.worker.view, outcome);
        }
        (self.lease, self.deadline) = (None, None);
    }

    fn note_broken(&self, late: Option<Late>) {
        if let Some(record) = self.in_flight.record() {
            record.broken_off(late);
        }
    }

    /// Whether nothing more comes.
    fn is_complete(&self) -> bool {
        self.lease.as_ref().is_none_or(|lease| lease.upstream.is_answered())
    }

    fn size_hint(&self) -> SizeHint {
        self.lease.as_ref().map_or_else(|| SizeHint::with_exact(0), |lease| lease.upstream.size_hint())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let Some(lease) = &mut self.lease else { return Poll::Ready(None) };
        if lease.upstream.has_to_read() {
            self.head_came = None;
        }
        match lease.upstream.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(deadline) = &self.deadline {
                    deadline.heard();
                }
                if let Some(record) = self.in_flight.record() {
                    record.passed(&frame);
                }
                if frame.trailers_ref().is_some_and(is_grpc_failure)
                    && let Some(pending) = self.pending.take()
                {
                    pending.placement.count(&pending.worker.view, Outcome::Status5xx);
                }
                // With a known length the reader stops after the last byte and never asks for the end.
                if self.is_complete() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                // A client that breaks its own request off says nothing about the upstream: it has gone away.
                if !matches!(error, BodyError::ClientGone) {
                    self.fail(Outcome::Reset);
                    self.note_broken(None);
                }
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Pending => self.poll_deadline(cx),
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let Some(deadline) = &self.deadline else { return Poll::Pending };
        let late = ready!(deadline.poll(cx, self.in_flight.alarm()));
        self.note_broken(Some(late));
        match late {
            Late::Upstream | Late::Idle => self.fail(Outcome::Timeout),
            // Counted as gone when this is dropped.
            Late::Client => (self.lease, self.deadline) = (None, None),
        }
        Poll::Ready(Some(Err(BrokenOff::Deadline)))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Who reads as much as was announced does not ask for the end, which may come in a frame of its own.
        if self.lease.as_ref().is_some_and(|lease| lease.upstream.has_all()) {
            return self.finish();
        }
        if let Some(pending) = self.pending.take() {
            // Nobody reads on: the client went away, which says nothing about the upstream.
            super::counters::Totals::count(&pending.worker.view.totals.aborted);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Own(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Relayed(relay) => relay.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(text) => text.is_none(),
            Self::Relayed(relay) => relay.is_complete(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Relayed(relay) => relay.size_hint(),
        }
    }
}
