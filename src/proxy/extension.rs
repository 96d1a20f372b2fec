//! What a route does beyond App Mesh, to a request that it was found for. Requests of routes without extensions never come
//! here.

use super::config::CompiledRoute;
use super::counters::{Outcome, Totals};
use super::route::{RequestView, header_fits};
use super::session::{self, Sessions};
use super::split::{pick, pick_for};
use super::worker::{Local, Placement, Worker};
use crate::base::time::Millis;
use crate::mesh::snapshot::Extensions;
use crate::mesh::snapshot::extension::{Affinity, Fault, Mirror, Override};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::sleep;

/// What an answer in a service's place says, in Envoy's words.
pub(super) const ABORTED: &str = "fault filter abort";

/// What extensions have to do with one request.
#[derive(Debug, Clone, Default)]
pub(super) struct Extra {
    /// Whether it is kept from the judge.
    pub(super) is_unjudged: bool,
    /// The session that it belongs to.
    pub(super) session: Option<Session>,
    /// Target of the route that gets a copy.
    pub(super) mirror: Option<usize>,
    /// What the client is given to be known by.
    cookie: Option<HeaderValue>,
    /// It is held back for so long.
    delay: Option<Duration>,
    /// Then it is answered with this status, and nobody asked.
    abort: Option<StatusCode>,
}

/// A session of a route, as it is counted. Numbers and not names: nobody's identity is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Session {
    /// It with its target.
    with_target: u64,
    /// And with the weights that placed it, so that a new step need not wait for the next block.
    with_version: u64,
}

/// Whether a route with a bound takes one more request.
pub(super) fn has_token(worker: &Worker, route: &CompiledRoute, extensions: &Extensions) -> bool {
    let (Some(limit), Some(bucket)) = (&extensions.limit, &route.bucket) else { return true };
    let now_ns = u64::try_from(worker.shared.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    bucket.take(limit, now_ns)
}

/// Where a request goes, and what happens to it there; `None` where every weight is 0.
pub(super) fn place(
    worker: &Worker,
    local: &Rc<Local>,
    (index, extensions): (usize, &Extensions),
    request: &RequestView<'_>,
) -> Option<Placement> {
    let route = &local.compiled.routes[index];
    let mut extra = Extra::default();
    let forced = extensions.forced.as_ref().and_then(|forced| forced_target(forced, route, request.headers));
    let mut target = match (forced, &extensions.affinity) {
        (Some(target), _) => {
            Totals::count(&worker.view.totals.forced);
            extra.is_unjudged = true;
            target
        }
        (None, Some(affinity)) => extra.stay(affinity, route, worker, request.headers)?,
        (None, None) => pick(worker.draw(), &route.weights)?,
    };
    if let Some(fuse) = route.fuse.as_ref().filter(|_| forced.is_none()) {
        (target, extra.is_unjudged) = match extra.session {
            None => fuse.place((worker, local), route, target, worker.draw()),
            Some(_) => fuse.place_session(target, worker.draw()),
        };
    }
    let node = &route.targets[target].node;
    if let Some(fault) = &extensions.fault {
        extra.inject(fault, node, request, [worker.draw(), worker.draw()]);
    }
    if let Some(mirror) = extensions.mirror.as_ref().filter(|mirror| mirror.target != *node) {
        extra.mirror = mirrored(mirror, route, worker.draw());
    }
    let mut placement = Placement::at(Rc::clone(local), index, target);
    placement.extra = Some(Box::new(extra));
    Some(placement)
}

/// Index of the route's first target that is this node.
fn target_called(route: &CompiledRoute, node: &[u8]) -> Option<usize> {
    route.targets.iter().position(|target| target.node.as_bytes() == node)
}

/// The target that a request asks for.
fn forced_target(forced: &Override, route: &CompiledRoute, headers: &HeaderMap) -> Option<usize> {
    let by_header = forced.header.as_ref().and_then(|name| headers.get(name));
    let named = by_header.and_then(|value| target_called(route, value.as_bytes()));
    named.or_else(|| target_called(route, cookie(headers, forced.cookie.as_ref()?)?))
}

/// The target that gets a copy.
fn mirrored(mirror: &Mirror, route: &CompiledRoute, draw: u64) -> Option<usize> {
    mirror.share.takes(draw).then(|| target_called(route, mirror.target.as_bytes())).flatten()
}

/// Value of a cookie; the first one of this name that has one (RFC 6265 section 5.4).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut pairs = headers.get_all(COOKIE).iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        (!bare.is_empty()).then_some(bare)
    })
}

/// Number of a session by a header: by all its values in order, as Envoy hashes them.
fn by_header(headers: &HeaderMap, name: &str) -> Option<u64> {
    let mut values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    values.sort_unstable();
    (!values.is_empty()).then(|| values.iter().fold(0, |seed, value| session::number(value, seed)))
}

/// What gives a client a session of this number.
fn new_cookie(name: &str, ttl: Option<Millis>, path: &str, id: &str) -> Option<HeaderValue> {
    let mut text = format!("{name}={id}; Path={path}; HttpOnly");
    if let Some(ttl) = ttl {
        // Writing to a string cannot fail.
        let _ = write!(text, "; Max-Age={}", ttl.0.div_ceil(1000));
    }
    HeaderValue::from_str(&text).ok()
}

