//! Gates on signals from outside the mesh: what is asked, how often, and which points breach.

use super::compile::{duration, read};
use super::gates::{is_amount, limit};
use super::keys::{GATE, TOLERATE};
use super::keys_outside::WEBHOOK;
use super::keys_signals::{CLOUDWATCH, HTTP, PROMETHEUS, XRAY};
use super::plan::placeholder::{PLACEHOLDERS, Placeholder, names_in};
use super::plan::{
    Bound, CloudwatchMetric, CloudwatchQuery, Gate, GateRule, Moment, SignalGate, SignalQuery, SignalRule, SignalUnit,
    Step, WebhookQuery, WeightStep, XrayBeside, XrayMeasure, XrayQuery,
};
use super::presets;
use super::problem::{Place, Report, quote};
use super::source::similar;
use super::steps::weights;
use super::table::Record;
use super::tree::{Node, Value};
use super::units;
use crate::base::time::Millis;
use std::collections::BTreeMap;

/// Keys of gates that name a source.
pub(super) const SOURCES: [&str; 5] = ["cloudwatch", "xray", "prometheus", "http", "webhook"];
/// Shortest and longest time between two questions: calls cost money, and several in a row must not take longer than a
/// step.
const INTERVALS: std::ops::RangeInclusive<Millis> = Millis::from_seconds(1)..=Millis::from_seconds(300);
/// Shortest and longest wait for a webhook: a round of questions has 30 s, and other gates are in it.
const WEBHOOK_TIMEOUTS: std::ops::RangeInclusive<Millis> = Millis::from_seconds(1)..=Millis::from_seconds(20);
/// Longest period: a gate that says something once an hour is none.
const PERIOD_MOST: Millis = Millis::from_seconds(3600);
/// Shorter periods than a minute that CloudWatch has.
const SHORT_PERIODS: [Millis; 4] =
    [Millis::from_seconds(1), Millis::from_seconds(5), Millis::from_seconds(10), Millis::from_seconds(30)];
/// Most metrics of an expression. CloudWatch takes 500; one gate is one thing to judge by.
const MAX_METRICS: usize = 16;
/// Largest tolerated multiple of stable's: beyond it a gate would pass anything.
const LARGEST_RATIO: f64 = 1000.0;

/// What a source is asked.
struct Question {
    query: SignalQuery,
    unit: SignalUnit,
    interval: Millis,
}

/// The rule of a gate on a signal; `None` where it has no source, or not a valid one, which is reported.
pub(super) fn signal_rule(root: &Node, element: &Node, report: &mut Report<'_>) -> Option<GateRule> {
    let (key, source) = SOURCES.into_iter().find_map(|key| Some((key, element.get(key)?)))?;
    let ecs = root.get("workload").and_then(|workload| workload.get("ecs"));
    placeholders(source, ecs.is_some(), report);
    let question = match key {
        "cloudwatch" => cloudwatch(source, root, report),
        "xray" => xray(source, report),
        "prometheus" => prometheus(source, report),
        "http" => http(source, report),
        _ => webhook(source, report),
    };
    // What is wrong with the question was told; what may be said of its points depends on it.
    let Question { query, unit, interval } = question?;
    let rule = match &query {
        query if query.is_yes_or_no() => yes_or_no(element, key, report),
        query if query.is_about_both() => nothing_new(element, query.is_per_version(), report),
        query => judged(element, unit, query.is_per_version(), report),
    }?;
    let breaches = read(Some(element), &GATE, "breaches", |text| text.parse().ok()).value;
    Some(GateRule::Signal(SignalGate { query, interval, unit, rule, breaches }))
}

// === what is asked ===

fn cloudwatch(node: &Node, root: &Node, report: &mut Report<'_>) -> Option<Question> {
    let period = period(node, report);
    let interval = match node.get("interval") {
        Some(_) => interval(node, &CLOUDWATCH, period, report),
        None => period.clamp(*INTERVALS.start(), *INTERVALS.end()),
    };
    let form = ["alarm", "preset", "expression", "metric"].into_iter().find(|key| node.get(key).is_some())?;
    only(node, form, report);
    let (query, unit) = match form {
        "alarm" => (CloudwatchQuery::Alarm { name: node.get("alarm")?.text()?.to_owned() }, SignalUnit::Number),
        "preset" => presets::preset(node, period, root, report)?,
        "expression" => (expression(node, period, report)?, SignalUnit::Number),
        _ => {
            for key in ["namespace", "stat"].into_iter().filter(|key| node.get(key).is_none()) {
                let field = CLOUDWATCH.field(key).map_or("", |field| field.example);
                let hint = Some(format!("add `{key}: {field}`"));
                report.error(node.place, format!("a metric of CloudWatch needs `{key}`"), hint);
            }
            (CloudwatchQuery::Metric { metric: metric(node)?, period }, SignalUnit::Number)
        }
    };
    Some(Question { query: SignalQuery::Cloudwatch(query), unit, interval })
}

