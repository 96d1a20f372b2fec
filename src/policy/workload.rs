//! What runs the versions: the rules between the keys of `workload`.

use super::compile::{duration, read};
use super::keys_outside::ECS;
use super::plan::{EcsTarget, Scale, Workload, WorkloadTarget};
use super::problem::Report;
use super::tree::Node;
use super::units;
use crate::base::time::Millis;

/// Longest wait for a release to come up. Beyond it nobody is waiting any more, and images are pulled in minutes.
const READY_WITHIN_MOST: Millis = Millis::from_seconds(24 * 3600);
/// Longest time for which two versions are paid for.
const KEEP_FOR_MOST: Millis = Millis::from_seconds(30 * 24 * 3600);

/// `None` where the policy has no workload, or not a valid one, which is reported.
pub(super) fn workload(root: &Node, versions: Option<&[String; 2]>, report: &mut Report<'_>) -> Option<Workload> {
    let ecs = root.get("workload")?.get("ecs")?;
    let ready_within = read(Some(ecs), &ECS, "ready_within", duration);
    if let (false, Some(place)) =
        ((Millis::from_seconds(1)..=READY_WITHIN_MOST).contains(&ready_within.value), ready_within.place)
    {
        report.error(place, "`ready_within` must be from 1s to 24h", Some("the default is `15m`".to_owned()));
    }
    let keep_for = read(Some(ecs), &ECS, "keep_for", duration);
    if let (true, Some(place)) = (keep_for.value > KEEP_FOR_MOST, keep_for.place) {
        report.error(place, "`keep_for` must be at most 720h", Some("the default is `30m`".to_owned()));
    }
    let scale = scale(ecs, report)?;
    let services = services(ecs, versions?, report)?;
    let cluster = ecs.get("cluster")?.text()?.to_owned();
    let container = ecs.get("container")?.text()?.to_owned();
    let target = WorkloadTarget::Ecs(EcsTarget { cluster, services, container, scale });
    Some(Workload { target, ready_within: ready_within.value, keep_for: keep_for.value })
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
    let list = ecs.get("services")?;
    for entry in list.entries().iter().filter(|entry| !versions.contains(&entry.key)) {
        let hint = Some(format!("the versions are `{}` and `{}`", versions[0], versions[1]));
        report.error(entry.place, format!("`{}` is no version of this policy", entry.key), hint);
    }
    let of = |version: &String, report: &mut Report<'_>| match list.get(version) {
        Some(node) => Some((node.place, node.text()?.to_owned())),
        None => {
            let hint = Some(format!("add `{version}: SERVICE`"));
            report.error(list.place, format!("`services` names no service for `{version}`"), hint);
            None
        }
    };
    let (first, second) = (of(&versions[0], report), of(&versions[1], report));
    let ((_, first), (place, second)) = (first?, second?);
    if first == second {
        let hint = "each version needs a service of its own: they run side by side during a rollout".to_owned();
        report.error(place, format!("both versions are in the service `{first}`"), Some(hint));
    }
    Some([first, second])
}
