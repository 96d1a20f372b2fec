//! How a request of an Envoy ended, by the entry of its log: as the native proxy would have counted it.
//!
//! An entry is written once, when the request is over, whatever was tried again on the way. What Envoy noted of the way
//! (response flags) comes before the status: a request without an answer gets one that Envoy made.

use super::translate::counted::CountedRoute;
use envoy_types::pb::envoy::data::accesslog::v3::{AccessLogCommon, AccessLogType, HttpAccessLogEntry, ResponseFlags};
use envoy_types::pb::google::protobuf::Duration;

/// How a judged request ended, after retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered below 500.
    Good {
        /// Microseconds to the head of the answer.
        latency_us: u64,
    },
    /// Answered 5xx, or with a status of gRPC that is a failure of the server.
    Status5xx,
    /// No connection, no endpoint, reset, malformed or broken off.
    Reset,
    /// Past its deadline.
    Timeout,
}

/// Statuses of gRPC that are failures (interface "One judged request"): UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE,
/// DATA_LOSS.
const GRPC_FAILURES: [&str; 5] = ["2", "4", "13", "14", "15"];
/// Answered by Envoy to whoever did not send all of the request in time.
const REQUEST_TIMEOUT: u32 = 408;

/// How the request ended; `None` for one that is not over, that its client gave up, or that Envoy answered without asking
/// either version: those are not judged.
#[must_use]
pub fn outcome(entry: &HttpAccessLogEntry, route: &CountedRoute) -> Option<Outcome> {
    let common = entry.common_properties.as_ref()?;
    let none = ResponseFlags::default();
    let flags = common.response_flags.as_ref().unwrap_or(&none);
    let status = entry.response.as_ref().and_then(|response| response.response_code).map_or(0, |code| code.value);
    let is_common_fault = route.has_common_fault && (flags.fault_injected || flags.delay_injected);
    if common.access_log_type() != AccessLogType::DownstreamEnd || is_common_fault || is_turned_away(flags) {
        return None;
    }
    let is_late = flags.upstream_request_timeout
        || flags.duration_timeout
        || flags.upstream_max_stream_duration_reached
        || (flags.stream_idle_timeout && status != REQUEST_TIMEOUT);
    if is_late {
        return Some(Outcome::Timeout);
    }
    let is_failure = status >= 500 || has_failed(entry);
    // A failure that arrived is one, whether or not its client waited for the rest.
    if flags.downstream_connection_termination || flags.downstream_remote_reset {
        return is_failure.then_some(Outcome::Status5xx);
    }
    if has_no_answer(flags) {
        return Some(Outcome::Reset);
    }
    match status {
        // No answer and no reason for that, or a client that did not send its request.
        0 => None,
        REQUEST_TIMEOUT if flags.stream_idle_timeout => None,
        _ if is_failure => Some(Outcome::Status5xx),
        _ => Some(Outcome::Good { latency_us: latency_us(common) }),
    }
}

/// Whether Envoy answered for reasons of its own.
const fn is_turned_away(flags: &ResponseFlags) -> bool {
    flags.rate_limited
        || flags.unauthorized_details.is_some()
        || flags.rate_limit_service_error
        || flags.no_route_found
        || flags.downstream_protocol_error
        || flags.invalid_envoy_request_headers
        || flags.no_filter_config_found
}

/// Whether there is no answer of the version, or not all of one.
const fn has_no_answer(flags: &ResponseFlags) -> bool {
    flags.failed_local_healthcheck
        || flags.no_healthy_upstream
        || flags.local_reset
        || flags.upstream_remote_reset
        || flags.upstream_connection_failure
        || flags.upstream_connection_termination
        || flags.upstream_overflow
        || flags.upstream_protocol_error
        || flags.no_cluster_found
        || flags.dns_resolution_failure
        || flags.overload_manager
}

/// Whether a status of gRPC says so, at the head or at the end.
fn has_failed(entry: &HttpAccessLogEntry) -> bool {
    let Some(response) = &entry.response else { return false };
    let statuses = [&response.response_headers, &response.response_trailers];
    statuses.iter().any(|all| all.get("grpc-status").is_some_and(|status| GRPC_FAILURES.contains(&&**status)))
}

/// From the request's head to the answer's, whatever was tried in between. What Envoy answers itself has no head from
/// upstream.
fn latency_us(common: &AccessLogCommon) -> u64 {
    let spans = [common.time_to_first_upstream_rx_byte, common.time_to_first_downstream_tx_byte, common.duration];
    spans.iter().flatten().next().map_or(0, micros)
}

