//! A plan in prose: what a rollout by it will do, how long it takes at least and at most, what it exposes, and what its
//! bound on false rollbacks does not cover. For people who are about to trust it with their traffic.

use super::gate::weight_step;
use super::limits::tested_us;
use super::preview;
use super::signals::{amount, patience};
use crate::base::time::Millis;
use crate::base::weight::Percent;
use crate::judge::advance_threshold;
use crate::judge::evidence::SafetyEvidence;
use crate::judge::noise::LEAST_BLOCKS;
use crate::judge::verdict::{duration, percent, plain_percent, points, thousands};
use crate::policy::plan::{
    Bound, CloudwatchMetric, CloudwatchQuery, EcsTarget, GateRule, GithubNotice, HealthProbe, Moment, NoiseRule,
    Notice, OnFailure, OnInconclusive, OnVerifyTimeout, Plan, ProcessTarget, Scale, SignalGate, SignalQuery,
    SignalRule, SignalUnit, SlackNotice, StartRules, WebhookNotice, WeightStep, Workload, WorkloadTarget, XrayMeasure,
    XrayQuery,
};
use std::fmt::Write;

mod scopes;

/// The judge looks once a second: what a dead release fails until then cannot be taken back.
const TICK_S: f64 = 1.0;
/// Where nothing is left to compare.
const ALL_TRAFFIC: Moment = Moment::At(Percent::FULL);
/// So much of a question is shown: enough to know it by.
const QUERY_CHARS: usize = 80;

/// A plan in prose. `requests_per_s` is the route's traffic, where it is known: then exposure and times are given in
/// requests and minutes too.
#[must_use]
pub fn explain(plan: &Plan, requests_per_s: Option<f64>) -> String {
    let mut text = format!(
        "Policy `{}` moves the traffic of route {} between {} and {}: whichever has none takes the release.\n\n",
        plan.name, plan.route, plan.versions[0], plan.versions[1]
    );
    beginnings(&mut text, plan);
    deployment(&mut text, plan);
    text.push_str(&preview::explained(plan));
    steps(&mut text, plan, requests_per_s);
    times(&mut text, plan);
    verdicts(&mut text, plan);
    notices(&mut text, plan);
    text
}

/// Who is told.
fn notices(text: &mut String, plan: &Plan) {
    for (index, notice) in plan.told().iter().enumerate() {
        if index == 0 {
            text.push_str("\nWho is told. No decision waits for it.\n");
        }
        let _ = match notice {
            Notice::Github(GithubNotice { repository, environment }) => writeln!(
                text,
                "  GitHub: the commit of {repository} that is released gets the status tidegate/{}, and a deployment to \
                 {environment}.",
                plan.name
            ),
            Notice::Slack(SlackNotice { channel, asks: true }) => {
                writeln!(text, "  Slack: whoever may approve is asked in {channel}, and may answer there.")
            }
            Notice::Slack(SlackNotice { channel, asks: false }) => {
                writeln!(text, "  Slack: a message in {channel} follows it.")
            }
            Notice::Webhook(WebhookNotice { url }) => {
                writeln!(text, "  Webhook: {url} gets a signed request for each step, pause, approval and end.")
            }
        };
    }
}

/// When a rollout begins.
fn beginnings(text: &mut String, plan: &Plan) {
    let Some(StartRules { windows, at, .. }) = &plan.start else { return };
    if windows.is_empty() && at.is_empty() {
        return;
    }
    text.push_str("Start\n");
    if !windows.is_empty() {
        let _ = writeln!(
            text,
            "  Begins within {} only. What events ask for outside of that waits, the newest alone; a start by hand is refused \
             unless `--outside-windows` says why.\n  What has begun goes on when its window ends.",
            windows.join(", ")
        );
    }
    if !at.is_empty() {
        let _ = writeln!(
            text,
            "  What events ask for waits for the next departure, the newest alone: {}. A start by hand does not.",
            at.join(", ")
        );
    }
    text.push('\n');
}

