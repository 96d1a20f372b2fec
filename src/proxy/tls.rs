//! TLS of both sides of a proxy (App Mesh API 2019-01-25, `ListenerTls` and `ClientPolicyTls`; TLS 1.2 and 1.3).
//!
//! The control side keeps what certificates and authorities say now (`keeper`) and makes the two sides of it, which the
//! snapshot then carries: a connection that begins takes those of its snapshot, one that is open keeps what it began with.

/// One side of TLS each.
mod build;
/// Certificates and authorities, as they are now.
mod keeper;
/// What certificates and authorities hold (pure).
mod material;
#[cfg(test)]
mod tests;
/// Whose certificates are believed.
mod verify;

pub(super) use build::{ClientSide, ServerSide};
pub(super) use keeper::{Keeper, Secured, read_files};
pub use material::Secrets;

use std::sync::Arc;

/// What connections to endpoints begin with.
#[derive(Clone)]
pub(super) enum Towards {
    /// Plain connections.
    Plain,
    /// TLS.
    Tls(Arc<ClientSide>),
    /// The mesh wants TLS, and what it takes cannot be had: nothing is sent, since in the clear nobody would know.
    Unusable,
}

impl Towards {
    /// TLS, where that is it.
    pub(super) const fn tls(&self) -> Option<&Arc<ClientSide>> {
        match self {
            Self::Tls(side) => Some(side),
            Self::Plain | Self::Unusable => None,
        }
    }

    /// Whether nothing may be sent.
    pub(super) const fn is_unusable(&self) -> bool {
        matches!(self, Self::Unusable)
    }

    /// Whether connections of the one are as good as those of the other.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain, Self::Plain) | (Self::Unusable, Self::Unusable) => true,
            (Self::Tls(one), Self::Tls(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}
