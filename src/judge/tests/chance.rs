//! What the judge's tests share: seeded chance, the size of their simulations, and what counts as equal.

use crate::judge::Counts;

/// Worlds in a simulation.
pub(crate) const REPLICATIONS: u32 = 400;
/// Looks at the evidence in each of them.
pub(crate) const LOOKS: u32 = 80;

/// Most crossings in [`REPLICATIONS`] worlds that a true rate of `level` explains: three standard errors of slack.
pub(crate) fn most_crossings(level: f64) -> u32 {
    let worlds = f64::from(REPLICATIONS);
    (level * worlds + 3.0 * (level * (1.0 - level) * worlds).sqrt()).ceil() as u32
}

/// Agreement with a reference implementation, which prints twelve digits after the point.
pub(crate) fn agrees(name: &str, got: f64, want: f64) {
    assert!((got - want).abs() < 1e-9, "{name}: {got} is not {want}");
}

/// Equal up to what reordering sums of this size may cost.
pub(crate) fn about_equal(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
}

/// SplitMix64: tiny, and the same on every machine.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// From 0 to 1.
    pub(crate) fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Roughly normal with a standard deviation of 1: the sum of four draws, centred and scaled.
    pub(crate) fn bell(&mut self) -> f64 {
        ((0..4).map(|_| self.draw()).sum::<f64>() - 2.0) * 3.0_f64.sqrt()
    }

    /// Requests of one batch, each drawn to an arm and then to an outcome.
    pub(crate) fn batch(&mut self, requests: u32, share: f64, p_canary: f64, p_stable: f64) -> Counts {
        let mut counts = Counts::default();
        for _ in 0..requests {
            if self.draw() < share {
                counts.canary_requests += 1;
                counts.canary_errors += u64::from(self.draw() < p_canary);
            } else {
                counts.stable_requests += 1;
                counts.stable_errors += u64::from(self.draw() < p_stable);
            }
        }
        counts
    }
}
