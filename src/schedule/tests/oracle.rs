//! Years of random schedules against an oracle that knows nothing of days and ambiguous times: it goes through time minute
//! by minute and asks what the clocks show.

use super::super::{Opening, Schedule};
use crate::base::time::Timestamp;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use std::collections::BTreeSet;

const MINUTE: i64 = 60_000;
const DAY: i64 = 1440;
/// Two years each, and two days before and after them.
const SPAN: i64 = 2 * 366 * DAY;
const MARGIN: i64 = 4 * DAY;
const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Zones with changes of half an hour and of two hours, at midnight, over the dateline, in Ramadan, and without any.
const ZONES: [&str; 16] = [
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "America/St_Johns",
    "America/Havana",
    "America/Sao_Paulo",
    "America/Nuuk",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "Asia/Tehran",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "UTC",
];

/// What the clocks of a zone show in each minute of a stretch of time, as minutes since 1970-01-01 00:00 by them.
struct Clocks {
    /// The first minute, in minutes since 1970-01-01T00:00Z.
    from: i64,
    shown: Vec<i64>,
}

impl Clocks {
    fn of(zone: &str, from: i64) -> Self {
        let zone = jiff::tz::db().get(zone).unwrap();
        let offset = |minute: i64| {
            let at = jiff::Timestamp::from_millisecond(minute * MINUTE).unwrap();
            i64::from(zone.to_offset(at).seconds()).div_euclid(60)
        };
        let mut shown = Vec::new();
        let end = from + SPAN + 2 * MARGIN;
        let mut minute = from;
        while minute < end {
            // Nobody puts clocks forward and back within an hour.
            let even = offset(minute) == offset(minute + 59);
            let first = offset(minute);
            shown.extend((minute..minute + 60).map(|m| m + if even { first } else { offset(m) }));
            minute += 60;
        }
        Self { from, shown }
    }

    /// Minutes at which the clocks were changed, as indices.
    fn changes(&self) -> Vec<usize> {
        (1..self.shown.len()).filter(|index| self.shown[*index] != self.shown[index - 1] + 1).collect()
    }

    /// The first minute from which on the clocks have reached a time, as an index.
    fn reached(&self, time: i64) -> usize {
        let near = self.near(time);
        near.clone().find(|index| self.shown[*index] >= time).unwrap_or(near.end)
    }

    /// The minute after the last one in which the clocks show less, as an index.
    fn passed(&self, time: i64) -> usize {
        let near = self.near(time);
        near.clone().rev().find(|index| self.shown[*index] < time).map_or(near.start, |index| index + 1)
    }

    /// Indices among which the clocks show a time: offsets are below 36 hours.
    fn near(&self, time: i64) -> std::ops::Range<usize> {
        let index = |minute: i64| usize::try_from((minute - self.from).clamp(0, self.shown.len() as i64)).unwrap();
        index(time - 36 * 60)..index(time + 36 * 60)
    }

    fn days(&self) -> std::ops::Range<i64> {
        self.shown[0].div_euclid(DAY) - 1..self.shown[self.shown.len() - 1].div_euclid(DAY) + 1
    }
}

/// Monday is 0: 1970-01-01 was a Thursday.
fn weekday(day: i64) -> usize {
    usize::try_from((day + 3).rem_euclid(7)).unwrap()
}

#[derive(Debug, Clone)]
struct RandomWindow {
    days: Vec<usize>,
    opens: i64,
    closes: i64,
    zone: &'static str,
}

impl RandomWindow {
    fn text(&self) -> String {
        let days: Vec<&str> = self.days.iter().map(|day| NAMES[*day]).collect();
        let time = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        format!("{} {}-{} {}", days.join(","), time(self.opens), time(self.closes), self.zone)
    }

    /// Marks the minutes in which it is open.
    fn mark(&self, clocks: &Clocks, open: &mut [bool]) {
        for day in clocks.days().filter(|day| self.days.contains(&weekday(*day))) {
            let closes = day * DAY + self.closes + if self.closes > self.opens { 0 } else { DAY };
            let (from, to) = (clocks.reached(day * DAY + self.opens), clocks.passed(closes));
            open[from.min(to)..to].iter_mut().for_each(|minute| *minute = true);
        }
    }
}

/// A field of cron: its text, and the values that it means.
#[derive(Debug, Clone)]
struct RandomField {
    text: String,
    means: BTreeSet<i64>,
    any: bool,
}

