//! A journal in memory that behaves as the contract says, and fails when it is told to.

use super::{BEGINNING, beginning, fresh_route};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegate::base::fault::Fault;
use tidegate::base::ids::{RolloutId, RouteRef, Seq};
use tidegate::base::time::Timestamp;
use tidegate::base::weight::Slot;
use tidegate::policy::plan::Plan;
use tidegate::ports::{
    Commit, Deliveries, Freeze, Freezes, HookOutcome, HookStart, Journal, JournalError, JournalRow, Received, Stored,
};
use tidegate::rollout::effect::{Effect, EffectId};
use tidegate::rollout::event::Actor;
use tidegate::rollout::state::{ENGINE_VERSION, Ending, EndingKind, Phase, Release};

#[derive(Default)]
struct Tables {
    rollouts: BTreeMap<RolloutId, Stored>,
    inputs: BTreeMap<RolloutId, Vec<JournalRow>>,
    effects: BTreeMap<EffectId, Effect>,
    done: BTreeSet<EffectId>,
    attempts: BTreeMap<EffectId, u32>,
    order: Vec<(RolloutId, Seq)>,
    received: Vec<Received>,
    freezes: Vec<Freeze>,
}

#[derive(Default)]
pub(crate) struct MemoryJournal {
    tables: Mutex<Tables>,
    /// While set, nothing can be written or read.
    pub(crate) down: AtomicBool,
    /// While set, another process drives.
    pub(crate) fenced: AtomicBool,
}

impl MemoryJournal {
    /// Every rollout that ever began.
    pub(crate) fn begun(&self) -> Vec<RolloutId> {
        let tables = self.tables().expect("it is up");
        tables.order.iter().filter(|(_, seq)| *seq == Seq(1)).map(|(id, _)| id.clone()).collect()
    }
}

impl MemoryJournal {
    fn tables(&self) -> Result<std::sync::MutexGuard<'_, Tables>, Fault> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(Fault::transient("memory", "down")),
            false => Ok(self.tables.lock().expect("no test panics with it")),
        }
    }

    #[expect(clippy::result_large_err, reason = "the shape of the trait")]
    fn fence(&self, id: &RolloutId) -> Result<(), JournalError> {
        match self.fenced.load(Ordering::SeqCst) {
            true => Err(JournalError::Fenced(id.clone())),
            false => Ok(()),
        }
    }
}

impl Tables {
    fn write(&mut self, commit: &Commit) -> u64 {
        let id = &commit.state.id;
        let row = JournalRow { engine_version: ENGINE_VERSION, input: commit.input.clone() };
        self.inputs.entry(id.clone()).or_default().push(row);
        self.effects.extend(commit.effects.iter().cloned());
        self.done.extend(commit.settles.clone());
        let superseded = self.effects.keys().filter(|e| e.rollout == *id && !commit.state.waits_for(e));
        self.done.extend(superseded.cloned().collect::<Vec<_>>());
        self.order.push((id.clone(), commit.input.seq));
        self.order.len() as u64
    }
}

impl MemoryJournal {
    /// A rollout that made its release stable long ago.
    pub(crate) fn succeeded(&self, plan: &Plan, id: &str, revision: &str, image: &str) {
        let at = Timestamp(BEGINNING.0 - 86_400_000);
        let mut state = beginning(plan, id, at, fresh_route(1), 0).state;
        state.phase = Phase::Succeeded;
        let (kind, reason) = (EndingKind::Succeeded, "every step passed".to_owned());
        state.ending = Some(Ending { kind, reason, decided_at: at, at_step: None });
        state.revision = Some(revision.to_owned());
        state.release =
            Some(Release { image: image.to_owned(), pending: None, deployed: None, reading: None, share: None });
        state.pending.clear();
        // The slot that holds the weight now.
        state.canary = Slot::Second;
        let stored = Stored { plan: plan.clone(), state };
        self.tables.lock().expect("no test panics with it").rollouts.insert(RolloutId(id.to_owned()), stored);
    }
}

#[async_trait]
impl Freezes for MemoryJournal {
    async fn in_force(&self) -> Result<Vec<Freeze>, Fault> {
        let mut freezes = self.tables()?.freezes.clone();
        freezes.sort_by(|a, b| a.policy.cmp(&b.policy));
        Ok(freezes)
    }

    async fn freeze(&self, freeze: &Freeze) -> Result<bool, Fault> {
        let freezes = &mut self.tables()?.freezes;
        let fresh = freezes.iter().all(|present| present.policy != freeze.policy);
        freezes.extend(fresh.then(|| freeze.clone()));
        Ok(fresh)
    }

