//! References between blocks: each leads to something that is there, and modules are called as their variables want it.

use super::schema::schema;
use super::terraform::{
    Module, arguments_of, attribute, for_parts, interpolations, key_text, labels_of, modules, object_type, parts, text,
};
use hcl::Expression;
use hcl::expr::TraversalOperator;
use hcl::structure::{Block, Body, Structure};
use serde_json::Value;
use std::collections::BTreeMap;

/// Names that a `for`, a `dynamic` or a `for_each` brings, and what they are elements of where that is one reference.
type Scope = BTreeMap<String, Option<Vec<String>>>;

/// Every reference of an expression, as the names from its root; indices are left out.
fn collect(expression: &Expression, scope: &Scope, found: &mut Vec<Vec<String>>) {
    match expression {
        Expression::Variable(_) | Expression::Traversal(_) => {
            found.extend(path(expression).and_then(|path| seen(path, scope)))
        }
        Expression::ForExpr(each) => {
            collect(&each.collection_expr, scope, found);
            let mut inner = scope.clone();
            inner.extend(each.key_var.iter().map(|key| (key.to_string(), None)));
            let element = path(&each.collection_expr).and_then(|path| seen(path, scope));
            inner.insert(each.value_var.to_string(), element.filter(|path| path[0].starts_with("aws_")));
            for_parts(each).into_iter().for_each(|part| collect(part, &inner, found));
        }
        _ => {}
    }
    interpolations(expression).iter().for_each(|inner| collect(inner, scope, found));
    parts(expression).into_iter().for_each(|part| collect(part, scope, found));
}

fn path(expression: &Expression) -> Option<Vec<String>> {
    let (root, operators) = match expression {
        Expression::Variable(name) => (name, &[][..]),
        Expression::Traversal(traversal) => match &traversal.expr {
            Expression::Variable(name) => (name, &traversal.operators[..]),
            _ => return None,
        },
        _ => return None,
    };
    let names = operators.iter().filter_map(|operator| match operator {
        TraversalOperator::GetAttr(name) => Some(name.to_string()),
        _ => None,
    });
    Some(std::iter::once(root.to_string()).chain(names).collect())
}

/// What a path leads to from outside of its scope; `None` where that is not known.
fn seen(path: Vec<String>, scope: &Scope) -> Option<Vec<String>> {
    match scope.get(&path[0]) {
        None => Some(path),
        Some(None) => None,
        Some(Some(of)) => Some(of.iter().chain(&path[1..]).cloned().collect()),
    }
}

/// Every reference in a body.
fn walk(body: &Body, scope: &Scope, found: &mut Vec<Vec<String>>) {
    let mut inner = scope.clone();
    if attribute(body, "for_each").is_some() {
        inner.insert("each".to_owned(), None);
    }
    for structure in body {
        match structure {
            // Names of arguments, which `lifecycle_problems` looks at.
            Structure::Attribute(attribute) if attribute.key() == "ignore_changes" => {}
            Structure::Attribute(attribute) => collect(attribute.expr(), &inner, found),
            Structure::Block(block) if block.identifier() == "dynamic" => {
                collect(attribute(block.body(), "for_each").expect("dynamic has for_each"), &inner, found);
                let mut made = inner.clone();
                made.insert(labels_of(block)[0].to_owned(), None);
                block.body().blocks().for_each(|content| walk(content.body(), &made, found));
            }
            Structure::Block(block) => walk(block.body(), &inner, found),
        }
    }
}

/// Why a reference leads nowhere.
fn dead(module: &Module, schema: &Value, path: &[String]) -> Option<String> {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    let lives = match names[..] {
        ["var", name, ref members @ ..] => module.block("variable", &[name]).is_some_and(|block| has(block, members)),
        ["path", "module"] => true,
        ["local", name, ..] => module.locals().contains_key(name),
        ["module", name, output, ..] => {
            let called = module.block("module", &[name]).map(|block| called(module, block));
            called.is_some_and(|called| called.block("output", &[output]).is_some())
        }
        ["aws", alias] => module
            .blocks("provider")
            .any(|provider| attribute(provider.body(), "alias").is_some_and(|given| text(given) == alias)),
        [kind @ ("data" | "ephemeral"), name, label, ref rest @ ..] => leads(module, schema, kind, name, label, rest),
        [name, label, ref rest @ ..] if name.starts_with("aws_") => {
            leads(module, schema, "resource", name, label, rest)
        }
        _ => false,
    };
    (!lives).then(|| format!("{}: {} leads nowhere", module.name(), path.join(".")))
}

/// Whether a variable's type has these members; only objects say.
fn has(variable: &Block, members: &[&str]) -> bool {
    match (members.first(), attribute(variable.body(), "type").and_then(object_type)) {
        (Some(member), Some(known)) => known.contains_key(*member),
        _ => true,
    }
}

fn leads(module: &Module, schema: &Value, kind: &str, name: &str, label: &str, rest: &[&str]) -> bool {
    let of = &schema[kind][name];
    module.block(kind, &[name, label]).is_some()
        && rest.first().is_none_or(|wanted| {
            *wanted == "id"
                || of["arguments"].get(wanted).is_some()
                || of["attributes"].as_array().is_some_and(|known| known.iter().any(|known| known == wanted))
        })
}

/// The module that a `module` block calls.
fn called(module: &Module, block: &Block) -> Module {
    let source = text(attribute(block.body(), "source").expect("a module has a source"));
    Module::read(&module.directory.join(source).canonicalize().unwrap_or_else(|error| panic!("{source}: {error}")))
}