fn field(least: i64, most: i64) -> impl Strategy<Value = RandomField> {
    let all: Vec<i64> = (least..=most).collect();
    let any = Just(RandomField { text: "*".into(), means: all.iter().copied().collect(), any: true });
    let list = subsequence(all, 1..=3).prop_map(|values| RandomField {
        text: values.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        means: values.into_iter().collect(),
        any: false,
    });
    let range = (least..=most, 0..=most, 1i64..=5).prop_map(move |(first, length, step)| {
        let last = (first + length).min(most);
        let means = (first..=last).step_by(usize::try_from(step).unwrap()).collect();
        RandomField { text: format!("{first}-{last}/{step}"), means, any: false }
    });
    let steps = (1..=most).prop_map(move |step| {
        let means = (least..=most).step_by(usize::try_from(step).unwrap()).collect();
        RandomField { text: format!("*/{step}"), means, any: true }
    });
    prop_oneof![3 => any, 3 => list, 2 => range, 1 => steps]
}

#[derive(Debug, Clone)]
struct RandomTrain {
    fields: [RandomField; 5],
    zone: &'static str,
}

impl RandomTrain {
    fn text(&self) -> String {
        let fields: Vec<&str> = self.fields.iter().map(|field| field.text.as_str()).collect();
        format!("{} {}", fields.join(" "), self.zone)
    }

    /// Whether it is meant by a time that the clocks show, with the days that it means.
    fn means(&self, time: i64, days: &BTreeSet<i64>) -> bool {
        let [minutes, hours, ..] = &self.fields;
        let in_day = time.rem_euclid(DAY);
        minutes.means.contains(&(in_day % 60))
            && hours.means.contains(&(in_day / 60))
            && days.contains(&time.div_euclid(DAY))
    }

    fn means_day(&self, day: i64) -> bool {
        let [_, _, dates, months, weekdays] = &self.fields;
        // `2026-11-24T…`
        let date = Timestamp(day * DAY * MINUTE).rfc3339();
        let number = |from: usize| date[from..from + 2].parse::<i64>().unwrap();
        let sunday_is_0 = i64::try_from((weekday(day) + 1) % 7).unwrap();
        let by_date = dates.means.contains(&number(8));
        let by_weekday = weekdays.means.contains(&sunday_is_0) || sunday_is_0 == 0 && weekdays.means.contains(&7);
        let by_day = if dates.any || weekdays.any { by_date && by_weekday } else { by_date || by_weekday };
        by_day && months.means.contains(&number(5))
    }

    /// Marks the minutes in which it departs.
    fn mark(&self, clocks: &Clocks, departs: &mut [bool]) {
        let days = clocks.days().filter(|day| self.means_day(*day)).collect();
        let mut latest = clocks.shown[0] - 1;
        for (index, &shown) in clocks.shown.iter().enumerate() {
            // What was shown before comes again.
            let again = shown <= latest;
            departs[index] |= (!again || self.fields[1].any) && self.means(shown, &days);
            if !self.fields[1].any && shown > latest + 1 {
                departs[index] |= (latest + 1..shown).any(|skipped| self.means(skipped, &days));
            }
            latest = latest.max(shown);
        }
    }
}

fn zone() -> impl Strategy<Value = &'static str> {
    let all: Vec<&'static str> =
        jiff::tz::db().available().map(|name| &*Box::leak(name.to_string().into_boxed_str())).collect();
    prop_oneof![3 => select(&ZONES[..]), 1 => select(all)]
}

fn random_window() -> impl Strategy<Value = RandomWindow> {
    let days = subsequence((0..7).collect::<Vec<usize>>(), 1..=7);
    // Times near those at which clocks are changed come often.
    let time = || prop_oneof![0..DAY, 0..200i64, select(vec![0, 60, 90, 120, 150, 180, 1410, 1439])];
    (days, time(), time(), any::<bool>(), zone()).prop_map(|(days, opens, closes, whole, zone)| {
        let closes = if closes == opens || closes == 0 && whole { DAY } else { closes };
        RandomWindow { days, opens, closes, zone }
    })
}

fn random_train() -> impl Strategy<Value = RandomTrain> {
    let fields = (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7));
    (fields, zone())
        .prop_map(|((minute, hour, day, month, weekday), zone)| RandomTrain {
            fields: [minute, hour, day, month, weekday],
            zone,
        })
        .prop_filter("a day that never comes", |train| super::check_departure(&train.text()).is_ok())
}

/// First minutes of two years each: 2011 has the day that Samoa skipped.
fn beginning() -> impl Strategy<Value = i64> {
    let year = prop_oneof![4 => 1985i64..2037, 1 => Just(2011i64)];
    year.prop_map(|year| (year - 1970) * 525_949 / 60 * 60)
}

