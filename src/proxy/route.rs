//! Which virtual service and which of its routes a request belongs to. Pure: values in, values out.
//!
//! A request is described by its host, method and path; the caller has already separated the query from the path.

use super::headers::is_grpc;
use crate::mesh::snapshot::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch};
use http::{HeaderMap, HeaderValue};
use std::borrow::Cow;

/// The name that chooses a virtual service, which is the host in lower case, and the port behind it. One that is no port is
/// 0, on which no service listens. Borrows when nothing has to change, which is what nearly every request sends.
#[must_use]
pub fn host_and_port(authority: &str) -> (Cow<'_, str>, Option<u16>) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !inside_brackets(host) => {
            (host, (!port.is_empty()).then(|| port.parse().unwrap_or(0)))
        }
        _ => (authority, None),
    };
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        (Cow::Owned(host.to_ascii_lowercase()), port)
    } else {
        (Cow::Borrowed(host), port)
    }
}

/// Whether the text ends inside a bracket that was opened and not closed: `[:` of `[::1]`.
fn inside_brackets(text: &str) -> bool {
    text.contains('[') && !text.contains(']')
}

/// What a request is matched by.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// Method, upper case.
    pub method: &'a str,
    /// Path without its query.
    pub path: &'a str,
    /// Query without its question mark.
    pub query: Option<&'a str>,
    /// Host and port as sent.
    pub authority: &'a str,
    /// Scheme, where the request says it (HTTP/2).
    pub scheme: Option<&'a str>,
    /// Headers as sent.
    pub headers: &'a HeaderMap,
    /// Port of the service that it was sent to; `None` for a service without any.
    pub port: Option<u16>,
}

/// Whether a request meets every condition of a route.
#[must_use]
pub fn matches(conditions: &RouteMatch, request: &RequestView<'_>) -> bool {
    let path_fits = match &conditions.path {
        PathMatch::Any => true,
        PathMatch::Prefix(prefix) => request.path.starts_with(prefix.as_str()),
        PathMatch::Exact(whole) => request.path == whole,
        PathMatch::Regex(pattern) => pattern.matches(request.path),
    };
    path_fits
        && (!conditions.grpc || is_grpc(request.headers))
        && conditions.scheme.as_deref().is_none_or(|wanted| wanted == scheme(request))
        && (conditions.port.is_none() || conditions.port == request.port)
        && conditions.method.as_deref().is_none_or(|wanted| wanted == request.method)
        && conditions.headers.iter().all(|wanted| header_fits(wanted, request))
        && conditions.query.iter().all(|wanted| query_fits(wanted, request.query))
}

/// Whether a request has such a header.
///
/// One that is absent fits nothing but an inverted presence: inverting a value needs a value, as Envoy has it.
#[must_use]
pub fn header_fits(wanted: &HeaderMatch, request: &RequestView<'_>) -> bool {
    let value = match wanted.name.as_str() {
        // Those of HTTP/2, which Envoy makes of any request.
        ":method" => Some(Cow::Borrowed(request.method)),
        ":scheme" => Some(Cow::Borrowed(scheme(request))),
        ":authority" => Some(Cow::Borrowed(request.authority)),
        ":path" => Some(match request.query {
            Some(query) => Cow::Owned(format!("{}?{query}", request.path)),
            None => Cow::Borrowed(request.path),
        }),
        name => joined(request.headers, name),
    };
    let Some(value) = value else {
        return wanted.invert && wanted.value == ValueMatch::Present;
    };
    value_fits(&wanted.value, &value) != wanted.invert
}

/// The scheme that the application asked for: as the request says, or as whoever ended its TLS before this proxy says
/// (`x-forwarded-proto`). As Envoy has it.
fn scheme<'a>(request: &RequestView<'a>) -> &'a str {
    match (request.scheme, request.headers.get("x-forwarded-proto").map(HeaderValue::as_bytes)) {
        (Some(scheme), _) => scheme,
        (None, Some(b"https")) => "https",
        (None, _) => "http",
    }
}

