//! `journal verify` beside a daemon that goes on writing.

use crate::kit::{BEGINNING, SECOND, ann, beginning, directory, fresh_route, plan};
use async_trait::async_trait;
use std::sync::Mutex;
use tidegate::base::fault::Fault;
use tidegate::base::ids::{RolloutId, RouteRef, Seq};
use tidegate::base::time::Timestamp;
use tidegate::policy::plan::Plan;
use tidegate::ports::{Commit, Journal, JournalError, JournalRow, Stored};
use tidegate::rollout::effect::{Effect, EffectId};
use tidegate::rollout::event::{Command, Event, Input};
use tidegate::rollout::state::Next;
use tidegate::rollout::step;
use tidegate::runner::verify::{Verified, verify};
use tidegate::store::sqlite::SqliteStore;

/// A journal to which a daemon commits an input whenever somebody is about to read the inputs.
struct Busy {
    store: SqliteStore,
    commits: Mutex<Vec<Commit>>,
}

#[async_trait]
impl Journal for Busy {
    async fn begin(&self, plan: &Plan, commit: &Commit) -> Result<u64, JournalError> {
        self.store.begin(plan, commit).await
    }

    async fn commit(&self, commit: &Commit) -> Result<u64, JournalError> {
        self.store.commit(commit).await
    }

    async fn attempt(&self, effect: &EffectId) -> Result<(), JournalError> {
        self.store.attempt(effect).await
    }

    async fn live(&self) -> Result<Vec<Stored>, Fault> {
        self.store.live().await
    }

    async fn unsettled(&self, id: &RolloutId) -> Result<Vec<(EffectId, Effect)>, Fault> {
        self.store.unsettled(id).await
    }

    async fn get(&self, id: &RolloutId) -> Result<Option<Stored>, Fault> {
        self.store.get(id).await
    }

    async fn list(&self, limit: u32) -> Result<Vec<Stored>, Fault> {
        self.store.list(limit).await
    }

    async fn last_generation(&self, route: &RouteRef) -> Result<u64, Fault> {
        self.store.last_generation(route).await
    }

    async fn last_succeeded(&self, route: &RouteRef) -> Result<Option<Stored>, Fault> {
        self.store.last_succeeded(route).await
    }

    async fn position(&self) -> Result<u64, Fault> {
        self.store.position().await
    }

    async fn since(&self, position: u64, limit: u32) -> Result<Vec<(u64, RolloutId, Seq)>, Fault> {
        self.store.since(position, limit).await
    }

    async fn inputs(&self, id: &RolloutId) -> Result<Vec<JournalRow>, Fault> {
        let next = self.commits.lock().unwrap().pop();
        if let Some(commit) = next {
            self.store.commit(&commit).await.unwrap();
        }
        self.store.inputs(id).await
    }
}

/// What a command leads to.
fn commanded(plan: &Plan, before: &Commit, command: Command) -> Commit {
    let at = Timestamp(before.state.at.0 + SECOND);
    let event = Event::Command { command, actor: ann() };
    let input = Input { seq: before.state.seq.next(), at, event };
    let Next::Step { state, effects } = step(plan, &before.state, &input) else { panic!("{input:?} does nothing") };
    Commit { state: *state, input, effects, settles: None, next_deadline: None }
}

#[tokio::test]
async fn an_input_that_comes_in_between_is_no_difference() {
    let (directory, plan) = (directory(), plan(&[10, 100]));
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let first = beginning(&plan, "r-1", BEGINNING, fresh_route(1), 0);
    let second = commanded(&plan, &first, Command::Pause { reason: "lunch".into() });
    let third = commanded(&plan, &second, Command::Resume);
    store.begin(&plan, &first).await.unwrap();
    let busy = Busy { store, commits: Mutex::new(vec![third, second]) };
    let id = RolloutId("r-1".into());
    assert_eq!(verify(&busy, &id).await.unwrap(), Verified::Matches { inputs: 3 });
    let nobody = RolloutId("r-2".into());
    assert!(matches!(verify(&busy, &nobody).await.unwrap(), Verified::Differs { .. }));
}
