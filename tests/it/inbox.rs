//! Events from outside on the real runner and inbox, with everything around them in memory and a clock that jumps over
//! waits.

mod cuts;
mod schedule;

use crate::kit::memory::MemoryJournal;
use crate::kit::world::{Ways, World};
use crate::kit::{BEGINNING, ann, deploying, plan};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::base::ids::RolloutId;
use tidegate::base::time::Timestamp;
use tidegate::clock::Clock;
use tidegate::policy::plan::{Plan, StartRules, WhileLive};
use tidegate::ports::{Deliveries, HookOutcome, Journal};
use tidegate::rollout::event::Command;
use tidegate::rollout::view::RolloutView;
use tidegate::runner::verify::{Verified, verify};
use tidegate::runner::{Runner, RunnerParts};
use tidegate::trigger::event::{Delivery, Event, Source, StartAsked};
use tidegate::trigger::image::ImageRef;
use tidegate::trigger::inbox::{Inbox, NotBegun, TakeError, Taken};

/// Follows the tests' clock, from one runtime to the next.
pub(super) struct LifeClock(Mutex<(Timestamp, Option<tokio::time::Instant>)>);

impl LifeClock {
    pub(super) fn new() -> Arc<Self> {
        Self::at(BEGINNING)
    }

    pub(super) fn at(beginning: Timestamp) -> Arc<Self> {
        Arc::new(Self(Mutex::new((beginning, None))))
    }

    /// A life begins, within a runtime.
    #[expect(clippy::disallowed_methods, reason = "the tests' clock, which jumps")]
    pub(super) fn begin(&self) {
        self.0.lock().unwrap().1 = Some(tokio::time::Instant::now());
    }

    /// It ends, still within the runtime; the next one begins two seconds later.
    pub(super) fn end(&self) {
        let now = self.now();
        *self.0.lock().unwrap() = (Timestamp(now.0 + 2000), None);
    }
}

impl Clock for LifeClock {
    fn now(&self) -> Timestamp {
        let (base, began) = *self.0.lock().unwrap();
        let passed = began.map_or(Duration::ZERO, |began| began.elapsed());
        Timestamp(base.0 + i64::try_from(passed.as_millis()).expect("a short test"))
    }
}

struct Setting {
    inbox: Inbox,
    runner: Runner,
    journal: Arc<MemoryJournal>,
    world: Arc<World>,
}

/// A policy that deploys what it releases, and does this while one is live.
fn policy(while_live: WhileLive) -> Plan {
    let start = Some(StartRules { image: None, workflow: None, windows: vec![], at: vec![], while_live });
    Plan { start, ..deploying(plan(&[10, 50, 100])) }
}

fn setting(plan: Plan) -> Setting {
    let clock = LifeClock::new();
    clock.begin();
    let world = World::new(clock.clone(), plan, Ways::default());
    let journal = Arc::new(MemoryJournal::default());
    let runner = runner(clock.clone(), journal.clone(), &world);
    let inbox = Inbox::new(runner.clone(), journal.clone(), clock);
    Setting { inbox, runner, journal, world }
}

pub(super) fn runner(clock: Arc<dyn Clock>, journal: Arc<dyn Journal>, world: &Arc<World>) -> Runner {
    let (traffic, live, health, policies) = (world.clone(), world.clone(), world.clone(), world.clone());
    let workloads = Some(world.clone() as Arc<dyn tidegate::ports::Workloads>);
    let freezes = Arc::new(MemoryJournal::default());
    Runner::new(RunnerParts {
        clock,
        journal,
        freezes,
        traffic,
        workloads,
        signals: None,
        live,
        health,
        policies,
        people: Arc::default(),
    })
}

/// What is sent for a release by the number of its version.
pub(super) fn release(version: u8) -> Delivery {
    let image = format!("shop/checkout:v{version}@sha256:{}", format!("{version:02x}").repeat(32));
    let asked = StartAsked {
        policy: "checkout".into(),
        image: Some(ImageRef::parse(&image).unwrap()),
        revision: None,
        actor: Some("ada".into()),
    };
    Delivery { ids: vec![format!("generic:release-{version}")], event: Event::Start(asked) }
}

