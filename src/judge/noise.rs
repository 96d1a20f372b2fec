//! Noise that one version has and the other does not: what it is, and how large it is by what stable's endpoints do.
//!
//! Split the errors of one version at random into two halves, and the halves differ by the coin alone. Split them by
//! *endpoint*, and they differ by whatever endpoints have of their own as well: a busy neighbour, a cold cache, errors that
//! come in bursts. The excess is what a comparison of two versions must allow for, since they too run on different
//! endpoints. It can be measured while nothing is released (an A/A test without a B), and a swing that all endpoints share
//! cancels out.

/// From here on noise is allowed for: below, the urn of [`super::polya`] is the plain coin to all digits that count.
const LEAST_V: f64 = 1e-6;
/// Largest v: one arm's rate swings by twice its mean from minute to minute. Nothing could be seen in more.
const MOST_V: f64 = 4.0;
/// Most errors of one cause.
const MOST_PHI: f64 = 1e6;
/// Blocks without which nothing is said: below, the standard deviation of v is as large as what services have.
pub const LEAST_BLOCKS: usize = 30;
/// Standard errors by which v is raised: the quantile of the normal distribution at 90 %.
const UPPER: f64 = 1.2816;
/// Largest weight of one block in its own prediction; nearer to 1 its corrected residual has no meaning.
const MOST_LEVERAGE: f64 = 0.9;

/// An allowance for noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    v: f64,
    phi: f64,
}

impl Noise {
    /// None: the coin is all the chance there is.
    pub const NONE: Self = Self { v: 0.0, phi: 1.0 };

    /// `v` is the squared coefficient of variation of the factor by which one arm's error rate swings by itself from block
    /// to block (0 to 4; 0.25 is half its mean), `phi` the number of errors that one cause makes (from 1). A value out of
    /// range is moved to the nearest inside, and one that is not a number counts as no noise.
    #[must_use]
    pub const fn new(v: f64, phi: f64) -> Self {
        Self {
            v: if v.is_nan() { 0.0 } else { v.clamp(0.0, MOST_V) },
            phi: if phi.is_nan() { 1.0 } else { phi.clamp(1.0, MOST_PHI) },
        }
    }

    /// Whether the plain evidence serves.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.v <= LEAST_V && self.phi <= 1.0
    }

    /// v, from 10^-6: no less is told from nothing.
    #[must_use]
    pub const fn v(self) -> f64 {
        self.v.max(LEAST_V)
    }

    /// phi, from 1.
    #[must_use]
    pub const fn phi(self) -> f64 {
        self.phi
    }
}

/// Errors of two groups of one version's endpoints in one block of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AaBlock {
    /// Errors of the first group.
    pub first_errors: u64,
    /// Errors of the second.
    pub second_errors: u64,
    /// Part of the requests of both that the first had, in (0, 1).
    pub first_share: f64,
}

/// How much errors scatter between groups of endpoints, beyond the coin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dispersion {
    /// Errors per independent cause, from 1.
    pub phi: f64,
    /// Squared coefficient of variation of one group's own factor, from 0; the estimate itself.
    pub v: f64,
    /// What to allow for: the value that v exceeds with a chance of 1 in 10.
    pub upper_v: f64,
}

/// By the method of moments from blocks of stable alone. Given k errors and shares s and 1 - s of the requests,
///
/// ```text
///   E[(k_1 - k s)^2] = k s (1 - s) (phi + (k - 1) 2 v s (1 - s))
/// ```
///
/// so (k_1 - k s)^2 / (k s (1 - s)) is a straight line over (k - 1) 2 s (1 - s), whose slope is v and whose beginning phi,
/// fitted by least squares. Blocks without errors and with a share that is no coin say nothing. `None` for less than
/// [`LEAST_BLOCKS`] that do.
///
/// The upper value has the slope's standard error on top, by residuals that are each corrected for the block's own pull on
/// the line (the estimator HC3 of MacKinnon & White, 1985), since blocks with many errors scatter more. And it is turned
/// from the straight line's slope into the urn's: the correlation of two errors of one block is 2 u s (1 - s) by the slope u
/// and 1/(a + 1) by the urn, a = 1/(2 v s (1 - s)), hence v = u / (1 - 2 u s (1 - s)), here at s = 1/2. Without that 0.25 is
/// found to be 0.22.
#[must_use]
pub fn dispersion_from_aa(blocks: &[AaBlock]) -> Option<Dispersion> {
    let points: Vec<(f64, f64)> = blocks.iter().filter_map(point).collect();
    if points.len() < LEAST_BLOCKS {
        return None;
    }
    let number = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / number;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / number;
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let slope = match spread > 0.0 {
        true => points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread,
        false => 0.0,
    };
    let v = slope.max(0.0);
    let squared = |(x, y): &(f64, f64)| {
        let leverage = (1.0 / number + (x - mean_x).powi(2) / spread).min(MOST_LEVERAGE);
        ((x - mean_x) * (y - mean_y - slope * (x - mean_x)) / (1.0 - leverage)).powi(2)
    };
    let error = if spread > 0.0 { points.iter().map(squared).sum::<f64>().sqrt() / spread } else { 0.0 };
    let upper = (slope + UPPER * error).max(0.0);
    // Beyond a slope of 2 two errors of a block would always agree.
    let upper_v = if upper < 2.0 { (upper / (1.0 - upper / 2.0)).min(MOST_V) } else { MOST_V };
    Some(Dispersion { phi: (mean_y - v * mean_x).max(1.0), v, upper_v })
}

fn point(block: &AaBlock) -> Option<(f64, f64)> {
    let (k, s) = (block.first_errors as f64 + block.second_errors as f64, block.first_share);
    if k == 0.0 || !super::is_coin(s) {
        return None;
    }
    let coin = s * (1.0 - s);
    Some(((k - 1.0) * 2.0 * coin, (block.first_errors as f64 - k * s).powi(2) / (k * coin)))
}

#[cfg(test)]
mod tests;
