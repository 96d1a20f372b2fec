//! A canary that is taken out of the traffic by the proxy itself.

use super::harness::{Backend, Client, Mesh, Proxy, eventually};
use http::{Method, StatusCode};
use std::time::Duration;
use tidegate::base::fuse::{Decimal, Fuse, RouteFuse};
use tidegate::base::tally::{FuseReport, FuseState, Report};
use tidegate::base::time::Millis;
use tidegate::judge::Counts;
use tidegate::proxy::fuse::Watch;

fn spec(rollout: &str, threshold: f64, failures: u32) -> Fuse {
    Fuse {
        failures,
        canary: "v2".into(),
        rollout: rollout.into(),
        threshold: Decimal::at_least(threshold),
        ratio: Decimal::whole(1),
        add: Decimal::whole(0),
    }
}

/// A good v1, a dead v2, and this fuse.
async fn mesh(weights: [u32; 2], fuse: Fuse, lapses_after: Option<Millis>) -> Mesh {
    let (good, dead) = (Backend::text("v1").await, Backend::status(500).await);
    let mut mesh = Mesh::new(1).target("v1", good.address, weights[0]).target("v2", dead.address, weights[1]);
    mesh.route.fuse = Some(Box::new(RouteFuse { fuse, lapses_after }));
    mesh
}

fn fuse(report: &Report) -> &FuseReport {
    &report.fuses[0]
}

fn state(proxy: &Proxy) -> FuseState {
    fuse(&proxy.handle.report()).state
}

/// Requests over connections of their own, which come to all workers; how many failed.
async fn failures(proxy: &Proxy, requests: usize) -> usize {
    let mut failed = 0;
    for _ in 0..requests {
        failed += usize::from(proxy.client().await.get("/").await.unwrap().status == StatusCode::INTERNAL_SERVER_ERROR);
    }
    failed
}

/// Requests until the fuse opens; how many failed.
async fn failures_until_open(proxy: &Proxy) -> usize {
    let mut failed = 0;
    while state(proxy) == FuseState::Armed {
        failed += failures(proxy, 1).await;
        assert!(failed < 1000, "it never opens");
    }
    failed
}

/// Requests in series, and those that are not judged.
fn judged_and_not(proxy: &Proxy) -> (u64, u64) {
    let report = proxy.handle.report();
    let sum = |series: &[tidegate::base::tally::Series]| series.iter().map(|series| series.outcomes.requests).sum();
    (sum(&report.series), sum(&report.unjudged))
}

#[tokio::test]
async fn all_workers_see_one_dead_canary_and_it_stays_out_for_the_rollout() {
    let mesh = mesh([50, 50], spec("r-1", 3.0, 1000), None).await;
    let proxy = Proxy::start(mesh.clone()).await;
    // As many failures as a single watch needs: two that saw half each would need twice as many.
    let mut watch = Watch::new(&spec("r-1", 3.0, 1000), Duration::ZERO);
    let error = Counts { canary_requests: 1, canary_errors: 1, ..Counts::default() };
    let needed = (1..).find(|_| {
        watch.take(0.5, &error);
        watch.state() == FuseState::Tripped
    });
    assert_eq!(failures_until_open(&proxy).await, needed.unwrap());
    let report = proxy.handle.report();
    let tripped = fuse(&report);
    assert_eq!((tripped.state, tripped.version, tripped.rollout.as_str()), (FuseState::Tripped, 1, "r-1"));
    assert!(tripped.log_e >= tripped.threshold && tripped.threshold == 3.0, "{tripped:?}");
    assert_eq!((tripped.canary_errors, tripped.stable_errors), (needed.unwrap() as u64, 0));
    assert_eq!(tripped.canary_requests, tripped.canary_errors, "each was begun, and all failed");

    // Nothing on the route is judged any more: no coin is tossed.
    let (judged, _) = judged_and_not(&proxy);
    assert_eq!(failures(&proxy, 60).await, 0);
    assert_eq!(judged_and_not(&proxy), (judged, 60));

    // Neither an acknowledgement nor other weights close it.
    assert_eq!(fuse(&proxy.handle.reporter().acknowledge()).state, FuseState::Tripped);
    let mut more = mesh.clone().reweighted(&[25, 75]);
    proxy.publish(&more).await;
    assert_eq!((state(&proxy), failures(&proxy, 40).await), (FuseState::Tripped, 0));
    // Nor that the weights were whole in between.
    let whole = more.clone().reweighted(&[100, 0]);
    proxy.publish(&whole).await;
    assert_eq!(proxy.handle.report().fuses, []);
    proxy.publish(&whole.reweighted(&[50, 50])).await;
    assert_eq!((state(&proxy), failures(&proxy, 40).await), (FuseState::Tripped, 0));
    // Another rollout begins with nothing.
    more = more.reweighted(&[50, 50]).reweighted(&[50, 50]).reweighted(&[50, 50]);
    more.route.fuse = Some(Box::new(RouteFuse { fuse: spec("r-2", 3.0, 1000), lapses_after: None }));
    proxy.publish(&more).await;
    assert_eq!((state(&proxy), failures_until_open(&proxy).await), (FuseState::Armed, needed.unwrap()));
}

