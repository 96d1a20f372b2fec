//! The protocol of one xDS stream: what a proxy asked for, what it has, what it is sent next, and what it said to that.
//!
//! Pure, and the same for both forms of the protocol ("state of the world" and "delta"): the time is an argument, and
//! the shell turns a [`Push`] into the one message or the other.
//!
//! **Make before break** (xDS protocol, "Eventual consistency considerations"): clusters and their endpoints are sent before
//! listeners and routes that point at them, and a cluster that nothing needs any more goes last, when its going cannot
//! hurt. So no request meets a route without its cluster.
//!
//! **What is refused is not lost.** A proxy that refuses something goes on with what it had. It is not told the same again;
//! and when it refused clusters, it is sent no route that points at a cluster which it may lack, while all other routes go
//! on being updated: a rollback must get through to a proxy whose other backend has a certificate missing.
//!
//! **Bounded.** One message of a type is on its way at a time, and what changed meanwhile is sent as one. A proxy that does
//! not answer for [`PATIENCE`] is not waited for any longer.

use super::translate::{Encoded, Resources, Set, Type, set_version};
use crate::base::time::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long something waits for a proxy's answer. Envoy answers within milliseconds; but one that hangs on one type
/// must not keep weights from being changed.
pub const PATIENCE: Millis = Millis::from_seconds(5);

/// Names that a proxy may ask for on one stream, over all types: as many clusters as the largest mesh that
/// [`crate::mesh::model::Quotas::OFF`] allows has nodes, twice over.
pub const NAMES_MAX: usize = 20_000;

/// Characters of a proxy's reason that are kept: Envoy's name the field, and a hostile one must not fill the memory.
const REASON_MAX: usize = 2_000;

/// Which form of the protocol a stream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// State of the world: a message holds all clusters, or all listeners.
    Whole,
    /// Incremental: a message holds what changed.
    Delta,
}

/// A message of a proxy, of either form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// What it is about.
    pub kind: Type,
    /// Nonce of the push that it answers; empty for none.
    pub nonce: String,
    /// Why it does not take that push.
    pub refusal: Option<String>,
    /// Version that it has of the type, from a stream before; state of the world only.
    pub version: String,
    /// What it wants.
    pub wanted: Wanted,
}

/// What a message says of the names that a proxy wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// These, and no others; none of a type that is sent whole means all.
    Names(BTreeSet<String>),
    /// These from now on and those no longer.
    Change {
        /// To be added; `*` is all.
        subscribe: BTreeSet<String>,
        /// To be taken away.
        unsubscribe: BTreeSet<String>,
        /// What it has from a stream before, with versions; first message of a type only.
        has: BTreeMap<String, String>,
    },
}

/// What is sent to a proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct Push {
    /// What it is about.
    pub kind: Type,
    /// Version of all of the type.
    pub version: String,
    /// To be repeated in the answer.
    pub nonce: String,
    /// In state of the world for clusters and listeners: all of them; else what is new or changed.
    pub resources: Vec<(String, Arc<Encoded>)>,
    /// Gone (delta).
    pub removed: Vec<String>,
}

/// Where a proxy stands with one type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Version that was sent last.
    pub sent: Option<String>,
    /// Version that the proxy took last.
    pub acknowledged: Option<String>,
    /// Version that it did not take, and why; gone when it took a later one.
    pub refused: Option<(String, String)>,
}

/// What a proxy has of a resource, as far as it was told.
#[derive(Debug, Clone)]
struct Known {
    version: String,
    /// What was sent; unknown when it has it from a stream before.
    encoded: Option<Arc<Encoded>>,
}

struct Flight {
    nonce: String,
    version: String,
    at: Timestamp,
}

#[derive(Default)]
struct Subscription {
    all: bool,
    names: BTreeSet<String>,
    known: BTreeMap<String, Known>,
    /// Names of what it had when it last took something.
    accepted: BTreeSet<String>,
    /// Names that it wants and was told do not exist (delta).
    told_missing: BTreeSet<String>,
    flight: Option<Flight>,
    /// Nonce of the last push; empty before the first.
    last_nonce: String,
    /// Version that it says it has from a stream before; looked at when there is something to compare it with.
    claimed: Option<String>,
    standing: Standing,
}

