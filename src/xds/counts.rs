//! What Envoys tell of their requests, added up as a native proxy adds up its own, and what they route by.
//!
//! An Envoy keeps no counts by version, so they are kept here, for each Envoy by itself. Envoys have no name of their own:
//! those of one node behind one address are one proxy here, which routes by the oldest version that any of them has
//! acknowledged.
//!
//! **Quiet or silent.** An Envoy without requests tells nothing, so what says that it is there is its stream of configuration:
//! while that is open, no news are no requests. Without it nobody knows what becomes of its requests, and it is left out of the
//! reports; so is one whose log was cut off here, since what is missing then is not known to be nothing. One whose counts
//! found no room is left out until there is some, and begins anew then, by another name and at zero.
//!
//! **Once each.** Envoy sends an entry once, or never: what a broken connection takes with it is lost, for both versions
//! alike, and nothing is counted twice. Counts outlive the streams that brought them, so one that comes back goes on where it
//! was.

mod tables;

use self::tables::Tables;
use super::outcome::Outcome;
use super::translate::counted::CountedRoute;
use crate::base::fault::Fault;
use crate::base::ids::RouteRef;
use crate::base::tally::Report;
use crate::clock::{Monotonic, new_uuid};
use crate::ports::Telemetry;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Counts of an Envoy that is gone are kept so long, for when it comes back: longer than any restart of a control plane takes.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// An Envoy whose log was cut off is left out for so long: what it did not get rid of meanwhile is gone with its memory.
const UNHEARD_FOR: Duration = Duration::from_secs(10);
/// An Envoy whose counts found no room is left out for so long at least: each time it begins anew it is another proxy to a
/// rollout.
const FULL_FOR: Duration = Duration::from_secs(60);
/// And until this part of all room is free, so that it does not end as it began.
const ROOM_PART: usize = 10;
/// Series of all Envoys together, 1.5 KB each. A thousand Envoys with a route under way and three endpoints to each version
/// have 6,000 for each step.
const SERIES_MAX: usize = 100_000;
/// Who is gone for long is looked for so often, however many come.
const LOOKED_EVERY: Duration = Duration::from_secs(10);
/// Places of Envoys, present ones and those that are remembered.
const PLACES_MAX: usize = 20_000;

/// Counts of all Envoys that tell of their requests. A handle: clones are the same counts.
#[derive(Clone)]
pub struct Counts {
    inner: Arc<Inner>,
}

struct Inner {
    /// Tells the counts of this process from those of one before: they begin at zero again.
    process: String,
    places: Mutex<Places>,
    /// Series that are kept, of all places.
    series: AtomicUsize,
    series_max: usize,
}

impl Inner {
    /// Lets one that found no room count again, once there is some.
    fn make_room_for(&self, inside: &mut Inside, now: Monotonic) {
        let is_over = inside.full_at.is_some_and(|at| now.since(at) >= FULL_FOR);
        if is_over && self.series.load(Ordering::Relaxed) < self.series_max - self.series_max / ROOM_PART {
            inside.full_at = None;
            inside.renewed += 1;
        }
    }
}

#[derive(Default)]
struct Places {
    next: u64,
    looked_at: Option<Monotonic>,
    all: BTreeMap<Place, Arc<Envoys>>,
}

/// The node or gateway of Envoys, and the address that they come from.
type Place = (String, Option<IpAddr>);

/// All Envoys of one place.
struct Envoys {
    name: String,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    next: u64,
    /// What each stream of configuration has acknowledged.
    configured: BTreeMap<u64, BTreeMap<RouteRef, u64>>,
    /// Streams of logs.
    logs: usize,
    /// Since when neither is open.
    gone_at: Option<Monotonic>,
    /// When a log was cut off here.
    cut_at: Option<Monotonic>,
    /// When a series found no room: what was counted is not whole, and nothing is until there is some.
    full_at: Option<Monotonic>,
    /// How often it began anew after that.
    renewed: u64,
    tables: Tables,
}

impl Inside {
    fn is_open(&self) -> bool {
        !self.configured.is_empty() || self.logs > 0
    }

