//! How long after its end a period of a namespace is read, learned from what is seen.
//!
//! Every look at a metric also brings the last periods that were read before and those that have ended but are not read
//! yet. A value that is another one in the next look had not settled at its age in this look: the lag grows beyond that age
//! at once. Values that stay as they were say that their age was enough: after many of those the lag shrinks to what most
//! of them had. So a namespace whose sender is slow is not believed too soon, and one that is quick costs no minute.

use super::plan;
use crate::base::time::Millis;
use crate::policy::plan::CloudwatchQuery;
use std::collections::BTreeMap;

/// The shortest lag of whole minutes, and of periods of seconds: a sender that is quick now may miss a beat, and clocks
/// differ by seconds.
const LEAST: Millis = Millis::from_seconds(30);
const LEAST_OF_SECONDS: Millis = Millis::from_seconds(10);
/// The longest: points that come later than this after their period are older than `rollout::signals` takes for fresh when
/// it is asked about each minute, so a gate on them would only say that it is silent.
const MOST: Millis = Millis::from_seconds(150);
/// So many values in a row have to be the same in a second look before the lag shrinks: with 30 of 30, fewer than one in
/// ten was changed later, at 95 % confidence.
const CALM: usize = 30;
/// Namespaces that are remembered, of which an account that runs a mesh has some tens. Others keep the first lag.
const MOST_NAMESPACES: usize = 1000;

/// What was learned.
#[derive(Debug, Default)]
pub(super) struct Lags {
    /// By namespace, and whether periods are of seconds.
    learned: BTreeMap<(String, bool), Learned>,
}

#[derive(Debug)]
struct Learned {
    lag: Millis,
    /// The greatest age at which a value was seen that changed later.
    unsettled: Millis,
    /// Ages between that and the lag at which values were what they stayed.
    calm: Vec<Millis>,
}

impl Lags {
    /// How long after its end a period of a query is read: the slowest of its namespaces counts.
    pub(super) fn of(&self, query: &CloudwatchQuery, period: Millis) -> Millis {
        let lag = |namespace: &str| {
            self.learned
                .get(&(namespace.to_owned(), is_of_seconds(period)))
                .map_or_else(|| plan::lag(period), |learned| learned.lag)
        };
        namespaces(query).into_iter().map(lag).max().unwrap_or_else(|| plan::lag(period))
    }

    /// Takes in that a value was read when its period had ended for `age`, and whether the next look brought another one.
    pub(super) fn compared(&mut self, query: &CloudwatchQuery, period: Millis, age: Millis, changed: bool) {
        let of_seconds = is_of_seconds(period);
        for namespace in namespaces(query) {
            let key = (namespace.to_owned(), of_seconds);
            if self.learned.len() >= MOST_NAMESPACES && !self.learned.contains_key(&key) {
                continue;
            }
            let first = || Learned { lag: plan::lag(period), unsettled: Millis(0), calm: Vec::new() };
            self.learned.entry(key).or_insert_with(first).compared(period, age, changed);
        }
    }
}

impl Learned {
    fn compared(&mut self, period: Millis, age: Millis, changed: bool) {
        if changed {
            self.unsettled = self.unsettled.max(age);
            // What an older value did says more than what this one did.
            self.calm.retain(|calm| *calm > age);
            // It settled at some time until the next look, which is about a period later.
            self.lag = self.lag.max(Millis(age.0.saturating_add(period.0))).min(MOST);
        } else if age > self.unsettled && age < self.lag {
            self.calm.push(age);
        }
        if self.calm.len() >= CALM {
            self.calm.sort_unstable();
            // Half of them were no older than this, and did not change either.
            let least = if is_of_seconds(period) { LEAST_OF_SECONDS } else { LEAST };
            self.lag = self.calm[CALM / 2].max(least).min(self.lag);
            self.calm.clear();
            // One bad hour of a sender is not remembered for ever; the next one is seen at once.
            self.unsettled = Millis(self.unsettled.0 / 2);
        }
    }
}

