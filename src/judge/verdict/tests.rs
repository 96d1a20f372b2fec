//! Verdicts, their sentences, and the numbers in them.

use super::*;
use crate::base::histogram::Histogram;
use crate::judge::absolute::AbsoluteGate;
use crate::judge::evidence::{ErrorEvidence, SafetyEvidence};
use crate::judge::latency::LatencyEvidence;
use crate::judge::{Tolerance, advance_threshold, rollback_threshold};

fn thresholds() -> Thresholds {
    Thresholds { rollback: rollback_threshold(0.01), advance: advance_threshold(0.95) }
}

fn finding(share: f64, counts: [u64; 4]) -> Finding {
    let [canary_requests, canary_errors, stable_requests, stable_errors] = counts;
    let counts = Counts { canary_requests, canary_errors, stable_requests, stable_errors };
    let (mut worse, mut safe) = (ErrorEvidence::new(Tolerance::NONE), SafetyEvidence::new(0.02, 1.0));
    worse.batch(share, &counts);
    safe.batch(share, &counts);
    Finding {
        counts,
        worse_log_e: worse.log_e(),
        safe_log_e: safe.log_e(),
        margin: safe.margin(),
        missing_requests: safe.requests_to_proof(share, thresholds().advance),
        canary_requests_per_s: None,
    }
}

#[test]
fn each_verdict_has_its_sentence() {
    let missing = |requests| Verdict::Inconclusive { missing_requests: requests, eta_s: None };
    for (share, counts, verdict, sentence) in [
        (0.1, [0, 0, 500, 3], Verdict::NoData, "no judged request has reached the canary yet"),
        (
            0.1,
            [1930, 41, 17_400, 12],
            Verdict::Fail,
            "canary 41/1,930 failed (2.1 %), stable 12/17,400 (0.07 %): 1 in 10^27 chance if no worse",
        ),
        (
            0.1,
            [20, 3, 190, 0],
            Verdict::Fail,
            "canary 3/20 failed (15 %), stable 0/190 (0 %): 1 in 160 chance if no worse",
        ),
        (
            0.1,
            [60, 0, 540, 0],
            missing(Some(162)),
            "canary 0/60 failed (0 %), stable 0/540 (0 %): no worse than +2pp not proven yet: \
             about 170 more canary requests without an error",
        ),
        (
            0.1,
            [1000, 1, 9000, 9],
            Verdict::Pass,
            "canary 1/1,000 failed (0.10 %), stable 9/9,000 (0.10 %): proven no worse than +2pp \
             (1 in 10^6 chance if worse)",
        ),
        (
            1.0,
            [100, 1, 0, 0],
            missing(None),
            "canary 1/100 failed (1.0 %), stable 0/0: nothing to compare at this weight",
        ),
    ] {
        let finding = finding(share, counts);
        assert_eq!(finding.verdict(&thresholds()), verdict, "{finding:?}");
        assert_eq!(finding.explain(verdict), sentence);
    }
}

#[test]
fn harm_outweighs_a_proof_within_a_generous_margin() {
    let both = Finding { worse_log_e: 9.0, safe_log_e: 9.0, ..finding(0.1, [1000, 10, 9000, 9]) };
    assert_eq!(both.verdict(&thresholds()), Verdict::Fail);
}

