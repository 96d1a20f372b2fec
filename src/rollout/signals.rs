//! Gates on signals from outside the mesh: what is asked about each version, which points count, and what they say.
//!
//! The rule is a threshold and not a test (see `judge::points`), so the bound on false rollbacks does not cover it. Silence
//! is neither good nor bad: without a point since the present weights are in force, or with the last one too long ago,
//! nothing advances, the weight stays and a person is told.

use super::event::{ArmReading, PointsReading, ReleaseName, Start};
use super::limits::{LimitVerdict, stable_is_beyond};
use super::points::{ArmPoints, ArmTrail, BLIND_AFTER};
use super::preview;
use super::state::{Exposed, Refusal, State};
use crate::base::time::{Millis, Timestamp};
use crate::base::weight::{Percent, Slot};
use crate::judge::absolute::Outcome;
use crate::judge::points::{PointReading, PointRule, PointVerdict};
use crate::judge::verdict::{duration, plain_percent};
use crate::policy::plan::placeholder::{Names, Placeholder, Unfilled};
use crate::policy::plan::{
    Bound, CloudwatchQuery, Gate, Plan, SignalGate, SignalQuery, SignalRule, SignalUnit, WebhookFacts, WebhookQuery,
};

/// A gate is silent when so many questions in a row brought no point, beside the time that points are about.
const SILENT_AFTER_ASKS: u64 = 5;
/// But not sooner: a source that is asked every second may be late by more than seconds.
const SILENT_AFTER_LEAST: Millis = Millis::from_seconds(60);
/// Nor sooner than this after the time that points of AWS are about, however often one asks: CloudWatch tells a minute one
/// to two minutes after its end, traces are let ripen for one, and a round of questions has half a minute.
const SILENT_AFTER_LEAST_AWS: Millis = Millis::from_seconds(180);

// === what is asked ===

/// What one gate asks in each round.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The gate's name.
    pub gate: String,
    /// Time between rounds.
    pub interval: Millis,
    /// How long one point is about.
    pub span: Millis,
    /// About the canary, or about both versions at once; an error says why it cannot be asked.
    pub canary: Result<SignalQuery, String>,
    /// About stable; `None` where the question is the same for both.
    pub stable: Option<Result<SignalQuery, String>>,
    /// Whether points of both versions are compared, so that they must be of the same time.
    pub compared: bool,
    /// Whether each asking is a point, as with an alarm.
    pub is_now: bool,
    /// Time of the last point of the canary and of stable, where there is one.
    pub last: [Option<Timestamp>; 2],
    /// Whether it is asked in the preview too.
    pub in_preview: bool,
}

/// Since when points count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counting {
    /// When the release got its first traffic.
    pub from: Timestamp,
    /// Whether that is the preview's, in which not all gates have a say.
    pub in_preview: bool,
}

impl Asked {
    /// Whether something would be made of its points.
    #[must_use]
    pub const fn counts(&self, counting: &Counting) -> bool {
        self.in_preview || !counting.in_preview
    }
}

/// What the gates on signals ask in this rollout.
#[must_use]
pub fn asked(plan: &Plan, state: &State) -> Vec<Asked> {
    let [canary, stable] = [state.canary, state.canary.other()].map(|slot| names(plan, state, slot));
    let one = |(gate, signal): (&Gate, &SignalGate)| {
        let of = |names: &Names| signal.query.about(names).map_err(|why| unfilled(&why, &names.node));
        let about = |names: &Names| of(names).map(|query| telling(query, plan, state, gate, &names.node));
        let both = |query: SignalQuery| query.beside(&stable).map_err(|why| unfilled(&why, &stable.node));
        let seen = state.points.get(&gate.name);
        let last = |arm: fn(&ArmPoints) -> &ArmTrail| seen.and_then(|seen| arm(seen).trail.last).map(|(at, _)| at);
        Asked {
            gate: gate.name.clone(),
            interval: signal.interval,
            span: signal.span(),
            canary: about(&canary).and_then(both),
            stable: (signal.query.is_per_version() && !signal.query.is_about_both()).then(|| about(&stable)),
            compared: is_compared(signal),
            is_now: signal.is_alarm(),
            last: [last(|seen| &seen.canary), last(|seen| &seen.stable)],
            in_preview: gate.acts_in_preview(),
        }
    };
    plan.signals().map(one).collect()
}