/// Minutes to ask about: some of all, and each one near a change of clocks and near what the oracle marked.
fn asked(clocks: &[Clocks], marks: &[bool], stride: usize) -> BTreeSet<usize> {
    let (first, end) = (usize::try_from(MARGIN).unwrap(), usize::try_from(MARGIN + SPAN).unwrap());
    let mut asked: BTreeSet<usize> = (first..end).step_by(stride).collect();
    for change in clocks.iter().flat_map(Clocks::changes) {
        asked.extend((change.saturating_sub(150)..change + 150).step_by(3));
        asked.extend(change.saturating_sub(2)..change + 2);
    }
    let edges: Vec<usize> = (first..end).filter(|index| marks[*index] != marks[index - 1]).collect();
    // What departs every other minute has half a million of them, of which some thousand tell as much.
    asked.extend(edges.iter().step_by(1 + edges.len() / 5000).flat_map(|index| [index - 1, *index]));
    asked.retain(|index| (first..end).contains(index));
    asked
}

fn instant(clocks: &Clocks, index: usize) -> Timestamp {
    Timestamp((clocks.from + i64::try_from(index).unwrap()) * MINUTE)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 30, ..ProptestConfig::default() })]

    #[test]
    fn windows_are_open_when_clocks_say_so(
        windows in proptest::collection::vec(random_window(), 1..=3),
        from in beginning(),
        stride in 61usize..2000,
        ms in 0..MINUTE,
    ) {
        let texts: Vec<String> = windows.iter().map(RandomWindow::text).collect();
        let schedule = Schedule::read(&texts, &[]).unwrap();
        let clocks: Vec<Clocks> = windows.iter().map(|window| Clocks::of(window.zone, from)).collect();
        let mut open = vec![false; clocks[0].shown.len()];
        for (window, clocks) in windows.iter().zip(&clocks) {
            window.mark(clocks, &mut open);
        }
        // The first minute at or after each that is the other way: from behind.
        let mut turns = vec![open.len(); open.len()];
        for index in (0..open.len() - 1).rev() {
            turns[index] = if open[index] == open[index + 1] { turns[index + 1] } else { index + 1 };
        }
        for index in asked(&clocks, &open, stride) {
            let now = Timestamp(instant(&clocks[0], index).0 + ms);
            let turn = Some(turns[index]).filter(|turn| *turn < open.len()).map(|turn| instant(&clocks[0], turn));
            match schedule.opening(now) {
                Opening::Open { until } => {
                    prop_assert!(open[index], "{texts:?} at {}", now.rfc3339());
                    let week = until.is_none() && turn.is_none_or(|turn| turn.since(now).0 >= 8 * 86_400_000);
                    prop_assert!(week || until == turn || turn.is_none(), "{texts:?} at {}: {until:?} {turn:?}", now.rfc3339());
                }
                Opening::Closed { next } => {
                    prop_assert!(!open[index], "{texts:?} at {}", now.rfc3339());
                    prop_assert!(next == turn || turn.is_none(), "{texts:?} at {}: {next:?} {turn:?}", now.rfc3339());
                }
            }
        }
    }

    #[test]
    fn trains_depart_when_clocks_say_so(
        trains in proptest::collection::vec(random_train(), 1..=2),
        from in beginning(),
        stride in 61usize..4000,
        ms in 0..MINUTE,
    ) {
        let texts: Vec<String> = trains.iter().map(RandomTrain::text).collect();
        let schedule = Schedule::read(&[], &texts).unwrap();
        let clocks: Vec<Clocks> = trains.iter().map(|train| Clocks::of(train.zone, from)).collect();
        let mut departs = vec![false; clocks[0].shown.len()];
        for (train, clocks) in trains.iter().zip(&clocks) {
            train.mark(clocks, &mut departs);
        }
        // The first departure at or after each minute.
        let mut next = vec![departs.len(); departs.len() + 1];
        for index in (0..departs.len()).rev() {
            next[index] = if departs[index] { index } else { next[index + 1] };
        }
        for index in asked(&clocks, &departs, stride) {
            // Within a minute only the next one is left.
            let (at, first) = if ms % 2 == 0 { (0, index) } else { (ms, index + 1) };
            let now = Timestamp(instant(&clocks[0], index).0 + at);
            if next[first] < departs.len() {
                let expected = Some(instant(&clocks[0], next[first]));
                prop_assert_eq!(schedule.departure(now), expected, "{:?} at {}", &texts, now.rfc3339());
            }
        }
    }
}
