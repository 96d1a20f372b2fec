//! Vectors of an independent implementation, outcomes, properties, and Ville's bound by seeded simulation.

use super::*;
use crate::judge::rollback_threshold;
use crate::judge::tests::chance::{Chance, LOOKS, REPLICATIONS, about_equal, agrees, most_crossings};
use proptest::prelude::*;

const LEVEL: f64 = 0.05;

const fn counts(canary_requests: u64, canary_errors: u64, stable_requests: u64, stable_errors: u64) -> Counts {
    Counts { canary_requests, canary_errors, stable_requests, stable_errors }
}

/// What a vector does: a batch (requests, events), or the opening of an epoch.
enum Act {
    Batch(u64, u64),
    Epoch,
}
use Act::{Batch, Epoch};

#[test]
fn vectors_of_the_reference() {
    // From tests/reference/judge.py.
    for (name, limit, acts, want) in [
        ("A1 nothing yet", 0.01, vec![Batch(0, 0)], vec![0.000000000000]),
        (
            "A2 dead at 1 %",
            0.01,
            vec![Batch(1, 1), Batch(1, 1), Batch(1, 1)],
            vec![2.595168948670, 6.738522543321, 11.107897390914],
        ),
        ("A3 at the limit", 0.01, vec![Batch(1000, 10), Batch(9000, 90)], vec![-0.647512205838, -0.693138298649]),
        (
            "A4 twice the limit, epochs",
            0.01,
            vec![Batch(1000, 5), Epoch, Batch(1000, 20), Epoch, Batch(1000, 20)],
            vec![-0.687751880319, 1.126905302695, 4.721280761226],
        ),
        ("A5 p50", 0.5, vec![Batch(100, 80), Epoch, Batch(100, 40)], vec![16.651091555375, 1.296964295167]),
        ("A6 p99.9", 0.001, vec![Batch(100_000, 100), Batch(10_000, 60)], vec![-0.693139240442, 6.893136520682]),
        (
            "A7 a million",
            0.01,
            vec![Batch(1_000_000, 10_000), Batch(1_000_000, 20_000)],
            vec![-std::f64::consts::LN_2, 2185.874488893057],
        ),
    ] {
        let (mut evidence, mut want) = (LimitEvidence::new(limit), want.into_iter());
        for act in acts {
            match act {
                Epoch => evidence.epoch(),
                Batch(requests, events) => {
                    evidence.batch(requests, events);
                    agrees(name, evidence.log_e(), want.next().expect("one value for each batch"));
                }
            }
        }
        assert!(want.next().is_none(), "{name}: too many values");
    }
}

#[test]
fn a_senseless_limit_is_moved_inside() {
    for limit in [f64::NAN, 2.0, f64::INFINITY] {
        let mut evidence = LimitEvidence::new(limit);
        evidence.batch(1000, 1000);
        assert!(evidence.log_e() <= 1e-9, "{limit}: nothing exceeds it");
    }
    for limit in [0.0, -1.0, f64::NEG_INFINITY] {
        let mut evidence = LimitEvidence::new(limit);
        evidence.batch(1000, 0);
        assert!(evidence.log_e() <= 0.0);
        evidence.batch(2, 2);
        assert!(evidence.log_e() > rollback_threshold(0.01), "{limit}: two events are beyond it");
    }
}

fn outcome(limit: Limit, share: f64, counts: &Counts) -> Outcome {
    let mut gate = AbsoluteGate::new(limit);
    gate.batch(share, counts);
    gate.outcome(rollback_threshold(0.01), share < 1.0)
}

#[test]
fn only_a_canary_that_stands_out_is_blamed() {
    let max = Limit::AtMost(0.01);
    for (share, counts, wanted) in [
        (0.1, counts(0, 0, 0, 0), Outcome::Within),
        (0.1, counts(1000, 10, 9000, 90), Outcome::Within),
        (0.1, counts(1930, 60, 17_400, 12), Outcome::CanaryBreaches),
        (0.1, counts(1930, 60, 17_400, 500), Outcome::BothBreach),
        (0.1, counts(193, 2, 17_400, 500), Outcome::StableBreaches),
        // An incident of both while the canary has most of the traffic: its evidence is there first.
        (0.95, counts(190, 19, 10, 1), Outcome::Unattributed),
        // At 100 % there is nothing to compare with.
        (1.0, counts(190, 19, 0, 0), Outcome::CanaryBreaches),
    ] {
        assert_eq!(outcome(max, share, &counts), wanted, "{counts:?}");
    }
}

