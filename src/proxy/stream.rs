//! A connection's bytes: as they are on the wire, or with TLS taken off them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

/// A connection.
pub(super) enum Stream {
    /// Plain.
    Plain(TcpStream),
    /// To a server that takes TLS. Boxed: the state of TLS is large, and most connections have none.
    ToServer(Box<client::TlsStream<TcpStream>>),
    /// Of a client that began with TLS.
    OfClient(Box<server::TlsStream<TcpStream>>),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(stream)
    }
}

impl Stream {
    /// The socket below.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::ToServer(tls) => tls.get_ref().0,
            Self::OfClient(tls) => tls.get_ref().0,
        }
    }

    /// Whether what goes over it is protected.
    pub(super) const fn is_secure(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// Resolves when there is something to read, an end or an error included. What TLS says to itself (tickets, new keys) is
    /// nothing to read.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(stream) => stream.poll_read_ready(cx).map(drop),
            Self::ToServer(tls) => Pin::new(&mut **tls).poll_fill_buf(cx).map(drop),
            Self::OfClient(tls) => Pin::new(&mut **tls).poll_fill_buf(cx).map(drop),
        }
    }

    /// Whether it is still open and silent, as far as this process has been told.
    pub(super) fn is_silent(&mut self) -> bool {
        if let Self::Plain(stream) = self {
            return stream.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        }
        self.poll_readable(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Lets go of the task that used it last: its waker would keep that in memory.
    pub(super) fn forget_task(&self) {
        let _ = self.socket().poll_read_ready(&mut Context::from_waker(Waker::noop()));
    }
}

/// The same call of whichever stream it is.
macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Plain($inner) => $call,
            Stream::ToServer(tls) => {
                let $inner = &mut **tls;
                $call
            }
            Stream::OfClient(tls) => {
                let $inner = &mut **tls;
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(either!(&mut *self, stream => Pin::new(stream).poll_read(cx, buffer)));
        Poll::Ready(match read {
            // Many a peer ends without the farewell of TLS. Whether a message was cut short its own length tells; one that only
            // the connection's end bounds is no worse off than without TLS, and Envoy takes it as well.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && buffer.filled().len() == before => Ok(()),
            read => read,
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(&mut *self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut *self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut *self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(&mut *self, stream => Pin::new(stream).poll_write_vectored(cx, pieces))
    }
}