/// Refuses keys that the form of a query has no use for.
fn only(node: &Node, form: &str, report: &mut Report<'_>) {
    let used: &[&str] = match form {
        "alarm" => &[],
        "preset" => &["stat", "period", "namespace"],
        "expression" => &["metrics", "period"],
        _ => &["namespace", "stat", "dimensions", "period"],
    };
    let all = ["namespace", "stat", "dimensions", "metrics", "period"].into_iter();
    let strays = all.chain(presets::KEYS.into_iter().filter(|_| form != "preset")).filter(|key| !used.contains(key));
    for key in strays {
        if let Some(entry) = node.entry(key) {
            report.error(
                entry.place,
                format!("`{key}` has no meaning beside `{form}`"),
                Some("leave it out".to_owned()),
            );
        }
    }
}

fn metric(node: &Node) -> Option<CloudwatchMetric> {
    let text = |key| node.get(key)?.text().map(str::to_owned);
    let dimensions = node.get("dimensions").map(Node::entries).unwrap_or_default();
    let dimension = |(key, value): (&String, &Node)| Some((key.clone(), value.text()?.to_owned()));
    Some(CloudwatchMetric {
        namespace: text("namespace")?,
        name: text("metric")?,
        stat: text("stat")?,
        dimensions: dimensions.iter().filter_map(|entry| dimension((&entry.key, &entry.value))).collect(),
    })
}

fn expression(node: &Node, period: Millis, report: &mut Report<'_>) -> Option<CloudwatchQuery> {
    let text = node.get("expression")?;
    let metrics = node.get("metrics");
    let entries = metrics.map(Node::entries).unwrap_or_default();
    if !(1..=MAX_METRICS).contains(&entries.len()) {
        let place = metrics.map_or(text.place, |metrics| metrics.place);
        let hint = "name each metric: `metrics: { errors: { namespace: Shop, metric: Errors, stat: Sum } }`".to_owned();
        report.error(
            place,
            format!("an expression needs 1 to {MAX_METRICS} `metrics`, found {}", entries.len()),
            Some(hint),
        );
    }
    let mut named = BTreeMap::new();
    for entry in entries {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !entry.key.starts_with(|c: char| c.is_ascii_lowercase()) || !entry.key.chars().all(word) {
            let hint = "begin it with a lower-case letter; letters, digits and `_` may follow".to_owned();
            report.error(entry.place, format!("{} is no name in an expression", quote(&entry.key)), Some(hint));
        }
        named.insert(entry.key.clone(), metric(&entry.value)?);
    }
    Some(CloudwatchQuery::Expression { expression: text.text()?.to_owned(), metrics: named, period })
}

fn period(node: &Node, report: &mut Report<'_>) -> Millis {
    let period = read(Some(node), &CLOUDWATCH, "period", duration);
    let minutes = period.value.0 > 0 && period.value.0.is_multiple_of(60_000) && period.value <= PERIOD_MOST;
    if let (false, Some(place)) = (minutes || SHORT_PERIODS.contains(&period.value), period.place) {
        let message = "`period` must be 1s, 5s, 10s, 30s or whole minutes up to 1h";
        report.error(place, message, Some("the default is `1m`".to_owned()));
    }
    period.value
}