/// One stream.
pub struct Session {
    form: Form,
    resources: Arc<Resources>,
    types: BTreeMap<Type, Subscription>,
    pushes: u64,
    /// When clusters were sent last.
    clusters_at: Option<Timestamp>,
}

/// A proxy asked for more than [`NAMES_MAX`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {NAMES_MAX} names are subscribed on this stream; no mesh has that many")]
pub struct TooManyNames;

impl Session {
    /// A stream on which nothing was said yet.
    #[must_use]
    pub fn new(form: Form, resources: Arc<Resources>) -> Self {
        Self { form, resources, types: BTreeMap::new(), pushes: 0, clusters_at: None }
    }

    /// There is something newer to send.
    pub fn replace(&mut self, resources: Arc<Resources>) {
        self.resources = resources;
    }

    /// The proxy said something.
    ///
    /// # Errors
    /// It wants too much; the stream should end.
    pub fn ask(&mut self, ask: Ask) -> Result<(), TooManyNames> {
        let first = !self.types.contains_key(&ask.kind);
        let subscription = self.types.entry(ask.kind).or_default();
        subscription.answered(&ask.nonce, ask.refusal);
        // A message from before the last push says nothing new: the answer to that push follows, with all names. One that
        // repeats the last nonce after its answer is a change of names.
        if self.form == Form::Whole && !first && !ask.nonce.is_empty() && ask.nonce != subscription.last_nonce {
            return Ok(());
        }
        match ask.wanted {
            Wanted::Names(names) => subscription.want(names, ask.kind.is_whole() && first),
            Wanted::Change { mut subscribe, unsubscribe, has } => {
                let all = subscribe.remove("*") || (first && subscribe.is_empty() && ask.kind.is_whole());
                subscription.all |= all;
                if unsubscribe.contains("*") {
                    subscription.all = false;
                }
                subscription.names.retain(|name| !unsubscribe.contains(name));
                for name in &unsubscribe {
                    subscription.known.remove(name);
                    subscription.told_missing.remove(name);
                }
                for name in &subscribe {
                    // Who asks again wants it again.
                    subscription.known.remove(name);
                    subscription.told_missing.remove(name);
                }
                subscription.names.extend(subscribe);
                if first {
                    let has = has.into_iter().map(|(name, version)| (name, Known { version, encoded: None }));
                    subscription.known.extend(has);
                }
            }
        }
        if first && !ask.version.is_empty() {
            subscription.claimed = Some(ask.version);
        }
        let names: usize = self.types.values().map(|subscription| subscription.names.len()).sum();
        if names > NAMES_MAX { Err(TooManyNames) } else { Ok(()) }
    }

    /// What may be sent now, if anything. To be called again after each push, answer and change, and once in a while.
    pub fn next(&mut self, now: Timestamp) -> Option<Push> {
        for (kind, subscription) in &mut self.types {
            subscription.believe(self.resources.of(*kind));
        }
        for kind in Type::ALL {
            let points = matches!(kind, Type::Listener | Type::Route);
            if self.is_waiting(kind, now) || (points && !self.clusters_are_there(now)) {
                continue;
            }
            if let Some(push) = self.push(kind, false, now) {
                return Some(push);
            }
        }
        let settled = [Type::Listener, Type::Route].into_iter().all(|kind| self.is_settled(kind));
        if settled && !self.is_waiting(Type::Cluster, now) {
            return self.push(Type::Cluster, true, now);
        }
        None
    }

