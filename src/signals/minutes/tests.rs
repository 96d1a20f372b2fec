//! Minutes of seeded counts, their bounds, and what is written down and read again.

use super::*;
use crate::base::histogram::Histogram;
use crate::base::tally::{Outcomes, Series};

fn route(name: &str) -> RouteRef {
    RouteRef { mesh: "shop".into(), router: "r".into(), route: name.into() }
}

fn series(target: &str, share: f64, version: u64, endpoint: &str, (requests, status_5xx): Tally) -> Series {
    Series {
        key: SeriesKey { route: route("checkout"), version, target: target.into(), endpoint: endpoint.into() },
        share,
        outcomes: Outcomes { requests, status_5xx, ..Outcomes::default() },
        latency: Histogram::default(),
    }
}

fn report(proxy: &str, series: Vec<Series>) -> Report {
    Report { proxy: proxy.into(), series, ..Report::default() }
}

/// Minutes and a clock that goes half a minute at a time.
struct World {
    minutes: Minutes,
    start: Monotonic,
    seconds: u64,
}

impl World {
    fn new() -> Self {
        Self { minutes: Minutes::default(), start: Monotonic::now(), seconds: 0 }
    }

    fn wall(&self) -> Timestamp {
        Timestamp(1_700_000_000_000 + self.seconds as i64 * 1000)
    }

    fn sample(&mut self, reports: &[Report]) {
        let (now, wall) = (self.start.after(Duration::from_secs(self.seconds)), self.wall());
        self.minutes.sample(reports, now, wall);
    }

    fn wait(&mut self, seconds: u64) {
        self.seconds += seconds;
    }

    fn day(&self) -> Vec<EndpointMinute> {
        self.minutes.days.get(&route("checkout")).into_iter().flatten().map(|(_, minute)| minute.clone()).collect()
    }
}

#[test]
fn a_minute_has_what_came_on_top_of_each_pair_of_endpoints() {
    let mut world = World::new();
    let at = |first, second| {
        vec![
            report(
                "p",
                vec![
                    series("v1", 0.9, 7, "a", first),
                    series("v1", 0.9, 7, "b", second),
                    series("v2", 0.1, 7, "c", (50, 50)),
                ],
            ),
            report("q", vec![series("v1", 0.9, 7, "a", (10, 0))]),
        ]
    };
    world.sample(&at((1000, 90), (1000, 90)));
    world.wait(30);
    world.sample(&at((1100, 93), (1200, 90)));
    assert_eq!(world.day(), [], "the minute is not over");
    world.wait(30);
    world.sample(&at((1200, 94), (1400, 91)));
    let one = EndpointMinute { requests: 600, errors: 5, endpoints: 2, pairs: vec![(4, 1, 333_333)] };
    assert_eq!(
        world.day(),
        std::slice::from_ref(&one),
        "what was before the first sample, and the canary's, is left out"
    );
    world.wait(60);
    world.sample(&at((1201, 94), (1401, 91)));
    let quiet = EndpointMinute { requests: 2, errors: 0, endpoints: 2, pairs: vec![] };
    assert_eq!(world.day(), [one, quiet]);
    assert_eq!(
        world.minutes.past(&route("checkout"), world.wall()).stable,
        Some(PastErrors { requests: 602, errors: 5 })
    );
    assert_eq!(world.minutes.past(&route("other"), world.wall()), Past::default());
    world.wait(600);
    assert_eq!(world.minutes.past(&route("checkout"), world.wall()).stable, None, "that was long ago");
}

#[test]
fn a_weight_that_changes_begins_series_anew_and_the_endpoints_go_on() {
    let mut world = World::new();
    let old = || vec![series("v1", 1.0, 7, "a", (100, 1)), series("v1", 1.0, 7, "b", (100, 1))];
    world.sample(&[report("p", old())]);
    world.wait(60);
    let new = vec![
        series("v1", 0.99, 8, "a", (30, 2)),
        series("v1", 0.99, 8, "b", (30, 0)),
        series("v1", 0.99, 8, "", (5, 5)),
    ];
    world.sample(&[report("p", [old(), new].concat())]);
    let [minute] = world.day().try_into().expect("one");
    assert_eq!(minute, EndpointMinute { requests: 65, errors: 7, endpoints: 2, pairs: vec![(2, 0, 500_000)] });
}

