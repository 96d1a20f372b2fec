//! `tidegate policy simulate`: runs the rollouts on every core and prints the answer.

use super::args::{SimulateArguments, Slowness};
use super::{Ended, Failure, Output};
use crate::policy;
use crate::policy::plan::Plan;
use crate::simulate::latency::LatencyShape;
use crate::simulate::question::{Part, Question};
use crate::simulate::run::{Pace, Run};
use crate::simulate::world::{Arm, Reporting, Sessions, World};
use crate::simulate::{plot, text};
use std::path::Path;

/// Threads beyond so many would only wait for each other at the memory.
const THREADS_MAX: usize = 64;

pub(super) fn simulate(arguments: &SimulateArguments, output: Output) -> Ended {
    let plan = compiled(&arguments.file, output)?;
    let pace = Pace { horizon_s: arguments.horizon, ..Pace::default() };
    let question = Question::new(&plan, world(arguments), pace, arguments.seed, arguments.runs);
    let question = question.map_err(|problem| Failure::new(problem).usage())?;
    let parts: Vec<(Part, Vec<Run>)> =
        question.parts().into_iter().map(|part| (part, runs(&question, &part))).collect();
    let answer = question.answer(&parts);
    if let Some(path) = &arguments.plot {
        std::fs::write(path, plot::answer(&answer))
            .map_err(|error| Failure::new(format!("{}: cannot be written: {error}", path.display())))?;
    }
    if output.is_json() {
        output.json(&answer);
    } else {
        output.line(text::answer(&answer).trim_end());
    }
    Ok(0)
}

/// The plan of a policy file; its problems go to stderr.
pub(super) fn compiled(path: &Path, output: Output) -> Result<Plan, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("{name}: cannot be read: {error}")).usage())?;
    match policy::compile(&name, &text) {
        Ok(compiled) => Ok(compiled.plan),
        Err(problems) => {
            problems.iter().for_each(|problem| output.remark(&format!("error: {problem}")));
            Err(Failure::new(format!("{name} is not valid")).usage())
        }
    }
}

fn world(arguments: &SimulateArguments) -> World {
    let stable_latency =
        arguments.stable_latency.map(|median_ms| LatencyShape::of_median_ms(median_ms, arguments.latency_spread));
    let canary_latency = stable_latency.map(|stable| {
        let median_ms = match arguments.canary_latency {
            Some(Slowness::MedianMs(median_ms)) => median_ms,
            Some(Slowness::Times(times)) => stable.median_ms * times,
            None => stable.median_ms,
        };
        let (slow_share, slow_factor) = arguments.canary_slow.unwrap_or((0.0, 1.0));
        LatencyShape { median_ms, slow_share, slow_factor, ..stable }
    });
    let once = arguments.session.map(|requests| Sessions { requests, judged_once: true });
    World {
        rate: arguments.traffic,
        stable: Arm { errors: arguments.stable_errors, latency: stable_latency },
        canary: Arm { errors: arguments.canary_errors.unwrap_or(arguments.stable_errors), latency: canary_latency },
        onset_s: arguments.onset,
        incident: arguments.incident,
        swings: arguments.noise,
        sessions: once.or_else(|| arguments.cluster.map(|requests| Sessions { requests, judged_once: false })),
        reporting: Reporting { period_s: arguments.period, lag_s: arguments.lag },
        endpoints: arguments.endpoints,
    }
}

/// All runs of a part, in order: which thread made which makes no difference.
fn runs(question: &Question, part: &Part) -> Vec<Run> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let share = part.runs.div_ceil(threads as u64).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads as u64)
            .map(|worker| {
                let numbers = worker * share..((worker + 1) * share).min(part.runs);
                scope.spawn(move || numbers.map(|number| question.run(part, number)).collect::<Vec<_>>())
            })
            .collect();
        // A worker's panic is this one's.
        let joined =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.flatten().collect()
    })
}
