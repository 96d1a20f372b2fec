//! Tells places outside how rollouts go: follows the journal behind the driver, from where it stopped before.
//!
//! Nothing waits for it, and whatever it meets changes no decision. Of each rollout only how it stands now is told, however
//! much happened meanwhile. How far it came is noted once all was told, so that a restart goes on from there; a place may
//! be told the same twice.

use super::handle::Runner;
use super::history::Change;
use crate::base::fault::{Fault, FaultKind};
use crate::base::ids::RolloutId;
use crate::policy::plan::Notice;
use crate::ports::{News, NewsCursor, NewsStanding, Notices};
use crate::rollout::view::RolloutView;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Sleep;

/// Inputs that are read at once when it is behind.
const PAGE: u32 = 1000;
/// The first wait after a place, or the store, did not answer; doubled up to [`LONGEST_WAIT`].
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// Places have outages of hours: a minute is soon enough after one.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// An end that could not be told for so long is told no more: whoever waited for it has looked elsewhere.
const TOO_OLD_MS: i64 = 24 * 3600 * 1000;
/// How far it has come is noted after so many inputs even where nothing is told.
const NOTE_AFTER: u64 = 1000;

/// Follows the journal of a runner.
pub struct NewsFollower {
    runner: Runner,
    cursor: Arc<dyn NewsCursor>,
    notices: Option<Arc<dyn Notices>>,
    public_url: Option<String>,
    /// Rollouts that are live, or have something to be told.
    followed: BTreeMap<RolloutId, Followed>,
    /// The last input that was taken in, and the last one that was noted.
    position: u64,
    noted: u64,
    /// Set while a place does not answer: when it is asked again.
    retry: Option<Pin<Box<Sleep>>>,
    /// How long that takes the next time.
    wait: Duration,
}

struct Followed {
    places: Vec<Notice>,
    /// What was told last, without what changes every second.
    told: Option<String>,
    /// What is to be told.
    open: Option<Item>,
}

#[derive(Clone)]
struct Item {
    key: String,
    news: News,
    /// When the end was decided, in milliseconds.
    decided_at_ms: Option<i64>,
    /// Whether nothing will follow it.
    last: bool,
}

/// What came of waiting for changes.
enum Heard {
    /// All there was.
    All,
    /// Something in between has to be read.
    Missed,
    /// The runner has ended.
    Over,
}

impl NewsFollower {
    /// Behind this runner. `notices` is `None` where nobody can be told, which is said once for each rollout that asks for
    /// it; links begin with `public_url`.
    #[must_use]
    pub fn new(
        runner: Runner,
        cursor: Arc<dyn NewsCursor>,
        notices: Option<Arc<dyn Notices>>,
        public_url: Option<String>,
    ) -> Self {
        let (followed, wait) = (BTreeMap::new(), SHORTEST_WAIT);
        Self { runner, cursor, notices, public_url, followed, position: 0, noted: 0, retry: None, wait }
    }

    /// Goes on until it is dropped, or the runner ends.
    pub async fn follow(mut self) {
        let mut changes = self.runner.changes();
        while let Err(fault) = self.begin().await {
            tracing::warn!(%fault, "news are not followed yet");
            tokio::time::sleep(SHORTEST_WAIT).await;
        }
        let mut behind = true;
        loop {
            let heard = if behind { self.catch_up().await } else { self.listen(&mut changes).await };
            behind = match heard {
                Ok(Heard::All) => false,
                Ok(Heard::Missed) => true,
                Ok(Heard::Over) => return,
                Err(fault) => {
                    tracing::warn!(%fault, "how rollouts stand could not be read; tried again");
                    tokio::time::sleep(SHORTEST_WAIT).await;
                    true
                }
            };
            if self.retry.is_none() {
                self.tell().await;
            }
        }
    }