#[test]
fn verdicts_keep_their_written_form() {
    for (verdict, json) in [
        (Verdict::Pass, r#"{"verdict":"pass"}"#),
        (
            Verdict::Inconclusive { missing_requests: Some(9), eta_s: None },
            r#"{"verdict":"inconclusive","missing_requests":9}"#,
        ),
        (
            Verdict::Inconclusive { missing_requests: Some(9), eta_s: Some(60) },
            r#"{"verdict":"inconclusive","missing_requests":9,"eta_s":60}"#,
        ),
        (Verdict::NoData, r#"{"verdict":"no_data"}"#),
        (Verdict::Error, r#"{"verdict":"error"}"#),
    ] {
        assert_eq!(serde_json::to_string(&verdict).unwrap(), json);
        assert_eq!(serde_json::from_str::<Verdict>(json).unwrap(), verdict);
    }
}

/// Thresholds of a stable whose requests took just under 120 ms.
fn around_120_ms(tolerance: f64) -> LatencyThresholds {
    let mut baseline = Histogram::default();
    (0..1000).for_each(|_| baseline.record(119_000));
    LatencyThresholds::choose(&baseline, tolerance).expect("there are latencies")
}

#[test]
fn slowness_is_told_by_the_quantile_that_shows_it() {
    let counts = LatencyCounts {
        canary_requests: 1930,
        canary_slower: [965, 480, 190, 100, 41, 2],
        stable_requests: 17_400,
        stable_slower: [8700, 4350, 1740, 870, 12, 17],
    };
    let mut evidence = LatencyEvidence::new();
    evidence.batch(0.1, &counts);
    let (log_e, quantile) = (evidence.log_e(), evidence.strongest());
    let finding = |tolerance| LatencyFinding { counts, thresholds: around_120_ms(tolerance), log_e, quantile };
    for (tolerance, fails, sentence) in [
        (0.0, true, "canary p99 slower: 41 of 1,930 above 123 ms, stable 12 of 17,400: 1 in 10^21 chance if no slower"),
        (
            0.1,
            true,
            "canary p99 slower: 41 of 1,930 above 147 ms, stable 12 of 17,400 above 123 ms: \
             1 in 10^21 chance if at most 20 % slower",
        ),
        (0.0, false, "canary p99 not known to be slower: 41 of 1,930 above 123 ms, stable 12 of 17,400"),
        (1e9, false, "canary p99 not known to be slower: 41 of 1,930 above 126 s, stable 12 of 17,400 above 123 ms"),
    ] {
        assert_eq!(finding(tolerance).explain(fails), sentence);
    }
    let none = LatencyFinding { counts: LatencyCounts::default(), quantile: 99, ..finding(0.0) };
    assert_eq!(none.explain(false), "no successful request of the canary has been timed yet");
}

#[test]
fn absolute_gates_say_whom_they_blame() {
    let sentence = |limit: Limit, share: f64, [n_c, k_c, n_b, k_b]: [u64; 4], events: &str| {
        let counts = Counts { canary_requests: n_c, canary_errors: k_c, stable_requests: n_b, stable_errors: k_b };
        let mut gate = AbsoluteGate::new(limit);
        gate.batch(share, &counts);
        let outcome = gate.outcome(thresholds().rollback, share < 1.0);
        AbsoluteFinding { counts, limit, events, outcome, canary_log_e: gate.canary_log_e() }.explain()
    };
    let max = Limit::AtMost(0.01);
    for (limit, share, counts, events, wanted) in [
        (max, 0.1, [0, 0, 90, 0], "failed", "no judged request has reached the canary yet, limit 1 %"),
        (max, 0.1, [90, 1, 900, 0], "failed", "canary 1/90 failed (1.1 %), limit 1 %: not known to be beyond it"),
        (
            max,
            0.1,
            [1930, 45, 17_400, 12],
            "failed",
            "canary 45/1,930 failed (2.3 %), limit 1 %: 1 in 17,000 chance if within it",
        ),
        (
            max,
            0.1,
            [1930, 60, 17_400, 480],
            "failed",
            "canary 60/1,930 failed (3.1 %), stable 480/17,400 (2.8 %), limit 1 %: \
             both breach: held, not blamed on the release",
        ),
        (
            max,
            0.1,
            [193, 2, 17_400, 480],
            "slower than 852 ms",
            "canary 2/193 slower than 852 ms (1.0 %), stable 480/17,400 (2.8 %), limit 1 %: \
             stable breaches: held, not blamed on the release",
        ),
        (
            max,
            0.95,
            [190, 19, 10, 1],
            "failed",
            "canary 19/190 failed (10 %), stable 1/10 (10 %), limit 1 %: \
             held until it is known whether stable is any better",
        ),
        (
            Limit::AtLeast(0.995),
            1.0,
            [200, 100, 0, 0],
            "found",
            "canary 100/200 found (50 %), limit at least 99.5 %: 1 in 10^163 chance if within it",
        ),
    ] {
        assert_eq!(sentence(limit, share, counts, events), wanted);
    }
}

#[test]
fn chances_are_never_made_smaller() {
    for (log_e, text) in [
        (-5.0, "1 in 1"),
        (0.0, "1 in 1"),
        (100.0_f64.ln(), "1 in 100"),
        (139.9_f64.ln(), "1 in 130"),
        (12_345.6_f64.ln(), "1 in 12,000"),
        (1e6_f64.ln(), "1 in 10^6"),
        (9.9e6_f64.ln(), "1 in 10^6"),
        (1e7_f64.ln(), "1 in 10^7"),
        (19177.0, "1 in 10^8328"),
    ] {
        assert_eq!(odds(log_e), text, "{log_e}");
    }
    assert_eq!(anytime_p_value(-3.0), 1.0);
    assert!((anytime_p_value(100.0_f64.ln()) - 0.01).abs() < 1e-12);
    assert_eq!(anytime_p_value(1e6), 0.0);
}

#[test]
fn numbers_are_made_for_reading() {
    for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (17_400, "17,400"), (1_234_567, "1,234,567")] {
        assert_eq!(thousands(number), text);
    }
    for (share, text) in [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.9999, "over 99.9 %"),
        (0.994, "99.4 %"),
        (0.5, "50 %"),
        (0.0213, "2.1 %"),
        (0.00069, "0.07 %"),
        (0.00004, "0.004 %"),
    ] {
        assert_eq!(percent(share), text, "{share}");
    }
    for (share, text) in [(0.02, "2pp"), (0.005, "0.5pp"), (0.001, "0.1pp"), (0.1, "10pp"), (1.0, "100pp")] {
        assert_eq!(points(share), text);
    }
    for (share, text) in
        [(0.01, "1 %"), (0.005, "0.5 %"), (0.999, "99.9 %"), (1.0, "100 %"), (0.1, "10 %"), (0.0, "0 %")]
    {
        assert_eq!(plain_percent(share), text);
    }
    for (us, text) in [
        (0, "0 ms"),
        (64, "0.064 ms"),
        (1234, "1.23 ms"),
        (10_000, "10 ms"),
        (122_880, "123 ms"),
        (999_999, "1000 ms"),
        (1 << 27, "134 s"),
        (10_000_000, "10 s"),
    ] {
        assert_eq!(duration(us), text);
    }
    for (number, rounded) in [(0, 0), (7, 7), (99, 99), (133, 140), (1201, 1300), (u64::MAX, u64::MAX)] {
        assert_eq!(round_up(number), rounded);
    }
}

#[test]
fn what_is_missing_has_a_time_where_there_is_traffic() {
    let counts = Counts { canary_requests: 50, canary_errors: 0, stable_requests: 450, stable_errors: 0 };
    let finding = |canary_requests_per_s, missing_requests| Finding {
        counts,
        worse_log_e: 0.0,
        safe_log_e: 0.0,
        margin: 0.02,
        missing_requests,
        canary_requests_per_s,
    };
    let told = |per_s, missing| {
        let finding = finding(per_s, missing);
        let verdict = finding.verdict(&thresholds());
        let sentence = finding.explain(verdict);
        (verdict, sentence.rsplit(": ").next().unwrap_or_default().to_owned())
    };
    let (verdict, sentence) = told(Some(2.5), Some(151));
    assert_eq!(verdict, Verdict::Inconclusive { missing_requests: Some(151), eta_s: Some(61) });
    assert_eq!(sentence, "about 160 more canary requests without an error, 61 s at the present traffic");
    for (per_s, seconds) in
        [(None, None), (Some(0.0), None), (Some(f64::NAN), None), (Some(1e-9), Some(151_000_000_000))]
    {
        let eta_s = seconds;
        assert_eq!(told(per_s, Some(151)).0, Verdict::Inconclusive { missing_requests: Some(151), eta_s });
    }
    assert_eq!(told(Some(2.5), None).0, Verdict::Inconclusive { missing_requests: None, eta_s: None });
    for (seconds, text) in [
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (172_800, "2 days"),
        (u64::MAX, "over 90 days"),
    ] {
        assert_eq!(span(seconds), text);
    }
}
