//! From the data plane's reports to the two arms of one rollout: which counts are the canary's, which are stable's.

use crate::base::fault::Fault;
use crate::base::ids::RouteRef;
use crate::base::tally::{Report, Series};
use crate::clock::Monotonic;
use crate::judge::Counts;
use crate::ports::{LiveCounts, Telemetry};
use crate::rollout::event::{LiveReading, ProxyCounts, VersionCounts};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A proxy that placed a request on a route within this time serves it (interface: "in the last 30 s").
const SERVING_FOR: Duration = Duration::from_secs(30);
/// Pairs of proxy and route remembered; beyond it the oldest knowledge is dropped, which only makes a proxy count as
/// serving once more.
const REMEMBERED: usize = 65_536;

/// Live counts of every proxy that reports to us.
#[derive(Clone)]
pub struct Comparison {
    telemetry: Arc<dyn Telemetry>,
    served: Arc<Mutex<BTreeMap<(String, RouteRef), Served>>>,
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
        Self { telemetry, served: Arc::default() }
    }

    /// Whether a proxy placed requests on a route lately. One seen for the first time counts if it ever did.
    fn serves(&self, report: &Report, route: &RouteRef) -> bool {
        let series = report.series.iter().filter(|series| series.key.route == *route);
        let requests = series.map(|series| series.outcomes.requests).sum();
        let now = Monotonic::now();
        // The map is valid after any panic: every change to it is one insert or clear.
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if served.len() >= REMEMBERED {
            served.clear();
        }
        let entry = served.entry((report.proxy.clone(), route.clone())).or_insert(Served { requests: 0, at: now });
        if requests != entry.requests {
            *entry = Served { requests, at: now };
        }
        requests > 0 && now.since(entry.at) < SERVING_FOR
    }
}

#[async_trait]
impl LiveCounts for Comparison {
    async fn read(&self, route: &RouteRef, canary: &str, stable: &str) -> Result<LiveReading, Fault> {
        let reports = self.telemetry.reports().await?;
        let proxies = reports.iter().map(|report| ProxyCounts {
            proxy: report.proxy.clone(),
            applied: report.applied.iter().find(|(applied, _)| applied == route).map(|(_, version)| *version),
            serving: self.serves(report, route),
            versions: by_version(report, route, canary, stable),
        });
        Ok(LiveReading { proxies: proxies.collect() })
    }
}

/// One proxy's counts on a route by weights version, endpoints added up.
fn by_version(report: &Report, route: &RouteRef, canary: &str, stable: &str) -> Vec<VersionCounts> {
    let mut versions: BTreeMap<u64, VersionCounts> = BTreeMap::new();
    for series in report.series.iter().filter(|series| series.key.route == *route) {
        let (is_canary, is_stable) = (series.key.target == canary, series.key.target == stable);
        if !is_canary && !is_stable {
            continue;
        }
        let version = series.key.version;
        let share_ppm = if is_canary { ppm(series.share) } else { 1_000_000 - ppm(series.share) };
        let entry = versions.entry(version).or_insert(VersionCounts { version, share_ppm, counts: Counts::default() });
        entry.counts.add(&counts_of(series, is_canary));
    }
    versions.into_values().collect()
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
    use crate::base::histogram::Histogram;
    use crate::base::tally::{Outcomes, SeriesKey};

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
            series: vec![
                series("checkout", 7, "v1", 0.9, 90, 1),
                series("checkout", 7, "v2", 0.1, 4, 1),
                series("checkout", 7, "v2", 0.1, 6, 2),
                series("checkout", 7, "v3", 0.0, 5, 5),
                series("other", 7, "v2", 0.1, 50, 50),
            ],
        };
        let versions = by_version(&report, &route("checkout"), "v2", "v1");
        let counts = Counts { canary_requests: 10, canary_errors: 3, stable_requests: 90, stable_errors: 1 };
        assert_eq!(versions, [VersionCounts { version: 7, share_ppm: 100_000, counts }]);
    }

    #[test]
    fn the_share_is_the_canarys_even_when_only_stable_was_drawn() {
        let report =
            Report { proxy: "p".into(), series: vec![series("checkout", 8, "v1", 0.99, 3, 0)], applied: Vec::new() };
        assert_eq!(by_version(&report, &route("checkout"), "v2", "v1")[0].share_ppm, 10_000);
    }
}