/// What comes before the first step and after the last.
fn deployment(text: &mut String, plan: &Plan) {
    let Some(Workload { target, ready_within, keep_for }) = &plan.workload else { return };
    let EcsTarget { cluster, services, container, scale } = match target {
        WorkloadTarget::Ecs(ecs) => ecs,
        WorkloadTarget::Process(process) => return processes(text, process, (*ready_within, *keep_for)),
    };
    let tasks = match scale {
        Scale::SameAsStable => "as many tasks as stable is asked to have".to_owned(),
        Scale::Keep => "as many tasks as it is asked to have already".to_owned(),
        Scale::Tasks(1) => "1 task".to_owned(),
        Scale::Tasks(number) => format!("{number} tasks"),
        Scale::FollowShare { headroom_percent } => format!(
            "as many tasks as its share of the traffic asks for by stable's number, and {headroom_percent} % on top; they are \
             made more before each step, and the step waits for them"
        ),
    };
    let _ = writeln!(
        text,
        "Deployment\n  The image goes into container {container} of the slot's service ({} and {} in cluster {cluster}), with \
         {tasks}. Nothing gets traffic before they are up; not up within {ready_within} is rolled back.\n  After a promotion \
         the version before stays up for {keep_for}, so that `abort` goes back to it at once; after a rollback the release is \
         scaled in as soon as its traffic is gone.\n",
        services[0], services[1]
    );
}

fn processes(text: &mut String, process: &ProcessTarget, (ready_within, keep_for): (Millis, Millis)) {
    let [(first, first_port), (second, second_port)] = [0, 1].map(|slot| (&process.nodes[slot], process.ports[slot]));
    let _ = writeln!(
        text,
        "Deployment\n  The daemon runs `{}` once for each version: {first} on port {first_port}, {second} on port \
         {second_port}. Nothing gets traffic before it listens; not within {ready_within} is rolled back.\n  After a \
         promotion the version before stays up for {keep_for}, so that `abort` goes back to it at once; after a rollback the \
         release is stopped as soon as its traffic is gone.\n",
        process.command.join(" ")
    );
}

fn steps(text: &mut String, plan: &Plan, requests_per_s: Option<f64>) {
    text.push_str("Steps\n");
    for index in 0..plan.steps.len() {
        let Some(step) = weight_step(plan, index) else { continue };
        let share = step.weight.share();
        let number = index + 1;
        if step.weight == Percent::FULL {
            let _ = writeln!(
                text,
                "  {number}. All traffic, for {}: nothing is left to compare it with; {} here.",
                step.min,
                if plan.gates.iter().any(|gate| gate.rule.is_absolute() && !gate.dry_run && gate.acts(ALL_TRAFFIC)) {
                    "only gates with a limit and health checks act"
                } else {
                    "comparing gates are silent"
                }
            );
            continue;
        }
        let _ = writeln!(
            text,
            "  {number}. {} for {} at least. {}",
            step.weight,
            step.min,
            proof(plan, step, requests_per_s)
        );
        if let Some(rate) = requests_per_s {
            exposure(text, plan, rate * share);
        }
    }
    text.push('\n');
}

/// What lets a step advance, and what happens when that does not come.
fn proof(plan: &Plan, step: &WeightStep, requests_per_s: Option<f64>) -> String {
    let share = step.weight.share();
    let threshold = advance_threshold(plan.confidence_to_advance);
    let needed = SafetyEvidence::new(step.prove_no_worse_than, 1.0).requests_to_proof(share, threshold);
    let margin = points(step.prove_no_worse_than);
    let confidence = percent(plan.confidence_to_advance);
    let mut text = format!(
        "Advances when the release is shown to fail less than {margin} more often than stable ({confidence} sure)"
    );
    if let Some(needed) = needed {
        let all = (needed as f64 / share).ceil() as u64;
        let _ = write!(
            text,
            ": {} requests on it without an error, {} in all, if none came before",
            thousands(needed),
            thousands(all)
        );
        if let Some(rate) = requests_per_s.filter(|rate| *rate > 0.0) {
            let _ = write!(text, " (about {})", span(needed as f64 / (rate * share)));
        }
    }
    let _ = match step.on_inconclusive {
        OnInconclusive::Hold => write!(text, ". Without that it stays here and goes on judging."),
        OnInconclusive::Advance => write!(text, ". Without that it advances all the same after {}.", step.max),
        OnInconclusive::Rollback => write!(text, ". Without that it is rolled back after {}.", step.max),
    };
    text
}

