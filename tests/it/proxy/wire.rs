//! HTTP as it goes over the wire: versions, methods, framing, odd requests.

use super::harness::{Backend, Frames, Mesh, Proxy, full};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Echoes what it was asked: request line, host and body in the body, and the headers it saw as `saw`.
async fn echo() -> Backend {
    Backend::http(|request| async move {
        let (head, body) = request.into_parts();
        let saw: Vec<&str> = head.headers.keys().map(http::HeaderName::as_str).collect();
        let saw = HeaderValue::from_str(&saw.join(",")).unwrap();
        let host = head.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("").to_owned();
        let text = format!("{} {} {host} ", head.method, head.uri);
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let mut response = Response::new(full([text.as_bytes(), &body].concat()));
        response.headers_mut().insert("saw", saw);
        response.headers_mut().insert("connection", HeaderValue::from_static("x-private"));
        response.headers_mut().insert("x-private", HeaderValue::from_static("1"));
        response
    })
    .await
}

/// What the proxy tells a service beside what the client did.
const ADDED: &str = "x-request-id,x-forwarded-proto,x-envoy-expected-rq-timeout-ms";

async fn echoing_proxy() -> Proxy {
    Proxy::start(Mesh::new(1).target("v1", echo().await.address, 1)).await
}

/// Sends raw bytes, and reads until the proxy closes.
async fn exchange(proxy: &Proxy, request: &str) -> String {
    let mut stream = TcpStream::connect(proxy.handle.egress_address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn http_1_0_is_served_and_closed_or_kept_as_asked() {
    let proxy = echoing_proxy().await;
    let answer = exchange(&proxy, "GET /a?b HTTP/1.0\r\nhost: shop.local\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("GET /a?b shop.local "), "{answer}");
    let twice = "GET /1 HTTP/1.0\r\nhost: shop.local\r\nconnection: keep-alive\r\n\r\n\
                 GET /2 HTTP/1.0\r\nhost: shop.local\r\n\r\n";
    let answer = exchange(&proxy, twice).await;
    assert!(answer.contains("GET /1 shop.local") && answer.ends_with("GET /2 shop.local "), "{answer}");
    assert!(exchange(&proxy, "GET / HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 404 "), "no host, no service");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let proxy = echoing_proxy().await;
    let one = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nhost: shop.local\r\n{more}\r\n");
    let answer = exchange(&proxy, &(one("/1", "") + &one("/2", "") + &one("/3", "connection: close\r\n"))).await;
    let places: Vec<_> = ["GET /1", "GET /2", "GET /3"].iter().map(|text| answer.find(text).unwrap()).collect();
    assert!(places.is_sorted(), "{answer}");
}

#[tokio::test]
async fn odd_targets_and_hosts() {
    let proxy = echoing_proxy().await;
    for (request, expected) in [
        ("GET http://SHOP.local:99/x?y HTTP/1.1\r\nhost: other\r\n", "GET /x?y SHOP.local:99 "),
        ("GET http://shop.local HTTP/1.1\r\nhost: other\r\n", "GET / shop.local "),
        ("GET http://me@shop.local/ HTTP/1.1\r\nhost: other\r\n", "GET / shop.local "),
        ("OPTIONS * HTTP/1.1\r\nhost: shop.local\r\n", "OPTIONS * shop.local "),
        ("GET / HTTP/1.1\r\nhost: shop.local\r\nhost: shop.local\r\n", "HTTP/1.1 400 "),
        ("GET / HTTP/1.1\r\n", "HTTP/1.1 400 "),
        ("GET / HTTP/1.1\r\nhost:\r\n", "HTTP/1.1 404 "),
        ("GET / HTTP/1.1\r\nhost: b\u{fc}ro\r\n", "HTTP/1.1 400 "),
        ("CONNECT shop.local:443 HTTP/1.1\r\nhost: shop.local\r\n", "HTTP/1.1 403 "),
        ("nonsense\r\n", "HTTP/1.1 400 "),
        ("GET / HTTP/1.1\r\nhost: shop.local\r\ncontent-length: x\r\n", "HTTP/1.1 400 "),
        ("PRI * HTTP/2.0\r\n", ""),
    ] {
        let answer = exchange(&proxy, &format!("{request}connection: close\r\n\r\n")).await;
        assert!(answer.contains(expected), "{request}: {answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nhost: shop.local\r\n\r\n", "x".repeat(70_000));
    let answer = exchange(&proxy, &long).await;
    assert!(answer.starts_with("HTTP/1.1 431 ") || answer.starts_with("HTTP/1.1 414 "), "{answer}");
}

#[tokio::test]
async fn hop_by_hop_headers_stop_here_in_both_directions() {
    let proxy = echoing_proxy().await;
    let headers = [
        ("connection", "keep-alive, x-secret"),
        ("x-secret", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "gzip, trailers"),
        ("x-kept", "1"),
    ];
    let answer = proxy.client().await.request(Method::GET, "shop.local", "/", &headers).await.unwrap();
    assert_eq!(answer.headers["saw"], format!("host,x-kept,{ADDED}"));
    assert!(!answer.headers.contains_key("x-private") && !answer.headers.contains_key("connection"));
    let upgrade = [("connection", "upgrade"), ("upgrade", "h2c")];
    let answer = proxy.client().await.request(Method::GET, "shop.local", "/", &upgrade).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "an offer of h2c may be ignored");
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let backend = Backend::http(|request| async move {
        let chunked = request.uri().path() == "/chunked";
        let mut response = Response::new(if chunked { Frames::body(&[]) } else { full("12345") });
        if request.uri().path() == "/none" {
            *response.status_mut() = StatusCode::NO_CONTENT;
            *response.body_mut() = full("");
        }
        response
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let mut client = proxy.client().await;
    let head = client.request(Method::HEAD, "shop.local", "/", &[]).await.unwrap();
    assert_eq!(
        (head.status, head.headers["content-length"].as_bytes(), head.body.len()),
        (StatusCode::OK, &b"5"[..], 0)
    );
    let head = client.request(Method::HEAD, "shop.local", "/chunked", &[]).await.unwrap();
    assert_eq!((head.headers.get("content-length"), head.body.len()), (None, 0));
    assert_eq!(client.get("/none").await.unwrap().status, StatusCode::NO_CONTENT);
    assert_eq!(client.get("/").await.unwrap().text(), "12345");
    let report = proxy.handle.report();
    assert_eq!((report.series.len(), report.series[0].outcomes.requests), (1, 4));
    assert_eq!(backend.connections(), 1, "none of them cost a connection");
}

#[tokio::test]
async fn chunked_bodies_pass_both_ways_whatever_the_method() {
    let backend = Backend::http(|request| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "one two");
        Response::new(Frames::body(&[b"three ", b"four"]))
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let mut client = proxy.client().await;
    for method in [Method::POST, Method::PUT, Method::GET, Method::DELETE] {
        let request = Request::builder()
            .method(method.clone())
            .uri("/")
            .header("host", "shop.local")
            .header("transfer-encoding", "chunked")
            .body(Frames::body(&[b"one ", b"two"]));
        let answer = client.send(request.unwrap()).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "three four"), "{method}");
        assert!(!answer.headers.contains_key("content-length"));
    }
    let raw = "POST / HTTP/1.1\r\nhost: shop.local\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\nconnection: close\r\n\r\n\
               4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n";
    let answer = exchange(&proxy, raw).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "the framing wins over a length beside it: {answer}");
    assert_eq!(proxy.handle.report().series[0].outcomes.errors(), 0);
}

#[tokio::test]
async fn an_expectation_is_met_here() {
    let proxy = echoing_proxy().await;
    let mut stream = TcpStream::connect(proxy.handle.egress_address()).await.unwrap();
    let head =
        "PUT / HTTP/1.1\r\nhost: shop.local\r\ncontent-length: 2\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("PUT / shop.local ok"), "{answer}");
    assert!(answer.contains(&format!("saw: host,content-length,{ADDED}\r\n")), "{answer}");
}

#[tokio::test]
async fn large_bodies_are_streamed() {
    const SIZE: usize = 32 * 1024 * 1024;
    let backend =
        Backend::http(
            |request| async move { Response::new(request.into_body().map_err(std::io::Error::other).boxed()) },
        )
        .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let request = Request::post("/").header("host", "shop.local").body(full(vec![7; SIZE])).unwrap();
    let answer = proxy.client().await.send(request).await.unwrap();
    assert_eq!(answer.body.len(), SIZE);
    assert!(answer.body.iter().all(|byte| *byte == 7));
    assert_eq!(proxy.handle.report().series[0].outcomes.requests, 1);
}
