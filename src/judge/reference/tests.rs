//! The peers' rules against what their sources say of single cases, and the oracles against Wald's bounds.

use super::*;
use crate::judge::tests::chance::Chance;

/// Requests of the whole route in ten seconds.
const REQUESTS: u64 = 1000;

/// A world without chance: so many of a thousand requests fail, once `from_s` has come.
fn outcome(peer: Peer, failed_permille: u64, from_s: u32) -> (Decision, u32, u64) {
    let (mut rule, mut at_s, mut failed) = (peer.rule(), 0, 0);
    loop {
        let canary_requests = REQUESTS * u64::from(rule.weight()) / 100;
        let canary_errors = if at_s >= from_s { canary_requests * failed_permille / 1000 } else { 0 };
        failed += canary_errors;
        at_s += SLICE_S;
        let stable_requests = REQUESTS - canary_requests;
        let counts = Counts { canary_requests, canary_errors, stable_requests, stable_errors: stable_requests / 1000 };
        if let Some(decision) = rule.take(&Slice { counts, canary_latency: None }) {
            return (decision, at_s, failed);
        }
        assert!(at_s < 10_000, "{peer:?} never decides");
    }
}

#[test]
fn a_dead_release_takes_each_of_them_as_long_as_its_source_says() {
    // Seconds: (threshold + 1) intervals; 4 measurements; 3 datapoints and a minute; one judgement.
    let expected = [360, 660, 240, 240, 1200, 240, 240, 240, 900, 3600];
    for (peer, seconds) in Peer::ALL.into_iter().zip(expected) {
        assert_eq!(outcome(peer, 1000, 0).0, Decision::RolledBack, "{peer:?}");
        assert_eq!(outcome(peer, 1000, 0).1, seconds, "{peer:?}");
    }
    // 100 requests in a second, of which the shares of the steps: gate.md's table T4 has half of each at 50.
    assert_eq!(outcome(Peer::Flagger5, 1000, 0).2, 3600);
    assert_eq!(outcome(Peer::Argo5m95, 1000, 0).2, 36_000);
    assert_eq!(outcome(Peer::CodeDeployLinear1, 1000, 0).2, 6000);
}

#[test]
fn a_good_release_takes_each_of_them_as_long_as_its_steps_do() {
    let expected = [300, 600, 2400, 2400, 2400, 1200, 1200, 1440, 3600, 3600];
    for (peer, seconds) in Peer::ALL.into_iter().zip(expected) {
        assert_eq!(outcome(peer, 0, 0), (Decision::Promoted, seconds, 0), "{peer:?}");
    }
}

#[test]
fn thresholds_are_where_the_settings_have_them() {
    // 1 % is still good enough for Flagger and for an alarm above 1 %; 2 % is for 95 % and not for 99 %.
    for (peer, permille, decision) in [
        (Peer::Flagger5, 10, Decision::Promoted),
        (Peer::Flagger5, 20, Decision::RolledBack),
        (Peer::Argo1m95, 50, Decision::Promoted),
        (Peer::Argo1m95, 60, Decision::RolledBack),
        (Peer::Argo1m99, 20, Decision::RolledBack),
        (Peer::CodeDeployCanary1, 10, Decision::Promoted),
        (Peer::CodeDeployCanary5, 60, Decision::RolledBack),
        (Peer::Kayenta15, 100, Decision::RolledBack),
    ] {
        assert_eq!(outcome(peer, permille, 0).0, decision, "{peer:?} at {permille}");
    }
}

#[test]
fn flagger_forgives_nothing_and_no_data_is_a_failed_check() {
    let mut rule = Peer::Flagger5.rule();
    let mut at_s = 0;
    let decision = loop {
        at_s += SLICE_S;
        if let Some(decision) = rule.take(&Slice::default()) {
            break decision;
        }
    };
    assert_eq!((decision, at_s), (Decision::RolledBack, 360));
    // A fault that begins in the last step but one is counted by as many checks.
    assert_eq!(outcome(Peer::Flagger5, 1000, 180).1, 180 + 360);
}

