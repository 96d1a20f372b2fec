//! Histories as CloudWatch answers them, and what the engine would have done with them.

use super::*;
use crate::policy::compile;
use crate::simulate::replay::{Moment, What, replay};

/// A full minute; minutes below are counted from it.
const T0: i64 = 1_700_000_040_000;

const HEAD: &str = "version: 1\nname: s\nroute: { mesh: m, router: r, route: t }\nversions: [a, b]\n\
                    steps: [{ weight: 10, prove_no_worse_than: 2pp }, { weight: 50, prove_no_worse_than: 1pp }, 100]\n\
                    step_defaults: { min: 10s, max: 30m }\ngates:\n";
const ERRORS: &str = "- { name: errors, metric: error_rate, compare: stable, tolerate: { add: 0pp } }\n";
const FRONT: &str = "- { name: front, cloudwatch: { preset: tidegate_target_5xx, virtual_gateway: in, virtual_service: s.local }, \
                     max: 90%, dry_run: true }\n";
const QUEUE: &str = "- { name: queue, cloudwatch: { namespace: Shop, metric: Depth, stat: Average }, max: 1000 }\n";

fn plan(gates: &str) -> Plan {
    compile("p.yaml", &format!("{HEAD}{gates}")).unwrap_or_else(|problems| panic!("{problems:?}")).plan
}

fn at(minute: i64) -> Timestamp {
    Timestamp(T0 + minute * 60_000)
}

/// An hour in which `late` begins to have a tenth of 660 requests a minute after half of it, as `value` answers for metrics
/// by their name, version and minute.
fn hour(asking: &Asking, late: &str, value: impl Fn(&str, &str, i64) -> Option<f64>) -> Vec<Series> {
    let of = |query: &CloudwatchQuery, minute: i64| {
        let metric = match query {
            CloudwatchQuery::Metric { metric, .. } => metric,
            CloudwatchQuery::Expression { metrics, .. } => metrics.values().next()?,
            CloudwatchQuery::Alarm { .. } => return None,
        };
        let node = metric.dimensions.get("TargetVirtualNode").map_or("", String::as_str);
        let is_late = node == late;
        let requests = if !is_late { Some(600.0) } else { (minute >= 30).then_some(60.0) };
        match metric.name.as_str() {
            "envoy.appmesh.RequestCountPerTarget" => requests,
            name => value(name, node, minute),
        }
    };
    let series = |query| (0..60).filter_map(|minute| Some((at(minute), of(query, minute)?))).collect();
    asking.questions().iter().map(series).collect()
}

fn replayed(asking: &Asking, answers: &[Series], wanted: &Wanted) -> (Replayable, Vec<Moment>) {
    let found = asking.replayable(answers, wanted, at(60)).unwrap();
    let moments = replay(&found.plan, &found.recording).unwrap();
    (found, moments)
}

#[test]
fn a_release_that_fails_is_found_and_would_have_been_rolled_back() {
    for (late, other) in [("b", "a"), ("a", "b")] {
        let asking = Asking::about(&plan(&format!("{ERRORS}{FRONT}")), None).unwrap();
        assert_eq!(asking.questions().len(), 6, "requests and failures of both, and the share that only reports");
        let failing = |name: &str, node: &str, minute: i64| {
            (name == "HTTPCode_Target_5XX_Count" || name.ends_with("5XX_Count")).then_some(match node == late {
                true if minute >= 33 => 30.0,
                true => 0.0,
                false => 1.0,
            })
        };
        let (found, moments) = replayed(&asking, &hour(&asking, late, failing), &Wanted::default());
        assert_eq!((found.canary.as_str(), found.stable.as_str()), (late, other));
        assert_eq!(found.recording.begin, at(30));
        let usual = found.recording.before.past.stable.unwrap();
        assert_eq!((usual.requests, usual.errors), (6000, 10));
        let last = moments.last().unwrap();
        // Three good minutes, and the fourth has half of its requests failed.
        assert_eq!((last.what, last.after_s), (What::RolledBack, 240.0), "{moments:?}");
        assert!(last.why.contains("canary 30/240 failed") && last.why.contains("chance if no worse"), "{last:?}");
    }
}

#[test]
fn a_good_one_steps_when_its_gates_have_points_of_it() {
    let gates = format!("{ERRORS}{FRONT}{QUEUE}");
    let asking = Asking::about(&plan(&gates), None).unwrap();
    let calm = |name: &str, _: &str, _: i64| (name == "Depth").then_some(10.0);
    let (found, moments) = replayed(&asking, &hour(&asking, "b", calm), &Wanted::default());
    let [noise] = found.left_out.as_slice() else { panic!("{:?}", found.left_out) };
    assert!(noise.starts_with("`noise: auto` allows for none"), "{noise}");
    let whats: Vec<_> = moments.iter().map(|moment| (moment.what, moment.weight)).collect();
    assert_eq!(whats, [(What::Started, 10), (What::Stepped, 50), (What::Promoted, 100)], "{moments:?}");
    // The first minute's depth is read two minutes after its end.
    assert!(moments[1].after_s >= 180.0 && moments[2].after_s < 900.0, "{moments:?}");
}

