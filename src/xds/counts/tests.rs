//! Tests of `xds::counts`.

use super::*;
use crate::base::histogram::bucket_of;
use crate::base::tally::{Outcomes, Series};

fn route_ref() -> RouteRef {
    RouteRef { mesh: "m".into(), router: "r".into(), route: "a".into() }
}

fn route(version: u64, in_sessions: bool) -> CountedRoute {
    let targets = [("cds_v1".to_owned(), ("v1".to_owned(), 0.9)), ("cds_v2".to_owned(), ("v2".to_owned(), 0.1))];
    CountedRoute { id: route_ref(), version, targets: targets.into(), in_sessions, has_common_fault: false }
}

fn here() -> Option<IpAddr> {
    Some([127, 0, 0, 1].into())
}

fn tell(heard: &Heard, route: &CountedRoute, all: &[(&str, &str, Outcome)]) -> usize {
    heard.count(all.iter().map(|(cluster, endpoint, outcome)| Told {
        route,
        cluster,
        endpoint: (*endpoint).to_owned(),
        outcome: *outcome,
    }))
}

const GOOD: Outcome = Outcome::Good { latency_us: 5_000 };

fn reports(counts: &Counts) -> Vec<Report> {
    counts.all_reports(Monotonic::now())
}

fn requests(series: &[Series]) -> u64 {
    series.iter().map(|series| series.outcomes.requests).sum()
}

#[test]
fn requests_add_up_by_version_target_and_endpoint() {
    let counts = Counts::default();
    let _stream = counts.configures("mesh/m/virtualNode/web", here());
    // Two threads of one Envoy.
    let logs = [(); 2].map(|()| counts.hears("mesh/m/virtualNode/web", here()));
    let (seven, eight) = (route(7, false), route(8, false));
    tell(&logs[0], &seven, &[("cds_v1", "10.0.0.1:80", GOOD), ("cds_v2", "10.0.0.2:80", Outcome::Reset)]);
    tell(&logs[1], &seven, &[("cds_v1", "10.0.0.1:80", Outcome::Timeout), ("cds_v2", "", Outcome::Status5xx)]);
    let strange = tell(&logs[1], &eight, &[("cds_v1", "10.0.0.1:80", GOOD), ("cds_v9", "", GOOD)]);
    assert_eq!(strange, 1);
    let reports = reports(&counts);
    let [report] = &reports[..] else { panic!("one place: {reports:?}") };
    let told: Vec<_> = report
        .series
        .iter()
        .map(|series| (series.key.version, &*series.key.target, &*series.key.endpoint, series.share, series.outcomes))
        .collect();
    let outcomes = |requests, status_5xx, reset, timeout| Outcomes { requests, status_5xx, reset, timeout };
    assert_eq!(
        told,
        [
            (7, "v1", "10.0.0.1:80", 0.9, outcomes(2, 0, 0, 1)),
            (7, "v2", "", 0.1, outcomes(1, 1, 0, 0)),
            (7, "v2", "10.0.0.2:80", 0.1, outcomes(1, 0, 1, 0)),
            (8, "v1", "10.0.0.1:80", 0.9, outcomes(1, 0, 0, 0)),
        ]
    );
    assert_eq!(report.series[0].latency.counts()[bucket_of(5_000)], 1);
    assert_eq!(report.series[0].latency.total(), 1, "what failed has no latency");
}

