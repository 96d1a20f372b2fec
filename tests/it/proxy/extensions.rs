//! What routes do beyond App Mesh.

use super::harness::{Backend, Mesh, Proxy, eventually};
use super::sums;
use http::{Method, StatusCode};
use tidegate::base::tally::{Outcomes, Series};

/// Counts of one target among series.
fn of(series: &[Series], target: &str) -> Outcomes {
    let mut sum = Outcomes::default();
    series.iter().filter(|series| series.key.target == target).for_each(|series| sum.add(&series.outcomes));
    sum
}

async fn two_versions(weights: [u32; 2]) -> Mesh {
    let (v1, v2) = (Backend::text("v1").await, Backend::text("v2").await);
    Mesh::new(1).target("v1", v1.address, weights[0]).target("v2", v2.address, weights[1])
}

#[tokio::test]
async fn a_fault_of_one_version_is_a_failure_of_that_version() {
    let mesh = two_versions([1, 1]).await.tag("tidegate:fault", "abort=500 target=v2").retries(2);
    let proxy = Proxy::start(mesh).await;
    let mut client = proxy.client().await;
    let mut aborted = 0;
    for _ in 0..100 {
        let answer = client.get("/").await.unwrap();
        if answer.status == StatusCode::INTERNAL_SERVER_ERROR {
            aborted += 1;
            assert_eq!(answer.text(), "fault filter abort");
            assert_eq!(answer.headers["x-tidegate-reason"], "fault filter abort");
        } else {
            assert_eq!(answer.text(), "v1");
        }
    }
    // A coin that never shows one of its sides in a hundred throws is none.
    assert!((1..100).contains(&aborted), "{aborted}");
    let report = proxy.handle.report();
    assert_eq!(of(&report.series, "v2"), Outcomes { requests: aborted, status_5xx: aborted, ..Outcomes::default() });
    assert_eq!(of(&report.series, "v1"), Outcomes { requests: 100 - aborted, ..Outcomes::default() });
    assert_eq!(report.unjudged, []);
    assert_eq!(proxy.stat("proxy.faults_injected").await, aborted);
}

#[tokio::test]
async fn a_fault_of_the_whole_route_is_not_judged_and_only_who_asks_for_it_gets_it() {
    let mesh = two_versions([1, 0]).await.tag("tidegate:fault", "abort=503 header=x-try:1");
    let proxy = Proxy::start(mesh).await;
    let mut client = proxy.client().await;
    for (header, status) in [("1", 503), ("2", 200), ("1", 503)] {
        let answer = client.request(Method::GET, "shop.local", "/", &[("x-try", header)]).await.unwrap();
        assert_eq!(answer.status.as_u16(), status);
    }
    assert_eq!(client.get("/").await.unwrap().text(), "v1");
    assert_eq!(sums(&proxy), (2, 0));
    let unjudged = of(&proxy.handle.report().unjudged, "v1");
    assert_eq!(unjudged, Outcomes { requests: 2, status_5xx: 2, ..Outcomes::default() });
    let text = proxy.admin(Method::GET, "/stats/prometheus").await.text();
    let line = "tidegate_proxy_unjudged_request_errors_total{mesh=\"m\",router=\"shop\",route=\"all\",version=\"1\",target=\"v1\",endpoint=\"\"} 2";
    assert!(text.lines().any(|each| each == line), "{text}");
    assert_eq!(proxy.stat("route.m/shop/all.v1.v1.unjudged.requests").await, 2);
}

#[tokio::test]
async fn a_delay_is_as_if_the_version_were_slow() {
    let mesh = two_versions([0, 1]).await.tag("tidegate:fault", "delay=60s target=v2").timeout(50);
    let proxy = Proxy::start(mesh.clone()).await;
    let mut client = proxy.client().await;
    assert_eq!(client.get("/").await.unwrap().status, StatusCode::GATEWAY_TIMEOUT);
    let judged = of(&proxy.handle.report().series, "v2");
    assert_eq!(judged, Outcomes { requests: 1, timeout: 1, ..Outcomes::default() });

    proxy.publish(&mesh.reweighted(&[0, 1]).timeout(15_000).tag("tidegate:fault", "delay=30ms target=v2")).await;
    assert_eq!(client.get("/").await.unwrap().text(), "v2");
    eventually("its latency is counted", || async {
        let report = proxy.handle.report();
        // The first bucket that ends above 30 ms.
        let slow = tidegate::base::histogram::bucket_of(30_000);
        report
            .series
            .iter()
            .any(|series| series.key.version == 2 && series.latency.counts()[slow..].iter().sum::<u64>() == 1)
    })
    .await;
}

