//! Reference vectors, properties, and Ville's bound by seeded simulation.

use super::*;
use crate::judge::tests::chance::{Chance, LOOKS, REPLICATIONS, about_equal, agrees, most_crossings};
use crate::judge::{advance_threshold, rollback_threshold};
use proptest::prelude::*;

const fn counts(canary_requests: u64, canary_errors: u64, stable_requests: u64, stable_errors: u64) -> Counts {
    Counts { canary_requests, canary_errors, stable_requests, stable_errors }
}

/// What a vector does: a batch, or the opening of an epoch.
enum Act {
    Batch(f64, [u64; 4]),
    Epoch,
}
use Act::{Batch, Epoch};

fn check_error_vector(name: &str, mut evidence: ErrorEvidence, acts: &[Act], want: &[f64]) {
    let mut want = want.iter();
    for act in acts {
        match act {
            Epoch => evidence.epoch(),
            Batch(share, [n_c, k_c, n_b, k_b]) => {
                evidence.batch(*share, &counts(*n_c, *k_c, *n_b, *k_b));
                agrees(name, evidence.log_e(), *want.next().expect("one value for each batch"));
            }
        }
    }
    assert!(want.next().is_none(), "{name}: too many values");
}

#[test]
fn reference_vectors_of_the_error_evidence() {
    let plain = || ErrorEvidence::new(Tolerance::NONE);
    let one = || Batch(0.1, [10, 1, 90, 0]);
    check_error_vector(
        "V1 three canary errors at 10 %, no stable error",
        plain(),
        &[one(), one(), one()],
        &[1.148360888102, 2.994706850912, 5.109084807511],
    );
    check_error_vector(
        "V2 healthy: errors split 1:9",
        plain(),
        &[Batch(0.1, [1000, 1, 9000, 9]), Batch(0.1, [1000, 2, 9000, 18]), Batch(0.1, [1000, 10, 9000, 90])],
        &[-0.431284567055, -0.540908096310, -0.654536513961],
    );
    check_error_vector(
        "V3 margin rho = 1.2, d = 0.001",
        ErrorEvidence::new(Tolerance::new(1.2, 0.001)),
        &[Batch(0.1, [100, 0, 900, 1]), Batch(0.1, [100, 5, 900, 1]), Batch(0.1, [100, 7, 900, 2])],
        &[-0.338532509206, 3.724251689055, 12.930427490916],
    );
    check_error_vector(
        "V4 epochs and weight change",
        plain(),
        &[Batch(0.05, [50, 0, 950, 1]), Epoch, Batch(0.25, [250, 4, 750, 1]), Epoch, Batch(0.5, [500, 9, 500, 2])],
        &[-0.224362369536, 1.878320150803, 3.765710573633],
    );
    check_error_vector(
        "V5 no traffic, degenerate weights",
        plain(),
        &[Batch(0.1, [0, 0, 0, 0]), Batch(0.0, [0, 0, 100, 3]), Batch(1.0, [100, 50, 0, 0])],
        &[0.0, 0.0, 0.0],
    );
    check_error_vector(
        "V6 without restarts",
        ErrorEvidence::without_restarts(Tolerance::NONE),
        &[Batch(0.5, [100, 3, 100, 1]), Batch(0.5, [100, 6, 100, 1])],
        &[-0.036418551945, 1.540427405402],
    );
    check_error_vector(
        "V7 a million errors",
        plain(),
        &[
            Batch(0.1, [100_000_000, 100_000, 900_000_000, 900_000]),
            Batch(0.1, [100_000_000, 200_000, 900_000_000, 900_000]),
        ],
        // Printed as -0.693147180560: the bets are lost and half is left in reserve.
        &[-std::f64::consts::LN_2, 19177.191944368915],
    );
}

#[test]
fn reference_vector_of_the_safety_evidence() {
    let mut evidence = SafetyEvidence::new(0.01, 1.0);
    for (share, batch, want) in [
        (0.1, counts(100, 0, 900, 0), 0.520917814734),
        (0.1, counts(300, 1, 2700, 3), 1.155128297379),
        (0.25, counts(500, 0, 1500, 2), 5.254108215158),
    ] {
        evidence.batch(share, &batch);
        agrees("V8 margin 1 pp", evidence.log_e(), want);
    }
    evidence.batch(1.0, &counts(100, 50, 0, 0));
    agrees("V8 then a share of 1", evidence.log_e(), 5.254108215158);
}