/// Failures of a dead release until the first look, against the budget.
fn exposure(text: &mut String, plan: &Plan, canary_requests_per_s: f64) {
    let lost = canary_requests_per_s * TICK_S;
    let budget = plan.blast_radius.failed_requests as f64;
    let warning = if lost > budget { "  <- more than blast_radius.failed_requests: make the step smaller" } else { "" };
    let _ = writeln!(
        text,
        "     Exposes {canary_requests_per_s:.1} requests/s; a dead release fails about {:.0} before the first look{warning}",
        lost.max(3.0)
    );
}

/// A span in the unit that reads best.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{:.0} s", s.ceil()),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3600.0),
    }
}

fn times(text: &mut String, plan: &Plan) {
    let steps = || (0..plan.steps.len()).filter_map(|index| weight_step(plan, index));
    let shown = plan.preview.as_ref().map_or(0, |preview| preview.lasts.0);
    let least = Millis(shown.saturating_add(steps().map(|step| step.min.0).sum()));
    let holds = steps().any(|step| step.on_inconclusive == OnInconclusive::Hold && step.weight != Percent::FULL);
    let most = Millis(steps().map(|step| step.max.0).sum::<u64>().min(plan.max_total.0));
    let _ = writeln!(text, "Time\n  At least {least}, and a few seconds to see each change in force.");
    let _ = match holds {
        true => writeln!(
            text,
            "  At most {}: with too little traffic it waits at a step until someone decides, and is rolled back then.",
            plan.max_total
        ),
        false => writeln!(
            text,
            "  At most {most} and the time that pauses take; rolled back after {} whatever happens.",
            plan.max_total
        ),
    };
    let on_timeout = match plan.verify.on_timeout {
        OnVerifyTimeout::Rollback => "rolled back",
        OnVerifyTimeout::Pause => "paused",
    };
    let _ = writeln!(text, "  A step that is not in force within {} is {on_timeout}.\n", plan.verify.timeout);
}

/// What proxies do by themselves; nothing where no gate is for them.
fn fuses(plan: &Plan) -> String {
    match super::fuse::is_wanted(plan) {
        false => String::new(),
        true => format!(
            "A native proxy that sees {} more failures than tolerated between two readings of its counts sends to stable until the \
             next, and for good once it has proof of its own.\n  ",
            thousands(plan.blast_radius.per_proxy_between_acks)
        ),
    }
}

fn verdicts(text: &mut String, plan: &Plan) {
    let what = match plan.on_failure {
        OnFailure::Rollback => "takes all traffic off the release at once",
        OnFailure::Pause => "keeps the weight and waits for a person",
    };
    let _ = writeln!(
        text,
        "Verdict\n  A failing gate {what}. Looked at every second, with no minimum number of looks or errors."
    );
    bounds(text, plan);
    text.push_str(&scopes::told(plan));
    for gate in plan.gates.iter().filter(|gate| gate.dry_run) {
        let _ = writeln!(text, "  Gate {} only reports (dry_run).", gate.name);
    }
    let _ = writeln!(
        text,
        "  After {} failures beyond stable's rate the weight goes to 0 and a person is asked; that is no verdict.\n  \
         {}Live data silent for {}: nothing advances; for {}: weight 0 until it comes back. Silence is never a verdict.",
        thousands(plan.blast_radius.failed_requests),
        fuses(plan),
        plan.no_data.hold_after,
        plan.no_data.withdraw_after
    );
}

