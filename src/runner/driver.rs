//! The task of one rollout: wait for something, ask the engine, commit, act.

use super::executor::Executor;
use super::handle::Shared;
use crate::base::fault::Fault;
use crate::base::time::{Millis, Timestamp};
use crate::ports::{Commit, JournalError, Stored};
use crate::rollout::effect::{Effect, EffectId};
use crate::rollout::event::{Actor, Command, Event, Input, Observation};
use crate::rollout::state::{Next, Refusal, State};
use crate::rollout::view::RolloutView;
use crate::rollout::{next_deadline, next_reading, step};
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
    /// The effect under way: at most one write for each route.
    running: Option<(EffectId, AbortHandle)>,
    reading: Option<AbortHandle>,
    /// Whether a write was answered since the present reading began: then what it says of the route is out of date.
    outdated: bool,
    /// Whether there was a reading yet. After a restart deadlines may have passed long ago; what to make of that is
    /// decided by how things stand now, not by how they stood before.
    informed: bool,
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
        let executor =
            Executor { journal: Arc::clone(&shared.parts.journal), traffic: Arc::clone(&shared.parts.traffic) };
        Self {
            shared,
            executor,
            stored,
            inbox,
            sender,
            running: None,
            reading: None,
            outdated: false,
            informed: false,
            ticked_for: None,
        }
    }

    /// Drives until the rollout is finished, the process stops, or another process has taken over.
    pub(super) async fn run(mut self, effects: Vec<(EffectId, Effect)>) {
        self.launch(effects);
        let mut stopping = self.shared.stopping.subscribe();
        // Kept across the turns of the loop: messages must not put the next reading off.
        let reading_due = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(reading_due);
        while let Some(every) = next_reading(&self.stored.state) {
            let until_deadline = self.until_deadline();
            tokio::select! {
                () = told(&mut stopping) => break,
                message = self.inbox.recv() => match message {
                    Some(message) => if self.on_message(message).await.is_err() { break },
                    None => break,
                },
                () = tokio::time::sleep(until_deadline), if self.informed => {
                    self.ticked_for = next_deadline(&self.stored.plan, &self.stored.state);
                    if self.take(Event::Tick).await.fenced() { break }
                }
                () = &mut reading_due, if self.reading.is_none() => {
                    self.read();
                    reading_due.set(tokio::time::sleep(every.duration()));
                }
            }
        }
        for task in self.running.take().map(|(_, task)| task).into_iter().chain(self.reading.take()) {
            task.abort();
        }
    }

    async fn on_message(&mut self, message: Message) -> Result<(), ()> {
        match message {
            Message::Event(mut event) => {
                if let Event::Observed(observation) = &mut event {
                    self.reading = None;
                    self.informed = true;
                    self.shorten(observation);
                }
                let settled = matches!(event, Event::Settled { .. });
                self.outdated |= settled && self.reading.is_some();
                loop {
                    match self.take(event.clone()).await {
                        taken if taken.fenced() => return Err(()),
                        // What came of an effect is told once: it must not get lost because the store was busy.
                        Taken::NotWritten(_) if settled => tokio::time::sleep(STORE_RETRY).await,
                        _ => return Ok(()),
                    }
                }
            }
            Message::Command(command, actor, answer) => {
                let taken = self.take(Event::Command { command, actor }).await;
                let fenced = taken.fenced();
                let _ = answer.send(match taken {
                    Taken::Moved | Taken::Ignored => Ok(self.view()),
                    Taken::Refused(refusal) => Err(CommandFailure::Refused(refusal)),
                    Taken::NotWritten(error) => Err(CommandFailure::NotWritten(error)),
                });
                if fenced { Err(()) } else { Ok(()) }
            }
        }
    }

    /// Leaves out what says nothing: it would be journaled every second.
    fn shorten(&mut self, observation: &mut Observation) {
        if std::mem::take(&mut self.outdated) {
            observation.route = None;
        }
        if let Some(Ok(live)) = &mut observation.live {
            *live = self.stored.state.evidence.only_news(std::mem::take(live));
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
        self.moved_to(position, commit.state, commit.effects);
        Taken::Moved
    }

    fn moved_to(&mut self, position: u64, state: State, effects: Vec<(EffectId, Effect)>) {
        let before = std::mem::replace(&mut self.stored.state, state);
        let view = self.view();
        if std::mem::discriminant(&before.phase) != std::mem::discriminant(&self.stored.state.phase)
            || before.paused != self.stored.state.paused
        {
            tracing::info!(
                rollout = %view.id, policy = %view.policy, phase = %view.phase, step = view.step,
                canary = self.stored.state.wanted.get(), reason = view.reason.as_deref(), verdict = %view.verdict, "rollout moved"
            );
        }
        self.shared.publish(position, view);
        self.launch(effects);
    }

    /// Starts what was committed; a write that is no longer wanted is abandoned first.
    fn launch(&mut self, effects: Vec<(EffectId, Effect)>) {
        if let Some((id, task)) = &self.running
            && !self.stored.state.pending.contains_key(id)
        {
            task.abort();
            self.running = None;
        }
        for (id, effect) in effects {
            if self.stored.state.pending.contains_key(&id) {
                let task = self.executor.launch(id.clone(), effect, self.sender.clone());
                self.running = Some((id, task));
            }
        }
    }

    fn read(&mut self) {
        let (reader, inbox) = (self.shared.reader(), self.sender.clone());
        let (plan, canary) = (&self.stored.plan, self.stored.state.canary);
        let (route, ask) = (plan.route.clone(), self.stored.state.evidence.timing.ask(plan));
        let (canary, stable) = (plan.node(canary).to_owned(), plan.node(canary.other()).to_owned());
        let task = tokio::spawn(async move {
            // A task of its own: should an adapter panic, the rollout is told and goes on reading.
            let reading = tokio::spawn(async move { reader.read(&route, &canary, &stable, &ask).await });
            let observation = reading.await.unwrap_or_else(|broken| {
                let fault = Fault::unknown("runner", format!("the reading broke off: {broken}"));
                Observation { route: Some(Err(fault.clone())), live: Some(Err(fault)) }
            });
            let _ = inbox.send(Message::Event(Event::Observed(observation))).await;
        });
        self.reading = Some(task.abort_handle());
    }
}

/// Resolves when the runner stops.
async fn told(stopping: &mut watch::Receiver<bool>) {
    // An error would mean that the runner is gone, which it cannot be while a driver holds it.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

impl Taken {
    const fn fenced(&self) -> bool {
        matches!(self, Self::NotWritten(JournalError::Fenced(_)))
    }
}
