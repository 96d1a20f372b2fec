//! HTTP/2 on both sides: streams of one connection beside each other, their bodies both ways at once, and their ends.

use super::harness::{Backend, Body, Frames, Mesh, Proxy, eventually, full};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tidegate::base::tally::Outcomes;
use tidegate::mesh::snapshot::Protocol;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A server of HTTP/2; connections that `end` tells to go away do so.
async fn serving<F: Future<Output = Response<Body>> + Send + 'static>(
    handle: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    end: Arc<tokio::sync::Notify>,
) -> Backend {
    Backend::raw(move |stream| {
        let (handle, end) = (handle.clone(), Arc::clone(&end));
        async move {
            stream.set_nodelay(true).unwrap();
            let service = hyper::service::service_fn(move |request| {
                let answer = handle(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = &mut connection => {}
                () = end.notified() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        }
    })
    .await
}

/// Answers with what it was sent, piece for piece, trailers included.
async fn echoing() -> Backend {
    let echo = |request: Request<Incoming>| async move {
        let version = format!("{:?}", request.version());
        let body = request.into_body().map_err(std::io::Error::other).boxed();
        Response::builder().header("x-version", version).body(body).unwrap()
    };
    serving(echo, Arc::default()).await
}

fn over_http2(mut mesh: Mesh) -> Mesh {
    for cluster in mesh.config.clusters.values_mut() {
        Arc::make_mut(cluster).ports[0].protocol = Protocol::Http2;
    }
    mesh
}

async fn connect(address: SocketAddr) -> SendRequest<Body> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(method: Method, body: Body) -> Request<Body> {
    Request::builder().method(method).uri("http://shop.local/").body(body).unwrap()
}

fn outcomes(proxy: &Proxy) -> Outcomes {
    let mut sum = Outcomes::default();
    proxy.handle.report().series.iter().for_each(|series| sum.add(&series.outcomes));
    sum
}

/// A body that is what a channel brings.
fn piecewise() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (sender, mut receiver) = mpsc::channel(1);
    let stream = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx).map(|frame| frame.map(Ok)));
    (sender, BoxBody::new(StreamBody::new(stream)))
}

#[tokio::test]
async fn bodies_and_trailers_go_through_both_ways_at_once() {
    let backend = echoing().await;
    let proxy = Proxy::start(over_http2(Mesh::new(1).target("v1", backend.address, 1))).await;
    let mut client = connect(proxy.handle.egress_address()).await;
    let (pieces, body) = piecewise();
    let mut answer = client.send_request(request(Method::POST, body)).await.unwrap();
    assert_eq!((answer.version(), answer.status()), (Version::HTTP_2, StatusCode::OK));
    assert_eq!(answer.headers()["x-version"], "HTTP/2.0");
    // Each piece comes back before the next one is sent.
    for piece in ["one", "two", "three"] {
        pieces.send(Frame::data(Bytes::from(piece))).await.unwrap();
        let frame = answer.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "3".parse().unwrap())]);
    pieces.send(Frame::trailers(trailers.clone())).await.unwrap();
    let frame = answer.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_trailers().unwrap(), trailers);
    assert!(answer.body_mut().frame().await.is_none());
    eventually("counted", || async { outcomes(&proxy).requests == 1 }).await;
    assert_eq!(outcomes(&proxy), Outcomes { requests: 1, ..Outcomes::default() });
}

