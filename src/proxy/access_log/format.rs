//! What a line of an access log holds, in Envoy's formats. Pure.
//!
//! A format is compiled once for each configuration. A command that Envoy knows and this proxy has nothing for is written as
//! Envoy writes what is not there: `-` in a text, `null` in an object.

use super::facts::{Facts, FieldName, Place, Wanted};
use super::stamp::{Instants, Stamp};
use crate::mesh::snapshot::{FormatPiece, LogFormat, format_pieces};
use http::HeaderName;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Envoy's own format, which App Mesh uses where a mesh names none.
const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
    \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// A compiled format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    line: Line,
    /// Fields of heads that it names; [`What::Field`] points into them.
    wanted: Vec<Wanted>,
    /// Whether it names the route or the cluster.
    wants_place: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Text(Vec<Part>),
    /// Members with their keys as they are written.
    Json(Vec<(String, Vec<Part>)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    what: What,
    /// Most bytes of it that are written.
    length: usize,
}

/// Which part of an address is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Whole,
    Ip,
    Port,
}

/// How a status of gRPC is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Camel,
    Snake,
    Number,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Text(String),
    Field(usize),
    /// The path of a field, without its query.
    PathOnly(usize),
    /// A parameter of the query of a field.
    Query(usize, String),
    Start(Option<Stamp>),
    Emit(Option<Stamp>),
    Received,
    Sent,
    Protocol,
    Status,
    Details,
    Flags(bool),
    Duration,
    RequestDuration,
    ResponseDuration,
    SendDuration,
    Upstream(Side),
    Client(Side),
    Local(Side),
    Cluster,
    Route,
    Attempts,
    Kind,
    Grpc(Spelling),
    Trace,
    Span,
    /// Envoy knows it, and here is nothing for it.
    Nothing,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Text,
    Number,
    Nothing,
}

impl Format {
    /// Compiles a format. `hostname` is this machine's name.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn read(format: &LogFormat, hostname: &str) -> Result<Self, String> {
        let mut reading = Reading { wanted: Vec::new(), hostname };
        let line = match format {
            LogFormat::Default => Line::Text(reading.parts(DEFAULT)?),
            LogFormat::Text(text) => Line::Text(reading.parts(text)?),
            LogFormat::Json(members) => {
                let mut read = Vec::with_capacity(members.len());
                for (key, text) in members {
                    let mut quoted = Vec::new();
                    write_json(key.as_bytes(), &mut quoted);
                    read.push((String::from_utf8_lossy(&quoted).into_owned(), reading.parts(text)?));
                }
                Line::Json(read)
            }
        };
        let names_place = |parts: &[Part]| parts.iter().any(|part| matches!(part.what, What::Route | What::Cluster));
        let wants_place = match &line {
            Line::Text(parts) => names_place(parts),
            Line::Json(members) => members.iter().any(|(_, parts)| names_place(parts)),
        };
        Ok(Self { line, wanted: reading.wanted, wants_place })
    }

    /// Fields of heads that it names, in the order of [`Facts::fields`].
    #[must_use]
    pub fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// Whether it names the route or the cluster.
    #[must_use]
    pub const fn wants_place(&self) -> bool {
        self.wants_place
    }

    /// Writes a line.
    pub fn write(&self, facts: &Facts, instants: &mut Instants, out: &mut Vec<u8>) {
        match &self.line {
            Line::Text(parts) => parts.iter().for_each(|part| write_or_dash(part, facts, instants, out)),
            Line::Json(members) => {
                for (number, (key, parts)) in members.iter().enumerate() {
                    out.push(if number == 0 { b'{' } else { b',' });
                    out.extend_from_slice(key.as_bytes());
                    out.push(b':');
                    write_member(parts, facts, instants, out);
                }
                out.extend_from_slice(if members.is_empty() { b"{}\n" } else { b"}\n" });
            }
        }
    }
}