#[tokio::test]
async fn a_version_is_chosen_by_hand_and_that_is_not_judged() {
    let mesh = two_versions([1, 0]).await.tag("tidegate:override", "header=x-version cookie=version");
    let proxy = Proxy::start(mesh).await;
    let mut client = proxy.client().await;
    for (name, value, by) in [
        ("x-version", "v2", "v2"),
        ("x-version", "v3", "v1"),
        ("cookie", "a=b; version=v2", "v2"),
        ("cookie", "version=", "v1"),
        ("x-other", "v2", "v1"),
    ] {
        let answer = client.request(Method::GET, "shop.local", "/", &[(name, value)]).await.unwrap();
        assert_eq!(answer.text(), by, "{name}: {value}");
    }
    let report = proxy.handle.report();
    assert_eq!(of(&report.series, "v1").requests, 3);
    assert_eq!(of(&report.series, "v2").requests, 0);
    assert_eq!(of(&report.unjudged, "v2").requests, 2);
    assert_eq!(proxy.stat("proxy.forced").await, 2);
}

/// The version that answers a request with this header.
async fn version(client: &mut super::harness::Client, header: (&str, &str)) -> String {
    client.request(Method::GET, "shop.local", "/", &[header]).await.unwrap().text()
}

#[tokio::test]
async fn users_stay_with_a_version_and_move_one_way_only() {
    let mesh = two_versions([100, 0]).await.tag("tidegate:affinity", "header=x-user");
    let proxy = Proxy::start(mesh.clone()).await;
    let mut client = proxy.client().await;
    let users: Vec<String> = (0..200).map(|user| format!("user-{user}")).collect();
    let mut on_canary = vec![false; users.len()];
    let (mut mesh, mut before) = (mesh, 0);
    for canary in [0, 10, 50, 95, 100] {
        mesh = mesh.reweighted(&[100 - canary, canary]);
        proxy.publish(&mesh).await;
        for (user, was_on_canary) in users.iter().zip(&mut on_canary) {
            let first = version(&mut client, ("x-user", user)).await;
            assert_eq!(version(&mut client, ("x-user", user)).await, first, "{user} at {canary}");
            let is_on_canary = first == "v2";
            assert!(is_on_canary || !*was_on_canary, "{user} came back at {canary}");
            *was_on_canary = is_on_canary;
        }
        let now = on_canary.iter().filter(|on| **on).count();
        // Names are fixed, so is what comes of them; a hash that is none would put all on one side.
        let wanted = 2 * usize::try_from(canary).unwrap();
        assert!(now.abs_diff(wanted) <= 30 && now >= before, "{now} of 200 at {canary} %");
        before = now;
    }
    assert_eq!(before, 200);
    // Who says nothing is drawn anew each time.
    proxy.publish(&mesh.reweighted(&[50, 50])).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..60 {
        seen.insert(client.get("/").await.unwrap().text());
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn a_session_is_given_a_cookie_and_goes_where_it_went() {
    let mesh = two_versions([50, 50]).await.tag("tidegate:affinity", "cookie=sid ttl=1h path=/shop");
    let proxy = Proxy::start(mesh).await;
    let mut client = proxy.client().await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let first = client.get("/").await.unwrap();
        let told = first.headers["set-cookie"].to_str().unwrap();
        assert!(told.ends_with("; Path=/shop; HttpOnly; Max-Age=3600"), "{told}");
        let cookie = told.split(';').next().unwrap();
        let again = client.request(Method::GET, "shop.local", "/", &[("cookie", cookie)]).await.unwrap();
        assert_eq!(again.text(), first.text());
        assert!(!again.headers.contains_key("set-cookie"));
        seen.insert(first.text());
    }
    assert_eq!(seen.len(), 2, "each new session is drawn");
    assert_eq!(proxy.stat("proxy.sessions_begun").await, 40);
}

#[tokio::test]
async fn of_a_session_one_request_and_one_failure_are_judged() {
    let (good, bad) = (Backend::text("v1").await, Backend::status(500).await);
    let mesh = Mesh::new(1).target("v1", good.address, 100).target("v2", bad.address, 0);
    let mesh = mesh.tag("tidegate:affinity", "header=x-user");
    let proxy = Proxy::start(mesh.clone()).await;
    let mut clients = [proxy.client().await, proxy.client().await, proxy.client().await];
    for user in ["ann", "bob"] {
        for client in &mut clients {
            assert_eq!(version(client, ("x-user", user)).await, "v1");
        }
    }
    proxy.publish(&mesh.clone().reweighted(&[0, 100])).await;
    for client in &mut clients {
        assert_eq!(version(client, ("x-user", "ann")).await, "x");
    }
    eventually("the last answers are counted", || async {
        let report = proxy.handle.report();
        of(&report.raw, "v1").requests == 6 && of(&report.raw, "v2").requests == 3
    })
    .await;
    let report = proxy.handle.report();
    let failed = |requests, status_5xx| Outcomes { requests, status_5xx, ..Outcomes::default() };
    // A block may end in between, whatever the machine does, and then everybody counts once more.
    let judged = of(&report.series, "v1").requests;
    assert!((2..=4).contains(&judged), "{judged}");
    let judged = of(&report.series, "v2");
    assert!(judged == failed(1, 1) || judged == failed(2, 2), "{judged:?}");
    assert_eq!(of(&report.raw, "v2"), failed(3, 3));
}

#[tokio::test]
async fn requests_beyond_the_bound_are_sent_away_over_all_workers_and_snapshots() {
    let mesh = two_versions([1, 0]).await.tag("tidegate:limit", "requests=1 per=1h burst=4");
    let proxy = Proxy::start(mesh.clone()).await;
    let mut statuses = Vec::new();
    for round in 0..2 {
        for _ in 0..3 {
            let answer = proxy.client().await.get("/").await.unwrap();
            if answer.status == StatusCode::TOO_MANY_REQUESTS {
                assert_eq!(
                    (&*answer.text(), &answer.headers["x-envoy-ratelimited"]),
                    ("local_rate_limited", &"true".parse().unwrap())
                );
            }
            statuses.push(answer.status.as_u16());
        }
        if round == 0 {
            proxy.publish(&mesh.clone().reweighted(&[1, 0])).await;
        }
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
    assert_eq!(sums(&proxy), (4, 0), "the others are not judged");
    assert_eq!((proxy.stat("proxy.rate_limited").await, proxy.stat("proxy.unrouted").await), (2, 0));
}

/// Tells of each request its method, host and body, and answers it.
async fn telling(status: u16, text: &'static str) -> (Backend, tokio::sync::mpsc::UnboundedReceiver<String>) {
    use http_body_util::BodyExt;
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    let backend = Backend::http(move |request| {
        let tell = tell.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let host = head.headers["host"].to_str().unwrap();
            let _ = tell.send(format!("{} {host} {}", head.method, String::from_utf8_lossy(&body)));
            http::Response::builder().status(status).body(super::harness::full(text)).unwrap()
        }
    });
    (backend.await, told)
}

#[tokio::test]
async fn copies_go_to_the_other_version_and_nobody_waits_for_them() {
    let (v1, _told) = telling(200, "v1").await;
    let (v2, mut told) = telling(500, "shadow").await;
    let mesh = Mesh::new(1).target("v1", v1.address, 1).target("v2", v2.address, 0).tag("tidegate:mirror", "target=v2");
    let proxy = Proxy::start(mesh).await;
    let mut client = proxy.client().await;
    let post = |body: String| {
        http::Request::builder()
            .method("POST")
            .uri("/buy")
            .header("host", "shop.local")
            .body(super::harness::full(body))
            .unwrap()
    };
    assert_eq!(client.get("/").await.unwrap().text(), "v1");
    assert_eq!(told.recv().await.unwrap(), "GET shop.local-shadow ");
    assert_eq!(client.send(post("a book".into())).await.unwrap().text(), "v1");
    assert_eq!(told.recv().await.unwrap(), "POST shop.local-shadow a book");
    // Longer than what is kept.
    assert_eq!(client.send(post("x".repeat(100_000))).await.unwrap().text(), "v1");
    eventually("they are counted", || async {
        let unjudged = of(&proxy.handle.report().unjudged, "v2");
        unjudged == Outcomes { requests: 2, status_5xx: 2, ..Outcomes::default() } && sums(&proxy) == (3, 0)
    })
    .await;
    assert_eq!((proxy.stat("proxy.mirrored").await, proxy.stat("proxy.not_mirrored").await), (2, 1));
    assert_eq!(client.get("/").await.unwrap().text(), "v1");
    assert_eq!(told.recv().await.unwrap(), "GET shop.local-shadow ", "and the long one never came");
}

#[tokio::test]
async fn copies_for_a_version_that_never_answers_are_bounded() {
    let v1 = Backend::text("v1").await;
    let v2 = Backend::raw(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let mesh = Mesh::new(1).target("v1", v1.address, 1).target("v2", v2.address, 0).tag("tidegate:mirror", "target=v2");
    let proxy = Proxy::with(mesh, |settings| settings.workers = 1).await;
    let mut client = proxy.client().await;
    for _ in 0..70 {
        assert_eq!(client.get("/").await.unwrap().text(), "v1");
    }
    assert_eq!((proxy.stat("proxy.mirrored").await, proxy.stat("proxy.not_mirrored").await), (64, 6));
}
