//! Many runs in a few numbers.

use super::run::{End, Run};
use serde::Serialize;

/// Two-sided 95 % of the normal distribution.
const Z: f64 = 1.959_963_985;

/// A part of a number of runs, with the interval that it leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Portion {
    /// Runs of which it is so.
    pub runs: u64,
    /// The same as a share of all, 0 to 1.
    pub share: f64,
    /// Lower end of the 95 % interval (Wilson's, which holds where none or all are so).
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Portion {
    /// So many of so many.
    #[must_use]
    pub fn new(runs: u64, of: u64) -> Self {
        if of == 0 {
            return Self { runs, share: 0.0, low: 0.0, high: 1.0 };
        }
        let (n, share) = (of as f64, runs as f64 / of as f64);
        let centre = share + Z * Z / (2.0 * n);
        let reach = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        // At the ends rounding must not leave a hair on the other side.
        let low = if runs == 0 { 0.0 } else { ((centre - reach) / scale).max(0.0) };
        let high = if runs == of { 1.0 } else { ((centre + reach) / scale).min(1.0) };
        Self { runs, share, low, high }
    }
}

/// How a number is spread over runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Half of the runs have at most so much.
    pub median: f64,
    /// 19 of 20 runs have at most so much.
    pub p95: f64,
}

impl Spread {
    /// `None` without a value.
    #[must_use]
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let rank = |q: f64| ((q * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1;
        if values.is_empty() {
            return None;
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Some(Self { mean, median: values[rank(0.5)], p95: values[rank(0.95)] })
    }
}

/// What many rollouts came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How many.
    pub runs: u64,
    /// Promoted.
    pub promoted: Portion,
    /// Rolled back by a verdict.
    pub rolled_back: Portion,
    /// Given up for want of time.
    pub gave_up: Portion,
    /// Weight 0 since the blast radius was spent.
    pub budget_spent: Portion,
    /// Still at a step at the end of the simulation.
    pub undecided: Portion,
    /// Seconds until the release had all the traffic, of those promoted.
    pub promote_s: Option<Spread>,
    /// Seconds until the traffic was taken off it, of those rolled back.
    pub rollback_s: Option<Spread>,
    /// Requests that failed on the canary until the end, of all runs.
    pub failed: Option<Spread>,
    /// Requests that the canary got until the end, of all runs.
    pub requests: Option<Spread>,
}

impl Summary {
    /// Of runs.
    #[must_use]
    pub fn of(runs: &[Run]) -> Self {
        let of = runs.len() as u64;
        let ended = |end: End| runs.iter().filter(move |run| run.end == end);
        let portion = |end: End| Portion::new(ended(end).count() as u64, of);
        Self {
            runs: of,
            promoted: portion(End::Promoted),
            rolled_back: portion(End::RolledBack),
            gave_up: portion(End::GaveUp),
            budget_spent: portion(End::BudgetSpent),
            undecided: portion(End::Undecided),
            promote_s: Spread::of(ended(End::Promoted).map(|run| run.at_s)),
            rollback_s: Spread::of(ended(End::RolledBack).map(|run| run.at_s)),
            failed: Spread::of(runs.iter().map(|run| run.failed as f64)),
            requests: Spread::of(runs.iter().map(|run| run.requests as f64)),
        }
    }

    /// Requests that failed on the canary until the end, on average.
    #[must_use]
    pub fn mean_failed(&self) -> f64 {
        self.failed.map_or(0.0, |failed| failed.mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_wilsons() {
        // 10 of 100: 5.52 % to 17.44 %. None of 20,000: less than 0.0192 %.
        let some = Portion::new(10, 100);
        assert!((some.low - 0.0552).abs() < 1e-4 && (some.high - 0.1744).abs() < 1e-4, "{some:?}");
        let none = Portion::new(0, 20_000);
        assert!(none.low == 0.0 && (none.high - 0.000_192).abs() < 1e-6, "{none:?}");
        assert_eq!(Portion::new(7, 7).high, 1.0);
        assert_eq!((Portion::new(0, 0).low, Portion::new(0, 0).high), (0.0, 1.0));
    }

    #[test]
    fn spreads_are_by_rank() {
        let spread = Spread::of((1..=20).map(f64::from)).unwrap();
        assert_eq!((spread.mean, spread.median, spread.p95), (10.5, 10.0, 19.0));
        assert_eq!(Spread::of(std::iter::empty()), None);
    }

    #[test]
    fn every_run_is_in_one_portion() {
        let run = |end, at_s| Run { end, at_s, failed: 2, requests: 10 };
        let summary = Summary::of(&[
            run(End::Promoted, 60.0),
            run(End::Promoted, 80.0),
            run(End::RolledBack, 4.0),
            run(End::Undecided, 100.0),
        ]);
        assert_eq!((summary.promoted.runs, summary.rolled_back.runs, summary.undecided.runs), (2, 1, 1));
        assert_eq!(summary.promote_s.unwrap().mean, 70.0);
        assert_eq!(summary.rollback_s.unwrap().median, 4.0);
        assert_eq!(summary.mean_failed(), 2.0);
    }
}