impl Extra {
    /// Of a request that is kept from the judge, and nothing else.
    pub(super) fn unjudged() -> Self {
        Self { is_unjudged: true, ..Self::default() }
    }

    /// Index of the target of the request's session, which begins here where it has none.
    fn stay(
        &mut self,
        affinity: &Affinity,
        route: &CompiledRoute,
        worker: &Worker,
        headers: &HeaderMap,
    ) -> Option<usize> {
        let number = match affinity {
            Affinity::Header(name) => by_header(headers, name),
            Affinity::Cookie { name, ttl, path } => Some(match cookie(headers, name) {
                Some(value) => session::number(value, 0),
                None => {
                    let id = format!("{:016x}", worker.draw());
                    self.cookie = new_cookie(name, *ttl, path, &id);
                    Totals::count(&worker.view.totals.sessions);
                    session::number(id.as_bytes(), 0)
                }
            }),
        };
        // Who says nothing is nobody's session.
        let Some(number) = number else { return pick(worker.draw(), &route.weights) };
        let target = pick_for(number, &route.weights)?;
        self.session = Some(Session::of(number, route, target));
        Some(target)
    }

    /// Decides what a fault does to a request that goes to `node`.
    fn inject(&mut self, fault: &Fault, node: &str, request: &RequestView<'_>, [first, second]: [u64; 2]) {
        let is_meant = fault.target.as_ref().is_none_or(|target| target == node)
            && fault.header.as_ref().is_none_or(|header| header_fits(header, request));
        if !is_meant {
            return;
        }
        self.delay = fault.delay.filter(|delay| delay.share.takes(first)).map(|delay| delay.time.duration());
        let abort = fault.abort.filter(|abort| abort.share.takes(second));
        self.abort = abort.and_then(|abort| StatusCode::from_u16(abort.status).ok());
        // A fault of one version is that version's; one of all says nothing about any.
        self.is_unjudged |= fault.target.is_none() && (self.delay.is_some() || self.abort.is_some());
    }

    /// Lets the request meet its fault, if it has one.
    ///
    /// # Errors
    /// The status that it is answered with.
    pub(super) async fn meet(&self, worker: &Worker) -> Result<(), StatusCode> {
        if self.delay.is_none() && self.abort.is_none() {
            return Ok(());
        }
        Totals::count(&worker.view.totals.faults);
        if let Some(delay) = self.delay {
            sleep(delay).await;
        }
        self.abort.map_or(Ok(()), Err)
    }

    /// Tells the client what it is to be known by.
    pub(super) fn tell(&self, answer: &mut HeaderMap) {
        if let Some(cookie) = &self.cookie {
            answer.append(SET_COOKIE, cookie.clone());
        }
    }
}

impl Session {
    fn of(number: u64, route: &CompiledRoute, target: usize) -> Self {
        let id = &route.route.id;
        let names = [&*id.mesh, &*id.router, &*id.route, &*route.targets[target].node];
        let with_target = names.iter().fold(number, |seed, name| session::number(name.as_bytes(), seed));
        // Not the same as without, whatever the version is.
        Self { with_target, with_version: session::mixed(with_target ^ !route.route.version) }
    }

    /// Whether an outcome is one that is judged.
    pub(super) fn counts(self, sessions: &Sessions, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Good { .. } => sessions.is_first_now(self.with_version),
            Outcome::Status5xx | Outcome::Reset | Outcome::Timeout => sessions.is_first_now(self.with_target),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::HeaderName;
    use proptest::prelude::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn cookies_are_found() {
        for (lines, value) in [
            (&[("cookie", "s=1")][..], Some("1")),
            (&[("cookie", "a=2; s=1;b=3")], Some("1")),
            (&[("cookie", "xs=2; s2=3; s=; s=\"4\"")], Some("4")),
            (&[("cookie", "a=1"), ("cookie", "s=a=b")], Some("a=b")),
            (&[("cookie", "S=1; s")], None),
            (&[("x", "s=1")], None),
        ] {
            assert_eq!(cookie(&headers(lines), "s"), value.map(str::as_bytes), "{lines:?}");
        }
    }

    #[test]
    fn a_session_by_a_header_does_not_depend_on_the_order_of_its_lines() {
        let number = |lines| by_header(&headers(lines), "x-user");
        assert_eq!(number(&[("x-user", "a"), ("x-user", "b")]), number(&[("x-user", "b"), ("x-user", "a")]));
        assert_eq!(number(&[("x-user", "a")]), Some(session::number(b"a", 0)));
        assert_ne!(number(&[("x-user", "a")]), number(&[("x-user", "b")]));
        assert_eq!(number(&[("x-other", "a")]), None);
    }

    #[test]
    fn clients_are_told_how_long_and_where() {
        assert_eq!(new_cookie("s", None, "/", "1f").expect("text"), "s=1f; Path=/; HttpOnly");
        let told = new_cookie("s", Some(Millis(1500)), "/shop", "1f").expect("text");
        assert_eq!(told, "s=1f; Path=/shop; HttpOnly; Max-Age=2");
    }

    proptest! {
        #[test]
        fn any_cookie_can_be_looked_at(value in "[ -~]{0,40}") {
            let mut sent = HeaderMap::new();
            sent.insert(COOKIE, HeaderValue::from_str(&value).expect("visible"));
            let found = cookie(&sent, "s");
            prop_assert!(found.is_none_or(|found| value.contains(&*String::from_utf8_lossy(found))));
        }
    }
}
