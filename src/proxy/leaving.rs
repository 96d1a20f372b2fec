//! Ports that a virtual gateway has lost, for whoever is still connected to them.
//!
//! As Envoy drains a listener that is removed (its `--drain-time-s`, 600 s unless told otherwise): nobody new is accepted, requests
//! over open connections go on being routed as they were, and clients are told to go, by `Connection: close` or GOAWAY. Whoever
//! has not gone by then is cut. What a lost port's routes lead to follows the mesh as ever.

use super::entrance::Listener;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Listeners by their ports.
pub(super) type Listeners = BTreeMap<u16, Arc<Listener>>;

/// How long a lost port's connections may go on: Envoy's default.
const LEAVE: Duration = Duration::from_secs(600);
/// Lost ports at a time, since a mesh that changes them without end must not be remembered without end. A gateway has a handful.
const PORTS: usize = 64;

/// What was lost, and when, by the proxy's own time.
#[derive(Default)]
pub(super) struct Leaving(BTreeMap<u16, (Arc<Listener>, Duration)>);

impl Leaving {
    /// Notes what a change takes away and gives back; answers what is still to be served.
    pub(super) fn follow(&mut self, last: &Listeners, next: &Listeners, now: Duration) -> Listeners {
        self.0.retain(|port, (_, since)| !next.contains_key(port) && now.saturating_sub(*since) < LEAVE);
        for (port, listener) in last.iter().filter(|(port, _)| !next.contains_key(port)) {
            if self.0.len() < PORTS {
                self.0.entry(*port).or_insert_with(|| (Arc::clone(listener), now));
            }
        }
        self.0.iter().map(|(port, (listener, _))| (*port, Arc::clone(listener))).collect()
    }

    /// Whether the time of any of them is over.
    pub(super) fn has_ended(&self, now: Duration) -> bool {
        self.0.values().any(|(_, since)| now.saturating_sub(*since) >= LEAVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners(ports: &[u16]) -> Listeners {
        ports.iter().map(|port| (*port, Arc::new(Listener::for_tests()))).collect()
    }

    fn ports(listeners: &Listeners) -> Vec<u16> {
        listeners.keys().copied().collect()
    }

    #[test]
    fn a_lost_port_is_served_until_its_time_is_over_or_it_comes_back() {
        let (mut leaving, second) = (Leaving::default(), Duration::from_secs(1));
        let (both, one) = (listeners(&[80, 81]), listeners(&[80]));
        assert_eq!(ports(&leaving.follow(&both, &one, second)), [81]);
        // A later change does not begin its time anew.
        assert_eq!(ports(&leaving.follow(&one, &one, LEAVE)), [81]);
        assert!(!leaving.has_ended(LEAVE) && leaving.has_ended(LEAVE + second));
        assert_eq!(ports(&leaving.follow(&one, &one, LEAVE + second)), [0; 0]);
        assert!(!leaving.has_ended(LEAVE + second));
        assert_eq!(ports(&leaving.follow(&both, &one, LEAVE)), [81]);
        assert_eq!(ports(&leaving.follow(&one, &both, LEAVE)), [0; 0], "it is served as any other again");
        let many: Vec<u16> = (1000..1100).collect();
        assert_eq!(leaving.follow(&listeners(&many), &one, LEAVE).len(), PORTS);
    }
}
