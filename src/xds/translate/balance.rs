//! What tags of a node add to its cluster: Envoy does all of it itself.

use super::pieces::{number, span_of};
use crate::base::time::Millis;
use crate::mesh::snapshot::NodeExtensions;
use crate::mesh::snapshot::extension::{Balance, Choice, RetryBudget, Share};
use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    LbConfig, LbPolicy, LeastRequestLbConfig, RoundRobinLbConfig, SlowStartConfig,
};
use envoy_types::pb::envoy::r#type::v3::Percent;

/// Says it of a cluster that callers see.
pub(super) fn extend(message: &mut pb::Cluster, extensions: NodeExtensions) {
    if let Some(balance) = extensions.balance {
        spread(message, balance);
    }
    if let Some(budget) = extensions.retry_budget {
        let thresholds = message.circuit_breakers.iter_mut().flat_map(|breakers| &mut breakers.thresholds);
        thresholds.for_each(|thresholds| thresholds.retry_budget = Some(retry_budget(budget)));
    }
}

/// Two choices and a bias of 1 are Envoy's defaults, and so are an aggression of 1 and a least weight of 10 %.
fn spread(message: &mut pb::Cluster, balance: Balance) {
    let slow_start_config = balance.slow_start.map(slow_start);
    let (policy, config) = match balance.by {
        Choice::RoundRobin => {
            let config = slow_start_config.map(|slow_start| RoundRobinLbConfig { slow_start_config: Some(slow_start) });
            (LbPolicy::RoundRobin, config.map(LbConfig::RoundRobinLbConfig))
        }
        Choice::LeastRequest => {
            let config = LeastRequestLbConfig { slow_start_config, ..Default::default() };
            (LbPolicy::LeastRequest, Some(LbConfig::LeastRequestLbConfig(config)))
        }
    };
    message.lb_policy = policy.into();
    message.lb_config = config;
}

fn slow_start(window: Millis) -> SlowStartConfig {
    SlowStartConfig { slow_start_window: Some(span_of(window)), ..Default::default() }
}

fn retry_budget(budget: RetryBudget) -> thresholds::RetryBudget {
    thresholds::RetryBudget {
        budget_percent: Some(percent(budget.share)),
        min_retry_concurrency: number(budget.least),
        ..Default::default()
    }
}

fn percent(share: Share) -> Percent {
    Percent { value: f64::from(share.millionths()) / 10_000.0 }
}
