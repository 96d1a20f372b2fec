//! Reference vectors, properties, thresholds, and Ville's bound by seeded simulation.

use super::*;
use crate::base::histogram::{BUCKETS, bucket_of, upper_bound_us};
use crate::judge::rollback_threshold;
use crate::judge::tests::chance::{Chance, LOOKS, REPLICATIONS, about_equal, agrees, most_crossings};
use proptest::prelude::*;

const LEVEL: f64 = 0.05;

const fn counts(
    canary_requests: u64,
    canary_slower: [u64; 6],
    stable_requests: u64,
    stable_slower: [u64; 6],
) -> LatencyCounts {
    LatencyCounts { canary_requests, canary_slower, stable_requests, stable_slower }
}

fn histogram(latencies: impl IntoIterator<Item = u64>) -> Histogram {
    let mut histogram = Histogram::default();
    latencies.into_iter().for_each(|latency| histogram.record(latency));
    histogram
}

#[test]
fn reference_vectors() {
    // V9 of the reference vectors.
    let mut evidence = LatencyEvidence::new();
    evidence.batch(0.1, &counts(100, [60, 40, 20, 12, 5, 1], 900, [450, 225, 90, 45, 9, 1]));
    agrees("V9 first", evidence.log_e(), 1.887730335919);
    evidence.epoch();
    evidence.batch(0.1, &counts(100, [62, 41, 22, 13, 4, 1], 900, [455, 221, 92, 44, 10, 0]));
    agrees("V9 second", evidence.log_e(), 6.771081317049);
    for (name, share, batch, want) in [
        // From tests/reference/judge.py.
        ("L1 no traffic", 0.1, counts(0, [0; 6], 0, [0; 6]), 0.000000000000),
        ("L2 nobody slow", 0.5, counts(500, [0; 6], 500, [0; 6]), -0.288914641388),
        ("L3 everybody slow", 0.05, counts(40, [40; 6], 800, [800; 6]), -0.587439126222),
        (
            "L4 canary faster",
            0.25,
            counts(400, [120, 50, 9, 3, 0, 0], 1200, [610, 305, 118, 62, 11, 1]),
            -0.554813609814,
        ),
        (
            "L5 tail only",
            0.5,
            counts(5000, [2500, 1250, 500, 260, 150, 40], 5000, [2480, 1260, 510, 250, 49, 6]),
            22.247817289081,
        ),
    ] {
        let mut evidence = LatencyEvidence::new();
        evidence.batch(share, &batch);
        agrees(name, evidence.log_e(), want);
    }
}

#[test]
fn failures_are_counted_to_the_canarys_advantage() {
    let plain = counts(90, [50, 20, 9, 4, 1, 0], 880, [440, 220, 88, 44, 9, 1]);
    let failures = Counts { canary_requests: 100, canary_errors: 10, stable_requests: 900, stable_errors: 20 };
    let wanted = counts(100, [50, 20, 9, 4, 1, 0], 900, [460, 240, 108, 64, 29, 21]);
    assert_eq!(plain.with_failures(&failures), wanted);
    assert_eq!(plain.with_failures(&Counts::default()), plain);
}

// === thresholds ===

#[test]
fn thresholds_lie_on_bounds_at_or_above_the_quantiles() {
    let baseline = histogram((1..=10_000).map(|rank| rank * 20));
    let thresholds = LatencyThresholds::choose(&baseline, 0.0).expect("there are latencies");
    assert_eq!(thresholds.stable_us(), [106_496, 163_840, 180_224, 196_608, 212_992, 212_992]);
    for (bound, quantile) in thresholds.stable_us().into_iter().zip(QUANTILES) {
        assert!(bound as f64 >= quantile * 200_000.0 && bound as f64 <= quantile * 200_000.0 * 1.125, "{bound}");
    }
    // Without a tolerance both arms have the same ones, so that nothing is tolerated by snapping either.
    assert_eq!(thresholds.canary_us(), thresholds.stable_us().map(Some));
    assert!((0..6).all(|quantile| thresholds.tolerated(quantile) == Some(0.0)));
    assert_eq!(thresholds.tolerated(6), None);
    assert_eq!(LatencyThresholds::choose(&Histogram::default(), 0.1), None);
}

