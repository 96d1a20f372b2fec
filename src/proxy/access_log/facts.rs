//! What is known of a request or a carried connection when it is over: what a line of a log is made of. Pure.

use crate::base::time::Timestamp;
use http::{HeaderMap, HeaderName, Method, Uri};
use std::net::SocketAddr;
use std::time::Duration;

/// Why a request did not go as it should (Envoy 1.40, page "Access logging", `%RESPONSE_FLAGS%`), as one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u16);

impl Flags {
    /// No healthy endpoint.
    pub const NO_ENDPOINT: Self = Self(1);
    /// The upstream did not answer in time.
    pub const TIMEOUT: Self = Self(1 << 1);
    /// The upstream reset the stream.
    pub const REMOTE_RESET: Self = Self(1 << 2);
    /// No connection to the upstream.
    pub const NO_CONNECTION: Self = Self(1 << 3);
    /// The upstream ended the connection.
    pub const UPSTREAM_ENDED: Self = Self(1 << 4);
    /// Too much was on the way to the upstream.
    pub const OVERFLOW: Self = Self(1 << 5);
    /// No route.
    pub const NO_ROUTE: Self = Self(1 << 6);
    /// The client ended the connection.
    pub const CLIENT_ENDED: Self = Self(1 << 7);
    /// As many retries as the policy allows.
    pub const RETRIES_SPENT: Self = Self(1 << 8);
    /// Nothing came for too long.
    pub const IDLE: Self = Self(1 << 9);
    /// Answered so on purpose.
    pub const INJECTED: Self = Self(1 << 10);
    /// The route's limit was reached.
    pub const LIMITED: Self = Self(1 << 11);

    /// Letters and words. Envoy writes them in the order in which they were found out, and that no more is tried comes first.
    const WORDS: [(Self, &'static str, &'static str); 12] = [
        (Self::RETRIES_SPENT, "URX", "UpstreamRetryLimitExceeded"),
        (Self::NO_ENDPOINT, "UH", "NoHealthyUpstream"),
        (Self::TIMEOUT, "UT", "UpstreamRequestTimeout"),
        (Self::REMOTE_RESET, "UR", "UpstreamRemoteReset"),
        (Self::NO_CONNECTION, "UF", "UpstreamConnectionFailure"),
        (Self::UPSTREAM_ENDED, "UC", "UpstreamConnectionTermination"),
        (Self::OVERFLOW, "UO", "UpstreamOverflow"),
        (Self::NO_ROUTE, "NR", "NoRouteFound"),
        (Self::CLIENT_ENDED, "DC", "DownstreamConnectionTermination"),
        (Self::IDLE, "SI", "StreamIdleTimeout"),
        (Self::INJECTED, "FI", "FaultInjected"),
        (Self::LIMITED, "RL", "RateLimited"),
    ];

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are set, by letters or by words.
    pub fn words(self, long: bool) -> impl Iterator<Item = &'static str> {
        let set = Self::WORDS.into_iter().filter(move |(flag, ..)| self.0 & flag.0 != 0);
        set.map(move |(_, letters, words)| if long { words } else { letters })
    }
}

/// A field of a message's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldName {
    /// `:method`.
    Method,
    /// `:path`, with its query.
    Path,
    /// `:authority`, or Host.
    Authority,
    /// `:scheme`: as the client says that it was asked for.
    Scheme,
    /// Any other.
    Header(HeaderName),
}

/// Where a field stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the request's head, as it went on to the endpoint.
    Request,
    /// In the answer's head, as it went on to the client.
    Response,
    /// In the answer's trailers.
    Trailers,
}

/// A field that a format names, and the one that stands in for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where it stands.
    pub place: Place,
    /// The field, and the one that is taken where it is not there.
    pub names: Vec<FieldName>,
}

/// Values of the fields that a format wants, one after the other in one piece of memory.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    text: Vec<u8>,
    spans: Vec<Option<(u32, u32)>>,
}