#[tokio::test]
async fn large_bodies_fit_through_small_windows_and_a_slow_reader_stops_nobody() {
    let backend = echoing().await;
    let proxy = Proxy::with(over_http2(Mesh::new(1).target("v1", backend.address, 1)), |settings| {
        settings.workers = 1;
    })
    .await;
    let mut client = connect(proxy.handle.egress_address()).await;
    let large: Vec<u8> = (0..5_000_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    let (pieces, body) = piecewise();
    let slow = client.send_request(request(Method::POST, body)).await.unwrap();
    let fill = Bytes::from(large.clone());
    let filling = tokio::spawn(async move { pieces.send(Frame::data(fill)).await.unwrap() });
    // On the same two connections, while nobody reads the first answer.
    for _ in 0..3 {
        let answer = client.send_request(request(Method::POST, full(large.clone()))).await.unwrap();
        assert!(answer.into_body().collect().await.unwrap().to_bytes() == large);
    }
    filling.await.unwrap();
    assert!(slow.into_body().collect().await.unwrap().to_bytes() == large);
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn many_requests_share_one_connection_to_the_endpoint() {
    let backend = echoing().await;
    let proxy = Proxy::with(over_http2(Mesh::new(1).target("v1", backend.address, 1)), |settings| {
        settings.workers = 1;
    })
    .await;
    let mut requests = JoinSet::new();
    // Clients of both protocols, all before there is any connection.
    for _ in 0..50 {
        let mut client = connect(proxy.handle.egress_address()).await;
        requests.spawn(async move {
            let answer = client.send_request(request(Method::POST, full("x"))).await.unwrap();
            answer.into_body().collect().await.unwrap().to_bytes()
        });
        let mut client = proxy.client().await;
        requests.spawn(async move { client.get("/").await.unwrap().body });
    }
    let answers = requests.join_all().await;
    assert_eq!(answers.iter().filter(|body| *body == "x").count(), 50);
    assert_eq!(outcomes(&proxy), Outcomes { requests: 100, ..Outcomes::default() });
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn endpoints_may_go_away_and_nothing_is_lost() {
    let end = Arc::new(tokio::sync::Notify::new());
    let backend = serving(|_| async { Response::new(full("x")) }, Arc::clone(&end)).await;
    let proxy = Proxy::with(over_http2(Mesh::new(1).target("v1", backend.address, 1)), |settings| {
        settings.workers = 1;
    })
    .await;
    let done = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (mut client, done) = (connect(proxy.handle.egress_address()).await, Arc::clone(&done));
        callers.spawn(async move {
            for _ in 0..500 {
                let answer = client.send_request(request(Method::POST, full("order"))).await.unwrap();
                assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
                answer.into_body().collect().await.unwrap();
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    for part in 1..=20 {
        eventually("some more is done", || async { done.load(Ordering::SeqCst) >= part * 150 }).await;
        end.notify_waiters();
    }
    callers.join_all().await;
    assert_eq!(outcomes(&proxy), Outcomes { requests: 4000, ..Outcomes::default() });
    assert!(backend.connections() > 10, "{} connections", backend.connections());
}

#[tokio::test]
async fn a_client_that_resets_its_stream_frees_the_endpoint_and_counts_nowhere() {
    let (began, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    struct Count(Arc<AtomicUsize>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (counted, gone) = (Arc::clone(&began), Arc::clone(&dropped));
    let hanging = move |_| {
        let (counted, count) = (Arc::clone(&counted), Count(Arc::clone(&gone)));
        async move {
            counted.fetch_add(1, Ordering::SeqCst);
            let _count = count;
            std::future::pending::<Response<Body>>().await
        }
    };
    let backend = serving(hanging, Arc::default()).await;
    let proxy = Proxy::start(over_http2(Mesh::new(1).target("v1", backend.address, 1))).await;
    let mut client = connect(proxy.handle.egress_address()).await;
    let sent = tokio::spawn({
        let answer = client.send_request(request(Method::GET, full("")));
        async move { answer.await.map(drop) }
    });
    eventually("it is there", || async { began.load(Ordering::SeqCst) == 1 }).await;
    sent.abort();
    eventually("the endpoint is told", || async { dropped.load(Ordering::SeqCst) == 1 }).await;
    assert_eq!(proxy.stat("proxy.aborted_by_client").await, 1);
    assert_eq!(outcomes(&proxy), Outcomes::default());
}

#[tokio::test]
async fn draining_lets_streams_finish_and_tells_the_client() {
    let go_on = Arc::new(tokio::sync::Notify::new());
    let (waits, came) = (Arc::clone(&go_on), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&came);
    let backend = Backend::http(move |_| {
        let (waits, count) = (Arc::clone(&waits), Arc::clone(&count));
        async move {
            let go_on = waits.notified();
            count.fetch_add(1, Ordering::SeqCst);
            go_on.await;
            Response::new(full("late"))
        }
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let address = proxy.handle.egress_address();
    let mut client = connect(address).await;
    let under_way = tokio::spawn(client.send_request(request(Method::GET, full(""))));
    eventually("it is there", || async { came.load(Ordering::SeqCst) == 1 }).await;
    let draining = tokio::spawn(proxy.handle.drain(std::time::Duration::from_secs(30)));
    eventually("no new connections", || async { TcpStream::connect(address).await.is_err() }).await;
    go_on.notify_waiters();
    let answer = under_way.await.unwrap().unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "late");
    assert_eq!(draining.await.unwrap().cut, 0);
    eventually("the client knows", || async { client.is_closed() }).await;
}

#[tokio::test]
async fn what_http1_cannot_say_is_said_in_its_way() {
    let seen: Arc<Mutex<Vec<(HeaderMap, String)>>> = Arc::default();
    let saw = Arc::clone(&seen);
    let backend = Backend::http(move |request| {
        let saw = Arc::clone(&saw);
        async move {
            let (head, body) = request.into_parts();
            let text = String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap();
            saw.lock().unwrap().push((head.headers, text));
            Response::builder().header("connection", "x-own").header("x-own", "1").body(Frames::body(&[b"a"])).unwrap()
        }
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let mut client = connect(proxy.handle.egress_address()).await;
    let mut post = request(Method::POST, Frames::body(&[b"one", b"two"]));
    for (name, value) in [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"), ("x-kept", "1")] {
        post.headers_mut().append(name, value.parse().unwrap());
    }
    let answer = client.send_request(post).await.unwrap();
    assert!(answer.headers().get("x-own").is_none() && answer.headers().get("transfer-encoding").is_none());
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "a");
    let (headers, body) = seen.lock().unwrap()[0].clone();
    assert_eq!((headers["host"].as_bytes(), headers["cookie"].as_bytes()), (&b"shop.local"[..], &b"a=1; b=2"[..]));
    assert_eq!((headers["transfer-encoding"].as_bytes(), body.as_str()), (&b"chunked"[..], "onetwo"));
    assert_eq!(headers.get_all("cookie").iter().count(), 1);
}

#[tokio::test]
async fn statuses_of_grpc_are_outcomes() {
    let answering = |request: Request<Incoming>| async move {
        let code = request.headers()["x-code"].clone();
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.clone())]);
        let mut response = Response::builder().header("content-type", "application/grpc");
        // In the head alone, or behind a message.
        if request.uri().path() == "/head" {
            response = response.header("grpc-status", code);
            return response.body(full("")).unwrap();
        }
        let (pieces, body) = piecewise();
        tokio::spawn(async move {
            let _ = pieces.send(Frame::data(Bytes::from_static(b"message"))).await;
            let _ = pieces.send(Frame::trailers(trailers)).await;
        });
        response.body(body).unwrap()
    };
    let backend = serving(answering, Arc::default()).await;
    let proxy = Proxy::start(over_http2(Mesh::new(1).target("v1", backend.address, 1))).await;
    let mut client = connect(proxy.handle.egress_address()).await;
    let mut expected = Outcomes::default();
    for (code, fails) in [("0", false), ("5", false), ("14", true), ("2", true), ("12", false), ("13", true)] {
        for path in ["head", "trailers"] {
            let call = Request::post(format!("http://shop.local/{path}"))
                .header("content-type", "application/grpc")
                .header("x-code", code);
            let answer = client.send_request(call.body(full("")).unwrap()).await.unwrap();
            let in_head = answer.headers().get("grpc-status").cloned();
            let trailers = answer.into_body().collect().await.unwrap().trailers().cloned().unwrap_or_default();
            assert_eq!(in_head.as_ref().or(trailers.get("grpc-status")).unwrap(), code);
            expected.requests += 1;
            expected.status_5xx += u64::from(fails);
            assert_eq!(outcomes(&proxy), expected, "{code} {path}");
        }
    }
    // Where there is no route, gRPC is told so in its own way.
    let lost = Request::post("http://nowhere.local/a").header("content-type", "application/grpc+proto");
    let answer = client.send_request(lost.body(full("")).unwrap()).await.unwrap();
    assert_eq!((answer.status(), answer.headers()["grpc-status"].as_bytes()), (StatusCode::OK, &b"12"[..]));
}

/// Bodies in chunks towards HTTP/1.1, with an end that is known when the last piece is: over HTTP/2 at once, and in a second
/// try. Larger than what is put together with the head.
#[tokio::test]
async fn large_pieces_in_chunks_arrive_whole_at_the_first_and_at_the_second_try() {
    let seen: Arc<Mutex<Vec<(usize, bool)>>> = Arc::default();
    let saw = Arc::clone(&seen);
    let backend = Backend::http(move |request| {
        let saw = Arc::clone(&saw);
        async move {
            let body = request.into_body().collect().await.map(|body| body.to_bytes().len());
            let mut saw = saw.lock().unwrap();
            saw.push((body.as_ref().copied().unwrap_or(0), body.is_ok()));
            let status = if saw.len().is_multiple_of(2) { 200 } else { 503 };
            Response::builder().status(status).body(full("x")).unwrap()
        }
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1).retries(1)).await;
    let mut over_http2 = connect(proxy.handle.egress_address()).await;
    let mut over_http1 = proxy.client().await;
    let piece: &[u8] = &[b'x'; 5000];
    let piece: &'static [u8] = Box::leak(piece.to_vec().into_boxed_slice());
    let answer = over_http2.send_request(request(Method::POST, Frames::body(&[piece, piece]))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    // One whose length nobody says, and whose last frame ends it.
    let mut unsized_body = request(Method::POST, full(piece));
    unsized_body.headers_mut().remove("content-length");
    assert_eq!(over_http2.send_request(unsized_body).await.unwrap().status(), StatusCode::OK);
    let post = Request::post("/").header("host", "shop.local").body(Frames::body(&[piece, piece])).unwrap();
    assert_eq!(over_http1.send(post).await.unwrap().status, StatusCode::OK);
    assert_eq!(
        *seen.lock().unwrap(),
        [(10_000, true), (10_000, true), (5000, true), (5000, true), (10_000, true), (10_000, true)]
    );
}

/// An answer that says its length may end in a frame of its own: it is complete before that, and counts as good.
#[tokio::test]
async fn an_answer_is_complete_when_it_is_as_long_as_it_says() {
    let sized = |request: Request<Incoming>| async move {
        let response = Response::builder().header("content-length", "4");
        if request.method() == Method::HEAD {
            return response.body(Frames::body(&[])).unwrap();
        }
        // Not over until it is asked once more.
        response.body(Frames::body(&[b"ab", b"cd"])).unwrap()
    };
    let backend = serving(sized, Arc::default()).await;
    let proxy = Proxy::with(over_http2(Mesh::new(1).target("v1", backend.address, 1)), |settings| {
        settings.workers = 1;
    })
    .await;
    let mut client = proxy.client().await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.unwrap().text(), "abcd");
        let head = client.request(Method::HEAD, "shop.local", "/", &[]).await.unwrap();
        assert_eq!(head.headers["content-length"], "4");
    }
    assert_eq!(outcomes(&proxy), Outcomes { requests: 100, ..Outcomes::default() });
    assert_eq!((proxy.stat("proxy.aborted_by_client").await, backend.connections()), (0, 1));
}
