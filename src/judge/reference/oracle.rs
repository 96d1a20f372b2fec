//! What no test can do better: Wald's sequential probability ratio test (*Sequential tests of statistical hypotheses*,
//! 1945), which is told what it need not be told in life.
//!
//! Both count the canary's failures until the likelihood ratio reaches 1/alpha, on one random course of events. Chance is
//! handed in as draws from [0, 1).

/// Failures after which a course of events is given up: far beyond what any effect that is asked about takes.
const FAILURES_MAX: u64 = 1_000_000;

/// O1: knows stable's error rate `p0` and the bad canary's `p1` (shares, `p0 < p1`), and sees every request of the
/// canary. The limit for anyone. `None` where there is nothing to find.
pub fn informed(p0: f64, p1: f64, alpha: f64, draw: &mut dyn FnMut() -> f64) -> Option<u64> {
    let threshold = super::super::rollback_threshold(alpha);
    if !(p0 > 0.0 && p0 < p1 && p1 <= 1.0 && threshold.is_finite()) {
        return None;
    }
    let (failure, success) = ((p1 / p0).ln(), (1.0 - p1).ln() - (1.0 - p0).ln());
    let mut ratio = 0.0;
    for failures in 1..=FAILURES_MAX {
        // Requests in between, all good: geometric, by inversion. None of a canary that is dead.
        if p1 < 1.0 {
            ratio += ((1.0 - draw()).ln() / (1.0 - p1).ln()).floor() * success;
        }
        ratio += failure;
        if ratio >= threshold {
            return Some(failures);
        }
    }
    None
}

/// O2: knows by how much the canary is worse and sees only which arm each error fell on, the canary having `share` of
/// the requests. The limit for tests that survive whatever happens to both arms. `None` where there is nothing to find.
pub fn of_labels(share: f64, p0: f64, p1: f64, alpha: f64, draw: &mut dyn FnMut() -> f64) -> Option<u64> {
    let threshold = super::super::rollback_threshold(alpha);
    if !(p0 > 0.0 && p0 < p1 && p1 <= 1.0 && super::super::is_coin(share) && threshold.is_finite()) {
        return None;
    }
    let bad = p1 * share / (p1 * share + p0 * (1.0 - share));
    let (on_canary, on_stable) = ((bad / share).ln(), ((1.0 - bad) / (1.0 - share)).ln());
    let (mut ratio, mut failures) = (0.0, 0);
    while failures < FAILURES_MAX {
        let is_canary = draw() < bad;
        failures += u64::from(is_canary);
        ratio += if is_canary { on_canary } else { on_stable };
        if ratio >= threshold {
            return Some(failures);
        }
    }
    None
}