    /// Whether [`Session::next`] may say something later although nothing happens.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.types.values().any(|subscription| subscription.flight.is_some())
            || Type::ALL.into_iter().any(|kind| self.types.contains_key(&kind) && !self.is_settled(kind))
    }

    /// Where the proxy stands, by type.
    #[must_use]
    pub fn standing(&self) -> BTreeMap<Type, Standing> {
        self.types.iter().map(|(kind, subscription)| (*kind, subscription.standing.clone())).collect()
    }

    fn is_waiting(&self, kind: Type, now: Timestamp) -> bool {
        let flight = self.types.get(&kind).and_then(|subscription| subscription.flight.as_ref());
        flight.is_some_and(|flight| now.since(flight.at) < PATIENCE)
    }

    /// Whether the proxy has all of a type, and took it.
    fn is_settled(&self, kind: Type) -> bool {
        let Some(subscription) = self.types.get(&kind) else { return true };
        let difference = self.difference(kind, subscription);
        subscription.flight.is_none() && subscription.standing.refused.is_none() && difference.is_empty()
    }

    /// Whether all clusters, and the endpoints that they wait for, are with the proxy; or have been waited for enough.
    fn clusters_are_there(&self, now: Timestamp) -> bool {
        let Some(clusters) = self.types.get(&Type::Cluster) else { return true };
        let tired = self.clusters_at.is_none_or(|at| now.since(at) >= PATIENCE);
        if tired || clusters.standing.refused.is_some() {
            return true;
        }
        if clusters.flight.is_some() {
            return false;
        }
        let Some(endpoints) = self.types.get(&Type::Endpoint) else {
            return self.resources.of(Type::Endpoint).is_empty();
        };
        let has = |name: &String| endpoints.known.contains_key(name);
        endpoints.flight.is_none() && self.resources.of(Type::Endpoint).keys().all(has)
    }

    /// Names of what is new or changed for a proxy.
    fn difference(&self, kind: Type, subscription: &Subscription) -> Vec<String> {
        let lacking = self.clusters_lacking();
        let visible = subscription.visible(self.resources.of(kind));
        let differs = |name: &String, encoded: &Encoded| {
            subscription.known.get(name).is_none_or(|known| known.version != encoded.version)
        };
        let changed = visible.iter().filter(|(name, encoded)| differs(name, encoded));
        // It may point into nothing: what is there stays.
        let held = changed.filter(|(_, encoded)| !encoded.needs.iter().any(|name| lacking.contains(name)));
        held.map(|(name, _)| name.clone()).collect()
    }

    /// Clusters that a proxy may lack since it refused some.
    fn clusters_lacking(&self) -> BTreeSet<&String> {
        let Some(clusters) = self.types.get(&Type::Cluster) else { return BTreeSet::new() };
        // Whoever has nothing yet loses nothing by what does not work.
        if clusters.standing.refused.is_none() || clusters.accepted.is_empty() {
            return BTreeSet::new();
        }
        let names = self.resources.of(Type::Cluster).keys();
        names.filter(|name| !clusters.accepted.contains(*name)).collect()
    }

    /// Clusters that what the proxy has points at.
    fn needed(&self) -> BTreeSet<&str> {
        let points = [Type::Listener, Type::Route].into_iter().filter_map(|kind| self.types.get(&kind));
        let known = points.flat_map(|subscription| subscription.known.values());
        known
            .filter_map(|known| known.encoded.as_ref())
            .flat_map(|encoded| &encoded.needs)
            .map(String::as_str)
            .collect()
    }

    /// The push of a type that is due; `breaking` lets clusters go that nothing needs any more.
    fn push(&mut self, kind: Type, breaking: bool, now: Timestamp) -> Option<Push> {
        let subscription = self.types.get(&kind)?;
        let changed = self.difference(kind, subscription);
        let visible = subscription.visible(self.resources.of(kind));
        let gone: Vec<String> =
            subscription.known.keys().filter(|name| !visible.contains_key(*name)).cloned().collect();
        let may_go = kind != Type::Cluster || breaking;
        let needed = self.needed();
        // A route that was held back is still the old one at the proxy, and needs its clusters.
        let may_go = |name: &&String| may_go && (kind != Type::Cluster || !needed.contains(name.as_str()));
        let going: Vec<String> = gone.iter().filter(may_go).cloned().collect();
        let missing: Vec<String> = match self.form {
            Form::Whole => Vec::new(),
            Form::Delta => subscription.missing(&visible).cloned().collect(),
        };
        // A message of only some routes cannot say that one is gone.
        let tells_going = !going.is_empty() && (self.form == Form::Delta || kind.is_whole());
        // A proxy that has nothing waits for an answer, even for one that says there is nothing.
        let nothing_yet = kind.is_whole() && subscription.standing.sent.is_none() && subscription.known.is_empty();
        if changed.is_empty() && !tells_going && missing.is_empty() && !nothing_yet {
            return None;
        }
        let mut resources: Vec<(String, Arc<Encoded>)> = Vec::new();
        if self.form == Form::Whole && kind.is_whole() {
            resources.extend(visible.iter().map(|(name, encoded)| (name.clone(), Arc::clone(encoded))));
            let kept = subscription.known.iter().filter(|(name, _)| gone.contains(name) && !going.contains(name));
            resources.extend(kept.filter_map(|(name, known)| Some((name.clone(), known.encoded.clone()?))));
        } else {
            let those = changed.iter().filter_map(|name| visible.get_key_value(name));
            resources.extend(those.map(|(name, encoded)| (name.clone(), Arc::clone(encoded))));
        }
        let version = if kind.is_whole() && self.form == Form::Whole {
            set_version(&resources.iter().cloned().collect())
        } else {
            set_version(&visible)
        };
        self.sent(kind, version, resources, going, missing, now)
    }

    /// Notes what is sent.
    fn sent(
        &mut self,
        kind: Type,
        version: String,
        resources: Vec<(String, Arc<Encoded>)>,
        going: Vec<String>,
        missing: Vec<String>,
        now: Timestamp,
    ) -> Option<Push> {
        self.pushes += 1;
        let nonce = self.pushes.to_string();
        if kind == Type::Cluster {
            self.clusters_at = Some(now);
        }
        let subscription = self.types.get_mut(&kind)?;
        for (name, encoded) in &resources {
            subscription.known.insert(name.clone(), Known::of(Arc::clone(encoded)));
            subscription.told_missing.remove(name);
        }
        for name in &going {
            subscription.known.remove(name);
        }
        subscription.told_missing.extend(missing.iter().cloned());
        subscription.standing.sent = Some(version.clone());
        subscription.last_nonce.clone_from(&nonce);
        subscription.flight = Some(Flight { nonce: nonce.clone(), version: version.clone(), at: now });
        let removed = if self.form == Form::Delta { going.into_iter().chain(missing).collect() } else { Vec::new() };
        Some(Push { kind, version, nonce, resources, removed })
    }
}

