//! The task of one rollout: wait for something, ask the engine, commit, act.

use super::executor::Executor;
use super::handle::Shared;
use super::history::asked;
use super::looks::look_on;
use super::renewals::renew_on;
use crate::base::fault::Fault;
use crate::base::time::{Millis, Timestamp};
use crate::ports::{Commit, JournalError, Stored};
use crate::rollout::effect::{Effect, EffectId, WeightsWrite};
use crate::rollout::event::{Actor, Command, Event, Input, Observation};
use crate::rollout::signals::{Counting, counts_from};
use crate::rollout::state::{Next, Phase, Refusal, State};
use crate::rollout::view::RolloutView;
use crate::rollout::workload::{Look, look};
use crate::rollout::{leased, next_deadline, next_reading, preview, step};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

/// Waiting messages of one rollout: a reading, an outcome, and commands of people. More waiting commands than this are
/// answered "busy".
pub(super) const INBOX: usize = 64;
/// Wait before trying again what the store refused.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// What reaches a driver.
pub(super) enum Message {
    /// Something happened.
    Event(Event),
    /// Someone wants something and waits for the answer.
    Command(Command, Actor, oneshot::Sender<Result<RolloutView, CommandFailure>>),
}

/// Why a command was not followed.
pub(super) enum CommandFailure {
    Refused(Refusal),
    NotWritten(JournalError),
}

/// Why a driver stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// The rollout is finished, or the process stops.
    Over,
    /// Another process drives.
    Fenced,
    /// The store stands further on than the driver does: another one has to begin from there.
    Behind,
}

/// What taking an input in came to.
enum Taken {
    Moved,
    Ignored,
    Refused(Refusal),
    NotWritten(JournalError),
}

