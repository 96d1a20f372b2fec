//! Heads of requests of any client, as far as pure functions look at them.

use crate::proxy::headers::{join_cookies, say_upgrade, strip_hop_by_hop, upgrade};
use crate::proxy::path;
use crate::proxy::route::host_and_port;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields that are about one connection (RFC 9110 section 7.6.1).
const OF_A_CONNECTION: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "proxy-authorization", "transfer-encoding", "upgrade"];

/// A path in the first line, a host in the second, and fields in the others. A path has one spelling, which is its own, and in
/// which nothing is hidden; a field that is about one connection is gone, and stays gone.
pub fn requests(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    spelled(lines.next().unwrap_or_default());
    let authority = lines.next().unwrap_or_default();
    let (host, port) = host_and_port(authority);
    assert!(!host.bytes().any(|byte| byte.is_ascii_uppercase()), "{host}");
    assert!(host.len() <= authority.len() && (port.is_none() || host.len() < authority.len()), "{authority}");
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value.trim()))
        else {
            continue;
        };
        headers.append(name, value);
    }
    let before = headers.clone();
    let _ = upgrade(&headers);
    strip_hop_by_hop(&mut headers);
    for name in OF_A_CONNECTION {
        assert!(!headers.contains_key(name), "{name} passed: {before:?}");
    }
    assert!(!before.contains_key("transfer-encoding") || !headers.contains_key("content-length"), "{before:?}");
    assert_eq!(headers.contains_key("host"), before.contains_key("host"), "{before:?}");
    let once = headers.clone();
    strip_hop_by_hop(&mut headers);
    assert_eq!(headers, once, "{before:?}");
    join_cookies(&mut headers);
    assert!(headers.get_all("cookie").iter().count() <= 1, "{before:?}");
    say_upgrade(&mut headers);
}

fn spelled(path: &str) {
    let Ok(normal) = path::normal(path) else { return };
    if !path.starts_with('/') {
        return assert_eq!(normal, path, "it has no other spelling");
    }
    // Of nothing but slashes two are left, as Envoy leaves them.
    let is_merged = normal == "//" || !normal.contains("//");
    assert!(normal.starts_with('/') && is_merged && !normal.contains('\\'), "{path:?}: {normal:?}");
    assert!(normal.bytes().all(|byte| byte.is_ascii_graphic()), "{path:?}: {normal:?}");
    let again = path::normal(&normal);
    assert_eq!(again.as_deref(), Ok(&*normal), "{path:?} has two spellings");
    let dots = |segment: &str| segment == "." || segment == "..";
    assert!(!normal.split('/').any(dots), "{path:?}: {normal:?}");
}