/// A span in microseconds; a negative one, which none is, as 0.
fn micros(span: &Duration) -> u64 {
    let seconds = u64::try_from(span.seconds).unwrap_or(0);
    let nanos = u64::try_from(span.nanos).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::RouteRef;
    use envoy_types::pb::envoy::data::accesslog::v3::HttpResponseProperties;
    use envoy_types::pb::google::protobuf::UInt32Value;
    use std::collections::BTreeMap;

    fn route(has_common_fault: bool) -> CountedRoute {
        CountedRoute {
            id: RouteRef { mesh: "m".into(), router: "r".into(), route: "a".into() },
            version: 7,
            targets: BTreeMap::new(),
            in_sessions: false,
            has_common_fault,
        }
    }

    fn entry(status: u32, flag: impl FnOnce(&mut ResponseFlags)) -> HttpAccessLogEntry {
        let mut flags = ResponseFlags::default();
        flag(&mut flags);
        let span = |nanos| Some(Duration { seconds: 1, nanos });
        let common = AccessLogCommon {
            response_flags: Some(flags),
            access_log_type: AccessLogType::DownstreamEnd.into(),
            time_to_first_upstream_rx_byte: span(2_000),
            time_to_first_downstream_tx_byte: span(3_000),
            duration: span(4_000),
            ..AccessLogCommon::default()
        };
        let response = HttpResponseProperties {
            response_code: (status > 0).then_some(UInt32Value { value: status }),
            ..HttpResponseProperties::default()
        };
        HttpAccessLogEntry {
            common_properties: Some(common),
            response: Some(response),
            ..HttpAccessLogEntry::default()
        }
    }

    /// A flag that Envoy sets.
    type Flag = fn(&mut ResponseFlags);

    #[test]
    fn each_end_is_what_the_native_proxy_would_call_it() {
        let good = Some(Outcome::Good { latency_us: 1_000_002 });
        let (bad, reset, late) = (Some(Outcome::Status5xx), Some(Outcome::Reset), Some(Outcome::Timeout));
        let cases: &[(u32, Flag, Option<Outcome>)] = &[
            (200, |_| (), good),
            (404, |_| (), good),
            (408, |_| (), good),
            (500, |_| (), bad),
            (503, |flags| flags.upstream_retry_limit_exceeded = true, bad),
            (504, |flags| flags.upstream_request_timeout = true, late),
            (200, |flags| flags.upstream_request_timeout = true, late),
            (504, |flags| flags.duration_timeout = true, late),
            (504, |flags| flags.stream_idle_timeout = true, late),
            (408, |flags| flags.stream_idle_timeout = true, None),
            (503, |flags| flags.no_healthy_upstream = true, reset),
            (503, |flags| flags.upstream_connection_failure = true, reset),
            (200, |flags| flags.upstream_connection_termination = true, reset),
            (503, |flags| flags.upstream_remote_reset = true, reset),
            (503, |flags| flags.upstream_overflow = true, reset),
            (502, |flags| flags.upstream_protocol_error = true, reset),
            (0, |flags| flags.downstream_connection_termination = true, None),
            (200, |flags| flags.downstream_connection_termination = true, None),
            (500, |flags| flags.downstream_remote_reset = true, bad),
            (429, |flags| flags.rate_limited = true, None),
            (404, |flags| flags.no_route_found = true, None),
            (503, |flags| flags.fault_injected = true, bad),
            (0, |_| (), None),
        ];
        for (number, (status, flag, expected)) in cases.iter().enumerate() {
            assert_eq!(outcome(&entry(*status, *flag), &route(false)), *expected, "case {number}, {status}");
        }
        for flag in [(|flags| flags.fault_injected = true) as Flag, |flags| flags.delay_injected = true] {
            assert_eq!(outcome(&entry(503, flag), &route(true)), None, "of all versions");
        }
    }

    #[test]
    fn a_status_of_grpc_is_found_at_either_end_of_an_answer() {
        for (status, is_failure) in [("0", false), ("5", false), ("8", false), ("2", true), ("14", true), ("15", true)]
        {
            for at_the_end in [false, true] {
                let mut entry = entry(200, |_| ());
                let response = entry.response.as_mut().unwrap();
                let place = if at_the_end { &mut response.response_trailers } else { &mut response.response_headers };
                place.insert("grpc-status".into(), status.into());
                let ended = outcome(&entry, &route(false));
                assert_eq!(ended == Some(Outcome::Status5xx), is_failure, "{status}, {at_the_end}");
            }
        }
    }

    #[test]
    fn what_is_not_over_or_says_nothing_is_not_counted() {
        let mut unfinished = entry(200, |_| ());
        let common = unfinished.common_properties.as_mut().unwrap();
        common.set_access_log_type(AccessLogType::DownstreamPeriodic);
        assert_eq!(outcome(&unfinished, &route(false)), None);
        assert_eq!(outcome(&HttpAccessLogEntry::default(), &route(false)), None);
        let mut timeless = entry(200, |_| ());
        let common = timeless.common_properties.as_mut().unwrap();
        common.time_to_first_upstream_rx_byte = None;
        common.time_to_first_downstream_tx_byte = Some(Duration { seconds: -1, nanos: -5 });
        assert_eq!(outcome(&timeless, &route(false)), Some(Outcome::Good { latency_us: 0 }));
    }
}
