//! From the data plane's reports to the two arms of one rollout: which counts are the canary's, which are stable's.

use super::memory::Memory;
use super::recent::{INTERVAL, Recent};
use crate::base::fault::Fault;
use crate::base::histogram::Histogram;
use crate::base::ids::RouteRef;
use crate::base::tally::{FuseReport, FuseState, Report, Series};
use crate::clock::{Clock, Monotonic};
use crate::judge::Counts;
use crate::judge::bounds::{requests_in, slower_than};
use crate::ports::{LiveCounts, Notes, Telemetry};
use crate::rollout::event::{
    ComparedBy, FuseReading, Latency, LiveReading, Past, ProxyCounts, SlowCounts, TimingAsk, Unusable, VersionCounts,
};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A proxy that placed a request on a route within this time serves it (interface: "in the last 30 s").
const SERVING_FOR: Duration = Duration::from_secs(30);
/// Pairs of proxy and route remembered; beyond it the oldest knowledge is dropped, which only makes a proxy count as
/// serving once more.
const REMEMBERED: usize = 65_536;

/// Reports that are younger than this are read again instead of asked for: with many rollouts each would otherwise have
/// every proxy add up its counts of all routes. Short beside the second between two readings of one rollout, so that one
/// alone always has fresh ones.
const FRESH_FOR: Duration = Duration::from_millis(100);

/// A route that was read within this time is judged: a rollout reads once a second, and a reading may take some of them.
const JUDGED_FOR: Duration = Duration::from_secs(5);

/// Live counts of every proxy that reports to us.
#[derive(Clone)]
pub struct Comparison {
    telemetry: Arc<dyn Telemetry>,
    latest: Arc<tokio::sync::Mutex<Option<Latest>>>,
    served: Arc<Mutex<BTreeMap<(String, RouteRef), Served>>>,
    /// Routes that were read to judge by, and when: what proxies are told that somebody judges.
    judged: Arc<Mutex<BTreeMap<RouteRef, Monotonic>>>,
    recent: Arc<Mutex<Recent>>,
    memory: Arc<Memory>,
}

/// What a proxy had placed on a route, and when that last rose.
#[derive(Debug, Clone, Copy)]
struct Served {
    requests: u64,
    at: Monotonic,
}

impl Comparison {
    /// Over a source of reports.
    #[must_use]
    pub fn new(telemetry: Arc<dyn Telemetry>) -> Self {
        let (latest, served, judged, recent, memory) = Default::default();
        Self { telemetry, latest, served, judged, recent, memory }
    }

    /// Keeps what stable's endpoints did in the last day beyond the end of this process.
    #[must_use]
    pub fn keeping(self, notes: Arc<dyn Notes>, clock: Arc<dyn Clock>) -> Self {
        Self { memory: Arc::new(Memory::kept(notes, clock)), ..self }
    }

    /// Follows the latencies and errors of all routes until the task is dropped, so that a rollout knows what stable did
    /// before it.
    pub async fn follow(self) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.sample().await;
            self.memory.keep(Monotonic::now()).await;
        }
    }

    /// The reports as of now, or as of a moment ago.
    async fn latest(&self) -> Result<Arc<Vec<ByRoute>>, Fault> {
        let came = Monotonic::now();
        // Held while they are asked for, so that whoever comes meanwhile gets the same ones, however long that took.
        let mut latest = self.latest.lock().await;
        if let Some(latest) = &*latest
            && (latest.asked.elapsed() < FRESH_FOR || latest.answered > came)
        {
            return Ok(Arc::clone(&latest.reports));
        }
        let asked = Monotonic::now();
        let reports = self.telemetry.acknowledged(&self.judged()).await?;
        let reports: Arc<Vec<ByRoute>> = Arc::new(reports.into_iter().map(ByRoute::new).collect());
        *latest = Some(Latest { asked, answered: Monotonic::now(), reports: Arc::clone(&reports) });
        Ok(reports)
    }

    /// Takes in what the proxies counted, and hands that on. Without reports nothing is new; the next ones hold it all.
    async fn sample(&self) -> Vec<Report> {
        let reports = self.telemetry.reports().await.unwrap_or_default();
        if !reports.is_empty() {
            let now = Monotonic::now();
            self.recent().sample(&reports, now);
            self.memory.sample(&reports, now);
        }
        reports
    }

    /// Somebody reads a route to judge by it.
    fn judges(&self, route: &RouteRef) {
        // The map is valid after any panic: every change to it is one insert or removal.
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        judged.insert(route.clone(), Monotonic::now());
    }

    /// Routes that are judged now.
    fn judged(&self) -> BTreeSet<RouteRef> {
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        judged.retain(|_, at| at.elapsed() < JUDGED_FOR);
        judged.keys().cloned().collect()
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        // After a panic in the middle of a sample a few latencies are missing or there twice, which costs power only.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a proxy placed requests on a route lately. One seen for the first time counts if it ever did.
    fn serves(&self, proxy: &str, route: &RouteRef, requests: u64) -> bool {
        let now = Monotonic::now();
        // The map is valid after any panic: every change to it is one insert or clear.
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if served.len() >= REMEMBERED {
            served.clear();
        }
        let entry = served.entry((proxy.to_owned(), route.clone())).or_insert(Served { requests: 0, at: now });
        if requests != entry.requests {
            *entry = Served { requests, at: now };
        }
        requests > 0 && now.since(entry.at) < SERVING_FOR
    }
}