#[test]
fn three_errors_out_of_three_at_ten_percent_are_enough() {
    let mut evidence = ErrorEvidence::new(Tolerance::NONE);
    evidence.batch(0.1, &counts(2, 2, 18, 0));
    assert!(evidence.log_e() < rollback_threshold(0.01));
    evidence.batch(0.1, &counts(1, 1, 9, 0));
    assert!(evidence.log_e() >= rollback_threshold(0.01));
}

#[test]
fn an_epoch_costs_nothing_and_shortens_the_memory() {
    // Opening an epoch moves wealth from the reserve into bets: no evidence appears or is lost.
    let mut evidence = ErrorEvidence::new(Tolerance::NONE);
    for _ in 0..1000 {
        evidence.epoch();
        agrees("idle epochs", evidence.log_e(), 0.0);
    }
    // After a long healthy past a fault is found far sooner with an epoch between than without.
    let (mut with, mut without) = (ErrorEvidence::new(Tolerance::NONE), ErrorEvidence::new(Tolerance::NONE));
    with.batch(0.5, &counts(10_000, 100, 10_000, 100));
    without.batch(0.5, &counts(10_000, 100, 10_000, 100));
    with.epoch();
    with.batch(0.5, &counts(100, 15, 100, 0));
    without.batch(0.5, &counts(100, 15, 100, 0));
    assert!(with.log_e() > without.log_e() + 1.0, "{} {}", with.log_e(), without.log_e());
}

#[test]
fn requests_to_proof_are_exactly_enough() {
    let threshold = advance_threshold(0.95);
    for (margin, ratio, before) in [
        (0.02, 1.0, counts(0, 0, 0, 0)),
        (0.02, 1.0, counts(100, 3, 900, 2)),
        (0.005, 1.2, counts(10_000, 40, 90_000, 300)),
        (1.0, 1.0, counts(0, 0, 0, 0)),
        (1e-6, 1.0, counts(50, 10, 50, 0)),
    ] {
        let mut evidence = SafetyEvidence::new(margin, ratio);
        evidence.batch(0.1, &before);
        let needed = evidence.requests_to_proof(0.1, threshold).expect("a number of requests proves it");
        assert!(needed > 0 || evidence.log_e() >= threshold);
        if needed > 0 {
            let mut one_fewer = evidence.clone();
            one_fewer.batch(0.1, &counts(needed - 1, 0, 0, 0));
            assert!(one_fewer.log_e() < threshold, "margin {margin}: {needed} is too many");
        }
        evidence.batch(0.1, &counts(needed, 0, 0, 0));
        assert!(evidence.log_e() >= threshold, "margin {margin}: {needed} is too few");
        assert_eq!(evidence.requests_to_proof(0.1, threshold), Some(0));
    }
    // The rule of three for a fresh gate, with what the mixture costs on top: ln(20) / 0.02 = 150.
    let fresh = SafetyEvidence::new(0.02, 1.0).requests_to_proof(0.1, threshold).expect("provable");
    assert!((150..=240).contains(&fresh), "{fresh}");
}

#[test]
fn nothing_proves_without_a_margin_a_coin_or_a_threshold() {
    let threshold = advance_threshold(0.95);
    assert_eq!(SafetyEvidence::new(0.0, 1.0).requests_to_proof(0.1, threshold), None);
    assert_eq!(SafetyEvidence::new(f64::NAN, 1.0).requests_to_proof(0.1, threshold), None);
    for share in [0.0, 1.0, -0.1, f64::NAN] {
        assert_eq!(SafetyEvidence::new(0.02, 1.0).requests_to_proof(share, threshold), None);
    }
    assert_eq!(SafetyEvidence::new(0.02, 1.0).requests_to_proof(0.1, f64::INFINITY), None);
    assert_eq!(SafetyEvidence::new(0.02, 1.0).requests_to_proof(0.1, f64::NAN), None);
    // A hopeless past asks for a great many requests, and the search for them still ends.
    let mut hopeless = SafetyEvidence::new(1e-9, 1.0);
    hopeless.batch(0.1, &counts(u64::MAX, u64::MAX, 0, 0));
    assert!(hopeless.requests_to_proof(0.1, threshold).is_some());
}

