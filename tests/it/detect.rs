//! Releases end to end, by native proxies and by real Envoys: how fast a bad one is caught, and that healthy ones go through. Real
//! daemons, 200 requests a second, 10 % of them on the new version, stable fails one in a thousand, and latencies have a long tail.
//!
//! `TIDEGATE_RUNS` is the number of releases of each bad kind (1 unless it is set), `TIDEGATE_HEALTHY` that of healthy ones (3) and
//! `TIDEGATE_AT_A_TIME` how many are under way at once (3). `make bench-e2e` makes them 20, 50 and 4 for either plane, and puts what
//! is written to `target/bench` into one table.
//!
//! How they end is checked always. The goals on time are medians, so they are held against ten releases and more: of a few, one
//! unlucky draw would be most of it.

use crate::envoy::counts;
use crate::program::service::{Behaviour, Service};
use crate::program::until;
use crate::program::usual::{Doubled, Usual};
use crate::program::world::{Api, HOST, World};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tidegate::clock::Monotonic;
use tidegate::demo::load::Load;

const REQUESTS_PER_S: u32 = 200;
/// Stable's requests before the release: it is known then, as it is wherever a service has traffic.
const KNOWN_BY: u64 = 1200;
/// From so many on a median is worth something.
const ENOUGH: usize = 10;
/// A release that has not ended by then never does: three minutes at the first step, and what comes before and after it.
const PATIENCE: Duration = Duration::from_secs(240);

/// Which proxies carry the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plane {
    Native,
    Envoy,
}

/// What the new version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// As stable.
    Healthy,
    FailsOneIn20,
    TakesTwiceAsLong,
    SlowestTakeTwiceAsLong,
}

/// Slow kinds first, so that the last of a pool to begin is soon over.
const BAD: [Kind; 3] = [Kind::SlowestTakeTwiceAsLong, Kind::TakesTwiceAsLong, Kind::FailsOneIn20];

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::FailsOneIn20 => "fails 5 %",
            Self::TakesTwiceAsLong => "every latency doubled",
            Self::SlowestTakeTwiceAsLong => "slowest 5 % doubled",
        }
    }

    /// Median seconds until it is caught, at most.
    const fn goal_s(self, plane: Plane) -> Option<u64> {
        match (self, plane) {
            (Self::Healthy, _) => None,
            (Self::FailsOneIn20, Plane::Native) => Some(5),
            (Self::FailsOneIn20, Plane::Envoy) => Some(7),
            (Self::TakesTwiceAsLong, _) => Some(10),
            (Self::SlowestTakeTwiceAsLong, _) => Some(30),
        }
    }

    fn canary(self, seed: u64) -> Usual {
        let usual = Usual { fails_one_in: 1000, doubled: Doubled::Nothing, seed };
        match self {
            Self::Healthy => usual,
            Self::FailsOneIn20 => Usual { fails_one_in: 20, ..usual },
            Self::TakesTwiceAsLong => Usual { doubled: Doubled::Everything, ..usual },
            Self::SlowestTakeTwiceAsLong => Usual { doubled: Doubled::Slowest, ..usual },
        }
    }

    /// Errors and latencies against stable, with the default tolerances and the default bound on false rollbacks. A bad release is
    /// kept at 10 % until it is caught, however long that takes; a healthy one goes on as soon as it may.
    fn policy(self, runs: usize) -> String {
        let min = if self == Self::Healthy { "5s" } else { "3m" };
        // The default is wrong once in a hundred, by design: too often for the few releases of a suite.
        let bound = if self == Self::Healthy && runs < ENOUGH { "max_false_rollback: 0.01%\n" } else { "" };
        format!(
            "\
version: 1
name: checkout
route: {{ mesh: shop, router: checkout-router, route: checkout }}
versions: [checkout-v1, checkout-v2]
noise: none
{bound}steps:
  - {{ weight: 10, min: {min}, max: 5m, prove_no_worse_than: 5pp }}
  - {{ weight: 50, min: 2s, max: 5m, prove_no_worse_than: 5pp }}
  - {{ weight: 100, min: 2s }}
gates:
  - {{ name: errors, metric: error_rate, compare: stable }}
  - {{ name: latency, metric: latency, compare: stable, tolerate: 10% }}
"
        )
    }
}

/// A release that has ended.
struct Release {
    kind: Kind,
    end: Value,
    /// From the first bad answer that a client saw to the decision; from the first request on the new version where none of its
    /// answers is bad by itself.
    decided_after: Duration,
    /// Failed requests of the new version.
    failed: u64,
}