    /// From where it stopped; the first time from now on.
    async fn begin(&mut self) -> Result<(), Fault> {
        self.position = match self.cursor.told().await? {
            Some(position) => position,
            None => {
                let now = self.runner.position().await?;
                self.cursor.set_told(now).await?;
                now
            }
        };
        self.noted = self.position;
        Ok(())
    }

    /// How every rollout stands that changed since.
    async fn catch_up(&mut self) -> Result<Heard, Fault> {
        loop {
            let page = self.runner.parts().journal.since(self.position, PAGE).await?;
            let Some(last) = page.last().map(|(position, ..)| *position) else { return Ok(Heard::All) };
            let changed: BTreeSet<RolloutId> = page.into_iter().map(|(_, id, _)| id).collect();
            for id in changed {
                let Some(stored) = self.runner.parts().journal.get(&id).await? else { continue };
                let view = RolloutView::of(&stored.plan, &stored.state);
                self.take_in(&id, &view, stored.plan.notify);
            }
            self.position = last;
        }
    }

    /// Waits for one change, or until it is time to tell again.
    async fn listen(&mut self, changes: &mut Receiver<Change>) -> Result<Heard, Fault> {
        let retry = async {
            match &mut self.retry {
                Some(retry) => retry.as_mut().await,
                None => std::future::pending().await,
            }
        };
        let changed = tokio::select! {
            changed = changes.recv() => changed,
            () = retry => {
                self.retry = None;
                return Ok(Heard::All);
            }
        };
        match changed {
            Ok(change) if change.position <= self.position => Ok(Heard::All),
            Ok(change) if change.position == self.position + 1 => {
                let id = RolloutId(change.view.id.clone());
                let places = match self.followed.contains_key(&id) {
                    true => Vec::new(),
                    false => self.places(&id).await?,
                };
                self.take_in(&id, &change.view, places);
                self.position = change.position;
                Ok(Heard::All)
            }
            // One that was committed before it is told after it, or never, since too many were told at once.
            Ok(_) | Err(RecvError::Lagged(_)) => Ok(Heard::Missed),
            Err(RecvError::Closed) => Ok(Heard::Over),
        }
    }

    async fn places(&self, id: &RolloutId) -> Result<Vec<Notice>, Fault> {
        let stored = self.runner.parts().journal.get(id).await?;
        Ok(stored.map(|stored| stored.plan.notify).unwrap_or_default())
    }

    /// Takes in how a rollout stands. `places` counts when it was not known before.
    fn take_in(&mut self, id: &RolloutId, view: &RolloutView, places: Vec<Notice>) {
        let can_tell = self.notices.is_some();
        let followed = self.followed.entry(id.clone()).or_insert_with(|| {
            if !can_tell && !places.is_empty() {
                let policy = &view.policy;
                tracing::warn!(rollout = %id, policy, "nobody is told at GitHub how it goes: `github.token` is not set");
            }
            Followed { places: if can_tell { places } else { Vec::new() }, told: None, open: None }
        });
        let item = item(id, view, self.public_url.as_deref());
        // Whatever was open is no longer how it stands.
        followed.open =
            Some(item).filter(|item| !followed.places.is_empty() && followed.told.as_ref() != Some(&item.key));
        if view.finished && followed.open.is_none() {
            self.followed.remove(id);
        }
    }