#[test]
fn what_is_tolerated_is_no_less_than_asked_for_and_less_than_a_bucket_more() {
    for bucket in 0..BUCKETS - 1 {
        let bound = upper_bound_us(bucket).expect("not the last");
        let same = LatencyThresholds::choose(&histogram([bound - 1; 10]), 0.1).expect("there are latencies");
        assert_eq!(same.stable_us(), [bound; 6], "all alike, all the same threshold");
        match same.tolerated(0) {
            Some(tolerated) => assert!((0.1 - 1e-9..0.2 + 1e-9).contains(&tolerated), "{bound}: {tolerated}"),
            None => assert!(bound as f64 * 1.1 > f64::from(1 << 27), "{bound}"),
        }
    }
    // 1.1 times 640 is 704, a bound: it is not skipped for the sake of a rounding error.
    let exact = LatencyThresholds::choose(&histogram([639; 10]), 0.1).expect("there are latencies");
    assert_eq!((exact.stable_us()[0], exact.canary_us()[0]), (640, Some(704)));
    // A tolerance that makes no sense is none.
    for tolerance in [f64::NAN, -1.0, f64::NEG_INFINITY] {
        let none = LatencyThresholds::choose(&histogram([639; 10]), tolerance).expect("there are latencies");
        assert_eq!(none.canary_us(), [Some(640); 6]);
    }
}

#[test]
fn beyond_the_last_bound_nothing_is_too_slow() {
    let slow = histogram([200_000_000; 10]);
    let thresholds = LatencyThresholds::choose(&slow, 0.1).expect("there are latencies");
    assert_eq!((thresholds.stable_us(), thresholds.canary_us()), ([1 << 27; 6], [None; 6]));
    assert_eq!(thresholds.tolerated(0), None);
    assert_eq!(thresholds.counts(&slow, &slow), counts(10, [0; 6], 10, [10; 6]));
    let wild = LatencyThresholds::choose(&slow, f64::INFINITY).expect("there are latencies");
    assert_eq!(wild.canary_us(), [None; 6]);
}

#[test]
fn a_narrow_distribution_is_judged_all_the_same() {
    let alike = histogram([5000; 2000]);
    let thresholds = LatencyThresholds::choose(&alike, 0.1).expect("there are latencies");
    let judged = |canary: &Histogram| {
        let mut evidence = LatencyEvidence::new();
        evidence.batch(0.1, &thresholds.counts(canary, &histogram([5000; 180])));
        evidence.log_e()
    };
    assert!(judged(&histogram([5000; 20])) < 0.0);
    assert!(judged(&histogram([9000; 20])) > rollback_threshold(0.01));
}

#[test]
fn the_strongest_quantile_is_the_one_that_moved() {
    assert_eq!(LatencyEvidence::new().strongest(), 0);
    for (moved, canary) in [(1, [500, 420, 100, 50, 10, 1]), (4, [500, 250, 100, 50, 60, 1])] {
        let mut evidence = LatencyEvidence::new();
        evidence.batch(0.1, &counts(1000, canary, 9000, [4500, 2250, 900, 450, 90, 9]));
        assert_eq!(evidence.strongest(), moved);
    }
}

#[test]
fn an_epoch_costs_nothing_and_shortens_the_memory() {
    let mut idle = LatencyEvidence::new();
    for _ in 0..1000 {
        idle.epoch();
        agrees("idle epochs", idle.log_e(), 0.0);
    }
    let (healthy, slow) = (
        counts(10_000, [5000, 2500, 1000, 500, 100, 10], 10_000, [5000, 2500, 1000, 500, 100, 10]),
        counts(100, [80, 60, 40, 20, 5, 0], 100, [50, 25, 10, 5, 1, 0]),
    );
    let (mut with, mut without) = (LatencyEvidence::new(), LatencyEvidence::new());
    with.batch(0.5, &healthy);
    without.batch(0.5, &healthy);
    with.epoch();
    with.batch(0.5, &slow);
    without.batch(0.5, &slow);
    assert!(with.log_e() > without.log_e() + 1.0, "{} {}", with.log_e(), without.log_e());
}

