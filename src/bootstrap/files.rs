//! Files of the image's variables that become parts of the bootstrap.

use super::variables::Reader;
use super::{CONTROL_PLANE, Report, Variables, yaml};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The files' texts by their variables.
pub type Texts = BTreeMap<&'static str, String>;

/// Largest file, in bytes: what people write by hand is a hundredth of it.
pub const FILE_MAX: u64 = 1024 * 1024;

/// The variables, and what a file of each has to have.
const FILES: [(&str, &str); 4] = [
    ("ENVOY_TRACING_CFG_FILE", "tracing"),
    ("ENVOY_STATS_CONFIG_FILE", "stats_config"),
    ("ENVOY_STATS_SINKS_CFG_FILE", "stats_sinks"),
    ("ENVOY_RESOURCES_CONFIG_FILE", "static_resources"),
];
/// What a file may have: both forms of the names, as Envoy takes them, and the one that is written.
const MEMBERS: [(&str, &str); 7] = [
    ("tracing", "tracing"),
    ("stats_config", "stats_config"),
    ("statsConfig", "stats_config"),
    ("stats_sinks", "stats_sinks"),
    ("statsSinks", "stats_sinks"),
    ("static_resources", "static_resources"),
    ("staticResources", "static_resources"),
];
/// The lists of `static_resources`.
const LISTS: [&str; 3] = ["clusters", "listeners", "secrets"];

/// Which files the variables name: the variable and the path.
#[must_use]
pub fn wanted(variables: &Variables) -> Vec<(&'static str, String)> {
    let reader = Reader::new(variables);
    FILES.iter().filter_map(|(name, _)| Some((*name, reader.text(name)?.to_owned()))).collect()
}

/// What one file adds.
pub(super) struct Part {
    variable: &'static str,
    member: &'static str,
    value: Value,
}

/// Reads the files into what they add.
pub(super) fn read(texts: &Texts, report: &mut Report) -> Vec<Part> {
    let mut parts = Vec::new();
    for (variable, text) in texts {
        let value = match yaml::parse(text) {
            Ok(Value::Object(value)) => value,
            Ok(_) => {
                report.problem(format!("the file of {variable} is empty, or no mapping"));
                continue;
            }
            Err(why) => {
                report.problem(format!("the file of {variable}: {why}"));
                continue;
            }
        };
        let from = parts.len();
        for (name, value) in value {
            match MEMBERS.iter().find(|(known, _)| *known == name) {
                Some((_, member)) => parts.push(Part { variable, member, value }),
                None => report.problem(format!(
                    "the file of {variable} has `{name}`; it may have tracing, stats_config, stats_sinks, static_resources"
                )),
            }
        }
        let needed = FILES.iter().find(|(name, _)| name == variable).map_or("", |(_, needed)| needed);
        if !parts[from..].iter().any(|part| part.member == needed) {
            report.problem(format!("the file of {variable} has no `{needed}`"));
        }
    }
    parts
}

/// Puts the parts into the bootstrap: lists grow, and nothing is said twice.
pub(super) fn merge(config: &mut Map<String, Value>, parts: Vec<Part>, report: &mut Report) {
    let mut has_own_tags = config.contains_key("stats_config");
    for Part { variable, member, value } in parts {
        match (member, config.get_mut(member), value) {
            ("static_resources", Some(Value::Object(own)), Value::Object(more)) => {
                merge_resources(own, more, variable, report);
            }
            ("stats_sinks", Some(Value::Array(own)), Value::Array(more)) => own.extend(more),
            ("stats_config", Some(Value::Object(own)), Value::Object(more)) if has_own_tags => {
                merge_stats(own, more, variable, report);
                has_own_tags = false;
            }
            (_, None, value) => {
                config.insert(member.to_owned(), value);
            }
            ("static_resources" | "stats_sinks", Some(_), _) => {
                report.problem(format!("`{member}` in the file of {variable} is of another kind than Envoy's"));
            }
            (_, Some(_), _) => report.problem(format!(
                "`{member}` in the file of {variable} is there already, from another file or variable: keep one"
            )),
        }
    }
}

/// The tags of the node, unless the file has some.
fn merge_stats(own: &mut Map<String, Value>, more: Map<String, Value>, variable: &str, report: &mut Report) {
    if more.contains_key("stats_tags") || more.contains_key("statsTags") {
        report.remark(format!("ENABLE_ENVOY_STATS_TAGS has no effect beside {variable}, which has tags"));
        own.clear();
    }
    own.extend(more);
}

fn merge_resources(own: &mut Map<String, Value>, more: Map<String, Value>, variable: &str, report: &mut Report) {
    for (list, items) in more {
        let Value::Array(items) = items else {
            report.problem(format!("`static_resources.{list}` in the file of {variable} is no list"));
            continue;
        };
        if !LISTS.contains(&list.as_str()) {
            report.problem(format!("`static_resources.{list}` in the file of {variable}: it has {}", LISTS.join(", ")));
            continue;
        }
        if list == "clusters" && items.iter().any(|cluster| cluster["name"] == CONTROL_PLANE) {
            report.problem(format!("the file of {variable} has a cluster {CONTROL_PLANE}, which is taken"));
            continue;
        }
        match own.entry(list).or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(known) => known.extend(items),
            other => *other = Value::Array(items),
        }
    }
}
