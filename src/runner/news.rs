//! Tells places outside how rollouts go: follows the journal behind the driver, from where it stopped before. There is a
//! follower for each kind of place, so that none waits for another's outage.
//!
//! Nothing waits for it, and whatever it meets changes no decision. Of each rollout only how it stands now is told, however
//! much happened meanwhile. How far it came is noted once all was told, so that a restart goes on from there; a place may
//! be told the same twice.

use super::handle::Runner;
use super::history::Change;
use crate::base::fault::{Fault, FaultKind};
use crate::base::ids::RolloutId;
use crate::base::time::{Millis, Timestamp};
use crate::policy::plan::{Notice, NoticeKind};
use crate::ports::{Ask, Compared, News, NewsCursor, NewsStanding, Notices};
use crate::rollout::event::{Command, Event};
use crate::rollout::view::RolloutView;
use futures_util::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

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
/// Rollouts that are told of at once: enough that one slow place does not hold up the others, and few enough to be polite.
const AT_ONCE: usize = 8;
/// What people look at while they are asked for an approval is renewed so often. Slack takes a change of a message each
/// second, and who reads it looks for minutes.
const RENEWED_MS: i64 = 30_000;

/// Follows the journal of a runner for one kind of place.
pub struct NewsFollower {
    runner: Runner,
    cursor: Arc<dyn NewsCursor>,
    kind: NoticeKind,
    notices: Option<Arc<dyn Notices>>,
    public_url: Option<String>,
    /// Rollouts that are live, or have something to be told.
    followed: BTreeMap<RolloutId, Followed>,
    /// The last input that was taken in, and the last one that was noted.
    position: u64,
    noted: u64,
}

struct Followed {
    places: Vec<Notice>,
    /// What was told last, without what changes every second.
    told: Option<String>,
    /// What is to be told.
    open: Option<Item>,
    /// Step of the approval that people were asked for when it was looked at last.
    asked: Option<usize>,
    /// Set while a place does not answer: when it is asked again.
    not_before: Option<Timestamp>,
    /// How long that takes the next time.
    wait: Duration,
}