    /// Whether its counts are all that there is to know.
    fn is_heard(&self, now: Monotonic) -> bool {
        let is_cut = self.cut_at.is_some_and(|at| now.since(at) < UNHEARD_FOR);
        !self.configured.is_empty() && !is_cut && self.full_at.is_none()
    }

    /// What the counts go by: those of before it began anew are another proxy's.
    fn name(&self, place: &str) -> String {
        if self.renewed == 0 { place.to_owned() } else { format!("{place} {}", self.renewed + 1) }
    }

    /// The oldest version of each route that some stream has.
    fn applied(&self) -> Vec<(RouteRef, u64)> {
        let mut oldest: BTreeMap<&RouteRef, u64> = BTreeMap::new();
        for (route, version) in self.configured.values().flatten() {
            oldest.entry(route).and_modify(|known| *known = (*known).min(*version)).or_insert(*version);
        }
        oldest.into_iter().map(|(route, version)| (route.clone(), version)).collect()
    }
}

/// After a panic while it was held a count may be missing, which costs evidence and never validity.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Counts {
    fn default() -> Self {
        Self::with_room(SERIES_MAX)
    }
}

impl Counts {
    fn with_room(series_max: usize) -> Self {
        let inner = Inner { process: new_uuid(), places: Mutex::default(), series: AtomicUsize::new(0), series_max };
        Self { inner: Arc::new(inner) }
    }

    /// A stream of configuration of an Envoy that tells of its requests.
    #[must_use]
    pub fn configures(&self, resource: &str, address: Option<IpAddr>) -> Configured {
        let envoys = self.envoys(resource, address, |inside| {
            inside.next += 1;
            inside.configured.insert(inside.next, BTreeMap::new());
            inside.next
        });
        Configured { envoys: envoys.0, number: envoys.1 }
    }

    /// A log of an Envoy.
    #[must_use]
    pub fn hears(&self, resource: &str, address: Option<IpAddr>) -> Heard {
        let (envoys, ()) = self.envoys(resource, address, |inside| inside.logs += 1);
        Heard { counts: self.clone(), envoys }
    }

    /// Those of a place, entered as somebody comes: between the two nobody takes them for gone.
    fn envoys<T>(
        &self,
        resource: &str,
        address: Option<IpAddr>,
        enter: impl FnOnce(&mut Inside) -> T,
    ) -> (Arc<Envoys>, T) {
        let mut places = lock(&self.inner.places);
        let now = Monotonic::now();
        let is_time = places.looked_at.is_none_or(|at| now.since(at) >= LOOKED_EVERY);
        if is_time || places.all.len() >= PLACES_MAX {
            places.looked_at = Some(now);
            self.forget(&mut places, now);
        }
        let Places { next, all, .. } = &mut *places;
        let envoys = all.entry((resource.to_owned(), address)).or_insert_with(|| {
            *next += 1;
            let place = address.map_or_else(|| "a socket".to_owned(), |address| address.to_string());
            let name = format!("{resource} at {place}, {}-{next}", self.inner.process);
            Arc::new(Envoys { name, inside: Mutex::default() })
        });
        let mut inside = lock(&envoys.inside);
        inside.gone_at = None;
        let entered = enter(&mut inside);
        drop(inside);
        (Arc::clone(envoys), entered)
    }

    /// Forgets who has been gone for long, and of the others the longest gone where there are too many.
    fn forget(&self, places: &mut Places, now: Monotonic) {
        let gone_for = |envoys: &Arc<Envoys>| {
            let inside = lock(&envoys.inside);
            inside.gone_at.filter(|_| !inside.is_open()).map(|at| now.since(at))
        };
        let mut longest = KEPT_FOR;
        if places.all.len() >= PLACES_MAX {
            let mut gone: Vec<Duration> = places.all.values().filter_map(gone_for).collect();
            gone.sort_unstable();
            // A tenth at once, so that this is not to do again for the next one.
            longest = gone.len().checked_sub(PLACES_MAX / 10).map_or(Duration::ZERO, |index| gone[index]);
        }
        places.all.retain(|_, envoys| {
            let stays = gone_for(envoys).is_none_or(|gone| gone < longest);
            if !stays {
                self.inner.series.fetch_sub(lock(&envoys.inside).tables.len(), Ordering::Relaxed);
            }
            stays
        });
    }

