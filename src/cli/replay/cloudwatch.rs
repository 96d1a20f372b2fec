//! `tidegate policy replay --cloudwatch`: asks for the history of a policy's metrics, and prints what it would have done.

use super::super::args::ReplayArguments;
use super::super::{Ended, Failure, Output};
use crate::app::history::cloudwatch_history;
use crate::base::fault::{Fault, FaultKind};
use crate::base::time::Timestamp;
use crate::base::weight::Slot;
use crate::clock::{Clock, SystemClock};
use crate::policy::balancer_counts;
use crate::policy::plan::Plan;
use crate::simulate::history::{Asking, BEFORE, CountMetrics, MINUTE, Replayable, Series, Wanted};
use crate::simulate::replay::replay as replayed;
use crate::simulate::text;
use serde_json::json;

/// A day in milliseconds.
const DAY_MS: i64 = 86_400_000;
/// Minutes that may not be complete yet: the present one and the ones that CloudWatch is late with.
const UNSETTLED_MINUTES: i64 = 3;

pub(super) async fn replay(plan: &Plan, arguments: &ReplayArguments, output: Output) -> Ended {
    let asking = Asking::about(plan, target_groups(plan, arguments)?).map_err(|why| Failure::new(why).usage())?;
    let canary = arguments.canary.as_deref().map(|node| version(plan, node)).transpose()?;
    let (from, until) = span(arguments)?;
    let questions = asking.questions();
    let asked_from = Timestamp(from.0.saturating_sub_unsigned(BEFORE.0));
    let answers = cloudwatch_history(&questions, asked_from, until).await;
    let answers = answers.into_iter().collect::<Result<Vec<_>, Fault>>().map_err(|fault| unanswered(&fault))?;
    let series = answers.into_iter().map(|points| points.into_iter().map(|point| (point.at, point.value)).collect());
    let series: Vec<Series> = series.collect();
    let wanted = Wanted { from: arguments.from.map(|_| from), until: arguments.until.map(|_| until), canary };
    let found = asking.replayable(&series, &wanted, until).map_err(Failure::new)?;
    let moments = replayed(&found.plan, &found.recording).map_err(Failure::new)?;
    let Replayable { recording, left_out, canary, stable, .. } = &found;
    if output.is_json() {
        output.json(&json!({
            "policy": plan.name, "readings": recording.samples.len(), "left_out": left_out, "moments": moments,
            "canary": canary, "stable": stable, "from": recording.begin.rfc3339(), "until": until.rfc3339(),
        }));
        return Ok(0);
    }
    let begin = recording.begin.rfc3339();
    output.line(&format!("CloudWatch: the release is on {canary}, beside {stable}; a rollout begins at {begin}."));
    output.line(text::moments(&plan.name, recording, left_out, &moments).trim_end());
    Ok(0)
}

/// What is asked for: whole minutes that CloudWatch has settled.
fn span(arguments: &ReplayArguments) -> Result<(Timestamp, Timestamp), Failure> {
    let minute = i64::try_from(MINUTE.0).unwrap_or(i64::MAX);
    let now = SystemClock.now();
    let end = Timestamp((now.0.div_euclid(minute) - UNSETTLED_MINUTES) * minute);
    let oldest = Timestamp(end.0 - DAY_MS * i64::try_from(arguments.days).unwrap_or(i64::MAX));
    let whole = |at: Timestamp| Timestamp(at.0.div_euclid(minute) * minute);
    let (from, until) =
        (arguments.from.map_or(oldest, whole), arguments.until.map_or(end, |until| whole(until).min(end)));
    if from < oldest {
        let text = format!("--from {} is more than {} days ago", from.rfc3339(), arguments.days);
        return Err(Failure::new(text).hint("name more days with --days; CloudWatch keeps minutes for 15").usage());
    }
    if from >= until {
        let text = format!("there is nothing between {} and {}", from.rfc3339(), until.rfc3339());
        return Err(Failure::new(text).hint("--from lies before --until, and both lie in the past").usage());
    }
    Ok((from, until))
}

/// Metrics of target groups, where they are named.
fn target_groups(plan: &Plan, arguments: &ReplayArguments) -> Result<Option<[CountMetrics; 2]>, Failure> {
    let Some(load_balancer) = &arguments.load_balancer else { return Ok(None) };
    let mut groups: [Option<CountMetrics>; 2] = [None, None];
    for text in &arguments.target_group {
        let (node, group) = text.split_once('=').ok_or_else(|| {
            Failure::new(format!("`{text}` is no version and its target group, such as {}=NAME", plan.versions[0]))
                .usage()
        })?;
        groups[version(plan, node)?.index()] = Some(balancer_counts(load_balancer, group));
    }
    match groups {
        [Some(first), Some(second)] => Ok(Some([first, second])),
        _ => {
            let [first, second] = &plan.versions;
            let text = format!(
                "--target-group is needed for each version: --target-group {first}=NAME --target-group {second}=NAME"
            );
            Err(Failure::new(text).usage())
        }
    }
}

fn version(plan: &Plan, node: &str) -> Result<Slot, Failure> {
    plan.slot(node).ok_or_else(|| {
        let [first, second] = &plan.versions;
        Failure::new(format!("`{node}` is no version of policy `{}`: they are {first} and {second}", plan.name)).usage()
    })
}

fn unanswered(fault: &Fault) -> Failure {
    let hint = match fault.kind {
        FaultKind::Transient | FaultKind::Unknown => {
            "it was asked several times; try again in a while, or ask for fewer days"
        }
        FaultKind::Permanent => "the region is that of AWS_REGION, the credentials are those of the environment",
    };
    Failure::new(format!("{}: {}", fault.source, fault.message)).hint(hint)
}
