//! One entry of `start.windows`: days, a time from and to, a zone.

use super::zone::{Shown, Zone};
use super::{ScheduleError, Span, contains};
use crate::base::time::{Millis, Timestamp};
use jiff::civil::Date;

/// What a window looks like, for hints.
const LIKE: &str = "write days, times and a zone, such as `Mon-Thu 09:00-16:00 Europe/Berlin`";
/// Days of the week as they are written.
pub(super) const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MINUTE: Millis = Millis::from_seconds(60);
/// Days that are searched for the next opening: a week, the one before it, and a few that a change of clocks may take
/// (Samoa skipped one).
const SEARCHED_DAYS: usize = 21;

/// A window. It belongs to the day on which it opens, also where it closes on the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    /// Days on which it opens: Monday is bit 0.
    days: u8,
    /// When, in minutes from midnight, below 1440.
    opens: u32,
    /// When it closes, from 1 to 1440; on the next day where it is not above `opens`.
    closes: u32,
    zone: Zone,
}

impl Window {
    pub(super) fn read(text: &str) -> Result<Self, ScheduleError> {
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let [days, times, zone] = parts[..] else {
            let message = match parts.len() {
                2 => format!("`{text}` has no time zone"),
                _ => format!("`{text}` is no window: it has {} parts instead of three", parts.len()),
            };
            return Err(ScheduleError::new(message, LIKE));
        };
        let days = read_days(days)?;
        let (opens, closes) = times.split_once('-').ok_or_else(|| {
            ScheduleError::new(
                format!("`{times}` are no times"),
                "write when it opens and closes, such as `09:00-16:00`",
            )
        })?;
        let (opens, closes) = (read_time(opens, 1439)?, read_time(closes, 1440)?);
        if opens == closes {
            let hint = "write `00:00-24:00` for whole days";
            return Err(ScheduleError::new(format!("`{times}` closes when it opens"), hint));
        }
        // `22:00-00:00` closes with its own day.
        let closes = if closes == 0 { 1440 } else { closes };
        Ok(Self { days, opens, closes, zone: Zone::named(zone)? })
    }

    /// From when to when it is open that began on a day; `None` where it does not open on it.
    fn on(&self, day: Date) -> Option<Span> {
        if self.days & (1 << day.weekday().to_monday_zero_offset()) == 0 {
            return None;
        }
        let (Shown::Once(from) | Shown::Skipped(from) | Shown::Twice(from, _)) = self.zone.shown(day, self.opens)?;
        let last_day = if self.closes > self.opens { day } else { day.tomorrow().ok()? };
        // Behind the last minute of it that clocks show. That is not always when they show its end: where the hour that comes
        // twice begins there, nothing of the window comes again.
        let to = match self.zone.shown(last_day, self.closes - 1)? {
            Shown::Once(last) | Shown::Twice(_, last) => last.plus(MINUTE),
            Shown::Skipped(over) => over,
        };
        (from < to).then_some(Span { from, to })
    }

    /// The span in which an instant lies: of two that meet there (a day that is skipped) the longer.
    pub(super) fn covering(&self, at: Timestamp) -> Option<Span> {
        let today = self.zone.clock(at)?.date();
        // It may have opened the day before; and where clocks are put back over midnight, on what is called tomorrow again,
        // or on the day before yesterday.
        let days = [today.yesterday().ok()?.yesterday().ok()?, today.yesterday().ok()?, today, today.tomorrow().ok()?];
        days.into_iter().filter_map(|day| self.on(day)).filter(|span| contains(span, at)).max_by_key(|span| span.to)
    }

    /// When it opens next after an instant.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let first = self.zone.clock(after)?.date().yesterday().ok()?;
        let days = std::iter::successors(Some(first), |day| day.tomorrow().ok()).take(SEARCHED_DAYS);
        days.filter_map(|day| self.on(day)).map(|span| span.from).find(|from| *from > after)
    }
}

/// Days such as `Mon-Thu`, `Mon,Wed`, `Fri-Mon` or `daily`, as bits.
fn read_days(text: &str) -> Result<u8, ScheduleError> {
    if text.eq_ignore_ascii_case("daily") {
        return Ok(0b111_1111);
    }
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (read_day(first)?, read_day(last)?);
        days |= 1 << last;
        // Over the end of the week where the last comes before the first.
        while day != last {
            days |= 1 << day;
            day = (day + 1) % 7;
        }
    }
    Ok(days)
}

fn read_day(text: &str) -> Result<usize, ScheduleError> {
    DAYS.iter().position(|day| day.eq_ignore_ascii_case(text)).ok_or_else(|| {
        let hint = format!("days are {}; `Mon-Thu` is a range, `Mon,Wed` a list, `daily` every day", DAYS.join(", "));
        ScheduleError::new(format!("`{}` is no day", text.chars().take(40).collect::<String>()), hint)
    })
}

/// Minutes from midnight of `HH:MM`, up to `most`.
fn read_time(text: &str, most: u32) -> Result<u32, ScheduleError> {
    let two = |digits: &str| match digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => digits.parse::<u32>().ok(),
        false => None,
    };
    let read = text.split_once(':').and_then(|(hours, minutes)| Some((two(hours)?, two(minutes)?)));
    let minutes = read.filter(|(_, minutes)| *minutes < 60).map(|(hours, minutes)| hours * 60 + minutes);
    minutes.filter(|minutes| *minutes <= most).ok_or_else(|| {
        let message = format!("`{}` is no time of a day", text.chars().take(40).collect::<String>());
        ScheduleError::new(message, "write hours and minutes from `00:00` to `23:59`; a window may close at `24:00`")
    })
}
