//! A process that dies at any point, once, leaves a rollout that comes to the same end: every scenario, every commit and
//! every call, on the real store and the real engine.

use crate::kit::life::{Cut, Deed, ID, Outside, live};
use crate::kit::world::{Answer, HandClock, Ways, World};
use crate::kit::{SECOND, deploying, directory, growing, plan, previewing};
use std::collections::{BTreeMap, BTreeSet};
use tidegate::base::ids::RolloutId;
use tidegate::clock::Clock;
use tidegate::policy::plan::Plan;
use tidegate::ports::{Journal, Stored};
use tidegate::rollout::event::{Command, Standing};
use tidegate::rollout::view::phase_name;
use tidegate::runner::verify::{Verified, verify};
use tidegate::store::sqlite::SqliteStore;

/// How a story ends: phase, and the canary's share in the mesh.
type End = (&'static str, u8);

struct Scenario {
    plan: Plan,
    ways: fn() -> Ways,
    deeds: Vec<(i64, Deed)>,
    end: End,
}

fn scenario(end: End, ways: fn() -> Ways, deeds: Vec<(i64, Deed)>) -> Scenario {
    Scenario { plan: plan(&[10, 50, 100]), ways, deeds, end }
}

fn order(command: Command) -> Deed {
    Deed::Order(Box::new(command))
}

fn because() -> String {
    "because".into()
}

/// What one run came to.
struct Run {
    end: (String, u8),
    commits: usize,
    calls: usize,
    deaths: usize,
}

/// A run with these cuts; after each death a new process takes over two seconds later.
async fn run(scenario: &Scenario, cuts: &[Cut]) -> Run {
    let directory = directory();
    let clock = HandClock::new();
    let world = World::new(clock.clone(), scenario.plan.clone(), (scenario.ways)());
    let mut outside = Outside {
        clock,
        world,
        plan: scenario.plan.clone(),
        deeds: scenario.deeds.clone(),
        cuts: cuts.iter().copied().collect(),
        commits: 0,
        calls: 0,
    };
    let mut deaths = 0;
    let stored = loop {
        let store = SqliteStore::open(directory.path()).await.expect("opens");
        check_journal(&store).await;
        let lived = live(&store, &mut outside).await;
        check_journal(&store).await;
        store.close().await;
        match lived {
            Ok(stored) => break stored,
            Err(_) => {
                deaths += 1;
                let (commits, calls) = (outside.commits, outside.calls);
                outside.cuts.retain(|cut| !passed(*cut, commits, calls));
                outside.clock.pass(2 * SECOND);
            }
        }
    };
    check_calls(&outside, deaths);
    check_slots(&outside, &stored);
    // Nothing lands after the end.
    outside.clock.pass(60 * SECOND);
    let end = (phase_name(&stored.state).to_owned(), outside.world.canary());
    assert!(stored.state.at <= outside.clock.now());
    assert_eq!(outside.world.inside().preview, None, "the preview's route is left behind");
    Run { end, commits: outside.commits, calls: outside.calls, deaths }
}

const fn passed(cut: Cut, commits: usize, calls: usize) -> bool {
    match cut {
        Cut::BeforeCommit(n) | Cut::AfterCommit(n) => n <= commits,
        Cut::AfterCall(n) => n <= calls,
    }
}

/// The journal leads to the stored state, and what is unsettled is what the state waits for.
async fn check_journal(store: &SqliteStore) {
    let id = RolloutId(ID.into());
    let Some(Stored { state, .. }) = store.get(&id).await.expect("readable") else { return };
    assert!(matches!(verify(store, &id).await.expect("readable"), Verified::Matches { .. }));
    let unsettled: BTreeSet<_> = store.unsettled(&id).await.expect("readable").into_iter().map(|(id, _)| id).collect();
    assert_eq!(unsettled, state.open_effects().into_iter().collect());
    let live = store.live().await.expect("readable");
    assert_eq!(live.len(), usize::from(!state.is_finished()));
}

/// Each death repeats one call at most; generations rise.
fn check_calls(outside: &Outside, deaths: usize) {
    let inside = outside.world.inside();
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for call in &inside.calls {
        *times.entry(call.generation).or_default() += 1;
    }
    let repeated: usize = times.values().map(|times| times - 1).sum();
    assert!(repeated <= deaths, "{repeated} calls repeated after {deaths} deaths");
    assert!(inside.calls.windows(2).all(|two| two[0].generation <= two[1].generation));
}

/// What has the traffic runs, the other slot runs nothing, and nothing was deployed twice.
fn check_slots(outside: &Outside, stored: &Stored) {
    if stored.plan.workload.is_none() {
        return;
    }
    let inside = outside.world.inside();
    let runs = [0, 1].map(|slot| inside.slots[slot].is_some());
    let promoted = inside.route.percent_of("v2") == 100;
    assert_eq!(runs, [!promoted, promoted], "{:?}", inside.changes);
    let deployments = inside.changes.iter().filter(|change| change.starts_with("deploy")).count();
    assert!(deployments <= 1, "{:?}", inside.changes);
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

/// Every single cut.
fn survives(scenario: &Scenario) {
    block_on(async {
        let whole = run(scenario, &[]).await;
        assert_eq!((whole.end.0.as_str(), whole.end.1), scenario.end);
        assert_eq!(whole.deaths, 0);
        let commits = (1..=whole.commits).flat_map(|n| [Cut::BeforeCommit(n), Cut::AfterCommit(n)]);
        for cut in commits.chain((1..=whole.calls).map(Cut::AfterCall)) {
            let after = run(scenario, &[cut]).await;
            assert_eq!((after.end, after.deaths), (whole.end.clone(), 1), "{cut:?}");
        }
    });
}

#[test]
fn a_good_release() {
    survives(&scenario(("succeeded", 100), Ways::default, vec![]));
}

#[test]
fn a_bad_release() {
    survives(&scenario(("rolled_back", 0), || Ways { bad_from: Some(0), ..Ways::default() }, vec![]));
}

#[test]
fn an_aborted_release() {
    let abort = order(Command::Abort { reason: because() });
    survives(&scenario(("aborted", 0), Ways::default, vec![(5, abort)]));
}

#[test]
fn a_data_plane_that_falls_silent_and_comes_back() {
    let ways = || Ways { reports: Box::new(|second| !(4..20).contains(&second)), ..Ways::default() };
    survives(&scenario(("succeeded", 100), ways, vec![]));
}

#[test]
fn a_step_that_is_refused() {
    let ways = || Ways {
        write: Box::new(|_, share| if share == 50 { Answer::Refused } else { Answer::Done }),
        ..Ways::default()
    };
    survives(&scenario(("rolled_back", 0), ways, vec![]));
}

#[test]
fn a_rollback_that_is_refused_for_a_while() {
    let ways = || Ways {
        bad_from: Some(0),
        write: Box::new(|second, share| if share == 0 && second < 25 { Answer::Refused } else { Answer::Done }),
        ..Ways::default()
    };
    survives(&scenario(("rolled_back", 0), ways, vec![]));
}

#[test]
fn a_step_whose_answer_is_lost() {
    let ways = || Ways {
        write: Box::new(|_, share| if share == 50 { Answer::Unheard } else { Answer::Done }),
        ..Ways::default()
    };
    survives(&scenario(("rolled_back", 0), ways, vec![]));
}

#[test]
fn a_step_that_times_out_and_lands_after_the_rollback() {
    let ways = || Ways {
        write: Box::new(|_, share| if share == 50 { Answer::LandsAfter(5) } else { Answer::Done }),
        ..Ways::default()
    };
    survives(&scenario(("rolled_back", 0), ways, vec![]));
}

#[test]
fn a_canary_that_someone_lowers_until_a_person_resumes() {
    let deeds = vec![(4, Deed::Meddle(5)), (12, order(Command::Resume))];
    survives(&scenario(("succeeded", 100), Ways::default, deeds));
}

#[test]
fn a_canary_that_someone_raises() {
    survives(&scenario(("succeeded", 100), Ways::default, vec![(4, Deed::Meddle(90))]));
}

#[test]
fn a_pause_and_a_promotion_by_hand() {
    let deeds = vec![
        (3, order(Command::Pause { reason: because() })),
        (12, order(Command::Promote { full: true, reason: because() })),
    ];
    survives(&scenario(("succeeded", 100), Ways::default, deeds));
}

/// The same with a release that has to be deployed first.
fn deployed(end: End, ways: fn() -> Ways, deeds: Vec<(i64, Deed)>) -> Scenario {
    let scenario = scenario(end, ways, deeds);
    Scenario { plan: deploying(scenario.plan), ..scenario }
}

#[test]
fn a_good_release_that_is_deployed() {
    survives(&deployed(("succeeded", 100), Ways::default, vec![]));
}

#[test]
fn a_bad_release_that_is_deployed() {
    survives(&deployed(("rolled_back", 0), || Ways { bad_from: Some(0), ..Ways::default() }, vec![]));
}

#[test]
fn a_good_release_whose_instances_follow_its_share() {
    let ways = || Ways { comes_up: Box::new(slowly), ..Ways::default() };
    let scenario = deployed(("succeeded", 100), ways, vec![]);
    survives(&Scenario { plan: growing(scenario.plan), ..scenario });
}

/// Up after three seconds.
fn slowly(seconds: i64) -> Standing {
    if seconds < 3 { Standing::Progressing } else { Standing::Ready }
}

#[test]
fn a_release_that_never_comes_up() {
    let slow = || Ways { comes_up: Box::new(|_| Standing::Progressing), ..Ways::default() };
    // Its instances count as gone only when they are: the world's `retire` takes them at once.
    survives(&deployed(("rolled_back", 0), slow, vec![]));
    let crashing = || Ways { comes_up: Box::new(|_| Standing::Failing), ..Ways::default() };
    survives(&deployed(("rolled_back", 0), crashing, vec![]));
}

#[test]
fn a_deployment_whose_answer_is_lost() {
    let ways = || Ways {
        deploy: Box::new(|second| if second < 5 { Answer::Unheard } else { Answer::Done }),
        ..Ways::default()
    };
    survives(&deployed(("succeeded", 100), ways, vec![]));
}

#[test]
fn a_deployment_that_is_refused() {
    let ways = || Ways { deploy: Box::new(|_| Answer::Refused), ..Ways::default() };
    survives(&deployed(("rolled_back", 0), ways, vec![]));
}

/// The same with a preview before the first step.
fn previewed(end: End, ways: fn() -> Ways, deeds: Vec<(i64, Deed)>) -> Scenario {
    let scenario = scenario(end, ways, deeds);
    Scenario { plan: previewing(scenario.plan), ..scenario }
}

#[test]
fn a_good_release_with_a_preview() {
    survives(&previewed(("succeeded", 100), Ways::default, vec![]));
    let deployed = deployed(("succeeded", 100), Ways::default, vec![]);
    survives(&Scenario { plan: previewing(deployed.plan), ..deployed });
}

#[test]
fn an_abort_while_the_preview_is_made_and_while_it_lasts() {
    for second in [0, 1, 3, 7] {
        let abort = order(Command::Abort { reason: because() });
        survives(&previewed(("aborted", 0), Ways::default, vec![(second, abort)]));
    }
}

#[test]
fn a_preview_whose_answers_are_lost() {
    let ways = || Ways {
        preview: Box::new(|second, _| if second % 2 == 0 { Answer::Unheard } else { Answer::Done }),
        ..Ways::default()
    };
    survives(&previewed(("succeeded", 100), ways, vec![]));
}

#[test]
fn a_preview_that_cannot_be_made_and_one_that_comes_late() {
    let ways =
        || Ways { preview: Box::new(|_, opens| if opens { Answer::Refused } else { Answer::Done }), ..Ways::default() };
    survives(&previewed(("rolled_back", 0), ways, vec![]));
    let late = || Ways {
        preview: Box::new(|second, opens| if opens && second < 2 { Answer::LandsAfter(5) } else { Answer::Done }),
        ..Ways::default()
    };
    let abort = order(Command::Abort { reason: because() });
    survives(&previewed(("aborted", 0), late, vec![(1, abort)]));
}

#[test]
fn an_abort_while_the_old_version_is_kept() {
    let abort = order(Command::Abort { reason: because() });
    survives(&deployed(("aborted", 0), Ways::default, vec![(30, abort)]));
}

#[test]
fn two_deaths_in_one_life() {
    let scenario = scenario(("succeeded", 100), Ways::default, vec![(4, Deed::Meddle(90))]);
    block_on(async {
        let whole = run(&scenario, &[]).await;
        for first in 1..=whole.commits {
            let second = Cut::BeforeCommit(first + 1 + first % 3);
            let after = run(&scenario, &[Cut::AfterCommit(first), second]).await;
            assert_eq!(after.end, whole.end, "{first} and {second:?}");
            let second = Cut::AfterCall(1 + first % whole.calls);
            let after = run(&scenario, &[Cut::BeforeCommit(first), second]).await;
            assert_eq!(after.end, whole.end, "{first} and {second:?}");
        }
    });
}