/// Number of replications in which evidence that is looked at after each batch ever reaches the threshold of 5 %.
fn false_rollbacks(tolerance: Tolerance, share_at: impl Fn(u32) -> f64, rates_at: impl Fn(u32) -> (f64, f64)) -> u32 {
    (0..REPLICATIONS)
        .filter(|replication| {
            let mut chance = Chance(u64::from(*replication) + 1);
            let mut evidence = ErrorEvidence::new(tolerance);
            (0..LOOKS).any(|look| {
                if look > 0 && look % 20 == 0 {
                    evidence.epoch();
                }
                let (p_canary, p_stable) = rates_at(look);
                evidence.batch(share_at(look), &chance.batch(40, share_at(look), p_canary, p_stable));
                evidence.log_e() >= rollback_threshold(0.05)
            })
        })
        .count() as u32
}

#[test]
fn healthy_releases_are_rolled_back_no_more_often_than_promised() {
    let ramp = |look: u32| [0.05, 0.1, 0.25, 0.5][(look / 20) as usize];
    let incident = |look: u32| if (30..60).contains(&look) { 0.4 } else { 0.01 };
    for (world, tolerance, crossings) in [
        ("steady", Tolerance::NONE, false_rollbacks(Tolerance::NONE, ramp, |_| (0.05, 0.05))),
        (
            "common incident",
            Tolerance::NONE,
            false_rollbacks(Tolerance::NONE, ramp, |look| (incident(look), incident(look))),
        ),
        ("at the edge of an additive tolerance", Tolerance::new(1.0, 0.02), {
            false_rollbacks(Tolerance::new(1.0, 0.02), ramp, |_| (0.04, 0.02))
        }),
        ("at the edge of a ratio", Tolerance::new(1.5, 0.0), {
            false_rollbacks(Tolerance::new(1.5, 0.0), ramp, |_| (0.09, 0.06))
        }),
    ] {
        assert!(crossings <= most_crossings(0.05), "{world}, {tolerance:?}: {crossings} of {REPLICATIONS}");
    }
}

#[test]
fn the_simulation_can_fail() {
    // Told a tolerance that the canary does not keep, the same simulation must find nearly all of them.
    let crossings = false_rollbacks(Tolerance::NONE, |_| 0.25, |_| (0.2, 0.02));
    assert!(crossings > REPLICATIONS * 9 / 10, "{crossings}");
}

#[test]
fn a_release_at_the_margin_is_called_safe_no_more_often_than_promised() {
    let crossings = (0..REPLICATIONS)
        .filter(|replication| {
            let mut chance = Chance(u64::from(*replication) + 1_000_001);
            let mut evidence = SafetyEvidence::new(0.05, 1.0);
            (0..LOOKS).any(|_| {
                evidence.batch(0.3, &chance.batch(40, 0.3, 0.07, 0.02));
                evidence.log_e() >= advance_threshold(0.95)
            })
        })
        .count() as u32;
    assert!(crossings <= most_crossings(0.05), "{crossings} of {REPLICATIONS}");
    assert!(crossings > 0, "a bound that is never neared is not being tested");
}

/// Counts that make sense: no more errors than requests.
fn any_counts(most: u64) -> impl Strategy<Value = Counts> {
    (0..=most, 0.0..=1.0, 0..=most, 0.0..=1.0).prop_map(|(canary, canary_rate, stable, stable_rate)| {
        let part = |whole: u64, rate: f64| ((whole as f64 * rate) as u64).min(whole);
        counts(canary, part(canary, canary_rate), stable, part(stable, stable_rate))
    })
}

