//! Takes events from outside and follows them: kept first, with the identifiers that their rollouts will have, then
//! started, then noted. A process may end between any two of these: the next one takes up every start without an outcome
//! ([`Inbox::resume`]), finds what had begun by its identifier, and begins what had not.
//!
//! One clerk for each policy works on its starts, in their order, and ends when there are none left. An answer waits for
//! the clerk, but for less than a second: what takes longer is `pending`, and is looked at by the identifier.

use super::clerk;
use super::event::{Delivery, Event, Source};
use super::matching::{Matched, Unmatched, Wanted, matched};
use crate::base::fault::Fault;
use crate::base::ids::RolloutId;
use crate::base::time::{Millis, Timestamp};
use crate::clock::{Clock, new_rollout_id};
use crate::ports::{Deliveries, HookOutcome, HookStart, Received};
use crate::rollout::event::Actor;
use crate::rollout::view::RolloutView;
use crate::runner::handle::Runner;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// An answer is given by then: senders wait for five or ten seconds, and some count slow answers as failures.
const ANSWER: Duration = Duration::from_millis(900);

/// Where events from outside arrive. Cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) runner: Runner,
    pub(super) deliveries: Arc<dyn Deliveries>,
    pub(super) clock: Arc<dyn Clock>,
    desks: Mutex<Desks>,
    /// Rises whenever a start gets its outcome, or something to wait for.
    moved: watch::Sender<u64>,
}

#[derive(Default)]
struct Desks {
    clerks: BTreeMap<String, Desk>,
    /// What a start waits for, while it does.
    waiting: BTreeMap<RolloutId, String>,
    /// Since when something that a start needs does not answer.
    faulty_since: BTreeMap<RolloutId, Timestamp>,
}

/// One policy's clerk, seen from outside.
struct Desk {
    /// Whether there may be something new since it last looked.
    again: bool,
    bell: Arc<Notify>,
    /// Held by whoever decides about the policy's starts.
    deciding: Arc<tokio::sync::Mutex<()>>,
}

/// What comes of a request with events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// Rollouts that began, or are to: policy and identifier.
    pub rollouts: Vec<(String, RolloutId)>,
    /// Why nothing else began.
    pub nothing: Vec<String>,
    /// What could not begin: what stood in the way, and what to do about it.
    pub refused: Vec<(String, String)>,
    /// Whether some of the rollouts have not begun yet.
    pub pending: bool,
    /// Whether all of it was seen before.
    pub repeated: bool,
}

