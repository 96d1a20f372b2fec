//! Several gates as one: the average of their e-values.
//!
//! An average of e-processes is one again *whatever their dependence*, and the same requests make errors and latencies.
//! The product would need independence. With 0.65 on errors, three canary errors out of three at 10 % still suffice
//! (5.109 + ln 0.65 > ln 100).

use super::wealth::log_sum_exp;

/// Part of the wealth that gates on errors share when there are gates on latency beside them; those share the rest.
pub const ERROR_PART: f64 = 0.65;

/// ln(sum of weight * e), each given as (weight, ln e).
///
/// Weights are parts of the initial wealth and sum to 1; others are scaled to do so, since more than all cannot be
/// staked. A weight that is not a positive finite number counts as 0. Evidence that is not a number counts as a bet that
/// was lost. Nothing to combine is no evidence: 0.
#[must_use]
pub fn combine(parts: &[(f64, f64)]) -> f64 {
    let usable = parts.iter().filter(|(weight, _)| weight.is_finite() && *weight > 0.0);
    // Scaled by the largest first: a sum of huge weights would be infinite.
    let largest = usable.clone().map(|(weight, _)| *weight).fold(0.0, f64::max);
    let sum: f64 = usable.clone().map(|(weight, _)| weight / largest).sum();
    let terms =
        usable.filter(|(_, log_e)| !log_e.is_nan()).map(|(weight, log_e)| log_e + (weight / largest / sum).ln());
    match terms.clone().fold(f64::NEG_INFINITY, f64::max) {
        f64::INFINITY => f64::INFINITY,
        _ if largest == 0.0 => 0.0,
        _ => log_sum_exp(terms),
    }
}

/// Parts of the initial wealth where nobody said otherwise, of each gate on errors and of each on latency: those on errors
/// share [`ERROR_PART`] equally and those on latency the rest, or all where there are none of the other kind.
#[must_use]
pub fn usual_parts(errors: usize, latencies: usize) -> (f64, f64) {
    let of_errors = match (errors, latencies) {
        (0, _) => 0.0,
        (_, 0) => 1.0,
        (_, _) => ERROR_PART,
    };
    let each = |part: f64, gates: usize| if gates == 0 { 0.0 } else { part / gates as f64 };
    (each(of_errors, errors), each(1.0 - of_errors, latencies))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::evidence::ErrorEvidence;
    use crate::judge::latency::{LatencyCounts, LatencyEvidence};
    use crate::judge::{Counts, Tolerance, rollback_threshold};
    use proptest::prelude::*;

    /// Gates as one, with the usual parts.
    fn combine_gates(errors: &[f64], latencies: &[f64]) -> f64 {
        let (of_errors, of_latencies) = usual_parts(errors.len(), latencies.len());
        let errors = errors.iter().map(|log_e| (of_errors, *log_e));
        combine(&errors.chain(latencies.iter().map(|log_e| (of_latencies, *log_e))).collect::<Vec<_>>())
    }

    #[test]
    fn the_average_is_that_of_the_reference() {
        // V12 of the reference vectors.
        let mut errors = ErrorEvidence::new(Tolerance::NONE);
        errors.batch(0.1, &Counts { canary_requests: 30, canary_errors: 3, stable_requests: 270, stable_errors: 0 });
        let mut latency = LatencyEvidence::new();
        let slower = LatencyCounts {
            canary_requests: 100,
            canary_slower: [60, 40, 20, 12, 5, 1],
            stable_requests: 900,
            stable_slower: [450, 225, 90, 45, 9, 1],
        };
        latency.batch(0.1, &slower);
        let (errors, latency) = (errors.log_e(), latency.log_e());
        assert!((combine(&[(0.65, errors), (0.35, latency)]) - 4.699_559_480_734).abs() < 1e-9);
        assert!((combine_gates(&[errors], &[latency]) - 4.699_559_480_734).abs() < 1e-9);
    }

    #[test]
    fn three_errors_out_of_three_are_enough_beside_latency() {
        let mut errors = ErrorEvidence::new(Tolerance::NONE);
        errors.batch(0.1, &Counts { canary_requests: 3, canary_errors: 3, stable_requests: 27, stable_errors: 0 });
        assert!(combine_gates(&[errors.log_e()], &[-50.0]) >= rollback_threshold(0.01));
    }

    #[test]
    fn a_gate_alone_has_all_the_wealth_and_none_has_no_evidence() {
        assert_eq!(combine_gates(&[], &[]), 0.0);
        assert_eq!(combine_gates(&[3.0], &[]), 3.0);
        assert_eq!(combine_gates(&[], &[-2.0]), -2.0);
        assert!((combine_gates(&[0.0, 2.0], &[]) - ((1.0 + 2.0_f64.exp()) / 2.0).ln()).abs() < 1e-12);
    }

    #[test]
    fn senseless_weights_and_evidence_do_no_harm() {
        assert_eq!(combine(&[]), 0.0);
        assert_eq!(combine(&[(0.0, 9.0), (-1.0, 9.0), (f64::NAN, 9.0), (f64::INFINITY, 9.0)]), 0.0);
        // Staking twice what there is would double the chance of a false rollback.
        assert!((combine(&[(1.0, 4.0), (1.0, 4.0)]) - 4.0).abs() < 1e-12);
        assert!((combine(&[(f64::MAX, 4.0), (f64::MAX, 4.0)]) - 4.0).abs() < 1e-12);
        assert!((combine(&[(0.5, f64::NAN), (0.5, 4.0)]) - (4.0 - std::f64::consts::LN_2)).abs() < 1e-12);
        assert_eq!(combine(&[(1.0, f64::NAN)]), f64::NEG_INFINITY);
        assert_eq!(combine(&[(0.5, f64::INFINITY), (0.5, 1.0)]), f64::INFINITY);
    }

    proptest! {
        #[test]
        fn an_average_lies_between_its_parts(parts in prop::collection::vec((0.01..1.0, -1e4..1e4), 1..6)) {
            let evidence = || parts.iter().map(|(_, log_e)| *log_e);
            let (least, most) = (evidence().fold(f64::MAX, f64::min), evidence().fold(f64::MIN, f64::max));
            let mean = combine(&parts);
            prop_assert!((least - 1e-9..=most + 1e-9).contains(&mean), "{mean} of {parts:?}");
        }

        #[test]
        fn no_input_makes_it_not_a_number(parts in prop::collection::vec((any::<f64>(), any::<f64>()), 0..6)) {
            prop_assert!(!combine(&parts).is_nan());
        }
    }
}