#[test]
fn an_envoy_is_heard_as_long_as_it_is_configured_and_goes_on_where_it_was() {
    let counts = Counts::default();
    let log = counts.hears("mesh/m/virtualNode/web", here());
    tell(&log, &route(7, false), &[("cds_v1", "", GOOD)]);
    assert!(reports(&counts).is_empty(), "nobody knows what it routes by");
    let stream = counts.configures("mesh/m/virtualNode/web", here());
    let quiet = counts.configures("mesh/m/virtualNode/web", Some([127, 0, 0, 2].into()));
    let first = reports(&counts);
    assert_eq!(
        first.iter().map(|report| requests(&report.series)).collect::<Vec<_>>(),
        [1, 0],
        "no news are no requests"
    );
    drop((log, quiet));
    assert_eq!(reports(&counts), first[..1], "without a request there is no log");
    drop(stream);
    assert!(reports(&counts).is_empty());
    let _stream = counts.configures("mesh/m/virtualNode/web", here());
    tell(&counts.hears("mesh/m/virtualNode/web", here()), &route(7, false), &[("cds_v1", "", GOOD)]);
    let again = reports(&counts);
    assert_eq!((&again[0].proxy, requests(&again[0].series)), (&first[0].proxy, 2));
    // Another process counts from zero, and is another proxy.
    let other = Counts::default();
    let _stream = other.configures("mesh/m/virtualNode/web", here());
    assert_ne!(reports(&other)[0].proxy, first[0].proxy);
}

#[test]
fn what_is_missing_is_not_taken_for_nothing() {
    let counts = Counts::with_room(2);
    let _streams = ["web", "other"].map(|node| counts.configures(&format!("mesh/m/virtualNode/{node}"), here()));
    let logs = ["web", "other"].map(|node| counts.hears(&format!("mesh/m/virtualNode/{node}"), here()));
    logs[0].cut();
    assert_eq!(reports(&counts).len(), 1, "its log was cut off");
    assert_eq!(counts.all_reports(Monotonic::now().after(UNHEARD_FOR)).len(), 2);
    tell(&logs[0], &route(7, false), &[("cds_v1", "", GOOD), ("cds_v2", "", GOOD)]);
    let later = Monotonic::now().after(UNHEARD_FOR);
    assert_eq!(counts.all_reports(later).len(), 2);
    tell(&logs[1], &route(7, false), &[("cds_v1", "", GOOD)]);
    let left: Vec<u64> = counts.all_reports(later).iter().map(|report| requests(&report.series)).collect();
    assert_eq!(left, [2], "there is no room for the other's counts, so none of them are told");
    // Whoever has its series goes on.
    tell(&logs[0], &route(7, false), &[("cds_v1", "", GOOD)]);
    assert_eq!(requests(&counts.all_reports(later)[0].series), 3);
}

#[test]
fn who_found_no_room_begins_anew_once_there_is_some() {
    let counts = Counts::with_room(2);
    let first = (counts.configures("mesh/m/virtualNode/web", here()), counts.hears("mesh/m/virtualNode/web", here()));
    let _stream = counts.configures("mesh/m/virtualNode/other", here());
    let log = counts.hears("mesh/m/virtualNode/other", here());
    tell(&log, &route(7, false), &[("cds_v1", "", GOOD)]);
    let whole = |after: Duration| {
        let reports = counts.all_reports(Monotonic::now().after(after));
        let other = reports.into_iter().find(|report| report.proxy.contains("/other "));
        other.map(|report| (report.proxy, requests(&report.series)))
    };
    let (name, _) = whole(Duration::ZERO).filter(|(_, requests)| *requests == 1).expect("is whole");
    tell(&first.1, &route(7, false), &[("cds_v1", "", GOOD)]);
    tell(&log, &route(7, false), &[("cds_v2", "", GOOD), ("cds_v1", "", GOOD)]);
    assert_eq!(whole(Duration::ZERO), None, "its failures may be what found no room");
    assert_eq!(counts.inner.series.load(Ordering::Relaxed), 1, "others may have its room");
    tell(&log, &route(7, false), &[("cds_v1", "", GOOD)]);
    tell(&first.1, &route(7, false), &[("cds_v2", "", GOOD)]);
    assert_eq!(whole(FULL_FOR), None, "there is no room");
    drop(first);
    counts.forget(&mut lock(&counts.inner.places), Monotonic::now().after(KEPT_FOR));
    assert_eq!(whole(FULL_FOR / 2), None);
    let (anew, at_zero) = whole(FULL_FOR).expect("there is room");
    assert!(anew != name && at_zero == 0, "counts of before would be taken for those of now: {anew}");
    tell(&log, &route(7, false), &[("cds_v1", "", GOOD)]);
    assert_eq!(whole(FULL_FOR), Some((anew, 1)));
}

