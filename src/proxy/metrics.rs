//! App Mesh's metrics (`envoy.appmesh.*`): what was counted in a period, whichever way it goes to CloudWatch. Pure.
//!
//! Names and dimensions are those of the App Mesh image's metrics extension (appmesh "Metrics extension").

use super::stats::{HttpSum, TargetKey, TargetSum};
use crate::base::histogram::{Histogram, upper_bound_us};
use crate::mesh::snapshot::{Own, Role};
use std::collections::BTreeMap;

/// Values of one distribution: CloudWatch takes so many in its embedded metric format, and half as many again by PutMetricData.
const MOST_VALUES: usize = 100;

/// Everything counted up to some moment.
#[derive(Default)]
pub(super) struct Period {
    pub(super) https: BTreeMap<String, HttpSum>,
    pub(super) targets: BTreeMap<TargetKey, TargetSum>,
}

/// Metrics with the same dimensions.
pub(super) struct Portion {
    /// The target that they are about; `None` for what came in.
    pub(super) target: Option<TargetKey>,
    /// Names and values.
    pub(super) dimensions: Vec<(&'static str, String)>,
    pub(super) metrics: Vec<Metric>,
}

/// One metric.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) amount: Amount,
}

/// How much of it there was.
pub(super) enum Amount {
    /// So many.
    Count(u64),
    /// Times in milliseconds.
    Times(Distribution),
}

/// A distribution as values with their counts: the upper bounds of our buckets, neighbours put together where there are more than
/// CloudWatch takes.
pub(super) struct Distribution {
    /// Rising, in milliseconds; at least one.
    pub(super) values: Vec<f64>,
    /// As many.
    pub(super) counts: Vec<u64>,
    /// Of what was measured, in milliseconds.
    pub(super) sum: f64,
}

impl Amount {
    /// CloudWatch's name of its unit.
    pub(super) const fn unit(&self) -> &'static str {
        match self {
            Self::Count(_) => "Count",
            Self::Times(_) => "Milliseconds",
        }
    }
}

impl Period {
    /// The portion has reached its reader: its counts up to `now` are told.
    pub(super) fn told(&mut self, portion: &Portion, now: &Self) {
        match &portion.target {
            None => self.https.clone_from(&now.https),
            Some(key) => {
                if let Some(sum) = now.targets.get(key) {
                    self.targets.insert(key.clone(), sum.clone());
                }
            }
        }
        // A target that is forgotten begins at zero when it comes back.
        self.targets.retain(|key, _| now.targets.contains_key(key));
    }
}

/// What came on top of `before`: one portion for what came in, and one for each target that was sent anything.
pub(super) fn portions(own: &Own, before: &Period, now: &Period) -> Vec<Portion> {
    let kind = if own.role == Role::Node { "VirtualNode" } else { "VirtualGateway" };
    let dimensions = vec![("Mesh", own.mesh.clone()), (kind, own.name.clone())];
    let mut portions =
        vec![Portion { target: None, dimensions: dimensions.clone(), metrics: inbound(&before.https, &now.https) }];
    for (key, sum) in now.targets.iter().filter(|(key, _)| !key.service.is_empty()) {
        let earlier = before.targets.get(key).cloned().unwrap_or_default();
        if sum.statuses != earlier.statuses {
            let more = [("TargetVirtualService", key.service.clone()), ("TargetVirtualNode", key.node.clone())];
            let dimensions = dimensions.iter().cloned().chain(more).collect();
            portions.push(Portion { target: Some(key.clone()), dimensions, metrics: outbound(&earlier, sum) });
        }
    }
    portions
}

type Https = BTreeMap<String, HttpSum>;

