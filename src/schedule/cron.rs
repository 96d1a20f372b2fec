//! One entry of `start.at`: five fields of cron and a zone.
//!
//! Fields are lists of numbers, ranges and steps (`9,14`, `9-17`, `*/15`, `10-50/20`); months and days of the week also by
//! their English names. As everywhere with cron a day is meant by either of its fields where both are restricted, and by
//! both where one begins with `*`.

use super::ScheduleError;
use super::window::DAYS;
use super::zone::{Shown, Zone};
use crate::base::time::Timestamp;
use jiff::civil::Date;

/// What an entry looks like, for hints.
const LIKE: &str = "write minute, hour, day of the month, month, day of the week and a zone, such as \
                    `0 9,14 * * Mon-Thu Europe/Berlin`";
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Days that are searched for the next departure: 29 February comes on each day of the week within 40 years, with a century
/// between that has none.
const SEARCHED_DAYS: usize = 41 * 366;
/// From when a departure must come at all: any day, so that an entry is good or not whenever it is read.
const SEARCHED_FROM: Timestamp = super::QUIET_FORTNIGHT;

/// Departures by a cron expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Train {
    /// Bit 0 is minute 0; likewise below.
    minutes: u64,
    hours: u64,
    /// Bit 1 is the first of a month.
    days: u64,
    /// Bit 1 is January.
    months: u64,
    /// Bit 0 is Sunday.
    weekdays: u64,
    /// Whether a day is meant by one of its two fields already: both are restricted.
    either: bool,
    /// Whether the hours begin with `*`: what is meant then is a span between departures and no time of a day.
    every_hour: bool,
    zone: Zone,
}

/// How a field is read.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    /// Names of its values, from `least` on.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, names: &[] },
    Field { name: "hour", least: 0, most: 23, names: &[] },
    Field { name: "day of the month", least: 1, most: 31, names: &[] },
    Field { name: "month", least: 1, most: 12, names: &MONTHS },
    // 7 is Sunday as well.
    Field { name: "day of the week", least: 0, most: 7, names: &["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"] },
];

impl Train {
    pub(super) fn read(text: &str) -> Result<Self, ScheduleError> {
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday, zone] = parts[..] else {
            let message = match parts.len() {
                5 => format!("`{text}` has no time zone"),
                _ => format!("`{text}` has {} parts instead of six", parts.len()),
            };
            return Err(ScheduleError::new(message, LIKE));
        };
        let [minutes, hours, days, months, weekdays] = [
            FIELDS[0].read(minute)?,
            FIELDS[1].read(hour)?,
            FIELDS[2].read(day)?,
            FIELDS[3].read(month)?,
            FIELDS[4].read(weekday)?,
        ];
        let weekdays = (weekdays | weekdays >> 7) & 0b111_1111;
        let either = !day.starts_with('*') && !weekday.starts_with('*');
        let every_hour = hour.starts_with('*');
        let train = Self { minutes, hours, days, months, weekdays, either, every_hour, zone: Zone::named(zone)? };
        match train.next(SEARCHED_FROM) {
            Some(_) => Ok(train),
            None => Err(ScheduleError::new(
                format!("`{text}` never comes"),
                "no such day is in any of the months that it names",
            )),
        }
    }

    /// The first departure at or after an instant.
    pub(super) fn next(&self, from: Timestamp) -> Option<Timestamp> {
        let first = self.zone.clock(from)?.date().yesterday().ok()?;
        let mut days = std::iter::successors(Some(first), |day| day.tomorrow().ok()).take(SEARCHED_DAYS);
        let (day, found) = days.find_map(|day| Some((day, self.on(day, from)?)))?;
        // Where clocks are put back over midnight, what is called the next day may come before the rest of this one.
        let next_day = day.tomorrow().ok().and_then(|day| self.on(day, from));
        Some(next_day.map_or(found, |other| other.min(found)))
    }

    /// What the clocks of its zone show, as `Fri 14:00`.
    pub(super) fn clock(&self, at: Timestamp) -> String {
        self.zone.clock(at).map_or_else(
            || at.rfc3339(),
            |time| {
                let day = usize::try_from(time.weekday().to_monday_zero_offset()).ok().and_then(|day| DAYS.get(day));
                format!("{} {:02}:{:02}", day.copied().unwrap_or_default(), time.hour(), time.minute())
            },
        )
    }

    fn means(&self, day: Date) -> bool {
        let has = |bits: u64, value: i8| u32::try_from(value).is_ok_and(|value| bits & (1 << value) != 0);
        let by_date = has(self.days, day.day());
        let by_weekday = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        let by_day = if self.either { by_date || by_weekday } else { by_date && by_weekday };
        by_day && has(self.months, day.month())
    }

    /// The first departure of a day at or after an instant.
    fn on(&self, day: Date, from: Timestamp) -> Option<Timestamp> {
        if !self.means(day) {
            return None;
        }
        let times = (0..24).filter(|hour| self.hours & (1 << hour) != 0).flat_map(|hour| {
            (0..60).filter(|minute| self.minutes & (1 << minute) != 0).map(move |minute| hour * 60 + minute)
        });
        if let Some(midnight) = self.zone.even_day(day) {
            let mut instants = times.map(|minutes: u32| Timestamp(midnight.0 + i64::from(minutes) * 60_000));
            return instants.find(|at| *at >= from);
        }
        let instants = times.flat_map(|minutes| match (self.zone.shown(day, minutes), self.every_hour) {
            (Some(Shown::Once(at)), _) => [Some(at), None],
            (Some(Shown::Twice(at, again)), true) => [Some(at), Some(again)],
            (Some(Shown::Twice(at, _)), false) => [Some(at), None],
            (Some(Shown::Skipped(at)), false) => [Some(at), None],
            (Some(Shown::Skipped(_)), true) | (None, _) => [None, None],
        });
        instants.flatten().filter(|at| *at >= from).min()
    }
}