/// What is deployed for it: pinned, without the tag.
fn image(version: u8) -> String {
    format!("shop/checkout@sha256:{}", format!("{version:02x}").repeat(32))
}

impl Setting {
    async fn send(&self, version: u8) -> Taken {
        self.inbox.take(Source::Generic, vec![release(version)]).await.expect("taken")
    }

    async fn view(&self, id: &RolloutId) -> RolloutView {
        match self.runner.get(&id.0).await.expect("readable") {
            Some(view) => view,
            None => self.inbox.pending(&id.0).await.expect("not over").expect("asked for"),
        }
    }

    /// Until a rollout is in a phase.
    async fn reaches(&self, id: &RolloutId, phase: &str) -> RolloutView {
        let mut seen = Vec::new();
        for _ in 0..20_000 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let view = self.view(id).await;
            if view.phase == phase {
                return view;
            }
            if seen.last() != Some(&view.phase) {
                seen.push(view.phase);
            }
        }
        panic!("never {phase}: {seen:?}");
    }

    async fn check(&self, id: &RolloutId) {
        let verified = verify(&*self.journal, id).await.expect("readable");
        assert!(matches!(verified, Verified::Matches { .. }), "{verified:?}");
    }
}

/// The one rollout of an answer.
fn id(taken: &Taken) -> RolloutId {
    let [(policy, id)] = &taken.rollouts[..] else { panic!("{taken:?}") };
    assert_eq!(policy, "checkout");
    id.clone()
}

#[tokio::test(start_paused = true)]
async fn an_event_starts_a_rollout_once() {
    let setting = setting(policy(WhileLive::NewestWins));
    let first = setting.send(2).await;
    assert_eq!((first.pending, first.repeated), (false, false), "{first:?}");
    let view = setting.view(&id(&first)).await;
    assert_eq!(
        (view.phase.as_str(), view.image.as_deref(), view.revision.as_deref()),
        ("deploying", Some(&*image(2)), Some("v2"))
    );
    assert_eq!(view.started_by.to_string(), "ada (hook:generic)");
    let again = setting.send(2).await;
    assert_eq!(again, Taken { repeated: true, ..first.clone() });
    setting.reaches(&id(&first), "succeeded").await;
    assert_eq!(setting.send(2).await, again, "after its end as well");
    assert_eq!(setting.journal.begun(), [id(&first)]);
    setting.check(&id(&first)).await;
}

#[tokio::test(start_paused = true)]
async fn the_newest_ends_the_live_one_first() {
    let setting = setting(policy(WhileLive::NewestWins));
    let first = id(&setting.send(2).await);
    setting.reaches(&first, "baking").await;
    assert_eq!(setting.world.canary(), 10);
    let second = setting.send(3).await;
    assert!(second.pending, "{second:?}");
    let pending = setting.view(&id(&second)).await;
    let expected = format!("it takes the place of rollout {first}, which is being ended (rolling_back)");
    assert_eq!((pending.phase.as_str(), pending.reason), ("pending", Some(expected)));
    setting.reaches(&id(&second), "deploying").await;
    let view = setting.view(&first).await;
    assert_eq!((view.phase.as_str(), view.reason.as_deref()), ("superseded", Some("superseded by v3")));
    let view = setting.reaches(&id(&second), "succeeded").await;
    assert_eq!(view.outcome.as_deref(), Some("succeeded"));
    let deployed = [format!("deploy {} for {first}", image(2)), format!("deploy {} for {}", image(3), id(&second))];
    let changes = setting.world.inside().changes.clone();
    assert_eq!(changes[..2], deployed, "never while the first had traffic: the world would have refused it");
    setting.check(&first).await;
    setting.check(&id(&second)).await;
}