/// Which gates the bound on false rollbacks covers, and what the others do.
fn bounds(text: &mut String, plan: &Plan) {
    let deciding = || plan.gates.iter().filter(|gate| !gate.dry_run);
    let compared: Vec<&str> = deciding().filter(|gate| gate.rule.is_covered()).map(|gate| gate.name.as_str()).collect();
    if deciding().next().is_none() {
        text.push_str("  No gate decides anything: only people and time limits end this rollout badly.\n");
    }
    if !compared.is_empty() {
        let _ = writeln!(
            text,
            "  A release that is no worse is rolled back in at most {} of rollouts by the gates {}, together, however long \
             they take.",
            percent(plan.max_false_rollback),
            compared.join(", ")
        );
    }
    if deciding().any(|gate| matches!(gate.rule, GateRule::ErrorRateAgainstStable { .. })) {
        noise(text, plan.noise);
    }
    if let Some(tolerate) = plan.latency_tolerance() {
        let _ = writeln!(
            text,
            "  Latencies are compared at p50 to p99.9 of stable's, {} slower is tolerated and up to 12.5 % more, since limits \
             are moved up to a bound of the histogram; the first 1,000 requests of stable may be needed to know it.",
            percent(tolerate)
        );
    }
    for gate in deciding().filter(|gate| !gate.rule.is_covered()) {
        if let GateRule::Signal(rule) = &gate.rule {
            signal(text, &gate.name, rule);
            continue;
        }
        if let GateRule::Health { probe, interval, breaches } = &gate.rule {
            let whom = if matches!(probe, HealthProbe::Ecs { .. }) { "ECS" } else { "every endpoint" };
            let _ = writeln!(
                text,
                "  Gate {} ({whom} is asked for {probe} every {interval}) is not covered by that bound: it fails a \
                 release of which some endpoint did not answer with success {breaches} times in a row while all of stable's \
                 did. Nothing advances before the first answer, or while the last one was bad.",
                gate.name,
            );
            continue;
        }
        let _ = writeln!(
            text,
            "  Gate {} ({}) is not covered by that bound: it keeps {} by itself. It fails a release that is beyond the \
             limit and worse than stable; where stable is beyond it too, nothing advances and a person is told. At 100 % \
             the limit alone decides.",
            gate.name,
            limit(&gate.rule),
            percent(plan.max_false_rollback)
        );
    }
}

/// What the comparison of error rates allows for beside chance.
fn noise(text: &mut String, rule: NoiseRule) {
    let _ = match rule {
        NoiseRule::None => writeln!(
            text,
            "  That takes both versions' error rates to swing together. Where one swings by itself (a busy neighbour, a cold \
             cache), more are; `noise: auto` allows for what stable's endpoints have of it."
        ),
        NoiseRule::Auto => writeln!(
            text,
            "  Error rates that swing by themselves on one endpoint are allowed for as far as stable's endpoints did so in the \
             last day: with two endpoints at least, by {LEAST_BLOCKS} minutes with errors. Where they do, 1.2 times stable's rate \
             is tolerated, and a release takes longer to be found bad. A rollout says what it allows for."
        ),
        NoiseRule::Fixed { v, phi } => writeln!(
            text,
            "  Error rates of one version may swing by {} of themselves from minute to minute{}; a release takes longer to be \
             found bad for it.",
            percent(v.sqrt()),
            if phi > 1.0 { format!(", and {phi} errors have one cause") } else { String::new() }
        ),
    };
}

/// A gate on a signal from outside: what it asks, what fails, what silence does.
fn signal(text: &mut String, name: &str, gate: &SignalGate) {
    let (asked, breaches) = (asked(&gate.query), gate.breaches);
    let of = match gate.query.is_per_version() {
        true if gate.query.is_about_both() => "of the canary beside stable",
        true => "asked about each version",
        false => "one question for both versions",
    };
    let fails = match gate.rule {
        SignalRule::Limit { .. } if gate.is_alarm() => format!("found it in ALARM {breaches} times in a row"),
        SignalRule::Limit { .. } if gate.query.is_yes_or_no() => format!("was told no {breaches} times in a row"),
        SignalRule::Limit { value, .. } if gate.query.is_about_both() => format!(
            "had more than {} of them {breaches} points in a row, each with a chance of one in a hundred at most were the \
             versions alike",
            amount(gate.unit, value)
        ),
        SignalRule::Limit { value, bound } => {
            let side = if bound == Bound::Max { "above" } else { "below" };
            let limit = amount(gate.unit, value);
            match gate.query.is_per_version() {
                true => format!(
                    "had {breaches} points in a row {side} {limit} while stable's last one was not (at 100 % by its own alone)"
                ),
                false => format!(
                    "had {breaches} points in a row {side} {limit}, whoever is to blame: stable is not asked apart"
                ),
            }
        }
        SignalRule::AgainstStable { ratio, add } => format!(
            "had {breaches} points in a row above {ratio} times stable's of the same time plus {}; at 100 % it is silent",
            match gate.unit {
                SignalUnit::Share => points(add),
                SignalUnit::Percent => points(add / 100.0),
                SignalUnit::Number | SignalUnit::Seconds => amount(gate.unit, add),
            }
        ),
    };
    let _ = writeln!(
        text,
        "  Gate {name} ({asked}; {of}, every {}) is not covered by that bound: it fails a release that {fails}. Points that \
         began before the weights were in force do not count. While it is silent the weight stays and nothing advances; \
         after {} a person is told.",
        gate.interval,
        patience(gate),
    );
}