impl Fields {
    /// Room for so many values, none there yet.
    #[must_use]
    pub fn with_room(count: usize) -> Self {
        Self { text: Vec::with_capacity(count * 32), spans: vec![None; count] }
    }

    /// The value at an index, if there is one.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let (from, to) = (*self.spans.get(index)?)?;
        self.text.get(from as usize..to as usize)
    }

    fn set(&mut self, index: usize, value: &[u8]) {
        let from = self.text.len();
        self.text.extend_from_slice(value);
        // Heads are 64 KiB at most, and a format names each of their fields a few times.
        if let (Some(span), Ok(from), Ok(to)) =
            (self.spans.get_mut(index), u32::try_from(from), u32::try_from(self.text.len()))
        {
            *span = Some((from, to));
        }
    }

    /// Takes what is wanted of a request.
    pub fn take_request(&mut self, wanted: &[Wanted], method: &Method, uri: &Uri, headers: &HeaderMap) {
        for (index, wanted) in of(wanted, Place::Request) {
            for name in &wanted.names {
                let value = match name {
                    FieldName::Method => Some(method.as_str().as_bytes()),
                    FieldName::Path => uri.path_and_query().map(|path| path.as_str().as_bytes()),
                    FieldName::Authority => authority(uri, headers),
                    FieldName::Scheme => {
                        let said = headers.get("x-forwarded-proto").map(http::HeaderValue::as_bytes);
                        said.or_else(|| uri.scheme_str().map(str::as_bytes)).or(Some(b"http"))
                    }
                    FieldName::Header(name) => headers.get(name).map(http::HeaderValue::as_bytes),
                };
                if let Some(value) = value {
                    self.set(index, value);
                    break;
                }
            }
        }
    }

    /// Takes what is wanted of an answer's head or trailers.
    pub fn take_answer(&mut self, wanted: &[Wanted], place: Place, headers: &HeaderMap) {
        for (index, wanted) in of(wanted, place) {
            let named = wanted.names.iter().filter_map(|name| match name {
                FieldName::Header(name) => headers.get(name),
                _ => None,
            });
            if let Some(value) = named.into_iter().next() {
                self.set(index, value.as_bytes());
            }
        }
    }
}

fn of(wanted: &[Wanted], place: Place) -> impl Iterator<Item = (usize, &Wanted)> {
    wanted.iter().enumerate().filter(move |(_, wanted)| wanted.place == place)
}

fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    let named = uri.authority().map(|authority| authority.as_str().as_bytes());
    named.or_else(|| headers.get(http::header::HOST).map(http::HeaderValue::as_bytes))
}

/// What is known. Times are since the beginning, sizes those of bodies.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// When it began, by the wall clock.
    pub started: Timestamp,
    /// Whether it is a carried connection and no request.
    pub is_connection: bool,
    /// What the client speaks, such as `HTTP/1.1`.
    pub protocol: Option<&'static str>,
    /// Status of the answer; 0 where there is none.
    pub status: u16,
    /// Status of gRPC, in a call of gRPC.
    pub grpc_status: Option<u16>,
    /// Why it went wrong.
    pub flags: Flags,
    /// The same in Envoy's words.
    pub details: Option<&'static str>,
    /// Bytes from the client.
    pub bytes_received: u64,
    /// Bytes to the client.
    pub bytes_sent: u64,
    /// All of it.
    pub duration: Duration,
    /// To the last byte from the client.
    pub received: Option<Duration>,
    /// To the head of the endpoint's answer.
    pub answered: Option<Duration>,
    /// The endpoint.
    pub upstream: Option<SocketAddr>,
    /// Tries.
    pub attempts: u32,
    /// Name of the cluster.
    pub cluster: Option<String>,
    /// Name of the route.
    pub route: Option<String>,
    /// The client's address.
    pub client: Option<SocketAddr>,
    /// The address that it connected to.
    pub local: Option<SocketAddr>,
    /// Trace and span, as hexadecimal digits.
    pub trace: Option<(String, String)>,
    /// Fields of the heads.
    pub fields: Fields,
}
