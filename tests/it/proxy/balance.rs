//! What tags of a node add: how its endpoints are chosen, and how many retries it takes. And what other requests notice of
//! answers that nobody reads.

use super::harness::{Backend, Listed, Mesh, Proxy, eventually, full};
use http::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidegate::clock::Monotonic;
use tidegate::mesh::snapshot::{Discovery, NodeExtensions, Protocol};
use tidegate::ports::EndpointSource;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

fn tagged(mut mesh: Mesh, tag: &str, value: &str) -> Mesh {
    let (extensions, flaws) = NodeExtensions::read([(tag, value)]);
    assert_eq!(flaws, []);
    for cluster in mesh.config.clusters.values_mut() {
        Arc::make_mut(cluster).extensions = extensions;
    }
    mesh
}

/// A backend that fails, and how often it was asked.
async fn failing() -> (Backend, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let backend = Backend::http(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Response::builder().status(503).body(full("x")).unwrap() }
    });
    (backend.await, asked)
}

#[tokio::test]
async fn a_budget_bounds_retries_and_what_is_left_out_is_counted() {
    let (backend, asked) = failing().await;
    let mesh = Mesh::new(1).target("v1", backend.address, 1).retries(2);
    // One request has one retry at a time, so a place is all that it needs; without one nothing is tried again.
    let proxy = Proxy::start(tagged(mesh.clone(), "tidegate:retry-budget", "percent=0.0001 least=1")).await;
    let mut client = proxy.client().await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(asked.swap(0, Ordering::SeqCst), 30);
    let next = tagged(mesh, "tidegate:retry-budget", "percent=0.0001 least=0").reweighted(&[1]);
    proxy.publish(&next).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(asked.swap(0, Ordering::SeqCst), 10);
    let cluster = format!("cluster.cds_egress_m_v1_http_{}", backend.address.port());
    for (what, count) in
        [("upstream_rq_retry", 20), ("upstream_rq_retry_limit_exceeded", 10), ("upstream_rq_retry_overflow", 10)]
    {
        assert_eq!(proxy.stat(&format!("{cluster}.{what}")).await, count, "{what}");
    }
}

/// All at once, and the node fails for all of them: with a budget of a fifth, no more than a fifth is tried again.
#[tokio::test]
async fn a_storm_of_retries_is_none_with_a_budget() {
    const CLIENTS: usize = 100;
    let asked = Arc::new(AtomicUsize::new(0));
    let (fail, answer) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (count, failing, answering) = (Arc::clone(&asked), Arc::clone(&fail), Arc::clone(&answer));
    let backend = Backend::http(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let (status, gate) = if number < CLIENTS { (503, &failing) } else { (200, &answering) };
        let gate = Arc::clone(gate);
        async move {
            gate.acquire().await.unwrap().forget();
            Response::builder().status(status).body(full("x")).unwrap()
        }
    });
    let backend = backend.await;
    let mesh = Mesh::new(1).target("v1", backend.address, 1).retries(2);
    let mesh = tagged(mesh, "tidegate:retry-budget", "percent=20 least=0");
    let proxy = Proxy::with(mesh, |settings| settings.workers = 1).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let mut client = proxy.client().await;
        asking.spawn(async move { client.get("/").await.unwrap().status });
    }
    eventually("all are under way", || async { asked.load(Ordering::SeqCst) == CLIENTS }).await;
    fail.add_permits(CLIENTS);
    let cluster = format!("cluster.cds_egress_m_v1_http_{}", backend.address.port());
    let counts = async || {
        let count = async |what: &str| usize::try_from(proxy.stat(&format!("{cluster}.{what}")).await).unwrap();
        (count("upstream_rq_retry").await, count("upstream_rq_retry_overflow").await)
    };
    eventually("each is tried again or not", || async {
        let (retries, left_out) = counts().await;
        retries + left_out == CLIENTS
    })
    .await;
    // Of 100 under way a fifth; fewer when some have ended, but while 50 are under way there is room for 10.
    let (retries, _) = counts().await;
    assert!((10..=20).contains(&retries), "{retries} retries");
    answer.add_permits(CLIENTS);
    let answers = asking.join_all().await;
    assert_eq!(answers.iter().filter(|status| status.is_success()).count(), retries);
    assert_eq!(asked.load(Ordering::SeqCst), CLIENTS + retries);
}

#[tokio::test]
async fn least_request_finds_the_quick_endpoint() {
    let slow = Backend::http(|_| async {
        // So much slower that no stall of this machine makes the other one look worse.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Response::new(full("slow"))
    });
    let (slow, quick) = (slow.await, Backend::text("quick").await);
    let listed = Arc::new(Listed::of([slow.address, quick.address]));
    let mesh = Mesh::new(1).discovered("v1", Discovery::by_name("v1.local", true), 80, 1);
    let mesh = tagged(mesh, "tidegate:balance", "by=least-request");
    let proxy = Proxy::from_source(mesh, listed as Arc<dyn EndpointSource>, |_| {}).await;
    let mut client = proxy.client().await;
    let mut slowly = 0;
    for _ in 0..60 {
        slowly += usize::from(client.get("/").await.unwrap().text() == "slow");
    }
    // Which one is asked while nothing is known is chance; as soon as both are known it is none.
    assert!(slowly < 20, "{slowly} of 60 were slow");
}