    /// Tells what there is to tell, and notes how far that is.
    async fn tell(&mut self) {
        let open = self.followed.iter().filter_map(|(id, followed)| Some((id.clone(), followed.open.clone()?)));
        let open: Vec<(RolloutId, Item)> = open.collect();
        let (told_any, mut failed) = (!open.is_empty(), false);
        for (id, item) in open {
            let Some(followed) = self.followed.get(&id) else { continue };
            if self.is_too_old(&item) {
                tracing::warn!(rollout = %id, "its end was decided more than a day ago, and is told no more");
            } else if let Err(fault) = self.tell_one(&followed.places, &item.news).await {
                tracing::warn!(rollout = %id, %fault, "a place was not told how the rollout goes");
                if fault.kind != FaultKind::Permanent {
                    failed = true;
                    continue;
                }
            }
            let last = item.last;
            if let Some(followed) = self.followed.get_mut(&id) {
                (followed.told, followed.open) = (Some(item.key), None);
            }
            if last {
                self.followed.remove(&id);
            }
        }
        if failed {
            self.retry = Some(Box::pin(tokio::time::sleep(self.wait)));
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
            return;
        }
        self.wait = SHORTEST_WAIT;
        if told_any || self.position - self.noted >= NOTE_AFTER {
            match self.cursor.set_told(self.position).await {
                Ok(()) => self.noted = self.position,
                Err(fault) => tracing::warn!(%fault, "how far news were told was not noted; some may be told twice"),
            }
        }
    }

    /// Tells every place; the fault of one that may answer later counts more than a refusal.
    async fn tell_one(&self, places: &[Notice], news: &News) -> Result<(), Fault> {
        let Some(notices) = &self.notices else { return Ok(()) };
        let mut worst: Option<Fault> = None;
        for place in places {
            if let Err(fault) = notices.tell(place, news).await
                && worst.as_ref().is_none_or(|worst| worst.kind == FaultKind::Permanent)
            {
                worst = Some(fault);
            }
        }
        worst.map_or(Ok(()), Err)
    }

    fn is_too_old(&self, item: &Item) -> bool {
        let now = self.runner.parts().clock.now().0;
        item.decided_at_ms.is_some_and(|decided| now - decided > TOO_OLD_MS)
    }
}

// === what is told ===

/// How a rollout stands, for people who are told once for each change that matters to them.
fn item(id: &RolloutId, view: &RolloutView, public_url: Option<&str>) -> Item {
    let reason = || view.reason.clone().unwrap_or_else(|| view.verdict.clone());
    let weight = view.weights.get(&view.canary).copied().unwrap_or(0);
    let (standing, text) = match (view.outcome.as_deref(), view.phase.as_str()) {
        // While the version before is kept, an abort still goes back to it: then that is told.
        (Some("succeeded"), "succeeded" | "cleaning") => (NewsStanding::Succeeded, format!("100 %: {}", reason())),
        (Some("succeeded"), _) => (NewsStanding::UnderWay, "100 %: being settled".to_owned()),
        (Some("rolled_back"), "stuck") => (NewsStanding::Failed, format!("stuck, look at it: {}", trouble(view))),
        (Some("rolled_back"), _) => (NewsStanding::Failed, format!("rolled back: {}", reason())),
        (Some(_), _) => (NewsStanding::Stopped, reason()),
        (None, "deploying") => (NewsStanding::UnderWay, view.verdict.clone()),
        (None, "paused") => (NewsStanding::UnderWay, format!("{weight} %, paused: {}", reason())),
        (None, "awaiting_approval") => (NewsStanding::UnderWay, format!("{weight} %, waits for an approval")),
        (None, _) => (NewsStanding::UnderWay, format!("{weight} %: {}", view.verdict)),
    };
    let key = match (&view.outcome, view.phase.as_str()) {
        (Some(_), _) => format!("{standing:?} {text}"),
        (None, phase @ ("deploying" | "awaiting_approval")) => format!("{phase} {weight}"),
        (None, "paused") => format!("{standing:?} {text}"),
        // The phases of a step follow each other within seconds.
        (None, _) => format!("step {weight}"),
    };
    let url = public_url.map(|url| format!("{}/rollouts/{id}", url.trim_end_matches('/')));
    let (rollout, policy, revision) = (id.clone(), view.policy.clone(), view.revision.clone());
    let news = News { rollout, policy, revision, standing, text, url };
    Item { key, news, decided_at_ms: view.decided_at_ms, last: view.finished }
}

fn trouble(view: &RolloutView) -> String {
    view.trouble.clone().unwrap_or_else(|| view.verdict.clone())
}

#[cfg(test)]
mod tests;
