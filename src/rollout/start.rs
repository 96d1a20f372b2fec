//! The first input: checks that the route can take a rollout, and makes the first state.

use super::effect::{Effect, EffectId};
use super::event::{Actor, Command, Event, Input, RouteReading, Start};
use super::evidence::Evidence;
use super::moves::Moves;
use super::signals;
use super::state::{Phase, Refusal, State};
use super::timing::Timing;
use super::workload;
use crate::base::ids::RolloutId;
use crate::base::weight::{Percent, Slot};
use crate::policy::plan::{Plan, Workload, WorkloadTarget};

/// What the first input makes: a state, and what to do first.
pub type Begun = (State, Vec<(EffectId, Effect)>);

/// Makes a rollout's first state of its first input.
///
/// # Errors
/// A [`Refusal`] when the input is no start, when not exactly one slot holds all the weight of the route, when a third
/// target has any, or when `to` is not the slot without weight. Nothing was written to the route then.
pub fn begin(plan: &Plan, id: RolloutId, input: &Input) -> Result<Begun, Refusal> {
    let Event::Command { command: Command::Start(start), actor } = &input.event else {
        return Err(Refusal {
            message: "a rollout's first input is its start".to_owned(),
            hint: "this is a defect of the daemon or a damaged journal; please report it".to_owned(),
        });
    };
    let stable = stable_slot(plan, &start.route)?;
    let canary = stable.other();
    check_target(plan, start, canary)?;
    let image = released(plan, start.image.as_deref(), start.revision.as_deref())?;
    signals::check_start(plan, start, canary)?;
    let state = first_state(plan, id, input, start, actor, canary);
    let mut moves = Moves::new(plan, &state, input);
    let first_step = start.first_step.min(plan.steps.len().saturating_sub(1));
    match image {
        Some(image) => workload::begin(&mut moves, image, first_step),
        None => moves.shift_to(first_step),
    }
    Ok((moves.state, moves.effects))
}

fn first_state(plan: &Plan, id: RolloutId, input: &Input, start: &Start, actor: &Actor, canary: Slot) -> State {
    State {
        id,
        seq: input.seq,
        at: input.at,
        phase: Phase::Shifting { step: 0, until: input.at.plus(plan.verify.timeout) },
        phase_since: input.at,
        paused: None,
        frozen: None,
        canary,
        revision: start.revision.clone(),
        started_by: actor.clone(),
        author: start.author.clone(),
        started_at: input.at,
        outside_windows: start.outside_windows.clone(),
        wanted: Percent::ZERO,
        generation: start.last_generation,
        first_generation: start.last_generation,
        approvals: Vec::new(),
        pending: std::collections::BTreeMap::new(),
        written: None,
        fuses: None,
        points: std::collections::BTreeMap::new(),
        exposed: None,
        stable_release: start.stable.clone(),
        evidence: Evidence::new(start.route.version, input.at, Timing::begin(plan, start.baseline.as_ref())),
        past: *start.past,
        last_live_at: input.at,
        unusable: None,
        split_checked: 0,
        ending: None,
        budget_grants: 0,
        overruled: false,
        pauses_overruled: false,
        release: None,
        preview: None,
        trouble: None,
    }
}

