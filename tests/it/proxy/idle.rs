//! Idle client connections give up their memory and go on where they were, whatever they were in the middle of.

use super::harness::{Backend, Mesh, Proxy, eventually, full};
use http::Response;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than a connection must be idle before it is parked.
const LONG_IDLE: Duration = Duration::from_millis(3500);

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.handle.egress_address()).await.unwrap()
}

/// Reads until the text ends with `end`.
async fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let read = stream.read_buf(&mut text).await.unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&text));
    }
    String::from_utf8(text).unwrap()
}

/// What arrives within a moment; empty also when the connection is closed.
async fn read_a_moment(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let _ = tokio::time::timeout(Duration::from_millis(300), stream.read_to_end(&mut text)).await;
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_parked_connection_serves_its_next_request() {
    let backend = Backend::text("hello").await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 100)).await;
    let mut client = proxy.client().await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.unwrap().text(), "hello");
        let before = proxy.stat("proxy.connections_parked").await;
        eventually("parked", || async { proxy.stat("proxy.connections_parked").await > before }).await;
    }
    assert_eq!(client.get("/").await.unwrap().text(), "hello");
}

#[tokio::test]
async fn a_head_may_come_in_pieces_with_long_pauses() {
    let backend = Backend::text("hello").await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 100)).await;
    let mut stream = connect(&proxy).await;
    stream.write_all(b"GET / HT").await.unwrap();
    tokio::time::sleep(LONG_IDLE).await;
    stream.write_all(b"TP/1.1\r\nhost: shop.local\r\n\r\n").await.unwrap();
    assert!(read_to(&mut stream, "hello").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn an_answer_that_the_client_reads_late_is_complete() {
    const LENGTH: usize = 8 << 20;
    let backend = Backend::http(|_| async { Response::new(full(vec![b'x'; LENGTH])) }).await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 100)).await;
    let mut stream = connect(&proxy).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: shop.local\r\nconnection: close\r\n\r\n").await.unwrap();
    tokio::time::sleep(LONG_IDLE).await;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert!(all.len() > LENGTH && all.ends_with(b"xxxx"), "{}", all.len());
}

/// The end of a body whose request was answered early must never be taken for a request.
#[tokio::test]
async fn a_body_that_goes_on_after_its_answer_is_no_request() {
    let backend = Backend::raw(|mut stream| async move {
        let mut head = [0; 1024];
        let _ = stream.read(&mut head).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly").await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 100)).await;
    let rest = "GET /smuggled HTTP/1.1\r\nhost: shop.local\r\n\r\n";
    let mut stream = connect(&proxy).await;
    let head = format!("POST / HTTP/1.1\r\nhost: shop.local\r\ncontent-length: {}\r\n\r\n1234", 4 + rest.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    read_to(&mut stream, "early").await;
    tokio::time::sleep(LONG_IDLE).await;
    let _ = stream.write_all(rest.as_bytes()).await;
    assert_eq!(read_a_moment(&mut stream).await, "");
}
