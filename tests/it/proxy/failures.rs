//! What clients see and what is counted when an upstream or a client fails.

use super::harness::{Backend, Client, Frames, Mesh, Proxy, dead_address, eventually, full};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::base::tally::Outcomes;
use tidegate::base::time::Millis;
use tidegate::mesh::snapshot::{Discovery, HealthCheck, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Outcomes over all series.
fn outcomes(proxy: &Proxy) -> Outcomes {
    let mut sum = Outcomes::default();
    proxy.handle.report().series.iter().for_each(|series| sum.add(&series.outcomes));
    sum
}

/// Reads a request's head off a raw connection; `None` at its end.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

#[tokio::test]
async fn an_upstream_that_never_answers_is_a_timeout_at_the_deadline() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1).timeout(60)).await;
    let answer = proxy.client().await.get("/").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::GATEWAY_TIMEOUT, "upstream request timeout"));
    assert_eq!(outcomes(&proxy), Outcomes { requests: 1, timeout: 1, ..Outcomes::default() });
    assert_eq!(proxy.handle.report().series[0].key.endpoint, backend.address.to_string());
}

#[tokio::test]
async fn an_answer_that_stalls_in_its_body_is_a_timeout_and_the_client_sees_it_break() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1).timeout(60)).await;
    assert!(proxy.client().await.get("/").await.is_err());
    assert_eq!(outcomes(&proxy), Outcomes { requests: 1, timeout: 1, ..Outcomes::default() });
}

#[tokio::test]
async fn an_answer_broken_off_is_a_reset_and_the_client_sees_it_break() {
    for answer in ["content-length: 10\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let backend = Backend::raw(move |mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).await.unwrap();
        })
        .await;
        let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
        assert!(proxy.client().await.get("/").await.is_err());
        assert_eq!(outcomes(&proxy), Outcomes { requests: 1, reset: 1, ..Outcomes::default() });
        assert_eq!(proxy.handle.report().series[0].latency.total(), 0);
    }
}

