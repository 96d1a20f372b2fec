//! How fast a bad release is caught and how surely a good one goes through, on real daemons: 200 requests a second, 10 %
//! on the new version. `TIDEGATE_RUNS` is the number of releases of each kind (2 unless it is set; `make detect` makes it
//! 20); each prints what it measured.
//!
//! How they end is checked always. The goals on time are medians, so they are held against ten releases and more: of a
//! few, one unlucky draw would be most of it. What the judge needs by its theory lies below them (3 to 4 failures at 1 a
//! second; some seconds of a tenth of the traffic), whatever the machine.

use crate::program::service::Behaviour;
use crate::program::until;
use crate::program::world::{HOST, World};
use serde_json::Value;
use std::time::Duration;
use tidegate::base::time::Timestamp;
use tidegate::clock::{Clock, SystemClock};
use tidegate::demo::load::Load;

const REQUESTS_PER_S: u32 = 200;
/// Releases of each kind.
const RUNS: usize = 2;
/// From so many on a median is worth something.
pub(crate) const ENOUGH: usize = 10;
/// Releases under way at the same time, each with a daemon of its own.
const AT_A_TIME: usize = 2;

/// Errors and latencies against stable, with the default tolerances and the default bound on false rollbacks.
const POLICY: &str = "\
version: 1
name: checkout
route: { mesh: shop, router: checkout-router, route: checkout }
versions: [checkout-v1, checkout-v2]
steps:
  - { weight: 10, min: 15s, max: 5m, prove_no_worse_than: 5pp }
  - { weight: 50, min: 2s, max: 5m, prove_no_worse_than: 5pp }
  - { weight: 100, min: 2s }
gates:
  - { name: errors, metric: error_rate, compare: stable }
  - { name: latency, metric: latency, compare: stable, tolerate: 10% }
";

/// A release that has ended.
struct Release {
    end: Value,
    /// From the first failure seen by a client, or else from the first request on the new version, to the decision.
    detected_after: Duration,
    failed: u64,
}

#[expect(clippy::disallowed_methods, reason = "the switch of whoever runs the tests")]
pub(crate) fn runs() -> usize {
    std::env::var("TIDEGATE_RUNS").map_or(RUNS, |text| text.parse().expect("TIDEGATE_RUNS is a number"))
}

/// One release of a version that behaves like this beside a stable that behaves like that.
async fn release(stable: Behaviour, canary: Behaviour) -> Release {
    let world = World::with("", POLICY).await;
    world.stable.behave(stable);
    world.canary.behave(canary);
    let load = Load::start(world.daemon.addresses["egress"], HOST, REQUESTS_PER_S);
    // Stable is known before the release, as it is wherever a service has traffic.
    until("stable has traffic", async || (load.seen("v1").requests >= 1200).then_some(())).await;
    let id = world.daemon.start_rollout().await;
    until("the new version is asked", async || (load.seen("v2").requests > 0).then_some(())).await;
    let began = SystemClock.now();
    let end = world.daemon.end(&id).await;
    let seen = load.seen("v2");
    let from = seen.first_failure_ms.map_or(began, Timestamp);
    let decided = Timestamp(end["decided_at_ms"].as_i64().expect("it has ended"));
    load.stop().await;
    world.verify().await.expect(0);
    Release { end, detected_after: Duration::from_millis(decided.since(from).0), failed: seen.failed }
}

async fn releases(what: &str, stable: Behaviour, canary: Behaviour, expected: &str) -> Vec<Release> {
    let mut all = Vec::new();
    while all.len() < runs() {
        let few = AT_A_TIME.min(runs() - all.len());
        for release in futures_util::future::join_all((0..few).map(|_| release(stable, canary))).await {
            assert_eq!(release.end["phase"], expected, "{what}: {}", release.end);
            all.push(release);
        }
    }
    all.sort_by_key(|release| release.detected_after);
    all
}

#[expect(clippy::print_stderr, reason = "what was measured")]
fn tell(what: &str, releases: &[Release]) -> Duration {
    let (middle, last) = (&releases[releases.len() / 2], &releases[releases.len() - 1]);
    let mut failed: Vec<u64> = releases.iter().map(|release| release.failed).collect();
    failed.sort_unstable();
    eprintln!(
        "{what}: {} releases, detected after {:.1?} (median), {:.1?} (longest); failed requests {} (median), {} (most)",
        releases.len(),
        middle.detected_after,
        last.detected_after,
        failed[failed.len() / 2],
        failed[failed.len() - 1]
    );
    middle.detected_after
}

#[tokio::test]
async fn a_version_that_fails_one_in_twenty_is_caught_within_seconds_of_its_first_failure() {
    let releases = releases("5 % errors", Behaviour::Good, Behaviour::FailsOneIn(20), "rolled_back").await;
    let median = tell("5 % errors", &releases);
    assert!(releases.len() < ENOUGH || median <= Duration::from_secs(5), "{median:?}");
}

#[tokio::test]
async fn a_version_that_takes_twice_as_long_is_caught_within_seconds() {
    let releases = releases("twice as slow", Behaviour::Spread(10), Behaviour::Spread(20), "rolled_back").await;
    let median = tell("twice as slow", &releases);
    assert!(releases.len() < ENOUGH || median <= Duration::from_secs(10), "{median:?}");
}

#[tokio::test]
async fn healthy_versions_go_through() {
    tell("healthy", &releases("healthy", Behaviour::Spread(5), Behaviour::Spread(5), "succeeded").await);
}