/// Why events were not taken. Nothing was kept then.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The policy that was named cannot be started.
    #[error(transparent)]
    Unmatched(#[from] Unmatched),
    /// They could not be kept, or compared with the policies.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Inbox {
    /// An inbox that starts rollouts by a runner.
    #[must_use]
    pub fn new(runner: Runner, deliveries: Arc<dyn Deliveries>, clock: Arc<dyn Clock>) -> Self {
        let (desks, moved) = (Mutex::default(), watch::Sender::new(0));
        Self { shared: Arc::new(Shared { runner, deliveries, clock, desks, moved }) }
    }

    /// The time, by which signatures are checked and starts are noted.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Takes up every start that has no outcome yet; answers how many. To be called when this process begins to drive.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn resume(&self) -> Result<usize, Fault> {
        let open = self.shared.deliveries.open().await?;
        for start in &open {
            self.wake(&start.policy);
        }
        Ok(open.len())
    }

    /// Takes events that one request brought, and follows them. Whoever calls has verified where they come from.
    ///
    /// # Errors
    /// [`TakeError`]. Events of the same request before the one at fault were taken; a repetition of the request is safe.
    pub async fn take(&self, source: Source, deliveries: Vec<Delivery>) -> Result<Taken, TakeError> {
        self.take_by("hook", source, deliveries).await
    }

    /// The same for events that came another way: `way` and the source are how the actor of a start is said to have come.
    ///
    /// # Errors
    /// As of [`Inbox::take`].
    pub async fn take_by(&self, way: &str, source: Source, deliveries: Vec<Delivery>) -> Result<Taken, TakeError> {
        let answer_by = tokio::time::sleep(ANSWER);
        let mut taken = Taken { repeated: true, ..Taken::default() };
        let mut starts = Vec::new();
        for delivery in deliveries {
            let (received, repeated) = self.receive(way, source, delivery).await?;
            taken.repeated &= repeated;
            taken.nothing.extend(received.nothing);
            starts.extend(received.starts);
        }
        taken.repeated &= !starts.is_empty() || !taken.nothing.is_empty();
        tokio::pin!(answer_by);
        let mut moved = self.shared.moved.subscribe();
        loop {
            moved.borrow_and_update();
            if self.look_again(&mut starts).await? {
                break;
            }
            tokio::select! {
                _ = moved.changed() => {}
                () = &mut answer_by => break,
            }
        }
        for start in starts {
            match start.outcome {
                Some(HookOutcome::Nothing { why }) => taken.nothing.push(format!("policy `{}`: {why}", start.policy)),
                Some(HookOutcome::Refused { why, hint }) => {
                    taken.refused.push((format!("policy `{}`: {why}", start.policy), hint));
                }
                Some(HookOutcome::Started) => taken.rollouts.push((start.policy, start.rollout)),
                None => {
                    taken.pending = true;
                    taken.rollouts.push((start.policy, start.rollout));
                }
            }
        }
        Ok(taken)
    }

    /// Keeps one event, unless it was seen before; answers it as it is kept, and whether it was seen.
    async fn receive(&self, way: &str, source: Source, delivery: Delivery) -> Result<(Received, bool), TakeError> {
        let at = self.shared.clock.now();
        let mut received = Received {
            ids: delivery.ids,
            source: source.name().to_owned(),
            at,
            nothing: Vec::new(),
            starts: Vec::new(),
        };
        let policies = match &delivery.event {
            // Whatever the policies are: nothing to keep, and the same answer each time.
            Event::Ping | Event::Nothing(_) => {
                received.nothing = matched(&delivery.event, &[])?.nothing;
                return Ok((received, false));
            }
            Event::Image(_) | Event::Workflow(_) | Event::Start(_) => {
                if let Some(seen) = self.shared.deliveries.seen(&received.ids).await? {
                    return Ok((seen, true));
                }
                self.shared.runner.policies().await?
            }
        };
        let Matched { wanted, nothing } = matched(&delivery.event, &policies)?;
        received.nothing = nothing;
        received.starts = wanted.into_iter().map(|wanted| start(way, source, at, wanted)).collect();
        if !self.shared.deliveries.receive(&received).await? {
            // The same came twice at once.
            let seen = self.shared.deliveries.seen(&received.ids).await?;
            let gone = || Fault::transient("deliveries", "the same delivery was just forgotten; send it again");
            return Ok((seen.ok_or_else(gone)?, true));
        }
        for start in &received.starts {
            let HookStart { rollout, policy, actor, .. } = start;
            tracing::info!(%rollout, %policy, by = %actor, "start asked for");
            self.wake(policy);
        }
        Ok((received, false))
    }

    /// Reads the starts anew; whether each has an outcome or waits for something.
    async fn look_again(&self, starts: &mut [HookStart]) -> Result<bool, Fault> {
        let mut settled = true;
        for start in starts.iter_mut().filter(|start| start.outcome.is_none()) {
            // Before the store is asked: a start that has its outcome waits no longer.
            let waits = self.shared.desks().waiting.contains_key(&start.rollout);
            if let Some(now) = self.shared.deliveries.start(&start.rollout).await? {
                start.outcome = now.outcome;
            }
            settled &= start.outcome.is_some() || waits;
        }
        Ok(settled)
    }

    /// A start that has not begun its rollout, as one looks at a rollout; `None` for an identifier that none has.
    ///
    /// # Errors
    /// [`NotBegun::Over`] when it never will; the store's fault.
    pub async fn pending(&self, id: &str) -> Result<Option<RolloutView>, NotBegun> {
        let id = RolloutId(id.to_owned());
        let Some(start) = self.shared.deliveries.start(&id).await? else { return Ok(None) };
        match &start.outcome {
            None => Ok(Some(self.view(&start))),
            Some(HookOutcome::Started) => Ok(None),
            Some(HookOutcome::Nothing { why }) => Err(NotBegun::Over(why.clone())),
            Some(HookOutcome::Refused { why, hint }) => Err(NotBegun::Over(format!("{why} ({hint})"))),
        }
    }

    /// Every start that has not begun its rollout.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn all_pending(&self) -> Result<Vec<RolloutView>, Fault> {
        let open = self.shared.deliveries.open().await?;
        Ok(open.iter().map(|start| self.view(start)).collect())
    }

    pub(super) fn view(&self, start: &HookStart) -> RolloutView {
        let waiting = self.shared.desks().waiting.get(&start.rollout).cloned();
        let why = waiting.unwrap_or_else(|| "it is about to begin".to_owned());
        let HookStart { rollout, policy, image, revision, actor, at, .. } = start;
        RolloutView::pending(rollout, policy, image.clone(), revision.clone(), actor.clone(), *at, why)
    }

    /// Gives up a start that has not begun its rollout; `false` when there is none, or it has.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn give_up(&self, id: &str, why: String) -> Result<bool, Fault> {
        let id = RolloutId(id.to_owned());
        let Some(start) = self.shared.deliveries.start(&id).await? else { return Ok(false) };
        let deciding = self.shared.desks().clerks.get(&start.policy).map(|desk| Arc::clone(&desk.deciding));
        // Without a clerk there is nothing open.
        let Some(deciding) = deciding else { return Ok(false) };
        let _deciding = deciding.lock().await;
        let still = self.shared.deliveries.start(&id).await?.is_some_and(|start| start.outcome.is_none());
        if !still || self.shared.runner.reserved(&id).await?.is_some() {
            return Ok(false);
        }
        self.shared.settle(&start, HookOutcome::Nothing { why }).await?;
        Ok(true)
    }

    /// Has the policy's clerk look, and gives it one if it has none.
    pub(super) fn wake(&self, policy: &str) {
        let mut desks = self.shared.desks();
        if let Some(desk) = desks.clerks.get_mut(policy) {
            desk.again = true;
            desk.bell.notify_one();
            return;
        }
        let (bell, deciding) = (Arc::<Notify>::default(), Arc::default());
        let desk = Desk { again: false, bell: Arc::clone(&bell), deciding: Arc::clone(&deciding) };
        desks.clerks.insert(policy.to_owned(), desk);
        tokio::spawn(clerk::work(Arc::clone(&self.shared), policy.to_owned(), bell, deciding));
    }
}