// === simulation ===

/// How a world makes its latencies and failures, by look.
struct World {
    /// Factor on every latency.
    slowdown: fn(u32) -> f64,
    /// Factor on the canary's.
    canary: f64,
    /// Chance of failing: canary, stable.
    failing: (f64, f64),
    /// Steps that a latency is rounded up to, in microseconds.
    grain: u64,
}

const HEALTHY: World = World { slowdown: |_| 1.0, canary: 1.0, failing: (0.0, 0.0), grain: 1 };

impl World {
    fn latency_us(&self, chance: &mut Chance, look: u32, factor: f64) -> u64 {
        let latency = 50_000.0 * (0.6 * chance.bell()).exp() * (self.slowdown)(look) * factor;
        (latency as u64).div_ceil(self.grain) * self.grain
    }

    /// Counts of 40 requests, and their failures.
    fn batch(
        &self,
        chance: &mut Chance,
        look: u32,
        share: f64,
        thresholds: &LatencyThresholds,
    ) -> (LatencyCounts, Counts) {
        let (mut canary, mut stable, mut failures) = (Histogram::default(), Histogram::default(), Counts::default());
        for _ in 0..40 {
            match (chance.draw() < share, chance.draw()) {
                (true, luck) if luck < self.failing.0 => failures.canary_errors += 1,
                (false, luck) if luck < self.failing.1 => failures.stable_errors += 1,
                (true, _) => canary.record(self.latency_us(chance, look, self.canary)),
                (false, _) => stable.record(self.latency_us(chance, look, 1.0)),
            }
        }
        (thresholds.counts(&canary, &stable), failures)
    }

    /// Number of replications in which evidence that is looked at after each batch ever reaches the threshold: from
    /// successful requests alone, and with failures counted in.
    fn rollbacks(&self, tolerance: f64) -> [u32; 2] {
        let ramp = |look: u32| [0.05, 0.1, 0.25, 0.5][(look / 20) as usize];
        let mut rolled_back = [0, 0];
        for replication in 0..REPLICATIONS {
            let mut chance = Chance(u64::from(replication) + 7_000_001);
            let before = histogram((0..500).map(|_| self.latency_us(&mut chance, 0, 1.0)));
            let thresholds = LatencyThresholds::choose(&before, tolerance).expect("there are latencies");
            let (mut evidence, mut crossed) = ([LatencyEvidence::new(), LatencyEvidence::new()], [false, false]);
            for look in 0..LOOKS {
                if look > 0 && look % 20 == 0 {
                    evidence.iter_mut().for_each(LatencyEvidence::epoch);
                }
                let (counts, failures) = self.batch(&mut chance, look, ramp(look), &thresholds);
                for (index, counts) in [counts, counts.with_failures(&failures)].iter().enumerate() {
                    evidence[index].batch(ramp(look), counts);
                    crossed[index] |= evidence[index].log_e() >= rollback_threshold(LEVEL);
                }
                if crossed == [true, true] {
                    break;
                }
            }
            rolled_back = [rolled_back[0] + u32::from(crossed[0]), rolled_back[1] + u32::from(crossed[1])];
        }
        rolled_back
    }
}

#[test]
fn releases_that_are_no_slower_are_rolled_back_no_more_often_than_promised() {
    for (name, world, tolerance) in [
        ("healthy", HEALTHY, 0.0),
        ("rounded up to 20 ms", World { grain: 20_000, ..HEALTHY }, 0.0),
        ("all alike", World { grain: 10_000_000, ..HEALTHY }, 0.0),
        (
            "everything slower after a while",
            World { slowdown: |look| if look < 30 { 1.0 } else { 3.0 }, ..HEALTHY },
            0.0,
        ),
        (
            "everything faster after a while",
            World { slowdown: |look| if look < 30 { 1.0 } else { 0.3 }, ..HEALTHY },
            0.0,
        ),
        ("at the edge of what is tolerated", World { canary: 1.1, ..HEALTHY }, 0.1),
        ("both fail equally often", World { failing: (0.1, 0.1), ..HEALTHY }, 0.0),
    ] {
        let [crossings, cautious] = world.rollbacks(tolerance);
        assert!(crossings <= most_crossings(LEVEL), "{name}: {crossings} of {REPLICATIONS}");
        assert!(cautious <= crossings, "{name}: {cautious} of {REPLICATIONS} with failures counted in");
    }
}

