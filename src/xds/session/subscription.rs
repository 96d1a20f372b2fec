//! What a proxy wants of one type, what it has of it, and what it said of what it was sent.

use super::{Refusal, Standing};
use crate::base::time::Timestamp;
use crate::xds::translate::{Encoded, Set, version_of};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Characters of a proxy's reason that are kept: Envoy's name the field, and a hostile one must not fill the memory.
const REASON_MAX: usize = 2_000;

/// Names out of a refusal's reason that are tried alone at once; with more, halves find out sooner.
const MENTIONED_MAX: usize = 16;

/// Versions in doubt that are remembered: each comes from a push that was refused before it was known why.
const MAYBE_MAX: usize = 8;

/// A resource at some version.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) version: String,
    /// What it is; unknown when the proxy has it from a stream before.
    pub(super) encoded: Option<Arc<Encoded>>,
}

impl Known {
    pub(super) fn of(encoded: &Arc<Encoded>) -> Self {
        Self { version: encoded.version.clone(), encoded: Some(Arc::clone(encoded)) }
    }
}

/// What a proxy has of a resource, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Copy {
    /// What it took last.
    pub(super) taken: Option<Known>,
    /// What it was sent since, and has neither taken nor refused yet.
    pub(super) offered: Option<Known>,
    /// What it was sent beside something that it refused: it may go by it or not, until it takes something else.
    pub(super) maybe: Vec<Known>,
    /// What it refused when it was sent alone; not offered again.
    pub(super) refused: Option<Refusal>,
}

impl Copy {
    /// What it has, if it takes what it was sent.
    pub(super) fn latest(&self) -> Option<&Known> {
        self.offered.as_ref().or(self.taken.as_ref())
    }

    /// Whether it may go by something else than what it took last.
    fn is_in_doubt(&self) -> bool {
        self.offered.is_none() && !self.maybe.is_empty()
    }

    /// Everything that it may go by.
    pub(super) fn possible(&self) -> impl Iterator<Item = &Known> {
        self.taken.iter().chain(&self.maybe).chain(&self.offered)
    }

    /// It was offered beside something that was refused.
    fn doubt(&mut self) {
        let Some(offered) = self.offered.take() else { return };
        self.maybe.retain(|maybe| maybe.version != offered.version);
        self.maybe.push(offered);
        if self.maybe.len() > MAYBE_MAX {
            self.maybe.remove(0);
        }
    }

    /// Whether it has this version, as far as is known for sure.
    fn has(&self, version: &str) -> bool {
        match &self.offered {
            Some(offered) => offered.version == version,
            None => self.maybe.is_empty() && self.taken.as_ref().is_some_and(|taken| taken.version == version),
        }
    }

    /// Whether it took this version and was sent nothing since.
    pub(super) fn goes_by(&self, version: &str) -> bool {
        self.offered.is_none() && self.has(version)
    }

    /// Whether there is something to tell it.
    fn lacks(&self, encoded: &Encoded) -> bool {
        let refused = self.refused.as_ref().is_some_and(|refusal| refusal.of == encoded.version);
        !refused && !self.has(&encoded.version)
    }
}

/// A push that was not answered yet.
pub(super) struct Flight {
    pub(super) nonce: String,
    pub(super) version: String,
    /// What was new in it.
    pub(super) names: Vec<String>,
    /// What it said again since it was in doubt whether the proxy has it.
    pub(super) again: Vec<(String, Known)>,
    /// Whether some of that may be what it refuses.
    pub(super) is_doubtful: bool,
    pub(super) at: Timestamp,
}

/// A part of a push that was refused.
pub(super) struct Part {
    pub(super) names: BTreeSet<String>,
    /// Without anything else that is in doubt.
    pub(super) strict: bool,
}

/// A message of everything.
#[derive(Default)]
pub(super) struct Everything {
    pub(super) resources: Vec<(String, Arc<Encoded>)>,
    pub(super) again: Vec<(String, Known)>,
    pub(super) is_doubtful: bool,
}