#[test]
fn flagger_sees_a_p99_beyond_half_a_second() {
    for (latency_us, decision) in [(100_000, Decision::Promoted), (900_000, Decision::RolledBack)] {
        let mut latency = Histogram::default();
        (0..100).for_each(|_| latency.record(latency_us));
        let counts = Counts { canary_requests: 100, canary_errors: 0, stable_requests: 900, stable_errors: 0 };
        let slice = Slice { counts, canary_latency: Some(latency) };
        let mut rule = Peer::Flagger5.rule();
        assert_eq!((0..100).find_map(|_| rule.take(&slice)), Some(decision));
    }
}

#[test]
fn kayenta_is_blind_while_most_minutes_are_without_a_failure_and_needs_points() {
    // One failure in the first of fifteen minutes.
    let mut rule = Peer::Kayenta15.rule();
    let mut slices = 0..;
    let decision = loop {
        let errors = u64::from(slices.next() == Some(0)) * 50;
        let counts = Counts { canary_requests: 100, canary_errors: errors, stable_requests: 900, stable_errors: 0 };
        if let Some(decision) = rule.take(&Slice { counts, canary_latency: None }) {
            break decision;
        }
    };
    assert_eq!(decision, Decision::Promoted);
}

#[test]
fn argo_gives_up_after_five_measurements_without_an_answer() {
    let mut rule = Peer::Argo1m95.rule();
    let slices = (1..).find(|_| rule.take(&Slice::default()).is_some());
    assert_eq!(slices, Some((60 + 4 * 10) / SLICE_S as usize));
}

fn mean(mut one: impl FnMut() -> Option<u64>) -> f64 {
    let runs = 4000;
    (0..runs).map(|_| one().expect("there is something to find") as f64).sum::<f64>() / f64::from(runs)
}

#[test]
fn the_oracles_take_what_the_reference_tables_say() {
    // Of gate.md's table T1, whose figures have two digits; 4,000 courses are within a few hundredths.
    let mut chance = Chance(11);
    for (p0, p1, failures) in [(0.001, 0.005, 6.4), (0.001, 0.05, 2.2), (0.01, 0.2, 2.7), (0.001, 1.0, 1.0)] {
        let measured = mean(|| oracle::informed(p0, p1, 0.01, &mut || chance.draw()));
        assert!((measured / failures - 1.0).abs() < 0.06, "{p0} {p1}: {measured}");
    }
    for (share, p0, p1, failures) in [(0.01, 0.001, 0.05, 2.2), (0.1, 0.001, 0.005, 7.6), (0.5, 0.001, 1.0, 7.1)] {
        let measured = mean(|| oracle::of_labels(share, p0, p1, 0.01, &mut || chance.draw()));
        assert!((measured / failures - 1.0).abs() < 0.06, "{share} {p0} {p1}: {measured}");
    }
}

#[test]
fn where_nothing_is_to_be_found_there_is_no_oracle() {
    let mut draw = || 0.5;
    for (p0, p1) in [(0.01, 0.01), (0.02, 0.01), (0.0, 0.1), (0.1, f64::NAN), (0.1, 1.1)] {
        assert_eq!(oracle::informed(p0, p1, 0.01, &mut draw), None);
        assert_eq!(oracle::of_labels(0.1, p0, p1, 0.01, &mut draw), None);
    }
    assert_eq!(oracle::of_labels(1.0, 0.1, 0.2, 0.01, &mut draw), None);
    assert_eq!(oracle::informed(0.1, 0.2, 0.0, &mut draw), None);
}

#[test]
fn a_threshold_that_is_looked_at_more_often_decides_as_often() {
    // Seconds to the rollback of a dead release, and of one whose fault begins with the second minute.
    let expected = [(20, 80), (30, 90), (90, 150), (20, 80), (120, 180)];
    for (peer, (at_once, late)) in Peer::HURRIED.into_iter().zip(expected) {
        assert_eq!(outcome(peer, 1000, 0).1, at_once, "{peer:?}");
        assert_eq!(outcome(peer, 1000, 60).1, late, "{peer:?}");
        assert_eq!(outcome(peer, 10, 0), (Decision::Promoted, 240, 90), "{peer:?}: 1 % is good enough");
    }
    let silent = |peer: Peer| {
        let mut rule = peer.rule();
        (0..24).find_map(|_| rule.take(&Slice::default()))
    };
    assert_eq!(silent(Peer::FlaggerEvery10s), Some(Decision::RolledBack), "no data is a failed check");
    assert_eq!(silent(Peer::ArgoEvery10s), Some(Decision::Promoted));
}
