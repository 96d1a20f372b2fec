//! The reference's numbers, what noise is found in seeded worlds, and what says nothing.

use super::*;
use crate::judge::polya::PolyaEvidence;
use crate::judge::tests::chance::{Chance, LOOKS, REPLICATIONS, agrees, most_crossings};
use crate::judge::{Tolerance, rollback_threshold};

/// Errors of 40 blocks, with shares from 0.30 to 0.59.
const ERRORS: [(u64, u64); 40] = [
    (7, 4),
    (7, 6),
    (7, 2),
    (0, 3),
    (8, 0),
    (8, 4),
    (2, 1),
    (1, 5),
    (0, 3),
    (0, 6),
    (5, 1),
    (6, 3),
    (7, 2),
    (7, 3),
    (4, 6),
    (2, 4),
    (0, 2),
    (6, 2),
    (4, 6),
    (1, 4),
    (8, 4),
    (3, 4),
    (7, 5),
    (3, 4),
    (8, 1),
    (2, 5),
    (1, 2),
    (5, 0),
    (8, 5),
    (2, 5),
    (5, 2),
    (2, 3),
    (4, 3),
    (5, 5),
    (4, 1),
    (0, 1),
    (1, 6),
    (8, 0),
    (5, 2),
    (1, 5),
];

fn blocks() -> Vec<AaBlock> {
    let block = |(index, (first_errors, second_errors)): (usize, &(u64, u64))| AaBlock {
        first_errors: *first_errors,
        second_errors: *second_errors,
        first_share: 0.3 + 0.01 * (index % 30) as f64,
    };
    ERRORS.iter().enumerate().map(block).collect()
}

#[test]
fn moments_are_those_of_the_reference() {
    let found = dispersion_from_aa(&blocks()).expect("enough blocks");
    agrees("phi", found.phi, 2.3476357274404216);
    agrees("v", found.v, 0.21018432583294458);
    assert!(found.upper_v > found.v);
    assert_eq!(dispersion_from_aa(&blocks()[..29]), None);
}

#[test]
fn blocks_that_say_nothing_are_left_out() {
    let silent = |first_errors, first_share| AaBlock { first_errors, second_errors: 0, first_share };
    let idle = [silent(0, 0.5), silent(9, 0.0), silent(9, 1.0), silent(9, f64::NAN)];
    let with: Vec<AaBlock> = blocks().into_iter().chain(idle.into_iter().cycle().take(100)).collect();
    assert_eq!(dispersion_from_aa(&with), dispersion_from_aa(&blocks()));
    assert_eq!(dispersion_from_aa(&vec![silent(0, 0.5); 100]), None);
    // One error in each block is all that is seen: nothing tells how those of one block hang together.
    let alike = dispersion_from_aa(&vec![silent(1, 0.5); 100]).expect("enough blocks");
    assert_eq!((alike.v, alike.upper_v, alike.phi), (0.0, 0.0, 1.0));
}

/// Blocks of two groups with 40 errors on average, whose own factors have a squared coefficient of variation of 1/`shape`.
fn world(seed: u64, number: usize, shape: Option<u32>) -> Vec<AaBlock> {
    let mut chance = Chance(seed);
    let group = |chance: &mut Chance, common: f64| {
        let own =
            shape.map_or(1.0, |shape| -(0..shape).map(|_| (1.0 - chance.draw()).ln()).sum::<f64>() / f64::from(shape));
        (0..400).filter(|_| chance.draw() < 0.05 * common * own).count() as u64
    };
    (0..number)
        .map(|_| {
            // A swing that both have.
            let common = 0.2 + 1.6 * chance.draw();
            let (first_errors, second_errors) = (group(&mut chance, common), group(&mut chance, common));
            AaBlock { first_errors, second_errors, first_share: 0.5 }
        })
        .collect()
}

#[test]
fn noise_is_measured_and_common_swings_are_none() {
    let measured = |shape: Option<u32>| -> Vec<Dispersion> {
        (1..=40).map(|seed| dispersion_from_aa(&world(seed, 200, shape)).expect("enough blocks")).collect()
    };
    for (shape, v) in [(Some(4), 0.25), (Some(11), 1.0 / 11.0)] {
        let all = measured(shape);
        let mean = all.iter().map(|found| found.v).sum::<f64>() / 40.0;
        assert!((0.75 * v..1.15 * v).contains(&mean), "{mean} for {v}");
        let covered = all.iter().filter(|found| found.upper_v >= v).count();
        assert!(covered >= 31, "only {covered} of 40 upper values reach {v}");
        assert!(all.iter().all(|found| found.upper_v < 4.0 * v), "an upper value that says nothing: {all:?}");
    }
    let none = measured(None);
    assert!(none.iter().all(|found| found.v < 0.06 && found.upper_v < 0.12 && found.phi < 1.5), "{none:?}");
}

#[test]
fn an_allowance_is_always_in_range() {
    for (v, phi) in [(f64::NAN, f64::NAN), (-1.0, 0.0), (f64::INFINITY, f64::INFINITY)] {
        let noise = Noise::new(v, phi);
        assert!((1e-6..=4.0).contains(&noise.v()) && (1.0..=1e6).contains(&noise.phi()), "{noise:?}");
    }
    assert!(Noise::NONE.is_none() && Noise::new(1e-6, 1.0).is_none());
    assert!(!Noise::new(2e-6, 1.0).is_none() && !Noise::new(0.0, 2.0).is_none());
}

#[test]
fn what_is_measured_keeps_the_bound_on_false_rollbacks() {
    // An hour of stable alone, then a release that is no worse, whose every minute has noise of the same size on each side.
    let own = |chance: &mut Chance| -(0..4).map(|_| (1.0 - chance.draw()).ln()).sum::<f64>() / 4.0;
    let crosses = |replication: &u32| {
        let seed = u64::from(*replication) + 1;
        let found = dispersion_from_aa(&world(seed, 60, Some(4))).expect("enough blocks");
        let mut evidence = PolyaEvidence::new(Tolerance::new(1.2, 0.0), Noise::new(found.upper_v, found.phi));
        let mut chance = Chance(seed + 1_000_000);
        let (mut canary, mut stable) = (1.0, 1.0);
        (0..LOOKS).any(|look| {
            if look % 20 == 0 {
                (canary, stable) = (own(&mut chance), own(&mut chance));
                evidence.epoch();
            }
            evidence.batch(0.25, &chance.batch(100, 0.25, (0.05_f64 * canary).min(1.0), (0.05_f64 * stable).min(1.0)));
            evidence.log_e() >= rollback_threshold(0.05)
        })
    };
    let crossings = (0..REPLICATIONS).filter(crosses).count() as u32;
    assert!(crossings <= most_crossings(0.05), "{crossings} of {REPLICATIONS}");
}