#[derive(Default)]
pub(super) struct Subscription {
    pub(super) all: bool,
    pub(super) names: BTreeSet<String>,
    pub(super) copies: BTreeMap<String, Copy>,
    /// Parts of pushes that were refused, to be sent one by one until it is known what is refused.
    pub(super) suspects: VecDeque<Part>,
    /// Names that it wants and was told do not exist (delta).
    pub(super) told_missing: BTreeSet<String>,
    pub(super) flight: Option<Flight>,
    /// Nonce of the last push; empty before the first.
    pub(super) last_nonce: String,
    /// Version that it says it has from a stream before; looked at when there is something to compare it with.
    pub(super) claimed: Option<String>,
    /// The resources of which it has everything that it can be told.
    pub(super) done: Option<Arc<Set>>,
    /// The resources beside which it has none that are gone.
    pub(super) swept: Option<Arc<Set>>,
    pub(super) standing: Standing,
}

impl Subscription {
    /// Has everything looked at anew.
    pub(super) fn stir(&mut self) {
        self.done = None;
        self.swept = None;
    }

    /// Notes the answer to what is on its way, if it is one.
    pub(super) fn answered(&mut self, nonce: &str, refusal: Option<String>) {
        let Some(flight) = self.flight.take_if(|flight| flight.nonce == nonce) else { return };
        match refusal {
            Some(reason) => {
                let reason = reason.chars().take(REASON_MAX).collect();
                self.refuse(flight, reason);
            }
            None => self.take(flight),
        }
        self.stir();
    }

    fn take(&mut self, flight: Flight) {
        for name in &flight.names {
            let Some(copy) = self.copies.get_mut(name) else { continue };
            if let Some(offered) = copy.offered.take() {
                *copy = Copy { taken: Some(offered), ..Copy::default() };
            }
        }
        for (name, known) in flight.again {
            let copy = self.copies.get_mut(&name).filter(|copy| copy.offered.is_none());
            if let Some(copy) = copy {
                copy.taken = Some(known);
                copy.maybe.clear();
            }
        }
        self.standing.acknowledged = Some(flight.version);
        self.forgive();
    }

    /// One thing alone is what is refused; of several, each part is sent alone then.
    fn refuse(&mut self, mut flight: Flight, reason: String) {
        let named = flight.names.iter().any(|name| mentions(&reason, name));
        flight.is_doubtful &= !named || flight.again.iter().any(|(name, _)| mentions(&reason, name));
        if let ([name], false) = (&*flight.names, flight.is_doubtful) {
            if let Some(copy) = self.copies.get_mut(name)
                && let Some(offered) = copy.offered.take()
            {
                copy.maybe.retain(|maybe| maybe.version != offered.version);
                copy.refused = Some(Refusal { of: offered.version, reason: reason.clone() });
            }
        } else {
            for name in &flight.names {
                let Some(copy) = self.copies.get_mut(name) else { continue };
                // What the reason names is what was refused.
                match mentions(&reason, name) {
                    true => copy.offered = None,
                    false => copy.doubt(),
                }
            }
            // Something in doubt may have been refused instead: the same without it tells.
            let strict = flight.is_doubtful;
            let parts = if strict { vec![flight.names.into_iter().collect()] } else { parts(&flight.names, &reason) };
            for names in parts.into_iter().rev().filter(|names: &BTreeSet<String>| !names.is_empty()) {
                self.suspects.push_front(Part { names, strict });
            }
        }
        self.standing.refused = Some((flight.version, reason));
    }

    /// What is no more, or is again what the proxy has, is not refused any more.
    pub(super) fn forgive_what_is_over(&mut self, all: &Set) {
        if self.standing.refused.is_none() {
            return;
        }
        let (sees_all, names) = (self.all, &self.names);
        self.copies.retain(|name, copy| {
            let wanted = all.get(name).filter(|_| sees_all || names.contains(name));
            let over = wanted.is_none_or(|encoded| copy.has(&encoded.version));
            copy.refused.take_if(|_| over);
            copy.refused.is_some() || copy.possible().next().is_some()
        });
        self.forgive();
    }

