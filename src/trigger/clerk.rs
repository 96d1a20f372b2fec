//! Works on the starts of one policy until there are none left: begins them, waits for what is in the way, or says why
//! not. Everything it does it may do twice: a start is found by its identifier once it has begun.

use super::ahead;
use super::inbox::Shared;
use crate::base::fault::{Fault, FaultKind};
use crate::base::ids::RolloutId;
use crate::base::time::{Millis, Timestamp};
use crate::policy::plan::{Plan, WhileLive};
use crate::ports::{HookOutcome, HookStart, JournalError, PolicyFault};
use crate::rollout::view::RolloutView;
use crate::runner::handle::{Closed, CommandError, StartError, StartRequest};
use crate::runner::history::Change;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, broadcast};

/// What is in the way is looked at again so often, should nobody tell of its end.
const LOOK: Duration = Duration::from_secs(5);
/// A mesh or a directory that does not answer is asked for so long from when it first did not: a restart of either takes less, and after that nobody
/// expects the release any more.
const PATIENCE: Millis = Millis::from_seconds(600);

/// A start is new for so long: whoever asks for one with a policy that is not valid is told at once.
const NEW: Millis = Millis::from_seconds(30);

/// What a look came to.
enum Look {
    /// Something was decided: look again.
    Decided,
    /// There is nothing to do.
    Empty,
    /// Something is in the way.
    Waits,
}

/// What comes of one start for now.
enum Next {
    /// This, for good.
    Came(HookOutcome),
    /// It waits, for this.
    Waits(String),
}

