//! The runner with everything around it in memory and a clock that jumps over waits.

mod feed;
mod freezes;
mod news;
mod signals;

use crate::kit::memory::MemoryJournal;
use crate::kit::world::{Answer, Ways, World};
use crate::kit::{BEGINNING, ann, beginning, deploying, fresh_route, plan};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidegate::base::fault::Fault;
use tidegate::base::ids::RolloutId;
use tidegate::base::time::{Millis, Timestamp};
use tidegate::clock::Clock;
use tidegate::policy::plan::{Gate, GateRule, HealthProbe, Plan};
use tidegate::ports::{Checked, Journal};
use tidegate::rollout::event::{Command, Standing};
use tidegate::rollout::view::RolloutView;
use tidegate::runner::verify::{Verified, verify};
use tidegate::runner::{CommandError, Runner, RunnerParts, StartError, StartRequest};

/// Wall clock that follows the tests' clock.
struct PausedClock {
    from: Timestamp,
    start: tokio::time::Instant,
}

impl PausedClock {
    #[expect(clippy::disallowed_methods, reason = "the tests' clock, which jumps")]
    fn new(from: Timestamp) -> Arc<Self> {
        Arc::new(Self { from, start: tokio::time::Instant::now() })
    }
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.from.0 + i64::try_from(self.start.elapsed().as_millis()).expect("a short test"))
    }
}

struct Setting {
    runner: Runner,
    journal: Arc<MemoryJournal>,
    world: Arc<World>,
}

fn setting(weights: &[u8], ways: Ways) -> Setting {
    setting_of(plan(weights), ways)
}

fn setting_of(plan: Plan, ways: Ways) -> Setting {
    let clock = PausedClock::new(BEGINNING);
    let world = World::new(clock.clone(), plan, ways);
    let journal = Arc::new(MemoryJournal::default());
    let runner = runner(clock, journal.clone(), &world);
    Setting { runner, journal, world }
}

fn runner(clock: Arc<dyn Clock>, journal: Arc<MemoryJournal>, world: &Arc<World>) -> Runner {
    let (traffic, live, health, policies) = (world.clone(), world.clone(), world.clone(), world.clone());
    Runner::new(RunnerParts {
        clock,
        journal: journal.clone(),
        freezes: journal,
        traffic,
        workloads: Some(world.clone()),
        live,
        health,
        signals: Some(world.clone()),
        policies,
        people: Arc::default(),
    })
}

impl Setting {
    async fn start(&self) -> RolloutView {
        let request = StartRequest { policy: "checkout".into(), ..StartRequest::default() };
        self.runner.start(&request, ann()).await.expect("starts")
    }