    /// Nothing is refused any more where no copy says so.
    pub(super) fn forgive(&mut self) {
        if self.standing.refused.is_none() || !self.suspects.is_empty() {
            return;
        }
        match self.copies.values().rev().find_map(|copy| copy.refused.as_ref()) {
            None => self.standing.refused = None,
            // What is left is said, and not what was mended meanwhile.
            Some(left) => {
                if let Some((_, reason)) = &mut self.standing.refused {
                    reason.clone_from(&left.reason);
                }
            }
        }
    }

    /// A proxy that is where we are, from a stream before and maybe with a control plane before, has everything.
    pub(super) fn believe(&mut self, all: &Set) {
        let Some(claimed) = self.claimed.take() else { return };
        if version_of(self.sees(all).map(|(name, encoded)| (&**name, &*encoded.version))) != claimed {
            return;
        }
        let has = self.sees(all).map(|(name, encoded)| (name.clone(), Known::of(encoded)));
        let has: Vec<(String, Known)> = has.collect();
        self.copies =
            has.into_iter().map(|(name, known)| (name, Copy { taken: Some(known), ..Copy::default() })).collect();
        self.standing.acknowledged = Some(claimed.clone());
        self.standing.sent = Some(claimed);
    }

    /// Wants these of a state of the world, and no others; none of what is sent whole means all.
    pub(super) fn want(&mut self, names: BTreeSet<String>, may_be_all: bool) {
        self.all |= may_be_all && names.is_empty();
        if (self.all && names.is_empty()) || (!self.all && names == self.names) {
            return;
        }
        self.all = false;
        // Who asks (again) has none, and who asks no longer drops it.
        for name in names.symmetric_difference(&self.names) {
            self.copies.remove(name);
        }
        self.names = names;
        self.stir();
    }

    /// Wants some more and some less (delta).
    pub(super) fn change(&mut self, mut subscribe: BTreeSet<String>, unsubscribe: &BTreeSet<String>, may_be_all: bool) {
        let nothing = subscribe.is_empty() && unsubscribe.is_empty();
        self.all |= subscribe.remove("*") || (may_be_all && nothing);
        if unsubscribe.contains("*") {
            self.all = false;
        }
        self.names.retain(|name| !unsubscribe.contains(name));
        // Who asks again wants it again.
        for name in unsubscribe.iter().chain(&subscribe) {
            self.copies.remove(name);
            self.told_missing.remove(name);
        }
        self.names.extend(subscribe);
        if !nothing {
            self.stir();
        }
    }

    /// What of a type the proxy wants to see.
    pub(super) fn sees<'s>(&'s self, all: &'s Set) -> Box<dyn Iterator<Item = (&'s String, &'s Arc<Encoded>)> + 's> {
        if self.all {
            return Box::new(all.iter());
        }
        Box::new(self.names.iter().filter_map(|name| all.get_key_value(name)))
    }

    pub(super) fn is_seen(&self, name: &str, all: &Set) -> bool {
        (self.all || self.names.contains(name)) && all.contains_key(name)
    }

