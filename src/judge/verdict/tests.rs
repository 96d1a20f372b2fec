//! Verdicts, their sentences, and the numbers in them.

use super::*;
use crate::judge::evidence::{ErrorEvidence, SafetyEvidence};
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
    }
}

#[test]
fn each_verdict_has_its_sentence() {
    let missing = |requests| Verdict::Inconclusive { missing_requests: requests };
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
        (Verdict::Inconclusive { missing_requests: Some(9) }, r#"{"verdict":"inconclusive","missing_requests":9}"#),
        (Verdict::NoData, r#"{"verdict":"no_data"}"#),
    ] {
        assert_eq!(serde_json::to_string(&verdict).unwrap(), json);
        assert_eq!(serde_json::from_str::<Verdict>(json).unwrap(), verdict);
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
    for (number, rounded) in [(0, 0), (7, 7), (99, 99), (133, 140), (1201, 1300), (u64::MAX, u64::MAX)] {
        assert_eq!(round_up(number), rounded);
    }
}
