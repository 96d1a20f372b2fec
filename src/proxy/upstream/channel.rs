//! Connections of HTTP/2 to one endpoint. Each is driven by a task of its own and shared by as many exchanges as the endpoint
//! allows; while one is being made, whoever needs it waits instead of making another.

use super::http2::Http2;
use super::{CONNECT_TIMEOUT, NoConnection};
use crate::clock::Monotonic;
use crate::proxy::stream::Stream;
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use socket2::SockRef;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Streams of one connection, however many the endpoint allows: beyond, a connection's one task is what is waited for.
const MAX_STREAMS: usize = 1024;
/// Streams of a new connection until the endpoint has said how many it takes: nobody allows fewer (RFC 9113 section 6.5.2
/// recommends 100 at least).
const FIRST_STREAMS: usize = 100;
/// A connection whose endpoint acknowledges nothing for so long is over. Without this the system would try for a quarter of
/// an hour, and so would every request on it.
const VANISHED_AFTER: Duration = Duration::from_secs(20);
/// What an endpoint may send of one answer that its client has not read yet: it waits in memory.
const STREAM_WINDOW: u32 = 256 * 1024;
/// And of all answers together: as much as all streams, so that however many clients do not read, nobody else's answer waits for
/// them. That is 256 MiB, Envoy's default for long (`initial_connection_window_size`); a client that reads nothing is cut
/// after 300 s.
const CONNECTION_WINDOW: u32 = {
    let all = MAX_STREAMS as u64 * STREAM_WINDOW as u64;
    // The most that a window can be (RFC 9113 section 6.9.1).
    assert!(all < 1 << 31);
    all as u32
};
/// Largest head of an answer, as of HTTP/1.1.
const MAX_HEAD: u32 = 64 * 1024;
/// Of a stream's request, so much waits in memory for the connection to take it.
const MAX_SEND_BUFFER: usize = 64 * 1024;

/// One connection.
pub(super) struct Channel {
    sender: SendRequest<Bytes>,
    streams: Cell<usize>,
    /// Since when it has no stream.
    idle_since: Cell<Monotonic>,
    /// Whether it takes no more streams: it ended, or its endpoint said that it is going away.
    is_over: Cell<bool>,
}

impl Channel {
    fn has_room(&self) -> bool {
        !self.is_over.get() && self.streams.get() < MAX_STREAMS.min(self.sender.current_max_send_streams())
    }

    /// What opens a stream.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.sender.clone()
    }

    /// Another exchange uses it.
    pub(super) fn enter(&self) {
        self.streams.set(self.streams.get() + 1);
    }

    /// An exchange is done with it.
    pub(super) fn leave(&self) {
        self.streams.set(self.streams.get() - 1);
        if self.streams.get() == 0 {
            self.idle_since.set(Monotonic::now());
        }
    }

    /// It took a stream no more.
    pub(super) fn retire(&self) {
        self.is_over.set(true);
    }
}

/// All connections to an endpoint.
#[derive(Default)]
pub(super) struct Channels {
    open: RefCell<Vec<Rc<Channel>>>,
    making: Cell<bool>,
    /// How the last attempt failed, for those who waited for it.
    failed: Cell<Option<NoConnection>>,
    made: Notify,
}

/// Tells who waits for a connection that there is one, or none, however the making ended.
struct Making<'a>(&'a Channels);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.making.set(false);
        self.0.made.notify_waiters();
    }
}

impl Channels {
    /// A stream of a connection that is there.
    pub(super) fn take(&self) -> Option<Http2> {
        let mut open = self.open.borrow_mut();
        open.retain(|channel| !channel.is_over.get());
        open.iter().find(|channel| channel.has_room()).map(|channel| Http2::on(Rc::clone(channel)))
    }

    /// A stream of a connection that is made now, unless one that is being made comes first.
    pub(super) async fn open<F>(&self, dial: impl FnOnce() -> F) -> Result<Http2, NoConnection>
    where
        F: Future<Output = Result<Stream, NoConnection>>,
    {
        while self.making.get() {
            self.made.notified().await;
            if let Some(stream) = self.take() {
                return Ok(stream);
            }
            if let Some(failed) = self.failed.get() {
                return Err(failed);
            }
        }
        self.making.set(true);
        self.failed.set(None);
        let making = Making(self);
        let made = match dial().await {
            Ok(socket) => self.greet(socket).await,
            Err(failed) => Err(failed),
        };
        self.failed.set(made.as_ref().err().copied());
        drop(making);
        made
    }

    async fn greet(&self, socket: Stream) -> Result<Http2, NoConnection> {
        // A system that cannot do so only notices later.
        let _ = SockRef::from(socket.socket()).set_tcp_user_timeout(Some(VANISHED_AFTER));
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEAD)
            .max_send_buffer_size(MAX_SEND_BUFFER)
            .enable_push(false)
            .initial_max_send_streams(FIRST_STREAMS)
            .max_concurrent_reset_streams(MAX_STREAMS)
            .max_local_error_reset_streams(None)
            .handshake(socket);
        let Ok(Ok((sender, connection))) = timeout(CONNECT_TIMEOUT, handshake).await else {
            return Err(NoConnection::Failed);
        };
        let (streams, idle_since, is_over) = (Cell::new(0), Cell::new(Monotonic::now()), Cell::new(false));
        let channel = Rc::new(Channel { sender, streams, idle_since, is_over });
        // The task ends when the connection does, or when nothing can use it any more.
        let driven = Rc::downgrade(&channel);
        tokio::task::spawn_local(async move {
            // Its streams learn how it ended.
            let _ = connection.await;
            if let Some(channel) = driven.upgrade() {
                channel.retire();
            }
        });
        self.open.borrow_mut().push(Rc::clone(&channel));
        Ok(Http2::on(channel))
    }

    /// Lets go of connections that had no stream for so long, and of those that are over.
    pub(super) fn expire(&self, max_age: Duration) {
        self.open.borrow_mut().retain(|channel| {
            let idle = channel.streams.get() == 0 && channel.idle_since.get().elapsed() > max_age;
            !idle && !channel.is_over.get()
        });
    }
}