impl Known {
    fn of(encoded: Arc<Encoded>) -> Self {
        Self { version: encoded.version.clone(), encoded: Some(encoded) }
    }
}

impl Subscription {
    /// Notes the answer to what is on its way, if it is one.
    fn answered(&mut self, nonce: &str, refusal: Option<String>) {
        let Some(flight) = self.flight.take_if(|flight| flight.nonce == nonce) else { return };
        match refusal {
            Some(reason) => {
                let reason = reason.chars().take(REASON_MAX).collect();
                self.standing.refused = Some((flight.version, reason));
            }
            None => {
                self.standing.refused = None;
                self.standing.acknowledged = Some(flight.version);
                self.accepted = self.known.keys().cloned().collect();
            }
        }
    }

    /// A proxy that is where we are, from a stream before and maybe with a control plane before, has everything.
    fn believe(&mut self, all: &Set) {
        let Some(claimed) = self.claimed.take() else { return };
        let has = self.visible(all);
        if set_version(&has) == claimed {
            self.known = has.into_iter().map(|(name, encoded)| (name, Known::of(encoded))).collect();
            self.accepted = self.known.keys().cloned().collect();
            self.standing.acknowledged = Some(claimed.clone());
            self.standing.sent = Some(claimed);
        }
    }

    /// State of the world: the names as they are now.
    fn want(&mut self, names: BTreeSet<String>, may_be_all: bool) {
        self.all |= may_be_all && names.is_empty();
        if !self.all || !names.is_empty() {
            self.all = false;
            for name in names.difference(&self.names) {
                // Who asks (again) has none.
                self.known.remove(name);
            }
            let dropped: Vec<String> = self.names.difference(&names).cloned().collect();
            for name in dropped {
                self.known.remove(&name);
            }
            self.names = names;
        }
    }

    /// What of a type the proxy wants to see.
    fn visible(&self, all: &Set) -> Set {
        if self.all {
            return all.clone();
        }
        let those = self.names.iter().filter_map(|name| all.get_key_value(name));
        those.map(|(name, encoded)| (name.clone(), Arc::clone(encoded))).collect()
    }

    /// What it asked for, is not there, and was not said so.
    fn missing<'s>(&'s self, visible: &'s Set) -> impl Iterator<Item = &'s String> {
        self.names.iter().filter(|name| {
            !visible.contains_key(*name) && !self.told_missing.contains(*name) && !self.known.contains_key(*name)
        })
    }
}

#[cfg(test)]
mod tests;