    fn all_reports(&self, now: Monotonic) -> Vec<Report> {
        let envoys: Vec<Arc<Envoys>> = lock(&self.inner.places).all.values().cloned().collect();
        let reports = envoys.iter().filter_map(|envoys| {
            let mut inside = lock(&envoys.inside);
            self.inner.make_room_for(&mut inside, now);
            inside.is_heard(now).then(|| Report {
                proxy: inside.name(&envoys.name),
                series: inside.tables.series(),
                fuses: Vec::new(),
                raw: inside.tables.raw(),
                applied: inside.applied(),
                unjudged: Vec::new(),
                unreadable: None,
            })
        });
        reports.collect()
    }
}

#[async_trait]
impl Telemetry for Counts {
    async fn reports(&self) -> Result<Vec<Report>, Fault> {
        Ok(self.all_reports(Monotonic::now()))
    }
}

/// A stream of configuration, as long as it is open.
pub struct Configured {
    envoys: Arc<Envoys>,
    number: u64,
}

impl Configured {
    /// The version of each route that its Envoy goes by.
    pub fn goes_by(&self, routes: BTreeMap<RouteRef, u64>) {
        lock(&self.envoys.inside).configured.insert(self.number, routes);
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        let mut inside = lock(&self.envoys.inside);
        inside.configured.remove(&self.number);
        leave(&mut inside);
    }
}

/// A log, as long as it is open.
pub struct Heard {
    counts: Counts,
    envoys: Arc<Envoys>,
}

/// An entry of a log that is counted.
#[derive(Debug, Clone)]
pub struct Told<'r> {
    /// The route that placed the request.
    pub route: &'r CountedRoute,
    /// Name of the cluster that was drawn.
    pub cluster: &'r str,
    /// `ip:port` of the endpoint that was asked last; empty where none was.
    pub endpoint: String,
    /// How it ended.
    pub outcome: Outcome,
}

impl Heard {
    /// Counts requests; answers how many of them went to no cluster of their route.
    pub fn count<'r>(&self, told: impl Iterator<Item = Told<'r>>) -> usize {
        let inner = &self.counts.inner;
        let mut inside = lock(&self.envoys.inside);
        let now = Monotonic::now();
        inner.make_room_for(&mut inside, now);
        if inside.full_at.is_some() {
            return 0;
        }
        let (before, mut strange) = (inside.tables.len(), 0);
        for told in told {
            let has_room = inner.series.load(Ordering::Relaxed) + inside.tables.len() < inner.series_max + before;
            match inside.tables.count(told, has_room) {
                tables::Counted::Yes => {}
                tables::Counted::Strange => strange += 1,
                tables::Counted::Full => {
                    // What it has is not whole any more, and others may have its room.
                    (inside.full_at, inside.tables) = (Some(now), Tables::default());
                    tracing::warn!(
                        proxy = self.envoys.name,
                        series = inner.series_max,
                        "no room for the counts of more Envoys: this one is left out of what rollouts are judged by until a tenth of \
                         the room is free; let rollouts end, run native proxies (they keep their own counts), or give a part of \
                         the Envoys another control plane"
                    );
                    break;
                }
            }
        }
        // Old versions go as new ones come.
        inner.series.fetch_add(inside.tables.len(), Ordering::Relaxed);
        inner.series.fetch_sub(before, Ordering::Relaxed);
        strange
    }

    /// Its log is cut off here, with entries in it that nobody will count.
    pub fn cut(&self) {
        lock(&self.envoys.inside).cut_at = Some(Monotonic::now());
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        let mut inside = lock(&self.envoys.inside);
        inside.logs = inside.logs.saturating_sub(1);
        leave(&mut inside);
    }
}

fn leave(inside: &mut Inside) {
    if !inside.is_open() {
        inside.gone_at = Some(Monotonic::now());
    }
}

#[cfg(test)]
mod tests;
