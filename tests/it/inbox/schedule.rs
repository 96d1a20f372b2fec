//! Windows and departures on the real runner and inbox: what waits and for how long, what begins all the same, and that
//! nothing ever begins outside of a window or inside a freeze, over changes of the clocks.

use super::*;
use proptest::prelude::*;
use proptest::sample::select;
use tidegate::base::time::Millis;
use tidegate::policy::plan::{ApprovalStep, OnFailure, Step};
use tidegate::rollout::event::{Event as Happened, Start};
use tidegate::runner::StartRequest;
use tidegate::runner::handle::RetryError;

/// The tests begin on Tuesday, 2023-11-14T22:13:20Z.
fn scheduled(windows: &[&str], at: &[&str], while_live: WhileLive) -> Plan {
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    let start = StartRules { image: None, workflow: None, windows: texts(windows), at: texts(at), while_live };
    Plan { start: Some(start), ..policy(while_live) }
}

async fn minutes(minutes: u64) {
    tokio::time::sleep(Duration::from_secs(minutes * 60)).await;
}

fn by_hand(outside_windows: Option<&str>) -> StartRequest {
    let (policy, image) = ("checkout".to_owned(), Some("shop/checkout:v9".to_owned()));
    StartRequest { policy, image, outside_windows: outside_windows.map(Into::into), ..StartRequest::default() }
}

impl Setting {
    async fn begun_at(&self, id: &RolloutId) -> String {
        self.view(id).await.started_at[11..16].to_owned()
    }

    async fn start_input(&self, id: &str) -> Start {
        let first = self.journal.inputs(&RolloutId(id.into())).await.expect("readable").remove(0).input;
        let Happened::Command { command: Command::Start(start), .. } = first.event else { panic!("a start is first") };
        start
    }

