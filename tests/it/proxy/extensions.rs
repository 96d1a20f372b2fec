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
