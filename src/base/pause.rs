//! How long somebody who fails is left alone. Pure: chance comes in as a number.

use std::time::Duration;

/// The pause after so many failures in a row: `first` after one, doubled each further time up to `longest`, and half of it by
/// chance (uniform in 64 bits), so that many who fail together do not come back together.
#[must_use]
pub fn pause_after(failures: u32, first: Duration, longest: Duration, chance: u64) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(longest);
    let share = u32::try_from(chance % 1000).unwrap_or(0);
    doubled / 2 + doubled / 2 * share / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let ms = Duration::from_millis;
        let after = |failures, chance| pause_after(failures, ms(1000), ms(60_000), chance);
        assert_eq!((after(1, 0), after(1, 999)), (ms(500), Duration::from_micros(999_500)));
        assert_eq!(
            [3, 6, 7, u32::MAX].map(|failures| after(failures, 0)),
            [ms(2000), ms(16_000), ms(30_000), ms(30_000)]
        );
        assert!(after(u32::MAX, 999) < ms(60_000));
    }
}