/// A query that tells whom it asks about what, where its source is to know.
fn telling(query: SignalQuery, plan: &Plan, state: &State, gate: &Gate, node: &str) -> SignalQuery {
    match query {
        SignalQuery::Webhook(query) => SignalQuery::Webhook(WebhookQuery {
            facts: Box::new(WebhookFacts {
                rollout: state.id.to_string(),
                policy: plan.name.clone(),
                gate: gate.name.clone(),
                node: node.to_owned(),
                canary: plan.node(state.canary).to_owned(),
                stable: plan.node(state.canary.other()).to_owned(),
                revision: state.revision.clone(),
                image: state.release.as_ref().map(|release| release.image.clone()),
            }),
            ..query
        }),
        other => other,
    }
}

/// From when on points count; `None` while nothing would be made of one, because the canary has no weight in force and no
/// preview.
#[must_use]
pub fn counts_from(state: &State) -> Option<Counting> {
    let exposed = state.exposed.filter(|_| state.is_judged())?;
    Some(Counting { from: exposed.from, in_preview: preview::is_on(state) })
}

const fn is_compared(signal: &SignalGate) -> bool {
    matches!(signal.rule, SignalRule::AgainstStable { .. })
}

/// What the version in a slot is called.
fn names(plan: &Plan, state: &State, slot: Slot) -> Names {
    let release = if slot == state.canary {
        let image = state.release.as_ref().map(|release| release.image.clone());
        Some(ReleaseName { revision: state.revision.clone(), image })
    } else {
        state.stable_release.clone()
    };
    named(plan, slot, release.as_ref())
}

fn named(plan: &Plan, slot: Slot, release: Option<&ReleaseName>) -> Names {
    Names {
        node: plan.node(slot).to_owned(),
        service: plan.service(slot).map(str::to_owned),
        image: release.and_then(|release| release.image.clone()),
        revision: release.and_then(|release| release.revision.clone()),
    }
}

fn unfilled(why: &Unfilled, node: &str) -> String {
    match why {
        Unfilled::Unknown(placeholder) => format!("`{{{}}}` of {node} is not known", placeholder.name()),
        Unfilled::Unfit(placeholder, value) => {
            format!(
                "`{{{}}}` of {node} is `{}`, which cannot stand in a question",
                placeholder.name(),
                value.escape_debug()
            )
        }
    }
}

/// Whether a plan asks for something that only earlier rollouts can tell of stable.
#[must_use]
pub fn needs_stable_release(plan: &Plan) -> bool {
    let told = |placeholder: &Placeholder| match placeholder {
        Placeholder::Node | Placeholder::Service => false,
        Placeholder::ImageTag | Placeholder::Digest | Placeholder::Revision => true,
    };
    plan.signals().any(|(_, signal)| signal.query.placeholders().iter().any(told))
}

/// Refuses a start of which some question could not be asked about either version.
pub(super) fn check_start(plan: &Plan, start: &Start, canary: Slot) -> Result<(), Refusal> {
    let release = ReleaseName { revision: start.revision.clone(), image: start.image.clone() };
    let arms = [(canary, Some(&release)), (canary.other(), start.stable.as_ref())];
    for (gate, signal) in plan.signals() {
        for (slot, release) in arms {
            if let Err(why) = signal.query.about(&named(plan, slot, release)) {
                return Err(refusal(plan, gate, slot, slot == canary, &why));
            }
        }
    }
    Ok(())
}