#[test]
fn a_release_that_mends_a_failing_stable_is_not_slow() {
    // Stable fails half of its requests and everything got slower since the thresholds were set. The canary fails none,
    // so its part of the successes is larger than the coin says: without the failures that looks like slowness.
    let mended = World { slowdown: |look| if look < 1 { 1.0 } else { 6.0 }, failing: (0.0, 0.5), ..HEALTHY };
    let [plain, cautious] = mended.rollbacks(0.0);
    assert!(
        plain > REPLICATIONS / 2,
        "{plain} of {REPLICATIONS}: without the danger there is nothing to guard against"
    );
    assert!(cautious <= most_crossings(LEVEL), "{cautious} of {REPLICATIONS}");
}

#[test]
fn the_simulation_can_fail() {
    for (world, tolerance) in [
        (World { canary: 1.5, ..HEALTHY }, 0.0),
        (World { canary: 1.5, grain: 20_000, ..HEALTHY }, 0.0),
        (World { canary: 2.0, failing: (0.01, 0.01), ..HEALTHY }, 0.1),
    ] {
        for crossings in world.rollbacks(tolerance) {
            assert!(crossings > REPLICATIONS * 9 / 10, "{crossings} of {REPLICATIONS}");
        }
    }
}

// === properties ===

/// Counts that make sense: no more slow requests than requests, and no more at a higher quantile.
fn any_counts(most: u64) -> impl Strategy<Value = LatencyCounts> {
    let arm = move || {
        (0..=most, prop::array::uniform6(0.0..=1.0)).prop_map(|(requests, parts)| {
            let mut left = requests;
            let slower = parts.map(|part: f64| {
                left = ((left as f64 * part) as u64).min(left);
                left
            });
            (requests, slower)
        })
    };
    (arm(), arm()).prop_map(|((n_c, x_c), (n_b, x_b))| counts(n_c, x_c, n_b, x_b))
}

