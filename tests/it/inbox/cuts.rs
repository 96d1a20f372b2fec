//! A process that dies at any write between an event and the beginning of its rollout: one rollout in the end, never two,
//! never none. A life is a runtime of its own, so that nothing of a process outlives it but what was stored.

use super::{LifeClock, policy, release, runner};
use crate::kit::memory::MemoryJournal;
use crate::kit::world::{Ways, World};
use async_trait::async_trait;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::base::fault::Fault;
use tidegate::base::ids::{RolloutId, RouteRef, Seq};
use tidegate::policy::plan::{Plan, WhileLive};
use tidegate::ports::{
    Commit, Deliveries, HookOutcome, HookStart, Journal, JournalError, JournalRow, Received, Stored,
};
use tidegate::rollout::effect::{Effect, EffectId};
use tidegate::trigger::event::Source;
use tidegate::trigger::inbox::Inbox;
use tokio::sync::Notify;

/// Where a process dies, by the number of the write over all lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Before(usize),
    After(usize),
}

/// A store whose process dies at a write: nothing answers from then on.
struct Mortal {
    inner: Arc<MemoryJournal>,
    cut: Mutex<Option<Cut>>,
    writes: AtomicUsize,
    dead: Mutex<bool>,
    died: Notify,
}

impl Mortal {
    async fn live(&self) {
        if *self.dead.lock().unwrap() {
            std::future::pending::<()>().await;
        }
    }

    async fn die(&self, cut: Cut) {
        if *self.cut.lock().unwrap() == Some(cut) {
            *self.dead.lock().unwrap() = true;
            self.died.notify_one();
        }
        self.live().await;
    }

    async fn write<T>(&self, write: impl Future<Output = T> + Send) -> T {
        self.live().await;
        let number = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        self.die(Cut::Before(number)).await;
        let written = write.await;
        self.die(Cut::After(number)).await;
        written
    }
}

#[async_trait]
impl Deliveries for Mortal {
    async fn receive(&self, received: &Received) -> Result<bool, Fault> {
        self.write(self.inner.receive(received)).await
    }

    async fn seen(&self, ids: &[String]) -> Result<Option<Received>, Fault> {
        self.inner.seen(ids).await
    }

    async fn open(&self) -> Result<Vec<HookStart>, Fault> {
        self.inner.open().await
    }

    async fn start(&self, rollout: &RolloutId) -> Result<Option<HookStart>, Fault> {
        self.inner.start(rollout).await
    }

    async fn settle(&self, rollout: &RolloutId, outcome: &HookOutcome) -> Result<(), Fault> {
        self.write(self.inner.settle(rollout, outcome)).await
    }
}

#[async_trait]
impl Journal for Mortal {
    async fn begin(&self, plan: &Plan, commit: &Commit) -> Result<u64, JournalError> {
        self.write(self.inner.begin(plan, commit)).await
    }

    async fn commit(&self, commit: &Commit) -> Result<u64, JournalError> {
        self.write(self.inner.commit(commit)).await
    }

    async fn attempt(&self, effect: &EffectId) -> Result<(), JournalError> {
        self.live().await;
        self.inner.attempt(effect).await
    }

    async fn live(&self) -> Result<Vec<Stored>, Fault> {
        Journal::live(&*self.inner).await
    }

    async fn unsettled(&self, id: &RolloutId) -> Result<Vec<(EffectId, Effect)>, Fault> {
        self.inner.unsettled(id).await
    }

    async fn get(&self, id: &RolloutId) -> Result<Option<Stored>, Fault> {
        self.inner.get(id).await
    }

    async fn list(&self, limit: u32) -> Result<Vec<Stored>, Fault> {
        self.inner.list(limit).await
    }

    async fn last_generation(&self, route: &RouteRef) -> Result<u64, Fault> {
        self.inner.last_generation(route).await
    }

    async fn position(&self) -> Result<u64, Fault> {
        self.inner.position().await
    }

    async fn since(&self, position: u64, limit: u32) -> Result<Vec<(u64, RolloutId, Seq)>, Fault> {
        self.inner.since(position, limit).await
    }