fn refusal(plan: &Plan, gate: &Gate, slot: Slot, is_canary: bool, why: &Unfilled) -> Refusal {
    let (node, policy) = (plan.node(slot), &plan.name);
    let message = format!("gate {} cannot ask about {node}: {}", gate.name, unfilled(why, node));
    let hint = match (why, is_canary) {
        (Unfilled::Unfit(..), _) => "letters, digits and `._-:/@+~` can stand in a question, 256 at most".to_owned(),
        (Unfilled::Unknown(Placeholder::Revision), true) => {
            format!("name it: `tidegate rollout start {policy} --revision TEXT`")
        }
        (Unfilled::Unknown(Placeholder::ImageTag), true) => {
            format!("name it, with its tag: `tidegate rollout start {policy} --image REPOSITORY:TAG`")
        }
        (Unfilled::Unknown(Placeholder::Digest), true) => {
            format!("name it, with its digest: `tidegate rollout start {policy} --image REPOSITORY@sha256:DIGEST`")
        }
        (Unfilled::Unknown(_), _) => format!(
            "it is known once a rollout over this route has made {node} stable: release once without this gate, and name \
             the release with `--revision` or `--image` as it will be asked for"
        ),
    };
    Refusal { message, hint }
}

// === which points count ===

/// Takes one reading in.
pub(super) fn take(
    signal: &SignalGate,
    (exposed, wanted, now): (Option<Exposed>, Percent, Timestamp),
    seen: &mut ArmPoints,
    reading: &PointsReading,
) {
    let Some(exposed) = exposed else { return };
    match signal.rule {
        SignalRule::Limit { .. } => {
            let arms = [(&mut seen.canary, &reading.canary), (&mut seen.stable, &reading.stable)];
            // Without a placeholder nothing was asked about stable.
            for (arm, reading) in arms.into_iter().take(1 + usize::from(signal.query.is_per_version())) {
                if let Some(point) = placed(reading.point, exposed.from, now) {
                    arm.trail.read(&rule(signal, 0.0), point);
                    arm.note.clone_from(&reading.note);
                }
            }
        }
        // With all the traffic on the canary stable measures nothing; and a pair of before is of another weight.
        SignalRule::AgainstStable { .. } if wanted < Percent::FULL => {
            let Some(since) = exposed.since else { return };
            take_pair(signal, (since, now), seen, reading);
        }
        SignalRule::AgainstStable { .. } => {}
    }
}

/// A comparison of two points of the same time: one without the other is none.
fn take_pair(signal: &SignalGate, (since, now): (Timestamp, Timestamp), seen: &mut ArmPoints, reading: &PointsReading) {
    let (ArmPoints { canary, stable }, none) = (seen, PointRule { max: None, min: None, breaches: 1 });
    canary.note.clone_from(&reading.canary.note);
    stable.note.clone_from(&reading.stable.note);
    let arms = [&reading.canary, &reading.stable].map(|arm: &ArmReading| placed(arm.point, since, now));
    match arms {
        [Some(PointReading::Point { at, value }), Some(PointReading::Point { value: beside, .. })] => {
            if canary.trail.last.is_none_or(|(last, _)| at > last) {
                canary.trail.read(&rule(signal, beside), PointReading::Point { at, value });
                stable.trail.read(&none, PointReading::Point { at, value: beside });
            }
        }
        [Some(PointReading::Failed), _] | [_, Some(PointReading::Failed)] => {
            canary.trail.read(&none, PointReading::Failed);
        }
        [Some(_), _] | [_, Some(_)] => canary.trail.read(&none, PointReading::Missing),
        // Of before the present weight: not even missing.
        [None, None] => {}
    }
}

/// A point where it counts: not before `from`, and taken for one of now when its source's clock is ahead, so that it
/// cannot pass for news for ever.
fn placed(reading: PointReading, from: Timestamp, now: Timestamp) -> Option<PointReading> {
    match reading {
        PointReading::Point { at, .. } if at < from => None,
        PointReading::Point { at, value } => Some(PointReading::Point { at: at.min(now), value }),
        PointReading::Missing | PointReading::Failed => Some(reading),
    }
}

/// Which values breach; `beside` is stable's of the same time.
fn rule(signal: &SignalGate, beside: f64) -> PointRule {
    let (max, min) = match signal.rule {
        SignalRule::Limit { value, bound: Bound::Max } => (Some(value), None),
        SignalRule::Limit { value, bound: Bound::Min } => (None, Some(value)),
        SignalRule::AgainstStable { ratio, add } => (Some(tolerated(beside, ratio, add)), None),
    };
    PointRule { max, min, breaches: signal.breaches }
}