fn inbound(before: &Https, now: &Https) -> Vec<Metric> {
    let of_clients = || now.iter().filter(|(prefix, _)| prefix.starts_with("ingress"));
    let new = |of: fn(&HttpSum) -> u64| {
        let new = |(prefix, sum): (&String, &HttpSum)| of(sum).saturating_sub(before.get(prefix).map_or(0, of));
        Amount::Count(of_clients().map(new).sum())
    };
    let active = of_clients().map(|(_, sum)| sum.connections.saturating_sub(sum.connections_ended)).sum();
    vec![
        Metric { name: "envoy.appmesh.ActiveConnectionCount", amount: Amount::Count(active) },
        Metric { name: "envoy.appmesh.NewConnectionCount", amount: new(|http| http.connections) },
        Metric { name: "envoy.appmesh.RequestCount", amount: new(|http| http.requests) },
        Metric { name: "envoy.appmesh.GrpcRequestCount", amount: new(|http| http.grpc_requests) },
    ]
}

fn outbound(before: &TargetSum, now: &TargetSum) -> Vec<Metric> {
    let class = |sum: &TargetSum, class: u16| -> u64 {
        sum.statuses.range(class * 100..class * 100 + 100).map(|(_, count)| count).sum()
    };
    let new = |number: u16| Amount::Count(class(now, number).saturating_sub(class(before, number)));
    let all = |sum: &TargetSum| sum.statuses.values().sum::<u64>();
    let requests = Amount::Count(all(now).saturating_sub(all(before)));
    let mut metrics = vec![
        Metric { name: "envoy.appmesh.RequestCountPerTarget", amount: requests },
        Metric { name: "envoy.appmesh.HTTPCode_Target_2XX_Count", amount: new(2) },
        Metric { name: "envoy.appmesh.HTTPCode_Target_3XX_Count", amount: new(3) },
        Metric { name: "envoy.appmesh.HTTPCode_Target_4XX_Count", amount: new(4) },
        Metric { name: "envoy.appmesh.HTTPCode_Target_5XX_Count", amount: new(5) },
    ];
    let times = now.times.0.beyond(&before.times.0);
    if times.total() > 0 {
        let sum_us = now.times.1.wrapping_sub(before.times.1);
        let amount = Amount::Times(distribution(&times, sum_us));
        metrics.push(Metric { name: "envoy.appmesh.TargetResponseTime", amount });
    }
    metrics
}

