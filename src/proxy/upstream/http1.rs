//! One connection to an endpoint, and the one exchange at a time that it is busy with.
//!
//! Nothing here runs by itself: whoever waits for the answer polls the connection, and that reads the answer and sends
//! the rest of the request along. So request and answer need no task, channel or copy of their own, and an exchange
//! that is dropped in the middle closes its connection. hyper's client does the same work through two channels and
//! takes the request's fields by value; the server side is still hyper's.

use super::outgoing::Outgoing;
use super::wire::{self, Body, Malformed, Piece};
use super::{BodyError, Unsuccessful};
use crate::proxy::stream::Stream;
use crate::proxy::upload::{BodyLost, RequestBody};
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{HeaderName, UPGRADE};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body::{Frame, SizeHint};
use hyper::ext::ReasonPhrase;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// What is read at once, and kept with the connection.
const MIN_READ: usize = 8 * 1024;
/// What is read at once of a large answer, and so how much of a body waits in memory when a client reads slowly.
const MAX_READ: usize = 64 * 1024;
/// Interim answers before the one that counts. A server that works for long may send several 102 or 103.
const MAX_INTERIM: u8 = 32;
/// How long the rest of a request is still sent after its answer is complete, as nginx waits for a client that way.
const MAX_LINGER: Duration = Duration::from_secs(30);

/// A connection of HTTP/1.1 to an endpoint. One pointer, since it is handed about a lot.
pub(in crate::proxy) struct Http1(Box<Inner>);

struct Inner {
    stream: Stream,
    /// Read and not yet taken.
    input: BytesMut,
    /// How much to read at once.
    room: usize,
    /// How much of `input` is known not to hold all of a head.
    seen: usize,
    outgoing: Outgoing,
    upload: Option<Upload>,
    /// Whether anything of the request is gone: written here, or of its body, taken from the client.
    begun: bool,
    write: WriteSide,
    to_head: bool,
    /// Whether the answer may be that the connection is something else from now on.
    wants_upgrade: bool,
    interim: u8,
    /// The answer.
    status: StatusCode,
    reason: Option<Bytes>,
    headers: HeaderMap,
    /// `None` until its head is there.
    body: Option<Body>,
    keep_alive: bool,
}

/// A request's body on its way.
struct Upload {
    body: RequestBody,
    in_chunks: bool,
    announced: Vec<HeaderName>,
}

/// Whether the other side takes what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteSide {
    Open,
    /// It has closed the connection. It may have answered before, and the end can be read behind that.
    ClosedByPeer,
    /// This machine failed; there may be nothing to read ever.
    Failed,
}

impl From<Malformed> for BodyError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.to_string())
    }
}

impl Http1 {
    /// A connection without any request yet.
    pub(super) fn new(stream: Stream) -> Self {
        Self(Box::new(Inner {
            stream,
            input: BytesMut::new(),
            room: MIN_READ,
            seen: 0,
            outgoing: Outgoing::default(),
            upload: None,
            begun: false,
            write: WriteSide::Open,
            to_head: false,
            wants_upgrade: false,
            interim: 0,
            status: StatusCode::OK,
            reason: None,
            headers: HeaderMap::new(),
            body: None,
            keep_alive: true,
        }))
    }

    /// Takes a request. It goes out, and its answer comes, while the connection is polled.
    pub(super) fn begin(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap, body: Option<RequestBody>) {
        let inner = &mut *self.0;
        wire::write_request(inner.outgoing.head(), method, uri, headers);
        inner.upload = body.map(|body| {
            let in_chunks = body.has_no_length();
            let announced = if in_chunks { wire::announced(headers) } else { Vec::new() };
            Upload { body, in_chunks, announced }
        });
        inner.to_head = method == Method::HEAD;
        inner.wants_upgrade = headers.contains_key(UPGRADE);
        (inner.begun, inner.interim, inner.body) = (false, 0, None);
    }