#[test]
fn a_minute_that_nobody_ended_says_nothing() {
    let mut world = World::new();
    world.sample(&[report("p", vec![series("v1", 1.0, 7, "a", (100, 1))])]);
    world.wait(121);
    world.sample(&[report("p", vec![series("v1", 1.0, 7, "a", (200, 2))])]);
    assert_eq!(world.day(), []);
    world.wait(60);
    world.sample(&[report("p", vec![series("v1", 1.0, 7, "a", (201, 2))])]);
    assert_eq!(world.day().len(), 1);
}

#[test]
fn a_day_is_kept_and_no_more() {
    let mut world = World::new();
    let mut requests = 0;
    for _ in 0..1600 {
        requests += 10;
        world.sample(&[report("p", vec![series("v1", 1.0, 7, "a", (requests, 0))])]);
        world.wait(60);
    }
    assert_eq!(world.day().len(), MINUTES_KEPT);
    world.wait(12 * 3600);
    world.sample(&[report("p", vec![])]);
    let owed = world.minutes.unwritten.len();
    assert!(owed <= 25, "{owed} hours of a day are to be written down");
    // The last one ended a minute before.
    assert_eq!(world.day().len(), MINUTES_KEPT / 2 - 1);
}

#[test]
fn noise_of_a_day_is_measured() {
    let mut world = World::new();
    let (mut first, mut second) = ((0, 0), (0, 0));
    for minute in 0..200 {
        // Each has half of its errors in every other minute.
        let (a, b) = if minute % 2 == 0 { (30, 10) } else { (10, 30) };
        first = (first.0 + 1000, first.1 + a + minute % 7);
        second = (second.0 + 1000, second.1 + b + minute % 7);
        world.sample(&[report("p", vec![series("v1", 1.0, 7, "a", first), series("v1", 1.0, 7, "b", second)])]);
        world.wait(60);
    }
    let noise = world.minutes.past(&route("checkout"), world.wall()).noise.expect("watched");
    assert_eq!((noise.minutes, noise.endpoints), (199, 2));
    assert!(noise.is_known() && !noise.allowance().is_none(), "{noise:?}");
}

#[test]
fn what_is_written_down_is_read_again_and_not_written_over() {
    let mut world = World::new();
    let mut requests = 0;
    let mut go_on = |world: &mut World, minutes: u64| {
        for _ in 0..minutes {
            requests += 10;
            world.sample(&[report("p", vec![series("v1", 1.0, 7, "a", (requests, 0))])]);
            world.wait(60);
        }
    };
    go_on(&mut world, 100);
    assert_eq!(world.minutes.unwritten(), [], "an hour that may be half here");
    assert_eq!(world.minutes.unrestored(), [route("checkout")]);
    let wall = world.wall();
    world.minutes.restore(&route("checkout"), Vec::new(), wall);
    let mut notes: BTreeMap<i64, Vec<(Timestamp, EndpointMinute)>> = BTreeMap::new();
    notes.extend(world.minutes.unwritten().into_iter().map(|(_, hour, minutes)| (hour, minutes)));
    assert_eq!(notes.values().map(Vec::len).sum::<usize>(), 99);
    assert_eq!(world.minutes.unwritten(), [], "told once");

    // Another process takes over in the middle of an hour.
    world.minutes = Minutes::default();
    go_on(&mut world, 3);
    let wall = world.wall();
    world.minutes.restore(&route("checkout"), notes.values().flatten().cloned().collect(), wall);
    assert_eq!(world.day().len(), 101);
    let again = world.minutes.unwritten();
    let [(_, hour, minutes)] = again.as_slice() else { panic!("{again:?}") };
    assert_eq!(minutes.len(), notes[hour].len() + 2, "the hour is whole");
    world.minutes.not_written(route("checkout"), *hour);
    assert_eq!(world.minutes.unwritten().len(), 1, "told again");
    // What is there already is not there twice.
    world.minutes.restore(&route("checkout"), notes.values().flatten().cloned().collect(), wall);
    assert_eq!(world.day().len(), 101);
}
