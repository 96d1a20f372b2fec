//! A request's way into a virtual gateway: its route is chosen, and it is made the request that the route's service is called
//! with, before the service's own routes are looked at. With the same result as an Envoy that sends it to itself.

use super::gate::{Bound, Gate};
use super::gateway::{self, Entrance, Hosts, rewritten};
use super::intake::{Refusal, authority, say_scheme, set_path, spell_path};
use super::leaving::Listeners;
use super::route::RequestView;
use super::tls::{Secured, ServerSide};
use crate::mesh::snapshot::{NodeConfig, PORT_HEADER, Protocol, SERVICE_HEADER};
use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, StatusCode, Uri, Version, request};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The path as it came, where it was rewritten (Envoy's header of that name).
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
/// The host as it came, where it was rewritten (likewise).
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");

/// How much may be under way through each listener: kept over changes of the configuration.
pub(super) type Gates = BTreeMap<u16, Arc<Gate>>;

/// A gateway's listener.
pub(super) struct Listener {
    hosts: Hosts,
    protocol: Protocol,
    /// What its connections begin with, where that is TLS; `None` within while there is no certificate.
    pub(super) secured: Option<Option<Arc<ServerSide>>>,
    /// How much may be under way through it, where that is bounded.
    pub(super) bound: Option<Bound>,
}

/// The listeners of a gateway by their port; none for what is no gateway.
pub(super) fn listeners(config: &NodeConfig, secured: &Secured) -> Listeners {
    let mut hosts = gateway::listeners(config);
    let own = config.all_gateways().flat_map(|(own, _)| &own.listeners);
    let found = own.filter_map(|listener| {
        let hosts = hosts.remove(&listener.port)?;
        let bound = listener.pool.map(|pool| (pool, Arc::default()));
        // Where certificates are no matter, everybody speaks plainly.
        let has_tls = listener.tls.is_some() && !secured.is_ignored();
        let secured = has_tls.then(|| secured.own(listener.port).map(Arc::clone));
        Some((listener.port, Arc::new(Listener { hosts, protocol: listener.protocol, secured, bound })))
    });
    found.collect()
}

/// Has the listeners count those who are under way together with the listeners before them.
pub(super) fn keep_gates(listeners: &mut Listeners, gates: &mut Gates) {
    gates.retain(|port, _| listeners.contains_key(port));
    for (port, listener) in listeners {
        // Nobody else has those that were made just now.
        if let Some((_, gate)) = Arc::get_mut(listener).and_then(|listener| listener.bound.as_mut()) {
            *gate = Arc::clone(gates.entry(*port).or_default());
        }
    }
}

/// A request that came in and is for a service now.
pub(super) struct Entered<'c> {
    /// By which way.
    pub(super) entrance: &'c Entrance,
    /// The scheme that it was asked for by, where the service's routes would know it.
    pub(super) scheme: Option<Scheme>,
}

impl Listener {
    /// One that leads nowhere.
    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self { hosts: Hosts::default(), protocol: Protocol::Http, secured: None, bound: None }
    }

    /// Finds the gateway route of a request on the listener's port, over TLS or not, and makes it the request of the service.
    ///
    /// # Errors
    /// It has no host that can be read, no route matches it, or its path cannot be rewritten.
    pub(super) fn enter(
        &self,
        (port, is_secure): (u16, bool),
        head: &mut request::Parts,
    ) -> Result<Entered<'_>, Refusal> {
        // The service's routes may ask for it.
        say_scheme(&mut head.headers, is_secure);
        let is_http2 = head.version == Version::HTTP_2;
        let request = RequestView {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query(),
            authority: authority(head)?,
            scheme: head.uri.scheme_str().filter(|_| is_http2),
            headers: &head.headers,
            port: Some(port),
        };
        let Some(entrance) = self.hosts.first_match(&request) else {
            let reason = format!("no gateway route matches this request on port {port}");
            return Err(Refusal::new(StatusCode::NOT_FOUND, reason));
        };
        // An Envoy's way to itself is the listener's protocol, and HTTP/1.1 says no scheme.
        let scheme = head.uri.scheme().filter(|_| is_http2 && self.protocol != Protocol::Http).cloned();
        rewrite(entrance, head)?;
        Ok(Entered { entrance, scheme })
    }
}

/// Makes a request the one that its route wants.
fn rewrite(entrance: &Entrance, head: &mut request::Parts) -> Result<(), Refusal> {
    // Whoever sends these from outside would choose the service of an Envoy behind.
    head.headers.remove(SERVICE_HEADER);
    head.headers.remove(PORT_HEADER);
    if let Some(path) = rewritten(&entrance.route, head.uri.path()) {
        let before = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        if let Ok(before) = HeaderValue::from_str(before) {
            head.headers.insert(ORIGINAL_PATH, before);
        }
        set_path(head, &path)?;
        // What was put together may not be in the one spelling any more: of `/p..` the end is left.
        spell_path(head)?;
    }
    if entrance.route.rewrite_host
        && let Some(host) = &entrance.host
    {
        let before = HeaderValue::from_str(authority(head)?);
        head.headers.insert(HOST, host.clone());
        if let Ok(before) = before {
            head.headers.insert(ORIGINAL_HOST, before);
        }
        // A host in the target would win over it.
        let path = head.uri.path_and_query().cloned();
        head.uri = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    }
    Ok(())
}