    /// Ready when the head of the answer is there.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsuccessful>> {
        self.0.poll_head(cx)
    }

    /// The next piece of the answer's body.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_frame(cx)
    }

    /// Status of the answer.
    pub(super) const fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Fields of the answer's head, until they are taken.
    pub(super) const fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// The answer's head, once. `used` is a map that nobody needs any more; the next answer's fields go there.
    pub(super) fn take_response(&mut self, mut used: HeaderMap) -> Response<()> {
        used.clear();
        let mut response = Response::new(());
        *response.status_mut() = self.0.status;
        *response.headers_mut() = std::mem::replace(&mut self.0.headers, used);
        // An unusual phrase is passed on; one that hyper does not take is replaced by the usual one.
        if let Some(Ok(reason)) = self.0.reason.take().map(ReasonPhrase::try_from) {
            response.extensions_mut().insert(reason);
        }
        response
    }

    /// Whether the answer is complete.
    pub(super) fn is_answered(&self) -> bool {
        self.0.body.as_ref().is_some_and(Body::is_over)
    }

    /// How much of the answer's body is left.
    pub(super) fn size_hint(&self) -> SizeHint {
        self.0.body.as_ref().and_then(Body::left).map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// Whether the next piece can only come from the socket.
    pub(super) fn has_to_read(&self) -> bool {
        self.0.input.is_empty()
    }

    /// Whether the next request can be sent.
    pub(super) fn is_free(&self) -> bool {
        let inner = &*self.0;
        let sent = inner.is_sent() && inner.write == WriteSide::Open;
        // Bytes behind the answer belong to nothing that was asked.
        sent && self.is_answered() && inner.keep_alive && inner.input.is_empty()
    }

    /// Gives back what an exchange left and what a large one took beyond what an idle connection needs.
    pub(super) fn rest(&mut self) {
        self.0.outgoing.clear();
        // An answer that nobody wanted was not taken.
        if !self.0.headers.is_empty() {
            self.0.headers.clear();
        }
        if self.0.room > MIN_READ {
            (self.0.input, self.0.room) = (BytesMut::new(), MIN_READ);
        }
    }

    /// Whether an idle connection is still open and silent, as far as this process has been told.
    pub(super) fn is_alive(&mut self) -> bool {
        self.0.stream.is_silent()
    }

    /// Lets go of the task that used the connection last: its waker would keep it in memory.
    pub(super) fn forget_task(&self) {
        self.0.stream.forget_task();
    }

    /// The socket of a connection that is something else now, and what came behind the answer.
    pub(super) fn into_socket(self) -> (Stream, BytesMut) {
        (self.0.stream, self.0.input)
    }

    /// Lets the rest of the request go out, then closes.
    pub(super) fn finish(mut self) {
        if self.0.is_sent() {
            return;
        }
        tokio::task::spawn_local(async move {
            // The answer is complete; nobody asks how this ends.
            let _ = timeout(MAX_LINGER, poll_fn(|cx| self.0.poll_linger(cx))).await;
        });
    }
}