impl Field {
    /// The values that a field names, as bits.
    fn read(&self, text: &str) -> Result<u64, ScheduleError> {
        text.split(',').try_fold(0, |bits, part| Ok(bits | self.part(part)?))
    }

    fn part(&self, part: &str) -> Result<u64, ScheduleError> {
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => (range, Some(self.step(part, step)?)),
        };
        let (first, last) = match range.split_once('-') {
            None if range == "*" => (self.least, self.most),
            // With a step the rest is meant: `5/15` is 5, 20, 35, 50.
            None => (self.value(range)?, if step.is_some() { self.most } else { self.value(range)? }),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
        };
        // `Fri-Sun`, where Sunday is 0.
        let last = if last == 0 && first > 0 && self.most == 7 { 7 } else { last };
        if first > last {
            let message = format!("`{part}` ends before it begins, as the {} of a departure", self.name);
            return Err(ScheduleError::new(message, "write two ranges, such as `22-23,0-2`"));
        }
        let values = (first..=last).step_by(step.unwrap_or(1));
        Ok(values.fold(0, |bits, value| bits | 1 << value))
    }

    fn step(&self, part: &str, step: &str) -> Result<usize, ScheduleError> {
        let all = step.bytes().all(|byte| byte.is_ascii_digit());
        let step = step.parse().ok().filter(|step| all && (1..=self.most as usize).contains(step));
        step.ok_or_else(|| {
            let message = format!("`{}` has no step that is a {}", short(part), self.name);
            ScheduleError::new(message, format!("write a step from 1 to {}, such as `*/2`", self.most))
        })
    }

    fn value(&self, text: &str) -> Result<u32, ScheduleError> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let named = named.and_then(|at| u32::try_from(at).ok()).map(|at| at + self.least);
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && (self.least..=self.most).contains(number));
        named.or(number).ok_or_else(|| {
            let names = match self.names {
                [first, .., last] => format!(", or names from `{first}` to `{last}`"),
                _ => String::new(),
            };
            let hint =
                format!("numbers from {} to {}{names}; `*`, `1-5`, `*/2` and lists work too", self.least, self.most);
            ScheduleError::new(format!("`{}` is no {}", short(text), self.name), hint)
        })
    }
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
