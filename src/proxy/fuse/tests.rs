//! Trips, holds and lapses of a fuse, and how often a healthy release trips one.

use super::*;
use crate::base::fuse::Decimal;
use crate::judge::rollback_threshold;
use crate::proxy::split::Draws;
use std::time::Duration;

/// Of one in `alpha` false alarms, with this tolerance and this many failures between acknowledgements.
fn fuse(threshold: f64, add: f64, failures: u32) -> Fuse {
    Fuse {
        failures,
        canary: "v2".into(),
        rollout: "r".into(),
        threshold: Decimal::at_least(threshold),
        ratio: Decimal::whole(1),
        add: Decimal::at_least(add),
    }
}

/// That of one proxy beside a gate on latency: ln(2 / 1 %) - ln 0.65.
const USUAL: f64 = 5.73;
const AT_ONCE: Duration = Duration::ZERO;

fn counts(canary_requests: u64, canary_errors: u64, stable_errors: u64) -> Counts {
    Counts { canary_requests, canary_errors, stable_requests: 0, stable_errors }
}

/// Failures of a dead canary until the fuse opens, and what it is then.
fn dead(share: f64, fuse: &Fuse) -> (u64, FuseState) {
    let mut watch = Watch::new(fuse, AT_ONCE);
    let failed = (1..=1000).find(|_| {
        watch.take(share, &counts(1, 1, 0));
        watch.state() != FuseState::Armed
    });
    (failed.expect("it opens"), watch.state())
}

#[test]
fn a_dead_canary_trips_it_after_a_handful() {
    // As the judge of one proxy would: T1 of gate.md has 3.1 and 2.1 failures at ln 100; this is ln 308, and tolerates 0.1 pp.
    let usual = fuse(USUAL, 0.001, 1000);
    assert_eq!(
        [0.01, 0.1, 0.5].map(|share| dead(share, &usual)),
        [(2, FuseState::Tripped), (4, FuseState::Tripped), (11, FuseState::Tripped)]
    );
    // Where the bound between two acknowledgements comes first it holds, which says nothing about the release.
    assert_eq!(dead(0.5, &fuse(USUAL, 0.0, 5)), (5, FuseState::Held));
    // The expected failures of as many requests are none of its fault, nor are three standard errors of them.
    let mut watch = Watch::new(&fuse(1000.0, 0.01, 5), AT_ONCE);
    watch.take(0.1, &counts(1000, 10, 0));
    // X = 24 - 10, V0 = 10.
    watch.take(0.1, &counts(0, 14, 0));
    assert_eq!((watch.state(), watch.errors_since_heard()), (FuseState::Armed, 24));
    watch.take(0.1, &counts(0, 1, 0));
    assert_eq!(watch.state(), FuseState::Held);
}

#[test]
fn what_holds_ends_with_the_acknowledgement_and_what_tripped_does_not() {
    let mut watch = Watch::new(&fuse(USUAL, 0.0, 2), AT_ONCE);
    watch.take(0.1, &counts(2, 2, 0));
    assert_eq!(watch.state(), FuseState::Held);
    watch.acknowledge(AT_ONCE);
    assert_eq!((watch.state(), watch.errors_since_heard()), (FuseState::Armed, 0));
    // Evidence went on: two more are enough.
    watch.take(0.1, &counts(2, 2, 0));
    assert_eq!(watch.state(), FuseState::Tripped);
    watch.acknowledge(AT_ONCE);
    watch.new_weights(AT_ONCE);
    // A higher threshold comes too late for it, and so does another tolerance.
    watch.rearm(&fuse(100.0, 0.0, 2), AT_ONCE);
    watch.rearm(&fuse(100.0, 0.5, 2), AT_ONCE);
    assert_eq!(watch.state(), FuseState::Tripped);
    assert_eq!(watch.fuse(), &fuse(100.0, 0.5, 2));
}

#[test]
fn errors_of_stable_speak_for_the_canary() {
    let mut watch = Watch::new(&fuse(USUAL, 0.0, 5), AT_ONCE);
    // An incident of both: one in ten falls on the canary.
    for _ in 0..1000 {
        watch.take(0.1, &counts(1, 1, 9));
        assert_eq!(watch.state(), FuseState::Armed);
    }
    assert!(watch.log_e() < 0.0, "{}", watch.log_e());
    assert_eq!(watch.counts(), &counts(1000, 1000, 9000));
}

#[test]
fn requests_that_did_not_fail_pay_for_the_tolerance() {
    let after = |healthy: u64, add: f64| {
        let mut watch = Watch::new(&fuse(USUAL, add, 1000), AT_ONCE);
        watch.take(0.1, &counts(healthy, 0, 0));
        watch.take(0.1, &counts(4, 4, 0));
        watch.state()
    };
    // 4 of 3,004 are 0.13 %: no more than 0.1 pp beyond stable's none, as far as anybody can tell.
    assert_eq!(
        [after(0, 0.001), after(3000, 0.001), after(3000, 0.0)],
        [FuseState::Tripped, FuseState::Armed, FuseState::Tripped]
    );
}

