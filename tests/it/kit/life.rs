//! A rollout driven in one thread, step by step, by the same contract as the runner: ask the engine, commit, and only
//! then act. It can be cut off at any commit and any call, and taken up again from what was stored.

use super::world::{HandClock, World};
use super::{SECOND, ann, beginning};
use std::collections::BTreeSet;
use std::sync::Arc;
use tidegate::base::ids::RolloutId;
use tidegate::clock::Clock;
use tidegate::policy::plan::Plan;
use tidegate::ports::{Commit, Journal, LiveCounts, Previews, Stored, Traffic, Workloads};
use tidegate::rollout::effect::{Effect, EffectId};
use tidegate::rollout::event::{Command, Event, Input, Observation, Outcome, PreviewReading};
use tidegate::rollout::state::Next;
use tidegate::rollout::workload::look;
use tidegate::rollout::{next_deadline, next_reading, preview, step};

/// Where a process dies. Commits and calls are counted over the whole life, the start included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cut {
    BeforeCommit(usize),
    AfterCommit(usize),
    AfterCall(usize),
}

/// The process died.
#[derive(Debug)]
pub(crate) struct Died;

/// What a person does, or what happens to the route, at a second.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    Order(Box<Command>),
    Meddle(u8),
}

/// What outlives the process.
pub(crate) struct Outside {
    pub(crate) clock: Arc<HandClock>,
    pub(crate) world: Arc<World>,
    pub(crate) plan: Plan,
    /// What is still to be done, by second. A command whose commit did not happen is given again.
    pub(crate) deeds: Vec<(i64, Deed)>,
    pub(crate) cuts: BTreeSet<Cut>,
    pub(crate) commits: usize,
    pub(crate) calls: usize,
}

impl Outside {
    fn dies(&self, cut: Cut) -> Result<(), Died> {
        if self.cuts.contains(&cut) { Err(Died) } else { Ok(()) }
    }
}

pub(crate) const ID: &str = "r-1";
/// A life that lasts longer than this many seconds has no end.
const LONGEST: i64 = 600;

/// One process: from the start, or from what is stored, to the end or to its death.
pub(crate) async fn live(journal: &dyn Journal, outside: &mut Outside) -> Result<Stored, Died> {
    let mut process = Process::take_up(journal, outside).await?;
    let mut informed = false;
    while next_reading(&process.stored.state).is_some() {
        assert!(process.outside.world.seconds() < LONGEST, "no end: {:?}", process.stored.state.phase);
        process.act().await?;
        process.deeds().await?;
        process.look().await?;
        process.read().await?;
        if informed {
            process.tick().await?;
        }
        informed = true;
        process.outside.clock.pass(SECOND);
    }
    Ok(process.stored)
}

struct Process<'a> {
    journal: &'a dyn Journal,
    outside: &'a mut Outside,
    stored: Stored,
    effects: Vec<(EffectId, Effect)>,
}

impl<'a> Process<'a> {
    async fn take_up(journal: &'a dyn Journal, outside: &'a mut Outside) -> Result<Self, Died> {
        let id = RolloutId(ID.into());
        if let Some(stored) = journal.get(&id).await.expect("readable") {
            let effects = journal.unsettled(&id).await.expect("readable");
            return Ok(Self { journal, outside, stored, effects });
        }
        let route = Traffic::read(&*outside.world, &outside.plan.route).await.expect("readable").0;
        let commit = beginning(&outside.plan, ID, outside.clock.now(), route, 0);
        outside.commits += 1;
        outside.dies(Cut::BeforeCommit(outside.commits))?;
        journal.begin(&outside.plan, &commit).await.expect("the only rollout");
        outside.dies(Cut::AfterCommit(outside.commits))?;
        let stored = Stored { plan: outside.plan.clone(), state: commit.state };
        Ok(Self { journal, outside, stored, effects: commit.effects })
    }