#[test]
fn with_all_the_traffic_what_stable_did_before_holds_nothing_and_excuses_much() {
    for (counts, compared, full) in [
        (counts(1000, 1, 9000, 900), Outcome::StableBreaches, Outcome::Within),
        (counts(1000, 100, 9000, 900), Outcome::BothBreach, Outcome::BothBreach),
        (counts(1000, 100, 9000, 9), Outcome::CanaryBreaches, Outcome::CanaryBreaches),
    ] {
        let mut gate = AbsoluteGate::new(Limit::AtMost(0.02));
        gate.batch(0.1, &counts);
        let threshold = rollback_threshold(0.01);
        assert_eq!((gate.outcome(threshold, true), gate.outcome(threshold, false)), (compared, full), "{counts:?}");
    }
}

#[test]
fn a_limit_from_below_is_the_mirror_image() {
    let (min, max) = (Limit::AtLeast(0.99), Limit::AtMost(0.01));
    for (share, n_c, k_c, n_b, k_b) in [(0.5, 400, 40, 400, 1), (0.5, 400, 40, 400, 40), (1.0, 100, 0, 0, 0)] {
        let good = counts(n_c, n_c - k_c, n_b, n_b - k_b);
        assert_eq!(outcome(min, share, &good), outcome(max, share, &counts(n_c, k_c, n_b, k_b)));
    }
    assert_eq!((min.share(), max.share()), (0.99, 0.01));
    // A median that must not be below some latency: at least half of the requests are slower than that.
    assert_eq!(quantile_limit(0.5, false), Limit::AtLeast(0.5));
    assert_eq!(outcome(quantile_limit(0.5, false), 0.5, &counts(400, 100, 400, 210)), Outcome::CanaryBreaches);
    // p99 at most so much: at most 1 % are slower.
    assert!((quantile_limit(0.99, true).share() - 0.01).abs() < 1e-12);
}

#[test]
fn outcomes_say_what_to_do_and_keep_their_written_form() {
    for (outcome, fails, holds, pages, json) in [
        (Outcome::Within, false, false, false, "\"within\""),
        (Outcome::CanaryBreaches, true, false, false, "\"canary_breaches\""),
        (Outcome::Unattributed, false, true, false, "\"unattributed\""),
        (Outcome::BothBreach, false, true, true, "\"both_breach\""),
        (Outcome::StableBreaches, false, true, true, "\"stable_breaches\""),
    ] {
        assert_eq!((outcome.fails(), outcome.holds(), outcome.pages()), (fails, holds, pages));
        assert_eq!(serde_json::to_string(&outcome).unwrap(), json);
        assert_eq!(serde_json::from_str::<Outcome>(json).unwrap(), outcome);
    }
}

/// Number of replications in which the gate ever fails, and in which the canary's evidence alone would have.
fn failures(share: f64, rates_at: impl Fn(u32) -> (f64, f64)) -> (u32, u32) {
    let threshold = rollback_threshold(LEVEL);
    let (mut failed, mut alone) = (0, 0);
    for replication in 0..REPLICATIONS {
        let mut chance = Chance(u64::from(replication) + 3_000_001);
        let mut gate = AbsoluteGate::new(Limit::AtMost(0.05));
        let (mut fails, mut crosses) = (false, false);
        for look in 0..LOOKS {
            if look > 0 && look % 20 == 0 {
                gate.epoch();
            }
            let (p_canary, p_stable) = rates_at(look);
            gate.batch(share, &chance.batch(40, share, p_canary, p_stable));
            fails |= gate.outcome(threshold, share < 1.0).fails();
            crosses |= gate.canary_log_e() >= threshold;
        }
        failed += u32::from(fails);
        alone += u32::from(crosses);
    }
    (failed, alone)
}