#[tokio::test(start_paused = true)]
async fn a_frozen_start_waits_and_ends_nothing() {
    for while_live in [WhileLive::NewestWins, WhileLive::Queue, WhileLive::Refuse] {
        let setting = setting(policy(while_live));
        let first = id(&setting.send(2).await);
        setting.reaches(&first, "baking").await;
        setting.runner.freeze(None, "payday".into(), ann()).await.expect("frozen");
        let second = setting.send(3).await;
        assert!(second.pending, "{second:?}");
        // Longer than anything that is not frozen waits for.
        tokio::time::sleep(Duration::from_secs(1200)).await;
        let reason = setting.view(&id(&second)).await.reason.unwrap_or_default();
        assert!(reason.starts_with("it waits: everything is frozen since ") && reason.ends_with("payday"), "{reason}");
        assert_eq!((setting.world.canary(), setting.view(&first).await.finished), (10, false));
        setting.runner.command(&first.0, Command::Abort { reason: "no".into() }, ann()).await.expect("goes back");
        setting.reaches(&first, "aborted").await;
        setting.runner.lift(None, ann()).await.expect("lifted");
        setting.reaches(&id(&second), "succeeded").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_on_its_way_into_its_slot_is_superseded_too() {
    let setting = setting(policy(WhileLive::NewestWins));
    let first = id(&setting.send(2).await);
    assert_eq!(setting.view(&first).await.phase, "deploying");
    let second = id(&setting.send(3).await);
    setting.reaches(&second, "baking").await;
    assert_eq!(setting.view(&first).await.phase, "superseded");
    assert_eq!(setting.journal.begun(), [first, second]);
}

#[tokio::test(start_paused = true)]
async fn one_that_has_all_the_traffic_is_let_finish() {
    let setting = setting(policy(WhileLive::NewestWins));
    let first = id(&setting.send(2).await);
    while setting.view(&first).await.weights["v2"] < 100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let second = setting.send(3).await;
    assert!(second.pending);
    let waits = setting.view(&id(&second)).await.reason.expect("why");
    assert!(waits.contains("it has all the traffic and is let finish"), "{waits}");
    let view = setting.reaches(&first, "succeeded").await;
    assert_eq!(view.outcome.as_deref(), Some("succeeded"));
    assert_eq!(setting.view(&id(&second)).await.canary, "v1", "the next release takes the other slot");
    setting.runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_those_that_queue_the_newest_begins() {
    let setting = setting(policy(WhileLive::Queue));
    let first = id(&setting.send(2).await);
    let (second, third) = (setting.send(3).await, setting.send(4).await);
    assert!(second.pending && third.pending);
    let waits = setting.view(&id(&third)).await.reason.expect("why");
    assert!(waits.starts_with(&format!("it waits for the end of rollout {first} (")), "{waits}");
    let Err(NotBegun::Over(why)) = setting.inbox.pending(&id(&second).0).await else { panic!("it is over") };
    assert_eq!(why, "a newer release (v4) came before it began");
    setting.runner.command(&first.0, Command::Abort { reason: "enough".into() }, ann()).await.expect("aborted");
    setting.reaches(&id(&third), "deploying").await;
    let view = setting.view(&first).await;
    assert_eq!((view.phase.as_str(), view.outcome.as_deref()), ("aborted", Some("aborted")), "not superseded");
    assert_eq!(setting.journal.begun(), [first, id(&third)]);
}

#[tokio::test(start_paused = true)]
async fn where_a_live_one_refuses_others_nothing_begins() {
    let setting = setting(policy(WhileLive::Refuse));
    let first = id(&setting.send(2).await);
    let second = setting.send(3).await;
    let [(why, hint)] = &second.refused[..] else { panic!("{second:?}") };
    assert!(why.contains(&format!("rollout {first} is live (deploying), and `while_live` is `refuse`")), "{why}");
    assert!(hint.contains("tidegate rollout abort"), "{hint}");
    assert!(setting.send(3).await.repeated, "sent again it is refused as before");
    assert_eq!(setting.journal.begun(), [first]);
}

#[tokio::test(start_paused = true)]
async fn the_same_release_again_is_nothing_while_it_is_live() {
    for while_live in [WhileLive::NewestWins, WhileLive::Queue, WhileLive::Refuse] {
        let setting = setting(policy(while_live));
        let first = id(&setting.send(2).await);
        let again = Delivery { ids: vec!["generic:another".into()], ..release(2) };
        let taken = setting.inbox.take(Source::Github, vec![again]).await.expect("taken");
        let expected = format!("policy `checkout`: rollout {first} releases v2 already (deploying)");
        assert_eq!((taken.rollouts.len(), taken.nothing), (0, vec![expected]));
        assert_eq!(setting.journal.begun(), [first]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_waits_can_be_given_up() {
    let setting = setting(policy(WhileLive::Queue));
    let first = id(&setting.send(2).await);
    let second = id(&setting.send(3).await);
    assert_eq!(setting.inbox.all_pending().await.expect("readable").len(), 1);
    assert!(setting.inbox.give_up(&second.0, "aborted by ann: no".into()).await.expect("written"));
    assert!(!setting.inbox.give_up(&second.0, "again".into()).await.expect("readable"));
    assert!(!setting.inbox.give_up(&first.0, "it has begun".into()).await.expect("readable"));
    setting.reaches(&first, "succeeded").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let outcome = setting.journal.start(&second).await.expect("readable").expect("kept").outcome;
    assert_eq!(outcome, Some(HookOutcome::Nothing { why: "aborted by ann: no".into() }));
    assert_eq!(setting.journal.begun(), [first]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_begin_says_why() {
    let setting = setting(plan(&[10, 100]));
    let taken = setting.send(2).await;
    let [(why, hint)] = &taken.refused[..] else { panic!("{taken:?}") };
    assert!(why.contains("has no `workload`, so nothing would deploy the image"), "{why}");
    assert!(hint.contains("add `workload` to the policy"), "{hint}");
    let asked = StartAsked { policy: "cart".into(), image: None, revision: None, actor: None };
    let delivery = Delivery { ids: vec!["generic:cart".into()], event: Event::Start(asked) };
    let error = setting.inbox.take(Source::Generic, vec![delivery.clone()]).await.expect_err("no such policy");
    assert!(matches!(error, TakeError::Unmatched(_)), "{error}");
    assert_eq!(error.to_string(), "there is no policy `cart` (there are: checkout)");
    assert!(setting.journal.seen(&delivery.ids).await.expect("readable").is_none(), "it may be sent again");
    assert!(setting.journal.begun().is_empty());
}

/// A mesh is waited for from when it first did not answer: whoever was down for longer than that still begins what had
/// been asked for, though the mesh comes up after it.
#[tokio::test(start_paused = true)]
async fn what_was_asked_for_before_a_long_outage_is_begun_after_it() {
    let clock = LifeClock::new();
    clock.begin();
    let world = World::new(clock.clone(), policy(WhileLive::NewestWins), Ways::default());
    let journal = Arc::new(MemoryJournal::default());
    let life = || {
        let runner = runner(clock.clone(), journal.clone(), &world);
        let inbox = Inbox::new(runner.clone(), journal.clone(), clock.clone());
        Setting { inbox, runner, journal: journal.clone(), world: world.clone() }
    };
    world.inside().unreadable = true;
    let before = life();
    let first = id(&before.send(2).await);
    before.runner.stop().await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let after = life();
    assert_eq!(after.inbox.resume().await.expect("readable"), 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(after.view(&first).await.phase, "pending");
    world.inside().unreadable = false;
    after.reaches(&first, "succeeded").await;
    assert_eq!(journal.begun(), [first]);
}

#[tokio::test(start_paused = true)]
async fn a_mesh_that_is_down_is_waited_for_and_the_answer_is_not() {
    let setting = setting(policy(WhileLive::NewestWins));
    setting.world.inside().unreadable = true;
    let taken = setting.send(2).await;
    assert!(taken.pending);
    let waits = setting.view(&id(&taken)).await.reason.expect("why");
    assert!(waits.starts_with("the route could not be read, and that is tried again:"), "{waits}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    setting.world.inside().unreadable = false;
    setting.reaches(&id(&taken), "succeeded").await;
    // One that stays so is given up.
    setting.world.inside().unreadable = true;
    let taken = setting.send(3).await;
    tokio::time::sleep(Duration::from_secs(700)).await;
    let Err(NotBegun::Over(why)) = setting.inbox.pending(&id(&taken).0).await else { panic!("it is over") };
    assert!(why.starts_with("the route could not be read:"), "{why}");
}
