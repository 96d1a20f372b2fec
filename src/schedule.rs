//! When rollouts of a policy may begin: the windows of `start.windows` and the departures of `start.at`. Functions of a
//! schedule and an instant; nothing here can tell what time it is.
//!
//! ```text
//! "Mon-Thu 09:00-16:00 Europe/Berlin"    window: open on these days, from and to these times of that zone
//! "0 9,14 * * Mon-Thu Europe/Berlin"     departure: minute, hour, day of the month, month, day of the week, zone
//! ```
//!
//! Zones are those of the IANA database inside the program. Where a zone's clocks change (`zone`):
//!
//! | | in the hour that is skipped | in the hour that comes twice |
//! |---|---|---|
//! | a window opens | when clocks are past it | the first time |
//! | a window closes | when clocks are past it | the second time |
//! | a departure at named hours | right after it, once | the first time |
//! | a departure at every hour (`*`, `*/2`) | not at all: the next hour comes at once | both times |
//!
//! (One that closes where the hour begins that comes twice closes there, since none of its minutes comes again.)
//!
//! So a window is one stretch of time without a hole, and never shorter than what its clock times say by more than the
//! skipped hour; a window that lies in the skipped hour does not open on that day.

mod cron;
mod window;
mod zone;

#[cfg(test)]
mod tests;

use crate::base::time::{Millis, Timestamp, Window as Span};
use cron::Train;
use window::Window;

/// Departures of `start.at` that are compared with the windows, of all entries together: half a year of a daily one, a week of an
/// hourly one. A policy is read at every start, and this is most of what that takes.
const COMPARED_DEPARTURES: usize = 200;
/// Monday, 2026-01-05T00:00:00Z: from here on for two weeks no zone changes its clocks, so that lengths are what is
/// written.
const QUIET_FORTNIGHT: Timestamp = Timestamp(1_767_571_200_000);

/// When rollouts may begin. Without windows always; without departures as soon as they are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    windows: Vec<Window>,
    trains: Vec<Train>,
}

/// Whether a rollout may begin at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// It may, and the last instant of that is just before `until`. Windows that meet are one. `None` where it is further
    /// away than a week.
    Open {
        /// When it ends.
        until: Option<Timestamp>,
    },
    /// It may not.
    Closed {
        /// When it may next. `None` where that is no instant that can be told (a clock far out of range).
        next: Option<Timestamp>,
    },
}

/// Why a text is no window and no departure: what is wrong with which part of it, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ScheduleError {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl ScheduleError {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// Checks one entry of `start.windows`.
///
/// # Errors
/// [`ScheduleError`] where it is none.
pub fn check_window(text: &str) -> Result<(), ScheduleError> {
    Window::read(text).map(|_| ())
}

/// Checks one entry of `start.at`.
///
/// # Errors
/// [`ScheduleError`] where it is none, or where it never comes (30 February).
pub fn check_departure(text: &str) -> Result<(), ScheduleError> {
    Train::read(text).map(|_| ())
}

/// The instant of an RFC 3339 text with its offset, such as `2026-11-30T09:00:00+01:00`; `None` for anything else.
#[must_use]
pub fn instant(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|at| Timestamp(at.as_millisecond()))
}

impl Schedule {
    /// Reads a schedule of the entries of `start.windows` and `start.at`.
    ///
    /// # Errors
    /// [`ScheduleError`] of the first entry that is wrong.
    pub fn read(windows: &[String], departures: &[String]) -> Result<Self, ScheduleError> {
        let windows = windows.iter().map(|text| Window::read(text)).collect::<Result<_, _>>()?;
        let trains = departures.iter().map(|text| Train::read(text)).collect::<Result<_, _>>()?;
        Ok(Self { windows, trains })
    }

    /// Whether a rollout may begin now, by the windows alone.
    #[must_use]
    pub fn opening(&self, now: Timestamp) -> Opening {
        if self.windows.is_empty() {
            return Opening::Open { until: None };
        }
        let covering =
            |at: Timestamp| self.windows.iter().filter_map(|window| window.covering(at)).map(|span| span.to).max();
        let Some(mut until) = covering(now) else {
            return Opening::Closed { next: self.windows.iter().filter_map(|window| window.next(now)).min() };
        };
        // The week repeats: what is open for longer than eight days is open always, or as good as.
        let far = now.plus(Millis(8 * 86_400_000));
        while until < far {
            match covering(until) {
                // Each window begins its spans at whole minutes, so this ends.
                Some(later) => until = later,
                None => return Opening::Open { until: Some(until) },
            }
        }
        Opening::Open { until: None }
    }

    /// When what is asked for at an instant departs: the first departure at or after it, `asked` itself without any
    /// departures. `None` where it is no instant that can be told.
    #[must_use]
    pub fn departure(&self, asked: Timestamp) -> Option<Timestamp> {
        if self.trains.is_empty() {
            return Some(asked);
        }
        self.trains.iter().filter_map(|train| train.next(asked)).min()
    }

    /// The longest stretch for which it is open, by the clock times that are written; `None` without windows, or where it
    /// is open for more than a week.
    #[must_use]
    pub fn longest_opening(&self) -> Option<Millis> {
        if self.windows.is_empty() {
            return None;
        }
        let (mut at, mut longest) = (QUIET_FORTNIGHT, Millis(0));
        let end = QUIET_FORTNIGHT.plus(Millis(14 * 86_400_000));
        while at < end {
            at = match self.opening(at) {
                Opening::Open { until: None } => return None,
                Opening::Open { until: Some(until) } => {
                    longest = longest.max(until.since(at));
                    until
                }
                Opening::Closed { next: Some(next) } => next,
                Opening::Closed { next: None } => break,
            };
        }
        Some(longest)
    }

    /// A departure at which the windows are closed, by the index of its entry and as a day and a time of its zone
    /// (`Fri 14:00`). Only the first few hundred of each entry are looked at.
    #[must_use]
    pub fn departure_outside(&self) -> Option<(usize, String)> {
        self.trains.iter().enumerate().find_map(|(index, train)| {
            let mut at = QUIET_FORTNIGHT;
            for _ in 0..(COMPARED_DEPARTURES / self.trains.len()).max(1) {
                at = train.next(at)?;
                if let Opening::Closed { .. } = self.opening(at) {
                    return Some((index, train.clock(at)));
                }
                at = at.plus(Millis(1));
            }
            None
        })
    }
}

/// Whether an instant lies in a span.
fn contains(span: &Span, at: Timestamp) -> bool {
    span.from <= at && at < span.to
}