/// A member of an object: numbers stay numbers where one command is all of it.
fn write_member(parts: &[Part], facts: &Facts, instants: &mut Instants, out: &mut Vec<u8>) {
    let mut value = Vec::new();
    if let [part] = parts {
        match write(part, facts, instants, &mut value) {
            // Cut off to nothing, it would be no JSON.
            Written::Number if value.is_empty() => out.extend_from_slice(b"null"),
            Written::Number => out.extend_from_slice(&value),
            Written::Nothing => out.extend_from_slice(b"null"),
            Written::Text => write_json(&value, out),
        }
        return;
    }
    parts.iter().for_each(|part| write_or_dash(part, facts, instants, &mut value));
    write_json(&value, out);
}

fn write_or_dash(part: &Part, facts: &Facts, instants: &mut Instants, out: &mut Vec<u8>) {
    if write(part, facts, instants, out) == Written::Nothing {
        out.push(b'-');
    }
}

fn write(part: &Part, facts: &Facts, instants: &mut Instants, out: &mut Vec<u8>) -> Written {
    let before = out.len();
    let written = write_whole(&part.what, facts, instants, out);
    out.truncate(before.saturating_add(part.length));
    written
}

fn write_whole(what: &What, facts: &Facts, instants: &mut Instants, out: &mut Vec<u8>) -> Written {
    match what {
        What::Text(text) => bytes(Some(text.as_bytes()), out),
        What::Field(index) => bytes(facts.fields.get(*index), out),
        What::PathOnly(index) => bytes(facts.fields.get(*index).map(|path| split_query(path).0), out),
        What::Query(index, name) => bytes(facts.fields.get(*index).and_then(|path| parameter(path, name)), out),
        What::Start(None) => instant(facts, instants, std::time::Duration::ZERO, out),
        What::Emit(None) => instant(facts, instants, facts.duration, out),
        What::Start(Some(stamp)) => {
            stamp.write(facts.started, out);
            Written::Text
        }
        What::Emit(Some(stamp)) => {
            stamp.write(emitted(facts, facts.duration), out);
            Written::Text
        }
        What::Received => number(facts.bytes_received, out),
        What::Sent => number(facts.bytes_sent, out),
        What::Status => number(facts.status.into(), out),
        What::Attempts => number(facts.attempts.into(), out),
        What::Duration => milliseconds(Some(facts.duration), out),
        What::RequestDuration => milliseconds(facts.received, out),
        What::ResponseDuration => milliseconds(facts.answered, out),
        What::SendDuration => milliseconds(facts.answered.map(|answered| facts.duration.saturating_sub(answered)), out),
        What::Protocol => bytes(facts.protocol.map(str::as_bytes), out),
        What::Details => bytes(facts.details.map(str::as_bytes), out),
        What::Cluster => bytes(facts.cluster.as_deref().map(str::as_bytes), out),
        What::Route => bytes(facts.route.as_deref().map(str::as_bytes), out),
        What::Kind => bytes(Some(if facts.is_connection { b"TcpConnectionEnd" } else { b"DownstreamEnd" }), out),
        What::Trace => bytes(facts.trace.as_ref().map(|(trace, _)| trace.as_bytes()), out),
        What::Span => bytes(facts.trace.as_ref().map(|(_, span)| span.as_bytes()), out),
        What::Flags(long) => flags(facts, *long, out),
        What::Upstream(side) => address(facts.upstream, *side, out),
        What::Client(side) => address(facts.client, *side, out),
        What::Local(side) => address(facts.local, *side, out),
        What::Grpc(spelling) => grpc_status(facts.grpc_status, *spelling, out),
        What::Nothing => Written::Nothing,
    }
}

fn bytes(value: Option<&[u8]>, out: &mut Vec<u8>) -> Written {
    let Some(value) = value else { return Written::Nothing };
    out.extend_from_slice(value);
    Written::Text
}

fn number(value: u64, out: &mut Vec<u8>) -> Written {
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), value);
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    Written::Number
}