/// Of requests that stay under way, each endpoint gets as many.
#[tokio::test]
async fn least_request_spreads_what_is_under_way() {
    let held = Arc::new(tokio::sync::Notify::new());
    let counts: [Arc<AtomicUsize>; 2] = Default::default();
    let mut backends = Vec::new();
    for count in &counts {
        let (held, count) = (Arc::clone(&held), Arc::clone(count));
        backends.push(
            Backend::http(move |_| {
                let held = Arc::clone(&held);
                count.fetch_add(1, Ordering::SeqCst);
                async move {
                    held.notified().await;
                    Response::new(full("x"))
                }
            })
            .await,
        );
    }
    let listed = Arc::new(Listed::of([backends[0].address, backends[1].address]));
    let mesh = Mesh::new(1).discovered("v1", Discovery::by_name("v1.local", true), 80, 1);
    let mesh = tagged(mesh, "tidegate:balance", "by=least-request");
    let one = |settings: &mut tidegate::proxy::ProxySettings| settings.workers = 1;
    let proxy = Proxy::from_source(mesh, listed as Arc<dyn EndpointSource>, one).await;
    let mut asking = tokio::task::JoinSet::new();
    let asked = || counts.iter().map(|count| count.load(Ordering::SeqCst)).sum::<usize>();
    for number in 1..=20 {
        let mut client = proxy.client().await;
        asking.spawn(async move { client.get("/").await.unwrap().status });
        eventually("it is asked", || async { asked() == number }).await;
    }
    // Both are looked at for each, so neither is ever ahead by more than one.
    assert_eq!(counts.each_ref().map(|count| count.load(Ordering::SeqCst)), [10, 10]);
    held.notify_waiters();
    assert!(asking.join_all().await.iter().all(StatusCode::is_success));
}

#[tokio::test]
async fn a_new_endpoint_starts_slowly() {
    let (old, new) = (Backend::text("old").await, Backend::text("new").await);
    let listed = Arc::new(Listed::of([old.address]));
    let mesh = Mesh::new(1).discovered("v1", Discovery::by_name("v1.local", true), 80, 1);
    let mesh = tagged(mesh, "tidegate:balance", "slow-start=5s");
    let proxy = Proxy::from_source(mesh, Arc::clone(&listed) as Arc<dyn EndpointSource>, |_| {}).await;
    let mut client = proxy.client().await;
    assert_eq!(client.get("/").await.unwrap().text(), "old");
    // Names are looked up every 5 s, when the first one has all of its weight.
    listed.set([old.address, new.address]);
    let changed = Monotonic::now();
    // Without a pause, so that it is seen soon after it is there.
    while client.get("/").await.unwrap().text() != "new" {
        assert!(changed.elapsed() < Duration::from_secs(60), "the new endpoint is never asked");
    }
    let (seen, mut newly) = (Monotonic::now(), 0.0);
    for _ in 0..600 {
        newly += f64::from(u8::from(client.get("/").await.unwrap().text() == "new"));
    }
    // It is there for a moment longer than it is seen.
    let weight = ((seen.elapsed().as_secs_f64() + 0.5) / 5.0).clamp(0.1, 1.0);
    let (mean, share) = (600.0 * weight / (1.0 + weight), weight / (1.0 + weight));
    let bound = mean + 5.0 * (600.0 * share * (1.0 - share)).sqrt();
    assert!(newly > 0.0 && newly < bound, "{newly} of 600, at a weight of {weight} at most");
}

/// Answers that nobody reads fill the windows of their streams, and must not fill that of their connection.
#[tokio::test]
async fn answers_that_nobody_reads_stop_no_other() {
    const LARGE: usize = 1 << 20;
    let backend = Backend::raw(|stream| async move {
        let answer = |_| async { Ok::<_, Infallible>(Response::new(full(vec![b'x'; LARGE]))) };
        let service = hyper::service::service_fn(answer);
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    });
    let backend = backend.await;
    let mut mesh = Mesh::new(1).target("v1", backend.address, 1);
    for cluster in mesh.config.clusters.values_mut() {
        Arc::make_mut(cluster).ports[0].protocol = Protocol::Http2;
    }
    let proxy = Proxy::with(mesh, |settings| settings.workers = 1).await;
    let stream = TcpStream::connect(proxy.handle.egress_address()).await.unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(16 * 1024).initial_connection_window_size(64 * 1024 * 1024);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut unread = Vec::new();
    for _ in 0..90 {
        let request = Request::builder().uri("http://shop.local/").body(full("")).unwrap();
        unread.push(sender.clone().send_request(request).await.unwrap());
    }
    let mut client = proxy.client().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.unwrap().body.len(), LARGE);
    }
    assert_eq!((backend.connections(), unread.len()), (1, 90));
}