/// What is wrong with a value that is written out, by the type of its variable.
fn unfit(place: &str, wanted: &Expression, given: &Expression) -> Vec<String> {
    let Expression::Object(given) = given else { return vec![] };
    let given: BTreeMap<&str, &Expression> =
        given.iter().filter_map(|(key, value)| Some((key_text(key)?, value))).collect();
    if let Some(of) = arguments_of(wanted, "map") {
        return given.iter().flat_map(|(name, value)| unfit(&format!("{place}.{name}"), &of[0], value)).collect();
    }
    let Some(known) = object_type(wanted) else { return vec![] };
    let missing =
        known.iter().filter(|(name, of)| arguments_of(of, "optional").is_none() && !given.contains_key(*name));
    let mut problems: Vec<String> = missing.map(|(name, _)| format!("{place}: {name} is missing")).collect();
    for (name, value) in given {
        match known.get(name) {
            None => problems.push(format!("{place}: there is no {name}")),
            Some(of) => problems.extend(unfit(&format!("{place}.{name}"), of, value)),
        }
    }
    problems
}

/// What is wrong with how a module calls others.
fn call_problems(module: &Module) -> Vec<String> {
    let mut problems = Vec::new();
    for block in module.blocks("module") {
        let (place, called) = (format!("{}: module {}", module.name(), labels_of(block)[0]), called(module, block));
        for given in block.body().attributes().filter(|given| !["source", "providers", "count"].contains(&given.key()))
        {
            match called.block("variable", &[given.key()]) {
                None => problems.push(format!("{place}: there is no {}", given.key())),
                Some(variable) => {
                    let wanted = attribute(variable.body(), "type").expect("a variable has a type");
                    problems.extend(unfit(&format!("{place}.{}", given.key()), wanted, given.expr()));
                }
            }
        }
        for variable in called.blocks("variable").filter(|variable| attribute(variable.body(), "default").is_none()) {
            let name = labels_of(variable)[0];
            if attribute(block.body(), name).is_none() {
                problems.push(format!("{place}: {name} is missing"));
            }
        }
    }
    problems
}

/// What `ignore_changes` names and the type does not have.
fn lifecycle_problems(module: &Module, schema: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for block in module.blocks("resource") {
        let lifecycles = block.body().blocks().filter(|inner| inner.identifier() == "lifecycle");
        for ignored in lifecycles.filter_map(|lifecycle| attribute(lifecycle.body(), "ignore_changes")) {
            for names in parts(ignored).into_iter().filter_map(path) {
                let mut known = &schema["resource"][labels_of(block)[0]]["arguments"];
                for name in &names {
                    known = known.get(name).map_or(&Value::Null, |entry| entry.get("block").unwrap_or(entry));
                }
                if known.is_null() {
                    problems.push(format!("{}: {} is ignored in vain", module.name(), names.join(".")));
                }
            }
        }
    }
    problems
}

fn problems(module: &Module, schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for block in module.body.blocks().filter(|block| block.identifier() != "variable") {
        walk(block.body(), &Scope::new(), &mut found);
    }
    // Of a variable the type and the default are no references.
    for validation in module.blocks("variable").flat_map(|variable| variable.body().blocks()) {
        walk(validation.body(), &Scope::new(), &mut found);
    }
    let mut problems: Vec<String> = found.iter().filter_map(|path| dead(module, schema, path)).collect();
    problems.extend(call_problems(module));
    problems.extend(lifecycle_problems(module, schema));
    problems
}

#[test]
fn every_reference_leads_somewhere() {
    let (modules, schema) = (modules(), schema());
    let problems: Vec<String> = modules.iter().flat_map(|module| problems(module, schema)).collect();
    assert_eq!(problems, Vec::<String>::new());
}

#[test]
fn every_variable_is_used_and_described() {
    for module in modules() {
        let mut found = Vec::new();
        module.body.blocks().filter(|block| block.identifier() != "variable").for_each(|block| {
            walk(block.body(), &Scope::new(), &mut found);
        });
        for variable in module.blocks("variable") {
            let name = labels_of(variable)[0];
            assert!(attribute(variable.body(), "description").is_some(), "{}: {name}", module.name());
            let used = found.iter().any(|path| path[0] == "var" && path[1] == name);
            assert!(used, "{}: variable {name} is for nothing", module.name());
        }
        let used = |name: &str| found.iter().any(|path| path[0] == "local" && path[1] == name);
        let idle: Vec<&str> = module.locals().into_keys().filter(|name| !used(name)).collect();
        assert_eq!(idle, Vec::<&str>::new(), "{}: locals for nothing", module.name());
    }
}

#[test]
fn dead_references_are_found() {
    let wrong = r#"
variable "size" { type = object({ cpu = number, memory = optional(number) }) }
locals { a = "${var.sise}-${each.key}" }
resource "aws_sqs_queue" "a" {
  for_each = toset(local.b)
  name     = each.key
  policy   = [for key, queue in aws_sqs_queue.a : queue.colour]
  tags     = { cpu = var.size.cpus }
  lifecycle { ignore_changes = [nane] }
}
module "mesh" {
  source   = "../mesh"
  services = { shop = { nodes = {}, first = "a", port = module.mesh.port, ports = aws_sqs_queue.a["x"].url } }
}
"#;
    let mut module = Module::named("mesh");
    module.body = hcl::parse(wrong).unwrap();
    let found = problems(&module, schema());
    let expected = [
        "var.sise leads nowhere",
        "each.key leads nowhere",
        "local.b leads nowhere",
        "aws_sqs_queue.a.colour leads nowhere",
        "var.size.cpus leads nowhere",
        "module.mesh.port leads nowhere",
        "module mesh.services.shop: virtual_service is missing",
        "module mesh.services.shop: there is no ports",
        "module mesh: mesh_name is missing",
        "nane is ignored in vain",
    ];
    assert_eq!(found, expected.map(|problem| format!("modules/mesh: {problem}")));
}
