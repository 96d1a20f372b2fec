//! Whom a connection is for.

use std::net::SocketAddr;

/// Whom a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// Services that each request names; where a redirected connection was sent to, its port is theirs.
    Services {
        /// Where it was sent to, before it was redirected.
        sent_to: Option<SocketAddr>,
    },
    /// The application beside the proxy.
    Application {
        /// Its port.
        port: u16,
    },
    /// Whatever the routes of the virtual gateway lead to.
    Gateway {
        /// Port of its listener.
        port: u16,
    },
}

/// The small part of [`For`].
#[derive(Clone, Copy)]
pub(super) enum Whom {
    Services,
    Application(u16),
    Gateway(u16),
}
