//! A TCP stream as hyper wants it, writing what is small with one plain `send`.
//!
//! hyper hands a message over as its head and its body's pieces, in a list to be written by `writev`, which costs the
//! kernel a good deal more than `send` does. Below a few KiB, copying the pieces together is cheaper than that.

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::TcpStream;

/// Pieces of this much in all are copied together; above, the copy costs as much as it saves.
const COPY_BELOW: usize = 4096;

thread_local! {
    /// Where pieces are put together: nothing stays in it between two writes, so one for each worker is enough.
    static TOGETHER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(COPY_BELOW));
}

/// A connection's socket.
pub(super) struct HttpSocket(TokioIo<TcpStream>);

impl HttpSocket {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Heads and small bodies go out in one write each; waiting for more would only add delay.
        let _ = stream.set_nodelay(true);
        Self(TokioIo::new(stream))
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut TokioIo<TcpStream>> {
        Pin::new(&mut self.get_mut().0)
    }
}

impl Read for HttpSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl Write for HttpSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = pieces {
            return self.poll_write(cx, only);
        }
        if pieces.iter().map(|piece| piece.len()).sum::<usize>() > COPY_BELOW {
            return self.stream().poll_write_vectored(cx, pieces);
        }
        TOGETHER.with_borrow_mut(|together| {
            together.clear();
            pieces.iter().for_each(|piece| together.extend_from_slice(piece));
            self.poll_write(cx, together)
        })
    }
}
