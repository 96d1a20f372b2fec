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

mod subscription;

use self::subscription::{Copy, Everything, Flight, Known, Subscription};
use super::translate::{Encoded, Resources, Set, Type, version_of};
use crate::base::time::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long something waits for a proxy's answer. Envoy answers within milliseconds; but one that hangs on one type
/// must not keep weights from being changed.
pub const PATIENCE: Millis = Millis::from_seconds(5);

/// Names that a proxy may ask for on one stream, over all types: as many clusters as the largest mesh that
/// [`crate::mesh::model::Quotas::OFF`] allows has nodes, twice over.
pub const NAMES_MAX: usize = 20_000;

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

/// A version that a proxy refused.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    of: String,
    reason: String,
}

/// One stream.
pub struct Session {
    form: Form,
    resources: Arc<Resources>,
    types: BTreeMap<Type, Subscription>,
    pushes: u64,
    /// Since when listeners and routes wait for clusters.
    waits_since: Option<Timestamp>,
}

/// A proxy asked for more than [`NAMES_MAX`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {NAMES_MAX} names are subscribed on this stream; no mesh has that many")]
pub struct TooManyNames;

impl Session {
    /// A stream on which nothing was said yet.
    #[must_use]
    pub fn new(form: Form, resources: Arc<Resources>) -> Self {
        Self { form, resources, types: BTreeMap::new(), pushes: 0, waits_since: None }
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
        let may_be_all = ask.kind.is_whole() && first;
        let subscription = self.types.entry(ask.kind).or_default();
        subscription.answered(&ask.nonce, ask.refusal);
        // A message from before the last push says nothing new: the answer to that push follows, with all names. One that
        // repeats the last nonce after its answer is a change of names.
        if self.form == Form::Whole && !first && !ask.nonce.is_empty() && ask.nonce != subscription.last_nonce {
            return Ok(());
        }
        match ask.wanted {
            Wanted::Names(names) => subscription.want(names, may_be_all),
            Wanted::Change { subscribe, unsubscribe, has } => {
                subscription.change(subscribe, &unsubscribe, may_be_all);
                if first {
                    if has.len() > NAMES_MAX {
                        return Err(TooManyNames);
                    }
                    let has = has.into_iter().map(|(name, version)| (name, Known { version, encoded: None }));
                    let copies = has.map(|(name, known)| (name, Copy { taken: Some(known), ..Copy::default() }));
                    subscription.copies.extend(copies);
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
            let all = self.resources.of(*kind);
            subscription.believe(all);
            subscription.drop_settled_suspects(all);
            subscription.forgive_what_is_over(all);
        }
        for kind in Type::ALL {
            let points = matches!(kind, Type::Listener | Type::Route);
            if self.is_done(kind) || self.is_waiting(kind, now) || (points && !self.clusters_are_there(now)) {
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
        Type::ALL.into_iter().any(|kind| self.types.contains_key(&kind) && !self.is_settled(kind))
    }

    /// Where the proxy stands, by type.
    #[must_use]
    pub fn standing(&self) -> BTreeMap<Type, Standing> {
        self.types.iter().map(|(kind, subscription)| (*kind, subscription.standing.clone())).collect()
    }

    /// Name and version of each resource of a type that the proxy took as it is offered now.
    #[must_use]
    pub fn in_force(&self, kind: Type) -> Vec<(String, String)> {
        let Some(subscription) = self.types.get(&kind) else { return Vec::new() };
        let all = self.resources.of(kind).iter();
        let taken = all.filter(|(name, encoded)| {
            subscription.copies.get(*name).is_some_and(|copy| copy.goes_by(&encoded.version))
        });
        taken.map(|(name, encoded)| (name.clone(), encoded.version.clone())).collect()
    }

    fn is_waiting(&self, kind: Type, now: Timestamp) -> bool {
        let flight = self.types.get(&kind).and_then(|subscription| subscription.flight.as_ref());
        flight.is_some_and(|flight| now.since(flight.at) < PATIENCE)
    }

    /// Whether the proxy was told everything of a type, by what was found before.
    fn is_done(&self, kind: Type) -> bool {
        let Some(subscription) = self.types.get(&kind) else { return true };
        subscription.done.as_ref().is_some_and(|done| Arc::ptr_eq(done, self.resources.of(kind)))
    }

    /// Whether the proxy has all of a type that it can be told, and took or refused it.
    fn is_settled(&self, kind: Type) -> bool {
        let Some(subscription) = self.types.get(&kind) else { return true };
        subscription.flight.is_none()
            && subscription.suspects.is_empty()
            && (self.is_done(kind) || self.tellable(subscription, kind).is_empty())
    }

    /// Whether all clusters, and the endpoints that they wait for, are with the proxy; or have been waited for enough.
    fn clusters_are_there(&mut self, now: Timestamp) -> bool {
        if self.have_clusters_arrived() {
            self.waits_since = None;
            return true;
        }
        let since = *self.waits_since.get_or_insert(now);
        now.since(since) >= PATIENCE
    }

    fn have_clusters_arrived(&self) -> bool {
        let Some(clusters) = self.types.get(&Type::Cluster) else { return true };
        if clusters.flight.is_some() || !clusters.suspects.is_empty() {
            return false;
        }
        let endpoints = self.types.get(&Type::Endpoint);
        if endpoints.is_some_and(|endpoints| endpoints.flight.is_some()) {
            return false;
        }
        // A cluster that it has never taken asks for no endpoints.
        let asks = |name: &&String| clusters.copies.get(*name).is_some_and(|copy| copy.taken.is_some());
        let has = |name: &String| endpoints.is_some_and(|endpoints| endpoints.copies.contains_key(name));
        self.resources.of(Type::Endpoint).keys().filter(asks).all(has)
    }

    /// What is new for a proxy and points at nothing that it lacks for good.
    fn tellable(&self, subscription: &Subscription, kind: Type) -> Vec<(String, Arc<Encoded>)> {
        let news = subscription.news(self.resources.of(kind)).into_iter();
        let told = news.filter(|(name, encoded)| !self.is_held(subscription, name, encoded));
        told.map(|(name, encoded)| (name.clone(), Arc::clone(encoded))).collect()
    }

    /// Whether something stays as it is, since what is new would point at a cluster that the proxy refused. Whoever has
    /// nothing yet loses nothing by what does not work.
    fn is_held(&self, subscription: &Subscription, name: &str, encoded: &Encoded) -> bool {
        let other = |known: &Known| known.version != encoded.version;
        let has_other = subscription.copies.get(name).is_some_and(|copy| copy.possible().any(other));
        let Some(clusters) = self.types.get(&Type::Cluster).filter(|_| has_other) else { return false };
        let lacks = |copy: &Copy| copy.possible().next().is_none() && copy.refused.is_some();
        encoded.needs.iter().any(|need| clusters.copies.get(need).is_some_and(lacks))
    }

    /// Clusters that what the proxy has points at, or may soon; `None` when it has something from a stream before of which
    /// that is not known.
    fn needed(&self) -> Option<BTreeSet<&str>> {
        let points = [Type::Listener, Type::Route].into_iter().filter_map(|kind| self.types.get(&kind));
        let known = points.flat_map(|subscription| subscription.copies.values());
        let mut needed = BTreeSet::new();
        for known in known.flat_map(Copy::possible) {
            needed.extend(known.encoded.as_ref()?.needs.iter().map(String::as_str));
        }
        Some(needed)
    }

    /// What may go: anything but clusters at once, and clusters at the end, when nothing needs them. A route that was held
    /// back is still the old one at the proxy, and needs its own.
    fn going(&self, kind: Type, gone: &[String], breaking: bool) -> Vec<String> {
        // A message of only some routes cannot say that one is gone: the proxy has it as long as it asks for it.
        if self.form == Form::Whole && !kind.is_whole() {
            return Vec::new();
        }
        if kind != Type::Cluster {
            return gone.to_vec();
        }
        let Some(needed) = self.needed().filter(|_| breaking) else { return Vec::new() };
        gone.iter().filter(|name| !needed.contains(name.as_str())).cloned().collect()
    }

    /// The push of a type that is due; `breaking` lets clusters go that nothing needs any more.
    fn push(&mut self, kind: Type, breaking: bool, now: Timestamp) -> Option<Push> {
        let subscription = self.types.get(&kind)?;
        let all = Arc::clone(self.resources.of(kind));
        if breaking && subscription.swept.as_ref().is_some_and(|swept| Arc::ptr_eq(swept, &all)) {
            return None;
        }
        let mut changed = self.tellable(subscription, kind);
        while changed.is_empty() && !self.types.get(&kind)?.suspects.is_empty() {
            // All of this part is held back, and the rest need not wait for it.
            self.types.get_mut(&kind)?.suspects.pop_front();
            changed = self.tellable(self.types.get(&kind)?, kind);
        }
        let subscription = self.types.get(&kind)?;
        let gone = subscription.gone(&all);
        let going = self.going(kind, &gone, breaking);
        let missing = if self.form == Form::Delta { subscription.missing(&all) } else { Vec::new() };
        // A proxy that has nothing waits for an answer, even for one that says there is nothing.
        let nothing_yet = kind.is_whole() && subscription.standing.sent.is_none() && subscription.copies.is_empty();
        if changed.is_empty() && going.is_empty() && missing.is_empty() && !nothing_yet {
            let held = subscription.news(&all).len();
            let subscription = self.types.get_mut(&kind)?;
            // What is held back may be told as soon as a cluster is mended, without anything new of its own.
            subscription.done = (held == 0).then(|| Arc::clone(&all));
            subscription.swept = (breaking && gone.is_empty()).then_some(all);
            return None;
        }
        Some(self.send(kind, &all, changed, going, missing, now))
    }

    /// Notes what is sent.
    fn send(
        &mut self,
        kind: Type,
        all: &Set,
        changed: Vec<(String, Arc<Encoded>)>,
        going: Vec<String>,
        missing: Vec<String>,
        now: Timestamp,
    ) -> Push {
        self.pushes += 1;
        let nonce = self.pushes.to_string();
        let needed = self.needed().map(|needed| needed.into_iter().map(str::to_owned).collect());
        let subscription = self.types.entry(kind).or_default();
        for (name, encoded) in &changed {
            subscription.copies.entry(name.clone()).or_default().offered = Some(Known::of(encoded));
            subscription.told_missing.remove(name);
        }
        for name in &going {
            subscription.copies.remove(name);
        }
        subscription.told_missing.extend(missing.iter().cloned());
        let strict = subscription.suspects.pop_front().is_some_and(|part| part.strict);
        let mut names: Vec<String> = changed.iter().map(|(name, _)| name.clone()).collect();
        let (version, said) = if self.form == Form::Whole && kind.is_whole() {
            let said = subscription.everything(needed.as_ref().filter(|_| !strict));
            (version_of(said.resources.iter().map(|(name, encoded)| (&**name, &*encoded.version))), said)
        } else {
            (subscription.version_within(all), Everything { resources: changed, ..Everything::default() })
        };
        // Whoever answers this one has seen what it did not answer.
        let unanswered = subscription.flight.take().into_iter().flat_map(|flight| flight.names);
        let unanswered: Vec<String> = unanswered.filter(|name| !names.contains(name)).collect();
        names.extend(unanswered);
        let anew: Vec<String> = names.iter().chain(said.again.iter().map(|(name, _)| name)).cloned().collect();
        let Everything { resources, again, is_doubtful } = said;
        let flight = Flight { nonce: nonce.clone(), version: version.clone(), names, again, is_doubtful, at: now };
        subscription.flight = Some(flight);
        subscription.last_nonce.clone_from(&nonce);
        subscription.standing.sent = Some(version.clone());
        subscription.forgive();
        subscription.stir();
        if kind == Type::Cluster
            && let Some(endpoints) = self.types.get_mut(&Type::Endpoint)
        {
            // A cluster that changes is a new one, and waits for its endpoints again.
            endpoints.forget(&anew);
        }
        let removed = if self.form == Form::Delta { going.into_iter().chain(missing).collect() } else { Vec::new() };
        Push { kind, version, nonce, resources, removed }
    }
}

#[cfg(test)]
mod tests;
