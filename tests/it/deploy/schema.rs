//! Types, arguments and nested blocks against `deploy/terraform/schema.json`, the slice of the AWS provider's schema that
//! `schema.py` beside it extracts.

use super::terraform::{Module, labels_of, made, modules};
use crate::shell::root;
use hcl::structure::Body;
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// What every block may have, whatever its type.
const META: &[(&str, &[&str])] = &[
    ("resource", &["count", "for_each", "depends_on", "lifecycle", "provider"]),
    ("data", &["count", "for_each", "depends_on", "lifecycle", "provider"]),
    ("ephemeral", &["count", "for_each", "depends_on", "lifecycle", "provider"]),
    ("provider", &[]),
];

/// What the provider knows, by kind and type.
pub(super) fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        let text = std::fs::read_to_string(root().join("deploy/terraform/schema.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    });
    &SCHEMA
}

/// What is wrong with the blocks of a module.
fn problems(module: &Module, schema: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for (kind, meta) in META {
        for block in module.blocks(kind) {
            let labels = labels_of(block).join(" ");
            let place = format!("{}: {kind} {labels}", module.name());
            match schema[kind][labels_of(block)[0]]["arguments"].as_object() {
                None => problems.push(format!("{place}: not in schema.json; a new type? run schema.py")),
                Some(arguments) => check(&place, block.body(), arguments, meta, &mut problems),
            }
        }
    }
    problems
}

fn check(place: &str, body: &Body, known: &Map<String, Value>, meta: &[&str], problems: &mut Vec<String>) {
    let given = made(body);
    for (name, inner) in &given {
        if meta.contains(name) {
            continue;
        }
        let nested = known.get(*name).map(|entry| entry["block"].as_object());
        match (nested, inner) {
            (None, _) => problems.push(format!("{place}: there is no {name}")),
            (Some(Some(members)), Some(inner)) => check(&format!("{place}.{name}"), inner, members, &[], problems),
            (Some(None), None) => {}
            (Some(Some(_)), None) => problems.push(format!("{place}: {name} is a block")),
            (Some(None), Some(_)) => problems.push(format!("{place}: {name} is no block")),
        }
    }
    let required = known.iter().filter(|(_, entry)| entry["required"] == true).map(|(name, _)| name);
    for name in required.filter(|name| !given.iter().any(|(given, _)| given == name)) {
        problems.push(format!("{place}: {name} is missing"));
    }
}

#[test]
fn every_type_and_argument_is_one_of_the_provider() {
    let (modules, schema) = (modules(), schema());
    let seen: usize = modules.iter().map(|module| module.blocks("resource").count()).sum();
    assert!(seen > 40, "only {seen} resources were read");
    let problems: Vec<String> = modules.iter().flat_map(|module| problems(module, schema)).collect();
    assert_eq!(problems, Vec::<String>::new());
}

#[test]
fn the_slice_has_nothing_that_is_not_used() {
    let (modules, schema) = (modules(), schema());
    for kind in ["resource", "data", "ephemeral"] {
        for name in schema[kind].as_object().unwrap().keys() {
            let used = |module: &Module| module.blocks(kind).any(|block| labels_of(block)[0] == name);
            assert!(modules.iter().any(used), "{kind} {name} is in schema.json for nobody: run schema.py");
        }
    }
}

#[test]
fn wrong_blocks_are_found() {
    let wrong = r#"
resource "aws_lb_target" "a" {}
resource "aws_sqs_queue_policy" "a" {
  policy = "p"
  colour = "red"
}
resource "aws_ecs_service" "a" {
  name = "a"
  network_configuration { groups = [] }
  load_balancer = []
  dynamic "launch_type" {
    for_each = []
    content {}
  }
}
"#;
    let directory = root().join("deploy/terraform/modules/wrong");
    let module = Module { directory, body: hcl::parse(wrong).unwrap() };
    let expected = [
        "aws_lb_target a: not in schema.json; a new type? run schema.py",
        "aws_sqs_queue_policy a: there is no colour",
        "aws_sqs_queue_policy a: queue_url is missing",
        "aws_ecs_service a.network_configuration: there is no groups",
        "aws_ecs_service a.network_configuration: subnets is missing",
        "aws_ecs_service a: load_balancer is a block",
        "aws_ecs_service a: launch_type is no block",
    ];
    assert_eq!(problems(&module, schema()), expected.map(|problem| format!("modules/wrong: resource {problem}")));
}
