//! Which endpoint sets a configuration asks for.

use super::SetKey;
use crate::mesh::snapshot::NodeConfig;
use std::collections::BTreeSet;

/// Every set that a configuration refers to.
pub(in crate::proxy) fn sets_of(config: &NodeConfig) -> BTreeSet<SetKey> {
    targets_of(config).map(|(key, _)| key).collect()
}

/// The sets that requests are sent to: those with weight in some route.
pub(in crate::proxy) fn weighted_sets_of(config: &NodeConfig) -> BTreeSet<SetKey> {
    targets_of(config).filter(|(_, weight)| *weight > 0).map(|(key, _)| key).collect()
}

fn targets_of(config: &NodeConfig) -> impl Iterator<Item = (SetKey, u32)> + '_ {
    let routes = config.services.values().flat_map(|service| &service.routes);
    routes.flat_map(|route| &route.targets).map(|target| ((target.cluster.clone(), target.port), target.weight))
}