#[test]
fn of_several_behind_one_address_the_one_that_is_behind_has_the_word() {
    let counts = Counts::default();
    let streams = [(); 2].map(|()| counts.configures("mesh/m/virtualNode/web", here()));
    let applied = || reports(&counts)[0].applied.clone();
    assert!(applied().is_empty());
    streams[0].goes_by([(route_ref(), 8)].into());
    streams[1].goes_by([(route_ref(), 7)].into());
    assert_eq!(applied(), [(route_ref(), 7)]);
    streams[1].goes_by([(route_ref(), 8)].into());
    assert_eq!(applied(), [(route_ref(), 8)]);
}

#[test]
fn sessions_are_counted_and_not_judged() {
    let counts = Counts::default();
    let _stream = counts.configures("mesh/m/virtualNode/web", here());
    tell(&counts.hears("mesh/m/virtualNode/web", here()), &route(7, true), &[("cds_v1", "10.0.0.1:80", GOOD)]);
    let report = &reports(&counts)[0];
    assert!(report.series.is_empty());
    assert_eq!((requests(&report.raw), &*report.raw[0].key.endpoint), (1, ""));
}

#[test]
fn old_versions_and_many_endpoints_are_bounded() {
    let counts = Counts::default();
    let _stream = counts.configures("mesh/m/virtualNode/web", here());
    let log = counts.hears("mesh/m/virtualNode/web", here());
    for version in 1..=40 {
        tell(&log, &route(version, false), &[("cds_v1", "", GOOD)]);
    }
    let versions = || reports(&counts)[0].series.iter().map(|series| series.key.version).collect::<Vec<_>>();
    let kept: Vec<u64> = (25..=40).collect();
    assert_eq!(versions(), kept);
    tell(&log, &route(20, false), &[("cds_v1", "", GOOD)]);
    assert_eq!(versions(), kept, "counting it anew would begin at zero");
    // A route that was made anew begins at 1.
    tell(&log, &route(1, false), &[("cds_v1", "", GOOD)]);
    assert_eq!(versions(), [1].into_iter().chain(26..=40).collect::<Vec<_>>());
    for number in 0..100 {
        tell(&log, &route(40, false), &[("cds_v2", &format!("10.0.0.1:{number}"), GOOD)]);
    }
    let report = &reports(&counts)[0];
    let of_v2: Vec<&Series> = report.series.iter().filter(|series| series.key.target == "v2").collect();
    assert_eq!(of_v2.len(), 33);
    assert_eq!((&*of_v2[0].key.endpoint, of_v2[0].outcomes.requests), ("", 68));
    assert_eq!(counts.inner.series.load(Ordering::Relaxed), report.series.len());
}

#[test]
fn who_is_gone_for_long_is_forgotten() {
    let counts = Counts::default();
    let stream = counts.configures("mesh/m/virtualNode/web", here());
    tell(&counts.hears("mesh/m/virtualNode/web", here()), &route(7, false), &[("cds_v1", "", GOOD)]);
    let at = |after: Duration| {
        counts.forget(&mut lock(&counts.inner.places), Monotonic::now().after(after));
        (lock(&counts.inner.places).all.len(), counts.inner.series.load(Ordering::Relaxed))
    };
    assert_eq!(at(KEPT_FOR * 2), (1, 1), "it is there");
    drop(stream);
    assert_eq!(at(KEPT_FOR / 2), (1, 1));
    assert_eq!(at(KEPT_FOR), (0, 0));
}
