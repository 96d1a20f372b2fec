//! What is done with a request's head before anything is sent: its path gets its one spelling, its route is found, its target
//! drawn, and its fields are made those of the next hop's request.

use super::body::ResponseBody;
use super::config::{Compiled, CompiledService};
use super::connection::For;
use super::counters::Totals;
use super::extension;
use super::headers::{Upgrade, join_cookies, say_upgrade, strip_hop_by_hop, upgrade};
use super::path;
use super::reply::{LIMITED, own};
use super::route::{RequestView, host_and_port};
use super::worker::{Placement, Worker};
use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, Version, request};
use http_body::Body;
use hyper::body::Incoming;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What a client says of its certificate: nobody here vouches for it (Envoy's `SANITIZE`, as under App Mesh).
const CLIENT_CERTIFICATE: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// Says that a bound of requests was reached, as Envoy does.
const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

/// Why a request was refused before any draw.
pub(super) struct Refusal {
    status: StatusCode,
    reason: String,
}

impl Refusal {
    pub(super) const fn new(status: StatusCode, reason: String) -> Self {
        Self { status, reason }
    }

    /// What is answered.
    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer, counted.
    pub(super) fn answer(&self, worker: &Worker, request: &HeaderMap) -> Response<ResponseBody> {
        let reason = HeaderValue::from_str(&self.reason).unwrap_or(HeaderValue::from_static("no match"));
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            Totals::count(&worker.view.totals.limited);
            let mut answer = own(request, self.status, LIMITED, reason);
            answer.headers_mut().insert(RATE_LIMITED, HeaderValue::from_static("true"));
            return answer;
        }
        Totals::count(&worker.view.totals.unrouted);
        own(request, self.status, "", reason)
    }
}

fn bad(reason: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, reason)
}

/// Gives the request's path its one spelling, by which it is matched and which the service sees.
pub(super) fn spell_path(head: &mut request::Parts) -> Result<(), Refusal> {
    match path::normal(head.uri.path()).map_err(|error| bad(error.to_string()))? {
        Cow::Borrowed(_) => Ok(()),
        Cow::Owned(path) => set_path(head, &path),
    }
}

/// Puts another path in the place of the request's; its query stays.
pub(super) fn set_path(head: &mut request::Parts, path: &str) -> Result<(), Refusal> {
    let target = head.uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    // What is spelled anew holds nothing but what a target may; what a mesh says may hold more.
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(|error| bad(error.to_string()))?);
    head.uri = Uri::from_parts(parts).map_err(|error| bad(error.to_string()))?;
    Ok(())
}

/// Finds the route and draws the target. `whom` is who the connection is for. A gateway's request becomes one of the service
/// that it is for.
pub(super) fn place(
    worker: &Rc<Worker>,
    (whom, is_secure): (For, bool),
    head: &mut request::Parts,
) -> Result<Placement, Refusal> {
    // Both as Envoy answers what App Mesh did not allow.
    if head.method == Method::CONNECT {
        return refuse(StatusCode::FORBIDDEN, "CONNECT is not allowed".into());
    }
    if upgrade(&head.headers) == Upgrade::Other {
        return refuse(StatusCode::FORBIDDEN, "no upgrade but that to a WebSocket is allowed".into());
    }
    let local = worker.local();
    let entered = match whom {
        For::Gateway { port } => Some(local.compiled.enter(port, is_secure, head)?),
        For::Services { .. } | For::Application { .. } => None,
    };
    let authority = authority(head)?;
    let (host, said) = host_and_port(authority);
    let (name, scheme) = match &entered {
        Some(entered) => (&*entered.entrance.service, entered.scheme.as_ref().map(Scheme::as_str)),
        None => (&*host, head.uri.scheme_str().filter(|_| head.version == Version::HTTP_2)),
    };
    let way = match &entered {
        Some(entered) => local.compiled.service(name).map(|service| Way::Service(service, entered.entrance.port)),
        None => way(worker, &local.compiled, whom, name, said)?,
    };
    let (service, port) = match way {
        Some(Way::Service(service, port)) => (service, port),
        Some(Way::Out(address)) => return placed(Placement::out(worker, address), name),
        None => return refuse(StatusCode::NOT_FOUND, unknown(&local.compiled, name)),
    };
    let (method, path, query) = (head.method.as_str(), head.uri.path(), head.uri.query());
    let request = RequestView { method, path, query, authority, scheme, headers: &head.headers, port };
    let Some(route) = local.compiled.first_match(service, &request) else {
        return refuse(StatusCode::NOT_FOUND, format!("no route of {name} matches this request"));
    };
    let placement = match &local.compiled.routes[route].route.extensions {
        None => Placement::drawn(worker, Rc::clone(&local), route),
        Some(extensions) => {
            if !extension::has_token(worker, &local.compiled.routes[route], extensions) {
                return refuse(StatusCode::TOO_MANY_REQUESTS, format!("the limit of the route of {name} is reached"));
            }
            extension::place(worker, &local, (route, extensions), &request)
        }
    };
    placed(placement, name)
}

/// Where a request goes.
enum Way<'c> {
    /// To a service, on this port of it.
    Service(&'c CompiledService, Option<u16>),
    /// To where its connection was sent.
    Out(SocketAddr),
}

