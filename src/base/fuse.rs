//! The fuse of a route's weights: what lets a proxy take a release out of the traffic by itself, before a controller can.
//!
//! Its numbers are kept as billionths: a route is compared with what it was, and what is stored must come back the same.

use super::time::Millis;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;

/// How many failures of the canary a proxy may pass on between two acknowledgements. It is about the seconds between these,
/// in which a larger number is none at all.
pub const FAILURES: RangeInclusive<u32> = 1..=1_000_000;
/// Evidence at which a fuse trips, in nats. 1,000 nats are more than any release makes.
pub const THRESHOLD: RangeInclusive<Decimal> = Decimal(0)..=Decimal::whole(1_000);
/// The factor by which the canary may be worse: as the judge takes it.
pub const RATIO: RangeInclusive<Decimal> = Decimal::whole(1)..=Decimal::whole(1_000_000);
/// The share by which it may be worse on top.
pub const ADD: RangeInclusive<Decimal> = Decimal(0)..=Decimal::whole(1);
/// Longest name in a fuse, in bytes: that of a node in App Mesh, which is much longer than a rollout's identifier.
pub const NAME_MAX: usize = 255;

/// What a proxy needs to know to watch a release by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fuse {
    /// Failures of the canary beyond what is tolerated that a proxy may pass on between two acknowledgements; then it holds.
    pub failures: u32,
    /// The target that takes the release, by its node.
    pub canary: String,
    /// The rollout. Evidence goes on from one write of weights to the next within one, and is of no use to another.
    pub rollout: String,
    /// Evidence in nats at which the fuse trips for good.
    pub threshold: Decimal,
    /// Tolerated: canary's error rate <= ratio * stable's + add.
    pub ratio: Decimal,
    /// See `ratio`; a share, 0.001 is 0.1 pp.
    pub add: Decimal,
}

/// A fuse as a proxy is given it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteFuse {
    /// What to watch.
    #[serde(flatten)]
    pub fuse: Fuse,
    /// How long a proxy that was acknowledged may hear nothing before it sends to stable: the span of the weights' lease.
    /// `None` where nobody has to renew them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lapses_after: Option<Millis>,
}

/// A number from 0 on, in billionths: exact, so that equal texts are equal values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Decimal(u64);

impl Decimal {
    /// Billionths in one.
    const ONE: u64 = 1_000_000_000;
    /// Digits behind the point.
    const PLACES: usize = 9;

    /// A whole number; more than 18 billion of it is that much.
    #[must_use]
    pub const fn whole(number: u64) -> Self {
        Self(number.saturating_mul(Self::ONE))
    }

    /// The next one that is not below `value`: neither a threshold nor a tolerance gets stricter by it. What is negative or
    /// no number is 0, what is too large the largest.
    #[must_use]
    pub fn at_least(value: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, which is what is meant"
        )]
        Self((value * Self::ONE as f64).ceil() as u64)
    }

    /// The nearest float.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0 as f64 / Self::ONE as f64
    }

    /// Reads digits with at most one point among them and nine digits behind it; `None` for anything else.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > Self::PLACES {
            return None;
        }
        let part = format!("{part:0<width$}", width = Self::PLACES).parse::<u64>().ok()?;
        whole.parse::<u64>().ok()?.checked_mul(Self::ONE)?.checked_add(part).map(Self)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / Self::ONE, self.0 % Self::ONE);
        let part = format!("{part:0width$}", width = Self::PLACES);
        match part.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            part => write!(f, "{whole}.{part}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_as_they_are_written() {
        for text in ["0", "1", "5.73", "0.001", "0.000000001", "18446744073.709551615"] {
            assert_eq!(Decimal::read(text).expect(text).to_string(), text);
        }
        assert_eq!(Decimal::read("1.50"), Decimal::read("1.5"));
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "NaN", "0.0000000001", "18446744073.709551616", "1.2.3"] {
            assert_eq!(Decimal::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_float_is_never_made_stricter() {
        for value in [0.0, 0.001, 5.729_100_12, 1.0 / 3.0, 20.0_f64.ln()] {
            let kept = Decimal::at_least(value);
            assert!(kept.get() >= value - 1e-15 && kept.get() - value < 2e-9, "{value} {kept}");
        }
        assert_eq!([f64::NAN, -1.0].map(Decimal::at_least), [Decimal(0); 2]);
        assert_eq!(Decimal::at_least(f64::INFINITY), Decimal(u64::MAX));
    }
}
