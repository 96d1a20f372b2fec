//! Time and chance, as parts to be handed in. The only module that asks the system for either.

use crate::base::ids::RolloutId;
use crate::base::time::Timestamp;
use std::time::Duration;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Wall clock now.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A point of the monotonic clock, for measuring spans that a wall clock's jump must not touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(std::time::Instant);

impl Monotonic {
    /// Now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub fn now() -> Self {
        Self(std::time::Instant::now())
    }

    /// The point that lies so much later; this one when that cannot be told.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.checked_add(span).unwrap_or(self.0))
    }

    /// Span since then.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().0.saturating_duration_since(self.0)
    }

    /// Span from an earlier point to this one; zero when it is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

/// A new rollout identifier: 64 random bits from the system.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that mints identifiers")]
pub fn new_rollout_id() -> RolloutId {
    RolloutId(format!("r-{:016x}", rand::random::<u64>()))
}

/// A random UUID (version 4), for resources that AWS gives one and for naming processes.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that mints identifiers")]
pub fn new_uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// 64 random bits from the system, to seed a generator with.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that asks the system for chance")]
pub fn seed() -> u64 {
    rand::random()
}