fn milliseconds(span: Option<std::time::Duration>, out: &mut Vec<u8>) -> Written {
    span.map_or(Written::Nothing, |span| number(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), out))
}

fn emitted(facts: &Facts, after: std::time::Duration) -> crate::base::time::Timestamp {
    let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    facts.started.plus(crate::base::time::Millis(ms))
}

fn instant(facts: &Facts, instants: &mut Instants, after: std::time::Duration, out: &mut Vec<u8>) -> Written {
    instants.write(emitted(facts, after), out);
    Written::Text
}

fn flags(facts: &Facts, long: bool, out: &mut Vec<u8>) -> Written {
    // Also in an object: that nothing went wrong is known, and not absent.
    if facts.flags.is_empty() {
        out.push(b'-');
    }
    for (number, word) in facts.flags.words(long).enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(word.as_bytes());
    }
    Written::Text
}

fn address(address: Option<SocketAddr>, side: Side, out: &mut Vec<u8>) -> Written {
    let Some(address) = address else { return Written::Nothing };
    // Writing to memory cannot fail.
    let _ = match (side, address.ip().to_canonical()) {
        (Side::Port, _) => return number(address.port().into(), out),
        (Side::Whole, IpAddr::V4(ip)) => write!(out, "{ip}:{}", address.port()),
        (Side::Whole, IpAddr::V6(ip)) => write!(out, "[{ip}]:{}", address.port()),
        (Side::Ip, ip) => write!(out, "{ip}"),
    };
    Written::Text
}

/// Names of gRPC's statuses (grpc/grpc, doc/statuscodes.md), as Envoy spells them.
const GRPC: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

fn grpc_status(status: Option<u16>, spelling: Spelling, out: &mut Vec<u8>) -> Written {
    let Some(status) = status else { return Written::Nothing };
    let Some(name) = GRPC.get(usize::from(status)).filter(|_| spelling != Spelling::Number) else {
        return number(status.into(), out);
    };
    if spelling == Spelling::Camel || *name == "OK" {
        return bytes(Some(name.as_bytes()), out);
    }
    for (at, byte) in name.bytes().enumerate() {
        if at > 0 && byte.is_ascii_uppercase() {
            out.push(b'_');
        }
        out.push(byte.to_ascii_uppercase());
    }
    Written::Text
}

fn split_query(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().position(|byte| *byte == b'?') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, b""),
    }
}

fn parameter<'a>(path: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let pairs = split_query(path).1.split(|byte| *byte == b'&');
    pairs.into_iter().find_map(|pair| match pair.strip_prefix(name.as_bytes())? {
        b"" => Some(&b""[..]),
        rest => rest.strip_prefix(b"="),
    })
}

/// A text as a string of JSON (RFC 8259 section 7); bytes that are no UTF-8 become U+FFFD.
fn write_json(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for character in String::from_utf8_lossy(value).chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            // Writing to memory cannot fail.
            control if control < ' ' || control == '\u{7f}' => drop(write!(out, "\\u{:04x}", u32::from(control))),
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// A format while it is read.
struct Reading<'a> {
    wanted: Vec<Wanted>,
    hostname: &'a str,
}

