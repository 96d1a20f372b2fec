//! New weights in a route, nothing else touched. Pure.

use aws_sdk_appmesh::types::{RouteSpec, WeightedTarget};

/// Why the weights cannot be put into a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The node is not among the targets.
    #[error("`{0}` is no target of the route any more; add it to its weightedTargets")]
    NoTarget(String),
    /// Two targets name the same node (on two ports): which of them should get the weight is not ours to say.
    #[error("`{0}` is a target of the route more than once; a rollout needs one target for each version")]
    Ambiguous(String),
    /// The route has no action with weighted targets.
    #[error("the route has no weighted targets")]
    NoTargets,
}

/// Every target of a route with its weight, whatever its protocol.
#[must_use]
pub fn targets(spec: &RouteSpec) -> Vec<(String, u32)> {
    let targets = actions(spec).unwrap_or_default();
    targets.iter().map(|target| (target.virtual_node.clone(), u32::try_from(target.weight).unwrap_or(0))).collect()
}

fn actions(spec: &RouteSpec) -> Option<&[WeightedTarget]> {
    let http = spec.http_route.as_ref().and_then(|route| route.action.as_ref()).map(|action| action.weighted_targets());
    let http2 =
        spec.http2_route.as_ref().and_then(|route| route.action.as_ref()).map(|action| action.weighted_targets());
    let grpc = spec.grpc_route.as_ref().and_then(|route| route.action.as_ref()).map(|action| action.weighted_targets());
    let tcp = spec.tcp_route.as_ref().and_then(|route| route.action.as_ref()).map(|action| action.weighted_targets());
    http.or(http2).or(grpc).or(tcp)
}

fn actions_mut(spec: &mut RouteSpec) -> Option<&mut Vec<WeightedTarget>> {
    let http =
        spec.http_route.as_mut().and_then(|route| route.action.as_mut()).map(|action| &mut action.weighted_targets);
    let http2 =
        spec.http2_route.as_mut().and_then(|route| route.action.as_mut()).map(|action| &mut action.weighted_targets);
    let grpc =
        spec.grpc_route.as_mut().and_then(|route| route.action.as_mut()).map(|action| &mut action.weighted_targets);
    let tcp =
        spec.tcp_route.as_mut().and_then(|route| route.action.as_mut()).map(|action| &mut action.weighted_targets);
    http.or(http2).or(grpc).or(tcp)
}

/// Sets the weights of two nodes. Matches, retries, timeouts, priority, ports and other targets stay as they were.
///
/// # Errors
/// [`EditError`] when either node is not exactly one of the targets; the route is unchanged then.
pub fn set_weights(spec: &RouteSpec, weights: [(&str, u8); 2]) -> Result<RouteSpec, EditError> {
    let mut edited = spec.clone();
    let targets = actions_mut(&mut edited).ok_or(EditError::NoTargets)?;
    for (node, weight) in weights {
        let mut found = targets.iter_mut().filter(|target| target.virtual_node == node);
        let target = found.next().ok_or_else(|| EditError::NoTarget(node.to_owned()))?;
        if found.next().is_some() {
            return Err(EditError::Ambiguous(node.to_owned()));
        }
        target.weight = i32::from(weight);
    }
    Ok(edited)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_appmesh::types::{
        Duration, DurationUnit, HttpRetryPolicy, HttpRoute, HttpRouteAction, HttpRouteMatch, HttpTimeout,
    };

    fn target(node: &str, weight: i32, port: Option<i32>) -> WeightedTarget {
        WeightedTarget::builder().virtual_node(node).weight(weight).set_port(port).build().expect("complete")
    }

    fn spec(targets: Vec<WeightedTarget>) -> RouteSpec {
        let action = HttpRouteAction::builder().set_weighted_targets(Some(targets)).build().expect("complete");
        let second = Duration::builder().unit(DurationUnit::S).value(1).build();
        let retry = HttpRetryPolicy::builder().max_retries(2).per_retry_timeout(second.clone()).build();
        let http = HttpRoute::builder()
            .action(action)
            .r#match(HttpRouteMatch::builder().prefix("/pay").port(8080).build())
            .retry_policy(retry.expect("complete"))
            .timeout(HttpTimeout::builder().per_request(second).build());
        RouteSpec::builder().priority(7).http_route(http.build()).build()
    }

    #[test]
    fn only_the_two_weights_differ() {
        let before = spec(vec![target("v1", 100, Some(9001)), target("v2", 0, None), target("old", 0, None)]);
        let after = set_weights(&before, [("v2", 10), ("v1", 90)]).expect("both are targets");
        assert_eq!(after, spec(vec![target("v1", 90, Some(9001)), target("v2", 10, None), target("old", 0, None)]));
        assert_eq!(super::targets(&after), [("v1".to_owned(), 90), ("v2".to_owned(), 10), ("old".to_owned(), 0)]);
    }

    #[test]
    fn a_missing_or_doubled_target_changes_nothing() {
        let doubled = spec(vec![target("v1", 50, Some(1)), target("v1", 50, Some(2)), target("v2", 0, None)]);
        assert_eq!(set_weights(&doubled, [("v2", 10), ("v1", 90)]), Err(EditError::Ambiguous("v1".into())));
        let missing = spec(vec![target("v1", 100, None)]);
        assert_eq!(set_weights(&missing, [("v2", 10), ("v1", 90)]), Err(EditError::NoTarget("v2".into())));
        let none = RouteSpec::builder().build();
        assert_eq!(set_weights(&none, [("v2", 10), ("v1", 90)]), Err(EditError::NoTargets));
    }
}