#[async_trait]
impl LiveCounts for Comparison {
    async fn recent(&self, route: &RouteRef, node: &str) -> Option<Histogram> {
        self.sample().await;
        Self::recent(self).of(route, node)
    }

    async fn past(&self, route: &RouteRef) -> Past {
        let reports = self.sample().await;
        let placed = |report: &Report| {
            let all = report.series.iter().chain(&report.raw).filter(|series| series.key.route == *route);
            all.map(|series| series.outcomes.requests).sum()
        };
        let serving = reports.iter().filter(|report| self.serves(&report.proxy, route, placed(report))).count();
        let past = self.memory.past(route).await;
        Past { proxies: u32::try_from(serving).unwrap_or(u32::MAX), ..past }
    }

    async fn read(&self, route: &RouteRef, canary: &str, stable: &str, ask: &TimingAsk) -> Result<LiveReading, Fault> {
        self.judges(route);
        let reports = self.latest().await?;
        let unusable = reports.iter().filter_map(ByRoute::unusable).collect();
        let proxies = reports.iter().filter(|report| report.unreadable.is_none()).map(|report| ProxyCounts {
            proxy: report.proxy.clone(),
            applied: report.applied.get(route).copied(),
            serving: self.serves(&report.proxy, route, report.placed(route)),
            versions: report.by_version(route, canary, stable, ask),
            fuse: report.fuses.get(route).map(fuse_reading),
        });
        Ok(LiveReading { proxies: proxies.collect(), unusable })
    }
}

/// Reports, when they were asked for and when they came.
struct Latest {
    asked: Monotonic,
    answered: Monotonic,
    reports: Arc<Vec<ByRoute>>,
}

/// One proxy's report, sorted once for all rollouts that read it.
struct ByRoute {
    proxy: String,
    applied: BTreeMap<RouteRef, u64>,
    series: BTreeMap<RouteRef, Vec<Series>>,
    fuses: BTreeMap<RouteRef, FuseReport>,
    /// All requests where `series` has those of sessions that count.
    raw: BTreeMap<RouteRef, Vec<Series>>,
    unreadable: Option<String>,
}

impl ByRoute {
    fn new(report: Report) -> Self {
        Self {
            proxy: report.proxy,
            unreadable: report.unreadable,
            applied: report.applied.into_iter().collect(),
            series: by_route(report.series),
            raw: by_route(report.raw),
            fuses: report.fuses.into_iter().map(|fuse| (fuse.route.clone(), fuse)).collect(),
        }
    }

    /// That its answer could not be read.
    fn unusable(&self) -> Option<Unusable> {
        self.unreadable.clone().map(|why| Unusable { proxy: self.proxy.clone(), why })
    }

    /// Rises with every request that it places on a route. Sessions count once a minute, and those that last are served too.
    fn placed(&self, route: &RouteRef) -> u64 {
        let all = self.series(route).iter().chain(self.raw.get(route).into_iter().flatten());
        all.map(|series| series.outcomes.requests).sum()
    }

    /// Its counts on a route by weights version.
    fn by_version(&self, route: &RouteRef, canary: &str, stable: &str, ask: &TimingAsk) -> Vec<VersionCounts> {
        let mut versions = by_version(self.series(route), canary, stable, ask);
        let raw = self.raw.get(route).map(Vec::as_slice).unwrap_or_default();
        for counts in &mut versions {
            counts.in_sessions = raw.iter().any(|series| series.key.version == counts.version);
        }
        versions
    }

    fn series(&self, route: &RouteRef) -> &[Series] {
        self.series.get(route).map(Vec::as_slice).unwrap_or_default()
    }
}

