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
use crate::policy::plan::{Notice, NoticeKind, SlackNotice};
use crate::ports::{Ask, Compared, News, NewsCursor, NewsStanding, Notices};
use crate::rollout::event::{Command, Event};
use crate::rollout::view::RolloutView;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

/// Inputs that are read at once when it is behind.
const PAGE: u32 = 1000;
/// The first wait after a place, or the store, did not answer; doubled up to [`LONGEST_WAIT`].
const SHORTEST_WAIT: Millis = Millis::from_seconds(1);
/// Places have outages of hours: a minute is soon enough after one.
const LONGEST_WAIT: Millis = Millis::from_seconds(60);
/// An end that could not be told for so long is told no more: whoever waited for it has looked elsewhere.
const TOO_OLD_MS: i64 = 24 * 3600 * 1000;
/// How far it has come is noted after so many inputs even where nothing is told.
const NOTE_AFTER: u64 = 1000;
/// Places that are told at once: enough that one slow place does not hold up the others, and few enough to be polite.
const AT_ONCE: usize = 8;
/// How the key of a rollout begins whose weight cannot be taken back.
const STUCK: &str = "stuck";
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
    /// Tellings under way, each of one place.
    telling: JoinSet<Telling>,
    /// The last input that was taken in, and the last one that was noted.
    position: u64,
    noted: u64,
    /// Whether anything was told since.
    told_any: bool,
}

struct Followed {
    places: Vec<Place>,
    /// Step of the approval that people were asked for when it was looked at last.
    asked: Option<usize>,
}

/// A place that is told of one rollout.
struct Place {
    notice: Notice,
    /// What was told last, without what changes every second.
    told: Option<String>,
    /// What is to be told.
    open: Option<Item>,
    /// Whether it is being told.
    is_busy: bool,
    /// Set while it does not answer: when it is asked again.
    not_before: Option<Timestamp>,
    /// How long that takes the next time.
    wait: Millis,
    /// Whether nothing will follow what it is told last.
    is_last: bool,
}

#[derive(Clone)]
struct Item {
    key: String,
    news: News,
    /// When the end was decided, in milliseconds.
    decided_at_ms: Option<i64>,
    /// Set where an approval was given whose givers are to be looked up: its step.
    given: Option<usize>,
}