    async fn lift(&self, policy: Option<&str>, _: Timestamp, _: &Actor) -> Result<Option<Freeze>, Fault> {
        let freezes = &mut self.tables()?.freezes;
        let found = freezes.iter().position(|freeze| freeze.policy.as_deref() == policy);
        Ok(found.map(|found| freezes.remove(found)))
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn begin(&self, plan: &Plan, commit: &Commit) -> Result<u64, JournalError> {
        let mut tables = self.tables()?;
        self.fence(&commit.state.id)?;
        let live = tables.rollouts.values().find(|s| s.plan.route == plan.route && !s.state.is_finished());
        if let Some(Stored { state, plan }) = live {
            let (since, by) = (state.started_at.rfc3339(), state.started_by.to_string());
            return Err(JournalError::AlreadyLive { id: state.id.clone(), route: plan.route.clone(), since, by });
        }
        let stored = Stored { plan: plan.clone(), state: commit.state.clone() };
        tables.rollouts.insert(commit.state.id.clone(), stored);
        Ok(tables.write(commit))
    }

    async fn commit(&self, commit: &Commit) -> Result<u64, JournalError> {
        let mut tables = self.tables()?;
        let id = &commit.state.id;
        self.fence(id)?;
        match tables.rollouts.get_mut(id) {
            Some(stored) if stored.state.seq.next() == commit.state.seq => stored.state = commit.state.clone(),
            Some(_) => return Err(JournalError::Ahead(id.clone())),
            None => return Err(JournalError::Fenced(id.clone())),
        }
        Ok(tables.write(commit))
    }

    async fn attempt(&self, effect: &EffectId) -> Result<(), JournalError> {
        let mut tables = self.tables()?;
        self.fence(&effect.rollout)?;
        if !tables.effects.contains_key(effect) {
            return Err(JournalError::Fenced(effect.rollout.clone()));
        }
        *tables.attempts.entry(effect.clone()).or_default() += 1;
        Ok(())
    }

    async fn live(&self) -> Result<Vec<Stored>, Fault> {
        Ok(self.tables()?.rollouts.values().filter(|stored| !stored.state.is_finished()).cloned().collect())
    }

    async fn unsettled(&self, id: &RolloutId) -> Result<Vec<(EffectId, Effect)>, Fault> {
        let tables = self.tables()?;
        let open = tables.effects.iter().filter(|(e, _)| e.rollout == *id && !tables.done.contains(e));
        Ok(open.map(|(e, effect)| (e.clone(), effect.clone())).collect())
    }

    async fn get(&self, id: &RolloutId) -> Result<Option<Stored>, Fault> {
        Ok(self.tables()?.rollouts.get(id).cloned())
    }

    async fn list(&self, limit: u32) -> Result<Vec<Stored>, Fault> {
        let mut all: Vec<Stored> = self.tables()?.rollouts.values().cloned().collect();
        all.sort_by_key(|stored| (stored.state.is_finished(), -stored.state.started_at.0, stored.state.id.clone()));
        all.truncate(limit as usize);
        Ok(all)
    }

    async fn last_generation(&self, route: &RouteRef) -> Result<u64, Fault> {
        let tables = self.tables()?;
        let used = tables.rollouts.values().filter(|stored| stored.plan.route == *route);
        Ok(used.map(|stored| stored.state.generation).max().unwrap_or(0))
    }

    async fn last_succeeded(&self, route: &RouteRef) -> Result<Option<Stored>, Fault> {
        let tables = self.tables()?;
        let well = tables.rollouts.values().filter(|stored| {
            let ending = stored.state.ending.as_ref();
            stored.plan.route == *route && ending.is_some_and(|ending| ending.kind == EndingKind::Succeeded)
        });
        Ok(well.max_by_key(|stored| stored.state.started_at).cloned())
    }

    async fn position(&self) -> Result<u64, Fault> {
        Ok(self.tables()?.order.len() as u64)
    }

    async fn since(&self, position: u64, limit: u32) -> Result<Vec<(u64, RolloutId, Seq)>, Fault> {
        let tables = self.tables()?;
        let all = tables.order.iter().zip(1_u64..).map(|((id, seq), position)| (position, id.clone(), *seq));
        Ok(all.filter(|(at, ..)| *at > position).take(limit as usize).collect())
    }

    async fn inputs(&self, id: &RolloutId) -> Result<Vec<JournalRow>, Fault> {
        Ok(self.tables()?.inputs.get(id).cloned().unwrap_or_default())
    }
}

#[async_trait]
impl Deliveries for MemoryJournal {
    async fn receive(&self, received: &Received) -> Result<bool, Fault> {
        let mut tables = self.tables()?;
        let known = tables.received.iter().any(|one| one.ids.iter().any(|id| received.ids.contains(id)));
        if !known {
            tables.received.push(received.clone());
        }
        Ok(!known)
    }

    async fn seen(&self, ids: &[String]) -> Result<Option<Received>, Fault> {
        let tables = self.tables()?;
        let found = tables.received.iter().find(|one| one.ids.iter().any(|id| ids.contains(id)));
        Ok(found.map(|found| Received { ids: ids.to_vec(), ..found.clone() }))
    }

    async fn open(&self) -> Result<Vec<HookStart>, Fault> {
        let tables = self.tables()?;
        let starts = tables.received.iter().flat_map(|received| &received.starts);
        Ok(starts.filter(|start| start.outcome.is_none()).cloned().collect())
    }

    async fn start(&self, rollout: &RolloutId) -> Result<Option<HookStart>, Fault> {
        let tables = self.tables()?;
        let mut starts = tables.received.iter().flat_map(|received| &received.starts);
        Ok(starts.find(|start| start.rollout == *rollout).cloned())
    }

    async fn settle(&self, rollout: &RolloutId, outcome: &HookOutcome) -> Result<(), Fault> {
        let mut tables = self.tables()?;
        let mut starts = tables.received.iter_mut().flat_map(|received| &mut received.starts);
        if let Some(start) = starts.find(|start| start.rollout == *rollout && start.outcome.is_none()) {
            start.outcome = Some(outcome.clone());
        }
        Ok(())
    }
}
