//! CloudWatch's history as a recording: what is to be asked for, which release it is about, and what the engine is handed.
//!
//! Requests and failures of each version come from metrics that count them, minute by minute. No metric has the weights, so
//! each minute is judged under the share of the requests that the canary had in it: given how many requests each version
//! had, which of them failed is drawn without replacement, which scatters less than the coin that the judge allows for
//! (Hoeffding, *Probability inequalities for sums of bounded random variables*, 1963). So the bound on false rollbacks stands.
//!
//! Gates on metrics are replayed by their points, each as late as the daemon would have read it. Nothing here asks anybody.

use super::engine::{Before, prepared_for};
use super::recording::{Recording, Sample};
use crate::base::time::{Millis, Timestamp};
use crate::base::weight::Slot;
use crate::judge::Counts;
use crate::judge::points::PointReading;
use crate::policy::plan::placeholder::{Names, Unfilled};
use crate::policy::plan::{
    CloudwatchMetric, CloudwatchQuery, Gate, GateRule, NoiseRule, Plan, SignalGate, SignalQuery, SignalRule,
};
use crate::policy::request_counts;
use crate::rollout::event::{ArmReading, LiveReading, Past, PastErrors, PointsReading, ProxyCounts, VersionCounts};
use std::collections::BTreeMap;

/// Length of what is counted: the shortest period that CloudWatch keeps for longer than three hours.
pub const MINUTE: Millis = Millis::from_seconds(60);
/// Time without a request after which a version that has some again is taken for a new release, and of which stable's errors
/// are what was usual before it, as for the daemon. It has to be asked for too.
pub const BEFORE: Millis = Millis::from_seconds(600);
/// A period is read so long after its end, as the daemon does before it has learned a namespace's lag.
const SETTLED_AFTER: Millis = Millis::from_seconds(120);
/// Days of the longest history: CloudWatch keeps minutes for 15.
pub const DAYS_MAX: u64 = 15;
/// The name of the proxy that all counts are of.
const PROXY: &str = "cloudwatch";

/// Values by the beginning of their period, rising.
pub type Series = Vec<(Timestamp, f64)>;

/// The metrics of one version's requests and of those that failed.
pub type CountMetrics = (Vec<CloudwatchMetric>, CloudwatchMetric);

/// A gate that is replayed by its points.
#[derive(Debug, Clone)]
struct History {
    gate: String,
    period: Millis,
    compared: bool,
    /// By the slot of the version; the same question for both stands at the first alone.
    queries: [Option<CloudwatchQuery>; 2],
}

/// What CloudWatch is to be asked about a policy.
#[derive(Debug, Clone)]
pub struct Asking {
    plan: Plan,
    left_out: Vec<String>,
    counts: [CountMetrics; 2],
    gates: Vec<History>,
}

/// Which part of the history is replayed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// When a rollout is to begin; found by itself without it.
    pub from: Option<Timestamp>,
    /// Until when it is replayed; to the end of what there is without it.
    pub until: Option<Timestamp>,
    /// The version that takes the release; found by itself without it.
    pub canary: Option<Slot>,
}

/// A history that can be replayed.
#[derive(Debug, Clone)]
pub struct Replayable {
    /// A plan for [`super::replay::replay`], whose second version is the canary.
    pub plan: Plan,
    /// What happened.
    pub recording: Recording,
    /// What of the policy is not replayed, in sentences.
    pub left_out: Vec<String>,
    /// The version that takes the release.
    pub canary: String,
    /// The other one.
    pub stable: String,
}

// === what is asked ===