#[expect(clippy::disallowed_methods, reason = "the switches of whoever runs the tests")]
fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Waits for the end, longer than for anything else.
async fn end(api: &Api, id: &str) -> Value {
    let began = Monotonic::now();
    loop {
        let view = api.view(id).await;
        if view["finished"] == true {
            return view;
        }
        assert!(began.elapsed() < PATIENCE, "it never ends: {view}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Lets stable become known, releases, and waits for the end.
async fn follow(kind: Kind, api: &Api, load: &Load) -> Release {
    until("stable is known", async || (load.seen("v1").requests >= KNOWN_BY).then_some(())).await;
    let id = api.start_rollout().await;
    let end = end(api, &id).await;
    let seen = load.seen("v2");
    let first_ms = if kind == Kind::FailsOneIn20 { seen.first_failure_ms } else { seen.first_sent_ms };
    let (first_ms, decided_ms) =
        (first_ms.expect("it had traffic"), end["decided_at_ms"].as_i64().expect("it has ended"));
    let decided_after = Duration::from_millis(u64::try_from(decided_ms - first_ms).unwrap_or(0));
    Release { kind, end, decided_after, failed: seen.failed }
}

fn behave(kind: Kind, seed: u64, stable: &Service, canary: &Service) {
    // Each service has draws of its own.
    stable.behave(Behaviour::Usual(Kind::Healthy.canary(2 * seed)));
    canary.behave(Behaviour::Usual(kind.canary(2 * seed + 1)));
}

/// One release, with a daemon, services and load of its own; `None`, and said so, without an Envoy.
async fn release(plane: Plane, (kind, seed): (Kind, u64), policy: String) -> Option<Release> {
    match plane {
        Plane::Native => {
            let world = World::with("", &policy).await;
            behave(kind, seed, &world.stable, &world.canary);
            let load = Load::start(world.daemon.addresses["egress"], HOST, REQUESTS_PER_S);
            let release = follow(kind, &world.daemon, &load).await;
            load.stop().await;
            world.verify().await.expect(0);
            Some(release)
        }
        Plane::Envoy => {
            let world = counts::World::start(&policy, false, counts::directly).await?;
            behave(kind, seed, &world.stable, &world.canary);
            let load = world.load();
            let release = follow(kind, &world.api, &load).await;
            world.took_everything().await;
            world.end(load).await;
            Some(release)
        }
    }
}

/// What the releases of one kind came to.
fn summary(plane: Plane, kind: Kind, releases: &[Release]) -> Value {
    let mut times: Vec<Duration> = releases.iter().map(|release| release.decided_after).collect();
    let mut failed: Vec<u64> = releases.iter().map(|release| release.failed).collect();
    times.sort_unstable();
    failed.sort_unstable();
    let (middle, last) = (releases.len() / 2, releases.len() - 1);
    let wanted = if kind == Kind::Healthy { "succeeded" } else { "rolled_back" };
    json!({
        "plane": format!("{plane:?}"),
        "kind": kind.name(),
        "releases": releases.len(),
        "ended_well": releases.iter().filter(|release| release.end["phase"] == wanted).count(),
        "goal_s": kind.goal_s(plane),
        "median_s": times[middle].as_secs_f64(),
        "longest_s": times[last].as_secs_f64(),
        "failed_median": failed[middle],
        "failed_most": failed[last],
    })
}

/// Whether it is as it must be: every release ended as it should, and where there are enough of them, in time.
fn is_met(summary: &Value) -> bool {
    let is_enough = summary["releases"].as_u64() >= u64::try_from(ENOUGH).ok();
    let in_time = || summary["goal_s"].as_f64().is_none_or(|goal_s| summary["median_s"].as_f64().unwrap() <= goal_s);
    summary["ended_well"] == summary["releases"] && (!is_enough || in_time())
}

#[expect(clippy::print_stderr, reason = "what was measured")]
async fn measure(plane: Plane) {
    let (runs, healthy) = (setting("TIDEGATE_RUNS", 1), setting("TIDEGATE_HEALTHY", 3));
    let bad = BAD.into_iter().flat_map(|kind| std::iter::repeat_n(kind, runs));
    let kinds: Vec<Kind> = bad.chain(std::iter::repeat_n(Kind::Healthy, healthy)).collect();
    let each = kinds.into_iter().zip(1..).map(|(kind, seed)| release(plane, (kind, seed), kind.policy(runs)));
    let at_a_time = setting("TIDEGATE_AT_A_TIME", 3).max(1);
    let ended: Vec<Option<Release>> = futures_util::stream::iter(each).buffer_unordered(at_a_time).collect().await;
    let Some(ended) = ended.into_iter().collect::<Option<Vec<Release>>>() else { return };

    let (mut summaries, mut all) = (Vec::new(), ended);
    for kind in BAD.into_iter().rev().chain([Kind::Healthy]) {
        let (of_kind, others): (Vec<Release>, Vec<Release>) = all.into_iter().partition(|release| release.kind == kind);
        all = others;
        for release in of_kind.iter().filter(|release| release.end["phase"] != "rolled_back" || kind == Kind::Healthy) {
            eprintln!("{plane:?}, {}: {} ({})", kind.name(), release.end["phase"], release.end["reason"]);
        }
        if !of_kind.is_empty() {
            let summary = summary(plane, kind, &of_kind);
            eprintln!("{summary}");
            summaries.push(summary);
        }
    }
    if runs >= ENOUGH {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        std::fs::create_dir_all(&folder).unwrap();
        let text = serde_json::to_string_pretty(&summaries).unwrap();
        std::fs::write(folder.join(format!("e2e-{plane:?}.json").to_lowercase()), text).unwrap();
    }
    let missed: Vec<&Value> = summaries.iter().filter(|summary| !is_met(summary)).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_proxies_catch_what_is_worse_and_let_what_is_healthy_through() {
    measure(Plane::Native).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoys_catch_what_is_worse_and_let_what_is_healthy_through() {
    measure(Plane::Envoy).await;
}