fn xray(node: &Node, report: &mut Report<'_>) -> Option<Question> {
    let interval = interval(node, &XRAY, *INTERVALS.start(), report);
    let quantile = |quantile| (XrayMeasure::ResponseTime { quantile }, SignalUnit::Seconds);
    let (measure, unit) = match node.get("measure")?.text()? {
        "fault_rate" => (XrayMeasure::FaultRate, SignalUnit::Share),
        "error_rate" => (XrayMeasure::ErrorRate, SignalUnit::Share),
        "throttle_rate" => (XrayMeasure::ThrottleRate, SignalUnit::Share),
        "response_time_p50" => quantile(0.5),
        "response_time_p90" => quantile(0.9),
        "response_time" | "response_time_p95" => quantile(0.95),
        "response_time_p99" => quantile(0.99),
        "new_exceptions" => (XrayMeasure::NewExceptions, SignalUnit::Number),
        "new_edges" => (XrayMeasure::NewEdges, SignalUnit::Number),
        _ => return None,
    };
    let filter = node.get("filter")?.text()?.to_owned();
    // Two versions of one filter: what they are called in their traces is no difference between them.
    let beside = matches!(measure, XrayMeasure::NewExceptions | XrayMeasure::NewEdges).then(|| XrayBeside {
        filter: filter.clone(),
        canary: "{node}".to_owned(),
        stable: "{node}".to_owned(),
    });
    if let (Some(_), true) = (&beside, names_in(&filter).is_empty()) {
        let hint = "put a placeholder such as `{version}` into it".to_owned();
        let place = node.get("filter").map_or(node.place, |filter| filter.place);
        report.error(place, "the filter selects the same traces for both versions, so nothing can be new", Some(hint));
    }
    let min_traces = read(Some(node), &XRAY, "min_traces", |text| text.parse().ok()).value;
    Some(Question { query: SignalQuery::Xray(XrayQuery { filter, measure, min_traces, beside }), unit, interval })
}

fn prometheus(node: &Node, report: &mut Report<'_>) -> Option<Question> {
    let interval = interval(node, &PROMETHEUS, *INTERVALS.start(), report);
    let url = node.get("url");
    url.into_iter().for_each(|url| no_password(url, report));
    let url = url.and_then(Node::text).map(str::to_owned);
    let step = match node.get("step").map(|step| (step.place, step.written().and_then(duration))) {
        Some((place, Some(step))) if !INTERVALS.contains(&step) || !step.0.is_multiple_of(1000) => {
            report.error(place, "`step` must be whole seconds from 1s to 5m", None);
            None
        }
        // Its shape was told before.
        other => other.and_then(|(_, step)| step),
    };
    let query = SignalQuery::Prometheus { query: node.get("query")?.text()?.to_owned(), url, step };
    Some(Question { query, unit: SignalUnit::Number, interval })
}

fn http(node: &Node, report: &mut Report<'_>) -> Option<Question> {
    let interval = interval(node, &HTTP, *INTERVALS.start(), report);
    let url = node.get("url")?;
    no_password(url, report);
    let value = node.get("value").and_then(Node::text).unwrap_or_default().to_owned();
    let query = SignalQuery::Http { url: url.text()?.to_owned(), value };
    Some(Question { query, unit: SignalUnit::Number, interval })
}

fn webhook(node: &Node, report: &mut Report<'_>) -> Option<Question> {
    let interval = interval(node, &WEBHOOK, *INTERVALS.start(), report);
    let timeout = read(Some(node), &WEBHOOK, "timeout", duration);
    if let (false, Some(place)) = (WEBHOOK_TIMEOUTS.contains(&timeout.value), timeout.place) {
        report.error(place, "`timeout` must be from 1s to 20s", Some("the default is `5s`".to_owned()));
    }
    let url = node.get("url")?;
    no_password(url, report);
    let facts = Box::default();
    let query = WebhookQuery { url: url.text()?.to_owned(), timeout: timeout.value, facts };
    Some(Question { query: SignalQuery::Webhook(query), unit: SignalUnit::Number, interval })
}

/// A policy is stored, shown and journaled.
fn no_password(url: &Node, report: &mut Report<'_>) {
    let authority = url.text().and_then(|text| text.split_once("://")?.1.split(['/', '?', '#']).next());
    if authority.is_some_and(|authority| authority.contains('@')) {
        let hint = "policies are stored and shown: leave the part before `@` out".to_owned();
        report.error(url.place, "a name or password in an address", Some(hint));
    }
}

/// `absent` stands in where the table has no default.
fn interval(node: &Node, record: &Record, absent: Millis, report: &mut Report<'_>) -> Millis {
    let Some(given) = node.get("interval") else {
        return record.field("interval").and_then(|field| field.default).and_then(duration).unwrap_or(absent);
    };
    match given.written().and_then(duration) {
        Some(interval) => {
            if !INTERVALS.contains(&interval) {
                report.error(given.place, "`interval` must be from 1s to 5m", None);
            }
            interval
        }
        // Its shape was told before.
        None => absent,
    }
}

// === placeholders ===

