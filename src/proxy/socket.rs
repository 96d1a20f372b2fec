//! A connection as hyper wants it: it writes what is small with one plain `send`, it can tell whether all was written,
//! and it can be taken from one hyper connection to the next.
//!
//! hyper hands a message over as its head and its body's pieces, in a list to be written by `writev`, which costs the
//! kernel a good deal more than `send` does. Below a few KiB, copying the pieces together is cheaper than that.

use super::stream::Stream;
use bytes::{Buf, Bytes, BytesMut};
use hyper::rt::{Executor, Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// Pieces of this much in all are copied together; above, the copy costs as much as it saves.
pub(super) const COPY_BELOW: usize = 4096;

thread_local! {
    /// Where pieces are put together: nothing stays in it between two writes, so one for each worker is enough.
    static TOGETHER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(COPY_BELOW));
}

/// What a client begins a connection of HTTP/2 with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Read at once of the first words: most requests of HTTP/1.1 are shorter, and hyper needs no read of its own for them.
const FIRST_READ: usize = 2048;

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Runs the requests of an HTTP/2 connection on its worker.
#[derive(Clone, Copy)]
pub(super) struct OnThisThread;

impl<F: Future + 'static> Executor<F> for OnThisThread {
    fn execute(&self, request: F) {
        tokio::task::spawn_local(async move {
            request.await;
        });
    }
}

/// A connection's socket.
pub(super) struct HttpSocket {
    stream: TokioIo<Stream>,
    /// Read before, by a hyper connection that is no more.
    put_back: Bytes,
    flow: Rc<Flow>,
}

/// What the other side of a socket takes.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Whether the last write did not take everything. hyper tries until it has nothing left or this is so.
    pub(super) blocked: Cell<bool>,
    /// Whether anything was taken since somebody looked.
    pub(super) moved: Cell<bool>,
}

impl HttpSocket {
    /// A socket that tells what it takes.
    pub(super) fn watched(stream: Stream, flow: Rc<Flow>) -> Self {
        // Heads and small bodies go out in one write each; waiting for more would only add delay.
        let _ = stream.socket().set_nodelay(true);
        Self { stream: TokioIo::new(stream), put_back: Bytes::new(), flow }
    }

    /// Makes these bytes the next to be read.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        // Copied, and not at all when there are none: they are the end of a buffer that would be kept for them.
        self.put_back = if bytes.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(bytes) };
    }

    /// The socket itself, and what was read of it and not taken.
    pub(super) fn into_stream(self) -> (Stream, BytesMut) {
        (self.stream.into_inner(), BytesMut::from(&self.put_back[..]))
    }

    /// Reads until it is known what the client speaks; what was read is put back.
    pub(super) fn poll_protocol(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Protocol>> {
        loop {
            let known = self.put_back.len().min(PREFACE.len());
            if self.put_back[..known] != PREFACE[..known] {
                return Poll::Ready(Ok(Protocol::Http1));
            }
            if known == PREFACE.len() {
                return Poll::Ready(Ok(Protocol::Http2));
            }
            let mut room = [0; FIRST_READ];
            let mut buffer = ReadBuf::new(&mut room);
            ready!(Pin::new(self.stream.inner_mut()).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.put_back = Bytes::from([&self.put_back, buffer.filled()].concat());
        }
    }

    /// Resolves when there is something to read, an end or an error included.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.put_back.is_empty() {
            return Poll::Ready(());
        }
        self.stream.inner_mut().poll_readable(cx)
    }

    fn stream(&mut self) -> Pin<&mut TokioIo<Stream>> {
        Pin::new(&mut self.stream)
    }

    /// Remembers whether a write of `length` bytes took them all.
    fn written(&self, length: usize, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.flow.blocked.set(!matches!(polled, Poll::Ready(Ok(taken)) if taken == length));
        self.flow.moved.set(self.flow.moved.get() || matches!(polled, Poll::Ready(Ok(1..))));
        polled
    }
}

impl Read for HttpSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.put_back.is_empty() {
            return self.stream().poll_read(cx, buffer);
        }
        let length = self.put_back.len().min(buffer.remaining());
        buffer.put_slice(&self.put_back[..length]);
        self.put_back.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl Write for HttpSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.stream().poll_write(cx, bytes);
        self.written(bytes.len(), polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.stream().poll_flush(cx);
        if self.stream.inner().is_secure() {
            // What TLS took may still wait there for the socket.
            self.flow.blocked.set(flushed.is_pending());
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = pieces {
            return self.poll_write(cx, only);
        }
        let length = pieces.iter().map(|piece| piece.len()).sum();
        if length > COPY_BELOW {
            let polled = self.stream().poll_write_vectored(cx, pieces);
            return self.written(length, polled);
        }
        TOGETHER.with_borrow_mut(|together| {
            together.clear();
            pieces.iter().for_each(|piece| together.extend_from_slice(piece));
            self.poll_write(cx, together)
        })
    }
}
