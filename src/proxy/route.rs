//! Which virtual service and which of its routes a request belongs to. Pure: values in, values out.
//!
//! A request is described by its host, method and path; the caller has already separated the query from the path.

use crate::mesh::snapshot::{PathMatch, RouteMatch};
use std::borrow::Cow;

/// The name that chooses a virtual service: the host without its port, in lower case.
/// Borrows when nothing has to change, which is what nearly every request sends.
#[must_use]
pub fn host_name(authority: &str) -> Cow<'_, str> {
    let host = without_port(authority);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// Cuts `:port` off; the colons inside a bracketed IPv6 address stay.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !inside_brackets(host) => host,
        _ => authority,
    }
}

/// Whether the text ends inside a bracket that was opened and not closed: `[:` of `[::1]`.
fn inside_brackets(text: &str) -> bool {
    text.contains('[') && !text.contains(']')
}

/// Whether a request meets every condition of a route. `path` has no query; both sides are case-sensitive.
#[must_use]
pub fn matches(conditions: &RouteMatch, method: &str, path: &str) -> bool {
    let path_fits = match &conditions.path {
        PathMatch::Any => true,
        PathMatch::Prefix(prefix) => path.starts_with(prefix.as_str()),
        PathMatch::Exact(whole) => path == whole,
    };
    path_fits && conditions.method.as_deref().is_none_or(|wanted| wanted == method)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_host_is_known_by_its_name_in_lower_case_without_a_port() {
        for (authority, name) in [
            ("checkout.local", "checkout.local"),
            ("checkout.local:15001", "checkout.local"),
            ("CheckOut.LOCAL:80", "checkout.local"),
            ("checkout.local:", "checkout.local"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("[fe80::AB]", "[fe80::ab]"),
            ("checkout.local:http", "checkout.local:http"),
            (":80", ""),
            ("", ""),
        ] {
            assert_eq!(host_name(authority), name, "{authority}");
        }
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
            let conditions = RouteMatch { path: path_match, method: wanted.map(str::to_owned) };
            assert_eq!(matches(&conditions, method, path), fits, "{conditions:?} {method} {path}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_matched(authority in ".*", method in ".*", path in ".*", with in ".*") {
            let name = host_name(&authority);
            prop_assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()));
            prop_assert!(name.len() <= authority.len());
            for path_match in [PathMatch::Any, PathMatch::Prefix(with.clone()), PathMatch::Exact(with.clone())] {
                let _ = matches(&RouteMatch { path: path_match, method: Some(with.clone()) }, &method, &path);
            }
            let itself = RouteMatch { path: PathMatch::Exact(path.clone()), method: Some(method.clone()) };
            prop_assert!(matches(&itself, &method, &path));
        }
    }
}