/// Looks through every text below a source, but for what is no question.
fn placeholders(node: &Node, services: bool, report: &mut Report<'_>) {
    for entry in node.entries().iter().filter(|entry| !matches!(entry.key.as_str(), "value" | "measure" | "stat")) {
        placeholders(&entry.value, services, report);
    }
    let Value::Scalar { text, quoted } = &node.value else { return };
    for (at, name) in names_in(text) {
        // An escape in quotes would shift it; the line is right all the same.
        let column = node.place.column + usize::from(*quoted) + at;
        let place = match node.place.length {
            0 | 1 => node.place,
            _ => Place { column, length: name.chars().count() + 2, ..node.place },
        };
        match Placeholder::named(name) {
            Some(Placeholder::Service) if !services => {
                let hint = "give the policy a `workload` of ECS, or write the service's name".to_owned();
                report.error(place, "`{service}` is not known: the policy has no workload with services", Some(hint));
            }
            Some(_) => {}
            None => {
                let hint = match similar(name, PLACEHOLDERS.iter().map(|(known, _)| *known)) {
                    Some(known) => format!("did you mean `{{{known}}}`?"),
                    None => {
                        let known: Vec<String> = PLACEHOLDERS.iter().map(|(name, _)| format!("`{{{name}}}`")).collect();
                        format!("known are {}; where none is meant, put spaces inside the braces", known.join(", "))
                    }
                };
                report.error(place, format!("unknown placeholder {}", quote(&format!("{{{name}}}"))), Some(hint));
            }
        }
    }
}

// === how it is judged ===

/// Of an alarm, or of a webhook.
fn yes_or_no(element: &Node, source: &str, report: &mut Report<'_>) -> Option<SignalRule> {
    let (what, hint) = match source {
        "webhook" => ("a webhook", "it passes or fails by its status; leave this out"),
        _ => ("an alarm", "it breaches while it is in the state ALARM; leave this out"),
    };
    for key in ["max", "min", "compare", "tolerate"] {
        if let Some(entry) = element.entry(key) {
            report.error(entry.place, format!("`{key}` has no meaning for {what}"), Some(hint.to_owned()));
        }
    }
    Some(SignalRule::Limit { value: 0.0, bound: Bound::Max })
}

/// Of what the canary has and stable has not: so many of that are tolerated, none unless the policy says so.
fn nothing_new(element: &Node, per_version: bool, report: &mut Report<'_>) -> Option<SignalRule> {
    let hint = || Some("write `compare: stable`, and `tolerate: { add: 1 }` where one of them is no matter".to_owned());
    for key in ["max", "min"] {
        if let Some(entry) = element.entry(key) {
            report.error(entry.place, format!("`{key}` has no meaning for what is new beside stable"), hint());
        }
    }
    let tolerate = element.get("tolerate");
    let shorthand = tolerate.filter(|node| matches!(node.value, Value::Scalar { .. }) && !node.is_null());
    let ratio = tolerate.and_then(|node| node.entry("ratio")).map(|entry| entry.place);
    if let Some(place) = shorthand.map(|node| node.place).or(ratio) {
        report.error(place, "what is new has no multiple of stable's", hint());
        return None;
    }
    if element.get("compare").is_none() {
        report.error(element.place, "this gate compares the versions and does not say so", hint());
        return None;
    }
    let value = match tolerate.and_then(|node| node.get("add")) {
        Some(node) => added(node, SignalUnit::Number, report)?,
        None => 0.0,
    };
    per_version.then_some(SignalRule::Limit { value, bound: Bound::Max })
}

fn judged(element: &Node, unit: SignalUnit, per_version: bool, report: &mut Report<'_>) -> Option<SignalRule> {
    match limit(element, report) {
        Ok(Some((bound, node))) => {
            let value = amount(node, unit, report)?;
            return Some(SignalRule::Limit { value, bound });
        }
        Err(()) => return None,
        Ok(None) => {}
    }
    let Some(compare) = element.get("compare") else {
        let example = match unit {
            SignalUnit::Number => "1000",
            SignalUnit::Share => "1%",
            SignalUnit::Percent => "80%",
            SignalUnit::Seconds => "800ms",
        };
        let hint = format!("add a limit such as `max: {example}`, or `compare: stable`");
        report.error(element.place, "this gate says what to measure and not how to judge it", Some(hint));
        return None;
    };
    if !per_version {
        let hint = "put a placeholder such as `{node}` into it, or give it a limit".to_owned();
        report.error(
            compare.place,
            "the question is the same for both versions, so there is nothing to compare",
            Some(hint),
        );
        return None;
    }
    tolerance(element, unit, compare.place, report)
}