/// What came of telling a place.
struct Telling {
    rollout: RolloutId,
    place: usize,
    key: String,
    outcome: Result<(), Fault>,
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
        let (followed, telling) = (BTreeMap::new(), JoinSet::new());
        let (position, noted, told_any) = (0, 0, false);
        Self { runner, cursor, kind, notices, public_url, followed, telling, position, noted, told_any }
    }

    /// Goes on until it is dropped, or the runner ends.
    pub async fn follow(mut self) {
        let mut changes = self.runner.changes();
        while let Err(fault) = self.begin().await {
            tracing::warn!(%fault, "news are not followed yet");
            tokio::time::sleep(SHORTEST_WAIT.duration()).await;
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
                    tokio::time::sleep(SHORTEST_WAIT.duration()).await;
                    true
                }
            };
            self.tell();
            self.note().await;
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

    /// Waits for one change, for the end of a telling, or until it is time to tell again.
    async fn listen(&mut self, changes: &mut Receiver<Change>) -> Result<Heard, Fault> {
        let now = self.now();
        let open = self.followed.values().flat_map(|followed| &followed.places).filter(|place| place.is_open());
        let next = open.filter_map(|place| place.not_before).min();
        let retry = async {
            match next {
                Some(next) => tokio::time::sleep(next.since(now).duration()).await,
                None => std::future::pending().await,
            }
        };
        let changed = tokio::select! {
            changed = changes.recv() => changed,
            Some(told) = self.telling.join_next() => {
                self.was_told(told);
                return Ok(Heard::All);
            }
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
        let (can_tell, kind, now) = (self.notices.is_some(), self.kind, self.now());
        let followed = self.followed.entry(id.clone()).or_insert_with(|| {
            let mut places: Vec<Notice> = places.into_iter().filter(|place| place.kind() == kind).collect();
            if !can_tell && !places.is_empty() {
                let (policy, to, needs) = (&view.policy, kind.name(), kind.needs());
                tracing::warn!(rollout = %id, policy, "nobody is told at {to} how it goes: `{needs}` is not set");
                places.clear();
            }
            Followed { places: places.into_iter().map(Place::new).collect(), asked: None }
        });
        if !followed.places.is_empty() {
            let item = item(id, view, self.public_url.as_deref(), now);
            let asked = item.news.ask.as_ref().map(|ask| ask.step);
            let before = std::mem::replace(&mut followed.asked, asked);
            // Past the step: what else ends a question gives no approval.
            let passed = |before: &usize| view.step.is_some_and(|step| step > *before) || view.is_success();
            let given = before.filter(|before| asked != Some(*before)).filter(passed);
            followed.places.iter_mut().for_each(|place| place.take_in(&item, given, view));
        }
        self.forget(id, view.finished);
    }

    /// Lets go of a rollout that has ended and of which all was told.
    fn forget(&mut self, id: &RolloutId, is_finished: bool) {
        let is_told = |followed: &Followed| followed.places.iter().all(|place| !place.is_open() && !place.is_busy);
        if is_finished && self.followed.get(id).is_some_and(is_told) {
            self.followed.remove(id);
        }
    }

    /// Begins to tell what there is to tell, a few places at a time and each of a rollout by itself.
    fn tell(&mut self) {
        let (now, notices) = (self.now(), self.notices.clone());
        let Some(notices) = notices else { return };
        for (id, followed) in &mut self.followed {
            for (number, place) in followed.places.iter_mut().enumerate() {
                let is_due = !place.is_busy && place.not_before.is_none_or(|time| time <= now);
                let Some(item) = place.open.clone().filter(|_| is_due) else { continue };
                if self.telling.len() >= AT_ONCE {
                    return;
                }
                place.is_busy = true;
                let (runner, notices) = (self.runner.clone(), Arc::clone(&notices));
                let (id, notice) = (id.clone(), place.notice.clone());
                self.telling.spawn(async move {
                    let (key, outcome) = (item.key.clone(), tell_one(&runner, &notices, &id, &notice, item).await);
                    Telling { rollout: id, place: number, key, outcome }
                });
            }
        }
    }

    /// Notes what came of telling a place.
    fn was_told(&mut self, told: Result<Telling, tokio::task::JoinError>) {
        let Ok(Telling { rollout, place: number, key, outcome }) = told else {
            tracing::error!("telling a place broke off; the rollout's next change is told again");
            self.followed
                .values_mut()
                .flat_map(|followed| &mut followed.places)
                .for_each(|place| place.is_busy = false);
            return;
        };
        let now = self.now();
        let Some(place) = self.followed.get_mut(&rollout).and_then(|followed| followed.places.get_mut(number)) else {
            return;
        };
        place.is_busy = false;
        if let Err(fault) = outcome {
            tracing::warn!(rollout = %rollout, %fault, "a place was not told how the rollout goes");
            if fault.kind != FaultKind::Permanent {
                place.not_before = Some(now.plus(place.wait));
                place.wait = Millis(place.wait.0 * 2).min(LONGEST_WAIT);
                return;
            }
        }
        self.told_any = true;
        place.open = place.open.take().filter(|open| open.key != key);
        (place.told, place.not_before, place.wait) = (Some(key), None, SHORTEST_WAIT);
        let is_over = place.open.is_none() && place.is_last;
        self.forget(&rollout, is_over);
    }

    /// Notes how far it has come, once all was told.
    async fn note(&mut self) {
        let mut places = self.followed.values().flat_map(|followed| &followed.places);
        let all_told = places.all(|place| !place.is_open() && !place.is_busy);
        if !all_told || !self.told_any && self.position - self.noted < NOTE_AFTER {
            return;
        }
        match self.cursor.set_told(self.kind, self.position).await {
            Ok(()) => (self.noted, self.told_any) = (self.position, false),
            Err(fault) => tracing::warn!(%fault, "how far news were told was not noted; some may be told twice"),
        }
    }

    fn now(&self) -> Timestamp {
        self.runner.parts().clock.now()
    }
}

impl Place {
    fn new(notice: Notice) -> Self {
        let (told, open, is_busy, not_before, is_last) = (None, None, false, None, false);
        Self { notice, told, open, is_busy, not_before, wait: SHORTEST_WAIT, is_last }
    }

    fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes in how the rollout stands: whatever was open is that no longer.
    fn take_in(&mut self, item: &Item, given: Option<usize>, view: &RolloutView) {
        let mut item = item.clone();
        // Only who is asked reads what changes all the time.
        if let (Some(ask), Notice::Slack(SlackNotice { asks: true, .. })) = (&item.news.ask, &self.notice) {
            item.key += &format!(" {:?} {:?} {}", ask.given, ask.held, item.news.at.0 / RENEWED_MS);
        }
        self.is_last = view.finished;
        // Between two tries to take the weight back, or a preview's route away, nothing has changed for anybody.
        let is_stuck = |told: &String| told.starts_with(STUCK);
        if matches!(view.phase.as_str(), "rolling_back" | "holding") && self.told.as_ref().is_some_and(is_stuck) {
            self.open = None;
            return;
        }
        item.given = given.or(self.open.as_ref().and_then(|open| open.given));
        self.open = Some(item).filter(|item| self.told.as_ref() != Some(&item.key));
    }
}

/// Tells a place.
async fn tell_one(
    runner: &Runner,
    notices: &Arc<dyn Notices>,
    id: &RolloutId,
    place: &Notice,
    item: Item,
) -> Result<(), Fault> {
    let now = runner.parts().clock.now().0;
    if item.decided_at_ms.is_some_and(|decided| now - decided > TOO_OLD_MS) {
        tracing::warn!(rollout = %id, "its end was decided more than a day ago, and is told no more");
        return Ok(());
    }
    let mut news = item.news;
    if let Some(step) = item.given {
        news.approved = approved(runner, id, step).await?;
    }
    notices.tell(place, &news).await
}

/// Who approved a step, as the journal has it: the names in which they did. Those of a step that was asked for more than
/// once are those of the last time.
async fn approved(runner: &Runner, id: &RolloutId, step: usize) -> Result<Vec<String>, Fault> {
    let Some(stored) = runner.parts().journal.get(id).await? else { return Ok(Vec::new()) };
    let need = match stored.plan.steps.get(step.saturating_sub(1)) {
        Some(crate::policy::plan::Step::Approval(approval)) => approval.need as usize,
        Some(crate::policy::plan::Step::Weight(_)) | None => return Ok(Vec::new()),
    };
    let inputs = runner.parts().journal.inputs(id).await?;
    let given = inputs.into_iter().rev().filter_map(|row| match row.input.event {
        Event::Command { command: Command::Approve { person, .. }, actor } => Some(person.unwrap_or(actor.name)),
        _ => None,
    });
    let mut given: Vec<String> = given.take(need).collect();
    given.reverse();
    Ok(given)
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
        (Some(_), "stuck") => (NewsStanding::Failed, format!("stuck, look at it: {}", trouble(view))),
        (Some("rolled_back"), _) => (NewsStanding::Failed, format!("rolled back: {}", reason())),
        (Some(_), _) => (NewsStanding::Stopped, reason()),
        (None, "deploying") => (NewsStanding::UnderWay, view.verdict.clone()),
        (None, phase) if phase != "paused" && view.preview.is_some() => (NewsStanding::UnderWay, view.verdict.clone()),
        (None, "paused") => (NewsStanding::UnderWay, format!("{weight} %, paused: {}", reason())),
        (None, "awaiting_approval") => (NewsStanding::UnderWay, format!("{weight} %, waits for an approval")),
        (None, _) => (NewsStanding::UnderWay, format!("{weight} %: {}", view.verdict)),
    };
    let key = match (&view.outcome, view.phase.as_str()) {
        (Some(_), "stuck") => format!("{STUCK} {text}"),
        (Some(_), _) => format!("{standing:?} {text}"),
        (None, "deploying") => format!("deploying {weight}"),
        (None, phase) if phase != "paused" && view.preview.is_some() => "preview".to_owned(),
        // Each time anew: people are asked again, or wait again.
        (None, "awaiting_approval") => format!("awaiting_approval {weight} {}", view.phase_since),
        (None, "paused") => format!("{standing:?} {text} {}", view.paused_since.as_deref().unwrap_or_default()),
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
    Item { key, news, decided_at_ms: view.decided_at_ms, given: None }
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