const fn is_of_seconds(period: Millis) -> bool {
    period.0 < 60_000
}

/// Namespaces of a query's metrics; one without a name where an expression finds its metrics itself.
fn namespaces(query: &CloudwatchQuery) -> Vec<&str> {
    match query {
        CloudwatchQuery::Metric { metric, .. } => vec![&metric.namespace],
        CloudwatchQuery::Expression { metrics, .. } if metrics.is_empty() => vec![""],
        CloudwatchQuery::Expression { metrics, .. } => {
            let mut names: Vec<&str> = metrics.values().map(|metric| metric.namespace.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            names
        }
        CloudwatchQuery::Alarm { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::plan::CloudwatchMetric;

    const MINUTE: Millis = Millis::from_seconds(60);

    fn of(namespace: &str) -> CloudwatchMetric {
        let (namespace, name, stat) = (namespace.to_owned(), "Errors".to_owned(), "Sum".to_owned());
        CloudwatchMetric { namespace, name, stat, dimensions: BTreeMap::new() }
    }

    fn metric(namespace: &str) -> CloudwatchQuery {
        CloudwatchQuery::Metric { metric: of(namespace), period: MINUTE }
    }

    #[test]
    fn a_value_that_changed_makes_the_lag_longer_at_once_and_only_there() {
        let (slow, quick) = (metric("Slow"), metric("Quick"));
        let mut lags = Lags::default();
        assert_eq!(lags.of(&slow, MINUTE), Millis::from_seconds(120));
        lags.compared(&slow, MINUTE, Millis::from_seconds(20), true);
        assert_eq!(lags.of(&slow, MINUTE), Millis::from_seconds(120), "it was not read so soon");
        lags.compared(&slow, MINUTE, Millis::from_seconds(85), true);
        assert_eq!(lags.of(&slow, MINUTE), Millis::from_seconds(145));
        lags.compared(&slow, MINUTE, Millis::from_seconds(400), true);
        assert_eq!(lags.of(&slow, MINUTE), MOST, "no gate on it would be fresh");
        assert_eq!(lags.of(&quick, MINUTE), Millis::from_seconds(120));
        let metrics = [("a", "Slow"), ("b", "Quick")].map(|(name, namespace)| (name.to_owned(), of(namespace)));
        let both =
            CloudwatchQuery::Expression { expression: "a / b".to_owned(), metrics: metrics.into(), period: MINUTE };
        assert_eq!(lags.of(&both, MINUTE), MOST, "the slowest counts");
    }

    #[test]
    fn many_values_that_stay_make_it_shorter_step_by_step_and_one_that_does_not_ends_that() {
        let query = metric("Shop");
        let mut lags = Lags::default();
        let calm = |lags: &mut Lags, times: usize, age: u64| {
            (0..times).for_each(|_| lags.compared(&query, MINUTE, Millis::from_seconds(age), false));
            lags.of(&query, MINUTE).0 / 1000
        };
        assert_eq!(calm(&mut lags, 100, 130), 120, "older ones say nothing of younger ones");
        assert_eq!(calm(&mut lags, CALM - 1, 75), 120);
        assert_eq!(calm(&mut lags, 1, 75), 75);
        assert_eq!(calm(&mut lags, CALM, 5), 30, "not below the least");
        lags.compared(&metric("Shop"), MINUTE, Millis::from_seconds(40), true);
        assert_eq!(calm(&mut lags, 0, 0), 100);
        assert_eq!(calm(&mut lags, 100, 39), 100, "such a value has changed before");
        assert_eq!(calm(&mut lags, CALM - 1, 50), 100);
        lags.compared(&metric("Shop"), MINUTE, Millis::from_seconds(10), true);
        assert_eq!(calm(&mut lags, 1, 50), 50, "a younger one that changes says nothing of it");
        assert_eq!(calm(&mut lags, CALM - 1, 45), 50);
        lags.compared(&metric("Shop"), MINUTE, Millis::from_seconds(46), true);
        assert_eq!(calm(&mut lags, 1, 50), 106, "counted from the beginning again");
    }
}