#[test]
fn points_beyond_a_limit_roll_back_when_the_daemon_would_have_read_them() {
    let asking = Asking::about(&plan(&format!("{ERRORS}{FRONT}{QUEUE}")), None).unwrap();
    let full = |name: &str, _: &str, minute: i64| (name == "Depth").then_some(if minute >= 30 { 5000.0 } else { 10.0 });
    let (_, moments) = replayed(&asking, &hour(&asking, "b", full), &Wanted::default());
    let last = moments.last().unwrap();
    // Minutes 30, 31 and 32, the last of which ends at 180 s and is read at 300 s.
    assert_eq!((last.what, last.after_s), (What::RolledBack, 300.0), "{moments:?}");
    assert!(last.why.contains("gate queue") && last.why.contains("5000"), "{last:?}");
}

#[test]
fn versions_are_compared_by_points_of_the_same_minute() {
    let times = "- { name: slow, cloudwatch: { preset: tidegate_target_response_time, virtual_gateway: in, virtual_service: s.local }, \
                 compare: stable, tolerate: { ratio: 1.5 } }\n";
    let asking = Asking::about(&plan(&format!("{ERRORS}{FRONT}{times}")), None).unwrap();
    let slow = |name: &str, node: &str, minute: i64| {
        // Stable's is missing in one of the minutes.
        let is_there = node == "b" || minute != 31;
        (name.ends_with("ResponseTime") && is_there).then_some(if node == "b" { 0.4 } else { 0.1 })
    };
    let (_, moments) = replayed(&asking, &hour(&asking, "b", slow), &Wanted::default());
    let last = moments.last().unwrap();
    // Minutes 30, 32 and 33.
    assert_eq!((last.what, last.after_s), (What::RolledBack, 360.0), "{moments:?}");
    assert!(last.why.contains("gate slow"), "{last:?}");
}

#[test]
fn what_is_meant_can_be_said_and_what_is_not_there_is() {
    let asking = Asking::about(&plan(&format!("{ERRORS}{FRONT}")), None).unwrap();
    let none = |_: &str, _: &str, _: i64| None;
    let answers = hour(&asking, "b", none);
    let begins = |wanted: Wanted| {
        asking
            .replayable(&answers, &wanted, at(60))
            .map(|found| (found.canary, found.recording.begin, found.recording.samples.len()))
    };
    let wanted = Wanted::default;
    assert_eq!(begins(wanted()), Ok(("b".into(), at(30), 30)));
    assert_eq!(begins(Wanted { until: Some(at(40)), ..wanted() }), Ok(("b".into(), at(30), 10)));
    assert_eq!(begins(Wanted { from: Some(at(35)), ..wanted() }), Ok(("b".into(), at(35), 25)));
    assert_eq!(
        begins(Wanted { from: Some(at(20)), canary: Some(Slot::First), ..wanted() }),
        Ok(("a".into(), at(20), 40))
    );
    for (wanted, words) in [
        (
            Wanted { until: Some(at(30)), ..wanted() },
            "no version of policy `s` began to have requests beside the other",
        ),
        (Wanted { canary: Some(Slot::First), ..wanted() }, "name a time with --from, or more days with --days"),
        (Wanted { from: Some(at(60)), ..wanted() }, "neither version of policy `s` had a request counted from"),
    ] {
        let why = begins(wanted).unwrap_err();
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn what_cannot_be_replayed_is_said() {
    let gates = format!(
        "{ERRORS}{FRONT}\
         - {{ name: latency, metric: latency, compare: stable, tolerate: 10% }}\n\
         - {{ name: alive, health: {{ http: /health, interval: 5s }} }}\n\
         - {{ name: page, cloudwatch: {{ alarm: pages }} }}\n\
         - {{ name: own, cloudwatch: {{ namespace: Shop, metric: Errors, stat: Sum, dimensions: {{ V: \"{{version}}\" }} }}, max: 1 }}\n\
         - {{ name: quick, cloudwatch: {{ namespace: Shop, metric: Depth, stat: Average, period: 10s }}, max: 1000 }}\n"
    );
    let asking = Asking::about(&plan(&gates), None).unwrap();
    let kept: Vec<&str> = asking.plan.gates.iter().map(|gate| gate.name.as_str()).collect();
    assert_eq!(kept, ["errors", "front", "quick"]);
    let told = asking.left_out.join("\n");
    for words in [
        "gate `latency` always passes: CloudWatch keeps no latencies of single requests",
        "gate `alive` always passes: nobody wrote down",
        "gate `page` always passes: the history of alarms is not read",
        "gate `own` always passes: `{revision}` of earlier releases is not known",
        "gate `quick` is read minute by minute",
    ] {
        assert!(told.contains(words), "no `{words}` in {told}");
    }
    let uncounted = Asking::about(&plan(ERRORS), None).unwrap_err();
    assert!(
        uncounted.contains("preset: tidegate_target_5xx") && uncounted.contains("a target group for each"),
        "{uncounted}"
    );
}

#[test]
fn target_groups_count_as_well() {
    let counts = ["a", "b"].map(|node| crate::policy::balancer_counts("app/front/1", &format!("targetgroup/{node}/2")));
    let asking = Asking::about(&plan(ERRORS), Some(counts)).unwrap();
    let names: Vec<String> = asking
        .questions()
        .iter()
        .map(|query| match query {
            CloudwatchQuery::Metric { metric, .. } => format!("{} {}", metric.name, metric.dimensions["TargetGroup"]),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        names,
        [
            "RequestCount targetgroup/a/2",
            "HTTPCode_Target_5XX_Count targetgroup/a/2",
            "RequestCount targetgroup/b/2",
            "HTTPCode_Target_5XX_Count targetgroup/b/2"
        ]
    );
}
