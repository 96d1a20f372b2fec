//! What is on its way to an endpoint: small pieces are put together and go out with one plain `send`, a large one is
//! not copied and goes out beside them.
//!
//! It holds one large piece at most, so whoever fills it waits until that is written.

use super::wire;
use crate::proxy::socket::COPY_BELOW;
use crate::proxy::stream::Stream;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http::header::HeaderName;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// A buffer that has grown beyond this is not kept with an idle connection.
const KEPT: usize = 8 * 1024;

/// Bytes to be written.
#[derive(Default)]
pub(super) struct Outgoing {
    /// Heads and small pieces; written up to `at`.
    small: Vec<u8>,
    at: usize,
    /// Comes after them.
    large: Bytes,
    /// Comes after that.
    end: &'static [u8],
    /// Whether TLS may still hold what it took.
    is_in_tls: bool,
}

impl Outgoing {
    pub(super) const fn is_empty(&self) -> bool {
        self.is_taken() && !self.is_in_tls
    }

    /// Whether the connection has taken all of it.
    const fn is_taken(&self) -> bool {
        self.small.is_empty() && self.large.is_empty() && self.end.is_empty()
    }

    /// Whether another piece of a body may be added.
    pub(super) const fn has_room(&self) -> bool {
        self.large.is_empty() && self.end.is_empty() && self.small.len() < COPY_BELOW
    }

    /// Where a head is written to. Only while there is room.
    pub(super) const fn head(&mut self) -> &mut Vec<u8> {
        &mut self.small
    }

    /// Adds a piece of a body, as a chunk or as it is. Only while there is room.
    pub(super) fn push(&mut self, data: Bytes, as_chunk: bool) {
        if as_chunk {
            wire::write_chunk_size(&mut self.small, data.len());
        }
        let end = if as_chunk { wire::CHUNK_END } else { &[] };
        if self.small.len() + data.len() <= COPY_BELOW {
            self.small.extend_from_slice(&data);
            self.small.extend_from_slice(end);
        } else {
            (self.large, self.end) = (data, end);
        }
    }

    /// Ends a body in chunks. Only while there is room.
    pub(super) fn push_last(&mut self, trailers: &HeaderMap, announced: &[HeaderName]) {
        wire::write_last_chunk(&mut self.small, trailers, announced);
    }

    /// Forgets what was not written, and memory that a rare large head took.
    pub(super) fn clear(&mut self) {
        self.small.clear();
        if self.small.capacity() > KEPT {
            self.small = Vec::new();
        }
        (self.at, self.large, self.end, self.is_in_tls) = (0, Bytes::new(), &[], false);
    }

    /// Writes everything. `begun` becomes true as soon as the socket has taken any of it.
    pub(super) fn poll_flush(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
        begun: &mut bool,
    ) -> Poll<io::Result<()>> {
        let is_secure = stream.is_secure();
        while !self.is_empty() {
            let mut stream = Pin::new(&mut *stream);
            if self.is_taken() {
                ready!(stream.as_mut().poll_flush(cx))?;
                self.is_in_tls = false;
                break;
            }
            let written = if self.large.is_empty() && self.end.is_empty() {
                ready!(stream.as_mut().poll_write(cx, &self.small[self.at..]))?
            } else {
                let pieces = [&self.small[self.at..], &self.large, self.end].map(IoSlice::new);
                ready!(stream.as_mut().poll_write_vectored(cx, &pieces))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *begun = true;
            self.is_in_tls = is_secure;
            self.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let of_small = written.min(self.small.len() - self.at);
        let of_large = (written - of_small).min(self.large.len());
        self.at += of_small;
        self.large.advance(of_large);
        self.end = &self.end[written - of_small - of_large..];
        if self.at == self.small.len() {
            self.small.clear();
            self.at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However much the socket takes at a time, the bytes are the same.
    #[test]
    fn pieces_go_out_in_order_however_much_is_taken_at_a_time() {
        for step in [1, 2, 3, 7, 4096, 100_000] {
            let mut outgoing = Outgoing::default();
            outgoing.head().extend_from_slice(b"head ");
            outgoing.push(Bytes::from_static(b"small"), true);
            assert!(outgoing.has_room());
            outgoing.push(Bytes::from(vec![b'x'; 5000]), true);
            assert!(!outgoing.has_room());
            let mut written = Vec::new();
            while !outgoing.is_empty() {
                let rest = [&outgoing.small[outgoing.at..], &outgoing.large, outgoing.end].concat();
                let taken = step.min(rest.len());
                written.extend_from_slice(&rest[..taken]);
                outgoing.advance(taken);
            }
            assert!(outgoing.has_room());
            let text = String::from_utf8(written).unwrap();
            assert_eq!(text, format!("head 5\r\nsmall\r\n1388\r\n{}\r\n", "x".repeat(5000)), "{step} at a time");
        }
    }
}
