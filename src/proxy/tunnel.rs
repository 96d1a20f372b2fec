//! A connection that is no HTTP any more: bytes both ways until one side has ended and the other has what was on its way.

use super::alarm::Alarm;
use super::connection::{Connection, InFlight, Order};
use super::gate::Inside;
use super::held::Held;
use super::record::Record;
use super::stream::Stream;
use crate::clock::Monotonic;
use bytes::Bytes;
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{self, AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes};

/// What is carried at once, each way.
const BUFFER: usize = 16 * 1024;

/// The other end of a client's connection.
pub(super) struct Tunnel {
    pub(super) endpoint: Stream,
    /// What the endpoint said behind its answer.
    pub(super) early: Bytes,
    /// Its places at the endpoint, where they are counted.
    pub(super) places: (Option<Inside>, Option<Box<Held>>),
    /// After how long a silence both ends are closed; `None` for never.
    pub(super) idle: Option<Duration>,
    /// What is noted of it, where that is asked for.
    pub(super) record: Option<Rc<Record>>,
}

/// Carries bytes until both sides have ended, or the connection is told to, or both were silent for as long as they may be (as
/// Envoy's `tcp_proxy` counts its `idle_timeout`: from the last byte, whichever way it went).
pub(super) async fn run(connection: &Rc<Connection>, tunnel: Tunnel, client: Stream, early: Bytes) {
    let (idle, mut heard) = (tunnel.idle, Monotonic::now());
    // Its silence is minded here, and not by the sweep.
    let _busy = InFlight::new(Rc::clone(connection));
    let (alarm, moved) = (Alarm::default(), Cell::new(false));
    let mut carried = pin!(carry(&moved, tunnel, client, early));
    poll_fn(|cx| {
        match connection.order() {
            Order::Cut => return Poll::Ready(()),
            // Nothing can be parked here, and an end in good order is for the two sides to find.
            Order::Park | Order::Finish | Order::Serve => {}
        }
        connection.remember(cx.waker());
        // How it ended is theirs to know.
        if carried.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(idle) = idle else { return Poll::Pending };
        if moved.replace(false) {
            heard = Monotonic::now();
        }
        alarm.poll_until(cx, heard.plus(idle))
    })
    .await;
}

async fn carry(moved: &Cell<bool>, tunnel: Tunnel, client: Stream, early: Bytes) -> io::Result<()> {
    let Tunnel { mut endpoint, early: early_answer, places: _places, record, .. } = tunnel;
    if let Some(record) = &record {
        record.settle();
        record.received(early.len());
    }
    endpoint.write_all(&early).await?;
    // What TLS holds back of it nobody else would send on.
    endpoint.flush().await?;
    let mut client = Watched { stream: client, moved, record };
    client.write_all(&early_answer).await?;
    client.flush().await?;
    copy_bidirectional_with_sizes(&mut client, &mut endpoint, BUFFER, BUFFER).await?;
    Ok(())
}

/// A client's socket, and whether anything went over it.
struct Watched<'a> {
    stream: Stream,
    moved: &'a Cell<bool>,
    record: Option<Rc<Record>>,
}

impl AsyncRead for Watched<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        if let Some(record) = &self.record {
            record.received(buffer.filled().len() - before);
        }
        self.moved.set(true);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        if let (Some(record), Ok(written)) = (&self.record, &written) {
            record.sent(*written);
        }
        self.moved.set(true);
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