/// A header's value; repeated ones joined by commas (RFC 9110, 5.3). Bytes that are no text fit only what text can say.
fn joined<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let first = values.next()?;
    Some(values.fold(first, |joined, next| Cow::Owned(format!("{joined},{next}"))))
}

fn value_fits(wanted: &ValueMatch, value: &str) -> bool {
    match wanted {
        ValueMatch::Present => true,
        ValueMatch::Exact(text) => value == text,
        ValueMatch::Prefix(text) => value.starts_with(text.as_str()),
        ValueMatch::Suffix(text) => value.ends_with(text.as_str()),
        ValueMatch::Range { start, end } => value.parse::<i64>().is_ok_and(|number| (*start..*end).contains(&number)),
        ValueMatch::Regex(pattern) => pattern.matches(value),
    }
}

/// By the first occurrence of the parameter, as it is written: nothing is decoded.
fn query_fits(wanted: &QueryMatch, query: Option<&str>) -> bool {
    let pairs = query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = pairs.into_iter().find(|(name, _)| *name == wanted.name && !name.is_empty());
    found.is_some_and(|(_, value)| wanted.exact.as_deref().is_none_or(|exact| exact == value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::snapshot::Pattern;
    use proptest::prelude::*;

    #[test]
    fn a_host_is_known_by_its_name_in_lower_case_and_has_a_port_or_none() {
        for (authority, name, port) in [
            ("checkout.local", "checkout.local", None),
            ("checkout.local:15001", "checkout.local", Some(15001)),
            ("CheckOut.LOCAL:80", "checkout.local", Some(80)),
            ("checkout.local:", "checkout.local", None),
            ("checkout.local:65536", "checkout.local", Some(0)),
            ("[::1]:80", "[::1]", Some(80)),
            ("[::1]", "[::1]", None),
            ("[fe80::AB]", "[fe80::ab]", None),
            ("checkout.local:http", "checkout.local:http", None),
            (":80", "", Some(80)),
            ("", "", None),
        ] {
            assert_eq!(host_and_port(authority), (name.into(), port), "{authority}");
        }
    }

    fn header(name: &str, value: ValueMatch, invert: bool) -> RouteMatch {
        let wanted = HeaderMatch { name: name.to_owned(), value, invert };
        RouteMatch { headers: vec![wanted], ..RouteMatch::default() }
    }

    fn regex(source: &str) -> Pattern {
        Pattern::new(source).expect("compiles")
    }

    #[test]
    fn headers_are_matched_as_envoy_matches_them() {
        let exact = |text: &str| ValueMatch::Exact(text.to_owned());
        let sent = [("x-preview", "1"), ("x-user", "ann"), ("x-many", "a"), ("x-many", "b"), ("x-number", "-7")];
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(name, value.parse().expect("text"));
        }
        let request = RequestView {
            method: "GET",
            path: "/",
            query: None,
            authority: "",
            scheme: None,
            headers: &headers,
            port: None,
        };
        for (wanted, fits) in [
            (header("x-preview", exact("1"), false), true),
            (header("x-preview", exact("1"), true), false),
            (header("x-preview", exact("2"), true), true),
            (header("x-absent", exact("2"), true), false),
            (header("x-absent", ValueMatch::Present, true), true),
            (header("x-preview", ValueMatch::Present, true), false),
            (header("x-preview", ValueMatch::Present, false), true),
            (header("x-user", ValueMatch::Prefix("an".into()), false), true),
            (header("x-user", ValueMatch::Prefix("AN".into()), false), false),
            (header("x-user", ValueMatch::Suffix("nn".into()), false), true),
            (header("x-many", exact("a,b"), false), true),
            (header("x-number", ValueMatch::Range { start: -7, end: 0 }, false), true),
            (header("x-number", ValueMatch::Range { start: -8, end: -7 }, false), false),
            (header("x-user", ValueMatch::Range { start: 0, end: 9 }, false), false),
            (header("x-user", ValueMatch::Regex(regex("a.*")), false), true),
            (header("x-user", ValueMatch::Regex(regex("n")), false), false),
            (header("x-user", ValueMatch::Regex(regex("b|ann")), false), true),
        ] {
            assert_eq!(matches(&wanted, &request), fits, "{wanted:?}");
        }
    }

    #[test]
    fn queries_and_patterns_of_paths() {
        let query = |name: &str, exact: Option<&str>| RouteMatch {
            query: vec![QueryMatch { name: name.to_owned(), exact: exact.map(str::to_owned) }],
            ..RouteMatch::default()
        };
        let path = |source: &str| RouteMatch { path: PathMatch::Regex(regex(source)), ..RouteMatch::default() };
        let headers = HeaderMap::new();
        let request = RequestView {
            method: "GET",
            path: "/v1/users/7",
            query: Some("a=1&b&a=2&=3"),
            authority: "",
            scheme: None,
            headers: &headers,
            port: None,
        };
        for (wanted, fits) in [
            (query("a", Some("1")), true),
            (query("a", Some("2")), false),
            (query("b", None), true),
            (query("b", Some("")), true),
            (query("c", None), false),
            (query("", None), false),
            (path("/v[0-9]+/users/.*"), true),
            (path("/v1"), false),
        ] {
            assert_eq!(matches(&wanted, &request), fits, "{wanted:?}");
        }
        let without = RequestView { query: None, ..request };
        assert!(!matches(&query("a", None), &without));
    }

    #[test]
    fn conditions_are_all_needed() {
        let prefix = |text: &str| PathMatch::Prefix(text.to_owned());
        let exact = |text: &str| PathMatch::Exact(text.to_owned());
        for (path_match, wanted, method, path, fits) in [
            (PathMatch::Any, None, "GET", "/", true),
            (PathMatch::Any, None, "OPTIONS", "*", true),
            (prefix("/"), None, "OPTIONS", "*", false),
            (prefix("/foo"), None, "GET", "/foobar", true),
            (prefix("/foo"), None, "GET", "/Foo", false),
            (prefix("/foo/"), None, "GET", "/foo", false),
            (exact("/foo"), None, "GET", "/foo", true),
            (exact("/foo"), None, "GET", "/foo/", false),
            (exact("/foo"), Some("POST"), "GET", "/foo", false),
            (exact("/foo"), Some("POST"), "POST", "/foo", true),
            (PathMatch::Any, Some("GET"), "get", "/", false),
        ] {
            let method_match = wanted.map(str::to_owned);
            let conditions = RouteMatch { path: path_match, method: method_match, ..RouteMatch::default() };
            let headers = HeaderMap::new();
            let request =
                RequestView { method, path, query: None, authority: "", scheme: None, headers: &headers, port: None };
            assert_eq!(matches(&conditions, &request), fits, "{conditions:?} {method} {path}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_matched(authority in ".*", method in ".*", path in ".*", with in ".*") {
            let (name, _) = host_and_port(&authority);
            prop_assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()));
            prop_assert!(name.len() <= authority.len());
            let headers = HeaderMap::new();
            let request = RequestView { method: &method, path: &path, query: Some(&with), authority: "", scheme: None, headers: &headers, port: None };
            for path_match in [PathMatch::Any, PathMatch::Prefix(with.clone()), PathMatch::Exact(with.clone())] {
                let conditions = RouteMatch { path: path_match, method: Some(with.clone()), ..RouteMatch::default() };
                let _ = matches(&conditions, &request);
            }
            let path_match = PathMatch::Exact(path.clone());
            let itself = RouteMatch { path: path_match, method: Some(method.clone()), ..RouteMatch::default() };
            prop_assert!(matches(&itself, &request));
        }
    }
}
