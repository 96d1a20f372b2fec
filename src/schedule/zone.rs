//! A time zone: which instants show a time of its clocks, and what its clocks show at an instant.

use super::ScheduleError;
use crate::base::time::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone, db};

/// How far a name may be from a known one to be taken for a slip of the fingers: Jaro-Winkler, 0 to 1.
const ALIKE: f64 = 0.85;

/// A zone of the database inside the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Zone(TimeZone);

/// The instants at which a zone's clocks show a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// This one.
    Once(Timestamp),
    /// None: clocks were put forward over it, at this instant.
    Skipped(Timestamp),
    /// Two: clocks were put back between them.
    Twice(Timestamp, Timestamp),
}

impl Zone {
    /// The zone of an IANA name, in any case.
    ///
    /// # Errors
    /// There is none of that name.
    pub(super) fn named(name: &str) -> Result<Self, ScheduleError> {
        // `Etc/Unknown` is a name that the database does not have and that is answered all the same.
        let known = |name: &str| !name.eq_ignore_ascii_case("Etc/Unknown") && !name.is_empty();
        if let (true, Ok(zone)) = (known(name), db().get(name)) {
            return Ok(Self(zone));
        }
        let shown: String = name.chars().take(40).collect();
        let alike = db()
            .available()
            .map(|known| {
                (strsim::jaro_winkler(&known.as_str().to_lowercase(), &shown.to_lowercase()), known.to_string())
            })
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .max_by(|(a, _), (b, _)| a.total_cmp(b));
        let hint = match alike {
            Some((_, known)) => format!("did you mean `{known}`?"),
            None => "name a zone of the IANA database, such as `Europe/Berlin`, `America/New_York` or `UTC`".to_owned(),
        };
        Err(ScheduleError::new(format!("there is no time zone `{shown}`"), hint))
    }

    /// What the clocks show; `None` for an instant beyond the years that can be told.
    pub(super) fn clock(&self, at: Timestamp) -> Option<DateTime> {
        Some(self.0.to_datetime(instant(at)?))
    }

    /// When the clocks show a time of a day, in minutes from its midnight, 1440 included; `None` beyond the years that can
    /// be told.
    pub(super) fn shown(&self, day: Date, minutes: u32) -> Option<Shown> {
        let (day, minutes) = if minutes >= 1440 { (day.tomorrow().ok()?, minutes - 1440) } else { (day, minutes) };
        let time = day.at(i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?, 0, 0);
        let by = |offset: jiff::tz::Offset| offset.to_timestamp(time).ok();
        let ambiguous = self.0.to_ambiguous_timestamp(time).offset();
        let (AmbiguousOffset::Fold { before, after } | AmbiguousOffset::Gap { before, after }) = ambiguous else {
            let AmbiguousOffset::Unambiguous { offset } = ambiguous else { return None };
            return Some(Shown::Once(millis(by(offset)?)));
        };
        let (by_old, by_new) = (by(before)?, by(after)?);
        // Where a zone's table ends and its rule begins (Nuuk, 2023-10-29), jiff tells of clocks put back that never were:
        // what the clocks show at the two instants decides.
        Some(match (self.0.to_datetime(by_old) == time, self.0.to_datetime(by_new) == time) {
            (true, true) => Shown::Twice(millis(by_old), millis(by_new)),
            (true, false) => Shown::Once(millis(by_old)),
            (false, true) => Shown::Once(millis(by_new)),
            (false, false) => {
                // By the later offset the time lies before the change, by the earlier one behind it.
                let change = self.0.following(by_new).map(|change| change.timestamp()).find(|at| *at <= by_old);
                Shown::Skipped(millis(change.unwrap_or(by_old)))
            }
        })
    }

    /// The instant of a day's midnight, where the clocks run on from there to the next one without a change.
    pub(super) fn even_day(&self, day: Date) -> Option<Timestamp> {
        let (Shown::Once(from), Shown::Once(to)) = (self.shown(day, 0)?, self.shown(day, 1440)?) else { return None };
        (to.since(from).0 == 86_400_000).then_some(from)
    }
}

fn instant(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(at.0).ok()
}

fn millis(at: jiff::Timestamp) -> Timestamp {
    Timestamp(at.as_millisecond())
}
