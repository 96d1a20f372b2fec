//! Copies of requests for a target that nobody waits for. A copy is sent when its original is answered, so it delays nothing;
//! what comes back is read and thrown away. It is counted for its target, apart from what is judged.

use super::counters::{Outcome, Totals};
use super::extension::Extra;
use super::headers::is_grpc_failure;
use super::held::Held;
use super::upload::RequestBody;
use super::upstream::Lease;
use super::worker::{Placement, Worker};
use crate::clock::Monotonic;
use http::header::{HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Uri};
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::timeout;

/// Copies under way at a time, of each worker. A target that answers slowly would gather them without end; each may have
/// 64 KiB of body, so together they are 4 MiB.
const MAX_SHADOWS: usize = 64;
/// Time for a copy, where its route has no limit or a longer one: App Mesh's default for a request.
const MAX_TIME: Duration = Duration::from_secs(15);
/// So much of an answer is read so that its connection may be used again; beyond that a new one costs less.
const MAX_READ: usize = 1024 * 1024;

/// A copy under way.
struct Shadow(Rc<Worker>);

impl Drop for Shadow {
    fn drop(&mut self) {
        self.0.shadows.set(self.0.shadows.get() - 1);
    }
}

/// Sends a copy of a request to the placement's target. `body` is `Some(None)` for one that cannot be copied.
pub(super) fn send(
    worker: &Rc<Worker>,
    mut placement: Placement,
    (method, uri, mut headers): (Method, Uri, HeaderMap),
    body: Option<Option<RequestBody>>,
) {
    let is_possible = body.as_ref().is_none_or(Option::is_some)
        && !headers.contains_key(UPGRADE)
        && worker.shadows.get() < MAX_SHADOWS
        && placement.set().spoken.is_some()
        && !placement.set().towards.is_unusable();
    if !is_possible {
        return Totals::count(&worker.view.totals.unmirrored);
    }
    if let Some(host) = headers.get(HOST).and_then(shadow_host) {
        headers.insert(HOST, host);
    }
    placement.extra = Some(Box::new(Extra::unjudged()));
    worker.shadows.set(worker.shadows.get() + 1);
    Totals::count(&worker.view.totals.mirrored);
    let shadow = Shadow(Rc::clone(worker));
    tokio::task::spawn_local(async move {
        let limit = placement.route().route.request_timeout.map_or(MAX_TIME, |limit| limit.duration().min(MAX_TIME));
        let outcome = timeout(limit, exchange(&shadow.0, &placement, (&method, &uri, &headers), body.flatten())).await;
        placement.count(&shadow.0.view, outcome.unwrap_or(Outcome::Timeout));
    });
}

/// The host with `-shadow` behind its name, as Envoy says it, so that services can tell.
fn shadow_host(host: &HeaderValue) -> Option<HeaderValue> {
    let host = host.to_str().ok()?;
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, Some(port)),
        _ => (host, None),
    };
    HeaderValue::from_str(&port.map_or_else(|| format!("{name}-shadow"), |port| format!("{name}-shadow:{port}"))).ok()
}

/// One try on one endpoint.
async fn exchange(
    worker: &Worker,
    placement: &Placement,
    (method, uri, headers): (&Method, &Uri, &HeaderMap),
    body: Option<RequestBody>,
) -> Outcome {
    let (set, started) = (placement.set(), Monotonic::now());
    let (Some(spoken), Some(endpoint)) = (set.spoken, placement.local.turn(worker, placement.set_index(), 0)) else {
        return Outcome::Reset;
    };
    let mut held = Held::at(worker, placement, endpoint, started);
    let pool = placement.local.pool(worker, set, endpoint);
    // What is sent twice, or not at all, harms nobody; a kept connection that turns out to be closed costs one copy.
    let mut upstream = match pool.take(spoken, body.is_none() && method.is_idempotent(), started) {
        Some(upstream) => upstream,
        None => match pool.connect(spoken).await {
            Ok(upstream) => upstream,
            Err(_) => return Outcome::Reset,
        },
    };
    upstream.begin(method, uri, headers, body);
    if poll_fn(|cx| upstream.poll_head(cx)).await.is_err() {
        return Outcome::Reset;
    }
    let latency_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let failed = upstream.status().is_server_error() || is_grpc_failure(upstream.headers());
    if let Some(held) = &mut held {
        held.answered(failed);
    }
    drop(upstream.take_response(HeaderMap::new()));
    let rest = discard(Lease { upstream, pool: Rc::clone(pool), held }).await;
    if failed { Outcome::Status5xx } else { rest.err().unwrap_or(Outcome::Good { latency_us }) }
}

/// Reads an answer to its end, if that is near. An error is how it ended badly: broken off, or failed by its trailers.
async fn discard(mut lease: Lease) -> Result<(), Outcome> {
    let (mut read, mut failed) = (0, false);
    while !lease.upstream.is_answered() {
        match poll_fn(|cx| lease.upstream.poll_frame(cx)).await {
            Some(Ok(frame)) => {
                read += frame.data_ref().map_or(0, bytes::Bytes::len);
                failed |= frame.trailers_ref().is_some_and(is_grpc_failure);
            }
            Some(Err(_)) => return Err(Outcome::Reset),
            None => break,
        }
        if read > MAX_READ {
            return Ok(());
        }
    }
    lease.give_back(Monotonic::now());
    if failed { Err(Outcome::Status5xx) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_say_that_they_are_shadows() {
        for (host, shadow) in
            [("shop.local", "shop.local-shadow"), ("shop.local:80", "shop.local-shadow:80"), ("a:b", "a:b-shadow")]
        {
            let told = shadow_host(&HeaderValue::from_static(host)).expect("text");
            assert_eq!(told, shadow);
        }
    }
}
