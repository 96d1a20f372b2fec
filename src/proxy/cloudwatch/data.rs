//! Metrics of a period as calls of `PutMetricData` (Amazon CloudWatch API Reference, "PutMetricData", and User Guide, "CloudWatch
//! service quotas"). Pure.

use crate::base::time::Timestamp;
use crate::proxy::metrics::{Amount, Metric, Portion};
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit};

/// Metrics that CloudWatch takes in one call.
const MOST_DATUMS: usize = 1000;
/// Bytes of one call: CloudWatch takes 1 MB, and what they come to here is an estimate.
const MOST_BYTES: usize = 900_000;
/// What a datum costs beside its names and values: a time, a unit, and names of members.
const DATUM_BYTES: usize = 128;

/// The calls of a period, as few as may be: one, unless there are many targets.
pub(super) fn calls(portions: &[Portion], at: Timestamp) -> Vec<Vec<MetricDatum>> {
    let (mut calls, mut bytes) = (vec![Vec::new()], 0);
    for (portion, metric) in portions.iter().flat_map(|portion| portion.metrics.iter().map(move |one| (portion, one))) {
        let (datum, size) = (datum(portion, metric, at), size(portion, metric));
        if calls.last().is_some_and(|call| call.len() >= MOST_DATUMS || bytes + size > MOST_BYTES) {
            calls.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(call) = calls.last_mut() {
            call.push(datum);
        }
    }
    calls.retain(|call| !call.is_empty());
    calls
}

fn datum(portion: &Portion, metric: &Metric, at: Timestamp) -> MetricDatum {
    let dimension = |(name, value): &(&str, String)| Dimension::builder().name(*name).value(value).build();
    let datum = MetricDatum::builder()
        .metric_name(metric.name)
        .set_dimensions(Some(portion.dimensions.iter().map(dimension).collect()))
        .timestamp(DateTime::from_millis(at.0))
        .unit(StandardUnit::from(metric.amount.unit()));
    match &metric.amount {
        Amount::Count(count) => datum.value(*count as f64),
        Amount::Times(times) => datum
            .set_values(Some(times.values.clone()))
            .set_counts(Some(times.counts.iter().map(|count| *count as f64).collect())),
    }
    .build()
}

/// About as many bytes as it takes on the wire, rather more.
fn size(portion: &Portion, metric: &Metric) -> usize {
    let dimensions: usize = portion.dimensions.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    // A number is nine bytes in CBOR, and there is a value and a count.
    let values = if let Amount::Times(times) = &metric.amount { times.values.len() * 18 } else { 0 };
    DATUM_BYTES + metric.name.len() + dimensions + values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::metrics::tests::{key, own, target};
    use crate::proxy::metrics::{Period, portions};

    fn period(services: impl Iterator<Item = String>) -> Vec<Portion> {
        let targets = services.map(|service| (key(&service), target(&[(200, 2), (503, 1)], &[900, 900, 4000])));
        portions(&own(), &Period::default(), &Period { targets: targets.collect(), ..Period::default() })
    }

    #[test]
    fn counts_are_values_and_times_are_values_with_counts() {
        let calls = calls(&period(std::iter::once("a.local".to_owned())), Timestamp(60_000));
        assert_eq!((calls.len(), calls[0].len()), (1, 4 + 6));
        let named = |name: &str| calls[0].iter().find(|datum| datum.metric_name() == Some(name)).expect("it is there");
        let failed = named("envoy.appmesh.HTTPCode_Target_5XX_Count");
        assert_eq!((failed.value(), failed.unit()), (Some(1.0), Some(&StandardUnit::Count)));
        let dimensions: Vec<_> = failed.dimensions().iter().map(|one| (one.name(), one.value())).collect();
        assert_eq!(dimensions[3], (Some("TargetVirtualNode"), Some("v1")));
        assert_eq!(failed.timestamp(), Some(&DateTime::from_secs(60)));
        let times = named("envoy.appmesh.TargetResponseTime");
        assert_eq!(
            (times.value(), times.counts(), times.unit()),
            (None, &[2.0, 1.0][..], Some(&StandardUnit::Milliseconds))
        );
        assert!(times.values()[0] < times.values()[1]);
    }

    #[test]
    fn many_targets_take_more_calls_within_the_bounds_of_each() {
        let portions = period((0..400).map(|number| format!("{number:03}.local")));
        let all: usize = portions.iter().map(|portion| portion.metrics.len()).sum();
        let counts: Vec<usize> = calls(&portions, Timestamp(0)).iter().map(Vec::len).collect();
        assert_eq!(counts, [1000, 1000, all - 2000]);
        // Long names: the bytes are spent first.
        let portions = period((0..170).map(|number| format!("{number:03}{}", "x".repeat(2000))));
        let calls = calls(&portions, Timestamp(0));
        assert!(
            calls[0].len() < MOST_DATUMS && calls.len() == 3,
            "{:?}",
            calls.iter().map(Vec::len).collect::<Vec<_>>()
        );
        assert_eq!(calls.iter().map(Vec::len).sum::<usize>(), 170 * 6 + 4);
    }
}