proptest! {
    #[test]
    fn merging_batches_of_one_share_changes_nothing(
        share in 0.01..0.99, batches in prop::collection::vec(any_counts(10_000), 1..8)
    ) {
        let (mut apart, mut merged) = (LatencyEvidence::new(), LatencyEvidence::new());
        let mut sum = LatencyCounts::default();
        for batch in &batches {
            apart.batch(share, batch);
            sum.add(batch);
        }
        merged.batch(share, &sum);
        prop_assert!(about_equal(apart.log_e(), merged.log_e()), "{} {}", apart.log_e(), merged.log_e());
    }

    #[test]
    fn the_order_within_an_epoch_is_neutral(batches in prop::collection::vec((0.01..0.99, any_counts(1000)), 1..8)) {
        let (mut forth, mut back) = (LatencyEvidence::new(), LatencyEvidence::new());
        forth.epoch();
        back.epoch();
        batches.iter().for_each(|(share, batch)| forth.batch(*share, batch));
        batches.iter().rev().for_each(|(share, batch)| back.batch(*share, batch));
        prop_assert!(about_equal(forth.log_e(), back.log_e()), "{} {}", forth.log_e(), back.log_e());
    }

    #[test]
    fn a_slower_canary_never_looks_better(
        share in 0.01..0.99, past in any_counts(1000), now in any_counts(1000), quantile in 0_usize..6
    ) {
        let after = |batch: &LatencyCounts| {
            let mut evidence = LatencyEvidence::new();
            evidence.batch(share, &past);
            evidence.epoch();
            evidence.batch(share, batch);
            evidence.log_e()
        };
        let before = after(&now);
        // One more canary request beyond one threshold, one fewer of stable's, one more canary request in all that is fast.
        let mut slower = now;
        slower.canary_slower[quantile] = (now.canary_slower[quantile] + 1).min(now.canary_requests);
        prop_assert!(after(&slower) >= before - 1e-9);
        let mut stable_faster = now;
        stable_faster.stable_slower[quantile] = now.stable_slower[quantile].saturating_sub(1);
        prop_assert!(after(&stable_faster) >= before - 1e-9);
        let faster = LatencyCounts { canary_requests: now.canary_requests + 1, ..now };
        prop_assert!(after(&faster) <= before + 1e-9);
    }

    #[test]
    fn failures_never_speak_against_the_canary(
        share in 0.01..0.99, now in any_counts(1000), canary_errors in 0_u64..100, stable_errors in 0_u64..100
    ) {
        let after = |batch: &LatencyCounts| {
            let mut evidence = LatencyEvidence::new();
            evidence.batch(share, batch);
            evidence.log_e()
        };
        let failures = Counts { canary_errors, stable_errors, ..Counts::default() };
        prop_assert!(after(&now.with_failures(&failures)) <= after(&now) + 1e-9);
    }

    #[test]
    fn counts_that_are_told_apart_add_up_again(earlier in any_counts(1000), news in any_counts(1000)) {
        let mut now = earlier;
        now.add(&news);
        prop_assert_eq!(now.beyond(&earlier), news);
        prop_assert_eq!(earlier.beyond(&now).is_empty(), true);
    }

    #[test]
    fn thresholds_rise_and_are_bounds_and_their_counts_fall(
        latencies in prop::collection::vec(0_u64..1_000_000_000, 1..100), tolerance in 0.0..2.0
    ) {
        let all = histogram(latencies.iter().copied());
        let thresholds = LatencyThresholds::choose(&all, tolerance).expect("there are latencies");
        let is_bound = |bound: u64| upper_bound_us(bucket_of(bound) - 1) == Some(bound);
        for (stable, canary) in thresholds.stable_us().into_iter().zip(thresholds.canary_us()) {
            prop_assert!(is_bound(stable) && canary.is_none_or(is_bound));
            let asked = stable as f64 * (1.0 + tolerance);
            prop_assert!(canary.is_none_or(|canary| canary as f64 >= asked - 1e-5 && canary as f64 <= asked * 1.126 + 1.0));
        }
        let LatencyCounts { canary_requests, canary_slower, stable_slower, .. } = thresholds.counts(&all, &all);
        prop_assert_eq!(canary_requests, latencies.len() as u64);
        prop_assert!(thresholds.stable_us().is_sorted() && stable_slower.is_sorted_by(|a, b| a >= b));
        prop_assert!(canary_slower.iter().zip(stable_slower).all(|(canary, stable)| *canary <= stable));
        // At a quantile no more are slower than it says, unless they are beyond the last bound.
        for (slower, quantile) in stable_slower.into_iter().zip(QUANTILES) {
            let beyond_all = latencies.iter().filter(|latency| **latency >= 1 << 27).count() as f64;
            prop_assert!(slower as f64 <= ((1.0 - quantile) * latencies.len() as f64 + 1e-9).max(beyond_all));
        }
    }

    #[test]
    fn no_input_makes_it_infinite_or_not_a_number(
        acts in prop::collection::vec((any::<f64>(), 0.0..1.0, any::<[u64; 7]>(), any::<[u64; 7]>(), any::<bool>()), 0..20)
    ) {
        let mut evidence = LatencyEvidence::default();
        for (wild_share, share, [n_c, x_c @ ..], [n_b, x_b @ ..], epoch) in acts {
            if epoch {
                evidence.epoch();
            }
            for share in [wild_share, share, 0.0, 1.0, f64::MIN_POSITIVE, 1.0 - f64::EPSILON / 2.0] {
                evidence.batch(share, &counts(n_c, x_c, n_b, x_b));
                prop_assert!(evidence.log_e().is_finite(), "{share}: {}", evidence.log_e());
                prop_assert!(evidence.strongest() < QUANTILES.len());
            }
        }
    }
}
