//! Time and chance, as parts to be handed in. The only module that asks the system for either.

use crate::base::ids::RolloutId;
use crate::base::time::Timestamp;
use crate::base::token::Token;
use std::sync::{Mutex, PoisonError};
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

/// Wall time for deadlines: it runs with the monotonic clock and follows the system's by at most a tenth of the time that
/// passes. A jump of the wall clock (a person, a first synchronisation, a laptop that slept) then moves no deadline and
/// makes no silence, and it never goes back.
#[derive(Debug)]
pub struct SteadyClock {
    started: Monotonic,
    steady: Mutex<Slewed>,
}

impl Default for SteadyClock {
    fn default() -> Self {
        let (started, wall) = (Monotonic::now(), SystemClock.now());
        Self { started, steady: Mutex::new(Slewed { last: Duration::ZERO, now: wall }) }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        // Valid after any panic: it is two numbers that are written together.
        let mut steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        steady.advance(self.started.elapsed(), SystemClock.now())
    }
}

/// A steady clock's arithmetic, apart from the clocks.
#[derive(Debug, Clone, Copy)]
struct Slewed {
    /// The monotonic clock at the last look.
    last: Duration,
    /// What was answered then.
    now: Timestamp,
}

impl Slewed {
    fn advance(&mut self, elapsed: Duration, wall: Timestamp) -> Timestamp {
        let passed_ms = i64::try_from(elapsed.saturating_sub(self.last).as_millis()).unwrap_or(0);
        // Whole milliseconds only are used up, so that many looks within one lose none of it.
        self.last += Duration::from_millis(u64::try_from(passed_ms).unwrap_or(0));
        let steady = self.now.0.saturating_add(passed_ms);
        let most = passed_ms / 10;
        self.now = Timestamp(steady.saturating_add(wall.0.saturating_sub(steady).clamp(-most, most)));
        self.now
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

    /// The point so long after this one; the same where that is beyond what the clock can tell.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.checked_add(span).unwrap_or(self.0))
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

/// A new token of the API, by the system's source of chance for secrets.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that mints identifiers")]
pub fn new_token() -> Token {
    Token::new(rand::random(), rand::random())
}

/// 64 random bits from the system, to seed a generator with.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that asks the system for chance")]
pub fn seed() -> u64 {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_wall_clock_moves_a_steady_one_slowly_and_never_back() {
        let mut steady = Slewed { last: Duration::ZERO, now: Timestamp(1_000_000) };
        let at = |ms| Duration::from_millis(ms);
        assert_eq!(steady.advance(at(1000), Timestamp(1_001_000)), Timestamp(1_001_000));
        // An hour forward, then two back: a tenth of the time that passed is all that it follows.
        assert_eq!(steady.advance(at(2000), Timestamp(4_602_000)), Timestamp(1_002_100));
        assert_eq!(steady.advance(at(3000), Timestamp(-2_597_000)), Timestamp(1_003_000));
        assert_eq!(steady.advance(at(3000), Timestamp(-2_597_000)), Timestamp(1_003_000));
        assert_eq!(steady.advance(at(13_000), Timestamp(1_013_500)), Timestamp(1_013_500));
    }

    #[test]
    fn many_looks_within_a_millisecond_lose_no_time() {
        let mut steady = Slewed { last: Duration::ZERO, now: Timestamp(0) };
        for tick in 1..=100_000_u64 {
            let elapsed = Duration::from_micros(tick * 100);
            steady.advance(elapsed, Timestamp(i64::try_from(tick / 10).expect("small")));
        }
        assert_eq!(steady.now, Timestamp(10_000));
    }
}
