//! Whether the traffic is split as the weights say: a check of the data plane, not of the release.
//!
//! Every request is drawn by itself, so the canary's number among n is binomial. By Chernoff's bound the chance of a
//! share as far from w as p, on its side, is at most exp(-n KL(p || w)), KL being the relative entropy of two coins; it
//! holds for any n and w, where a normal approximation fails for small shares. Twice that for both sides.

/// Draws needed before the split says anything.
pub const LEAST_DRAWS: u64 = 200;
/// Chance of calling a right split wrong, at one look: 1 in 10^6.
const FALSE_ALARM: f64 = 1e-6;

/// Whether so many of so many draws on the canary cannot be explained by its share w (0.0 to 1.0).
#[must_use]
pub fn disagrees(canary_draws: u64, draws: u64, share: f64) -> bool {
    if draws < LEAST_DRAWS || canary_draws > draws || !(0.0..=1.0).contains(&share) {
        return false;
    }
    let observed = canary_draws as f64 / draws as f64;
    draws as f64 * relative_entropy(observed, share) >= (2.0 / FALSE_ALARM).ln()
}

/// KL(p || w) in nats; infinite where w forbids what p has.
fn relative_entropy(p: f64, w: f64) -> f64 {
    let part = |p: f64, w: f64| if p <= 0.0 { 0.0 } else { p * (p / w).ln() };
    part(p, w) + part(1.0 - p, 1.0 - w)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_luck_explains_agrees_and_the_rest_does_not() {
        // At 10 % of 1,000 a standard deviation is 9.5: five of them are 1 in 10^6.4, and Chernoff asks a little more.
        for (canary, draws, share, wrong) in [
            (100, 1000, 0.1, false),
            (140, 1000, 0.1, false),
            (170, 1000, 0.1, true),
            (50, 1000, 0.1, true),
            (900, 1000, 0.1, true),
            (2, 200, 0.01, false),
            (30, 200, 0.01, true),
            (199, 199, 0.01, false),
            (0, 200, 0.0, false),
            (1, 200, 0.0, true),
            (200, 200, 1.0, false),
            (199, 200, 1.0, true),
        ] {
            assert_eq!(disagrees(canary, draws, share), wrong, "{canary} of {draws} at {share}");
        }
    }

    #[test]
    fn senseless_input_is_no_alarm() {
        assert!(!disagrees(300, 200, 0.1));
        assert!(!disagrees(30, 200, f64::NAN));
        assert!(!disagrees(30, 200, 1.5));
    }
}