/// The highest value that is accepted beside this one of stable's: ratio times it, plus `add`. Below 0 a multiple would
/// ask for less, so the allowance is measured by its size.
fn tolerated(beside: f64, ratio: f64, add: f64) -> f64 {
    beside + (ratio - 1.0) * beside.abs() + add
}

// === what they say ===

/// What one gate on a signal says.
pub(super) fn judge_signal(gate: &Gate, signal: &SignalGate, state: &State) -> LimitVerdict {
    let seen = state.points.get(&gate.name).cloned().unwrap_or_default();
    let full = state.wanted == Percent::FULL;
    let verdict = |outcome, text: &str, page, error| LimitVerdict {
        gate: gate.name.clone(),
        outcome,
        sentence: format!("gate {}: {text}", gate.name),
        page,
        error,
        on_failure: gate.on_failure,
    };
    if full && is_compared(signal) {
        return verdict(Outcome::Within, "all traffic is on the canary: nothing to compare it with", None, false);
    }
    let rule = rule(signal, 0.0);
    let stable = match signal.rule {
        // Without traffic what it measures says nothing.
        SignalRule::Limit { .. } if !full && signal.query.is_per_version() => seen.stable.trail.verdict(&rule),
        SignalRule::Limit { .. } | SignalRule::AgainstStable { .. } => PointVerdict::NoData,
    };
    let canary = seen.canary.trail.verdict(&rule);
    let fresh = is_fresh(signal, state, &seen.canary);
    let outcome = outcome(canary, stable, fresh);
    let silence = silence(signal, state, &seen.canary);
    let page = stable_is_beyond(&gate.name, outcome)
        .or_else(|| silence.map(|why| format!("gate {} sees nothing, so nothing advances: {why}", gate.name)));
    let error = !fresh && seen.canary.trail.failures > 0;
    verdict(outcome, &text(signal, &seen, (canary, outcome), fresh), page, error)
}

fn outcome(canary: PointVerdict, stable: PointVerdict, fresh: bool) -> Outcome {
    use PointVerdict::{Breaching, Fail, NoData, Within};
    match (canary, stable) {
        (Fail, Fail) => Outcome::BothBreach,
        // One bad moment of both may be a network's: whose it is shows with the next points.
        (Fail, Breaching(_)) => Outcome::Unattributed,
        (Fail, Within | NoData) => Outcome::CanaryBreaches,
        (Breaching(_) | NoData, _) => Outcome::Unattributed,
        (Within, Fail) => Outcome::StableBreaches,
        (Within, Within | Breaching(_) | NoData) if fresh => Outcome::Within,
        (Within, Within | Breaching(_) | NoData) => Outcome::Unattributed,
    }
}

/// Whether the last point is one of the present weights, and not of long ago.
fn is_fresh(signal: &SignalGate, state: &State, arm: &ArmTrail) -> bool {
    let since = state.exposed.and_then(|exposed| exposed.since);
    match (since, arm.trail.last) {
        (Some(since), Some((at, _))) => at >= since && state.at.since(at) < patience(signal),
        _ => false,
    }
}

/// The greatest age of the last point that is not silence.
#[must_use]
pub fn patience(signal: &SignalGate) -> Millis {
    let (asks, span) = (Millis(signal.interval.0.saturating_mul(SILENT_AFTER_ASKS)), signal.span());
    let plus = |one: Millis, other: Millis| Millis(one.0.saturating_add(other.0));
    match &signal.query {
        // A point has the time of its beginning and comes after its end; the next one comes a whole span later.
        SignalQuery::Cloudwatch(CloudwatchQuery::Metric { .. } | CloudwatchQuery::Expression { .. })
        | SignalQuery::Xray(_) => plus(plus(span, span), asks.max(SILENT_AFTER_LEAST_AWS)),
        // A point is of the moment in which it was asked for.
        SignalQuery::Cloudwatch(CloudwatchQuery::Alarm { .. })
        | SignalQuery::Prometheus { .. }
        | SignalQuery::Http { .. }
        | SignalQuery::Webhook(_) => plus(asks, span).max(SILENT_AFTER_LEAST),
    }
}

