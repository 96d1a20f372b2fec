//! Connections that become WebSockets: bytes both ways from the first one on, and their ends.

use super::harness::{Backend, Mesh, Proxy, eventually};
use std::time::Duration;
use tidegate::base::tally::Outcomes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ASK: &str = "GET /chat HTTP/1.1\r\nhost: shop.local\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nx-own: 1\r\n\r\n";

async fn head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

/// Switches at once, says something behind it, and then what it hears.
async fn echoing() -> Backend {
    Backend::raw(|mut stream| async move {
        let asked = head(&mut stream).await;
        assert!(asked.contains("connection: upgrade\r\n") && asked.contains("upgrade: websocket\r\n"), "{asked}");
        assert!(asked.contains("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "{asked}");
        stream.write_all(&[SWITCH, b"early"].concat()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.write_all(b"bye").await;
    })
    .await
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.handle.egress_address()).await.unwrap()
}

fn outcomes(proxy: &Proxy) -> Outcomes {
    proxy.handle.report().series.iter().map(|series| series.outcomes).next().unwrap_or_default()
}

#[tokio::test]
async fn bytes_go_both_ways_until_both_sides_have_ended() {
    let backend = echoing().await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let mut stream = connect(&proxy).await;
    // Whoever is in a hurry does not wait for the answer.
    stream.write_all(&[ASK.as_bytes(), b"first"].concat()).await.unwrap();
    let answer = head(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    for field in ["connection: upgrade", "upgrade: websocket", "x-own: 1"] {
        assert!(answer.contains(&format!("{field}\r\n")), "{answer}");
    }
    let mut early = [0; 10];
    stream.read_exact(&mut early).await.unwrap();
    assert_eq!(&early, b"earlyfirst");
    assert_eq!(outcomes(&proxy), Outcomes { requests: 1, ..Outcomes::default() });
    let large = vec![b'x'; 1 << 20];
    let (mut read, mut write) = stream.split();
    let (sent, heard) = tokio::join!(
        async {
            write.write_all(&large).await?;
            write.shutdown().await
        },
        async {
            let mut heard = Vec::new();
            read.read_to_end(&mut heard).await.map(|_| heard)
        }
    );
    sent.unwrap();
    // What the endpoint says after its client has ended still comes.
    assert!(heard.unwrap() == [&large[..], b"bye"].concat());
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn an_endpoint_that_does_not_switch_answers_as_ever() {
    let backend = Backend::text("no").await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let mut stream = connect(&proxy).await;
    for _ in 0..2 {
        stream.write_all(ASK.as_bytes()).await.unwrap();
        let answer = head(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let mut body = [0; 2];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"no");
    }
}

#[tokio::test]
async fn draining_waits_for_a_tunnel_until_its_deadline() {
    let backend = echoing().await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let mut stream = connect(&proxy).await;
    stream.write_all(ASK.as_bytes()).await.unwrap();
    head(&mut stream).await;
    let mut early = [0; 5];
    stream.read_exact(&mut early).await.unwrap();
    let address = proxy.handle.egress_address();
    let draining = tokio::spawn(proxy.handle.drain(Duration::from_secs(2)));
    eventually("no new connections", || async { TcpStream::connect(address).await.is_err() }).await;
    stream.write_all(b"still here").await.unwrap();
    let mut still = [0; 10];
    stream.read_exact(&mut still).await.unwrap();
    assert_eq!(draining.await.unwrap().cut, 1);
    assert_eq!(stream.read(&mut still).await.unwrap_or(0), 0);
}