/// Where a request of an application or for it goes; `None` where nobody has that name.
fn way<'c>(
    worker: &Worker,
    compiled: &'c Compiled,
    whom: For,
    name: &str,
    said: Option<u16>,
) -> Result<Option<Way<'c>>, Refusal> {
    Ok(match whom {
        // What is for the application says whatever it likes.
        For::Application { port } => compiled.application(port).map(|service| Way::Service(service, None)),
        For::Services { sent_to: Some(address) } => {
            let service = compiled.redirected(name, address.port(), said);
            let out = || compiled.lets_all_out().then_some(Way::Out(address));
            service.map(|(service, port)| Way::Service(service, port)).or_else(out)
        }
        For::Services { sent_to: None } | For::Gateway { .. } => {
            let Some(service) = compiled.service(name) else { return Ok(None) };
            match service.port(said, worker.shared.port) {
                Ok(port) => Some(Way::Service(service, port)),
                Err(port) => {
                    return refuse(StatusCode::NOT_FOUND, format!("{name} does not listen on port {port}"));
                }
            }
        }
    })
}

/// Why nobody is called.
fn unknown(compiled: &Compiled, name: &str) -> String {
    match &compiled.config.own {
        // The mesh may well have it.
        Some(own) => {
            format!("{name} is no backend of {}: add it to `backends` of the virtual node", own.name)
        }
        None => format!("no virtual service is called {name}"),
    }
}

fn placed(placement: Option<Placement>, name: &str) -> Result<Placement, Refusal> {
    placement.map_or_else(
        || refuse(StatusCode::SERVICE_UNAVAILABLE, format!("every weight of the route of {name} is 0")),
        Ok,
    )
}

fn refuse<T>(status: StatusCode, reason: String) -> Result<T, Refusal> {
    Err(Refusal::new(status, reason))
}

/// The host that the request names: in an absolute request target, else in the one Host header.
pub(super) fn authority(head: &request::Parts) -> Result<&str, Refusal> {
    let refuse = |reason: &str| Err(Refusal { status: StatusCode::BAD_REQUEST, reason: reason.into() });
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return refuse("more than one Host header");
    }
    if let Some(authority) = head.uri.authority() {
        return Ok(without_user(authority.as_str()));
    }
    match host.map(HeaderValue::to_str) {
        Some(Ok(host)) => Ok(host),
        Some(Err(_)) => refuse("the Host header is not plain text"),
        None if head.version == Version::HTTP_11 => refuse("no Host header"),
        None => Ok(""),
    }
}

fn without_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Makes the client's request one for the next hop. `is_secure` says whether it came over TLS.
pub(super) fn prepare(
    worker: &Worker,
    placement: &Placement,
    is_secure: bool,
    head: &mut request::Parts,
    body: &Incoming,
) {
    if let Some(authority) = head.uri.authority() {
        // RFC 9112 section 3.2.2: the request target wins over the Host header.
        if let Ok(host) = HeaderValue::from_str(without_user(authority.as_str())) {
            head.headers.insert(HOST, host);
        }
        let path = head.uri.path_and_query().cloned();
        head.uri = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    }
    let is_upgrade = head.version == Version::HTTP_11 && upgrade(&head.headers) == Upgrade::WebSocket;
    strip_hop_by_hop(&mut head.headers);
    if is_upgrade {
        say_upgrade(&mut head.headers);
    }
    if head.version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    }
    // Answered here: the server side sends 100 once the body is asked for.
    head.headers.remove(EXPECT);
    tell(worker, placement, is_secure, &mut head.headers);
    // How the body is framed is for these fields to say; nothing is added to them later.
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        head.headers.remove(CONTENT_LENGTH);
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Tells the service what Envoys under App Mesh told it: a number for the request that all its hops share, the scheme that it
/// was asked for by, and how long its answer is waited for.
fn tell(worker: &Worker, placement: &Placement, is_secure: bool, headers: &mut HeaderMap) {
    number(worker, headers);
    say_scheme(headers, is_secure);
    headers.remove(CLIENT_CERTIFICATE);
    match placement.route().route.request_timeout {
        Some(timeout) => headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(timeout.0)),
        None => headers.remove(EXPECTED_TIMEOUT),
    };
}

/// Says by which scheme a request came, where nobody before has.
pub(super) fn say_scheme(headers: &mut HeaderMap, is_secure: bool) {
    let scheme = if is_secure { "https" } else { "http" };
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static(scheme));
}

/// Numbers a request that has no number yet.
pub(super) fn number(worker: &Worker, headers: &mut HeaderMap) {
    if !headers.contains_key(REQUEST_ID)
        && let Ok(id) = HeaderValue::from_bytes(&request_id([worker.draw(), worker.draw()]))
    {
        headers.insert(REQUEST_ID, id);
    }
}

/// A random UUID (version 4) as text.
fn request_id([high, low]: [u64; 2]) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0b11 << 62) | 0b10 << 62;
    let bytes = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
    let mut text = [b'-'; 36];
    let mut at = 0;
    for byte in bytes {
        if matches!(at, 8 | 13 | 18 | 23) {
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_numbered_by_random_uuids() {
        for (draws, text) in [
            ([0, 0], "00000000-0000-4000-8000-000000000000"),
            ([u64::MAX, u64::MAX], "ffffffff-ffff-4fff-bfff-ffffffffffff"),
            ([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210], "01234567-89ab-4def-bedc-ba9876543210"),
        ] {
            assert_eq!(request_id(draws), *text.as_bytes());
        }
    }
}