fn fuse_reading(fuse: &FuseReport) -> FuseReading {
    // While it watches its numbers change with every failure, and what they say stands in the counts.
    let told = |number: u64| if fuse.state == FuseState::Armed { 0 } else { number };
    let milli = |nats: f64| {
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and means the same")]
        let whole = (nats * 1000.0).round() as i64;
        if fuse.state == FuseState::Armed { 0 } else { whole }
    };
    FuseReading {
        rollout: fuse.rollout.clone(),
        state: fuse.state,
        log_e_milli: milli(fuse.log_e),
        threshold_milli: milli(fuse.threshold),
        canary_requests: told(fuse.canary_requests),
        canary_errors: told(fuse.canary_errors),
        stable_errors: told(fuse.stable_errors),
        errors_since_acknowledged: told(fuse.errors_since_acknowledged),
    }
}

fn by_route(series: Vec<Series>) -> BTreeMap<RouteRef, Vec<Series>> {
    let mut all: BTreeMap<RouteRef, Vec<Series>> = BTreeMap::new();
    for series in series {
        match all.get_mut(&series.key.route) {
            Some(of_route) => of_route.push(series),
            None => drop(all.insert(series.key.route.clone(), vec![series])),
        }
    }
    all
}

/// Successful requests of both arms under one weights version, by latency.
#[derive(Default)]
struct Latencies {
    canary: Histogram,
    stable: Histogram,
}

impl Latencies {
    fn told(&self, by: &ComparedBy) -> Latency {
        match by {
            ComparedBy::Collecting => Latency::Baseline(self.stable.clone()),
            ComparedBy::Thresholds(thresholds) => Latency::Counts(thresholds.counts(&self.canary, &self.stable)),
        }
    }

    fn slower(&self, bound_us: u64) -> SlowCounts {
        let counts = Counts {
            canary_requests: requests_in(&self.canary),
            canary_errors: slower_than(&self.canary, Some(bound_us)),
            stable_requests: requests_in(&self.stable),
            stable_errors: slower_than(&self.stable, Some(bound_us)),
        };
        SlowCounts { bound_us, counts }
    }
}

/// One proxy's counts on a route by weights version, endpoints added up.
fn by_version(of_route: &[Series], canary: &str, stable: &str, ask: &TimingAsk) -> Vec<VersionCounts> {
    let mut versions: BTreeMap<u64, (VersionCounts, Latencies)> = BTreeMap::new();
    for series in of_route {
        let (is_canary, is_stable) = (series.key.target == canary, series.key.target == stable);
        if !is_canary && !is_stable {
            continue;
        }
        let version = series.key.version;
        let share_ppm = if is_canary { ppm(series.share) } else { 1_000_000 - ppm(series.share) };
        let entry = versions.entry(version);
        let (entry, latencies) =
            entry.or_insert_with(|| (VersionCounts::new(version, share_ppm, Counts::default()), Latencies::default()));
        entry.counts.add(&counts_of(series, is_canary));
        let arm = if is_canary { &mut latencies.canary } else { &mut latencies.stable };
        arm.merge(&series.latency);
    }
    let told = versions.into_values().map(|(counts, latencies)| VersionCounts {
        latency: ask.compared.as_ref().map(|by| latencies.told(by)),
        slower: ask.bounds_us.iter().map(|bound_us| latencies.slower(*bound_us)).collect(),
        ..counts
    });
    told.collect()
}

fn counts_of(series: &Series, is_canary: bool) -> Counts {
    let (requests, errors) = (series.outcomes.requests, series.outcomes.errors());
    if is_canary {
        Counts { canary_requests: requests, canary_errors: errors, ..Counts::default() }
    } else {
        Counts { stable_requests: requests, stable_errors: errors, ..Counts::default() }
    }
}