fn distribution(times: &Histogram, sum_us: u64) -> Distribution {
    let highest = upper_bound_us(times.counts().len().saturating_sub(2)).unwrap_or_default();
    let bound = |bucket: usize| upper_bound_us(bucket).unwrap_or(highest) as f64 / 1000.0;
    let filled = times.counts().iter().enumerate().filter(|(_, count)| **count > 0);
    let filled: Vec<(f64, u64)> = filled.map(|(bucket, count)| (bound(bucket), *count)).collect();
    let together = filled.len().div_ceil(MOST_VALUES).max(1);
    let (mut values, mut counts) = (Vec::new(), Vec::new());
    for chunk in filled.chunks(together) {
        values.extend(chunk.last().map(|(value, _)| *value));
        counts.push(chunk.iter().map(|(_, count)| count).sum::<u64>());
    }
    Distribution { values, counts, sum: sum_us as f64 / 1000.0 }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::mesh::snapshot::IpPreference;

    pub(in crate::proxy) fn own() -> Own {
        Own {
            mesh: "shop".into(),
            name: "web".into(),
            role: Role::Node,
            listeners: Vec::new(),
            allow_all: false,
            access_log: None,
            ip_preference: IpPreference::Unset,
        }
    }

    pub(in crate::proxy) fn key(service: &str) -> TargetKey {
        TargetKey { cluster: "c".into(), service: service.into(), node: "v1".into() }
    }

    pub(in crate::proxy) fn target(statuses: &[(u16, u64)], us: &[u64]) -> TargetSum {
        let mut times = Histogram::default();
        us.iter().for_each(|us| times.record(*us));
        TargetSum {
            statuses: statuses.iter().copied().collect(),
            times: (times, us.iter().sum()),
            ..TargetSum::default()
        }
    }

    fn counts(portion: &Portion) -> Vec<u64> {
        portion
            .metrics
            .iter()
            .filter_map(|metric| if let Amount::Count(count) = metric.amount { Some(count) } else { None })
            .collect()
    }

    #[test]
    fn what_came_in_is_told_by_mesh_and_node() {
        let http = |requests, connections, ended| HttpSum {
            requests,
            connections,
            connections_ended: ended,
            ..HttpSum::default()
        };
        // A prefix that was forgotten meanwhile takes nothing away from the others.
        let before = [("ingress".into(), http(3, 2, 0)), ("ingress.http.90".into(), http(1000, 1000, 1000))];
        let before = Period { https: before.into(), ..Period::default() };
        let https = [
            ("ingress.http.80".into(), http(1, 1, 0)),
            ("ingress".into(), http(10, 5, 4)),
            ("egress".into(), http(100, 9, 0)),
        ];
        let now = Period { https: https.into(), ..Period::default() };
        let portions = portions(&own(), &before, &now);
        assert_eq!(portions.len(), 1);
        assert_eq!(portions[0].dimensions, [("Mesh", "shop".to_owned()), ("VirtualNode", "web".to_owned())]);
        assert_eq!(counts(&portions[0]), [2, 4, 8, 0], "active, new, requests, calls of gRPC");
    }

    #[test]
    fn each_target_has_its_classes_and_times_since_the_last_report() {
        let before = Period { targets: [(key("a.local"), target(&[(200, 5)], &[900]))].into(), ..Period::default() };
        let targets = [
            (key("a.local"), target(&[(200, 7), (404, 1), (503, 2)], &[900, 900, 4000])),
            (key("quiet.local"), target(&[], &[])),
            (key(""), target(&[(200, 1)], &[1])),
        ];
        let now = Period { targets: targets.into(), ..Period::default() };
        let portions = portions(&own(), &before, &now);
        assert_eq!(portions.len(), 2, "one of its own, and one for the only target that was sent anything");
        assert_eq!(portions[1].dimensions[2], ("TargetVirtualService", "a.local".to_owned()));
        assert_eq!(portions[1].dimensions[3], ("TargetVirtualNode", "v1".to_owned()));
        assert_eq!(counts(&portions[1]), [5, 2, 0, 1, 2]);
        let Some(Metric { amount: Amount::Times(times), .. }) = portions[1].metrics.last() else { panic!("no times") };
        assert_eq!((&times.counts, times.sum), (&vec![1, 1], 4.9));
    }

    #[test]
    fn what_was_told_is_not_told_again_and_the_rest_is() {
        let now = Period {
            https: [("ingress".into(), HttpSum { requests: 3, ..HttpSum::default() })].into(),
            targets: [(key("a"), target(&[(200, 5)], &[])), (key("b"), target(&[(200, 7)], &[]))].into(),
        };
        let mut before = Period::default();
        let first = portions(&own(), &before, &now);
        before.told(&first[0], &now);
        before.told(&first[2], &now);
        let second = portions(&own(), &before, &now);
        assert_eq!(counts(&second[0]), [0, 0, 0, 0]);
        assert_eq!(second.len(), 2, "b was told");
        assert_eq!(second[1].target, Some(key("a")));
        // One that came back counts from zero again.
        let now = Period::default();
        before.told(&portions(&own(), &before, &now)[0], &now);
        let now = Period { targets: [(key("b"), target(&[(200, 2)], &[]))].into(), ..Period::default() };
        assert_eq!(counts(&portions(&own(), &before, &now)[1])[0], 2);
    }

    #[test]
    fn a_wide_distribution_has_no_more_values_than_cloudwatch_takes() {
        let mut times = Histogram::default();
        (0..150).filter_map(upper_bound_us).for_each(|us| times.record(us));
        let Distribution { values, counts, .. } = distribution(&times, 1);
        assert!(values.len() <= MOST_VALUES);
        assert_eq!(counts.iter().sum::<u64>(), 150);
        assert!(values.is_sorted());
    }
}