/// One clerk, from the first start to the last, or until the runner stops.
pub(super) async fn work(
    shared: Arc<Shared>,
    policy: String,
    bell: Arc<Notify>,
    deciding: Arc<tokio::sync::Mutex<()>>,
) {
    let mut changes = shared.runner.changes();
    let stopped = shared.runner.stopped();
    tokio::pin!(stopped);
    loop {
        shared.begin_look(&policy);
        let look = {
            let _deciding = deciding.lock().await;
            look(&shared, &policy).await
        };
        match look {
            Ok(Look::Decided) => continue,
            Ok(Look::Empty) if shared.leave(&policy) => return,
            Ok(Look::Empty) => continue,
            Ok(Look::Waits) => {}
            Err(fault) => tracing::warn!(%policy, %fault, "starts of this policy wait for the store"),
        }
        tokio::select! {
            () = &mut stopped => return,
            () = bell.notified() => {}
            () = something_ended(&mut changes) => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Resolves when a rollout has come to its end, or may have.
async fn something_ended(changes: &mut broadcast::Receiver<Change>) {
    loop {
        match changes.recv().await {
            Ok(change) if change.view.finished || change.view.phase == "cleaning" => return,
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            // The runner is gone, and `stopped` resolves.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Looks at what there is to start, and does what can be done about it.
async fn look(shared: &Shared, policy: &str) -> Result<Look, Fault> {
    let mut open = shared.deliveries.open().await?;
    open.retain(|start| start.policy == policy);
    let mut left = Vec::new();
    for start in open {
        // What had begun before the process ended, or before the store's answer was lost.
        match shared.runner.reserved(&start.rollout).await? {
            Some(_) => shared.settle(&start, HookOutcome::Started).await?,
            None => left.push(start),
        }
    }
    let left_over = outrun(shared, policy, &mut left).await?;
    for (start, why) in left_over {
        shared.settle(&start, HookOutcome::Nothing { why }).await?;
    }
    let early = take_early(shared, &mut left);
    let Some(newest) = left.last() else { return Ok(if early { Look::Waits } else { Look::Empty }) };
    let plan = match plan(shared, newest).await {
        Ok(plan) => plan,
        Err(Next::Waits(why)) => {
            left.iter().for_each(|start| shared.waits(start, &why));
            return Ok(Look::Waits);
        }
        Err(Next::Came(outcome)) => {
            for start in &left {
                shared.settle(start, outcome.clone()).await?;
            }
            return Ok(Look::Decided);
        }
    };
    let while_live = plan.start.as_ref().map(|start| start.while_live).unwrap_or_default();
    let departures = departed(shared, &plan, &mut left);
    let closed = shared.runner.closed(&plan);
    if let Some(closed) = &closed {
        let_pass(shared, closed, &mut left);
    }
    // Where starts wait, for each other or for their time, the newest wins; where they are refused, the first does.
    let (next, older) = match while_live {
        WhileLive::Refuse if !departures && closed.is_none() => (left.remove(0), Vec::new()),
        WhileLive::Refuse | WhileLive::NewestWins | WhileLive::Queue => {
            let Some(next) = left.pop() else { return Ok(Look::Empty) };
            (next, left)
        }
    };
    for start in older {
        let why = format!("a newer release ({}) came before it began", name(&next));
        shared.settle(&start, HookOutcome::Nothing { why }).await?;
    }
    match attempt(shared, &next, plan, while_live).await? {
        Next::Came(outcome) => {
            shared.settle(&next, outcome).await?;
            Ok(Look::Decided)
        }
        Next::Waits(why) => {
            shared.waits(&next, &why);
            Ok(Look::Waits)
        }
    }
}

/// Takes those out of `left` in whose place something newer has begun while they waited, by hand too: they would undo it.
/// One with a time of its own is meant for that time.
async fn outrun(shared: &Shared, policy: &str, left: &mut Vec<HookStart>) -> Result<Vec<(HookStart, String)>, Fault> {
    if left.is_empty() {
        return Ok(Vec::new());
    }
    let Some(last) = shared.runner.get(policy).await? else { return Ok(Vec::new()) };
    // One that an event asked for is as new as the event.
    let asked = shared.deliveries.start(&RolloutId(last.id.clone())).await?;
    let asked_at = asked.map_or_else(|| last.started_at.clone(), |asked| asked.at.rfc3339());
    let is_outrun = |start: &HookStart| start.not_before.is_none() && start.at.rfc3339() < asked_at;
    let (outrun, rest) = std::mem::take(left).into_iter().partition(is_outrun);
    *left = rest;
    let why = format!("a newer rollout ({}) began before it", last.id);
    Ok(Vec::into_iter(outrun).map(|start| (start, why.clone())).collect())
}

/// Takes those out of `left` whose own time has not come, whatever becomes of the others and of the policy until then; whether
/// there are any.
fn take_early(shared: &Shared, left: &mut Vec<HookStart>) -> bool {
    let (now, all) = (shared.clock.now(), left.len());
    left.retain(|start| match start.not_before.filter(|not_before| *not_before > now) {
        Some(not_before) => {
            shared.waits(start, &ahead::waits_for(not_before));
            false
        }
        None => true,
    });
    left.len() < all
}

/// Takes those out of `left` that have missed the departure of the others: they wait for the next one. Where nothing has
/// departed yet all of them stay. Answers whether the policy has departures.
fn departed(shared: &Shared, plan: &Plan, left: &mut Vec<HookStart>) -> bool {
    // What is wrong with it is told with the windows.
    let Ok(schedule) = plan.schedule() else { return false };
    let now = shared.clock.now();
    let departure = |start: &HookStart| start.not_before.or_else(|| schedule.departure(start.at));
    let is_due = |start: &HookStart| departure(start).is_some_and(|departure| departure <= now);
    if left.iter().any(is_due) {
        for start in left.iter().filter(|start| !is_due(start)) {
            shared.well_again(start);
            shared.waits(start, &waits_for_departure(departure(start)));
        }
        left.retain(is_due);
    }
    plan.start.as_ref().is_some_and(|start| !start.at.is_empty())
}

/// Where one of them may begin though no window is open, takes out those that may not: they wait for the window.
fn let_pass(shared: &Shared, closed: &Closed, left: &mut Vec<HookStart>) {
    let may_pass = |start: &HookStart| start.outside_windows.is_some();
    if left.iter().any(may_pass) {
        for start in left.iter().filter(|start| !may_pass(start)) {
            shared.well_again(start);
            shared.waits(start, &format!("it waits: {closed}"));
        }
        left.retain(may_pass);
    }
}

fn waits_for_departure(departure: Option<Timestamp>) -> String {
    match departure {
        Some(departure) => format!("it waits: what is asked for departs at {}", departure.rfc3339()),
        None => "it waits for a departure that cannot be told: the clock is far out of range".to_owned(),
    }
}

/// The policy's plan now, or what its absence means for a start.
async fn plan(shared: &Shared, start: &HookStart) -> Result<Plan, Next> {
    shared.runner.plan(&start.policy).await.map_err(|fault| match fault {
        PolicyFault::Unavailable(fault) => on_fault(shared, start, "the policy cannot be read", &fault),
        // Whoever has waited for hours does not miss the release for a file that is being saved.
        fault @ (PolicyFault::NotFound { .. } | PolicyFault::Invalid { .. })
            if shared.clock.now().since(start.at) > NEW && shared.faulty_for(start) < PATIENCE =>
        {
            Next::Waits(format!("it waits for its policy: {fault}"))
        }
        fault @ (PolicyFault::NotFound { .. } | PolicyFault::Invalid { .. }) => {
            let hint = "correct the policy, and send the event again".to_owned();
            Next::Came(HookOutcome::Refused { why: fault.to_string(), hint })
        }
    })
}

/// A fault that may pass is waited out for a while.
fn on_fault(shared: &Shared, start: &HookStart, what: &str, fault: &Fault) -> Next {
    if fault.kind != FaultKind::Permanent && shared.faulty_for(start) < PATIENCE {
        return Next::Waits(format!("{what}, and that is tried again: {fault}"));
    }
    let hint = "mend that, and send the event again or start the rollout by hand".to_owned();
    Next::Came(HookOutcome::Refused { why: format!("{what}: {fault}"), hint })
}

/// What a start waits for whose time has not come.
fn too_early(shared: &Shared, start: &HookStart, plan: &Plan) -> Option<String> {
    // One with a time of its own is here when that has come.
    if let (Ok(schedule), None) = (plan.schedule(), start.not_before) {
        let departure = schedule.departure(start.at);
        if departure.is_none_or(|departure| departure > shared.clock.now()) {
            return Some(waits_for_departure(departure));
        }
    }
    if start.outside_windows.is_some() {
        return None;
    }
    shared.runner.closed(plan).map(|closed| format!("it waits: {closed}"))
}

/// Begins a rollout, or finds out what is in the way.
async fn attempt(shared: &Shared, start: &HookStart, plan: Plan, while_live: WhileLive) -> Result<Next, Fault> {
    // Before it takes another one's place: that would end what is live, for nothing.
    if let Some(freeze) = shared.runner.freeze_of(&plan.name).await? {
        shared.well_again(start);
        return Ok(Next::Waits(format!("it waits: {freeze}")));
    }
    if let Some(why) = too_early(shared, start, &plan) {
        shared.well_again(start);
        return Ok(Next::Waits(why));
    }
    let live = shared.runner.live_on(&plan.route).await?;
    if let Some(live) = &live
        && let Some(next) = beside(shared, start, live, while_live).await
    {
        shared.well_again(start);
        return Ok(next);
    }
    let HookStart { rollout, policy, image, revision, actor, outside_windows, .. } = start;
    let (image, revision, outside_windows) = (image.clone(), revision.clone(), outside_windows.clone());
    let request =
        StartRequest { policy: policy.clone(), to: None, revision, image, outside_windows, ..StartRequest::default() };
    let begun = shared.runner.start_reserved(rollout, plan, &request, actor.clone()).await;
    // Whatever was amiss before: it got as far as an answer.
    if !matches!(&begun, Err(StartError::Route(_) | StartError::Journal(JournalError::Fault(_)))) {
        shared.well_again(start);
    }
    Ok(match begun {
        Ok(_) => Next::Came(HookOutcome::Started),
        Err(StartError::Policy(fault)) => refused(fault.to_string(), "correct the policy, and send the event again"),
        // It cleans up behind itself, and cannot make way for the moment.
        Err(StartError::Refused(refusal)) if live.is_some() && while_live != WhileLive::Refuse => {
            Next::Waits(refusal.message)
        }
        Err(StartError::Refused(refusal)) => refused(refusal.message, &refusal.hint),
        // Since the look before.
        Err(error @ (StartError::Frozen { .. } | StartError::OutsideWindows(_))) => Next::Waits(error.to_string()),
        Err(StartError::Route(fault)) => on_fault(shared, start, "the route could not be read", &fault),
        Err(StartError::Journal(JournalError::Fault(fault))) => {
            on_fault(shared, start, "the start could not be written down", &fault)
        }
        // Another start was faster, or another process drives: the next look tells.
        Err(StartError::Journal(error)) => Next::Waits(error.to_string()),
    })
}

fn refused(why: String, hint: &str) -> Next {
    Next::Came(HookOutcome::Refused { why, hint: hint.to_owned() })
}

/// What a live rollout of the route means for a start; `None` when it may begin all the same.
async fn beside(shared: &Shared, start: &HookStart, live: &RolloutView, while_live: WhileLive) -> Option<Next> {
    let RolloutView { id, policy, phase, outcome, .. } = live;
    let stays = outcome.as_ref().is_none_or(|outcome| outcome == "succeeded");
    if stays && *policy == start.policy && is_same(start, live) {
        let why = format!("rollout {id} releases {} already ({phase})", name(start));
        return Some(Next::Came(HookOutcome::Nothing { why }));
    }
    if phase == "cleaning" {
        return None;
    }
    let of = if *policy == start.policy { String::new() } else { format!(" of policy `{policy}`") };
    match while_live {
        WhileLive::Refuse => {
            let why = format!("rollout {id}{of} is live ({phase}), and `while_live` is `refuse`");
            let hint = format!("send the event again when it has ended, or end it: `tidegate rollout abort {id}`");
            Some(refused(why, &hint))
        }
        WhileLive::Queue => Some(Next::Waits(format!("it waits for the end of rollout {id}{of} ({phase})"))),
        // Which of two services' releases matters more is nothing that an order of events says.
        WhileLive::NewestWins if *policy != start.policy => {
            let why = format!("rollout {id}{of} is live on the same route ({phase})");
            Some(refused(
                why,
                &format!("send the event again when it has ended, or end it: `tidegate rollout abort {id}`"),
            ))
        }
        WhileLive::NewestWins if outcome.is_some() => {
            Some(Next::Waits(format!("it waits for the end of rollout {id}, which is decided ({phase})")))
        }
        WhileLive::NewestWins => Some(match shared.runner.supersede(id, name(start)).await {
            Ok(live) => {
                Next::Waits(format!("it takes the place of rollout {id}, which is being ended ({})", live.phase))
            }
            Err(CommandError::Refused(refusal)) => Next::Waits(refusal.message),
            Err(error @ (CommandError::NotFound(_) | CommandError::NotWritten(_))) => Next::Waits(error.to_string()),
        }),
    }
}

/// Whether a rollout releases what a start asks for: the same digest, or the same text where there is none.
fn is_same(start: &HookStart, live: &RolloutView) -> bool {
    let digest = |image: &str| image.split_once('@').map(|(_, digest)| digest.to_owned());
    match (&start.image, &live.image) {
        (Some(wanted), Some(there)) => digest(wanted).map_or(wanted == there, |wanted| digest(there) == Some(wanted)),
        (None, None) => start.revision.is_some() && start.revision == live.revision,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// The release in a few words.
fn name(start: &HookStart) -> String {
    let HookStart { image, revision, rollout, .. } = start;
    revision.clone().or_else(|| image.clone()).unwrap_or_else(|| rollout.to_string())
}