impl Inner {
    /// Whether there is nothing more to write, or nobody who takes it.
    fn is_sent(&self) -> bool {
        self.write != WriteSide::Open || (self.upload.is_none() && self.outgoing.is_empty())
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsuccessful>> {
        if self.poll_upload(cx).is_err() {
            return Poll::Ready(Err(Unsuccessful::ClientGone));
        }
        loop {
            match self.parse_head() {
                Ok(true) => return Poll::Ready(Ok(())),
                Ok(false) => {}
                Err(_) => return Poll::Ready(Err(Unsuccessful::Malformed)),
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(self.broken())),
                Poll::Pending if self.write == WriteSide::Failed => return Poll::Ready(Err(self.broken())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn broken(&self) -> Unsuccessful {
        if self.begun { Unsuccessful::Broken } else { Unsuccessful::Unsent }
    }

    /// Whether the head of the answer is there now.
    fn parse_head(&mut self) -> Result<bool, Malformed> {
        while !self.input.is_empty() {
            if self.seen > 0 && self.input.len() < wire::MAX_HEAD && !wire::may_end(&self.input, self.seen) {
                break;
            }
            let Some(head) = wire::parse_head(&mut self.input, self.to_head, &mut self.headers)? else { break };
            self.seen = 0;
            let switches = head.status == StatusCode::SWITCHING_PROTOCOLS && self.wants_upgrade;
            if !head.status.is_informational() || switches {
                (self.status, self.reason, self.body) = (head.status, head.reason, Some(head.body));
                self.keep_alive = head.keep_alive && !switches;
                return Ok(true);
            }
            // Where nobody asked for another protocol there is none to switch to.
            if head.status == StatusCode::SWITCHING_PROTOCOLS || self.interim == MAX_INTERIM {
                return Err(Malformed::Field);
            }
            self.interim += 1;
            self.headers.clear();
        }
        self.seen = self.input.len();
        Ok(false)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.poll_upload(cx).is_err() {
            return Poll::Ready(Some(Err(BodyError::ClientGone)));
        }
        loop {
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            match body.next(&mut self.input) {
                Ok(Some(Piece::Data(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Some(Piece::Trailers(trailers))) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(Some(Piece::End)) => return Poll::Ready(None),
                Ok(None) => {}
                Err(malformed) => return Poll::Ready(Some(Err(malformed.into()))),
            }
            match ready!(self.poll_read(cx)) {
                Ok(1..) => {}
                Ok(0) if self.body.as_mut().is_some_and(Body::close) => return Poll::Ready(None),
                Ok(0) => return Poll::Ready(Some(Err(BodyError::Incomplete))),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// Ready when nothing is left to send, or the other side does not want it.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_upload(cx).is_err() || self.is_sent() {
            return Poll::Ready(());
        }
        // The answer is complete, so whatever comes is an end of some sort.
        self.poll_read(cx).map(|_| ())
    }

    /// Reads more. `Ok(0)` is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() - self.input.len() < self.room / 2 {
            // Takes over what was read before when all of that is done with; allocates only if it is not.
            self.input.reserve(self.room);
        }
        let mut target = (&mut self.input).limit(self.room);
        let read = ready!(pin!(self.stream.read_buf(&mut target)).poll(cx))?;
        if read == self.room {
            self.room = (self.room * 2).min(MAX_READ);
        }
        Poll::Ready(Ok(read))
    }

    /// Sends as much of the request as can be now.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), BodyLost> {
        while !self.is_sent() {
            let waits_for_client = self.poll_fill(cx)?;
            match self.outgoing.poll_flush(&mut self.stream, cx, &mut self.begun) {
                Poll::Ready(Ok(())) if waits_for_client => break,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => self.stop_upload(&error),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Takes what there is of the client's body while there is room. Whether it is the client that is waited for.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Result<bool, BodyLost> {
        while self.outgoing.has_room() {
            let Some(upload) = &mut self.upload else { return Ok(false) };
            let Poll::Ready(frame) = upload.body.poll_frame(cx) else { return Ok(true) };
            self.begun = true;
            let in_chunks = upload.in_chunks;
            let (mut trailers, mut ends) = (HeaderMap::new(), frame.is_none());
            if let Some(frame) = frame {
                match frame?.into_data() {
                    // An empty chunk would be the last one.
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => self.outgoing.push(data, in_chunks),
                    Err(frame) => (trailers, ends) = (frame.into_trailers().unwrap_or_default(), true),
                }
            }
            // One in chunks ends when it says so, which it is asked only while there is room: the last chunk would stand before
            // a large piece that is still to go out.
            if ends || (!in_chunks && upload.body.is_over()) {
                if in_chunks {
                    self.outgoing.push_last(&trailers, &upload.announced);
                }
                self.upload = None;
            }
        }
        Ok(false)
    }

    /// The other side reads no more. What it has answered may still be on its way.
    fn stop_upload(&mut self, error: &io::Error) {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        let by_peer = matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset);
        self.write = if by_peer { WriteSide::ClosedByPeer } else { WriteSide::Failed };
        self.outgoing.clear();
        if let Some(upload) = self.upload.take() {
            upload.body.stop();
        }
    }
}