/// What a source is asked, in a few words.
fn asked(query: &SignalQuery) -> String {
    let cut = |text: &str| match text.char_indices().nth(QUERY_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    match query {
        SignalQuery::Cloudwatch(CloudwatchQuery::Metric { metric, period }) => {
            let CloudwatchMetric { namespace, name, stat, dimensions } = metric;
            let of: Vec<String> = dimensions.iter().map(|(name, value)| format!("{name} {value}")).collect();
            let of = if of.is_empty() { String::new() } else { format!(" of {}", cut(&of.join(", "))) };
            format!("{stat} of {namespace} {name}{of} over {period} from CloudWatch")
        }
        SignalQuery::Cloudwatch(CloudwatchQuery::Expression { expression, period, .. }) => {
            format!("`{}` over {period} from CloudWatch", cut(expression))
        }
        SignalQuery::Cloudwatch(CloudwatchQuery::Alarm { name }) => format!("alarm {name} of CloudWatch"),
        SignalQuery::Xray(XrayQuery { filter, measure, .. }) => {
            let measure = match measure {
                XrayMeasure::FaultRate => "share of faults".to_owned(),
                XrayMeasure::ErrorRate => "share of errors".to_owned(),
                XrayMeasure::ThrottleRate => "share of throttled requests".to_owned(),
                XrayMeasure::ResponseTime { quantile } => format!("p{} of response times", quantile * 100.0),
                XrayMeasure::NewExceptions => "types of exceptions that stable has not".to_owned(),
                XrayMeasure::NewEdges => "calls between services that stable has not".to_owned(),
            };
            format!("{measure} in traces of X-Ray with `{}`", cut(filter))
        }
        SignalQuery::Prometheus { query, url, step } => {
            let which = url.as_deref().map_or_else(String::new, |url| format!(" at {}", cut(url)));
            let each = step.map_or_else(String::new, |step| format!(" each {step}"));
            format!("`{}`{each} from Prometheus{which}", cut(query))
        }
        SignalQuery::Webhook(query) => format!("yes or no of {}", cut(&query.url)),
        SignalQuery::Http { url, value } if value.is_empty() => format!("the number at {}", cut(url)),
        SignalQuery::Http { url, value } => format!("{value} in the answer of {}", cut(url)),
    }
}

/// A limit as it is really tested.
fn limit(rule: &GateRule) -> String {
    let side = |bound: Bound| if bound == Bound::Max { "at most" } else { "at least" };
    match rule {
        GateRule::ErrorRateLimit { share, bound } => {
            format!("{} {} of requests fail", side(*bound), plain_percent(*share))
        }
        GateRule::LatencyLimit { quantile, limit, bound } => {
            let tested = tested_us(*limit, *bound);
            let slower = plain_percent(1.0 - quantile);
            let tested =
                if tested == u64::MAX { "any latency that is told apart".to_owned() } else { duration(tested) };
            format!("{} {slower} of requests slower than {tested}, for a limit of {limit}", side(*bound))
        }
        GateRule::ErrorRateAgainstStable { .. }
        | GateRule::LatencyAgainstStable { .. }
        | GateRule::Health { .. }
        | GateRule::Signal(_) => String::new(),
    }
}