impl Asking {
    /// About a policy. `counts` are metrics that count the requests of its two versions; without them those of the first
    /// gate that is a share of them, such as a preset's.
    ///
    /// # Errors
    /// That nothing counts requests, and what to do about it.
    pub fn about(plan: &Plan, counts: Option<[CountMetrics; 2]>) -> Result<Self, String> {
        let counts = counts.or_else(|| counted(plan)).ok_or_else(|| {
            format!(
                "policy `{}` has no gate that says where CloudWatch counts the requests of each version: add one such as {{ name: \
                 front, cloudwatch: {{ preset: tidegate_target_5xx, virtual_gateway: GATEWAY, virtual_service: SERVICE }}, max: 5%, \
                 dry_run: true }}, or name a load balancer and a target group for each version",
                plan.name
            )
        })?;
        let (prepared, mut left_out) = prepared_for(plan, |gate| match &gate.rule {
            GateRule::ErrorRateAgainstStable { .. } | GateRule::ErrorRateLimit { .. } => Ok(()),
            GateRule::Signal(signal) => history(plan, gate, signal).map(drop),
            GateRule::LatencyAgainstStable { .. } | GateRule::LatencyLimit { .. } => {
                Err("CloudWatch keeps no latencies of single requests; a gate on a preset of them is replayed"
                    .to_owned())
            }
            GateRule::Health { .. } => Err("nobody wrote down the answers to checks of health".to_owned()),
        });
        let mut asking = Self { plan: prepared, left_out: Vec::new(), counts, gates: Vec::new() };
        for gate in &mut asking.plan.gates {
            let GateRule::Signal(signal) = &gate.rule else { continue };
            let found = history(plan, gate, signal)?;
            if signal.span() < MINUTE {
                left_out.push(format!(
                    "gate `{}` is read minute by minute: CloudWatch keeps seconds for three hours",
                    gate.name
                ));
            }
            gate.rule = GateRule::Signal(stand_in(signal, &gate.name, found.period));
            asking.gates.push(found);
        }
        if plan.noise == NoiseRule::Auto {
            left_out.push(
                "`noise: auto` allows for none: CloudWatch does not tell stable's endpoints apart; give a copy of the policy \
                 `noise: { v: 0.25 }` or what its rollouts measured"
                    .to_owned(),
            );
        }
        if plan.preview.is_some() {
            left_out.push(
                "requests of previews and of forced versions are among those that CloudWatch counted: begin after the preview, by \
                 `--from`"
                    .to_owned(),
            );
        }
        asking.left_out = left_out;
        Ok(asking)
    }

    /// Every question. The answers are handed to [`Self::replayable`] in this order.
    #[must_use]
    pub fn questions(&self) -> Vec<CloudwatchQuery> {
        let counted = self.counts.iter().flat_map(|(all, failed)| all.iter().chain([failed]));
        let counted = counted.map(|metric| CloudwatchQuery::Metric { metric: metric.clone(), period: MINUTE });
        counted.chain(self.gates.iter().flat_map(|gate| gate.queries.iter().flatten().cloned())).collect()
    }
}

/// Of the first gate that says it, dry runs included.
fn counted(plan: &Plan) -> Option<[CountMetrics; 2]> {
    plan.signals().find_map(|(_, signal)| {
        let arms = [Slot::First, Slot::Second].map(|slot| match signal.query.about(&names(plan, slot)) {
            Ok(SignalQuery::Cloudwatch(query)) if signal.query.is_per_version() => request_counts(&query),
            Ok(_) | Err(_) => None,
        });
        let [first, second] = arms;
        Some([first?, second?])
    })
}

/// What is known of a version beside its history: no release of the past has its name.
fn names(plan: &Plan, slot: Slot) -> Names {
    Names {
        node: plan.node(slot).to_owned(),
        service: plan.service(slot).map(str::to_owned),
        image: None,
        revision: None,
    }
}

/// What is asked for a gate, or why nothing can be.
fn history(plan: &Plan, gate: &Gate, signal: &SignalGate) -> Result<History, String> {
    let per_version = signal.query.is_per_version();
    let of = |slot: Slot| match signal.query.about(&names(plan, slot)) {
        Ok(SignalQuery::Cloudwatch(query)) => by_the_minute(query),
        Ok(_) => Err("its source is not CloudWatch".to_owned()),
        Err(Unfilled::Unknown(placeholder) | Unfilled::Unfit(placeholder, _)) => {
            Err(format!("`{{{}}}` of earlier releases is not known", placeholder.name()))
        }
    };
    let first = of(Slot::First)?;
    let second = if per_version { Some(of(Slot::Second)?) } else { None };
    Ok(History {
        gate: gate.name.clone(),
        period: signal.span().max(MINUTE),
        compared: matches!(signal.rule, SignalRule::AgainstStable { .. }),
        queries: [Some(first), second],
    })
}

fn by_the_minute(query: CloudwatchQuery) -> Result<CloudwatchQuery, String> {
    match query {
        CloudwatchQuery::Metric { metric, period } => {
            Ok(CloudwatchQuery::Metric { metric, period: period.max(MINUTE) })
        }
        CloudwatchQuery::Expression { expression, metrics, period } => {
            Ok(CloudwatchQuery::Expression { expression, metrics, period: period.max(MINUTE) })
        }
        CloudwatchQuery::Alarm { .. } => Err("the history of alarms is not read; name its metric instead".to_owned()),
    }
}

