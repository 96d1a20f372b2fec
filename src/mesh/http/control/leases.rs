//! Counts weight leases down, and writes the fallback of one that nobody renews.
//!
//! Every control plane on a store counts each lease from when it got to know of it, or of its last renewal: by its own clock,
//! since those of several machines differ. So none is early, and the first one whose count ends looks at the store before it
//! writes: a renewal that it had not seen yet starts the count anew, and of several that write at once the store takes one.
//!
//! A control plane that starts counts every lease anew and in full. While none was there nobody could renew them, and a
//! release that is well must not be taken back because of that. The price is that weights stand for one lease longer, with
//! whoever renews them given the time to come back as well. The same goes for one that was there and could not be asked: its
//! process stood still, or its store did not answer.

use super::{ATTEMPTS, MeshControl, contended};
use crate::base::fault::Fault;
use crate::base::time::{Millis, Timestamp};
use crate::mesh::model::lease::Term;
use crate::mesh::model::{Change, Key, MeshState, Resource};
use crate::mesh::ops::lease;
use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

/// Without a lease there is nothing to wait for; looked at all the same, at next to no cost.
const LONGEST_WAIT: Millis = Millis::from_seconds(60);
/// Whoever wakes up so much later than it wanted stood still, as a machine does that is suspended: renewals wait in its
/// sockets. A busy machine is late by less.
const AWAY: Millis = Millis::from_seconds(5);

/// Leases that are counted down.
#[derive(Debug, Default)]
pub(super) struct Leases(BTreeMap<Key, Running>);

#[derive(Debug)]
struct Running {
    term: Term,
    span: Millis,
    until: Timestamp,
}

impl Leases {
    /// Those of a state, all of them from now on.
    pub(super) fn of(state: &MeshState, now: Timestamp) -> Self {
        let mut leases = Self::default();
        for route in state.iter() {
            leases.see(&route.key, Some(route), now);
        }
        leases
    }

    /// Takes changes in; whether there may be something else to wait for.
    pub(super) fn observe(&mut self, changes: &[Change], now: Timestamp) -> bool {
        // No shortcut: each of them has to be seen.
        changes.iter().fold(false, |changed, (key, resource)| self.see(key, resource.as_ref(), now) || changed)
    }

    fn see(&mut self, key: &Key, resource: Option<&Arc<Resource>>, now: Timestamp) -> bool {
        let Some((term, kept)) = resource.and_then(|route| route.term().zip(route.lease.as_ref())) else {
            return self.0.remove(key).is_some();
        };
        if self.0.get(key).is_some_and(|running| running.term == term) {
            // Another change of the route, such as of its tags: no renewal.
            return false;
        }
        self.0.insert(key.clone(), Running { term, span: kept.span, until: now.plus(kept.span) });
        true
    }

    /// Counts all of them from now on: nobody could renew them lately.
    fn recount(&mut self, now: Timestamp) {
        self.0.values_mut().for_each(|running| running.until = now.plus(running.span));
    }

    fn next(&self) -> Option<Timestamp> {
        self.0.values().map(|running| running.until).min()
    }

    fn due(&self, now: Timestamp) -> Vec<(Key, Term)> {
        let due = self.0.iter().filter(|(_, running)| running.until <= now);
        due.map(|(key, running)| (key.clone(), running.term.clone())).collect()
    }
}

/// Whether a change is of a lease alone: everything else raises the version, gives other tags, or makes another resource.
pub(super) fn is_same_version(old: Option<&Arc<Resource>>, new: Option<&Arc<Resource>>) -> bool {
    let same = |old: &Resource, new: &Resource| {
        // Proxies are told of a fuse with how long they hear nothing before it lapses.
        let lasts = |resource: &Resource| resource.fuse.as_ref().and(resource.lease.as_ref()).map(|lease| lease.span);
        (&old.uid, old.version, old.lapsed) == (&new.uid, new.version, new.lapsed)
            && old.tags == new.tags
            && (&old.fuse, lasts(old)) == (&new.fuse, lasts(new))
    };
    old.zip(new).is_some_and(|(old, new)| same(old, new))
}

impl MeshControl {
    /// Counts leases down and writes the fallback of each that runs out, for as long as it is polled.
    pub async fn keep_leases(self) {
        loop {
            let began = self.now();
            let next = self.leases().next();
            let wait = next.map_or(LONGEST_WAIT, |until| until.since(began).min(LONGEST_WAIT));
            tokio::select! {
                () = tokio::time::sleep(wait.duration()) => {}
                () = self.inner.leases_changed.notified() => {}
            }
            let late = self.now().since(began).0.saturating_sub(wait.0);
            if late >= AWAY.0 {
                tracing::warn!(late_ms = late, "this process stood still; weight leases are counted anew");
                self.leases().recount(self.now());
            }
            if let Err(fault) = self.expire_leases().await {
                tracing::warn!(%fault, "a weight lease ran out while the store did not answer; it is counted anew");
            }
        }
    }