    async fn inputs(&self, id: &RolloutId) -> Result<Vec<JournalRow>, Fault> {
        self.inner.inputs(id).await
    }
}

/// What is left at the end.
struct End {
    writes: usize,
    deaths: usize,
    /// Every rollout that ever began, with its phase, in order.
    rollouts: Vec<(RolloutId, &'static str)>,
}

/// Two releases, the second while the first one bakes, with a death; the sender repeats what was not answered.
fn run(while_live: WhileLive, cut: Option<Cut>) -> End {
    let (clock, journal) = (LifeClock::new(), Arc::new(MemoryJournal::default()));
    let world = World::new(clock.clone(), policy(while_live), Ways::default());
    let mortal = Arc::new(Mortal {
        inner: Arc::clone(&journal),
        cut: Mutex::new(cut),
        writes: AtomicUsize::new(0),
        dead: Mutex::new(false),
        died: Notify::new(),
    });
    let (mut answered, mut deaths) = (0, 0);
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let lived = runtime.expect("a runtime").block_on(async {
            clock.begin();
            let lived = tokio::select! {
                () = life(&clock, &mortal, &world, &mut answered) => true,
                () = mortal.died.notified() => false,
            };
            clock.end();
            lived
        });
        if lived {
            break;
        }
        deaths += 1;
        *mortal.cut.lock().unwrap() = None;
        *mortal.dead.lock().unwrap() = false;
    }
    let phase = |id: &RolloutId| {
        let stored = futures_util::FutureExt::now_or_never(journal.get(id)).expect("in memory").expect("readable");
        tidegate::rollout::view::phase_name(&stored.expect("begun").state)
    };
    let rollouts = journal.begun().into_iter().map(|id| (id.clone(), phase(&id))).collect();
    let open = futures_util::FutureExt::now_or_never(journal.open()).expect("in memory").expect("readable");
    assert!(open.is_empty(), "without an outcome: {open:?}");
    End { writes: mortal.writes.load(Ordering::SeqCst), deaths, rollouts }
}

/// One process, until every start has its outcome.
async fn life(clock: &Arc<LifeClock>, mortal: &Arc<Mortal>, world: &Arc<World>, answered: &mut u8) {
    let runner = runner(clock.clone(), mortal.clone(), world);
    let inbox = Inbox::new(runner.clone(), mortal.clone(), clock.clone());
    runner.resume().await.expect("readable");
    inbox.resume().await.expect("readable");
    for version in [2, 3] {
        if *answered >= version {
            continue;
        }
        inbox.take(Source::Generic, vec![release(version)]).await.expect("taken");
        *answered = version;
        while version == 2 && runner.list().await.expect("readable").iter().all(|view| view.weights["v2"] == 0) {
            assert!(runner.list().await.expect("readable").iter().all(|view| !view.finished), "it ended early");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    for _ in 0..2000 {
        let open = mortal.open().await.expect("readable");
        if open.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("no end");
}

/// So many rollouts in the end, the last of them live, and those before it superseded.
fn survives(while_live: WhileLive, rollouts: usize) {
    let check = |end: &End, deaths: usize, cut: Option<Cut>| {
        let phases: Vec<_> = end.rollouts.iter().map(|(_, phase)| *phase).collect();
        assert_eq!((phases.len(), end.deaths), (rollouts, deaths), "{cut:?}: {phases:?}");
        let (last, before) = phases.split_last().expect("one began");
        assert!(!["superseded", "rolled_back", "aborted", "succeeded"].contains(last), "{cut:?}: {phases:?}");
        assert!(before.iter().all(|phase| *phase == "superseded"), "{cut:?}: {phases:?}");
    };
    let whole = run(while_live, None);
    check(&whole, 0, None);
    for number in 1..=whole.writes {
        for cut in [Cut::Before(number), Cut::After(number)] {
            check(&run(while_live, Some(cut)), 1, Some(cut));
        }
    }
}

#[test]
fn a_newer_release_begins_once_wherever_the_process_dies() {
    survives(WhileLive::NewestWins, 2);
}

#[test]
fn a_refused_release_never_begins_wherever_the_process_dies() {
    survives(WhileLive::Refuse, 1);
}
