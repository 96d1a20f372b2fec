//! Traffic shares. A rollout writes whole percents that sum to 100.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Whole percent of a route's traffic, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Percent(u8);

impl Percent {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Everything.
    pub const FULL: Self = Self(100);

    /// `None` above 100.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value <= 100 { Some(Self(value)) } else { None }
    }

    /// The number of percents.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// What is left for the other arm.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(100 - self.0)
    }

    /// As a probability, 0.0 to 1.0.
    #[must_use]
    pub fn share(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let value = u8::deserialize(source)?;
        Self::new(value).ok_or_else(|| serde::de::Error::custom(format!("{value} is more than 100 percent")))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

/// Which of a policy's two `versions`: the slots are reused in turn by successive releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// `versions[0]`.
    First,
    /// `versions[1]`.
    Second,
}

impl Slot {
    /// The slot that this one is not.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    /// 0 or 1, as an index into `versions`.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::First => 0,
            Self::Second => 1,
        }
    }
}

/// Weights of the two slots of one route: they sum to 100 by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Weights {
    /// The slot that holds the release.
    pub canary: Slot,
    /// Its share; the other slot has the rest.
    pub share: Percent,
}

impl Weights {
    /// Share of a slot.
    #[must_use]
    pub const fn of(self, slot: Slot) -> Percent {
        if matches!((slot, self.canary), (Slot::First, Slot::First) | (Slot::Second, Slot::Second)) {
            self.share
        } else {
            self.share.rest()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_slots_always_sum_to_100() {
        for share in 0..=100 {
            for canary in [Slot::First, Slot::Second] {
                let weights = Weights { canary, share: Percent::new(share).expect("0..=100") };
                assert_eq!(weights.of(Slot::First).get() + weights.of(Slot::Second).get(), 100);
                assert_eq!(weights.of(canary).get(), share);
            }
        }
        assert_eq!(Percent::new(101), None);
    }
}