    /// Writes the fallback of each lease that has run out by now, unless the store has a renewal of it; answers how many.
    ///
    /// # Errors
    /// The store does not answer. Then nobody could renew a lease either, so all of them are counted anew.
    pub async fn expire_leases(&self) -> Result<usize, Fault> {
        let written = self.write_fallbacks().await;
        if written.is_err() {
            self.leases().recount(self.now());
        }
        written
    }

    async fn write_fallbacks(&self) -> Result<usize, Fault> {
        if self.leases().due(self.now()).is_empty() {
            return Ok(0);
        }
        let mut writer = self.inner.writer.lock().await;
        for _ in 0..ATTEMPTS {
            self.catch_up(&mut writer).await?;
            let due = self.leases().due(self.now());
            let context = self.context(String::new());
            let (mut changes, mut told) = (Vec::new(), Vec::new());
            for (key, term) in due {
                let expired = lease::expire(&self.state(), &key, &term, &context);
                match expired {
                    Some(expired) => {
                        changes.push(expired.change);
                        told.push((key, expired.said));
                    }
                    // What is counted is what the state has; should it ever differ, it must not be looked at for ever.
                    None => drop(self.leases().0.remove(&key)),
                }
            }
            if self.take_over(&mut writer, changes).await? {
                for (key, said) in &told {
                    tracing::warn!(route = key.path(), "{said}");
                }
                return Ok(told.len());
            }
        }
        Err(contended())
    }

    pub(super) fn leases(&self) -> MutexGuard<'_, Leases> {
        // Valid after any panic: every change of it is one insert or removal.
        self.inner.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::model::lease::Lease;
    use crate::mesh::model::{Kind, Spec};
    use serde_json::json;

    fn route(version: i64, renewals: Option<u64>) -> Change {
        let raw = json!({ "tcpRoute": { "action": { "weightedTargets": [{ "virtualNode": "a", "weight": 1 }] } } });
        let span = Millis::from_seconds(60);
        let key = Key::grandchild("m", Kind::Route, "r", "x");
        let resource = Resource {
            key: key.clone(),
            arn: String::new(),
            uid: "u".into(),
            version,
            created_at: Timestamp(0),
            last_updated_at: Timestamp(0),
            spec: Spec::read(Kind::Route, &raw).expect("is a route"),
            raw,
            tags: BTreeMap::new(),
            generation: None,
            lease: renewals.map(|renewals| Lease { span, fallback: [("a".into(), 1)].into(), renewals }),
            lapsed: None,
            fuse: None,
            tokens: Vec::new(),
        };
        (key, Some(Arc::new(resource)))
    }

    #[test]
    fn each_renewal_counts_from_when_it_was_seen_and_nothing_else_does() {
        let mut state = MeshState::default();
        state.commit([route(1, Some(0))]);
        let mut leases = Leases::of(&state, Timestamp(5_000));
        assert_eq!((leases.next(), leases.due(Timestamp(64_999)).len()), (Some(Timestamp(65_000)), 0));
        // The same again, such as with another tag.
        assert!(!leases.observe(&[route(1, Some(0))], Timestamp(30_000)));
        assert!(leases.observe(&[route(1, Some(1))], Timestamp(40_000)));
        assert_eq!((leases.next(), leases.due(Timestamp(99_999)).len()), (Some(Timestamp(100_000)), 0));
        assert_eq!(leases.due(Timestamp(100_000)).len(), 1);
        // Nobody could renew it for a while.
        leases.recount(Timestamp(90_000));
        assert_eq!((leases.next(), leases.due(Timestamp(149_999)).len()), (Some(Timestamp(150_000)), 0));
        // One that ended and one that began since.
        assert!(leases.observe(&[route(2, Some(1))], Timestamp(100_000)));
        assert_eq!(leases.due(Timestamp(159_999)), []);
        assert!(leases.observe(&[route(3, None)], Timestamp(110_000)) && leases.next().is_none());
        assert!(leases.observe(&[route(4, Some(0)), route(4, Some(1))], Timestamp(120_000)));
        assert!(leases.observe(&[(route(4, None).0, None)], Timestamp(130_000)) && leases.next().is_none());
    }
}
