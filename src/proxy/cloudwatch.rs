//! App Mesh's metrics for CloudWatch by its API (`PutMetricData`), for tasks without an agent and without a log driver.
//!
//! One call a minute, unless there are very many targets. What CloudWatch does not take is kept for the next minute, and no
//! longer: a minute that comes late twice is dropped and counted, so that nothing gathers while CloudWatch is away. A call that was
//! not answered may have arrived; it is sent again, so such a minute may be counted twice.

/// Calls of a period (pure).
mod data;

use super::metrics::{self, Period};
use super::report::{Ticks, period};
use super::shared::Shared;
use crate::aws::{self, Failed};
use crate::base::fault::Fault;
use crate::clock::{Clock, SystemClock};
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::types::MetricDatum;
use aws_types::SdkConfig;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How metrics go to CloudWatch by its API.
#[derive(Debug, Clone)]
pub struct CloudWatchSettings {
    /// Region, credentials and endpoint. Calls are bounded by [`crate::aws`]: 5 s each, with two repeats after pauses of random
    /// length.
    pub sdk: SdkConfig,
    /// Namespace of the metrics, such as `AppMesh`.
    pub namespace: String,
    /// Time between two reports; a minute is what CloudWatch keeps.
    pub every: Duration,
}

/// What became of metrics.
#[derive(Debug, Default)]
pub(super) struct Sent {
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Sent {
    /// Every count by its name.
    pub(super) fn read(&self) -> [(&'static str, u64); 3] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("cloudwatch.metrics_sent", get(&self.sent)),
            ("cloudwatch.metrics_dropped", get(&self.dropped)),
            ("cloudwatch.calls_failed", get(&self.failed)),
        ]
    }
}

/// Reports until the proxy has ended, and then once more.
pub(super) async fn run(shared: Arc<Shared>, settings: CloudWatchSettings) {
    let client = Client::from_conf(aws::builder!(aws_sdk_cloudwatch, &settings.sdk).build());
    let mut sender = Sender { shared: &shared, client, namespace: settings.namespace, was_told: false };
    let mut ticks = Ticks::new(&shared, settings.every);
    let (mut before, mut late) = (Period::default(), Vec::new());
    loop {
        let is_last = ticks.next().await;
        if let Some(own) = shared.current().config.own.clone() {
            let now = period(&shared);
            let calls = data::calls(&metrics::portions(&own, &before, &now), SystemClock.now());
            before = now;
            let too_late = sender.put_all(std::mem::take(&mut late)).await;
            sender.drop_all(&too_late);
            late = sender.put_all(calls).await;
        }
        if is_last {
            return sender.drop_all(&late);
        }
    }
}

struct Sender<'a> {
    shared: &'a Shared,
    client: Client,
    namespace: String,
    /// Whether it was said that calls fail.
    was_told: bool,
}

impl Sender<'_> {
    /// Makes these calls; those that failed are left.
    async fn put_all(&mut self, calls: Vec<Vec<MetricDatum>>) -> Vec<Vec<MetricDatum>> {
        let mut left = Vec::new();
        for call in calls {
            if !self.put(&call).await {
                left.push(call);
            }
        }
        left
    }

    /// Makes a call; whether it was taken.
    async fn put(&mut self, data: &[MetricDatum]) -> bool {
        let call = self.client.put_metric_data().namespace(&self.namespace).set_metric_data(Some(data.to_vec()));
        let sent = &self.shared.cloudwatch;
        match call.send().await {
            Ok(_) => {
                sent.sent.fetch_add(count(data.len()), Ordering::Relaxed);
                self.was_told = false;
                true
            }
            Err(error) => {
                sent.failed.fetch_add(1, Ordering::Relaxed);
                let place = &self.namespace;
                let failed = Failed { service: "cloudwatch", operation: "PutMetricData", writes: true, place, remedy };
                let fault: Fault = failed.fault(&error);
                if !std::mem::replace(&mut self.was_told, true) {
                    tracing::error!(%fault, "metrics are not taken by CloudWatch; a minute of them is kept and tried once more");
                }
                false
            }
        }
    }

    fn drop_all(&self, calls: &[Vec<MetricDatum>]) {
        let all = calls.iter().map(Vec::len).sum();
        self.shared.cloudwatch.dropped.fetch_add(count(all), Ordering::Relaxed);
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// What to do about a refusal, where that is known; ends in `: `.
fn remedy(code: &str, _: &str) -> &'static str {
    match code {
        "InvalidParameterValue" | "ValidationError" | "ValidationException" => {
            "CloudWatch does not take these metrics; correct TIDEGATE_CLOUDWATCH_NAMESPACE: "
        }
        _ => "",
    }
}
