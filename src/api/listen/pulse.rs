//! What a connection is at, and since when: whether it is over is decided here, by the time that is handed in.

use super::Limits;
use crate::clock::Monotonic;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nothing was asked for too long.
    Idle,
    /// A head of a request that does not come to its end.
    SlowHead,
    /// The client does not take its answer.
    SlowReader,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Between requests, and before the first.
    Idle(Monotonic),
    /// Some of a request's head has come.
    Head(Monotonic),
    /// A request is being answered.
    Request,
}

#[derive(Debug)]
struct State {
    stage: Stage,
    /// Since when something waits to be written.
    writing: Option<Monotonic>,
}

/// One connection's.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<State>);

impl Pulse {
    pub(super) fn new(now: Monotonic) -> Self {
        Self(Mutex::new(State { stage: Stage::Idle(now), writing: None }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Valid after any panic: each change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes came in.
    fn read(&self, now: Monotonic) {
        let mut state = self.state();
        if let Stage::Idle(_) = state.stage {
            state.stage = Stage::Head(now);
        }
    }

    /// Bytes went out, or have to wait.
    fn written(&self, waits: bool, now: Monotonic) {
        let mut state = self.state();
        state.writing = if waits { state.writing.or(Some(now)) } else { None };
    }

    /// A request's head is complete; it lasts as long as what is answered here.
    pub(super) fn request(pulse: &Arc<Self>) -> Busy {
        pulse.state().stage = Stage::Request;
        Busy(Arc::clone(pulse))
    }

    /// Whether the connection is over, and why.
    pub(super) fn cut(&self, limits: &Limits, now: Monotonic) -> Option<Cut> {
        let state = self.state();
        let over = |since: Monotonic, most: Duration| now.since(since) >= most;
        if state.writing.is_some_and(|since| over(since, limits.write)) {
            return Some(Cut::SlowReader);
        }
        match state.stage {
            Stage::Idle(since) => over(since, limits.idle).then_some(Cut::Idle),
            Stage::Head(since) => over(since, limits.head).then_some(Cut::SlowHead),
            Stage::Request => None,
        }
    }
}

/// A request that is being answered, until it is dropped.
#[derive(Debug)]
pub(super) struct Busy(Arc<Pulse>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.state().stage = Stage::Idle(Monotonic::now());
    }
}

/// A stream that tells what goes through it.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    pulse: Arc<Pulse>,
}

impl<S> Watched<S> {
    pub(super) const fn new(stream: S, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.pulse.read(Monotonic::now());
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.pulse.written(written.is_pending(), Monotonic::now());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.pulse.written(written.is_pending(), Monotonic::now());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // TLS keeps what the socket does not take, and tells of it here only.
        self.pulse.written(flushed.is_pending(), Monotonic::now());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_over_by_what_it_is_at() {
        let start = Monotonic::now();
        let at = |seconds: u64| start.after(Duration::from_secs(seconds));
        let limits = Limits::default();
        let pulse = Arc::new(Pulse::new(start));
        assert_eq!((pulse.cut(&limits, at(74)), pulse.cut(&limits, at(75))), (None, Some(Cut::Idle)));

        // A byte a second makes a head no longer.
        for second in 70..80 {
            pulse.read(at(second));
        }
        assert_eq!((pulse.cut(&limits, at(79)), pulse.cut(&limits, at(80))), (None, Some(Cut::SlowHead)));

        // An answer may take for ever, as events do.
        let busy = Pulse::request(&pulse);
        pulse.read(at(81));
        assert_eq!(pulse.cut(&limits, at(1_000_000)), None);

        // But not a client that takes none of it.
        pulse.written(true, at(100));
        pulse.written(true, at(130));
        assert_eq!((pulse.cut(&limits, at(159)), pulse.cut(&limits, at(160))), (None, Some(Cut::SlowReader)));
        pulse.written(false, at(161));
        assert_eq!(pulse.cut(&limits, at(1_000_000)), None);

        drop(busy);
        assert_eq!(pulse.cut(&limits, Monotonic::now().after(Duration::from_secs(74))), None);
        assert_eq!(pulse.cut(&limits, Monotonic::now().after(Duration::from_secs(75))), Some(Cut::Idle));
    }
}