#[test]
fn a_canary_within_the_limit_or_no_worse_than_stable_fails_no_more_often_than_promised() {
    let incident = |look: u32| if look < 40 { 0.01 } else { 0.3 };
    for (name, share, (failed, alone)) in [
        ("at the limit, stable at zero", 0.5, failures(0.5, |_| (0.05, 0.0))),
        ("at the limit at 100 %", 1.0, failures(1.0, |_| (0.05, 0.0))),
    ] {
        assert!(alone <= most_crossings(LEVEL), "{name} at {share}: {alone} of {REPLICATIONS}");
        assert!(failed <= alone, "{name} at {share}: {failed} of {REPLICATIONS}");
        assert!(alone > 0, "{name}: a bound that is never neared is not being tested");
    }
    for share in [0.1, 0.5, 0.95] {
        let (failed, alone) = failures(share, |look| (incident(look), incident(look)));
        assert!(failed <= most_crossings(LEVEL), "incident of both at {share}: {failed} of {REPLICATIONS}");
        assert!(alone > REPLICATIONS * 9 / 10, "at {share}: without the danger there is nothing to guard against");
    }
}

#[test]
fn the_simulation_can_fail() {
    for share in [0.1, 0.5, 1.0] {
        let (failed, _) = failures(share, |_| (0.3, 0.01));
        assert!(failed > REPLICATIONS * 9 / 10, "at {share}: {failed} of {REPLICATIONS}");
    }
}

proptest! {
    #[test]
    fn merging_and_order_within_an_epoch_are_neutral(
        limit in 0.001..0.999, batches in prop::collection::vec((0_u64..10_000, 0.0..=1.0), 1..8)
    ) {
        let events = |(requests, part): &(u64, f64)| ((*requests as f64 * part) as u64).min(*requests);
        let mut forth = LimitEvidence::new(limit);
        let (mut back, mut merged) = (forth.clone(), forth.clone());
        batches.iter().for_each(|batch| forth.batch(batch.0, events(batch)));
        batches.iter().rev().for_each(|batch| back.batch(batch.0, events(batch)));
        merged.batch(batches.iter().map(|batch| batch.0).sum(), batches.iter().map(events).sum());
        prop_assert!(about_equal(forth.log_e(), back.log_e()), "{} {}", forth.log_e(), back.log_e());
        prop_assert!(about_equal(forth.log_e(), merged.log_e()), "{} {}", forth.log_e(), merged.log_e());
    }

    #[test]
    fn an_event_never_speaks_for_an_arm_and_a_lower_limit_never_either(
        limit in 0.001..0.5, requests in 1_u64..10_000, part in 0.0..1.0
    ) {
        let events = ((requests as f64 * part) as u64).min(requests - 1);
        let after = |limit: f64, requests: u64, events: u64| {
            let mut evidence = LimitEvidence::new(limit);
            evidence.batch(requests, events);
            evidence.log_e()
        };
        let before = after(limit, requests, events);
        prop_assert!(after(limit, requests, events + 1) >= before - 1e-9);
        prop_assert!(after(limit, requests + 1, events) <= before + 1e-9);
        prop_assert!(after(limit / 2.0, requests, events) >= before - 1e-9);
    }

    #[test]
    fn no_input_makes_it_infinite_or_not_a_number(
        limit in any::<f64>(), from_below in any::<bool>(),
        acts in prop::collection::vec((any::<f64>(), any::<[u64; 4]>(), any::<bool>()), 0..20)
    ) {
        let mut gate = AbsoluteGate::new(if from_below { Limit::AtLeast(limit) } else { Limit::AtMost(limit) });
        for (share, [n_c, k_c, n_b, k_b], epoch) in acts {
            if epoch {
                gate.epoch();
            }
            for share in [share, 0.0, 0.5, 1.0] {
                gate.batch(share, &counts(n_c, k_c, n_b, k_b));
                let all = [gate.canary_log_e(), gate.stable_log_e(), gate.worse_log_e()];
                prop_assert!(all.iter().all(|log_e| log_e.is_finite()), "{share}: {all:?}");
            }
        }
    }
}
