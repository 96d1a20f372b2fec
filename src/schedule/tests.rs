//! Schedules: what is read and what is not, changes of clocks by example, and years of random ones against an oracle that
//! goes through time minute by minute.

mod oracle;

use super::{Opening, QUIET_FORTNIGHT, Schedule, check_departure, check_window};
use crate::base::time::{Millis, Timestamp};

fn windows(texts: &[&str]) -> Schedule {
    Schedule::read(&texts.iter().map(ToString::to_string).collect::<Vec<_>>(), &[]).unwrap()
}

fn departures(texts: &[&str]) -> Schedule {
    Schedule::read(&[], &texts.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
}

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

/// The openings from an instant on.
fn openings(schedule: &Schedule, from: &str, count: usize) -> Vec<String> {
    let mut now = at(from);
    let mut found = Vec::new();
    while found.len() < count {
        now = match schedule.opening(now) {
            Opening::Closed { next } => next.unwrap(),
            Opening::Open { until: None } => panic!("always open"),
            Opening::Open { until: Some(until) } => {
                found.push(format!("{} {}", &now.rfc3339()[..16], &until.rfc3339()[..16]));
                until
            }
        };
    }
    found
}

fn next_departures(schedule: &Schedule, from: &str, count: usize) -> Vec<String> {
    let mut now = at(from);
    let next = || {
        let departure = schedule.departure(now).unwrap();
        now = departure.plus(Millis(1));
        departure.rfc3339()[..16].to_owned()
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[test]
fn windows_belong_to_the_day_on_which_they_open() {
    let office = windows(&["Mon-Thu 09:00-16:00 Europe/Berlin"]);
    assert_eq!(
        openings(&office, "2026-11-25T12:00:00Z", 3),
        ["2026-11-25T12:00 2026-11-25T15:00", "2026-11-26T08:00 2026-11-26T15:00", "2026-11-30T08:00 2026-11-30T15:00"]
    );
    // Half open: at 16:00 it is closed, at 09:00 it is open.
    assert_eq!(office.opening(at("2026-11-25T15:00:00Z")), Opening::Closed { next: Some(at("2026-11-26T08:00:00Z")) });
    assert_eq!(office.opening(at("2026-11-26T08:00:00Z")), Opening::Open { until: Some(at("2026-11-26T15:00:00Z")) });
    // 2026-11-27 is a Friday.
    let night = windows(&["Fri 22:00-02:00 UTC"]);
    assert_eq!(openings(&night, "2026-11-24T00:00:00Z", 1), ["2026-11-27T22:00 2026-11-28T02:00"]);
    let weekend = windows(&["Fri-Mon 00:00-24:00 UTC"]);
    assert_eq!(openings(&weekend, "2026-11-24T00:00:00Z", 1), ["2026-11-27T00:00 2026-12-01T00:00"]);
    assert_eq!(windows(&["daily 00:00-24:00 UTC"]).opening(at("2026-11-24T00:00:00Z")), Opening::Open { until: None });
    let two = windows(&["mon,wed 09:00-12:00 UTC", "Mon 12:00-13:30 UTC", "Mon 11:00-11:30 Europe/London"]);
    assert_eq!(
        openings(&two, "2026-11-29T00:00:00Z", 2),
        ["2026-11-30T09:00 2026-11-30T13:30", "2026-12-02T09:00 2026-12-02T12:00"]
    );
    assert_eq!(two.longest_opening(), Some(Millis(4 * 3_600_000 + 1_800_000)));
    assert_eq!(Schedule::default().opening(at("2026-11-24T00:00:00Z")), Opening::Open { until: None });
    assert_eq!(Schedule::default().departure(Timestamp(7)), Some(Timestamp(7)));
}

#[test]
fn a_window_keeps_its_clock_times_through_changes_of_the_clocks() {
    // Berlin: 2026-03-29 02:00 -> 03:00 at 01:00Z, 2026-10-25 03:00 -> 02:00 at 01:00Z.
    for (window, from, expected) in [
        // A change inside makes it an hour shorter or longer.
        ("Sun 01:00-05:00 Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T00:00 2026-03-29T03:00"),
        ("Sun 01:00-05:00 Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-24T23:00 2026-10-25T04:00"),
        // Opens, and closes, in the hour that is skipped: behind it.
        ("Sun 02:30-05:00 Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00 2026-03-29T03:00"),
        ("Sun 01:00-02:30 Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T00:00 2026-03-29T01:00"),
        // Within it: not on that day.
        ("Sun 02:10-02:50 Europe/Berlin", "2026-03-28T12:00:00Z", "2026-04-05T00:10 2026-04-05T00:50"),
        // Opens in the hour that comes twice: the first time. Closes in it: the second time.
        ("Sun 02:30-05:00 Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30 2026-10-25T04:00"),
        ("Sun 01:00-02:30 Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-24T23:00 2026-10-25T01:30"),
        ("Sun 02:10-02:50 Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:10 2026-10-25T01:50"),
        // Up to that hour, and up to its end: what comes twice is what is before the end.
        ("Sun 01:00-02:00 Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-24T23:00 2026-10-25T00:00"),
        ("Sun 01:00-03:00 Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-24T23:00 2026-10-25T02:00"),
        ("Sat 22:00-00:00 America/Havana", "2026-10-31T12:00:00Z", "2026-11-01T02:00 2026-11-01T04:00"),
        // Samoa skipped Friday 2011-12-30 at its dateline.
        ("Thu 22:00-02:00 Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-30T08:00 2011-12-30T10:00"),
        ("Fri 09:00-17:00 Pacific/Apia", "2011-12-29T12:00:00Z", "2012-01-05T19:00 2012-01-06T03:00"),
    ] {
        assert_eq!(openings(&windows(&[window]), from, 1), [expected], "{window}");
    }
}

/// Nuuk kept its clocks on 2023-10-29, when its rule for later years began.
#[test]
fn a_rule_that_begins_puts_no_clock_back() {
    let schedule = windows(&["Sat 23:30-00:00 America/Nuuk"]);
    assert_eq!(
        openings(&schedule, "2023-10-22T02:00:00Z", 2),
        ["2023-10-29T01:30 2023-10-29T02:00", "2023-11-05T01:30 2023-11-05T02:00"]
    );
}

#[test]
fn departures_come_once_at_their_clock_times() {
    let twice = departures(&["0 9,14 * * Mon-Thu Europe/Berlin"]);
    assert_eq!(
        next_departures(&twice, "2026-11-26T08:00:00.001Z", 3),
        ["2026-11-26T13:00", "2026-11-30T08:00", "2026-11-30T13:00"]
    );
    assert_eq!(next_departures(&twice, "2026-11-26T08:00:00Z", 1), ["2026-11-26T08:00"], "what comes then is in time");
    // In the hour that is skipped: right after it. In the one that comes twice: the first time.
    let early = departures(&["15,45 2 * * * Europe/Berlin"]);
    assert_eq!(next_departures(&early, "2026-03-29T00:00:00Z", 2), ["2026-03-29T01:00", "2026-03-30T00:15"]);
    assert_eq!(
        next_departures(&early, "2026-10-25T00:00:00Z", 3),
        ["2026-10-25T00:15", "2026-10-25T00:45", "2026-10-26T01:15"]
    );
    let hourly = departures(&["30 * * * * Europe/Berlin"]);
    assert_eq!(
        next_departures(&hourly, "2026-10-24T23:00:00Z", 4),
        ["2026-10-24T23:30", "2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30"]
    );
    assert_eq!(next_departures(&hourly, "2026-03-29T00:00:00Z", 2), ["2026-03-29T00:30", "2026-03-29T01:30"]);
    // Either day where both are restricted, as cron has it; the nearest of several entries.
    let either = departures(&["0 0 13 * Fri UTC"]);
    assert_eq!(next_departures(&either, "2026-11-08T00:00:00Z", 2), ["2026-11-13T00:00", "2026-11-20T00:00"]);
    let both = departures(&["0 12 1 */2 * UTC", "0 9 31 Dec * UTC", "5/25 0 29 feb sun-mon UTC"]);
    assert_eq!(
        next_departures(&both, "2026-11-24T00:00:00Z", 4),
        ["2026-12-31T09:00", "2027-01-01T12:00", "2027-02-01T00:05", "2027-02-01T00:30"]
    );
    assert_eq!(next_departures(&departures(&["0 0 29 2 */7 UTC"]), "2026-01-01T00:00:00Z", 1), ["2032-02-29T00:00"]);
}

#[test]
fn what_is_no_schedule_says_what_is_wrong_with_it() {
    let wrong = |error: super::ScheduleError| format!("{} | {}", error.message, error.hint);
    let like = "write days, times and a zone, such as `Mon-Thu 09:00-16:00 Europe/Berlin`";
    let days = "days are Mon, Tue, Wed, Thu, Fri, Sat, Sun; `Mon-Thu` is a range, `Mon,Wed` a list, `daily` every day";
    let time = "write hours and minutes from `00:00` to `23:59`; a window may close at `24:00`";
    let whole = "write `00:00-24:00` for whole days";
    for (text, expected) in [
        ("Mon-Thu", format!("`Mon-Thu` is no window: it has 1 parts instead of three | {like}")),
        ("Mon 09:00-16:00", format!("`Mon 09:00-16:00` has no time zone | {like}")),
        ("Mon 09:00-16:00 Europe/Berlin x", format!("`Mon 09:00-16:00 Europe/Berlin x` is no window: it has 4 parts instead of three | {like}")),
        ("Monday 09:00-16:00 UTC", format!("`Monday` is no day | {days}")),
        ("Mon-,Tue 09:00-16:00 UTC", format!("`` is no day | {days}")),
        ("Mon 09:00 UTC", "`09:00` are no times | write when it opens and closes, such as `09:00-16:00`".into()),
        ("Mon 9:00-16:00 UTC", format!("`9:00` is no time of a day | {time}")),
        ("Mon 09:60-16:00 UTC", format!("`09:60` is no time of a day | {time}")),
        ("Mon 24:00-16:00 UTC", format!("`24:00` is no time of a day | {time}")),
        ("Mon 09:00-24:01 UTC", format!("`24:01` is no time of a day | {time}")),
        ("Mon 09:00-09:00 UTC", format!("`09:00-09:00` closes when it opens | {whole}")),
        ("Mon 09:00-10:00 Europe/Berln", "there is no time zone `Europe/Berln` | did you mean `Europe/Berlin`?".into()),
        (
            "Mon 09:00-10:00 +01:00",
            "there is no time zone `+01:00` | name a zone of the IANA database, such as `Europe/Berlin`, `America/New_York` \
             or `UTC`"
                .into(),
        ),
    ] {
        assert_eq!(wrong(check_window(text).unwrap_err()), expected);
    }
    let like = "write minute, hour, day of the month, month, day of the week and a zone, such as `0 9,14 * * Mon-Thu \
                Europe/Berlin`";
    for (text, expected) in [
        ("0 9 * * *", format!("`0 9 * * *` has no time zone | {like}")),
        ("@daily UTC", format!("`@daily UTC` has 2 parts instead of six | {like}")),
        ("60 9 * * * UTC", "`60` is no minute | numbers from 0 to 59; `*`, `1-5`, `*/2` and lists work too".into()),
        ("0 +9 * * * UTC", "`+9` is no hour | numbers from 0 to 23; `*`, `1-5`, `*/2` and lists work too".into()),
        ("0 9 0 * * UTC", "`0` is no day of the month | numbers from 1 to 31; `*`, `1-5`, `*/2` and lists work too".into()),
        (
            "0 9 * * Mo UTC",
            "`Mo` is no day of the week | numbers from 0 to 7, or names from `Sun` to `Sat`; `*`, `1-5`, `*/2` and lists work \
             too"
                .into(),
        ),
        ("0 9 * 13 * UTC", "`13` is no month | numbers from 1 to 12, or names from `Jan` to `Dec`; `*`, `1-5`, `*/2` and lists work too".into()),
        ("*/0 9 * * * UTC", "`*/0` has no step that is a minute | write a step from 1 to 59, such as `*/2`".into()),
        ("0 22-2 * * * UTC", "`22-2` ends before it begins, as the hour of a departure | write two ranges, such as `22-23,0-2`".into()),
        ("0 9 30,31 2 * UTC", "`0 9 30,31 2 * UTC` never comes | no such day is in any of the months that it names".into()),
        ("0 9 * * * Berlin", "there is no time zone `Berlin` | name a zone of the IANA database, such as `Europe/Berlin`, `America/New_York` or `UTC`".into()),
    ] {
        assert_eq!(wrong(check_departure(text).unwrap_err()), expected);
    }
}

#[test]
fn a_departure_outside_the_windows_is_found() {
    let read = |window: &str, departure: &[&str]| {
        let departures: Vec<String> = departure.iter().map(ToString::to_string).collect();
        Schedule::read(&[window.to_owned()], &departures).unwrap().departure_outside()
    };
    assert_eq!(read("Mon-Thu 09:00-16:00 Europe/Berlin", &["0 9,14 * * Mon-Thu Europe/Berlin"]), None);
    let expected = Some((1, "Fri 09:00".to_owned()));
    assert_eq!(read("Mon-Thu 09:00-16:00 UTC", &["0 9 * * Mon UTC", "0 9 * * Mon-Fri UTC"]), expected);
    // An hour apart in winter: 16:00 in Berlin is 15:00 in London, in summer as well.
    assert_eq!(read("daily 09:00-16:00 Europe/London", &["0 16 * * * Europe/Berlin"]), None);
}

#[test]
fn in_the_fortnight_by_which_lengths_are_told_no_clock_is_changed() {
    for zone in jiff::tz::db().available() {
        let zone = jiff::tz::db().get(zone.as_str()).unwrap();
        let from = jiff::Timestamp::from_millisecond(QUIET_FORTNIGHT.0).unwrap();
        let change = zone.following(from).next().map(|change| change.timestamp().as_millisecond());
        assert!(change.is_none_or(|change| change > QUIET_FORTNIGHT.0 + 15 * 86_400_000), "{zone:?}");
    }
    assert_eq!(
        windows(&["Mon 00:00-24:00 UTC"]).opening(QUIET_FORTNIGHT),
        Opening::Open { until: Some(Timestamp(QUIET_FORTNIGHT.0 + 86_400_000)) }
    );
}

#[test]
fn clocks_beyond_all_years_open_nothing() {
    let schedule = Schedule::read(&["daily 09:00-10:00 UTC".into()], &["0 9 * * * UTC".into()]).unwrap();
    for now in [Timestamp(i64::MIN), Timestamp(i64::MAX), Timestamp(253_402_207_200_000)] {
        assert_eq!(schedule.opening(now), Opening::Closed { next: None });
        assert_eq!(schedule.departure(now), None);
    }
}
