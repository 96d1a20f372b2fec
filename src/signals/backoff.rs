//! How long a source that limits calls is left alone: longer each time in a row, and never for exactly as long as another
//! daemon leaves it alone, so that those that were refused together do not come back together.

use crate::base::time::{Millis, Timestamp};
use std::sync::{Mutex, PoisonError};

/// After the first refusal. The SDK has tried for some seconds by then, so its own waits would add nothing.
const FIRST: Millis = Millis::from_seconds(5);
/// Longest wait: a source that allows no call in two minutes will not soon, and points of minutes are not late by more.
const LONGEST: Millis = Millis::from_seconds(120);
/// From here on `FIRST` doubled so often is beyond `LONGEST`.
const MOST_DOUBLINGS: u32 = 5;

/// One source's wait.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    in_a_row: u32,
    until: Option<Timestamp>,
}

impl Backoff {
    /// How long no call is to be made any more; `None` when one may be.
    pub(super) fn remaining(&self, now: Timestamp) -> Option<Millis> {
        let until = self.state.lock().unwrap_or_else(PoisonError::into_inner).until?;
        // A clock that was put back would make it wait for as long as that.
        Some(until.since(now)).filter(|left| left.0 > 0 && *left <= LONGEST)
    }

    /// A call was refused for there being too many. `draw` is chance from 0 to 1.
    pub(super) fn refused(&self, now: Timestamp, draw: f64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = FIRST.0.saturating_mul(1 << state.in_a_row.min(MOST_DOUBLINGS)).min(LONGEST.0);
        state.in_a_row = state.in_a_row.saturating_add(1);
        let part = 0.5 + 0.5 * draw.clamp(0.0, 1.0);
        state.until = Some(now.plus(Millis((whole as f64 * part) as u64)));
    }

    /// A call was answered.
    pub(super) fn answered(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }
}

/// A draw from bits of chance, from 0 to below 1.
pub(super) fn draw(bits: u64) -> f64 {
    // As many bits as a float holds exactly.
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_end_with_an_answer() {
        let backoff = Backoff::default();
        assert_eq!(backoff.remaining(Timestamp(0)), None);
        for seconds in [5, 10, 20, 40, 80, 120, 120, 120] {
            backoff.refused(Timestamp(0), 1.0);
            assert_eq!(backoff.remaining(Timestamp(0)), Some(Millis::from_seconds(seconds)));
        }
        assert_eq!(backoff.remaining(Timestamp(120_000)), None, "over");
        backoff.answered();
        backoff.refused(Timestamp(0), 1.0);
        assert_eq!(backoff.remaining(Timestamp(1_000)), Some(Millis(4_000)), "from the beginning again");
        assert_eq!(backoff.remaining(Timestamp(-3_600_000)), None, "a clock that was put back");
    }

    #[test]
    fn chance_takes_up_to_half_of_a_wait() {
        for (bits, expected) in [(0, 2_500), (1 << 62, 3_125), (1 << 63, 3_750), (u64::MAX, 5_000)] {
            let backoff = Backoff::default();
            backoff.refused(Timestamp(0), draw(bits));
            assert_eq!(backoff.remaining(Timestamp(0)), Some(Millis(expected)), "{bits}");
        }
    }
}
