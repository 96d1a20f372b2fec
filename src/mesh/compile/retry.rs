//! Retry policies: App Mesh's events as what a data plane tries again.
//!
//! The mapping is the one that App Mesh gave to Envoy. `reset` in Envoy covers every failure before an answer's head,
//! refused connections too.

use crate::mesh::model::spec::RetryPolicySpec;
use crate::mesh::snapshot::RetryPolicy;

/// What `server-error` stands for (App Mesh API 2019-01-25, `HttpRetryPolicy`); 509 is not in the list.
const SERVER_ERROR: [u16; 11] = [500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511];

/// What `gateway-error` stands for.
const GATEWAY_ERROR: [u16; 3] = [502, 503, 504];

/// What `client-error` stands for.
const CLIENT_ERROR: [u16; 1] = [409];

/// The policy of a route that has none, and of every node provider (user guide, "Default route retry policy").
pub(super) fn default_policy() -> RetryPolicy {
    RetryPolicy {
        max_retries: 2,
        per_try_timeout: None,
        on_connect_failure: true,
        on_reset: true,
        on_refused_stream: true,
        statuses: vec![503],
        grpc: vec!["unavailable".into()],
    }
}

/// A route's own policy. It replaces the default one entirely; `maxRetries` 0 switches retries off.
pub(super) fn policy(spec: &RetryPolicySpec) -> RetryPolicy {
    let has = |event: &str| spec.http_retry_events.iter().any(|given| given == event);
    let mut statuses: Vec<u16> = Vec::new();
    for (event, codes) in
        [("server-error", &SERVER_ERROR[..]), ("gateway-error", &GATEWAY_ERROR), ("client-error", &CLIENT_ERROR)]
    {
        if has(event) {
            statuses.extend(codes);
        }
    }
    statuses.sort_unstable();
    statuses.dedup();
    let on_reset = has("server-error") || has("gateway-error");
    RetryPolicy {
        max_retries: u32::try_from(spec.max_retries).unwrap_or(u32::MAX),
        per_try_timeout: Some(spec.per_retry_timeout.millis()).filter(|millis| millis.0 > 0),
        on_connect_failure: on_reset || spec.tcp_retry_events.iter().any(|event| event == "connection-error"),
        on_reset,
        on_refused_stream: has("stream-error"),
        statuses,
        grpc: spec.grpc_retry_events.clone(),
    }
}
