//! Two tests that are often looked at again and again, beside which the judge's own is shown: the z-test of two proportions,
//! which is for one look, and a sequential one whose proof takes sums to be normal.

use super::Counts;

/// z of the difference of two proportions, by the pooled estimate; above 0 where the canary fails more often. 0 where an arm
/// has no request, and where none or all of them failed.
#[must_use]
pub fn z(counts: &Counts) -> f64 {
    difference(counts).map_or(0.0, |(difference, variance)| difference / variance.sqrt())
}

/// Logarithm of the mixture sequential probability ratio for "the canary fails more often" (Johari, Pekelis & Walsh, *Always
/// valid inference*, 2015) with a normal mixture of standard deviation `tau`, a share: it is to be held against ln(1/alpha).
/// 0 where [`z`] is 0, and never above it where the canary fails less often.
#[must_use]
pub fn mixture_log_ratio(counts: &Counts, tau: f64) -> f64 {
    let Some((difference, variance)) = difference(counts) else { return 0.0 };
    let wide = variance + tau * tau;
    let shrink = 0.5 * (variance / wide).ln();
    if difference <= 0.0 { shrink } else { shrink + (tau * difference).powi(2) / (2.0 * variance * wide) }
}

/// The difference of the shares and its variance.
fn difference(counts: &Counts) -> Option<(f64, f64)> {
    let [canary, stable] = [counts.canary_requests, counts.stable_requests].map(|requests| requests as f64);
    if canary == 0.0 || stable == 0.0 {
        return None;
    }
    let pooled = (counts.canary_errors + counts.stable_errors) as f64 / (canary + stable);
    let variance = pooled * (1.0 - pooled) * (canary.recip() + stable.recip());
    let difference = counts.canary_errors as f64 / canary - counts.stable_errors as f64 / stable;
    (variance > 0.0).then_some((difference, variance))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(canary: (u64, u64), stable: (u64, u64)) -> Counts {
        Counts {
            canary_requests: canary.0,
            canary_errors: canary.1,
            stable_requests: stable.0,
            stable_errors: stable.1,
        }
    }

    #[test]
    fn they_are_the_textbooks() {
        // 20 of 100 against 10 of 100: pooled 0.15, standard error 0.050498, z = 1.9803.
        let counted = counts((100, 20), (100, 10));
        assert!((z(&counted) - 1.980_295).abs() < 1e-5, "{}", z(&counted));
        // tau = 0.05: ln sqrt(0.00255/0.00505) + 0.0025 * 0.01 / (2 * 0.00255 * 0.00505).
        assert!((mixture_log_ratio(&counted, 0.05) - 0.629_038).abs() < 1e-5, "{}", mixture_log_ratio(&counted, 0.05));
        let other_way = counts((100, 10), (100, 20));
        assert!(z(&other_way) < -1.98 && mixture_log_ratio(&other_way, 0.05) < 0.0);
    }

    #[test]
    fn nothing_to_compare_is_nothing_seen() {
        for counted in [counts((0, 0), (100, 3)), counts((100, 0), (900, 0)), counts((5, 5), (7, 7))] {
            assert_eq!((z(&counted), mixture_log_ratio(&counted, 0.01)), (0.0, 0.0), "{counted:?}");
        }
    }
}