fn any_tolerance() -> impl Strategy<Value = Tolerance> {
    (1.0..3.0, prop_oneof![Just(0.0), 0.0..0.1]).prop_map(|(ratio, add)| Tolerance::new(ratio, add))
}

proptest! {
    #[test]
    fn merging_batches_of_one_share_changes_nothing(
        tolerance in any_tolerance(), share in 0.01..0.99, batches in prop::collection::vec(any_counts(10_000), 1..8)
    ) {
        let (mut apart, mut safe_apart) = (ErrorEvidence::new(tolerance), SafetyEvidence::new(0.01, 1.0));
        let (mut merged, mut safe_merged) = (apart.clone(), safe_apart.clone());
        let mut sum = Counts::default();
        for batch in &batches {
            apart.batch(share, batch);
            safe_apart.batch(share, batch);
            sum.add(batch);
        }
        merged.batch(share, &sum);
        safe_merged.batch(share, &sum);
        prop_assert!(about_equal(apart.log_e(), merged.log_e()), "{} {}", apart.log_e(), merged.log_e());
        prop_assert!(about_equal(safe_apart.log_e(), safe_merged.log_e()));
    }

    #[test]
    fn the_order_within_an_epoch_is_neutral(
        tolerance in any_tolerance(), batches in prop::collection::vec((0.01..0.99, any_counts(1000)), 1..8)
    ) {
        let (mut forth, mut back) = (ErrorEvidence::new(tolerance), ErrorEvidence::new(tolerance));
        forth.epoch();
        back.epoch();
        batches.iter().for_each(|(share, batch)| forth.batch(*share, batch));
        batches.iter().rev().for_each(|(share, batch)| back.batch(*share, batch));
        prop_assert!(about_equal(forth.log_e(), back.log_e()), "{} {}", forth.log_e(), back.log_e());
    }

    #[test]
    fn one_more_canary_error_never_speaks_for_the_canary(
        tolerance in any_tolerance(), share in 0.01..0.99, past in any_counts(1000), now in any_counts(1000)
    ) {
        let after = |batch: &Counts| {
            let mut evidence = ErrorEvidence::new(tolerance);
            evidence.batch(share, &past);
            evidence.epoch();
            evidence.batch(share, batch);
            evidence.log_e()
        };
        let before = after(&now);
        // Beside the errors there are, and in place of one of stable's.
        let added = Counts { canary_errors: now.canary_errors + 1, ..now };
        prop_assert!(after(&added) >= before - 1e-9);
        let moved = Counts { stable_errors: now.stable_errors.saturating_sub(1), ..added };
        prop_assert!(after(&moved) >= before - 1e-9);
        // And it never speaks for safety.
        let safe = |batch: &Counts| {
            let mut evidence = SafetyEvidence::new(0.01, tolerance.ratio());
            evidence.batch(share, batch);
            evidence.log_e()
        };
        prop_assert!(safe(&added) <= safe(&now) + 1e-9);
    }

    #[test]
    fn no_input_makes_it_infinite_or_not_a_number(
        ratio in any::<f64>(), add in any::<f64>(), margin in any::<f64>(),
        acts in prop::collection::vec((any::<f64>(), 0.0..1.0, any::<[u64; 4]>(), any::<bool>()), 0..20)
    ) {
        let mut worse = ErrorEvidence::new(Tolerance::new(ratio, add));
        let mut safe = SafetyEvidence::new(margin, ratio);
        for (wild_share, share, [n_c, k_c, n_b, k_b], epoch) in acts {
            if epoch {
                worse.epoch();
            }
            for share in [wild_share, share, f64::MIN_POSITIVE, 1.0 - f64::EPSILON / 2.0] {
                worse.batch(share, &counts(n_c, k_c, n_b, k_b));
                safe.batch(share, &counts(n_c, k_c, n_b, k_b));
                prop_assert!(worse.log_e().is_finite(), "{share}: {}", worse.log_e());
                prop_assert!(safe.log_e().is_finite(), "{share}: {}", safe.log_e());
                prop_assert!(safe.requests_to_proof(0.5, 3.0).is_none_or(|_| safe.margin() > 0.0 || safe.log_e() >= 3.0));
            }
        }
    }
}
