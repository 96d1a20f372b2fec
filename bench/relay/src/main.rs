//! A raw byte relay: what any proxy on this runtime pays for its system calls before it has looked at a byte.
//!
//! `relay LISTEN FIRST SECOND` relays nine connections of ten to FIRST and the tenth to SECOND, each over an upstream
//! connection of its own, on one thread. It reads what is there and writes it on, with one buffer to each direction.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Enough for every message of the bench, so that one read takes it whole.
const BUFFER: usize = 16 * 1024;
/// One connection of so many goes to the second upstream.
const SECOND_EVERY: usize = 10;

fn addresses() -> Option<[SocketAddr; 3]> {
    let given: Vec<SocketAddr> = std::env::args().skip(1).map(|text| text.parse().ok()).collect::<Option<_>>()?;
    given.try_into().ok()
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}

async fn relay(client: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    let upstream = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (client_reads, client_writes) = client.into_split();
    let (upstream_reads, upstream_writes) = upstream.into_split();
    let back = tokio::spawn(copy(upstream_reads, client_writes));
    copy(client_reads, upstream_writes).await?;
    back.await?
}

async fn serve([listen, first, second]: [SocketAddr; 3]) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    for turn in 1_usize.. {
        let (client, _) = listener.accept().await?;
        let upstream = if turn.is_multiple_of(SECOND_EVERY) { second } else { first };
        tokio::spawn(async move {
            // A connection that breaks is its peer's business.
            let _ = relay(client, upstream).await;
        });
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let Some(addresses) = addresses() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: relay LISTEN FIRST SECOND"));
    };
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(serve(addresses))
}