    async fn over(&self, id: &RolloutId) -> String {
        match self.inbox.pending(&id.0).await {
            Err(NotBegun::Over(why)) => why,
            other => panic!("it is over: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_outside_of_the_windows_waits_and_the_newest_begins() {
    for while_live in [WhileLive::NewestWins, WhileLive::Queue, WhileLive::Refuse] {
        let setting = setting(scheduled(&["Wed 09:00-10:00 Europe/Berlin", "Tue 23:30-00:30 UTC"], &[], while_live));
        let first = setting.send(2).await;
        assert!(first.pending, "{first:?}");
        minutes(20).await;
        let second = setting.send(3).await;
        let waits = setting.view(&id(&second)).await.reason.expect("why");
        assert_eq!(
            waits,
            "it waits: no window of policy `checkout` is open (Wed 09:00-10:00 Europe/Berlin, Tue 23:30-00:30 UTC); the next \
             one opens at 2023-11-14T23:30:00.000Z"
        );
        assert_eq!(setting.over(&id(&first)).await, "a newer release (v3) came before it began");
        minutes(50).await;
        setting.reaches(&id(&second), "baking").await;
        assert_eq!(setting.begun_at(&id(&second)).await, "23:30");
        // In a window there is nothing to wait for but the one that is live.
        setting.runner.command(&id(&second).0, Command::Abort { reason: "no".into() }, ann()).await.expect("ends");
        setting.reaches(&id(&second), "aborted").await;
        assert!(!setting.send(4).await.pending);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_goes_on_when_its_window_ends_and_the_next_one_waits_for_its_own() {
    let setting = setting(scheduled(&["daily 22:00-22:14 UTC"], &[], WhileLive::NewestWins));
    let first = id(&setting.send(2).await);
    let view = setting.view(&first).await;
    let windows = "began within its windows (daily 22:00-22:14 UTC), and goes on when they end";
    assert_eq!((view.phase.as_str(), view.windows.as_deref()), ("deploying", Some(windows)));
    minutes(1).await;
    let second = id(&setting.send(3).await);
    // It does not take the place of the one that is live before it may begin.
    assert!(setting.view(&second).await.reason.expect("why").contains("2023-11-15T22:00:00.000Z"));
    let view = setting.reaches(&first, "succeeded").await;
    assert_eq!((view.outcome.as_deref(), view.windows), (Some("succeeded"), None));
    assert_eq!(setting.view(&second).await.phase, "pending");
    setting.check(&first).await;
}

#[tokio::test(start_paused = true)]
async fn by_hand_it_takes_a_reason_which_is_kept() {
    let setting = setting(scheduled(&["daily 23:00-23:30 UTC"], &["0 5 * * * UTC"], WhileLive::NewestWins));
    let refused = setting.runner.start(&by_hand(None), ann()).await.expect_err("closed").to_string();
    let closed = "no window of policy `checkout` is open (daily 23:00-23:30 UTC); the next one opens at \
                  2023-11-14T23:00:00.000Z";
    assert_eq!(refused, format!("nothing begins: {closed}"));
    let first = setting.runner.start(&by_hand(Some("the site is down")), ann()).await.expect("begins");
    assert_eq!(
        first.windows.as_deref(),
        Some("began outside of its windows (daily 23:00-23:30 UTC): the site is down")
    );
    assert_eq!(setting.start_input(&first.id).await.outside_windows.as_deref(), Some("the site is down"));
    setting.runner.command(&first.id, Command::Abort { reason: "no".into() }, ann()).await.expect("ends");
    let first = RolloutId(first.id);
    setting.reaches(&first, "aborted").await;
    setting.check(&first).await;
    let Err(RetryError::Start(error)) = setting.runner.retry(&first.0, None, ann()).await else { panic!("closed") };
    assert_eq!(error.to_string(), format!("nothing begins: {closed}"));
    let again = setting.runner.retry(&first.0, Some("still down".into()), ann()).await.expect("begins");
    assert_eq!(setting.start_input(&again.id).await.outside_windows.as_deref(), Some("still down"));
    setting.runner.command(&again.id, Command::Abort { reason: "no".into() }, ann()).await.expect("ends");
    // Within a window no reason is needed, and none is kept; and departures are for events.
    minutes(48).await;
    let within = setting.runner.start(&by_hand(Some("needless")), ann()).await.expect("open");
    assert_eq!(setting.start_input(&within.id).await.outside_windows, None);
}

#[tokio::test(start_paused = true)]
async fn what_events_ask_for_departs_together_and_the_newest_alone() {
    for while_live in [WhileLive::NewestWins, WhileLive::Queue, WhileLive::Refuse] {
        let setting = setting(scheduled(&[], &["0 23 * * * UTC", "30 23 * * * UTC"], while_live));
        let first = setting.send(2).await;
        let waits = setting.view(&id(&first)).await.reason.expect("why");
        assert_eq!(waits, "it waits: what is asked for departs at 2023-11-14T23:00:00.000Z");
        let second = setting.send(3).await;
        assert_eq!(setting.over(&id(&first)).await, "a newer release (v3) came before it began");
        // The departure passes under a freeze. What comes after it is left to the next one, and takes nobody's place before.
        setting.runner.freeze(None, "payday".into(), ann()).await.expect("frozen");
        minutes(50).await;
        let third = setting.send(4).await;
        assert!(setting.view(&id(&second)).await.reason.expect("why").ends_with("payday"));
        let waits = setting.view(&id(&third)).await.reason.expect("why");
        assert_eq!(waits, "it waits: what is asked for departs at 2023-11-14T23:30:00.000Z");
        setting.runner.lift(None, ann()).await.expect("lifted");
        setting.reaches(&id(&second), "deploying").await;
        assert_eq!(setting.begun_at(&id(&second)).await, "23:03");
        setting.runner.command(&id(&second).0, Command::Abort { reason: "no".into() }, ann()).await.expect("ends");
        minutes(20).await;
        setting.reaches(&id(&third), "deploying").await;
        assert_eq!(setting.begun_at(&id(&third)).await, "23:30");
    }
}

/// What waited while somebody began a newer one by hand would undo that, and comes to nothing.
#[tokio::test(start_paused = true)]
async fn what_waits_does_not_undo_what_began_by_hand_meanwhile() {
    for while_live in [WhileLive::NewestWins, WhileLive::Queue, WhileLive::Refuse] {
        let setting = setting(scheduled(&[], &["0 23 * * * UTC"], while_live));
        let waits = id(&setting.send(2).await);
        minutes(5).await;
        let fixed = setting.runner.start(&by_hand(None), ann()).await.expect("begins");
        setting.runner.command(&fixed.id, Command::Abort { reason: "no".into() }, ann()).await.expect("ends");
        minutes(1).await;
        assert_eq!(setting.over(&waits).await, format!("a newer rollout ({}) began before it", fixed.id));
        // What comes after it is newer, and departs.
        let next = id(&setting.send(3).await);
        minutes(40).await;
        setting.reaches(&next, "deploying").await;
        assert_eq!(setting.begun_at(&next).await, "23:00");
    }
}

/// It waits for its own time, and meanwhile events come and go.
#[tokio::test(start_paused = true)]
async fn what_people_ask_for_ahead_begins_at_its_time() {
    let mut plan = scheduled(&["daily 22:00-23:30 UTC"], &[], WhileLive::NewestWins);
    for step in &mut plan.steps {
        let Step::Weight(step) = step else { continue };
        // Long enough to be at the first one when another begins.
        (step.min, step.max) = (Millis::from_seconds(120), Millis::from_seconds(240));
    }
    let setting = setting(plan);
    let at = |minutes: i64| Timestamp(BEGINNING.0 + minutes * 60_000);
    let view = setting.inbox.ask(by_hand(None), at(60), ann()).await.expect("kept");
    let waits = "it waits: it is to begin at 2023-11-14T23:13:20.000Z";
    assert_eq!((view.phase.as_str(), view.reason.as_deref(), view.started_by), ("pending", Some(waits), ann()));
    let asked = RolloutId(view.id);
    let other = RolloutId(setting.inbox.ask(by_hand(None), at(61), ann()).await.expect("kept").id);
    let first = id(&setting.send(2).await);
    // It goes back before it has all the traffic: the world knows one direction only.
    setting.reaches(&first, "baking").await;
    setting.runner.command(&first.0, Command::Abort { reason: "no".into() }, ann()).await.expect("ends");
    // Fifteen seconds before: what begins then is on its way.
    let left = at(60).since(setting.inbox.now()).duration() - Duration::from_secs(15);
    tokio::time::sleep(left).await;
    assert_eq!(setting.view(&asked).await.reason.as_deref(), Some(waits));
    assert!(setting.inbox.give_up(&other.0, "aborted by ann: no".into()).await.expect("written"));
    // At its time it does with what is live what an event would.
    let last = id(&setting.send(3).await);
    setting.reaches(&asked, "deploying").await;
    let phase = setting.view(&last).await.phase;
    assert_eq!(phase, "superseded");
    let begun = setting.view(&asked).await.started_at;
    assert!(begun.as_str() >= "2023-11-14T23:13:20" && begun.as_str() < "2023-11-14T23:14:00", "{begun}");
    assert_eq!(setting.over(&other).await, "aborted by ann: no");
    setting.check(&asked).await;
}

#[tokio::test(start_paused = true)]
async fn what_could_not_begin_at_its_time_is_not_taken() {
    let setting = setting(scheduled(&["daily 22:00-23:30 UTC"], &[], WhileLive::NewestWins));
    let at = |minutes: i64| Timestamp(BEGINNING.0 + minutes * 60_000);
    let ask = async |request: StartRequest, minutes: i64| {
        let refused = setting.inbox.ask(request, at(minutes), ann()).await.expect_err("it could not begin");
        refused.to_string()
    };
    assert_eq!(ask(by_hand(None), 0).await, "2023-11-14T22:13:20.000Z is past");
    assert_eq!(ask(by_hand(None), 367 * 1440).await, "2024-11-15T22:13:20.000Z is more than a year away");
    assert_eq!(
        ask(by_hand(None), 120).await,
        "nothing begins: no window of policy `checkout` is open at 2023-11-15T00:13:20.000Z (daily 22:00-23:30 UTC); the next \
         one opens at 2023-11-15T22:00:00.000Z"
    );
    let to = StartRequest { to: Some("v2".into()), ..by_hand(None) };
    assert_eq!(ask(to, 60).await, "which version has no weight at that time is not known yet");
    let nothing = StartRequest { image: None, ..by_hand(None) };
    assert_eq!(ask(nothing, 60).await, "policy `checkout` deploys what it releases, and no image was named");
    assert!(ask(StartRequest { policy: "cart".into(), ..by_hand(None) }, 60).await.contains("cart"));
    // With a reason it is, and begins outside of the window; what has none waits for it still.
    let asked = setting.inbox.ask(by_hand(Some("night work")), at(120), ann()).await.expect("kept");
    minutes(100).await;
    let event = id(&setting.send(2).await);
    minutes(18).await;
    let asked = RolloutId(asked.id);
    setting.reaches(&asked, "deploying").await;
    assert!(setting.view(&event).await.reason.expect("why").starts_with("it waits: no window of policy `checkout`"));
    assert_eq!(setting.start_input(&asked.0).await.outside_windows.as_deref(), Some("night work"));
    for _ in 0..100 {
        setting.inbox.ask(by_hand(None), at(1440), ann()).await.expect("kept");
    }
    assert_eq!(ask(by_hand(None), 1440).await, "100 starts wait for their time already");
}

/// A daemon that is down at a departure, or when a window opens, begins what waited as soon as it is back.
#[tokio::test(start_paused = true)]
async fn what_waits_outlives_the_daemon() {
    let clock = LifeClock::new();
    clock.begin();
    let plan = scheduled(&["daily 23:00-00:30 UTC"], &["15 23 * * * UTC"], WhileLive::NewestWins);
    let world = World::new(clock.clone(), plan, Ways::default());
    let journal = Arc::new(MemoryJournal::default());
    let life = || {
        let runner = runner(clock.clone(), journal.clone(), &world);
        let inbox = Inbox::new(runner.clone(), journal.clone(), clock.clone());
        Setting { inbox, runner, journal: journal.clone(), world: world.clone() }
    };
    let before = life();
    let first = id(&before.send(2).await);
    before.runner.stop().await;
    minutes(80).await;
    let after = life();
    assert_eq!(after.inbox.resume().await.expect("readable"), 1);
    after.reaches(&first, "succeeded").await;
    assert_eq!(after.begun_at(&first).await, "23:33");
}

// === whatever happens ===

/// What the clocks of a zone show, minute by minute from an instant on, as minutes since 1970 by them.
struct Shown {
    from: i64,
    clocks: Vec<i64>,
}

impl Shown {
    fn of(zone: &str, from: Timestamp, minutes: i64) -> Self {
        let (zone, from) = (jiff::tz::db().get(zone).expect("known"), from.0.div_euclid(60_000) - 2 * 1440);
        let offset = |minute: i64| {
            let at = jiff::Timestamp::from_second(minute * 60).expect("in range");
            i64::from(zone.to_offset(at).seconds()) / 60
        };
        Self { from, clocks: (from..from + minutes + 4 * 1440).map(|minute| minute + offset(minute)).collect() }
    }

    /// Minutes since 1970 in which a window that opens daily is open: from the first at which the clocks have reached its
    /// beginning to the last at which they have not reached its end.
    fn open(&self, opens: i64, closes: i64) -> Vec<i64> {
        let days = self.clocks[0].div_euclid(1440)..=self.clocks[self.clocks.len() - 1].div_euclid(1440);
        let span = |day: i64| {
            let (opens, closes) = (day * 1440 + opens, day * 1440 + closes + if closes > opens { 0 } else { 1440 });
            let from = self.clocks.iter().position(|shown| *shown >= opens).unwrap_or(self.clocks.len());
            let to = self.clocks.iter().rposition(|shown| *shown < closes).map_or(0, |last| last + 1);
            from..to
        };
        days.flat_map(span).map(|index| self.from + index as i64).collect()
    }

    /// Minutes since 1970 in which something departs daily at some minutes of a day, named by their hours.
    fn departures(&self, times: &[i64]) -> Vec<i64> {
        let mut latest = self.clocks[0] - 1;
        let mut found = Vec::new();
        for (index, shown) in self.clocks.iter().enumerate() {
            if (latest + 1..=*shown).any(|time| times.contains(&time.rem_euclid(1440))) {
                found.push(self.from + index as i64);
            }
            latest = latest.max(*shown);
        }
        found
    }
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Send,
    StartByHand,
    StartOutside,
    /// So many seconds ahead, with a reason or without one.
    Ask(i64, bool),
    Freeze,
    Lift,
    Abort,
    /// Another daemon takes over.
    Restart,
}

#[derive(Debug, Clone)]
struct Case {
    zone: &'static str,
    from: Timestamp,
    while_live: WhileLive,
    /// Opens and closes, in minutes of a day.
    windows: Vec<(i64, i64)>,
    /// Minutes of a day.
    departures: Vec<i64>,
    /// Seconds after the one before.
    deeds: Vec<(u64, Deed)>,
}

/// Around a change of the clocks, since there is where it may go wrong.
fn case() -> impl Strategy<Value = Case> {
    let zones = vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "UTC"];
    let deed = prop_oneof![
        5 => Just(Deed::Send),
        2 => Just(Deed::StartByHand),
        1 => Just(Deed::StartOutside),
        2 => (1i64..2400, any::<bool>()).prop_map(|(seconds, outside)| Deed::Ask(seconds, outside)),
        2 => Just(Deed::Freeze),
        2 => Just(Deed::Lift),
        1 => Just(Deed::Abort),
        1 => Just(Deed::Restart),
    ];
    let whiles = vec![WhileLive::NewestWins, WhileLive::Queue, WhileLive::Refuse];
    (
        select(zones),
        0usize..2,
        30i64..120,
        select(whiles),
        proptest::collection::vec((0i64..240, 5i64..60), 0..=3),
        proptest::collection::vec(0i64..240, 0..=3),
        proptest::collection::vec((30u64..1200, deed), 8..=16),
    )
        .prop_map(|(zone, which, before, while_live, windows, departures, deeds)| {
            let known = jiff::tz::db().get(zone).expect("known");
            let beginning = jiff::Timestamp::from_millisecond(BEGINNING.0).expect("in range");
            let change = known.following(beginning).nth(which).map(|change| change.timestamp());
            let from = Timestamp(change.unwrap_or(beginning).as_millisecond() - before * 60_000);
            // By the clocks of the zone, within four hours from the beginning on.
            let shown = Shown::of(zone, from, 0).clocks[2 * 1440].rem_euclid(1440);
            let time = |minutes: i64| (shown + minutes).rem_euclid(1440);
            let windows = windows.iter().map(|(opens, length)| (time(*opens), time(opens + length))).collect();
            let departures = departures.iter().map(|minutes| time(*minutes)).collect();
            Case { zone, from, while_live, windows, departures, deeds }
        })
}

impl Case {
    /// It deploys, goes to 50 % and waits there for people who never come: the world knows one direction only.
    fn plan(&self) -> Plan {
        let clock = |minutes: &i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let windows = self.windows.iter().map(|(opens, closes)| {
            let closes = if *closes == 0 { "24:00".to_owned() } else { clock(closes) };
            format!("daily {}-{closes} {}", clock(opens), self.zone)
        });
        let at = self.departures.iter().map(|time| format!("{} {} * * * {}", time % 60, time / 60, self.zone));
        let while_live = self.while_live;
        let start =
            StartRules { image: None, workflow: None, windows: windows.collect(), at: at.collect(), while_live };
        let mut plan = Plan { start: Some(start), ..policy(while_live) };
        let (from, need, timeout) = (vec!["nobody".to_owned()], 1, Millis::from_seconds(600));
        let approval = ApprovalStep { slack: None, from, need, timeout, on_timeout: OnFailure::Rollback };
        plan.steps.insert(2, Step::Approval(approval));
        plan
    }

    fn minutes(&self) -> i64 {
        i64::try_from(self.deeds.iter().map(|(after, _)| after).sum::<u64>() / 60).expect("hours") + 60
    }
}

/// What was seen from outside.
#[derive(Default)]
struct Seen {
    /// From when to when something was frozen, for sure.
    frozen: Vec<(Timestamp, Timestamp)>,
    /// Every write of weights that arrived: when, and the canary's share.
    writes: Vec<(Timestamp, u8)>,
}

async fn live_through(case: Case) {
    let clock = LifeClock::at(case.from);
    clock.begin();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let write = {
        let (seen, clock) = (seen.clone(), clock.clone());
        move |_, share| {
            seen.lock().expect("no test panics with it").writes.push((clock.now(), share));
            crate::kit::world::Answer::Done
        }
    };
    let end = case.deeds.iter().map(|(after, _)| after).sum::<u64>();
    // When all is over every release is bad.
    let bad_from = (case.from.0 - BEGINNING.0) / 1000 + i64::try_from(end).expect("hours") + 300;
    let ways = Ways { write: Box::new(write), bad_from: Some(bad_from), ..Ways::default() };
    let world = World::new(clock.clone(), case.plan(), ways);
    let (journal, freezes) = (Arc::new(MemoryJournal::default()), Arc::new(MemoryJournal::default()));
    let life = || {
        let (traffic, live, health, policies) = (world.clone(), world.clone(), world.clone(), world.clone());
        let workloads = Some(world.clone() as Arc<dyn tidegate::ports::Workloads>);
        let (clock, journal, freezes) = (clock.clone(), journal.clone(), freezes.clone());
        let parts = RunnerParts {
            clock: clock.clone(),
            journal: journal.clone(),
            freezes,
            traffic,
            workloads,
            signals: None,
            live,
            health,
            policies,
            people: Arc::default(),
        };
        let runner = Runner::new(parts);
        Setting { inbox: Inbox::new(runner.clone(), journal.clone(), clock), runner, journal, world: world.clone() }
    };
    let mut now = life();
    now.runner.resume().await.expect("readable");
    let mut frozen_since: Option<Timestamp> = None;
    for (version, (after, deed)) in (1u8..).zip(&case.deeds) {
        tokio::time::sleep(Duration::from_secs(*after)).await;
        match deed {
            Deed::Send => {
                now.send(version).await;
            }
            Deed::StartByHand => drop(now.runner.start(&by_hand(None), ann()).await),
            Deed::StartOutside => drop(now.runner.start(&by_hand(Some("a reason")), ann()).await),
            Deed::Ask(seconds, outside) => {
                let (at, reason) = (Timestamp(clock.now().0 + seconds * 1000), outside.then_some("a reason"));
                drop(now.inbox.ask(by_hand(reason), at, ann()).await);
            }
            Deed::Freeze => {
                if now.runner.freeze(None, "payday".into(), ann()).await.is_ok() {
                    frozen_since = Some(clock.now());
                }
            }
            Deed::Lift => {
                seen.lock().unwrap().frozen.extend(frozen_since.take().map(|since| (since, clock.now())));
                drop(now.runner.lift(None, ann()).await);
            }
            Deed::Abort => abort(&now, &world).await,
            Deed::Restart => {
                now.runner.stop().await;
                now = life();
                now.runner.resume().await.expect("readable");
                now.inbox.resume().await.expect("readable");
            }
        }
    }
    // Outside of every window or not, frozen or not: a bad release goes back.
    drop(now.runner.freeze(None, "the end".into(), ann()).await);
    seen.lock().unwrap().frozen.push((frozen_since.unwrap_or(clock.now()), Timestamp(i64::MAX)));
    tokio::time::sleep(Duration::from_secs(300 + 60)).await;
    assert_eq!(world.canary(), 0, "a bad release has traffic");
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    check(&case, &now, &seen).await;
}

/// Takes whatever is live back, which works at any time.
async fn abort(now: &Setting, world: &World) {
    let live = now.journal.live().await.expect("readable");
    let Some(live) = live.first() else { return };
    // One whose end is decided refuses, and goes back all the same.
    drop(now.runner.command(&live.state.id.0, Command::Abort { reason: "no".into() }, ann()).await);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(world.canary() == 0, "aborted, and it has traffic");
}

async fn check(case: &Case, now: &Setting, seen: &Seen) {
    let shown = Shown::of(case.zone, case.from, case.minutes());
    // What happens in the millisecond of a freeze may have come before it.
    let is_frozen = |at: Timestamp| seen.frozen.iter().any(|(from, to)| *from < at && at < *to);
    let open: Vec<i64> = case.windows.iter().flat_map(|(opens, closes)| shown.open(*opens, *closes)).collect();
    let departures = shown.departures(&case.departures);
    for begun in now.journal.begun() {
        let at = now.journal.get(&begun).await.expect("readable").expect("begun").state.started_at;
        let minute = at.0.div_euclid(60_000);
        let in_window = case.windows.is_empty() || open.contains(&minute);
        let outside = now.start_input(&begun.0).await.outside_windows;
        assert_eq!(in_window, outside.is_none(), "{} at {}", begun, at.rfc3339());
        assert!(!is_frozen(at), "{begun} began in a freeze, at {}", at.rfc3339());
        // What an event asked for departed in between; what has a time of its own kept it.
        if let Some(asked) = now.journal.start(&begun).await.expect("readable") {
            let between = asked.at.0..=at.0;
            let departed = || departures.iter().any(|minute| between.contains(&(minute * 60_000)));
            let in_time = match asked.not_before {
                Some(not_before) => not_before <= at,
                None => departures.is_empty() || departed(),
            };
            assert!(in_time, "{begun} at {}", at.rfc3339());
        }
        now.check(&begun).await;
    }
    let mut share = 0;
    for (at, written) in &seen.writes {
        assert!(!is_frozen(*at) || *written <= share, "{share} to {written} in a freeze, at {}", at.rfc3339());
        share = *written;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn nothing_begins_outside_of_a_window_or_in_a_freeze_and_everything_goes_back(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(live_through(case));
    }
}
