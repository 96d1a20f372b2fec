//! Latencies of a simulated version, drawn into the histogram's buckets.

use super::chance::Chance;
use crate::base::histogram::{BUCKETS, Histogram, upper_bound_us};

/// Requests from which a histogram is filled bucket by bucket instead of request by request: as many as it has buckets.
const BY_BUCKET_FROM: f64 = BUCKETS as f64;

/// How long requests take: lognormal, of which some take longer.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct LatencyShape {
    /// Half of the requests are faster, in milliseconds; above 0.
    pub median_ms: f64,
    /// Standard deviation of the logarithm: 0.6 makes the p99 four times the median.
    pub sigma: f64,
    /// Part of the requests that take `slow_factor` times as long, 0 to 1.
    pub slow_share: f64,
    /// By how much.
    pub slow_factor: f64,
}

impl LatencyShape {
    /// Lognormal with this median, and nothing else.
    #[must_use]
    pub const fn of_median_ms(median_ms: f64, sigma: f64) -> Self {
        Self { median_ms, sigma, slow_share: 0.0, slow_factor: 1.0 }
    }

    /// Part of the requests that take less than `us` microseconds.
    fn share_below(&self, us: f64) -> f64 {
        let below = |median_ms: f64| {
            let distance = (us / 1000.0 / median_ms).ln();
            if self.sigma > 0.0 { normal_share_below(distance / self.sigma) } else { f64::from(distance >= 0.0) }
        };
        (1.0 - self.slow_share) * below(self.median_ms) + self.slow_share * below(self.median_ms * self.slow_factor)
    }
}

/// A shape, ready to be drawn from.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyTable {
    /// Part of the requests in this bucket or one before, by bucket; the last is 1.
    up_to: Vec<f64>,
}

impl LatencyTable {
    /// Of a shape.
    #[must_use]
    pub fn new(shape: &LatencyShape) -> Self {
        let share = |bucket| upper_bound_us(bucket).map_or(1.0, |bound_us| shape.share_below(bound_us as f64));
        Self { up_to: (0..BUCKETS).map(share).collect() }
    }

    /// Draws the latencies of so many requests.
    #[must_use]
    pub fn draw(&self, requests: u64, chance: &mut Chance) -> Vec<u64> {
        let mut counts = vec![0; BUCKETS];
        if (requests as f64) < BY_BUCKET_FROM {
            for _ in 0..requests {
                let u = chance.uniform();
                counts[self.up_to.partition_point(|up_to| *up_to <= u).min(BUCKETS - 1)] += 1;
            }
            return counts;
        }
        // Independent Poisson numbers whose sum is about as many: what a Poisson stream of requests makes.
        let mut before = 0.0;
        for (count, up_to) in counts.iter_mut().zip(&self.up_to) {
            *count = chance.poisson(requests as f64 * (up_to - before));
            before = *up_to;
        }
        counts
    }

    /// The same as a histogram.
    #[must_use]
    pub fn histogram(&self, requests: u64, chance: &mut Chance) -> Histogram {
        Histogram::from_counts(self.draw(requests, chance)).unwrap_or_default()
    }
}

/// The normal distribution function, by formula 26.2.17 of Abramowitz & Stegun: within 7.5e-8.
fn normal_share_below(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let tail =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let above = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt() * tail;
    if x >= 0.0 { 1.0 - above } else { above }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_shape() {
        // p99 of a lognormal with sigma 0.6 is exp(0.6 * 2.3263) = 4.04 medians.
        let table = LatencyTable::new(&LatencyShape::of_median_ms(50.0, 0.6));
        for requests in [100_u64, 50_000] {
            let mut chance = Chance::of_run(1, requests);
            let mut sum = Histogram::default();
            (0..100_000 / requests).for_each(|_| sum.merge(&table.histogram(requests, &mut chance)));
            for (quantile, ms) in [(0.5, 50.0), (0.99, 202.0)] {
                let got_ms = sum.quantile_us(quantile).unwrap() as f64 / 1000.0;
                // The bucket's upper bound: at most an eighth more.
                assert!((ms * 0.98..ms * 1.145).contains(&got_ms), "{requests}: {quantile}: {got_ms}");
            }
            assert!((sum.total() as f64 / 100_000.0 - 1.0).abs() < 0.02);
        }
    }

    #[test]
    fn a_slow_part_is_slow_and_the_rest_is_not() {
        let shape = LatencyShape { slow_share: 0.1, slow_factor: 100.0, ..LatencyShape::of_median_ms(10.0, 0.0) };
        let table = LatencyTable::new(&shape);
        let histogram = table.histogram(20_000, &mut Chance::of_run(1, 1));
        let slow = crate::judge::bounds::slower_than(&histogram, Some(100_352)) as f64;
        assert!((slow / 20_000.0 - 0.1).abs() < 0.01, "{slow}");
    }

    #[test]
    fn the_normal_distribution_is_the_tables() {
        for (x, share) in [(0.0, 0.5), (1.0, 0.841_344_746), (-2.0, 0.022_750_132), (3.5, 0.999_767_371)] {
            assert!((normal_share_below(x) - share).abs() < 1e-7);
        }
    }
}