    /// What is new or changed for the proxy and may be told, a part of a refused push before all others.
    pub(super) fn news<'s>(&'s self, all: &'s Set) -> Vec<(&'s String, &'s Arc<Encoded>)> {
        let suspect = self.suspects.front();
        let news = self.sees(all).filter(|(name, encoded)| {
            suspect.is_none_or(|part| part.names.contains(*name))
                && self.copies.get(*name).is_none_or(|copy| copy.lacks(encoded))
        });
        news.collect()
    }

    /// Parts of refused pushes of which nothing is to be told any more are dropped.
    pub(super) fn drop_settled_suspects(&mut self, all: &Set) {
        while let Some(part) = self.suspects.front_mut() {
            let (seen, copies) = (self.all, &self.copies);
            let names = &self.names;
            part.names.retain(|name| {
                let visible = all.get(name).filter(|_| seen || names.contains(name));
                visible.is_some_and(|encoded| copies.get(name).is_none_or(|copy| copy.lacks(encoded)))
            });
            if !part.names.is_empty() {
                return;
            }
            self.suspects.pop_front();
            self.forgive();
        }
    }

    /// All that the proxy is to have, in one message: its version, what is in it, and what of that was in doubt. What it may
    /// have, and has never surely taken, is said only where something needs it: it may be what was refused.
    pub(super) fn everything(&mut self, needed: Option<&BTreeSet<String>>) -> Everything {
        let mut all = Everything::default();
        for (name, copy) in &mut self.copies {
            let maybe = copy.maybe.last().filter(|_| needed.is_some_and(|needed| needed.contains(name)));
            all.is_doubtful |= copy.latest().is_none() && maybe.is_some();
            let Some(known) = copy.latest().or(maybe) else {
                // What is not said is gone.
                copy.maybe.clear();
                continue;
            };
            let Some(encoded) = &known.encoded else { continue };
            all.resources.push((name.clone(), Arc::clone(encoded)));
            if copy.is_in_doubt() {
                all.again.push((name.clone(), known.clone()));
            }
        }
        all
    }

    /// Version of what the proxy has of these, if it takes what it was sent.
    pub(super) fn version_within(&self, all: &Set) -> String {
        let has = self.copies.iter().filter(|(name, _)| all.contains_key(*name));
        version_of(has.filter_map(|(name, copy)| Some((&**name, &*copy.latest()?.version))))
    }

    /// The proxy dropped these without saying so.
    pub(super) fn forget(&mut self, names: &[String]) {
        for name in names {
            self.copies.remove(name);
        }
        self.stir();
    }

    /// Names of what the proxy has and is no more.
    pub(super) fn gone(&self, all: &Set) -> Vec<String> {
        let gone = self.copies.keys().filter(|name| !self.is_seen(name, all));
        gone.cloned().collect()
    }

    /// What it asked for, is not there, and was not said so.
    pub(super) fn missing(&self, all: &Set) -> Vec<String> {
        let unsaid = self.names.iter().filter(|name| {
            !all.contains_key(*name) && !self.told_missing.contains(*name) && !self.copies.contains_key(*name)
        });
        unsaid.cloned().collect()
    }
}

/// How what was refused together is sent next: what the reason does not name first, since it is probably right; then one by
/// one what it names, or halves where it names nothing.
fn parts(names: &[String], reason: &str) -> Vec<BTreeSet<String>> {
    let (named, rest): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| mentions(reason, name));
    let set = |names: &[&String]| names.iter().map(|name| (*name).clone()).collect::<BTreeSet<String>>();
    if named.is_empty() || named.len() > MENTIONED_MAX {
        let all: Vec<&String> = names.iter().collect();
        let (left, right) = all.split_at(all.len() / 2);
        vec![set(left), set(right)]
    } else {
        let alone = named.iter().map(|name| set(&[*name]));
        std::iter::once(set(&rest)).chain(alone).collect()
    }
}

/// Whether a text holds a name that is not a part of a longer one.
fn mentions(text: &str, name: &str) -> bool {
    let inside = |character: char| character.is_alphanumeric() || matches!(character, '_' | '-' | '.');
    text.match_indices(name).any(|(at, found)| {
        let before = text[..at].chars().next_back();
        let mut after = text[at + found.len()..].chars();
        let next = match after.next() {
            // A full stop ends a sentence, or goes on with a longer name.
            Some('.') => after.next(),
            other => other,
        };
        !before.is_some_and(inside) && !next.is_some_and(inside)
    })
}