#[tokio::test]
async fn too_many_failures_are_held_until_they_are_read_by_a_judge() {
    let mesh = mesh([10, 90], spec("r-1", 1000.0, 3), None).await.tag("tidegate:override", "header=x-version");
    let proxy = Proxy::start(mesh).await;
    assert_eq!(failures_until_open(&proxy).await, 3);
    assert_eq!((state(&proxy), failures(&proxy, 40).await), (FuseState::Held, 0));
    // Whoever chose the version gets it.
    let mut client: Client = proxy.client().await;
    let forced = client.request(Method::GET, "shop.local", "/", &[("x-version", "v2")]).await.unwrap();
    assert_eq!(forced.status, StatusCode::INTERNAL_SERVER_ERROR);
    // A person's look changes nothing.
    proxy.admin(Method::GET, "/tidegate/report").await;
    assert_eq!(state(&proxy), FuseState::Held);
    let answer = proxy.admin(Method::GET, "/tidegate/report?acknowledge").await;
    let report: Report = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((fuse(&report).state, fuse(&report).errors_since_acknowledged), (FuseState::Held, 3), "it is told once");
    assert_eq!((state(&proxy), failures_until_open(&proxy).await), (FuseState::Armed, 3));
}

/// Two daemons read one proxy: each is a sign to the fuses of its own routes alone.
#[tokio::test]
async fn one_daemon_does_not_acknowledge_what_another_judges() {
    let proxy = Proxy::start(mesh([10, 90], spec("r-1", 1000.0, 3), None).await).await;
    failures_until_open(&proxy).await;
    for other in ["acknowledge=m/shop/another", "acknowledge=m/shop/all/", "acknowledge=all", "acknowledged", ""] {
        proxy.admin(Method::GET, &format!("/tidegate/report?{other}")).await;
        assert_eq!(state(&proxy), FuseState::Held, "{other}");
    }
    let own = "/tidegate/report?acknowledge=m%2Fshop%2Fanother&acknowledge=m%2Fshop%2Fall";
    proxy.admin(Method::GET, own).await;
    assert_eq!(state(&proxy), FuseState::Armed);
}

/// Of a session one request and one failure a minute are judged, and the fuse is told of no others: neither do the others count
/// against the release, nor do they pay for what is tolerated.
#[tokio::test]
async fn of_a_session_the_fuse_is_told_what_is_judged() {
    let mesh = mesh([10, 90], spec("r-1", 1000.0, 1000), None).await.tag("tidegate:affinity", "header=x-user");
    let proxy = Proxy::start(mesh).await;
    let mut client: Client = proxy.client().await;
    let mut ask = async |user: &str| {
        let answer = client.request(Method::GET, "shop.local", "/", &[("x-user", user)]).await.unwrap();
        answer.status == StatusCode::INTERNAL_SERVER_ERROR
    };
    let mut sessions = 0_u64;
    for user in ["ann", "bob", "cyd", "dan", "eve", "fay"] {
        sessions += u64::from(ask(user).await);
        for _ in 0..5 {
            ask(user).await;
        }
    }
    assert!(sessions > 0, "one of six in nine of ten");
    eventually("the last answers are counted", || async { fuse(&proxy.handle.report()).canary_errors >= sessions })
        .await;
    let report = proxy.handle.report();
    let counted = fuse(&report);
    assert_eq!(counted.canary_requests, counted.canary_errors, "each that is judged has failed");
    // A block may end in between, whatever the machine does, and then everybody counts once more.
    assert!((sessions..=2 * sessions).contains(&counted.canary_errors), "{sessions} {counted:?}");
}

#[tokio::test]
async fn a_controller_that_was_heard_and_is_silent_leaves_nothing_to_the_canary() {
    let mesh = mesh([10, 90], spec("r-1", 1000.0, 1000), Some(Millis(1))).await;
    let proxy = Proxy::start(mesh.clone()).await;
    assert!(failures(&proxy, 20).await > 0, "nobody has promised to come");
    assert_eq!(fuse(&proxy.handle.reporter().acknowledge()).state, FuseState::Armed);
    eventually("it lapses", || async { state(&proxy) == FuseState::Lapsed }).await;
    assert_eq!(failures(&proxy, 40).await, 0);
    // Heard again, under a lease that lasts.
    let mut longer = mesh.reweighted(&[10, 90]);
    longer.route.fuse =
        Some(Box::new(RouteFuse { fuse: spec("r-1", 1000.0, 1000), lapses_after: Some(Millis(600_000)) }));
    proxy.publish(&longer).await;
    assert_eq!(proxy.handle.reporter().acknowledge().fuses.len(), 1);
    assert_eq!(state(&proxy), FuseState::Armed);
    assert!(failures(&proxy, 20).await > 0);
}