/// The slot that holds all the weight.
fn stable_slot(plan: &Plan, route: &RouteReading) -> Result<Slot, Refusal> {
    for node in &plan.versions {
        if !route.targets.iter().any(|(target, _)| target == node) {
            return Err(Refusal {
                message: format!("`{node}` is no target of the route {}", plan.route),
                hint: format!(
                    "add it to the route's weightedTargets with weight 0, or correct `versions` of policy \
                     `{}`; the route has: {}",
                    plan.name,
                    targets_text(route)
                ),
            });
        }
    }
    if let Some(node) =
        plan.versions.iter().find(|node| route.targets.iter().filter(|(name, _)| name == *node).count() > 1)
    {
        return Err(Refusal {
            message: format!("`{node}` is a target of the route {} more than once", plan.route),
            hint: format!("a rollout needs one target for each version; the route has: {}", targets_text(route)),
        });
    }
    if let Some((node, weight)) = route.targets.iter().find(|(node, weight)| *weight > 0 && plan.slot(node).is_none()) {
        return Err(Refusal {
            message: format!("a third target, `{node}`, has weight {weight} on the route {}", plan.route),
            hint: "a rollout moves traffic between its two versions only: give the third target weight 0 first".into(),
        });
    }
    let held = [Slot::First, Slot::Second].map(|slot| route.weight_of(plan.node(slot)));
    match held {
        [first, 0] if first > 0 => Ok(Slot::First),
        [0, second] if second > 0 => Ok(Slot::Second),
        [first, second] => Err(Refusal {
            message: format!(
                "no version holds all the weight of the route {}: {} has {first}, {} has {second}",
                plan.route, plan.versions[0], plan.versions[1]
            ),
            hint: format!("decide which one is stable and give it everything: {}", settle_command(plan, route)),
        }),
    }
}

fn targets_text(route: &RouteReading) -> String {
    let each: Vec<String> = route.targets.iter().map(|(node, weight)| format!("{node} {weight}")).collect();
    if each.is_empty() { "no targets".to_owned() } else { each.join(", ") }
}

/// The line to run that gives all the weight to the version that has more of it now.
fn settle_command(plan: &Plan, route: &RouteReading) -> String {
    let [first, second] = [0, 1].map(|slot| route.weight_of(&plan.versions[slot]));
    let (stable, other) = if second > first { (1, 0) } else { (0, 1) };
    format!(
        "aws appmesh update-route --mesh-name {} --virtual-router-name {} --route-name {} --spec … with `{}` at 100 \
         and `{}` at 0 (`aws appmesh describe-route` prints the present spec)",
        plan.route.mesh, plan.route.router, plan.route.route, plan.versions[stable], plan.versions[other]
    )
}

/// The image to deploy; `None` where the slots run already.
pub(crate) fn released(plan: &Plan, image: Option<&str>, revision: Option<&str>) -> Result<Option<String>, Refusal> {
    match (&plan.workload, image) {
        (None, None) => Ok(None),
        (Some(_), Some(image)) => Ok(Some(image.to_owned())),
        // A process is told what it is by its revision as well.
        (Some(Workload { target: WorkloadTarget::Process(_), .. }), None) => match revision {
            Some(revision) => Ok(Some(revision.to_owned())),
            None => Err(Refusal {
                message: format!(
                    "policy `{}` starts what it releases, and neither image nor revision was named",
                    plan.name
                ),
                hint: format!("name it: `tidegate rollout start {} --revision v2`", plan.name),
            }),
        },
        (Some(_), None) => Err(Refusal {
            message: format!("policy `{}` deploys what it releases, and no image was named", plan.name),
            hint: format!("name it: `tidegate rollout start {} --image REPOSITORY:TAG`", plan.name),
        }),
        (None, Some(_)) => Err(Refusal {
            message: format!("policy `{}` has no `workload`, so nothing would deploy the image", plan.name),
            hint: "add `workload` to the policy; or start the new version in the slot without weight yourself, and \
                   leave the image out"
                .to_owned(),
        }),
    }
}

fn check_target(plan: &Plan, start: &Start, canary: Slot) -> Result<(), Refusal> {
    let Some(to) = &start.to else { return Ok(()) };
    match plan.slot(to) {
        Some(slot) if slot == canary => Ok(()),
        Some(_) => Err(Refusal {
            message: format!("`{to}` is stable: it already has all the traffic"),
            hint: format!("release to the other version: --to {}", plan.node(canary)),
        }),
        None => Err(Refusal {
            message: format!("`{to}` is no version of policy `{}`", plan.name),
            hint: format!("its versions are {} and {}", plan.versions[0], plan.versions[1]),
        }),
    }
}