    /// Whether it was followed; an ignored one was, too.
    async fn take(&mut self, event: Event) -> Result<bool, Died> {
        let settles = match &event {
            Event::Settled { effect, .. } => Some(effect.clone()),
            _ => None,
        };
        let input = Input { seq: self.stored.state.seq.next(), at: self.outside.clock.now(), event };
        let (state, effects) = match step(&self.stored.plan, &self.stored.state, &input) {
            Next::Step { state, effects } => (*state, effects),
            Next::Ignored(_) => return Ok(true),
            Next::Refused(_) => return Ok(false),
        };
        let next_deadline = next_deadline(&self.stored.plan, &state);
        let commit = Commit { state, input, effects, settles, next_deadline };
        self.outside.commits += 1;
        self.outside.dies(Cut::BeforeCommit(self.outside.commits))?;
        self.journal.commit(&commit).await.expect("the only writer");
        self.outside.dies(Cut::AfterCommit(self.outside.commits))?;
        self.stored.state = commit.state;
        self.effects.extend(commit.effects);
        Ok(true)
    }

    /// Carries out what was committed and is still wanted.
    async fn act(&mut self) -> Result<(), Died> {
        // What they cause is carried out at the next second: the executor's own tries come first.
        for (id, effect) in std::mem::take(&mut self.effects) {
            if !self.stored.state.waits_for(&id) {
                continue;
            }
            self.journal.attempt(&id).await.expect("the only writer");
            let world = &self.outside.world;
            let answer = match &effect {
                Effect::SetWeights(write) => world.set_weights(write).await.map(|version| Outcome::Applied { version }),
                Effect::Deploy(deployment) => world.deploy(deployment).await.map(Outcome::Deployed),
                Effect::Retire(retirement) => {
                    world.retire(&retirement.target, retirement.slot).await.map(|()| Outcome::Retired)
                }
                Effect::OpenPreview(preview) => world.open(preview).await.map(|()| Outcome::PreviewOpened),
                Effect::ClosePreview(preview) => world.close(preview).await.map(|()| Outcome::PreviewClosed),
            };
            self.outside.calls += 1;
            self.outside.dies(Cut::AfterCall(self.outside.calls))?;
            let outcome = answer.unwrap_or_else(Outcome::Failed);
            self.take(Event::Settled { effect: id, outcome }).await?;
        }
        Ok(())
    }

    async fn deeds(&mut self) -> Result<(), Died> {
        while let Some((second, deed)) = self.outside.deeds.first().cloned()
            && second <= self.outside.world.seconds()
        {
            match deed {
                Deed::Meddle(share) => self.outside.world.meddle(share),
                Deed::Order(command) => {
                    let before = self.stored.state.seq;
                    let given = self.take(Event::Command { command: *command, actor: ann() }).await;
                    if given.is_err() {
                        self.forget_if_stored(before).await;
                    }
                    assert!(given?, "a person was refused");
                }
            }
            self.outside.deeds.remove(0);
            self.act().await?;
        }
        Ok(())
    }

    /// Nobody orders twice what the journal shows as taken.
    async fn forget_if_stored(&mut self, before: tidegate::base::ids::Seq) {
        let stored = self.journal.get(&self.stored.state.id).await.expect("readable").expect("begun");
        if stored.state.seq > before {
            self.outside.deeds.remove(0);
        }
    }

    async fn read(&mut self) -> Result<(), Died> {
        let (world, route) = (&self.outside.world, &self.stored.plan.route);
        let ask = self.stored.state.evidence.timing.ask(&self.stored.plan);
        let live = LiveCounts::read(&**world, route, "v2", "v1", &ask).await;
        let route = Traffic::read(&**world, route).await.map(|(reading, _)| reading);
        let preview = match preview::watched(&self.stored.plan, &self.stored.state) {
            Some(preview) => {
                let read = Previews::read(&**world, &preview).await;
                Some(read.map(|found| found.map(|(reading, _)| PreviewReading { behind: Some(0), ..reading })))
            }
            None => None,
        };
        let observation = Observation { route: Some(route), live: Some(live), preview, ..Observation::default() };
        self.take(Event::Observed(observation)).await.map(drop)
    }

    async fn look(&mut self) -> Result<(), Died> {
        let (Some(asked), Some(workload)) = (look(&self.stored.state), &self.stored.plan.workload) else {
            return Ok(());
        };
        let looked = self.outside.world.look(&workload.target, asked.slot, asked.wanted.as_ref()).await;
        self.take(Event::Observed(Observation { workload: Some(looked), ..Observation::default() })).await.map(drop)
    }

    async fn tick(&mut self) -> Result<(), Died> {
        let due = next_deadline(&self.stored.plan, &self.stored.state);
        if due.is_some_and(|at| at <= self.outside.clock.now()) {
            self.take(Event::Tick).await?;
        }
        Ok(())
    }
}