/// Why a start has begun no rollout.
#[derive(Debug, thiserror::Error)]
pub enum NotBegun {
    /// It came to nothing.
    #[error("it began no rollout: {0}")]
    Over(String),
    /// It cannot be told.
    #[error(transparent)]
    Fault(#[from] Fault),
}

fn start(way: &str, source: Source, at: Timestamp, wanted: Wanted) -> HookStart {
    let Wanted { policy, image, revision, by } = wanted;
    let (name, via) = (by.unwrap_or_else(|| "somebody".to_owned()), format!("{way}:{}", source.name()));
    let (rollout, actor) = (new_rollout_id(), Actor { name, via });
    HookStart { rollout, policy, image, revision, actor, at, not_before: None, outside_windows: None, outcome: None }
}

impl Shared {
    fn desks(&self) -> std::sync::MutexGuard<'_, Desks> {
        // Valid after any panic: every change is one insert, remove or flag.
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what came of a start, and tells whoever waits for it.
    pub(super) async fn settle(&self, start: &HookStart, outcome: HookOutcome) -> Result<(), Fault> {
        self.deliveries.settle(&start.rollout, &outcome).await?;
        let HookStart { rollout, policy, .. } = start;
        match &outcome {
            HookOutcome::Started => {}
            HookOutcome::Nothing { why } => tracing::info!(%rollout, %policy, why, "start came to nothing"),
            HookOutcome::Refused { why, hint } => tracing::warn!(%rollout, %policy, why, hint, "start was refused"),
        }
        let mut desks = self.desks();
        desks.waiting.remove(rollout);
        desks.faulty_since.remove(rollout);
        drop(desks);
        self.tell();
        Ok(())
    }

    /// Says what a start waits for.
    pub(super) fn waits(&self, start: &HookStart, why: &str) {
        let before = self.desks().waiting.insert(start.rollout.clone(), why.to_owned());
        if before.as_deref() != Some(why) {
            tracing::info!(rollout = %start.rollout, policy = %start.policy, why, "start waits");
            self.tell();
        }
    }

    /// How long something that a start needs has not answered, this time included.
    pub(super) fn faulty_for(&self, start: &HookStart) -> Millis {
        let now = self.clock.now();
        now.since(*self.desks().faulty_since.entry(start.rollout.clone()).or_insert(now))
    }

    /// All that a start needs has answered.
    pub(super) fn well_again(&self, start: &HookStart) {
        self.desks().faulty_since.remove(&start.rollout);
    }

    fn tell(&self) {
        self.moved.send_modify(|count| *count += 1);
    }

    /// The clerk is about to look at what there is.
    pub(super) fn begin_look(&self, policy: &str) {
        if let Some(desk) = self.desks().clerks.get_mut(policy) {
            desk.again = false;
        }
    }

    /// The clerk found nothing; whether it may go.
    pub(super) fn leave(&self, policy: &str) -> bool {
        let mut desks = self.desks();
        let again = desks.clerks.get(policy).is_some_and(|desk| desk.again);
        if !again {
            desks.clerks.remove(policy);
        }
        !again
    }
}