#[tokio::test]
async fn nobody_there_is_a_503_and_a_reset() {
    let connect_failed = "upstream connect error or disconnect/reset before headers. reset reason: connection failure";
    let refused = Mesh::new(1).target("v1", dead_address().await, 1);
    let none = Mesh::new(1).discovered("v1", Discovery::None, 80, 1);
    for (mesh, text) in [(refused, connect_failed), (none, "no healthy upstream")] {
        let proxy = Proxy::start(mesh).await;
        let answer = proxy.client().await.get("/").await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::SERVICE_UNAVAILABLE, text));
        assert_eq!(outcomes(&proxy), Outcomes { requests: 1, reset: 1, ..Outcomes::default() });
        assert_eq!(proxy.handle.report().series[0].key.endpoint.is_empty(), text == "no healthy upstream");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_reset_and_is_not_asked_for_again() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n\r\n").await;
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    assert_eq!(proxy.client().await.get("/").await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(outcomes(&proxy), Outcomes { requests: 1, reset: 1, ..Outcomes::default() });
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn status_5xx_is_an_error_and_4xx_is_not() {
    let (bad, missing) = (Backend::status(500).await, Backend::status(404).await);
    for (backend, errors) in [(bad, 1), (missing, 0)] {
        let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
        proxy.client().await.get("/").await.unwrap();
        assert_eq!(outcomes(&proxy), Outcomes { requests: 1, status_5xx: errors, ..Outcomes::default() });
    }
}

/// The backend closes each connection right after an answer that promised to keep it alive, so that many requests meet
/// a connection that is closed or about to be.
#[tokio::test]
async fn stale_connections_are_no_failures_for_requests_that_may_be_repeated() {
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let backend = Backend::raw(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            if read_head(&mut stream).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = proxy.client().await;
        clients.push(tokio::spawn(async move {
            for _ in 0..250 {
                assert_eq!(client.get("/").await.unwrap().text(), "ok");
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(outcomes(&proxy), Outcomes { requests: 1000, ..Outcomes::default() });
    assert_eq!(served.load(Ordering::SeqCst), 1000);
}

#[tokio::test]
async fn retries_take_another_endpoint_and_only_the_last_outcome_counts() {
    let bodies: Arc<Mutex<Vec<usize>>> = Arc::default();
    let seen = Arc::clone(&bodies);
    let flaky = Backend::http(move |request| {
        let seen = Arc::clone(&seen);
        async move {
            let length = request.into_body().collect().await.unwrap().to_bytes().len();
            let mut seen = seen.lock().unwrap();
            let first = seen.len().is_multiple_of(2);
            seen.push(length);
            Response::builder().status(if first { 503 } else { 200 }).body(full("x")).unwrap()
        }
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", flaky.address, 1).retries(2)).await;
    let mut client = proxy.client().await;
    assert_eq!(client.get("/").await.unwrap().status, StatusCode::OK);
    assert_eq!(bodies.lock().unwrap().len(), 2);
    assert_eq!(outcomes(&proxy), Outcomes { requests: 1, ..Outcomes::default() });

    // A body is kept for another try while it is small, however it is framed; a longer one is sent once.
    let post = |body| Request::post("/").header("host", "shop.local").body(body).unwrap();
    let small = post(full(vec![b'x'; 64 * 1024]));
    assert_eq!(client.send(small).await.unwrap().status, StatusCode::OK);
    let in_chunks = post(Frames::body(&[b"a", b"b"]));
    assert_eq!(client.send(in_chunks).await.unwrap().status, StatusCode::OK);
    assert_eq!(*bodies.lock().unwrap(), [0, 0, 64 * 1024, 64 * 1024, 2, 2]);
    let large = post(full(vec![b'x'; 64 * 1024 + 1]));
    assert_eq!(client.send(large).await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(outcomes(&proxy), Outcomes { requests: 4, status_5xx: 1, ..Outcomes::default() });
}

#[tokio::test]
async fn retries_stop_at_the_policy_and_stay_with_the_drawn_target() {
    let dead = dead_address().await;
    let alive = Backend::text("alive").await;
    let mesh = Mesh::new(1).target("dead", dead, 1).target("alive", alive.address, 1).retries(2);
    let proxy = Proxy::start(mesh).await;
    let mut client = proxy.client().await;
    let mut failed = 0;
    for _ in 0..20 {
        failed += u64::from(client.get("/").await.unwrap().status != StatusCode::OK);
    }
    let report = proxy.handle.report();
    let of = |node: &str| {
        let series = report.series.iter().find(|series| series.key.target == node);
        series.map(|series| series.outcomes).unwrap_or_default()
    };
    assert_eq!(of("dead"), Outcomes { requests: failed, reset: failed, ..Outcomes::default() });
    assert_eq!(of("alive"), Outcomes { requests: 20 - failed, ..Outcomes::default() });
    assert!(failed > 0);
    assert_eq!(proxy.stat("proxy.retries").await, 2 * failed);
}

#[tokio::test]
async fn a_try_has_its_own_time_limit() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let slow_at_first = Backend::http(move |_| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            Response::new(full("second"))
        }
    })
    .await;
    let mut mesh = Mesh::new(1).target("v1", slow_at_first.address, 1).retries(1);
    mesh.route.retry.per_try_timeout = Some(Millis(250));
    let proxy = Proxy::start(mesh).await;
    assert_eq!(proxy.client().await.get("/").await.unwrap().text(), "second");
    assert_eq!(outcomes(&proxy), Outcomes { requests: 1, ..Outcomes::default() });
}

#[tokio::test]
async fn a_client_that_goes_away_counts_nowhere() {
    let backend = Backend::http(|request| async move {
        if request.uri().path() == "/body" {
            return Response::new(Frames::stalling(&[b"some"]));
        }
        std::future::pending().await
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    for path in ["/never", "/body"] {
        let mut client = proxy.client().await;
        let request = Request::get(path).header("host", "shop.local").body(full("")).unwrap();
        let before = proxy.stat("proxy.upstream_connects").await;
        if path == "/body" {
            let mut answer = client.sender.send_request(request).await.unwrap();
            answer.body_mut().frame().await.unwrap().unwrap();
        } else {
            let pending = tokio::spawn(client.sender.send_request(request));
            eventually("sent on", || async { proxy.stat("proxy.upstream_connects").await > before }).await;
            pending.abort();
        }
        drop(client);
    }
    eventually("noticed", || async { proxy.stat("proxy.aborted_by_client").await == 2 }).await;
    assert_eq!(outcomes(&proxy), Outcomes::default());
}

/// The client takes longer over its body than the route allows a request: not the upstream's fault, and no timeout
/// while it keeps sending.
#[tokio::test]
async fn a_slow_upload_is_not_held_against_the_upstream() {
    let backend = Backend::http(|request| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(body))
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1).timeout(400)).await;
    let mut stream = TcpStream::connect(proxy.handle.egress_address()).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: shop.local\r\ncontent-length: 6\r\n\r\n").await.unwrap();
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(b"x").await.unwrap();
    }
    let head = read_head(&mut stream).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");

    // One that stops altogether is told so, and counts nowhere.
    let mut stream = TcpStream::connect(proxy.handle.egress_address()).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: shop.local\r\ncontent-length: 6\r\n\r\nxx").await.unwrap();
    let head = read_head(&mut stream).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert_eq!(outcomes(&proxy), Outcomes { requests: 1, ..Outcomes::default() });
}

#[tokio::test]
async fn failing_health_checks_take_an_endpoint_out_until_they_pass_again() {
    let sick = Arc::new(AtomicUsize::new(1));
    let flag = Arc::clone(&sick);
    let checked = Backend::http(move |request| {
        let bad = request.uri().path() == "/health" && flag.load(Ordering::SeqCst) == 1;
        async move { Response::builder().status(if bad { 500 } else { 200 }).body(full("checked")).unwrap() }
    })
    .await;
    let other = Backend::text("other").await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("discovery.yaml");
    std::fs::write(&path, format!("dns: {{ shop: ['{}', '{}'] }}", checked.address, other.address)).unwrap();
    let source = tidegate::discovery::file::FileSource::open(&path).await.unwrap();
    let (interval, timeout) = (Millis(20), Millis(500));
    let check = HealthCheck {
        path: "/health".into(),
        protocol: Protocol::Http,
        port: None,
        interval,
        timeout,
        healthy_threshold: 2,
        unhealthy_threshold: 2,
    };
    // Health only of the one: the other answers every path with 200.
    let mesh = Mesh::new(1).discovered("v1", Discovery::by_name("shop", false), 80, 1).health_check(&check);
    let proxy = Proxy::from_source(mesh, Arc::new(source), |_| {}).await;
    let listed = || async { proxy.admin(Method::GET, "/clusters").await.text() };
    let sick_line = format!("{}::health_flags::/failed_active_hc", checked.address);
    eventually("taken out", || async { listed().await.contains(&sick_line) }).await;
    let mut client = proxy.client().await;
    eventually("applied", || async { proxy.handle.applied_version() == 1 }).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.unwrap().text(), "other");
    }
    sick.store(0, Ordering::SeqCst);
    eventually("taken back", || async { !listed().await.contains("failed_active_hc") }).await;
    let mut texts = Vec::new();
    for _ in 0..4 {
        texts.push(client.get("/").await.unwrap().text());
    }
    texts.sort();
    assert_eq!(texts, ["checked", "checked", "other", "other"]);
}

/// A name with addresses of both families is one server: IPv6 is tried where IPv4 refuses.
#[tokio::test]
async fn the_other_address_family_is_tried_when_the_connect_is_refused() {
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else {
        return eprintln!("skipped: needs IPv6 on the loopback interface");
    };
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|_| async { Ok::<_, Infallible>(Response::new(full("six"))) });
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("discovery.yaml");
    std::fs::write(&path, "dns: { app: ['::1', 127.0.0.1] }").unwrap();
    let source = tidegate::discovery::file::FileSource::open(&path).await.unwrap();
    let mesh = Mesh::new(1).discovered("v1", Discovery::by_name("app", false), port, 1);
    let proxy = Proxy::from_source(mesh, Arc::new(source), |_| {}).await;
    let mut client: Client = proxy.client().await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.unwrap().text(), "six");
    }
    assert_eq!(outcomes(&proxy), Outcomes { requests: 10, ..Outcomes::default() });
    assert_eq!(proxy.handle.report().series[0].key.endpoint, format!("[::1]:{port}"));
    assert_eq!(proxy.stat("proxy.upstream_connects").await, 1);
}
