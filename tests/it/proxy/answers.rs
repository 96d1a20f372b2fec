//! Answers as services really send them, byte for byte: framings, interim answers, early answers, and bytes that belong
//! to no answer. What is read wrongly here would be the next request's answer.

use super::harness::{Backend, Client, Mesh, Proxy, eventually, full};
use http::{Method, Request, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidegate::base::tally::Outcomes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Reads up to the end of a head, and not beyond; `None` when the connection ends first.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    read_until(stream, b"\r\n\r\n").await
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Option<String> {
    let mut text = Vec::new();
    while !text.ends_with(end) {
        text.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Answers the nth request of all with the nth text. One that begins with `!` closes its connection afterwards.
async fn scripted(answers: &[&str]) -> Backend {
    let answers: Arc<Vec<String>> = Arc::new(answers.iter().map(|answer| (*answer).to_owned()).collect());
    let next = Arc::new(AtomicUsize::new(0));
    Backend::raw(move |mut stream| {
        let (answers, next) = (Arc::clone(&answers), Arc::clone(&next));
        async move {
            stream.set_nodelay(true).unwrap();
            while read_head(&mut stream).await.is_some() {
                let answer = &answers[next.fetch_add(1, Ordering::SeqCst)];
                let _ = stream.write_all(answer.trim_start_matches('!').as_bytes()).await;
                if answer.starts_with('!') {
                    return;
                }
            }
        }
    })
    .await
}

async fn proxied(backend: &Backend) -> (Proxy, Client) {
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let client = proxy.client().await;
    (proxy, client)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.handle.egress_address()).await.unwrap()
}

/// Sends raw bytes, and reads until the proxy closes.
async fn exchange(proxy: &Proxy, request: &str) -> String {
    let mut stream = connect(proxy).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn outcomes(proxy: &Proxy) -> Outcomes {
    let mut sum = Outcomes::default();
    proxy.handle.report().series.iter().for_each(|series| sum.add(&series.outcomes));
    sum
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn chunks_and_trailers_pass() {
    let trailing = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                    3\r\none\r\n4;extension=1\r\n two\r\n0\r\nx-sum: 7\r\nx-more: 1\r\n\r\n";
    let backend = scripted(&[trailing, trailing, OK]).await;
    let (proxy, mut client) = proxied(&backend).await;
    assert_eq!(client.get("/").await.unwrap().text(), "one two");
    let request = "GET / HTTP/1.1\r\nhost: shop.local\r\nte: trailers\r\nconnection: close\r\n\r\n";
    let answer = exchange(&proxy, request).await;
    assert!(answer.contains("transfer-encoding: chunked\r\n") && answer.contains("trailer: x-sum\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n0\r\nx-sum: 7\r\n\r\n"), "{answer}");
    assert_eq!(client.get("/").await.unwrap().text(), "ok");
    assert_eq!(outcomes(&proxy), Outcomes { requests: 3, ..Outcomes::default() });
}

#[tokio::test]
async fn trailers_of_a_request_pass_when_announced() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let backend = Backend::raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            let head = read_head(&mut stream).await.unwrap();
            tell.send(head + &read_until(&mut stream, b"\r\n\r\n").await.unwrap()).unwrap();
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await;
    let (proxy, _) = proxied(&backend).await;
    let head = "POST / HTTP/1.1\r\nhost: shop.local\r\ntransfer-encoding: chunked\r\nconnection: close\r\n";
    let answer =
        exchange(&proxy, &format!("{head}trailer: x-sum\r\n\r\n3\r\none\r\n0\r\nx-sum: 7\r\nhost: b\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let sent = told.recv().await.unwrap();
    assert!(sent.contains("transfer-encoding: chunked\r\n") && !sent.contains("content-length"), "{sent}");
    assert!(sent.ends_with("\r\n\r\n3\r\none\r\n0\r\nx-sum: 7\r\n\r\n"), "{sent}");
}

#[tokio::test]
async fn an_answer_may_end_with_its_connection() {
    let backend = scripted(&["!HTTP/1.1 200 OK\r\n\r\nall of it", "!HTTP/1.0 200 OK\r\n\r\n", OK]).await;
    let (proxy, mut client) = proxied(&backend).await;
    let answer = client.get("/").await.unwrap();
    assert_eq!((answer.text().as_str(), answer.headers.get("content-length")), ("all of it", None));
    assert_eq!(client.get("/").await.unwrap().text(), "");
    assert_eq!(client.get("/").await.unwrap().text(), "ok");
    assert_eq!(backend.connections(), 3);
    assert_eq!(outcomes(&proxy), Outcomes { requests: 3, ..Outcomes::default() });
}

#[tokio::test]
async fn http_1_0_is_kept_alive_when_it_says_so() {
    let kept = "HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: 4\r\n\r\nkept";
    let silent = "HTTP/1.0 200 OK\r\ncontent-length: 6\r\n\r\nsilent";
    let closed = "HTTP/1.1 200 OK\r\nconnection: x, close\r\ncontent-length: 6\r\n\r\nclosed";
    let backend = scripted(&[kept, kept, silent, closed, OK]).await;
    let (proxy, mut client) = proxied(&backend).await;
    for (text, connections) in [("kept", 1), ("kept", 1), ("silent", 1), ("closed", 2), ("ok", 3)] {
        let answer = client.get("/").await.unwrap();
        assert_eq!((answer.text().as_str(), backend.connections()), (text, connections));
    }
    assert_eq!(outcomes(&proxy), Outcomes { requests: 5, ..Outcomes::default() });
}

#[tokio::test]
async fn a_head_may_come_byte_by_byte() {
    let answer = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
                  HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-last: 1\r\n\r\n5\r\nwhole\r\n0\r\n\r\n";
    let backend = Backend::raw(move |mut stream| async move {
        stream.set_nodelay(true).unwrap();
        while read_head(&mut stream).await.is_some() {
            for byte in answer.bytes() {
                stream.write_u8(byte).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let (_proxy, mut client) = proxied(&backend).await;
    for _ in 0..3 {
        let answer = client.get("/").await.unwrap();
        assert_eq!((answer.text().as_str(), answer.headers["x-last"].as_bytes()), ("whole", &b"1"[..]));
        assert!(!answer.headers.contains_key("link"), "the hints were not the answer");
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn what_cannot_be_an_answer_is_a_reset() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "y".repeat(64 * 1024));
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(100));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(33) + OK;
    for malformed in [
        long.as_str(),
        &many,
        &interim,
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ] {
        let backend = scripted(&[OK, malformed, OK]).await;
        let (proxy, mut client) = proxied(&backend).await;
        for status in [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK] {
            assert_eq!(client.get("/").await.unwrap().status, status, "{malformed:.80}");
        }
        assert_eq!(outcomes(&proxy), Outcomes { requests: 3, reset: 1, ..Outcomes::default() });
        assert_eq!(backend.connections(), 2, "it is not asked again, and its connection is not used again");
    }
}

#[tokio::test]
async fn chunks_that_are_none_break_the_answer_off() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for chunks in ["2\r\nok\r\nx\r\n", "2\nok\r\n0\r\n\r\n", "ffffffffffffffff0\r\nok", "2\r\nok!\r\n0\r\n\r\n"] {
        let backend = scripted(&[&format!("{head}{chunks}"), OK]).await;
        let (proxy, mut client) = proxied(&backend).await;
        assert!(client.get("/").await.is_err(), "{chunks:?}");
        assert_eq!(outcomes(&proxy), Outcomes { requests: 1, reset: 1, ..Outcomes::default() });
        assert_eq!(proxy.client().await.get("/").await.unwrap().text(), "ok");
    }
}

#[tokio::test]
async fn a_length_beside_chunks_is_dropped_and_ends_the_connection() {
    let both = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n";
    let backend = scripted(&[both, OK]).await;
    let (proxy, mut client) = proxied(&backend).await;
    let answer = client.get("/").await.unwrap();
    assert_eq!((answer.text().as_str(), answer.headers.get("content-length")), ("whole", None));
    assert_eq!(client.get("/").await.unwrap().text(), "ok");
    assert_eq!(backend.connections(), 2);
    assert_eq!(outcomes(&proxy), Outcomes { requests: 2, ..Outcomes::default() });
}

#[tokio::test]
async fn interim_answers_are_no_answers() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nx: y\r\ncontent-length: 9\r\n\r\n";
    let backend = scripted(&[&format!("{interim}{OK}"), OK]).await;
    let (_proxy, mut client) = proxied(&backend).await;
    for _ in 0..2 {
        let answer = client.get("/").await.unwrap();
        assert_eq!((answer.status, answer.text().as_str(), answer.headers.get("x")), (StatusCode::OK, "ok", None));
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn bytes_behind_an_answer_are_nobodys_answer() {
    let poisoned = format!("{OK}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil");
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let none = "HTTP/1.1 204 No Content\r\n\r\n0\r\n\r\n";
    let backend = scripted(&[&poisoned, head, none, OK]).await;
    let (proxy, mut client) = proxied(&backend).await;
    assert_eq!(client.get("/").await.unwrap().text(), "ok");
    assert_eq!(client.request(Method::HEAD, "shop.local", "/", &[]).await.unwrap().headers["content-length"], "2");
    assert_eq!(client.get("/").await.unwrap().status, StatusCode::NO_CONTENT);
    assert_eq!(client.get("/").await.unwrap().text(), "ok");
    assert_eq!(backend.connections(), 4);
    assert_eq!(outcomes(&proxy), Outcomes { requests: 4, ..Outcomes::default() });
}

#[tokio::test]
async fn an_answer_to_head_leaves_the_connection_usable() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
    let unknown = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let not_modified = "HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n";
    let backend = scripted(&[head, unknown, OK, not_modified, OK]).await;
    let (_proxy, mut client) = proxied(&backend).await;
    let answer = client.request(Method::HEAD, "shop.local", "/", &[]).await.unwrap();
    assert_eq!((answer.headers["content-length"].as_bytes(), answer.body.len()), (&b"2"[..], 0));
    assert_eq!(client.request(Method::HEAD, "shop.local", "/", &[]).await.unwrap().body.len(), 0);
    assert_eq!(client.get("/").await.unwrap().text(), "ok");
    assert_eq!(client.get("/").await.unwrap().status, StatusCode::NOT_MODIFIED);
    assert_eq!(client.get("/").await.unwrap().text(), "ok");
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn an_unusual_reason_passes() {
    let backend = scripted(&["HTTP/1.1 299 Quite fine\r\ncontent-length: 0\r\n\r\n"]).await;
    let (proxy, _) = proxied(&backend).await;
    let answer = exchange(&proxy, "GET / HTTP/1.1\r\nhost: shop.local\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 299 Quite fine\r\n"), "{answer}");
}

/// The first answer is not wanted; nothing of it may show in the second, which comes over the same connection.
#[tokio::test]
async fn an_answer_that_is_tried_again_leaves_nothing_behind() {
    let busy = "HTTP/1.1 503 Busy\r\nx-busy: 1\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
    let backend = scripted(&[busy, OK, OK]).await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1).retries(1)).await;
    let mut client = proxy.client().await;
    for _ in 0..2 {
        let answer = client.get("/").await.unwrap();
        assert_eq!((answer.text().as_str(), answer.headers.len()), ("ok", 3), "{:?}", answer.headers);
    }
    assert_eq!(backend.connections(), 1);
    assert_eq!(outcomes(&proxy), Outcomes { requests: 2, ..Outcomes::default() });
}

/// The answer is complete before the request is: the rest of it still arrives, and the connection ends with it.
#[tokio::test]
async fn the_rest_of_a_request_is_sent_after_its_early_answer() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let backend = Backend::raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            read_head(&mut stream).await.unwrap();
            stream.write_all(OK.as_bytes()).await.unwrap();
            let mut body = Vec::new();
            stream.read_to_end(&mut body).await.unwrap();
            tell.send(body).unwrap();
        }
    })
    .await;
    let (proxy, _) = proxied(&backend).await;
    let mut stream = connect(&proxy).await;
    stream.write_all(b"POST / HTTP/1.1\r\nhost: shop.local\r\ncontent-length: 100004\r\n\r\n1234").await.unwrap();
    read_until(&mut stream, b"\r\n\r\nok").await.unwrap();
    stream.write_all(&vec![b'x'; 100_000]).await.unwrap();
    let body = told.recv().await.unwrap();
    assert_eq!((body.len(), &body[..6]), (100_004, &b"1234xx"[..]));
    stream.write_all(b"GET / HTTP/1.1\r\nhost: shop.local\r\n\r\n").await.unwrap();
    read_until(&mut stream, b"\r\n\r\nok").await.unwrap();
    assert_eq!(backend.connections(), 2);
    assert_eq!(outcomes(&proxy), Outcomes { requests: 2, ..Outcomes::default() });
}

/// Request and answer go on side by side, and the connection is used again when both are complete.
#[tokio::test]
async fn an_answer_is_passed_on_while_its_request_goes_on() {
    let backend = Backend::raw(move |mut stream| async move {
        for _ in 0..2 {
            read_head(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n").await.unwrap();
            let chunk = read_until(&mut stream, b"\r\n0\r\n\r\n").await.unwrap();
            stream.write_all(format!("{:X}\r\n{chunk}\r\n0\r\n\r\n", chunk.len()).as_bytes()).await.unwrap();
        }
    })
    .await;
    let (proxy, _) = proxied(&backend).await;
    let mut stream = connect(&proxy).await;
    for _ in 0..2 {
        stream.write_all(b"POST / HTTP/1.1\r\nhost: shop.local\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        read_until(&mut stream, b"\r\n5\r\nbegun\r\n").await.unwrap();
        stream.write_all(b"5\r\nabcde\r\n0\r\n\r\n").await.unwrap();
        let rest = read_until(&mut stream, b"\r\n0\r\n\r\n\r\n0\r\n\r\n").await.unwrap();
        assert!(rest.contains("5\r\nabcde\r\n0\r\n\r\n"), "{rest}");
    }
    assert_eq!(backend.connections(), 1);
    assert_eq!(outcomes(&proxy), Outcomes { requests: 2, ..Outcomes::default() });
}

/// The client goes away in the middle of its own body while the answer is on its way: nobody's fault but its own.
#[tokio::test]
async fn a_client_that_breaks_its_request_off_during_the_answer_counts_nowhere() {
    let backend = Backend::raw(move |mut stream| async move {
        read_head(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n").await.unwrap();
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let (proxy, _) = proxied(&backend).await;
    for number in 1..=5 {
        let mut stream = connect(&proxy).await;
        stream.write_all(b"POST / HTTP/1.1\r\nhost: shop.local\r\ncontent-length: 9\r\n\r\n1234").await.unwrap();
        read_until(&mut stream, b"\r\n5\r\nbegun\r\n").await.unwrap();
        drop(stream);
        eventually("noticed", || async { proxy.stat("proxy.aborted_by_client").await == number }).await;
    }
    assert_eq!(outcomes(&proxy), Outcomes::default());
}

/// The upstream has answered and waits for the rest; the client says nothing more and keeps its connection.
#[tokio::test]
async fn a_client_that_stops_sending_during_the_answer_is_counted_as_gone() {
    let backend = Backend::raw(move |mut stream| async move {
        read_head(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n").await.unwrap();
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1).timeout(200)).await;
    let mut stream = connect(&proxy).await;
    stream.write_all(b"POST / HTTP/1.1\r\nhost: shop.local\r\ncontent-length: 9\r\n\r\n1234").await.unwrap();
    let mut answer = Vec::new();
    // Its connection closes in the middle of the answer.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.ends_with(b"\r\n5\r\nbegun\r\n"), "{}", String::from_utf8_lossy(&answer));
    eventually("noticed", || async { proxy.stat("proxy.aborted_by_client").await == 1 }).await;
    assert_eq!(outcomes(&proxy), Outcomes::default());
}

/// A service may refuse a body, answer and hang up: that is its answer, not a reset.
#[tokio::test]
async fn an_answer_counts_even_if_the_request_was_not_taken() {
    let refused = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
    let backend = Backend::raw(move |mut stream| async move {
        read_head(&mut stream).await.unwrap();
        stream.write_all(refused.as_bytes()).await.unwrap();
    })
    .await;
    let (proxy, _) = proxied(&backend).await;
    for _ in 0..10 {
        let mut client = proxy.client().await;
        let request = Request::post("/").header("host", "shop.local").body(full(vec![7; 4 << 20])).unwrap();
        // The client's own end may see its connection break before it reads the answer.
        let _ = client.send(request).await;
    }
    let outcomes = outcomes(&proxy);
    assert_eq!(outcomes, Outcomes { requests: 10, ..Outcomes::default() });
}

/// A request that must not be sent twice is not sent over a connection that is known to be closed.
#[tokio::test]
async fn a_closed_connection_is_noticed_before_it_is_used() {
    let (tell, mut closed) = mpsc::unbounded_channel();
    let backend = Backend::raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            let head = read_head(&mut stream).await.unwrap();
            if head.starts_with("POST") {
                let _ = stream.read_u32().await;
            }
            stream.write_all(OK.as_bytes()).await.unwrap();
            drop(stream);
            tell.send(()).unwrap();
        }
    })
    .await;
    let (proxy, mut client) = proxied(&backend).await;
    for _ in 0..20 {
        let request = Request::post("/").header("host", "shop.local").body(full("body")).unwrap();
        assert_eq!(client.send(request).await.unwrap().text(), "ok");
        closed.recv().await.unwrap();
    }
    assert_eq!(outcomes(&proxy), Outcomes { requests: 20, ..Outcomes::default() });
    assert_eq!(proxy.stat("proxy.replays").await, 0);
}
