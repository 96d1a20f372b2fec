//! Seeded chance: the same numbers for the same seed on every machine.

/// Means from which a Poisson number is drawn by rejection: below, multiplying uniforms is as fast and simpler.
const POISSON_BY_REJECTION: f64 = 30.0;

/// A stream of random numbers: SplitMix64 (Steele, Lea & Flood, *Fast splittable pseudorandom number generators*, 2014).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream of one run among many of one seed.
    #[must_use]
    pub fn of_run(seed: u64, run: u64) -> Self {
        // Mixed twice, so that neither neighbouring seeds nor neighbouring runs share a part of their streams.
        let mut outer = Self(seed);
        let mut inner = Self(outer.bits() ^ run.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        inner.bits();
        Self(inner.bits())
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller's transform.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Poisson with this mean; 0 for a mean that is not above 0.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean.is_nan() || mean <= 0.0 {
            0
        } else if mean < POISSON_BY_REJECTION {
            let least = (-mean).exp();
            let (mut product, mut events) = (self.uniform(), 0);
            while product > least {
                product *= self.uniform();
                events += 1;
            }
            events
        } else {
            self.poisson_by_rejection(mean)
        }
    }

    /// Hörmann's transformed rejection with squeeze (*The transformed rejection method for generating Poisson random
    /// variables*, 1993), algorithm PTRS. Exact for means of 10 and more.
    fn poisson_by_rejection(&mut self, mean: f64) -> u64 {
        let b = 0.931 + 2.53 * mean.sqrt();
        let a = -0.059 + 0.024_83 * b;
        let inverse_alpha = 1.123_9 + 1.132_8 / (b - 3.4);
        let v_r = 0.927_7 - 3.622_4 / (b - 2.0);
        loop {
            let u = self.uniform() - 0.5;
            let v = 1.0 - self.uniform();
            let us = 0.5 - u.abs();
            let k = ((2.0 * a / us + b) * u + mean + 0.43).floor();
            if us >= 0.07 && v <= v_r {
                return k as u64;
            }
            if k < 0.0 || us < 0.013 && v > us {
                continue;
            }
            let hat = (v * inverse_alpha / (a / (us * us) + b)).ln();
            if hat <= k * mean.ln() - mean - ln_factorial(k) {
                return k as u64;
            }
        }
    }

    /// Gamma with mean 1 and this coefficient of variation; 1 for one that is not above 0. Marsaglia & Tsang (*A simple
    /// method for generating gamma variables*, 2000).
    pub fn gamma_of_mean_1(&mut self, cv: f64) -> f64 {
        if cv.is_nan() || cv <= 0.0 {
            return 1.0;
        }
        let shape = 1.0 / (cv * cv);
        // A shape below 1 is that of one more, times a power of a uniform.
        let (raised, boost) =
            if shape < 1.0 { (shape + 1.0, (1.0 - self.uniform()).powf(1.0 / shape)) } else { (shape, 1.0) };
        let d = raised - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.uniform()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v * boost / shape;
            }
        }
    }
}

/// ln(k!) for a whole k of 0 or more: exact products while they are short, then Stirling's series.
fn ln_factorial(k: f64) -> f64 {
    if k < 10.0 {
        return (2..=k as u32).map(f64::from).product::<f64>().ln();
    }
    (k + 0.5) * k.ln() - k + 0.5 * std::f64::consts::TAU.ln() + 1.0 / (12.0 * k) - 1.0 / (360.0 * k.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of many draws.
    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let draws: Vec<f64> = (0..40_000).map(|_| draw()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        (mean, draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64)
    }

    #[test]
    fn poisson_has_its_mean_as_its_variance_on_both_sides_of_the_change_of_methods() {
        for mean in [0.01, 0.7, 12.0, 29.9, 30.1, 450.0, 20_000.0] {
            let mut chance = Chance::of_run(1, 2);
            let (got, variance) = moments(|| chance.poisson(mean) as f64);
            let error = (mean / 40_000.0).sqrt();
            assert!((got - mean).abs() < 4.5 * error, "{mean}: {got}");
            assert!((variance / mean - 1.0).abs() < 0.08, "{mean}: {variance}");
        }
        assert_eq!([0.0, -1.0, f64::NAN].map(|mean| Chance::of_run(1, 1).poisson(mean)), [0; 3]);
    }

    #[test]
    fn poisson_meets_its_distribution_where_it_is_by_rejection() {
        // P(X <= 30) at a mean of 36 is 0.1767.
        let mut chance = Chance::of_run(3, 4);
        let below = (0..40_000).filter(|_| chance.poisson(36.0) <= 30).count();
        assert!((below as f64 / 40_000.0 - 0.1767).abs() < 0.01, "{below}");
    }

    #[test]
    fn gamma_has_its_coefficient_of_variation() {
        for cv in [0.3, 0.5, 1.0, 1.5] {
            let mut chance = Chance::of_run(5, 6);
            let (mean, variance) = moments(|| chance.gamma_of_mean_1(cv));
            assert!((mean - 1.0).abs() < 0.04 && (variance.sqrt() / cv - 1.0).abs() < 0.06, "{cv}: {mean} {variance}");
        }
        assert_eq!(Chance::of_run(1, 1).gamma_of_mean_1(0.0), 1.0);
    }

    #[test]
    fn streams_repeat_and_differ() {
        let first = |seed, run| Chance::of_run(seed, run).bits();
        assert_eq!(first(1, 1), first(1, 1));
        let mut all: Vec<u64> = (0..50).flat_map(|seed| (0..50).map(move |run| first(seed, run))).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 2500);
        let mut chance = Chance::of_run(7, 0);
        let (mean, variance) = moments(|| chance.normal());
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03);
    }

    #[test]
    fn factorials_agree_across_the_change_of_methods() {
        assert!((ln_factorial(9.0) - 362_880.0_f64.ln()).abs() < 1e-12);
        assert!((ln_factorial(10.0) - 3_628_800.0_f64.ln()).abs() < 1e-7);
        assert_eq!(ln_factorial(0.0), 0.0);
    }
}