#[derive(Clone)]
struct Item {
    key: String,
    news: News,
    /// When the end was decided, in milliseconds.
    decided_at_ms: Option<i64>,
    /// Whether nothing will follow it.
    last: bool,
    /// Set where an approval is over whose givers are to be looked up: its step.
    over: Option<usize>,
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
    /// Behind this runner, for places of a kind. `notices` is `None` where nobody can be told, which is said once for each
    /// rollout that asks for it; links begin with `public_url`.
    #[must_use]
    pub fn new(
        runner: Runner,
        cursor: Arc<dyn NewsCursor>,
        (kind, notices): (NoticeKind, Option<Arc<dyn Notices>>),
        public_url: Option<String>,
    ) -> Self {
        Self { runner, cursor, kind, notices, public_url, followed: BTreeMap::new(), position: 0, noted: 0 }
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
            self.tell().await;
        }
    }

    /// From where it stopped; the first time from now on.
    async fn begin(&mut self) -> Result<(), Fault> {
        self.position = match self.cursor.told(self.kind).await? {
            Some(position) => position,
            None => {
                let now = self.runner.position().await?;
                self.cursor.set_told(self.kind, now).await?;
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
                self.take_in(&id, &view, stored.plan.told());
            }
            self.position = last;
        }
    }

    /// Waits for one change, or until it is time to tell again.
    async fn listen(&mut self, changes: &mut Receiver<Change>) -> Result<Heard, Fault> {
        let now = self.runner.parts().clock.now();
        let next = self.followed.values().filter(|followed| followed.open.is_some());
        let next = next.filter_map(|followed| followed.not_before).min();
        let retry = async {
            match next {
                Some(next) => tokio::time::sleep(next.since(now).duration()).await,
                None => std::future::pending().await,
            }
        };
        let changed = tokio::select! {
            changed = changes.recv() => changed,
            () = retry => return Ok(Heard::All),
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
        Ok(stored.map(|stored| stored.plan.told()).unwrap_or_default())
    }

    /// Takes in how a rollout stands. `places` counts when it was not known before.
    fn take_in(&mut self, id: &RolloutId, view: &RolloutView, places: Vec<Notice>) {
        let (can_tell, kind) = (self.notices.is_some(), self.kind);
        let followed = self.followed.entry(id.clone()).or_insert_with(|| {
            let mut places: Vec<Notice> = places.into_iter().filter(|place| place.kind() == kind).collect();
            if !can_tell && !places.is_empty() {
                let (policy, to, needs) = (&view.policy, kind.name(), kind.needs());
                tracing::warn!(rollout = %id, policy, "nobody is told at {to} how it goes: `{needs}` is not set");
                places.clear();
            }
            let (told, open, asked, not_before) = (None, None, None, None);
            Followed { places, told, open, asked, not_before, wait: SHORTEST_WAIT }
        });
        if !followed.places.is_empty() {
            let mut item = item(id, view, self.public_url.as_deref(), self.runner.parts().clock.now());
            if let (Some(ask), NoticeKind::Slack) = (&item.news.ask, kind) {
                item.key += &format!(" {:?} {:?} {}", ask.given, ask.held, item.news.at.0 / RENEWED_MS);
            }
            let asked = item.news.ask.as_ref().map(|ask| ask.step);
            let before = std::mem::replace(&mut followed.asked, asked);
            let still_open = followed.open.as_ref().and_then(|open| open.over);
            item.over = before.filter(|before| asked != Some(*before)).or(still_open);
            // Whatever was open is no longer how it stands.
            followed.open = Some(item).filter(|item| followed.told.as_ref() != Some(&item.key));
        }
        if view.finished && followed.open.is_none() {
            self.followed.remove(id);
        }
    }

    /// Tells what there is to tell, and notes how far that is.
    async fn tell(&mut self) {
        let now = self.runner.parts().clock.now();
        let due = self.followed.iter().filter(|(_, followed)| followed.not_before.is_none_or(|time| time <= now));
        let due = due.filter_map(|(id, followed)| Some((id.clone(), followed.places.clone(), followed.open.clone()?)));
        let due: Vec<(RolloutId, Vec<Notice>, Item)> = due.collect();
        let told_any = !due.is_empty();
        let this = &*self;
        let outcomes = futures_util::stream::iter(due).map(|(id, places, item)| async move {
            let outcome = this.tell_one(&id, &places, &item).await;
            (id, item, outcome)
        });
        let outcomes: Vec<_> = outcomes.buffer_unordered(AT_ONCE).collect().await;
        for (id, item, outcome) in outcomes {
            self.was_told(&id, item, outcome);
        }
        let all_told = self.followed.values().all(|followed| followed.open.is_none());
        if all_told && (told_any || self.position - self.noted >= NOTE_AFTER) {
            match self.cursor.set_told(self.kind, self.position).await {
                Ok(()) => self.noted = self.position,
                Err(fault) => tracing::warn!(%fault, "how far news were told was not noted; some may be told twice"),
            }
        }
    }

    /// Notes what came of telling a rollout's places.
    fn was_told(&mut self, id: &RolloutId, item: Item, outcome: Result<(), Fault>) {
        let Some(followed) = self.followed.get_mut(id) else { return };
        if let Err(fault) = outcome {
            tracing::warn!(rollout = %id, %fault, "a place was not told how the rollout goes");
            if fault.kind != FaultKind::Permanent {
                let wait = Millis(u64::try_from(followed.wait.as_millis()).unwrap_or(u64::MAX));
                followed.not_before = Some(self.runner.parts().clock.now().plus(wait));
                followed.wait = (followed.wait * 2).min(LONGEST_WAIT);
                return;
            }
        }
        (followed.told, followed.open) = (Some(item.key), None);
        (followed.not_before, followed.wait) = (None, SHORTEST_WAIT);
        if item.last {
            self.followed.remove(id);
        }
    }

    /// Tells every place; the fault of one that may answer later counts more than a refusal.
    async fn tell_one(&self, id: &RolloutId, places: &[Notice], item: &Item) -> Result<(), Fault> {
        let Some(notices) = &self.notices else { return Ok(()) };
        if self.is_too_old(item) {
            tracing::warn!(rollout = %id, "its end was decided more than a day ago, and is told no more");
            return Ok(());
        }
        let mut news = item.news.clone();
        if let Some(step) = item.over {
            news.approved = self.approved(id, step).await?;
        }
        let mut worst: Option<Fault> = None;
        for place in places {
            if let Err(fault) = notices.tell(place, &news).await
                && worst.as_ref().is_none_or(|worst| worst.kind == FaultKind::Permanent)
            {
                worst = Some(fault);
            }
        }
        worst.map_or(Ok(()), Err)
    }

    /// Who approved a step, as the journal has it: the names in which they did. Those of a step that was asked for more than
    /// once are those of the last time.
    async fn approved(&self, id: &RolloutId, step: usize) -> Result<Vec<String>, Fault> {
        let Some(stored) = self.runner.parts().journal.get(id).await? else { return Ok(Vec::new()) };
        let need = match stored.plan.steps.get(step.saturating_sub(1)) {
            Some(crate::policy::plan::Step::Approval(approval)) => approval.need as usize,
            Some(crate::policy::plan::Step::Weight(_)) | None => return Ok(Vec::new()),
        };
        let inputs = self.runner.parts().journal.inputs(id).await?;
        let given = inputs.into_iter().rev().filter_map(|row| match row.input.event {
            Event::Command { command: Command::Approve { person, .. }, actor } => Some(person.unwrap_or(actor.name)),
            _ => None,
        });
        let mut given: Vec<String> = given.take(need).collect();
        given.reverse();
        Ok(given)
    }

    fn is_too_old(&self, item: &Item) -> bool {
        let now = self.runner.parts().clock.now().0;
        item.decided_at_ms.is_some_and(|decided| now - decided > TOO_OLD_MS)
    }
}