pub(super) struct Driver {
    shared: Arc<Shared>,
    executor: Executor,
    stored: Stored,
    inbox: mpsc::Receiver<Message>,
    sender: mpsc::Sender<Message>,
    /// Effects under way: at most one write of the route, and one on the instances.
    running: Vec<(EffectId, AbortHandle)>,
    reading: Option<AbortHandle>,
    /// Begun with the first reading; aborted with the driver however it ends, by a panic too.
    checks: Option<Checks>,
    /// What to look at of the release's instances; the task that looks ends with it.
    looks: watch::Sender<Option<Look>>,
    /// Weights whose lease is renewed; the task that does so ends with it.
    held: watch::Sender<Option<WeightsWrite>>,
    /// Since when points of signals count, while they do; the tasks that ask end with it.
    counts: watch::Sender<Option<Counting>>,
    /// Whether a write was answered since the present reading began: then what it says of the route is out of date.
    outdated: bool,
    /// Whether there was a reading yet. After a restart deadlines may have passed long ago; what to make of that is
    /// decided by how things stand now, not by how they stood before.
    informed: bool,
    /// Whether there was a look at the release's instances yet.
    looked: bool,
    /// The deadline that was ticked for, so that one which changes nothing is not ticked for again and again.
    ticked_for: Option<Timestamp>,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        stored: Stored,
        inbox: mpsc::Receiver<Message>,
        sender: mpsc::Sender<Message>,
    ) -> Self {
        let executor = Executor {
            journal: Arc::clone(&shared.parts.journal),
            traffic: Arc::clone(&shared.parts.traffic),
            workloads: shared.parts.workloads.clone(),
        };
        Self {
            shared,
            executor,
            stored,
            inbox,
            sender,
            running: Vec::new(),
            reading: None,
            checks: None,
            looks: watch::Sender::new(None),
            held: watch::Sender::new(None),
            counts: watch::Sender::new(None),
            outdated: false,
            informed: false,
            looked: false,
            ticked_for: None,
        }
    }

    /// Drives until the rollout is finished, the process stops, or another process has taken over.
    pub(super) async fn run(mut self, effects: Vec<(EffectId, Effect)>) -> Stopped {
        self.launch(effects);
        self.held.send_replace(leased(&self.stored.plan, &self.stored.state));
        tokio::spawn(renew_on(Arc::clone(&self.shared.parts.traffic), self.held.subscribe()));
        if let (Some(workload), Some(workloads)) = (&self.stored.plan.workload, &self.shared.parts.workloads) {
            let (workloads, target) = (Arc::clone(workloads), workload.target.clone());
            self.looks.send_replace(look(&self.stored.state));
            tokio::spawn(look_on(workloads, target, self.looks.subscribe(), self.sender.clone()));
        }
        let stopped = self.drive().await;
        for task in self.running.drain(..).map(|(_, task)| task).chain(self.reading.take()) {
            task.abort();
        }
        stopped
    }

    async fn drive(&mut self) -> Stopped {
        let mut stopping = self.shared.stopping.subscribe();
        // Kept across the turns of the loop: messages must not put the next reading off.
        let reading_due = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(reading_due);
        while let Some(every) = next_reading(&self.stored.state) {
            let until_deadline = self.until_deadline();
            tokio::select! {
                () = told(&mut stopping) => return Stopped::Over,
                message = self.inbox.recv() => match message {
                    Some(message) => if let Some(stopped) = self.on_message(message).await { return stopped },
                    None => return Stopped::Over,
                },
                () = tokio::time::sleep(until_deadline), if self.informed => {
                    self.ticked_for = next_deadline(&self.stored.plan, &self.stored.state);
                    if let Some(stopped) = self.take(Event::Tick).await.stops() { return stopped }
                }
                () = &mut reading_due, if self.reading.is_none() && !self.waits_for_a_look() => {
                    self.read();
                    reading_due.set(tokio::time::sleep(every.duration()));
                }
            }
        }
        Stopped::Over
    }

    /// Whether the release may have come up unseen, after a restart: its deadline is not looked at before that is known.
    fn waits_for_a_look(&self) -> bool {
        let deploying = matches!(self.stored.state.phase, Phase::Deploying { .. });
        deploying && !self.looked && look(&self.stored.state).is_some()
    }

    async fn on_message(&mut self, message: Message) -> Option<Stopped> {
        match message {
            Message::Event(mut event) => {
                if let Event::Observed(observation) = &mut event {
                    self.looked |= observation.workload.is_some();
                    if !observation.is_partial() {
                        self.reading = None;
                        self.informed = true;
                        // Not before: a check would have the deadlines looked at by how things stood then.
                        self.begin_checks();
                    }
                    self.shorten(observation);
                }
                let settled = matches!(event, Event::Settled { .. });
                self.outdated |= settled && self.reading.is_some();
                loop {
                    let taken = self.take(event.clone()).await;
                    match taken.stops() {
                        // What came of an effect is told once: it must not get lost because the store was busy.
                        None if settled && matches!(taken, Taken::NotWritten(_)) => {
                            tokio::time::sleep(STORE_RETRY).await;
                        }
                        stopped => return stopped,
                    }
                }
            }
            Message::Command(command, actor, answer) => {
                let taken = self.take(Event::Command { command, actor }).await;
                let stopped = taken.stops();
                let _ = answer.send(match taken {
                    Taken::Moved | Taken::Ignored => Ok(self.view()),
                    Taken::Refused(refusal) => Err(CommandFailure::Refused(refusal)),
                    Taken::NotWritten(error) => Err(CommandFailure::NotWritten(error)),
                });
                stopped
            }
        }
    }

    /// Begins to check health and to ask for signals, once.
    fn begin_checks(&mut self) {
        if self.checks.is_none() {
            self.counts.send_replace(counts_from(&self.stored.state));
            let mut tasks = self.shared.checker().watch(&self.stored, &self.sender);
            tasks.extend(self.shared.asker().watch(&self.stored, &self.counts, &self.sender));
            self.checks = Some(Checks(tasks));
        }
    }

    /// Leaves out what says nothing: it would be journaled every second.
    fn shorten(&mut self, observation: &mut Observation) {
        if !observation.is_partial() && std::mem::take(&mut self.outdated) {
            (observation.route, observation.preview) = (None, None);
        }
        let Stored { plan, state } = &self.stored;
        observation.points.retain(|reading| state.is_judged() && state.is_news(plan, reading));
        if let Some(Ok(live)) = &mut observation.live {
            *live = state.evidence.only_news(state.usable(std::mem::take(live)));
        }
    }

    fn view(&self) -> RolloutView {
        RolloutView::of(&self.stored.plan, &self.stored.state)
    }

    fn until_deadline(&self) -> Duration {
        let deadline = next_deadline(&self.stored.plan, &self.stored.state).filter(|at| self.ticked_for != Some(*at));
        // Readings come every few seconds and look at the deadlines too, so an hour means "not by itself".
        deadline.map_or(Millis::from_seconds(3600), |at| at.since(self.shared.parts.clock.now())).duration()
    }

    /// One input: engine, commit, act.
    async fn take(&mut self, event: Event) -> Taken {
        let settles = match &event {
            Event::Settled { effect, .. } => Some(effect.clone()),
            Event::Command { .. } | Event::Observed(_) | Event::Tick => None,
        };
        let input = Input { seq: self.stored.state.seq.next(), at: self.shared.parts.clock.now(), event };
        let (state, effects) = match step(&self.stored.plan, &self.stored.state, &input) {
            Next::Step { state, effects } => (*state, effects),
            Next::Ignored(_) => return Taken::Ignored,
            Next::Refused(refusal) => return Taken::Refused(refusal),
        };
        let next_deadline = next_deadline(&self.stored.plan, &state);
        let commit = Commit { state, input, effects, settles, next_deadline };
        let position = match self.shared.parts.journal.commit(&commit).await {
            Ok(position) => position,
            Err(error) => {
                tracing::error!(rollout = %self.stored.state.id, %error, "input not written, nothing done");
                return Taken::NotWritten(error);
            }
        };
        let said = asked(&commit.input.event);
        self.moved_to(position, commit.state, commit.effects, said);
        Taken::Moved
    }

    fn moved_to(&mut self, position: u64, state: State, effects: Vec<(EffectId, Effect)>, said: Option<String>) {
        let before = std::mem::replace(&mut self.stored.state, state);
        let view = self.view();
        if std::mem::discriminant(&before.phase) != std::mem::discriminant(&self.stored.state.phase)
            || before.paused != self.stored.state.paused
            || before.frozen != self.stored.state.frozen
        {
            tracing::info!(
                rollout = %view.id, policy = %view.policy, phase = %view.phase, step = view.step,
                canary = self.stored.state.wanted.get(), reason = view.reason.as_deref(), verdict = %view.verdict, "rollout moved"
            );
        }
        let asked = look(&self.stored.state);
        self.looks.send_if_modified(|before| {
            let changed = *before != asked;
            *before = asked;
            changed
        });
        self.held.send_if_modified(|before| {
            let held = leased(&self.stored.plan, &self.stored.state);
            let changed = *before != held;
            *before = held;
            changed
        });
        self.counts.send_if_modified(|before| {
            let from = counts_from(&self.stored.state);
            std::mem::replace(before, from) != from
        });
        self.shared.publish(position, view, said);
        self.launch(effects);
    }

    /// Starts what was committed; what is no longer wanted is abandoned first.
    fn launch(&mut self, effects: Vec<(EffectId, Effect)>) {
        let state = &self.stored.state;
        self.running.retain(|(id, task)| {
            let wanted = state.waits_for(id);
            if !wanted {
                task.abort();
            }
            wanted
        });
        for (id, effect) in effects {
            if state.waits_for(&id) {
                let task = self.executor.launch(id.clone(), effect, self.sender.clone());
                self.running.push((id, task));
            }
        }
    }

    fn read(&mut self) {
        let (reader, inbox) = (self.shared.reader(), self.sender.clone());
        let (plan, canary) = (&self.stored.plan, self.stored.state.canary);
        let (route, ask) = (plan.route.clone(), self.stored.state.evidence.timing.ask(plan));
        let (canary, stable) = (plan.node(canary).to_owned(), plan.node(canary.other()).to_owned());
        let preview = preview::watched(plan, &self.stored.state);
        let task = tokio::spawn(async move {
            // A task of its own: should an adapter panic, the rollout is told and goes on reading.
            let reading =
                tokio::spawn(async move { reader.read(&route, (&canary, &stable), &ask, preview.as_ref()).await });
            let observation = reading.await.unwrap_or_else(|broken| {
                let fault = Fault::unknown("runner", format!("the reading broke off: {broken}"));
                Observation { route: Some(Err(fault.clone())), live: Some(Err(fault)), ..Observation::default() }
            });
            let _ = inbox.send(Message::Event(Event::Observed(observation))).await;
        });
        self.reading = Some(task.abort_handle());
    }
}

/// The tasks that check health and ask for signals.
struct Checks(Vec<AbortHandle>);

impl Drop for Checks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// Resolves when the runner stops.
async fn told(stopping: &mut watch::Receiver<bool>) {
    // An error would mean that the runner is gone, which it cannot be while a driver holds it.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

impl Taken {
    const fn stops(&self) -> Option<Stopped> {
        match self {
            Self::NotWritten(JournalError::Fenced(_)) => Some(Stopped::Fenced),
            Self::NotWritten(JournalError::Ahead(_)) => Some(Stopped::Behind),
            Self::NotWritten(JournalError::AlreadyLive { .. } | JournalError::Fault(_))
            | Self::Moved
            | Self::Ignored
            | Self::Refused(_) => None,
        }
    }
}
