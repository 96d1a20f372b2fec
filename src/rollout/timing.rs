//! Latencies in the evidence: what readings are asked for, and what of their answers is new.
//!
//! Stable's latency is collected until thresholds can be fixed by it; from then on readings bring counts by these
//! thresholds, which are small and exact. Nothing of a reading by which thresholds were still being chosen is judged, nor
//! what a proxy counted under a weights version before them.

use super::event::{ComparedBy, Latency, SlowCounts, TimingAsk, VersionCounts};
use super::limits;
use crate::base::histogram::Histogram;
use crate::judge::Counts;
use crate::judge::baseline::Baseline;
use crate::judge::bounds::requests_in;
use crate::judge::latency::LatencyCounts;
use crate::policy::plan::Plan;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is known of latencies besides the counts in the blocks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timing {
    /// Stable's latency, by which thresholds are or will be fixed; `None` where no gate compares latencies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// What each proxy had counted when it was last read, by weights version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<String, BTreeMap<u64, SeenTiming>>,
}

/// What one proxy had counted under one weights version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SeenTiming {
    /// For the comparison with stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<SeenLatency>,
    /// For fixed limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slower: Vec<SlowCounts>,
}

/// The part of it that is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenLatency {
    /// Stable's, while thresholds are being chosen.
    Collecting(Histogram),
    /// It was read before the thresholds and not since: its first counts by them hold requests that chose them.
    Early,
    /// Counts by the thresholds.
    Counts(LatencyCounts),
}

/// What is new in a reading of one proxy and version.
#[derive(Debug, Default)]
pub(super) struct TimingNews {
    latency: Option<LatencyNews>,
    /// To be judged against limits.
    pub(super) slower: Vec<SlowCounts>,
}

#[derive(Debug)]
enum LatencyNews {
    /// Stable's, to choose thresholds by.
    Stable(Histogram),
    /// Nothing to judge yet, but from here on.
    Rebased,
    /// To be judged.
    Counts(LatencyCounts),
}

impl TimingNews {
    pub(super) const fn is_empty(&self) -> bool {
        self.latency.is_none() && self.slower.is_empty()
    }

    /// To be judged against stable.
    pub(super) const fn counts(&self) -> Option<&LatencyCounts> {
        if let Some(LatencyNews::Counts(counts)) = &self.latency { Some(counts) } else { None }
    }

    /// To choose thresholds by.
    pub(super) const fn stable(&self) -> Option<&Histogram> {
        if let Some(LatencyNews::Stable(stable)) = &self.latency { Some(stable) } else { None }
    }
}

impl Timing {
    /// At the start of a rollout; `recent` is what stable did in the last minutes.
    #[must_use]
    pub fn begin(plan: &Plan, recent: Option<&Histogram>) -> Self {
        let baseline = plan.latency_tolerance().map(|tolerance| Baseline::begin(recent, tolerance));
        Self { baseline, seen: BTreeMap::new() }
    }

    /// Whether no gate looks at latencies, or none was read yet by one with a limit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.baseline.is_none() && self.seen.is_empty()
    }

    /// What the next reading should count.
    #[must_use]
    pub fn ask(&self, plan: &Plan) -> TimingAsk {
        let compared = self.baseline.as_ref().map(|baseline| match baseline.thresholds() {
            Some(thresholds) => ComparedBy::Thresholds(*thresholds),
            None => ComparedBy::Collecting,
        });
        TimingAsk { compared, bounds_us: limits::bounds_us(plan) }
    }

    /// What of a reading is new.
    pub(super) fn news(&self, proxy: &str, now: &VersionCounts) -> TimingNews {
        let seen = self.seen.get(proxy).and_then(|versions| versions.get(&now.version));
        let latency = now.latency.as_ref().and_then(|latency| self.latency_news(latency, seen));
        let earlier = seen.map(|seen| seen.slower.as_slice()).unwrap_or_default();
        let slower = now.slower.iter().map(|now| SlowCounts {
            counts: now.counts.beyond(&of_bound(earlier, now.bound_us)),
            bound_us: now.bound_us,
        });
        TimingNews { latency, slower: slower.filter(|slower| !slower.counts.is_empty()).collect() }
    }

    fn latency_news(&self, now: &Latency, seen: Option<&SeenTiming>) -> Option<LatencyNews> {
        let fixed = self.baseline.as_ref()?.thresholds().is_some();
        let seen = seen.and_then(|seen| seen.latency.as_ref());
        match (now, seen) {
            (Latency::Baseline(now), seen) if !fixed => {
                let fresh = match seen {
                    Some(SeenLatency::Collecting(earlier)) => now.beyond(earlier),
                    _ => now.clone(),
                };
                (requests_in(&fresh) > 0).then_some(LatencyNews::Stable(fresh))
            }
            (Latency::Counts(_), Some(SeenLatency::Early | SeenLatency::Collecting(_))) if fixed => {
                Some(LatencyNews::Rebased)
            }
            (Latency::Counts(now), seen) if fixed => {
                let fresh = match seen {
                    Some(SeenLatency::Counts(earlier)) => now.beyond(earlier),
                    _ => *now,
                };
                (!fresh.is_empty()).then_some(LatencyNews::Counts(fresh))
            }
            // An answer to what is no longer asked.
            (Latency::Baseline(_) | Latency::Counts(_), _) => None,
        }
    }

    /// Remembers a reading in which something was new.
    pub(super) fn saw(&mut self, proxy: &str, now: &VersionCounts, news: &TimingNews) {
        if news.is_empty() {
            return;
        }
        let seen = self.seen.entry(proxy.to_owned()).or_default().entry(now.version).or_default();
        if !news.slower.is_empty() {
            seen.slower.clone_from(&now.slower);
        }
        match (&news.latency, &now.latency) {
            (Some(_), Some(Latency::Baseline(histogram))) => {
                seen.latency = Some(SeenLatency::Collecting(histogram.clone()));
            }
            (Some(_), Some(Latency::Counts(counts))) => seen.latency = Some(SeenLatency::Counts(*counts)),
            (None, _) | (_, None) => {}
        }
    }

    /// A version is out of the rollout from here on.
    pub(super) fn forget(&mut self, proxy: &str, version: u64) {
        if let Some(versions) = self.seen.get_mut(proxy) {
            versions.remove(&version);
        }
    }

    /// Takes in stable's latencies of one reading while thresholds are being chosen.
    pub(super) fn collect(&mut self, stable: &Histogram, tolerance: f64) {
        let Some(baseline) = &mut self.baseline else { return };
        baseline.collect(stable, tolerance);
        if baseline.thresholds().is_some() {
            let all = self.seen.values_mut().flat_map(BTreeMap::values_mut);
            for latency in all.filter_map(|seen| seen.latency.as_mut()) {
                if matches!(latency, SeenLatency::Collecting(_)) {
                    *latency = SeenLatency::Early;
                }
            }
        }
    }
}

/// Counts of one bound among those of several.
pub(super) fn of_bound(counts: &[SlowCounts], bound_us: u64) -> Counts {
    counts.iter().find(|slower| slower.bound_us == bound_us).map(|slower| slower.counts).unwrap_or_default()
}

/// Adds counts bound by bound.
pub(super) fn add_slower(sum: &mut Vec<SlowCounts>, more: &[SlowCounts]) {
    for more in more {
        match sum.iter_mut().find(|slower| slower.bound_us == more.bound_us) {
            Some(slower) => slower.counts.add(&more.counts),
            None => sum.push(*more),
        }
    }
}