/// A gate that judges alike and needs to know no version's names: its points are read from the recording.
fn stand_in(signal: &SignalGate, gate: &str, period: Millis) -> SignalGate {
    let node = signal.query.is_per_version().then(|| ("node".to_owned(), "{node}".to_owned()));
    let metric = CloudwatchMetric {
        namespace: "recorded".to_owned(),
        name: gate.to_owned(),
        stat: "Average".to_owned(),
        dimensions: node.into_iter().collect(),
    };
    let query = SignalQuery::Cloudwatch(CloudwatchQuery::Metric { metric, period });
    SignalGate { query, ..signal.clone() }
}

// === what is made of the answers ===

impl Asking {
    /// A recording of the answers, each to the question at its place, from [`BEFORE`] the first instant that may be meant.
    ///
    /// # Errors
    /// That no release is found in them.
    pub fn replayable(&self, answers: &[Series], wanted: &Wanted, end: Timestamp) -> Result<Replayable, String> {
        let mut answers = answers.iter();
        let minutes = Minutes::of([0, 1].map(|slot| {
            let all: Vec<&Series> = answers.by_ref().take(self.counts[slot].0.len()).collect();
            (all, answers.next())
        }));
        let (canary, begin) = minutes.release(wanted).ok_or_else(|| match wanted.from {
            Some(from) => format!("neither version of policy `{}` had a request counted from {} on", self.plan.name, from.rfc3339()),
            None => format!(
                "no version of policy `{}` began to have requests beside the other in that time: name a time with --from, or more \
                 days with --days",
                self.plan.name
            ),
        })?;
        let mut points: Vec<Arrival> = Vec::new();
        for gate in &self.gates {
            let arms: [Option<&Series>; 2] =
                [0, 1].map(|slot| gate.queries[slot].as_ref().and_then(|_| answers.next()));
            points.extend(gate.arrivals(arms, canary));
        }
        points.sort_by_key(|arrival| arrival.at);
        let until = wanted.until.map_or(end, |until| until.min(end));
        let mut plan = self.plan.clone();
        if canary == Slot::First {
            plan.versions.swap(0, 1);
        }
        let [stable, canary_node] = plan.versions.clone();
        let past = Past { noise: None, stable: minutes.usual(canary.other(), begin), ..Past::default() };
        let before = Before { baseline: None, past };
        let recording = Recording { begin, before, samples: minutes.samples(canary, (begin, until), points) };
        let left_out = self.left_out.clone();
        Ok(Replayable { plan, recording, left_out, canary: canary_node, stable })
    }
}

/// Readings of a gate, and when the daemon would have had them.
struct Arrival {
    at: Timestamp,
    reading: PointsReading,
}

impl History {
    fn arrivals(&self, arms: [Option<&Series>; 2], canary: Slot) -> Vec<Arrival> {
        // A question that is the same for both is the canary's.
        let per_version = self.queries[1].is_some();
        let of = |slot: Slot| if per_version { arms[slot.index()] } else { arms[0] };
        let stable = if per_version { of(canary.other()) } else { None };
        let mut by_time: BTreeMap<Timestamp, [Option<f64>; 2]> = BTreeMap::new();
        for (arm, series) in [of(canary), stable].into_iter().enumerate() {
            for (at, value) in series.into_iter().flatten().filter(|(_, value)| value.is_finite()) {
                by_time.entry(*at).or_default()[arm] = Some(*value);
            }
        }
        let complete = by_time.into_iter().filter(|(_, arms)| !self.compared || arms.iter().all(Option::is_some));
        let arrival = |(at, arms): (Timestamp, [Option<f64>; 2])| {
            let [canary, stable] = arms.map(|value| ArmReading {
                point: value.map_or(PointReading::Missing, |value| PointReading::of(at, value)),
                note: None,
            });
            let reading = PointsReading { gate: self.gate.clone(), canary, stable };
            Arrival { at: at.plus(Millis(self.period.0 + SETTLED_AFTER.0)), reading }
        };
        complete.map(arrival).collect()
    }
}

/// Requests and failures of both versions in each minute, by the slot.
struct Minutes(BTreeMap<Timestamp, [(u64, u64); 2]>);

