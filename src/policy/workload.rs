//! What runs the versions: the rules between the keys of `workload`.

use super::compile::{duration, read};
use super::keys_outside::{ECS, PROCESS};
use super::plan::{EcsTarget, ProcessTarget, Scale, Workload, WorkloadTarget};
use super::problem::Report;
use super::table::Record;
use super::tree::Node;
use super::units;
use crate::base::time::Millis;

/// Longest wait for a release to come up. Beyond it nobody is waiting any more, and images are pulled in minutes.
const READY_WITHIN_MOST: Millis = Millis::from_seconds(24 * 3600);
/// Longest time for which two versions are paid for.
const KEEP_FOR_MOST: Millis = Millis::from_seconds(30 * 24 * 3600);

/// `None` where the policy has no workload, or not a valid one, which is reported.
pub(super) fn workload(root: &Node, versions: Option<&[String; 2]>, report: &mut Report<'_>) -> Option<Workload> {
    let workload = root.get("workload")?;
    let (times, target) = match (workload.get("ecs"), workload.get("process")) {
        (Some(node), _) => (times(node, &ECS, report), ecs(node, versions, report).map(WorkloadTarget::Ecs)),
        (None, Some(node)) => {
            (times(node, &PROCESS, report), process(node, versions, report).map(WorkloadTarget::Process))
        }
        (None, None) => return None,
    };
    Some(Workload { target: target?, ready_within: times.0, keep_for: times.1 })
}

fn times(node: &Node, record: &'static Record, report: &mut Report<'_>) -> (Millis, Millis) {
    let default = |key: &str| record.field(key).and_then(|field| field.default).unwrap_or_default();
    let ready_within = read(Some(node), record, "ready_within", duration);
    if let (false, Some(place)) =
        ((Millis::from_seconds(1)..=READY_WITHIN_MOST).contains(&ready_within.value), ready_within.place)
    {
        let hint = format!("the default is `{}`", default("ready_within"));
        report.error(place, "`ready_within` must be from 1s to 24h", Some(hint));
    }
    let keep_for = read(Some(node), record, "keep_for", duration);
    if let (true, Some(place)) = (keep_for.value > KEEP_FOR_MOST, keep_for.place) {
        let hint = format!("the default is `{}`", default("keep_for"));
        report.error(place, "`keep_for` must be at most 720h", Some(hint));
    }
    (ready_within.value, keep_for.value)
}

fn ecs(ecs: &Node, versions: Option<&[String; 2]>, report: &mut Report<'_>) -> Option<EcsTarget> {
    let scale = scale(ecs, report)?;
    let services = services(ecs, versions?, report)?;
    let cluster = ecs.get("cluster")?.text()?.to_owned();
    let container = ecs.get("container")?.text()?.to_owned();
    Some(EcsTarget { cluster, services, container, scale })
}

fn process(process: &Node, versions: Option<&[String; 2]>, report: &mut Report<'_>) -> Option<ProcessTarget> {
    let versions = versions?;
    let command: Vec<&Node> = process.get("command")?.elements().iter().collect();
    let env: Vec<_> = process.get("env").map(Node::entries).unwrap_or_default().iter().collect();
    for text in command.iter().copied().chain(env.iter().map(|entry| &entry.value)) {
        if let Some(unknown) = text.written().and_then(unknown_placeholder) {
            let hint = Some(format!("known are {}", PLACEHOLDERS.join(", ")));
            report.error(text.place, format!("`{unknown}` stands for nothing in a process"), hint);
        }
    }
    let ports = each_version(process.get("ports")?, versions, ("ports", "port", "PORT"), report)?;
    let [first, second] = &ports;
    if first.written() == second.written() {
        let hint = "the processes of both versions run side by side during a rollout".to_owned();
        let port = second.written().unwrap_or_default();
        report.error(second.place, format!("both versions listen on port {port}"), Some(hint));
    }
    let port = |node: &Node| node.written()?.parse().ok();
    let text = |node: &Node| node.written().map(str::to_owned);
    Some(ProcessTarget {
        nodes: versions.clone(),
        command: command.into_iter().map(text).collect::<Option<_>>()?,
        env: env.iter().map(|entry| Some((entry.key.clone(), text(&entry.value)?))).collect::<Option<_>>()?,
        ports: [port(first)?, port(second)?],
        first: read(Some(process), &PROCESS, "first", |text| Some(text.to_owned())).value,
    })
}

/// What a process can be told of itself.
const PLACEHOLDERS: [&str; 4] = ["{port}", "{node}", "{revision}", "{image}"];

/// The first word in braces that stands for nothing. Braces with anything but small letters between them are text.
fn unknown_placeholder(text: &str) -> Option<&str> {
    text.match_indices('{').find_map(|(from, _)| {
        let to = from + text[from..].find('}')?;
        let word = &text[from..=to];
        let is_word =
            word.len() > 2 && word[1..word.len() - 1].bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        (is_word && !PLACEHOLDERS.contains(&word)).then_some(word)
    })
}

/// Number of tasks: a word, or a mapping with a number or a headroom. `None` where it has a wrong shape, which was reported.
fn scale(ecs: &Node, report: &mut Report<'_>) -> Option<Scale> {
    if let Some(long) = ecs.get("scale").filter(|scale| scale.text().is_none()) {
        if let Some(number) = long.get("tasks") {
            return number.written()?.parse().ok().map(Scale::Tasks);
        }
        let headroom = long.get("follow_share")?;
        let share = units::share(headroom.written()?).ok()?;
        let percent = share * 100.0;
        if percent.fract() > 1e-9 && percent.fract() < 1.0 - 1e-9 {
            let hint = Some("such as `20%`; `0%` for none".to_owned());
            report.error(headroom.place, "the headroom of `follow_share` must be whole percents", hint);
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is from 0 to 1")]
        return Some(Scale::FollowShare { headroom_percent: percent.round() as u32 });
    }
    let word = read(Some(ecs), &ECS, "scale", |text| match text {
        "same_as_stable" => Some(Scale::SameAsStable),
        "keep" => Some(Scale::Keep),
        _ => None,
    });
    Some(word.value)
}

/// The service of each version, in the order of the versions.
fn services(ecs: &Node, versions: &[String; 2], report: &mut Report<'_>) -> Option<[String; 2]> {
    let [first, second] = each_version(ecs.get("services")?, versions, ("services", "service", "SERVICE"), report)?;
    let (place, first, second) = (second.place, first.text()?.to_owned(), second.text()?.to_owned());
    if first == second {
        let hint = "each version needs a service of its own: they run side by side during a rollout".to_owned();
        report.error(place, format!("both versions are in the service `{first}`"), Some(hint));
    }
    Some([first, second])
}

/// What a mapping has for each version, in the order of the versions. `names` are the mapping's key, what it holds, and how
/// that is written in a hint.
fn each_version<'a>(
    list: &'a Node,
    versions: &[String; 2],
    (key, what, written): (&str, &str, &str),
    report: &mut Report<'_>,
) -> Option<[&'a Node; 2]> {
    for entry in list.entries().iter().filter(|entry| !versions.contains(&entry.key)) {
        let hint = Some(format!("the versions are `{}` and `{}`", versions[0], versions[1]));
        report.error(entry.place, format!("`{}` is no version of this policy", entry.key), hint);
    }
    let mut of = |version: &String| {
        let found = list.get(version);
        if found.is_none() {
            let hint = Some(format!("add `{version}: {written}`"));
            report.error(list.place, format!("`{key}` names no {what} for `{version}`"), hint);
        }
        found
    };
    let (first, second) = (of(&versions[0]), of(&versions[1]));
    Some([first?, second?])
}
