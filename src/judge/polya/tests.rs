//! Reference vectors, properties, and false rollbacks under private noise by seeded simulation.

use super::*;
use crate::judge::evidence::ErrorEvidence;
use crate::judge::rollback_threshold;
use crate::judge::tests::chance::{Chance, LOOKS, REPLICATIONS, about_equal, agrees, most_crossings};
use proptest::prelude::*;

const fn counts(canary_requests: u64, canary_errors: u64, stable_requests: u64, stable_errors: u64) -> Counts {
    Counts { canary_requests, canary_errors, stable_requests, stable_errors }
}

#[test]
fn reference_vector_of_the_urn() {
    let mut evidence = PolyaEvidence::new(Tolerance::new(1.2, 0.0), Noise::new(0.25, 1.0));
    let one = counts(10, 1, 90, 0);
    for (share, batch, want) in [
        (0.1, one, 1.052855030848),
        (0.1, one, 2.446600856081),
        (0.1, one, 3.862977381720),
        (0.1, counts(100, 7, 900, 2), 6.827490263425),
    ] {
        evidence.batch(share, &batch);
        agrees("V10 v = 0.25, rho = 1.2", evidence.log_e(), want);
    }
    evidence.epoch();
    evidence.batch(0.25, &counts(100, 5, 300, 1));
    agrees("V10 after an epoch", evidence.log_e(), 8.747447488721);
}

#[test]
fn next_to_no_noise_it_is_the_plain_evidence() {
    // V11 as an exact sum of logarithms gives it. The reference subtracts logarithms of Gamma of some 7 * 10^7 from each
    // other, so that its printed 1.148360885763, 2.994705339355 and 5.109080056273 are right to 5 * 10^-9 only.
    let mut evidence = PolyaEvidence::new(Tolerance::NONE, Noise::new(1e-6, 1.0));
    for (exact, printed) in
        [(1.148360888102, 1.148360885763), (2.994705334976, 2.994705339355), (5.109080059344, 5.109080056273)]
    {
        evidence.batch(0.1, &counts(10, 1, 90, 0));
        agrees("V11 v = 10^-6", evidence.log_e(), exact);
        assert!((evidence.log_e() - printed).abs() < 5e-9, "{} is not {printed}", evidence.log_e());
    }
}

#[test]
fn a_weight_that_changes_closes_the_block() {
    let (mut forth, mut closed) = (PolyaEvidence::new(Tolerance::NONE, Noise::new(0.25, 1.0)), None);
    forth.batch(0.1, &counts(100, 4, 900, 3));
    forth.batch(0.2, &counts(100, 2, 400, 3));
    let before = *closed.get_or_insert(forth.log_e());
    // Back at the first weight it begins with an empty urn: the same counts on top of the first block count otherwise.
    forth.batch(0.1, &counts(100, 4, 900, 0));
    let mut one_block = PolyaEvidence::new(Tolerance::NONE, Noise::new(0.25, 1.0));
    one_block.batch(0.2, &counts(100, 2, 400, 3));
    one_block.batch(0.1, &counts(200, 8, 1800, 3));
    assert!(
        forth.log_e() > before && forth.log_e() > one_block.log_e() + 0.1,
        "{} {}",
        forth.log_e(),
        one_block.log_e()
    );
}

#[test]
fn another_rollouts_epochs_do_not_touch_it() {
    let noise = Noise::new(0.25, 1.0);
    let (mut alone, mut beside, mut other) = (
        PolyaEvidence::new(Tolerance::NONE, noise),
        PolyaEvidence::new(Tolerance::NONE, noise),
        PolyaEvidence::new(Tolerance::NONE, noise),
    );
    for _ in 0..10 {
        alone.batch(0.1, &counts(100, 2, 900, 5));
        beside.batch(0.1, &counts(100, 2, 900, 5));
        other.batch(0.1, &counts(100, 9, 900, 5));
        other.epoch();
    }
    assert_eq!(alone.log_e(), beside.log_e());
    // Closing its own blocks so often would have made far more of the same counts.
    let mut often = PolyaEvidence::new(Tolerance::NONE, noise);
    for _ in 0..10 {
        often.batch(0.1, &counts(100, 2, 900, 5));
        often.epoch();
    }
    assert!(often.log_e() > alone.log_e() + 1.0, "{} {}", often.log_e(), alone.log_e());
}

#[test]
fn errors_of_one_cause_count_once() {
    let (mut plain, mut tempered) = (
        PolyaEvidence::new(Tolerance::new(1.0, 0.001), Noise::new(0.1, 1.0)),
        PolyaEvidence::new(Tolerance::new(1.0, 0.001), Noise::new(0.1, 3.0)),
    );
    plain.batch(0.1, &counts(100, 5, 900, 2));
    tempered.batch(0.1, &counts(300, 15, 2700, 6));
    assert!(about_equal(plain.log_e(), tempered.log_e()), "{} {}", plain.log_e(), tempered.log_e());
}