impl Minutes {
    fn of(series: [(Vec<&Series>, Option<&Series>); 2]) -> Self {
        let mut minutes: BTreeMap<Timestamp, [(u64, u64); 2]> = BTreeMap::new();
        let whole = |value: f64| value.max(0.0).round() as u64;
        for (slot, (all, failed)) in series.into_iter().enumerate() {
            for (at, value) in all.into_iter().flatten() {
                let requests = &mut minutes.entry(*at).or_default()[slot].0;
                *requests = requests.saturating_add(whole(*value));
            }
            for (at, value) in failed.into_iter().flatten() {
                minutes.entry(*at).or_default()[slot].1 = whole(*value);
            }
        }
        // Two metrics of one minute may have been sent in different ones.
        minutes.values_mut().flatten().for_each(|(requests, failed)| *failed = (*failed).min(*requests));
        Self(minutes)
    }

    /// Requests of a version in the minutes before an instant.
    fn before(&self, slot: Slot, at: Timestamp) -> (u64, u64) {
        let from = Timestamp(at.0.saturating_sub_unsigned(BEFORE.0));
        self.0.range(from..at).fold((0, 0), |sum, (_, arms)| {
            let (requests, failed) = arms[slot.index()];
            (sum.0 + requests, sum.1 + failed)
        })
    }

    fn usual(&self, stable: Slot, at: Timestamp) -> Option<PastErrors> {
        let (requests, errors) = self.before(stable, at);
        (requests > 0).then_some(PastErrors { requests, errors })
    }

    /// Which version takes the release, and when that begins: as it is wanted, or the last time that a version without
    /// requests began to have some while the other one had all.
    fn release(&self, wanted: &Wanted) -> Option<(Slot, Timestamp)> {
        let either = [Slot::First, Slot::Second];
        if let Some(from) = wanted.from {
            self.0.range(from..).find(|(_, arms)| arms.iter().any(|(requests, _)| *requests > 0))?;
            let fewer = || self.before(Slot::First, from).0 < self.before(Slot::Second, from).0;
            let canary = wanted.canary.unwrap_or_else(|| if fewer() { Slot::First } else { Slot::Second });
            return Some((canary, from));
        }
        let until = wanted.until.unwrap_or(Timestamp(i64::MAX));
        self.0.range(..until).rev().find_map(|(at, arms)| {
            let begins = |slot: &Slot| {
                let (is_meant, began) = (wanted.canary.is_none_or(|canary| canary == *slot), arms[slot.index()].0 > 0);
                is_meant && began && self.before(*slot, *at).0 == 0 && self.before(slot.other(), *at).0 > 0
            };
            either.iter().find(|slot| begins(slot)).map(|slot| (*slot, *at))
        })
    }

    /// A reading at the end of each minute, with the points that came by then.
    fn samples(&self, canary: Slot, (begin, until): (Timestamp, Timestamp), points: Vec<Arrival>) -> Vec<Sample> {
        let mut points = points.into_iter().filter(|arrival| arrival.at > begin).peekable();
        let mut samples = Vec::new();
        let mut at = begin;
        while at < until {
            let end = at.plus(MINUTE);
            let arms = self.0.range(at..end).fold([(0, 0); 2], |sum: [(u64, u64); 2], (_, arms)| {
                [0, 1].map(|slot| (sum[slot].0 + arms[slot].0, sum[slot].1 + arms[slot].1))
            });
            let mut arrived = Vec::new();
            while let Some(arrival) = points.next_if(|arrival| arrival.at <= end) {
                arrived.push(arrival.reading);
            }
            let number = samples.len() as u64 + 1;
            samples.push(Sample { at: end, live: Some(live(arms, canary, number)), points: arrived });
            at = end;
        }
        samples
    }
}

/// One minute as the counts of a version of the weights by itself: shares are what they were in it.
fn live(arms: [(u64, u64); 2], canary: Slot, version: u64) -> LiveReading {
    let ((canary_requests, canary_errors), (stable_requests, stable_errors)) =
        (arms[canary.index()], arms[canary.other().index()]);
    let all = canary_requests + stable_requests;
    let share_ppm = (canary_requests as f64 / all.max(1) as f64 * 1e6).round() as u32;
    let counts = Counts { canary_requests, canary_errors, stable_requests, stable_errors };
    let versions = if all > 0 { vec![VersionCounts::new(version, share_ppm, counts)] } else { Vec::new() };
    let proxy = ProxyCounts { proxy: PROXY.to_owned(), applied: None, serving: false, versions, fuse: None };
    LiveReading { proxies: vec![proxy], ..LiveReading::default() }
}

#[cfg(test)]
mod tests;