    /// Waits for the end, noting every phase on the way.
    async fn end(&self) -> (RolloutView, Vec<String>) {
        let mut phases = Vec::new();
        for _ in 0..20_000 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let Ok(Some(view)) = self.runner.get("checkout").await else { continue };
            if phases.last() != Some(&view.phase) {
                phases.push(view.phase.clone());
            }
            if view.finished {
                self.check(&view).await;
                return (view, phases);
            }
        }
        panic!("no end: {phases:?}");
    }

    async fn check(&self, view: &RolloutView) {
        let verified = verify(&*self.journal, &RolloutId(view.id.clone())).await.expect("readable");
        assert!(matches!(verified, Verified::Matches { .. }), "{verified:?}");
        assert_eq!(self.world.canary(), view.weights["v2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_release_succeeds() {
    let setting = setting(&[10, 50, 100], Ways::default());
    setting.start().await;
    let (view, phases) = setting.end().await;
    assert_eq!((view.phase.as_str(), setting.world.canary()), ("succeeded", 100));
    assert!(phases.iter().all(|phase| phase != "paused"), "{phases:?}");
}

impl Setting {
    async fn release(&self, image: &str) -> Result<RolloutView, StartError> {
        let (policy, image) = ("checkout".into(), Some(image.into()));
        self.runner.start(&StartRequest { policy, image, ..StartRequest::default() }, ann()).await
    }

    /// Until the newest rollout is in a phase.
    async fn reaches(&self, phase: &str) -> RolloutView {
        for _ in 0..20_000 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let Ok(Some(view)) = self.runner.get("checkout").await else { continue };
            if view.phase == phase {
                return view;
            }
        }
        panic!("never {phase}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_is_deployed_before_it_gets_traffic_and_the_old_one_scaled_in_after() {
    let setting = setting_of(deploying(plan(&[10, 50, 100])), Ways::default());
    let view = setting.release("shop:v2").await.expect("starts");
    assert_eq!((view.phase.as_str(), view.image.as_deref()), ("deploying", Some("shop:v2")));
    let (view, phases) = setting.end().await;
    assert_eq!((view.phase.as_str(), view.outcome.as_deref()), ("succeeded", Some("succeeded")));
    assert_eq!((phases[0].as_str(), phases[phases.len() - 2].as_str()), ("deploying", "cleaning"), "{phases:?}");
    let changes = setting.world.inside().changes.clone();
    assert_eq!(changes, [format!("deploy shop:v2 for {}", view.id), "retire 1".to_owned()]);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_to_come_up_never_gets_traffic() {
    let ways = Ways { comes_up: Box::new(|_| Standing::Failing), ..Ways::default() };
    let setting = setting_of(deploying(plan(&[10, 50, 100])), ways);
    setting.release("shop:v2").await.expect("starts");
    let (view, _) = setting.end().await;
    assert_eq!(view.phase, "rolled_back");
    assert_eq!(view.reason.as_deref(), Some("the release does not come up: Failing"));
    let inside = setting.world.inside();
    assert!(inside.calls.iter().all(|call| call.share == 0), "{:?}", inside.calls);
    assert_eq!(inside.changes.last().map(String::as_str), Some("retire 2"));
}

#[tokio::test(start_paused = true)]
async fn the_next_release_takes_over_a_slot_that_is_only_kept() {
    let setting = setting_of(deploying(plan(&[10, 50, 100])), Ways { bad_from: Some(0), ..Ways::default() });
    let first = setting.release("shop:bad").await.expect("starts");
    let early = setting.release("shop:v3").await.expect_err("one is live");
    assert!(matches!(early, StartError::Journal(_)), "{early}");
    setting.reaches("cleaning").await;
    let second = setting.release("shop:v3").await.expect("the first one makes way");
    let first = setting.runner.get(&first.id).await.expect("readable").expect("stored");
    assert_eq!((first.phase.as_str(), first.finished), ("rolled_back", true));
    assert_eq!(setting.end().await.0.id, second.id);
    let changes = setting.world.inside().changes.clone();
    let deployments = [format!("deploy shop:bad for {}", first.id), format!("deploy shop:v3 for {}", second.id)];
    assert_eq!(changes, [deployments[0].as_str(), deployments[1].as_str(), "retire 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_cannot_deploy_refuses_the_start() {
    let clock = PausedClock::new(BEGINNING);
    let world = World::new(clock.clone(), deploying(plan(&[100])), Ways::default());
    let (traffic, live, health, policies) = (world.clone(), world.clone(), world.clone(), world.clone());
    let journal = Arc::new(MemoryJournal::default());
    let freezes = journal.clone();
    let parts = RunnerParts {
        clock,
        journal,
        freezes,
        traffic,
        workloads: None,
        live,
        health,
        signals: None,
        policies,
        people: Arc::default(),
    };
    let request = StartRequest { policy: "checkout".into(), image: Some("shop:v2".into()), ..StartRequest::default() };
    let refused = Runner::new(parts).start(&request, ann()).await.expect_err("it has no access");
    assert!(refused.to_string().contains("this daemon deploys nothing"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_bad_release_is_rolled_back_within_two_readings() {
    let setting = setting(&[10, 50, 100], Ways { bad_from: Some(0), ..Ways::default() });
    setting.start().await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(setting.world.canary(), 0);
    assert_eq!(setting.end().await.0.phase, "rolled_back");
}

#[tokio::test(start_paused = true)]
async fn a_mesh_that_hangs_at_a_step_leads_to_rollback() {
    let write = |_, share| if share == 50 { Answer::Hangs } else { Answer::Done };
    let setting = setting(&[10, 50, 100], Ways { write: Box::new(write), ..Ways::default() });
    setting.start().await;
    let (view, _) = setting.end().await;
    assert_eq!((view.phase.as_str(), setting.world.canary()), ("rolled_back", 0));
    assert!(setting.world.seconds() < 60, "{} s", setting.world.seconds());
}

#[tokio::test(start_paused = true)]
async fn a_mesh_that_hangs_for_a_while_is_rolled_back_in_the_end() {
    let write = |second, _| if (3..90).contains(&second) { Answer::Hangs } else { Answer::Done };
    let setting = setting(&[10, 100], Ways { bad_from: Some(0), write: Box::new(write), ..Ways::default() });
    setting.start().await;
    let (view, _) = setting.end().await;
    assert_eq!((view.phase.as_str(), setting.world.canary()), ("rolled_back", 0));
}

#[tokio::test(start_paused = true)]
async fn a_busy_mesh_is_tried_again() {
    let write = |second, share| if share == 50 && second % 2 == 0 { Answer::Busy } else { Answer::Done };
    let setting = setting(&[10, 50, 100], Ways { write: Box::new(write), ..Ways::default() });
    setting.start().await;
    assert_eq!(setting.end().await.0.phase, "succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_panics_is_given_up_by_the_deadline() {
    let write = |_, share| if share == 50 { Answer::Panics } else { Answer::Done };
    let setting = setting(&[10, 50, 100], Ways { write: Box::new(write), ..Ways::default() });
    setting.start().await;
    assert_eq!(setting.end().await.0.phase, "rolled_back");
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_panics_costs_one_reading() {
    let reports = |second| if second == 4 { panic!("a defect of the adapter") } else { true };
    let setting = setting(&[10, 50, 100], Ways { reports: Box::new(reports), ..Ways::default() });
    setting.start().await;
    assert_eq!(setting.end().await.0.phase, "succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_while_loses_nothing() {
    for (bad, phase) in [(false, "succeeded"), (true, "rolled_back")] {
        // Down at once after the start, so that the first write's answer falls into it; then on and off.
        let setting = setting(&[10, 50, 100], Ways { bad_from: bad.then_some(0), ..Ways::default() });
        setting.start().await;
        let journal = setting.journal.clone();
        let flicker = tokio::spawn(async move {
            for ms in [4000, 700, 300, 1900, 2100, 900, 5000, 1300, 3100, 800].into_iter().cycle().take(40) {
                let down = !journal.down.load(Ordering::SeqCst);
                journal.down.store(down, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            journal.down.store(false, Ordering::SeqCst);
        });
        let (view, _) = setting.end().await;
        assert_eq!(view.phase, phase);
        flicker.abort();
        // Nothing was written that the journal does not know.
        let calls = setting.world.inside().calls.len();
        assert!(calls <= 4, "{calls} calls");
    }
}

#[tokio::test(start_paused = true)]
async fn commands_do_not_keep_readings_away() {
    let setting = setting(&[10, 50, 100], Ways { bad_from: Some(1), ..Ways::default() });
    let id = setting.start().await.id;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        // Refused, again and again.
        let _ = setting.runner.command(&id, Command::Resume, ann()).await;
    }
    assert_eq!(setting.world.canary(), 0, "blind while someone types");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reading_from_before_a_write_is_no_drift() {
    // With versions the engine knows, without them the driver.
    for versions in [true, false] {
        let slow_read = Duration::from_millis(1700);
        let setting = setting(&[10, 50, 100], Ways { slow_read, versions, ..Ways::default() });
        setting.start().await;
        let (view, phases) = setting.end().await;
        assert_eq!(view.phase, "succeeded", "{phases:?}");
        assert!(phases.iter().all(|phase| phase != "paused"), "{phases:?}");
        assert_eq!(setting.world.inside().calls.len(), 3, "written again and again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_taken_over_stops() {
    let setting = setting(&[10, 50, 100], Ways::default());
    let id = setting.start().await.id;
    tokio::time::sleep(Duration::from_secs(2)).await;
    setting.journal.fenced.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let calls = setting.world.inside().calls.len();
    setting.journal.fenced.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(setting.world.inside().calls.len(), calls, "still driving");
    let answer = setting.runner.command(&id, Command::Abort { reason: "because".into() }, ann()).await;
    assert!(matches!(&answer, Err(CommandError::NotWritten(text)) if text.contains("not driven")), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_stored_and_driven_by_nobody_is_taken_up_when_somebody_speaks_to_it() {
    let setting = setting(&[10, 50, 100], Ways::default());
    // As a start leaves it that was made and reported as failed.
    let commit = beginning(&plan(&[10, 50, 100]), "r-lost", BEGINNING, fresh_route(7), 0);
    setting.journal.begin(&plan(&[10, 50, 100]), &commit).await.expect("written");
    let answer = setting.runner.command("r-lost", Command::Abort { reason: "because".into() }, ann()).await;
    assert_eq!(answer.expect("followed").phase, "rolling_back");
    assert_eq!(setting.end().await.0.phase, "aborted");
}

/// A clock with a defect that strikes once, in whoever asks next.
struct StruckClock {
    clock: Arc<PausedClock>,
    strikes: AtomicBool,
}

impl Clock for StruckClock {
    fn now(&self) -> Timestamp {
        assert!(!self.strikes.swap(false, Ordering::SeqCst), "a defect");
        self.clock.now()
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_panics_is_followed_by_another() {
    let clock = PausedClock::new(BEGINNING);
    let struck = Arc::new(StruckClock { clock: clock.clone(), strikes: AtomicBool::new(false) });
    let world = World::new(clock, plan(&[10, 50, 100]), Ways::default());
    let journal = Arc::new(MemoryJournal::default());
    let runner = runner(struck.clone(), journal.clone(), &world);
    let setting = Setting { runner, journal, world };
    let id = setting.start().await.id;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        struck.strikes.store(true, Ordering::SeqCst);
    }
    let (view, phases) = setting.end().await;
    assert_eq!((view.phase.as_str(), view.id), ("succeeded", id), "{phases:?}");
    assert!(!struck.strikes.load(Ordering::SeqCst), "never struck");
}

#[tokio::test(start_paused = true)]
async fn commands_are_answered() {
    let setting = setting(&[10, 50, 100], Ways::default());
    let id = setting.start().await.id;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let command = |command| setting.runner.command("checkout", command, ann());
    let view = command(Command::Pause { reason: "lunch".into() }).await.expect("live");
    assert_eq!((view.phase.as_str(), view.id.as_str()), ("paused", id.as_str()));
    assert!(matches!(command(Command::Pause { reason: "lunch".into() }).await, Err(CommandError::Refused(_))));
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(setting.world.canary(), 10);
    assert_eq!(command(Command::Resume).await.expect("live").phase, "shifting");
    let full = Command::Promote { full: true, reason: "now".into() };
    assert_eq!(command(full).await.expect("live").weights["v2"], 100);
    assert_eq!(setting.end().await.0.phase, "succeeded");
    let late = command(Command::Abort { reason: "late".into() }).await;
    assert!(
        matches!(&late, Err(CommandError::Refused(refusal)) if refusal.hint.contains("start checkout")),
        "{late:?}"
    );
    let unknown = setting.runner.command("r-none", Command::Resume, ann()).await;
    assert!(matches!(unknown, Err(CommandError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn one_rollout_at_a_time_and_generations_go_on() {
    let setting = setting(&[10, 100], Ways { bad_from: Some(0), ..Ways::default() });
    setting.start().await;
    let request = StartRequest { policy: "checkout".into(), ..StartRequest::default() };
    let second = setting.runner.start(&request, ann()).await;
    assert!(matches!(second, Err(StartError::Refused(_) | StartError::Journal(_))), "{second:?}");
    setting.end().await;
    let first = setting.world.inside().calls.last().expect("calls").generation;
    tokio::time::sleep(Duration::from_secs(1)).await;
    setting.start().await;
    setting.end().await;
    let generations: Vec<u64> = setting.world.inside().calls.iter().map(|call| call.generation).collect();
    assert!(generations.windows(2).all(|two| two[0] < two[1]) && generations.last() > Some(&first), "{generations:?}");
    let none = setting.runner.start(&StartRequest { policy: "none".into(), ..StartRequest::default() }, ann()).await;
    assert!(matches!(none, Err(StartError::Policy(_))));
}

#[test]
fn a_restart_goes_on_where_it_stood() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().expect("a runtime")
    };
    // Dropping a runtime drops everything that runs on it, wherever it stands.
    for seconds in 1..12 {
        let journal = Arc::new(MemoryJournal::default());
        let first = runtime();
        let world = first.block_on(async {
            let clock = PausedClock::new(BEGINNING);
            let world = World::new(clock.clone(), plan(&[10, 50, 100]), Ways::default());
            let setting = Setting { runner: runner(clock, journal.clone(), &world), journal: journal.clone(), world };
            setting.start().await;
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            setting.world
        });
        drop(first);
        runtime().block_on(async {
            // A minute later: longer than silence is borne, but nobody was there to hear.
            let clock = PausedClock::new(Timestamp(BEGINNING.0 + 60_000));
            let setting = Setting { runner: runner(clock, journal.clone(), &world), journal: journal.clone(), world };
            assert_eq!(setting.runner.resume().await.expect("readable"), 1);
            let (view, phases) = setting.end().await;
            assert_eq!(view.phase, "succeeded", "after {seconds} s: {phases:?}");
            assert!(phases.iter().all(|phase| phase != "paused"), "{phases:?}");
        });
    }
}

/// A plan with a gate on health, asked every second, that fails at the third bad answer.
fn with_health(weights: &[u8]) -> Plan {
    let mut plan = plan(weights);
    let rule = GateRule::Health {
        probe: HealthProbe::Http { path: "/health".into() },
        interval: Millis::from_seconds(1),
        breaches: 3,
    };
    plan.gates.push(Gate::new("alive", rule));
    plan
}

fn checked(failed: usize) -> Result<Checked, Fault> {
    let first = (failed > 0).then(|| "127.0.0.1:9002 answered 503 to /health".to_owned());
    Ok(Checked { asked: 2, failed, first })
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_version_is_rolled_back_though_it_answers_every_request() {
    let health = |_, node: &str| checked(usize::from(node == "v2"));
    let setting = setting_of(with_health(&[10, 100]), Ways { health: Box::new(health), ..Ways::default() });
    setting.start().await;
    let (view, _) = setting.end().await;
    assert_eq!((view.phase.as_str(), setting.world.canary()), ("rolled_back", 0));
    let reason = view.reason.unwrap();
    assert!(reason.contains("gate alive") && reason.contains("127.0.0.1:9002 answered 503"), "{reason}");
    assert!(setting.world.seconds() < 20, "{} s", setting.world.seconds());
}

#[tokio::test(start_paused = true)]
async fn checks_that_hang_or_break_off_neither_blame_nor_advance() {
    for seconds in [0, 40] {
        // Nobody knows for a while, once by a defect and once by an error; then all is well.
        let health = move |now, _: &str| match now < seconds {
            true if now % 2 == 0 => panic!("a defect of the adapter"),
            true => Err(Fault::transient("dns", "no such name")),
            false => checked(0),
        };
        let setting = setting_of(with_health(&[10, 100]), Ways { health: Box::new(health), ..Ways::default() });
        setting.start().await;
        let (view, _) = setting.end().await;
        assert_eq!(view.phase, "succeeded", "{:?}", view.reason);
        assert!(setting.world.seconds() > seconds, "advanced blindly");
    }
}