fn tolerance(element: &Node, unit: SignalUnit, compare: Place, report: &mut Report<'_>) -> Option<SignalRule> {
    let tolerate = element.get("tolerate");
    if let Some(node) = tolerate.filter(|node| matches!(node.value, Value::Scalar { .. }) && !node.is_null()) {
        let hint = "write `tolerate: { ratio: 1.1 }` for a multiple, `tolerate: { add: … }` for a difference";
        report.error(node.place, "a single share leaves open which of the two is meant", Some(hint.to_owned()));
        return None;
    }
    let ratio = read(tolerate, &TOLERATE, "ratio", |text| units::ratio(text).ok());
    if let (true, Some(place)) = (!(1.0..=LARGEST_RATIO).contains(&ratio.value), ratio.place) {
        let hint = "1.0 accepts the same as stable's".to_owned();
        report.error(place, format!("`ratio` must be from 1 to {LARGEST_RATIO}"), Some(hint));
    }
    let add = match (tolerate.and_then(|node| node.get("add")), unit) {
        (Some(node), _) => added(node, unit, report)?,
        (None, SignalUnit::Share) => {
            TOLERATE.field("add").and_then(|field| field.default).and_then(|text| units::difference(text).ok())?
        }
        (None, SignalUnit::Number | SignalUnit::Percent | SignalUnit::Seconds) => 0.0,
    };
    if ratio.known && ratio.value <= 1.0 && add <= 0.0 {
        let hint = "say how much more is accepted: `tolerate: { ratio: 1.2 }`, or `add`".to_owned();
        let message = "two versions never measure quite the same, so that without a tolerance chance would decide";
        report.error(tolerate.map_or(compare, |node| node.place), message, Some(hint));
    }
    Some(SignalRule::AgainstStable { ratio: ratio.value, add })
}

/// What a difference is written as, in the signal's unit.
fn added(node: &Node, unit: SignalUnit, report: &mut Report<'_>) -> Option<f64> {
    let difference = |text: &str| units::difference(text).ok().filter(|value| *value < 1.0);
    let text = node.written()?;
    let value = match unit {
        SignalUnit::Number => units::ratio(text).ok(),
        SignalUnit::Share => difference(text),
        SignalUnit::Percent => {
            text.strip_suffix("pp").filter(|_| difference(text).is_some()).and_then(|n| n.parse().ok())
        }
        SignalUnit::Seconds => duration(text).map(seconds),
    };
    if value.is_none() {
        let (is, write) = match unit {
            SignalUnit::Number => ("a plain number", "`10`"),
            SignalUnit::Share | SignalUnit::Percent => ("a difference of shares below 100pp", "`0.1pp`"),
            SignalUnit::Seconds => ("a duration", "`50ms`"),
        };
        report.error(node.place, format!("`add` of this signal is {is}"), Some(format!("write it like {write}")));
    }
    value
}

/// A limit in the signal's unit.
fn amount(node: &Node, unit: SignalUnit, report: &mut Report<'_>) -> Option<f64> {
    let text = node.written()?;
    let value = match unit {
        SignalUnit::Number => units::ratio(text).ok(),
        SignalUnit::Share => units::share(text).ok(),
        SignalUnit::Percent => text.strip_suffix('%').and_then(|number| units::ratio(number).ok()),
        SignalUnit::Seconds => duration(text).map(seconds),
    };
    if value.is_none() && is_amount(node) {
        let (is, write) = match unit {
            SignalUnit::Number => ("a plain number, as the source gives it", "`1000`"),
            SignalUnit::Share => ("a share", "`1%`"),
            SignalUnit::Percent => ("a share", "`80%`"),
            SignalUnit::Seconds => ("a duration", "`800ms`"),
        };
        report.error(node.place, format!("a limit on this signal is {is}"), Some(format!("write it like {write}")));
    }
    value
}

fn seconds(span: Millis) -> f64 {
    span.0 as f64 / 1000.0
}

// === warnings ===

/// Warns where a step is over before a gate can have said anything about it.
pub(super) fn slower_than_steps(gate: &Gate, place: Place, steps: &[Step], report: &mut Report<'_>) {
    let GateRule::Signal(signal) = &gate.rule else { return };
    let span = signal.span();
    let waits = |step: &&WeightStep| step.min < span && gate.acts(Moment::At(step.weight));
    let Some(step) = weights(steps).find(waits).filter(|_| !gate.dry_run) else { return };
    let message = format!(
        "gate `{}` has a point every {span}, and the step of {} % lasts {} at least: it waits for its first point",
        gate.name,
        step.weight.get(),
        step.min
    );
    let hint = format!(
        "points count that began after the weights were in force: give steps a `min` of {} or more",
        Millis(2 * span.0)
    );
    report.warning(place, message, Some(hint));
}