/// Why a person should look at the source; the same text as long as it is the same trouble.
fn silence(signal: &SignalGate, state: &State, arm: &ArmTrail) -> Option<String> {
    if arm.trail.failures >= BLIND_AFTER {
        return Some(arm.note.clone().unwrap_or_else(|| "its source could not be asked".to_owned()));
    }
    let since = state.exposed?.since?;
    let heard = arm.trail.last.map_or(since, |(at, _)| at.max(since));
    let patience = patience(signal);
    (state.at.since(heard) >= patience).then(|| format!("no point for {patience}"))
}

fn text(signal: &SignalGate, seen: &ArmPoints, (canary, outcome): (PointVerdict, Outcome), fresh: bool) -> String {
    let note = seen.canary.note.as_deref().map(|note| format!(" ({note})")).unwrap_or_default();
    let Some((_, value)) = seen.canary.trail.last else {
        return format!("no point yet{note}");
    };
    let values = values(signal, seen, value);
    let times = match (canary, outcome) {
        (_, Outcome::BothBreach) => ": canary and stable alike".to_owned(),
        (_, Outcome::StableBreaches) => ": stable is beyond it".to_owned(),
        (PointVerdict::Fail, Outcome::Unattributed) => ": beyond it, and stable began to be as well".to_owned(),
        (PointVerdict::Fail, _) => format!(": {} points in a row beyond it", seen.canary.trail.breaches),
        (PointVerdict::Breaching(times), _) => format!(": {times} of {} points beyond it", signal.breaches),
        (PointVerdict::NoData | PointVerdict::Within, _) if fresh => String::new(),
        (PointVerdict::NoData | PointVerdict::Within, _) => format!(": no point of the present weight lately{note}"),
    };
    values + &times
}

/// The last values beside what they may be.
fn values(signal: &SignalGate, seen: &ArmPoints, value: f64) -> String {
    if signal.is_alarm() {
        return if value > 0.0 { "the alarm is in ALARM".to_owned() } else { "the alarm is OK".to_owned() };
    }
    if matches!(signal.query, SignalQuery::Webhook(_)) {
        let said = seen.canary.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
        return format!("the webhook says {}{said}", if value > 0.0 { "no" } else { "yes" });
    }
    if signal.query.is_about_both() {
        let what = seen.canary.note.as_deref().map(|note| format!(" ({note})")).unwrap_or_default();
        return format!("{} new beside stable{what}", amount(signal.unit, value));
    }
    let shown = |value| amount(signal.unit, value);
    let stable = seen.stable.trail.last.map(|(_, value)| value);
    let both = match stable {
        Some(stable) => format!("canary {}, stable {}", shown(value), shown(stable)),
        None if signal.query.is_per_version() => format!("canary {}", shown(value)),
        None => shown(value),
    };
    match (signal.rule, stable) {
        (SignalRule::Limit { value, bound }, _) => format!("{both}, {}", limit(signal.unit, value, bound)),
        (SignalRule::AgainstStable { ratio, add }, Some(stable)) => {
            format!("{both}, tolerated {}", shown(tolerated(stable, ratio, add)))
        }
        (SignalRule::AgainstStable { .. }, None) => both,
    }
}

/// `limit 1000`, `limit at least 80 %`.
#[must_use]
pub fn limit(unit: SignalUnit, value: f64, bound: Bound) -> String {
    let side = if bound == Bound::Max { "" } else { "at least " };
    format!("limit {side}{}", amount(unit, value))
}

/// A value in its unit, as exact as it is useful.
#[must_use]
pub fn amount(unit: SignalUnit, value: f64) -> String {
    match unit {
        SignalUnit::Number => number(value),
        SignalUnit::Share => plain_percent((value * 1e5).round() / 1e5),
        SignalUnit::Percent => format!("{} %", number((value * 1e3).round() / 1e3)),
        SignalUnit::Seconds => duration((value.max(0.0) * 1e6) as u64),
    }
}

/// A number with six digits that count; very large and very small ones with an exponent.
fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e15).contains(&size) {
        return format!("{value:.3e}");
    }
    let digits = if size < 1.0 { 6 } else { 5_usize.saturating_sub(size.log10() as usize) };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