impl Reading<'_> {
    fn parts(&mut self, text: &str) -> Result<Vec<Part>, String> {
        let pieces = format_pieces(text)?;
        Ok(pieces.into_iter().map(|piece| self.part(piece)).collect())
    }

    fn part(&mut self, piece: FormatPiece<'_>) -> Part {
        match piece {
            FormatPiece::Text(text) => Part { what: What::Text(text.to_owned()), length: usize::MAX },
            FormatPiece::Command { name, arguments, length } => {
                Part { what: self.what(name, arguments.unwrap_or_default()), length: length.unwrap_or(usize::MAX) }
            }
        }
    }

    fn what(&mut self, name: &str, arguments: &str) -> What {
        let stamp = || (!arguments.is_empty()).then(|| Stamp::read(arguments));
        match name {
            "REQ" => self.field(Place::Request, arguments),
            "RESP" => self.field(Place::Response, arguments),
            "TRAILER" => self.field(Place::Trailers, arguments),
            "STREAM_ID" => self.field(Place::Request, "x-request-id"),
            "PATH" if arguments.starts_with("NQ") => What::PathOnly(self.index(Place::Request, ":path")),
            "PATH" => What::Field(self.index(Place::Request, ":path")),
            "QUERY_PARAM" => What::Query(self.index(Place::Request, ":path"), arguments.to_owned()),
            "START_TIME" | "START_TIME_LOCAL" => What::Start(stamp()),
            "EMIT_TIME" | "EMIT_TIME_LOCAL" => What::Emit(stamp()),
            "HOSTNAME" => What::Text(self.hostname.to_owned()),
            "GRPC_STATUS" if arguments == "SNAKE_STRING" => What::Grpc(Spelling::Snake),
            "GRPC_STATUS" if arguments == "NUMBER" => What::Grpc(Spelling::Number),
            _ => plain(name),
        }
    }

    fn field(&mut self, place: Place, arguments: &str) -> What {
        What::Field(self.index(place, arguments))
    }

    /// Index of a field, which is added to those that are wanted.
    fn index(&mut self, place: Place, arguments: &str) -> usize {
        let names = arguments.split('?').filter_map(|name| match name.to_ascii_lowercase().as_str() {
            ":method" => Some(FieldName::Method),
            ":path" => Some(FieldName::Path),
            ":authority" | "host" => Some(FieldName::Authority),
            ":scheme" => Some(FieldName::Scheme),
            name => HeaderName::from_bytes(name.as_bytes()).ok().map(FieldName::Header),
        });
        let wanted = Wanted { place, names: names.collect() };
        self.wanted.iter().position(|known| *known == wanted).unwrap_or_else(|| {
            self.wanted.push(wanted);
            self.wanted.len() - 1
        })
    }
}

/// Commands without arguments.
fn plain(name: &str) -> What {
    match name {
        "BYTES_RECEIVED" => What::Received,
        "BYTES_SENT" => What::Sent,
        "PROTOCOL" => What::Protocol,
        "RESPONSE_CODE" => What::Status,
        "RESPONSE_CODE_DETAILS" => What::Details,
        "RESPONSE_FLAGS" => What::Flags(false),
        "RESPONSE_FLAGS_LONG" => What::Flags(true),
        "DURATION" => What::Duration,
        "REQUEST_DURATION" => What::RequestDuration,
        "RESPONSE_DURATION" => What::ResponseDuration,
        "RESPONSE_TX_DURATION" => What::SendDuration,
        "UPSTREAM_HOST" | "UPSTREAM_HOST_NAME" | "UPSTREAM_REMOTE_ADDRESS" => What::Upstream(Side::Whole),
        "UPSTREAM_HOST_NAME_WITHOUT_PORT" | "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => What::Upstream(Side::Ip),
        "UPSTREAM_REMOTE_PORT" => What::Upstream(Side::Port),
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => What::Cluster,
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => What::Attempts,
        "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => What::Client(Side::Whole),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
            What::Client(Side::Ip)
        }
        "DOWNSTREAM_REMOTE_PORT" | "DOWNSTREAM_DIRECT_REMOTE_PORT" => What::Client(Side::Port),
        "DOWNSTREAM_LOCAL_ADDRESS" => What::Local(Side::Whole),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => What::Local(Side::Ip),
        "DOWNSTREAM_LOCAL_PORT" => What::Local(Side::Port),
        "ROUTE_NAME" => What::Route,
        "ACCESS_LOG_TYPE" => What::Kind,
        "GRPC_STATUS" => What::Grpc(Spelling::Camel),
        "GRPC_STATUS_NUMBER" => What::Grpc(Spelling::Number),
        "TRACE_ID" => What::Trace,
        "SPAN_ID" => What::Span,
        _ => What::Nothing,
    }
}

#[cfg(test)]
mod tests;