/// How often healthy releases with private noise of CV 0.5 (a new factor for each arm and block) are rolled back at 5 %.
fn false_rollbacks(noise: Noise, ratio: f64, spoil: f64) -> u32 {
    let factor = |chance: &mut Chance| -(0..4).map(|_| (1.0 - chance.draw()).ln()).sum::<f64>() / 4.0;
    let world = |replication: &u32| {
        let mut chance = Chance(u64::from(*replication) + 1);
        let (mut plain, mut urn) =
            (ErrorEvidence::new(Tolerance::new(ratio, 0.0)), PolyaEvidence::new(Tolerance::new(ratio, 0.0), noise));
        let (mut canary, mut stable) = (1.0, 1.0);
        (0..LOOKS).any(|look| {
            if look % 20 == 0 {
                (canary, stable) = (factor(&mut chance), factor(&mut chance));
                if look > 0 {
                    plain.epoch();
                    urn.epoch();
                }
            }
            let batch = chance.batch(100, 0.25, (0.05 * canary * spoil).min(1.0), (0.05 * stable).min(1.0));
            plain.batch(0.25, &batch);
            urn.batch(0.25, &batch);
            let log_e = if noise.is_none() { plain.log_e() } else { urn.log_e() };
            log_e >= rollback_threshold(0.05)
        })
    };
    (0..REPLICATIONS).filter(world).count() as u32
}

#[test]
fn private_noise_is_not_taken_for_a_bad_release() {
    let allowed = false_rollbacks(Noise::new(0.25, 1.0), 1.2, 1.0);
    assert!(allowed <= most_crossings(0.05), "{allowed} of {REPLICATIONS}");
    // The same worlds deceive the plain evidence, and a release that is really bad is found all the same.
    let plain = false_rollbacks(Noise::NONE, 1.2, 1.0);
    assert!(plain > 2 * most_crossings(0.05), "{plain} of {REPLICATIONS}");
    let found = false_rollbacks(Noise::new(0.25, 1.0), 1.2, 12.0);
    assert!(found > REPLICATIONS * 9 / 10, "{found} of {REPLICATIONS}");
}

#[test]
fn the_rising_factorial_is_exact() {
    let exact = |x: f64, k: u32| (0..k).map(|i| (x + f64::from(i)).ln()).sum::<f64>();
    for x in [1e-9, 0.003, 0.7, 1.0, 15.9, 16.0, 160.0, 5e6, 1e12] {
        for k in [0, 1, 2, 7, 40, 1000] {
            let (got, want) = (ln_rising(x, f64::from(k)), exact(x, k));
            assert!((got - want).abs() < 1e-12 * want.abs().max(10.0), "{x} rising {k}: {got} is not {want}");
        }
    }
    // Between whole numbers: Gamma(1/2) is the root of pi.
    assert!((ln_rising(0.5, 0.5) + std::f64::consts::PI.sqrt().ln()).abs() < 1e-13);
}

/// Counts that make sense: no more errors than requests.
fn any_counts() -> impl Strategy<Value = Counts> {
    (0_u64..2000, 0_u64..2000, 0_u64..2000, 0_u64..2000).prop_map(|(canary, canary_errors, stable, stable_errors)| {
        counts(canary, canary_errors.min(canary), stable, stable_errors.min(stable))
    })
}

fn any_noise() -> impl Strategy<Value = Noise> {
    (1e-6_f64..4.0, 1.0..5.0).prop_map(|(v, phi)| Noise::new(v, phi))
}

proptest! {
    #[test]
    fn batches_of_a_block_may_be_divided_and_come_in_any_order(
        noise in any_noise(), ratio in 1.0..3.0, share in 0.01..0.99, batches in prop::collection::vec(any_counts(), 1..8)
    ) {
        let new = || PolyaEvidence::new(Tolerance::new(ratio, 0.01), noise);
        let (mut forth, mut back, mut merged) = (new(), new(), new());
        let mut sum = Counts::default();
        batches.iter().for_each(|batch| forth.batch(share, batch));
        batches.iter().rev().for_each(|batch| back.batch(share, batch));
        batches.iter().for_each(|batch| sum.add(batch));
        merged.batch(share, &sum);
        prop_assert!(about_equal(forth.log_e(), merged.log_e()), "{} {}", forth.log_e(), merged.log_e());
        prop_assert!(about_equal(back.log_e(), merged.log_e()), "{} {}", back.log_e(), merged.log_e());
    }

    #[test]
    fn one_more_canary_error_never_speaks_for_the_canary(
        noise in any_noise(), ratio in 1.0..3.0, share in 0.01..0.99, past in any_counts(), now in any_counts()
    ) {
        let after = |batch: &Counts| {
            let mut evidence = PolyaEvidence::new(Tolerance::new(ratio, 0.01), noise);
            evidence.batch(share, &past);
            evidence.epoch();
            evidence.batch(share, batch);
            evidence.log_e()
        };
        let added = Counts { canary_errors: now.canary_errors + 1, ..now };
        prop_assert!(after(&added) >= after(&now) - 1e-9);
    }

    #[test]
    fn no_input_makes_it_infinite_or_not_a_number(
        tolerance in any::<(f64, f64)>(), noise in any::<(f64, f64)>(),
        acts in prop::collection::vec((any::<f64>(), 0.0..1.0, any::<[u64; 4]>(), any::<bool>()), 0..20)
    ) {
        let mut evidence = PolyaEvidence::new(Tolerance::new(tolerance.0, tolerance.1), Noise::new(noise.0, noise.1));
        for (wild_share, share, [n_c, k_c, n_b, k_b], epoch) in acts {
            if epoch {
                evidence.epoch();
            }
            for share in [wild_share, share, f64::MIN_POSITIVE, 1.0 - f64::EPSILON / 2.0] {
                evidence.batch(share, &counts(n_c, k_c, n_b, k_b));
                prop_assert!(evidence.log_e().is_finite(), "{share}: {}", evidence.log_e());
            }
        }
    }
}
