//! What the API and triggers hold: starts rollouts, passes commands on, shows where things stand.

use super::checks::Checker;
use super::driver::{CommandFailure, Message};
use super::errors::nobody_drives;
pub use super::errors::{CommandError, RetryError, StartError};
use super::executor::NO_WORKLOADS;
use super::freezes::{daemon, follow_freezes, news};
use super::history::{Change, asked};
use super::keeper;
pub use super::people::StartRequest;
use super::people::{all_authors, authors, voiced};
use super::reading::Reader;
use super::signals::{Asker, NO_SIGNALS};
use super::windows;
pub use super::windows::Closed;
use crate::base::fault::Fault;
use crate::base::ids::{RolloutId, RouteRef, Seq};
use crate::base::people::People;
use crate::clock::{Clock, new_rollout_id};
use crate::policy::plan::Plan;
use crate::ports::{
    Commit, Freezes, Health, Journal, JournalError, LiveCounts, Policies, Signals, Stored, Traffic, Workloads,
};
use crate::rollout::effect::{Effect, EffectId};
use crate::rollout::event::{Actor, Command, Event, Input, ReleaseName, RouteReading, Start};
use crate::rollout::gate::weight_index;
use crate::rollout::signals::needs_stable_release;
use crate::rollout::state::{EndingKind, Phase, Refusal};
use crate::rollout::view::RolloutView;
use crate::rollout::{begin, next_deadline};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedRwLockReadGuard, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// Changes kept for a slow listener; one that falls further behind is told that it missed some and reads anew.
const CHANGES: usize = 1024;
/// A command's answer takes one commit; a store that needs longer than this is as good as down.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// The route is read so long before a start.
const START_READ_TIMEOUT: Duration = Duration::from_secs(6);

/// Drivers get so long to finish the commit that they are at.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What a runner works with.
#[derive(Clone)]
pub struct RunnerParts {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Keeps rollouts.
    pub journal: Arc<dyn Journal>,
    /// Writes weights.
    pub traffic: Arc<dyn Traffic>,
    /// Deploys releases; `None` where policies with a workload are not followed.
    pub workloads: Option<Arc<dyn Workloads>>,
    /// Reads counts.
    pub live: Arc<dyn LiveCounts>,
    /// Asks versions how they are.
    pub health: Arc<dyn Health>,
    /// Asks for signals from outside the mesh; `None` where policies with gates on them are not followed.
    pub signals: Option<Arc<dyn Signals>>,
    /// Knows policies.
    pub policies: Arc<dyn Policies>,
    /// Keeps freezes.
    pub freezes: Arc<dyn Freezes>,
    /// By what people are known.
    pub people: Arc<People>,
}

/// Drives all rollouts of this process. Cheap to clone.
#[derive(Clone)]
pub struct Runner {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) parts: RunnerParts,
    drivers: Mutex<BTreeMap<RolloutId, mpsc::Sender<Message>>>,
    /// Held while a rollout that nobody drives is taken up.
    adopting: tokio::sync::Mutex<()>,
    /// Read while a rollout begins, written while a freeze is: none begins beside it unseen.
    pub(super) freezing: Arc<tokio::sync::RwLock<()>>,
    /// Whether another process has taken the rollouts over.
    pub(super) taken_over: AtomicBool,
    /// The tasks of the drivers, to wait for at the end.
    tasks: Mutex<JoinSet<()>>,
    pub(super) stopping: watch::Sender<bool>,
    changes: broadcast::Sender<Change>,
}

impl Shared {
    pub(super) fn reader(&self) -> Reader {
        Reader { traffic: Arc::clone(&self.parts.traffic), live: Arc::clone(&self.parts.live) }
    }

    pub(super) fn checker(&self) -> Checker {
        Checker { health: Arc::clone(&self.parts.health), clock: Arc::clone(&self.parts.clock) }
    }

    pub(super) fn asker(&self) -> Asker {
        Asker { signals: self.parts.signals.clone(), clock: Arc::clone(&self.parts.clock) }
    }

    pub(super) fn publish(&self, position: u64, view: RolloutView, asked: Option<String>) {
        // Nobody listening is fine: the store has it.
        let _ = self.changes.send(Change { position, view: Arc::new(view), asked });
    }