/// A share in millionths, which holds every whole percent exactly.
fn ppm(share: f64) -> u32 {
    (share.clamp(0.0, 1.0) * 1e6).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tally::{Outcomes, SeriesKey};
    use crate::judge::latency::LatencyThresholds;

    fn route(name: &str) -> RouteRef {
        RouteRef { mesh: "shop".into(), router: "r".into(), route: name.into() }
    }

    fn series(route_name: &str, version: u64, target: &str, share: f64, requests: u64, errors: u64) -> Series {
        let endpoint = format!("127.0.0.1:{requests}");
        Series {
            key: SeriesKey { route: route(route_name), version, target: target.into(), endpoint },
            share,
            outcomes: Outcomes { requests, status_5xx: errors, ..Outcomes::default() },
            latency: Histogram::default(),
        }
    }

    #[test]
    fn endpoints_add_up_and_other_routes_and_targets_stay_out() {
        let report = Report {
            proxy: "p".into(),
            applied: Vec::new(),
            unjudged: Vec::new(),
            fuses: Vec::new(),
            raw: Vec::new(),
            unreadable: None,
            series: vec![
                series("checkout", 7, "v1", 0.9, 90, 1),
                series("checkout", 7, "v2", 0.1, 4, 1),
                series("checkout", 7, "v2", 0.1, 6, 2),
                series("checkout", 7, "v3", 0.0, 5, 5),
                series("other", 7, "v2", 0.1, 50, 50),
            ],
        };
        let report = ByRoute::new(report);
        let versions = by_version(report.series(&route("checkout")), "v2", "v1", &TimingAsk::default());
        let counts = Counts { canary_requests: 10, canary_errors: 3, stable_requests: 90, stable_errors: 1 };
        assert_eq!(versions, [VersionCounts::new(7, 100_000, counts)]);
    }

    #[test]
    fn who_places_sessions_says_so_and_serves_with_each_of_their_requests() {
        let report = |raw: u64| Report {
            proxy: "p".into(),
            series: vec![series("checkout", 7, "v1", 0.9, 9, 0), series("checkout", 8, "v2", 0.1, 1, 0)],
            raw: vec![series("checkout", 8, "v2", 0.1, raw, 0)],
            ..Report::default()
        };
        let of = ByRoute::new(report(50)).by_version(&route("checkout"), "v2", "v1", &TimingAsk::default());
        let told: Vec<_> = of.iter().map(|counts| (counts.version, counts.in_sessions)).collect();
        assert_eq!(told, [(7, false), (8, true)]);
        assert_eq!(ByRoute::new(report(50)).placed(&route("checkout")), 60);
        assert_eq!(ByRoute::new(report(51)).placed(&route("checkout")), 61);
    }

    #[test]
    fn latencies_are_told_as_asked() {
        let with = |mut series: Series, latencies: &[u64]| {
            latencies.iter().for_each(|latency| series.latency.record(*latency));
            series
        };
        let mut baseline = Histogram::default();
        (0..100).for_each(|_| baseline.record(1000));
        let thresholds = LatencyThresholds::choose(&baseline, 0.0).expect("not empty");
        let series = vec![
            with(series("checkout", 7, "v1", 0.9, 3, 0), &[1000, 1000, 9000]),
            with(series("checkout", 7, "v2", 0.1, 2, 0), &[2000, 9000]),
        ];
        let report = ByRoute::new(Report { proxy: "p".into(), series, ..Report::default() });
        let told = |compared| {
            let ask = TimingAsk { compared: Some(compared), bounds_us: vec![8192] };
            by_version(report.series(&route("checkout")), "v2", "v1", &ask).remove(0)
        };
        let Some(Latency::Baseline(stable)) = told(ComparedBy::Collecting).latency else { panic!("not collecting") };
        assert_eq!(stable.total(), 3);
        let counted = told(ComparedBy::Thresholds(thresholds));
        let Some(Latency::Counts(counts)) = counted.latency else { panic!("not counted") };
        assert_eq!((counts.canary_requests, counts.canary_slower), (2, [2; 6]));
        assert_eq!((counts.stable_requests, counts.stable_slower), (3, [1; 6]));
        let slower = Counts { canary_requests: 2, canary_errors: 1, stable_requests: 3, stable_errors: 1 };
        assert_eq!(counted.slower, [SlowCounts { bound_us: 8192, counts: slower }]);
    }

    struct Told(Vec<Report>);

    #[async_trait]
    impl Telemetry for Told {
        async fn reports(&self) -> Result<Vec<Report>, Fault> {
            Ok(self.0.clone())
        }
    }

    #[tokio::test]
    async fn a_report_that_could_not_be_read_is_named_and_no_proxy_that_is_heard() {
        let good =
            Report { proxy: "p".into(), series: vec![series("checkout", 7, "v2", 0.1, 4, 1)], ..Report::default() };
        let odd =
            Report { proxy: "10.0.0.5:9901".into(), unreadable: Some("answers oddly".into()), ..Report::default() };
        let comparison = Comparison::new(Arc::new(Told(vec![good, odd])));
        let read = comparison.read(&route("checkout"), "v2", "v1", &TimingAsk::default()).await.unwrap();
        assert_eq!(read.proxies.iter().map(|proxy| proxy.proxy.as_str()).collect::<Vec<_>>(), ["p"]);
        assert_eq!(read.unusable, [Unusable { proxy: "10.0.0.5:9901".into(), why: "answers oddly".into() }]);
    }

    #[test]
    fn the_share_is_the_canarys_even_when_only_stable_was_drawn() {
        let series = [series("checkout", 8, "v1", 0.99, 3, 0)];
        assert_eq!(by_version(&series, "v2", "v1", &TimingAsk::default())[0].share_ppm, 10_000);
    }
}
