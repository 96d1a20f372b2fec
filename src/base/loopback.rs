//! Whether a name that a client uses means this machine. Local mode asks for no token, and a web page that the user happens
//! to visit must not be able to start rollouts, change the mesh or stop the proxy: its Origin is another site's.

/// Whether a Host (`name`, `name:port`, `[address]:port`) is this machine by a loopback name.
#[must_use]
pub fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a browser's Origin (`scheme://host:port`, or `null`) is a page of this machine.
#[must_use]
pub fn is_origin_of_this_machine(origin: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, host)| !host.contains('/') && is_this_machine(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_pass() {
        for host in ["127.0.0.1", "127.0.0.1:7070", "localhost:7070", "LOCALHOST", "[::1]:7070", "127.8.8.8:1"] {
            assert!(is_this_machine(host), "{host}");
            assert!(is_origin_of_this_machine(&format!("http://{host}")), "{host}");
        }
        for host in ["", "evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "10.0.0.1", "[::2]:1"] {
            assert!(!is_this_machine(host), "{host}");
            assert!(!is_origin_of_this_machine(&format!("http://{host}")), "{host}");
        }
        for origin in ["null", "localhost", "http://evil.example/@localhost", "file://"] {
            assert!(!is_origin_of_this_machine(origin), "{origin}");
        }
    }
}