#[test]
fn a_fault_that_begins_with_new_weights_is_found_as_fast() {
    let failures = |epochs: bool| {
        let mut watch = Watch::new(&fuse(USUAL, 0.0, 1000), AT_ONCE);
        watch.take(0.1, &counts(100_000, 100, 900));
        if epochs {
            watch.new_weights(AT_ONCE);
        }
        (1..=1000).find(|_| {
            watch.take(0.25, &counts(1, 1, 0));
            watch.state() == FuseState::Tripped
        })
    };
    let (with, without) = (failures(true).expect("it trips"), failures(false).expect("it trips"));
    assert!(with <= 8 && with < without, "{with} {without}");
    // Time does the same: half of what is kept back is staked after a minute.
    let mut watch = Watch::new(&fuse(USUAL, 0.0, 1000), AT_ONCE);
    watch.take(0.1, &counts(100_000, 100, 900));
    let before = watch.log_e();
    watch.pass_time(Duration::from_secs(59), None);
    watch.take(0.1, &counts(1, 1, 0));
    let same = watch.log_e();
    watch.pass_time(Duration::from_secs(60), None);
    watch.take(0.1, &counts(1, 1, 0));
    assert!(same - before < 0.1 && watch.log_e() - same > 0.1, "{before} {same} {}", watch.log_e());
}

#[test]
fn silence_of_a_controller_that_was_heard_lapses_it() {
    let (span, second) = (Some(Duration::from_secs(120)), Duration::from_secs(1));
    let mut watch = Watch::new(&fuse(USUAL, 0.0, 5), AT_ONCE);
    // Nobody has promised to come.
    watch.pass_time(Duration::from_secs(1000), span);
    assert_eq!(watch.state(), FuseState::Armed);
    watch.acknowledge(Duration::from_secs(1000));
    watch.pass_time(Duration::from_secs(1119), span);
    assert_eq!(watch.state(), FuseState::Armed);
    watch.pass_time(Duration::from_secs(1120), span);
    assert_eq!(watch.state(), FuseState::Lapsed);
    watch.pass_time(Duration::from_secs(1121), span);
    watch.acknowledge(Duration::from_secs(1122));
    watch.pass_time(Duration::from_secs(1122) + second, span);
    assert_eq!(watch.state(), FuseState::Armed);
    // Weights without a lease never do; and new ones are news.
    watch.pass_time(Duration::from_secs(9000), None);
    watch.new_weights(Duration::from_secs(9000));
    watch.pass_time(Duration::from_secs(9001), span);
    assert_eq!(watch.state(), FuseState::Armed);
}

#[test]
fn nothing_is_taken_where_nothing_is_split() {
    for share in [0.0, 1.0, -1.0, f64::NAN] {
        let mut watch = Watch::new(&fuse(USUAL, 0.0, 1), AT_ONCE);
        watch.take(share, &counts(9, 9, 9));
        assert_eq!((watch.state(), watch.counts().is_empty()), (FuseState::Armed, true), "{share}");
    }
}

/// Four proxies watch one healthy release at a look after each error, with epochs and changes of weights: by Ville's
/// inequality and a union bound all of them together trip in at most alpha / 2 of the rollouts.
#[test]
fn all_proxies_together_keep_half_of_alpha() {
    const PROXIES: u64 = 4;
    const ROLLOUTS: u64 = 1000;
    let alpha = 0.2;
    let threshold = rollback_threshold(alpha / 2.0 / PROXIES as f64);
    let mut draws = Draws::seeded(20_260_728);
    let mut uniform = || (draws.draw() >> 11) as f64 / (1_u64 << 53) as f64;
    let mut tripped = 0_u64;
    for _ in 0..ROLLOUTS {
        let mut any = false;
        for _ in 0..PROXIES {
            let mut watch = Watch::new(&fuse(threshold, 0.0, 1_000_000), AT_ONCE);
            for share in [0.05, 0.25, 0.5] {
                watch.new_weights(AT_ONCE);
                // Only errors say anything; each falls on the canary by the coin, whatever their number is.
                for _ in 0..150 {
                    let is_canary = u64::from(uniform() < share);
                    watch.take(share, &counts(is_canary, is_canary, 1 - is_canary));
                }
            }
            any |= watch.state() == FuseState::Tripped;
        }
        tripped += u64::from(any);
    }
    // Three standard errors of 1,000 draws beyond 10 %.
    assert!(tripped <= 128, "{tripped} of {ROLLOUTS}");
    // And the threshold is not idle: without the union bound it would be broken by far more than chance.
    assert!(tripped > 0, "no fuse ever trips");
}
