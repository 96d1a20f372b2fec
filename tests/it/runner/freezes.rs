//! Freezes: whoever is told, whoever is not told yet, and what happens between.

use super::*;
use tidegate::ports::{Freeze, Freezes};
use tidegate::rollout::event::Actor;
use tidegate::runner::freezes::FreezeError;

fn ben() -> Actor {
    Actor { name: "ben".into(), via: "token".into() }
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

impl Setting {
    async fn view(&self) -> RolloutView {
        self.runner.get("checkout").await.expect("readable").expect("stored")
    }
}

/// Another process on the same journal and the same world, so many seconds after the first began.
fn successor(setting: &Setting, seconds: i64) -> Runner {
    runner(PausedClock::new(Timestamp(BEGINNING.0 + seconds * 1000)), setting.journal.clone(), &setting.world)
}

#[tokio::test(start_paused = true)]
async fn no_step_while_it_lasts_and_all_of_them_after() {
    for policy in [Some("checkout".to_owned()), None] {
        let setting = setting(&[10, 50, 100], Ways::default());
        let id = setting.start().await.id;
        setting.reaches("baking").await;
        let done = setting.runner.freeze(policy.clone(), "payday".into(), ben()).await.expect("frozen");
        assert_eq!((done.told, done.untold), (vec![id.clone()], vec![]));
        seconds(1800).await;
        assert_eq!((setting.world.canary(), setting.view().await.phase.as_str()), (10, "judging"));
        assert_eq!(setting.view().await.frozen.as_deref(), Some("frozen by ben: payday"));
        let refused =
            setting.runner.start(&StartRequest { policy: "checkout".into(), ..StartRequest::default() }, ann()).await;
        let refused = refused.expect_err("frozen").to_string();
        assert!(
            refused.contains("nothing of policy `checkout` starts") && refused.contains("by ben: payday"),
            "{refused}"
        );
        let done = setting.runner.lift(policy, ann()).await.expect("lifted");
        assert_eq!((done.freeze.reason.as_str(), done.told), ("payday", vec![id]));
        let (view, _) = setting.end().await;
        assert_eq!((view.phase.as_str(), view.frozen), ("succeeded", None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_release_is_rolled_back_all_the_same() {
    let setting = setting(&[10, 50, 100], Ways { bad_from: Some(20), ..Ways::default() });
    setting.start().await;
    setting.runner.freeze(None, "payday".into(), ben()).await.expect("frozen");
    let (view, _) = setting.end().await;
    assert_eq!((view.phase.as_str(), setting.world.canary()), ("rolled_back", 0));
}

#[tokio::test(start_paused = true)]
async fn the_freeze_that_is_left_stands() {
    let setting = setting(&[10, 100], Ways::default());
    setting.start().await;
    let id = setting.view().await.id;
    for (policy, reason) in [(Some("checkout".to_owned()), "a fault"), (None, "payday")] {
        let done = setting.runner.freeze(policy, reason.into(), ben()).await.expect("frozen");
        assert_eq!(done.told, [id.as_str()]);
    }
    assert_eq!(setting.view().await.frozen.as_deref(), Some("frozen by ben: payday"));
    let done = setting.runner.lift(None, ann()).await.expect("lifted");
    assert_eq!(done.told, [""; 0], "it may not go on yet");
    assert_eq!(setting.view().await.frozen.as_deref(), Some("frozen by ben: a fault"));
    let done = setting.runner.lift(Some("checkout".into()), ann()).await.expect("lifted");
    assert_eq!(done.told, [id.as_str()]);
    assert_eq!(setting.view().await.frozen, None);
    assert_eq!(setting.end().await.0.phase, "succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_freeze_that_was_kept_and_not_told_is_told_by_whoever_drives_next() {
    let setting = setting(&[10, 50, 100], Ways::default());
    setting.start().await;
    setting.reaches("baking").await;
    setting.runner.stop().await;
    // The process ended between keeping it and telling anybody.
    let freeze = Freeze { policy: None, reason: "payday".into(), by: ben(), at: BEGINNING };
    assert!(setting.journal.freeze(&freeze).await.expect("kept"));
    let next = successor(&setting, 15);
    next.resume().await.expect("taken up");
    seconds(1800).await;
    assert_eq!(setting.world.canary(), 10);
    let view = next.get("checkout").await.expect("readable").expect("stored");
    assert_eq!(view.frozen.as_deref(), Some("frozen by ben: payday"));
    // And a lift that nobody was told of.
    next.stop().await;
    setting.journal.lift(None, BEGINNING, &ann()).await.expect("kept");
    let last = successor(&setting, 1820);
    last.resume().await.expect("taken up");
    assert_eq!(setting.end().await.0.phase, "succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_freeze_of_another_process_is_heard_of() {
    let setting = setting(&[10, 50, 100], Ways::default());
    setting.runner.resume().await.expect("nothing to take up");
    setting.start().await;
    setting.reaches("baking").await;
    let freeze = Freeze { policy: Some("checkout".into()), reason: "payday".into(), by: ben(), at: BEGINNING };
    setting.journal.freeze(&freeze).await.expect("kept");
    seconds(6).await;
    assert_eq!(setting.view().await.frozen.as_deref(), Some("frozen by ben: payday"));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_was_under_way_does_not_begin_under_a_freeze() {
    let setting = setting(&[10, 100], Ways { slow_read: Duration::from_secs(2), ..Ways::default() });
    let (runner, request) =
        (setting.runner.clone(), StartRequest { policy: "checkout".into(), ..StartRequest::default() });
    let starting = tokio::spawn(async move { runner.start(&request, ann()).await });
    // It has been found that nothing is frozen, and the route is being read.
    seconds(1).await;
    setting.runner.freeze(None, "payday".into(), ben()).await.expect("frozen");
    let refused = starting.await.expect("no panic").expect_err("frozen meanwhile");
    assert!(matches!(refused, StartError::Frozen { .. }), "{refused}");
    assert_eq!(setting.journal.begun(), []);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_kept_before_the_store_went_down_is_told_as_soon_as_it_is_back() {
    let setting = setting(&[10, 50, 100], Ways::default());
    setting.runner.resume().await.expect("nothing to take up");
    setting.start().await;
    setting.reaches("baking").await;
    let freeze = Freeze { policy: None, reason: "payday".into(), by: ben(), at: BEGINNING };
    setting.journal.freeze(&freeze).await.expect("kept");
    setting.journal.down.store(true, Ordering::SeqCst);
    // A look falls into it.
    seconds(7).await;
    setting.journal.down.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(setting.view().await.frozen.as_deref(), Some("frozen by ben: payday"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_freezes_nothing_and_says_so() {
    let setting = setting(&[10, 100], Ways::default());
    setting.start().await;
    setting.journal.down.store(true, Ordering::SeqCst);
    let failed = setting.runner.freeze(None, "payday".into(), ben()).await.expect_err("it is down");
    assert!(matches!(failed, FreezeError::Fault(_)), "{failed}");
    setting.journal.down.store(false, Ordering::SeqCst);
    assert_eq!(setting.runner.freezes().await.expect("readable"), []);
    assert_eq!(setting.end().await.0.phase, "succeeded");
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_refused() {
    let setting = setting(&[10, 100], Ways::default());
    let freeze =
        async |policy: Option<&str>| setting.runner.freeze(policy.map(str::to_owned), "payday".into(), ben()).await;
    let unknown = freeze(Some("chekout")).await.expect_err("a typo").to_string();
    assert!(unknown.contains("no policy `chekout`"), "{unknown}");
    // Of a policy whose file is gone, as long as something of it is live.
    let live = beginning(&Plan { name: "gone".into(), ..plan(&[10, 100]) }, "r-gone", BEGINNING, fresh_route(7), 0);
    setting.journal.begin(&Plan { name: "gone".into(), ..plan(&[10, 100]) }, &live).await.expect("written");
    assert_eq!(freeze(Some("gone")).await.expect("frozen").told, ["r-gone"]);
    let unfrozen = setting.runner.lift(Some("checkout".into()), ben()).await.expect_err("not frozen").to_string();
    assert_eq!(unfrozen, "there is no freeze of policy `checkout`");
    assert!(matches!(freeze(Some("")).await, Err(FreezeError::NoSuchPolicy(_))));
    freeze(None).await.expect("frozen");
    let twice = freeze(None).await.expect_err("frozen already").to_string();
    assert!(twice.starts_with("everything is frozen since ") && twice.ends_with(" by ben: payday"), "{twice}");
}
