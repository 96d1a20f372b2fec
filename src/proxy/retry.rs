//! Whether a failed try is made again, and after how long. Pure: chance and time come in as numbers.
//!
//! A retry stays with the target that was drawn, since its outcome belongs to that arm; only the endpoint changes.

use crate::mesh::snapshot::RetryPolicy;
use http::{HeaderMap, StatusCode};
use std::time::Duration;

/// Back-off before the first retry lies below this; it doubles with each further one. Envoy's value, which App Mesh used.
const BASE: Duration = Duration::from_millis(25);
/// No back-off is longer.
const CAP: Duration = Duration::from_millis(250);

/// How a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection: refused, unreachable or not within the connect timeout.
    Connect,
    /// The connection broke, or its answer was malformed, before the answer's head.
    Reset,
    /// The try took longer than the route allows one try.
    TryTimeout,
    /// The endpoint refused the stream (HTTP/2).
    Refused,
    /// As much is on the way to it as may be.
    Overflow,
    /// An answer with this status.
    Status(u16),
    /// An answer with this status of gRPC in its head.
    Grpc(u16),
}

impl Failure {
    /// What an answer's head says, if it is one.
    #[must_use]
    pub fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let code = headers.get("grpc-status").and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        code.map_or(Self::Status(status.as_u16()), Self::Grpc)
    }
}

/// Envoy's and App Mesh's words for the statuses of gRPC that may be tried again (App Mesh API 2019-01-25,
/// `GrpcRetryPolicyEvent`).
const fn grpc_event(code: u16) -> &'static str {
    match code {
        1 => "cancelled",
        4 => "deadline-exceeded",
        8 => "resource-exhausted",
        13 => "internal",
        14 => "unavailable",
        _ => "",
    }
}

/// Whether the policy allows another try after `retries` retries were already made.
/// The caller has made sure that the request can be sent again at all.
#[must_use]
pub fn allowed(policy: &RetryPolicy, retries: u32, failure: Failure) -> bool {
    retries < policy.max_retries
        && match failure {
            Failure::Connect => policy.on_connect_failure,
            Failure::Reset => policy.on_reset,
            // Envoy answers a try's timeout with 504 and resets it, so either condition covers it.
            Failure::TryTimeout => policy.on_reset || policy.statuses.contains(&504),
            Failure::Refused => policy.on_refused_stream,
            Failure::Overflow => false,
            Failure::Status(status) => policy.statuses.contains(&status),
            Failure::Grpc(code) => policy.grpc.iter().any(|event| event == grpc_event(code)),
        }
}

/// Whether the policy would allow another try, had not as many been made as it allows at most.
#[must_use]
pub fn is_spent(policy: &RetryPolicy, retries: u32, failure: Failure) -> bool {
    retries >= policy.max_retries && allowed(policy, 0, failure)
}

/// Pause before retry number `retry` (0 for the first): uniform below 25 ms, 50 ms, 100 ms, … up to 250 ms.
#[must_use]
pub fn backoff(retry: u32, draw: u64) -> Duration {
    let limit = BASE.saturating_mul(2_u32.saturating_pow(retry)).min(CAP);
    let limit_us = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(u64::try_from((u128::from(draw) * u128::from(limit_us)) >> 64).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Millis;

    fn policy(statuses: &[u16], on_connect_failure: bool, on_reset: bool) -> RetryPolicy {
        let per_try_timeout = Some(Millis(100));
        let statuses = statuses.to_vec();
        RetryPolicy { max_retries: 2, per_try_timeout, on_connect_failure, on_reset, statuses, ..Default::default() }
    }

    #[test]
    fn each_failure_needs_its_own_condition_and_a_retry_left() {
        for (policy, retries, failure, again) in [
            (policy(&[503], true, true), 0, Failure::Status(503), true),
            (policy(&[503], true, true), 1, Failure::Status(503), true),
            (policy(&[503], true, true), 2, Failure::Status(503), false),
            (policy(&[503], true, true), 0, Failure::Status(500), false),
            (policy(&[], true, false), 0, Failure::Connect, true),
            (policy(&[], false, true), 0, Failure::Connect, false),
            (policy(&[], false, true), 0, Failure::Reset, true),
            (policy(&[], true, false), 0, Failure::Reset, false),
            (policy(&[], false, true), 0, Failure::TryTimeout, true),
            (policy(&[504], false, false), 0, Failure::TryTimeout, true),
            (policy(&[503], true, false), 0, Failure::TryTimeout, false),
        ] {
            assert_eq!(allowed(&policy, retries, failure), again, "{policy:?} {retries} {failure:?}");
        }
    }

    #[test]
    fn back_off_doubles_up_to_its_cap() {
        let longest = |retry| backoff(retry, u64::MAX).as_micros();
        assert_eq!([longest(0), longest(1), longest(2)], [24_999, 49_999, 99_999]);
        assert_eq!([longest(4), longest(40), longest(u32::MAX)], [249_999; 3]);
        assert_eq!(backoff(3, 0), Duration::ZERO);
    }
}