    pub(super) fn enlist(&self, id: RolloutId, driver: mpsc::Sender<Message>) {
        self.drivers().insert(id, driver);
    }

    pub(super) fn forget(&self, id: &RolloutId) {
        self.drivers().remove(id);
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drivers(&self) -> std::sync::MutexGuard<'_, BTreeMap<RolloutId, mpsc::Sender<Message>>> {
        // The map is valid after any panic: every change to it is one insert or remove.
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runner {
    /// A runner without rollouts; see [`Runner::resume`].
    #[must_use]
    pub fn new(parts: RunnerParts) -> Self {
        let (changes, _) = broadcast::channel(CHANGES);
        let (drivers, adopting, tasks) = (Mutex::default(), tokio::sync::Mutex::default(), Mutex::default());
        let (stopping, taken_over) = (watch::Sender::new(false), AtomicBool::new(false));
        let freezing = Arc::default();
        Self { shared: Arc::new(Shared { parts, drivers, adopting, freezing, taken_over, tasks, stopping, changes }) }
    }

    /// Takes up every stored rollout that is not finished; answers how many.
    ///
    /// # Errors
    /// The store's fault; nothing is driven then.
    pub async fn resume(&self) -> Result<usize, Fault> {
        let mut live = Vec::new();
        for stored in self.shared.parts.journal.live().await? {
            let effects = self.shared.parts.journal.unsettled(&stored.state.id).await?;
            live.push((stored, effects));
        }
        let (count, in_force) = (live.len(), self.freezes().await?);
        for (stored, effects) in live {
            tracing::info!(rollout = %stored.state.id, policy = %stored.plan.name, "rollout resumed");
            // Kept while nobody drove: heard before anything else.
            let news = news(&stored, &in_force, &daemon());
            self.drive(stored, effects, news);
        }
        self.shared.tasks().spawn(follow_freezes(self.clone()));
        Ok(count)
    }

    fn drive(&self, stored: Stored, effects: Vec<(EffectId, Effect)>, first: Option<(Command, Actor)>) {
        let id = stored.state.id.clone();
        let driver = keeper::enlist(&self.shared, stored);
        if let (Some((command, actor)), Some(inbox)) = (first, self.shared.drivers().get(&id)) {
            let (answer, _) = oneshot::channel();
            // Its inbox is empty, and whether it was followed is seen by the next look at freezes.
            let _ = inbox.try_send(Message::Command(command, actor, answer));
        }
        let mut tasks = self.shared.tasks();
        // Those that have ended are let go of here, so that the set is no longer than the list of live rollouts.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(keeper::keep(Arc::clone(&self.shared), id, driver, effects));
    }

    /// Stops driving: every rollout stays where it stands on disk, to be taken up by the next process. An effect under
    /// way is abandoned; its intent is on disk too, and carrying it out twice does no harm.
    pub async fn stop(&self) {
        self.shared.stopping.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.shared.tasks());
        // What is left when the time is over (a store that hangs) is aborted with the set.
        let _ = tokio::time::timeout(STOP_TIMEOUT, async { while tasks.join_next().await.is_some() {} }).await;
    }

    /// Starts a rollout.
    ///
    /// # Errors
    /// [`StartError`]; nothing was changed then.
    pub async fn start(&self, request: &StartRequest, actor: Actor) -> Result<RolloutView, StartError> {
        let plan = self.shared.parts.policies.plan(&request.policy).await?;
        self.start_by(plan, request, actor, new_rollout_id()).await
    }

    /// Starts a rollout like one that was rolled back or aborted, at the step where that one failed: same plan, same
    /// slot, same revision. The evidence begins anew. `outside_windows` is why it may although no window is open.
    ///
    /// # Errors
    /// [`CommandError::Refused`] unless it ended so; else what a start can come to.
    pub async fn retry(
        &self,
        name: &str,
        outside_windows: Option<String>,
        actor: Actor,
    ) -> Result<RolloutView, RetryError> {
        let view = self.get(name).await.map_err(|fault| CommandError::NotWritten(fault.to_string()))?;
        let view = view.ok_or_else(|| CommandError::NotFound(name.to_owned()))?;
        let stored = self.shared.parts.journal.get(&RolloutId(view.id.clone())).await;
        let stored = stored.map_err(|fault| CommandError::NotWritten(fault.to_string()))?;
        let stored = stored.ok_or_else(|| CommandError::NotFound(name.to_owned()))?;
        let ended = stored.state.ending.as_ref().filter(|_| stored.state.is_finished());
        let failed = ended.filter(|ending| matches!(ending.kind, EndingKind::RolledBack | EndingKind::Aborted));
        let Some(failed) = failed else {
            let refusal = Refusal {
                message: format!("cannot retry rollout {} of {}: it is {}", view.id, view.policy, view.phase),
                hint: "a rollout that was rolled back or aborted can be retried".to_owned(),
            };
            return Err(CommandError::Refused(refusal).into());
        };
        // An approval is asked for again, at the weight that it was asked for at.
        let at_step = failed.at_step.unwrap_or(0);
        let request = StartRequest {
            policy: stored.plan.name.clone(),
            to: Some(view.canary),
            revision: view.revision,
            image: view.image,
            first_step: weight_index(&stored.plan, at_step).unwrap_or(at_step),
            authors: authors(&stored.state),
            outside_windows,
        };
        let mut plan = stored.plan;
        // When a rollout may begin is what the policy says today; what it does is what that one did.
        if let Ok(present) = self.plan(&plan.name).await {
            plan.start = present.start;
        }
        Ok(self.start_by(plan, &request, actor, new_rollout_id()).await?)
    }

    /// Asked before the route is read: a live rollout's weights would look like a route that nobody decided about, and
    /// the advice for that would undo the rollout. `Journal::begin` asks again, in its transaction. Answers the one that
    /// only cleans up behind itself, and can make way.
    async fn no_other_live(&self, route: &RouteRef) -> Result<Option<RolloutId>, JournalError> {
        let live = self.shared.parts.journal.live().await?;
        let Some(Stored { state, .. }) = live.into_iter().find(|stored| stored.plan.route == *route) else {
            return Ok(None);
        };
        if let Phase::Cleaning { .. } = state.phase {
            return Ok(Some(state.id));
        }
        let (since, by) = (state.started_at.rfc3339(), state.started_by.to_string());
        Err(JournalError::AlreadyLive { id: state.id, route: route.clone(), since, by })
    }

    /// Whether this process has what a plan needs.
    fn equipped(&self, plan: &Plan) -> Result<(), Refusal> {
        let parts = &self.shared.parts;
        let unfit = plan.workload.as_ref().and_then(|workload| match &parts.workloads {
            Some(workloads) => workloads.unfit(&workload.target),
            None => Some(NO_WORKLOADS.to_owned()),
        });
        if let Some(message) = unfit {
            let hint = "run the service with access to it, or take `workload` out and start the versions yourself";
            return Err(Refusal { message, hint: hint.to_owned() });
        }
        if let (Some((gate, _)), None) = (plan.signals().next(), &parts.signals) {
            let message = format!("gate {} cannot be asked: {NO_SIGNALS}", gate.name);
            let hint = "start it with `tidegate serve`, which can, or take the gate out".to_owned();
            return Err(Refusal { message, hint });
        }
        Ok(())
    }

    pub(super) async fn start_by(
        &self,
        plan: Plan,
        request: &StartRequest,
        actor: Actor,
        id: RolloutId,
    ) -> Result<RolloutView, StartError> {
        let parts = &self.shared.parts;
        self.not_frozen(&plan.name).await?;
        let may_begin = |at| windows::pass(&plan, request.outside_windows.as_deref(), at);
        may_begin(parts.clock.now()).map_err(StartError::OutsideWindows)?;
        if *self.shared.stopping.borrow() {
            let fault = Fault::transient("runner", "this daemon is stopping and starts nothing any more");
            return Err(StartError::Journal(JournalError::Fault(fault)));
        }
        self.equipped(&plan).map_err(StartError::Refused)?;
        let cleaning = self.no_other_live(&plan.route).await.map_err(StartError::Journal)?;
        let read = tokio::time::timeout(START_READ_TIMEOUT, parts.traffic.read(&plan.route)).await;
        let (route, remembered) = read
            .unwrap_or_else(|_| Err(Fault::transient("app mesh", "no answer in time")))
            .map_err(StartError::Route)?;
        let written = parts.journal.last_generation(&plan.route).await;
        let written = written.map_err(|fault| StartError::Journal(JournalError::Fault(fault)))?;
        let baseline = self.baseline(&plan, &route).await;
        let past = self.past(&plan).await;
        let stable = self.stable_release(&plan, &route).await.map_err(|fault| StartError::Journal(fault.into()))?;
        let at = parts.clock.now();
        let outside_windows = may_begin(at).map_err(StartError::OutsideWindows)?;
        let start = Start {
            to: request.to.clone(),
            revision: request.revision.clone(),
            image: request.image.clone(),
            route,
            author: all_authors(request, &actor, &parts.people),
            first_step: request.first_step,
            outside_windows,
            last_generation: written.max(remembered),
            stable,
            baseline,
            past: Box::new(past),
        };
        let event = Event::Command { command: Command::Start(start), actor };
        let input = Input { seq: Seq(1), at, event };
        let (state, effects) = begin(&plan, id, &input).map_err(StartError::Refused)?;
        self.may_preview(&plan, &state).await?;
        let next_deadline = next_deadline(&plan, &state);
        let commit = Commit { state, input, effects, settles: None, next_deadline };
        let no_freeze_meanwhile = Arc::clone(&self.shared.freezing).read_owned().await;
        self.not_frozen(&plan.name).await?;
        if let Some(id) = cleaning {
            self.make_way(&id).await?;
        }
        // A task of its own: a client that hangs up must not leave a rollout behind that nobody drives.
        match tokio::spawn(self.clone().begin(plan, commit, no_freeze_meanwhile)).await {
            Ok(begun) => begun,
            Err(_) => {
                let fault = Fault::unknown("runner", "the start broke off; the daemon's log says more");
                Err(StartError::Journal(fault.into()))
            }
        }
    }

    /// Ends a rollout that has decided everything and only keeps its old slot for a while.
    async fn make_way(&self, id: &RolloutId) -> Result<(), StartError> {
        let daemon = Actor { name: "tidegate".to_owned(), via: "daemon".to_owned() };
        match self.command(&id.0, Command::MakeWay, daemon).await {
            Ok(_) => Ok(()),
            Err(CommandError::Refused(refusal)) => Err(StartError::Refused(refusal)),
            Err(error @ (CommandError::NotFound(_) | CommandError::NotWritten(_))) => {
                Err(StartError::Journal(Fault::transient("runner", error.to_string()).into()))
            }
        }
    }

    async fn begin(
        self,
        plan: Plan,
        commit: Commit,
        _no_freeze_meanwhile: OwnedRwLockReadGuard<()>,
    ) -> Result<RolloutView, StartError> {
        let position = self.parts().journal.begin(&plan, &commit).await.map_err(StartError::Journal)?;
        let asked = asked(&commit.input.event);
        let stored = Stored { plan, state: commit.state };
        let view = RolloutView::of(&stored.plan, &stored.state);
        tracing::info!(rollout = %view.id, policy = %view.policy, canary = %view.canary, by = %view.started_by, "rollout started");
        self.shared.publish(position, view.clone(), asked);
        self.drive(stored, commit.effects, None);
        Ok(view)
    }

    /// Takes up a rollout that is stored and that nobody drives: its start was reported as failed and had been made.
    pub(super) async fn adopt(&self, id: &RolloutId) -> Result<(), Fault> {
        let _one_at_a_time = self.shared.adopting.lock().await;
        let ours = !self.shared.taken_over.load(Ordering::SeqCst) && !*self.shared.stopping.borrow();
        if !ours || self.shared.drivers().contains_key(id) {
            return Ok(());
        }
        let journal = &self.parts().journal;
        let stored = journal.get(id).await?.filter(|stored| !stored.state.is_finished());
        if let Some(stored) = stored {
            let effects = journal.unsettled(id).await?;
            tracing::warn!(rollout = %id, "rollout taken up: nobody drove it");
            let news = news(&stored, &self.freezes().await?, &daemon());
            self.drive(stored, effects, news);
        }
        Ok(())
    }

    /// What stable runs, for the gates that ask about it: what the last rollout that succeeded gave it. Not known where
    /// somebody has moved the traffic to the other version since.
    async fn stable_release(&self, plan: &Plan, route: &RouteReading) -> Result<Option<ReleaseName>, Fault> {
        if !needs_stable_release(plan) {
            return Ok(None);
        }
        let last = self.shared.parts.journal.last_succeeded(&plan.route).await?;
        let Some(Stored { plan: before, state }) = last else { return Ok(None) };
        let holds = route.weight_of(before.node(state.canary)) > 0;
        let image = state.release.map(|release| release.image);
        Ok(holds.then_some(ReleaseName { revision: state.revision, image }))
    }

    /// Passes a command to a rollout, named by its identifier or by the policy whose live rollout it is.
    ///
    /// # Errors
    /// [`CommandError`]; nothing was changed then.
    pub async fn command(&self, name: &str, command: Command, actor: Actor) -> Result<RolloutView, CommandError> {
        let view = self.get(name).await.map_err(|fault| CommandError::NotWritten(fault.to_string()))?;
        let view = view.ok_or_else(|| CommandError::NotFound(name.to_owned()))?;
        let id = RolloutId(view.id.clone());
        if !view.finished && !self.shared.drivers().contains_key(&id) {
            self.adopt(&id).await.map_err(|fault| CommandError::NotWritten(fault.to_string()))?;
        }
        let driver = self.shared.drivers().get(&id).cloned();
        let Some(driver) = driver else {
            return Err(nobody_drives(&command, &view));
        };
        let (answer, answered) = oneshot::channel();
        let command = voiced(command, &actor, &self.parts().people);
        driver.try_send(Message::Command(command, actor, answer)).map_err(|error| {
            CommandError::NotWritten(match error {
                mpsc::error::TrySendError::Full(_) => "too many commands are waiting; try again".to_owned(),
                mpsc::error::TrySendError::Closed(_) => "the rollout came to its end meanwhile".to_owned(),
            })
        })?;
        match tokio::time::timeout(COMMAND_TIMEOUT, answered).await {
            Ok(Ok(Ok(view))) => Ok(view),
            Ok(Ok(Err(CommandFailure::Refused(refusal)))) => Err(CommandError::Refused(refusal)),
            Ok(Ok(Err(CommandFailure::NotWritten(error)))) => Err(CommandError::NotWritten(error.to_string())),
            Ok(Err(_)) => Err(CommandError::NotWritten("the rollout came to its end meanwhile".to_owned())),
            Err(_) => Err(CommandError::NotWritten("no answer in time; look before trying again".to_owned())),
        }
    }

    /// A rollout by its identifier, or the live one (else the newest) of a policy.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn get(&self, name: &str) -> Result<Option<RolloutView>, Fault> {
        let journal = &self.shared.parts.journal;
        if let Some(stored) = journal.get(&RolloutId(name.to_owned())).await? {
            return Ok(Some(RolloutView::of(&stored.plan, &stored.state)));
        }
        // Live ones come first, then the newest.
        let all = self.list().await?;
        Ok(all.into_iter().find(|view| view.policy == name))
    }

    /// Live rollouts, then the newest finished ones, a hundred at most.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn list(&self) -> Result<Vec<RolloutView>, Fault> {
        let stored = self.shared.parts.journal.list(100).await?;
        Ok(stored.iter().map(|stored| RolloutView::of(&stored.plan, &stored.state)).collect())
    }

    /// Every policy by name, with its problems where it has any.
    ///
    /// # Errors
    /// The directory's fault.
    pub async fn policies(&self) -> Result<Vec<(String, Result<Plan, String>)>, Fault> {
        self.shared.parts.policies.all().await
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn parts(&self) -> &RunnerParts {
        &self.shared.parts
    }

    /// Resolves when this runner stops driving: whoever listens to its changes must go to the next one.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.shared.stopping.subscribe();
        async move {
            // An error would mean that the runner is gone.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    }

    /// Every change from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }
}