// === what is told ===

/// How a rollout stands, for people who are told once for each change that matters to them.
fn item(id: &RolloutId, view: &RolloutView, public_url: Option<&str>, at: Timestamp) -> Item {
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
    let urgent = standing != NewsStanding::UnderWay || view.phase == "paused";
    let (change, verdict) = (key.clone(), view.verdict.clone());
    let evidence = &view.evidence;
    let canary = compared(view, &view.canary, (evidence.canary_requests, evidence.canary_errors));
    let stable = compared(view, &view.stable, (evidence.stable_requests, evidence.stable_errors));
    let (ask, approved) = (ask(view), Vec::new());
    let news = News {
        rollout,
        policy,
        revision,
        standing,
        text,
        url,
        change,
        urgent,
        at,
        canary,
        stable,
        verdict,
        ask,
        approved,
    };
    Item { key, news, decided_at_ms: view.decided_at_ms, last: view.finished, over: None }
}

fn compared(view: &RolloutView, node: &str, (requests, failed): (u64, u64)) -> Compared {
    Compared { node: node.to_owned(), weight: view.weights.get(node).copied().unwrap_or(0), requests, failed }
}

/// What people are asked for. A pause that took the weight away asks for nothing.
fn ask(view: &RolloutView) -> Option<Ask> {
    let approval = view.approval.as_ref()?;
    let paused = (view.phase == "paused").then(|| format!("paused: {}", view.reason.as_deref().unwrap_or_default()));
    Some(Ask {
        step: view.step?,
        channel: approval.slack.clone(),
        from: approval.from.clone(),
        need: approval.need,
        given: approval.given.clone(),
        until: view.until_ms.map(Timestamp),
        on_timeout: approval.on_timeout.clone(),
        held: paused.or_else(|| view.frozen.clone()),
    })
}

fn trouble(view: &RolloutView) -> String {
    view.trouble.clone().unwrap_or_else(|| view.verdict.clone())
}

#[cfg(test)]
mod tests;
