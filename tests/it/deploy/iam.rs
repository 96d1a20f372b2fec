//! The rights in Terraform's files: those that the source needs and the pages name, and no others.

use super::terraform::{Module, attribute, labels_of, modules, text, texts};
use crate::shell::root;
use hcl::Expression;
use hcl::expr::TemplateExpr;
use hcl::structure::{Block, Body};
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Rights of the daemon's role that are no call of the source, with what they are for.
const BESIDES: &[(&str, &str)] = &[
    ("ecs:TagResource", "ECS asks for it with every tagged registration"),
    ("iam:PassRole", "ECS asks for it when a revision names a role"),
    ("ssmmessages:CreateControlChannel", "ECS Exec"),
    ("ssmmessages:CreateDataChannel", "ECS Exec"),
    ("ssmmessages:OpenControlChannel", "ECS Exec"),
    ("ssmmessages:OpenDataChannel", "ECS Exec"),
];

/// Clients whose calls are no matter of IAM: the mesh is Tidegate's.
const NOT_IAM: &[&str] = &["appmesh"];

/// Actions that know no resource, or whose resources are not known beforehand.
const EVERYWHERE: &[&str] = &[
    "cloudwatch:DescribeAlarms",
    "cloudwatch:GetMetricData",
    "cloudwatch:PutMetricData",
    "ecr:GetAuthorizationToken",
    "ecs:DescribeTaskDefinition",
    "ecs:ListTaskDefinitions",
    "ecs:ListTasks",
    "servicediscovery:DiscoverInstances",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
    "xray:GetTraceGraph",
    "xray:GetTraceSummaries",
];

/// What every other document allows.
const OTHERS: &[(&str, &str, &[&str])] = &[
    ("controller", "assume", &["sts:AssumeRole"]),
    ("gateway", "assume", &["sts:AssumeRole"]),
    ("gateway", "task", &["appmesh:StreamAggregatedResources"]),
    ("service", "assume", &["sts:AssumeRole"]),
    ("service", "metrics", &["cloudwatch:PutMetricData"]),
    ("webhook", "queue", &["sqs:SendMessage"]),
    ("webhook", "sender", &["secretsmanager:GetSecretValue"]),
];

/// Documents that tests of their own compare.
const ELSEWHERE: &[(&str, &str)] =
    &[("controller", "task"), ("controller", "execution"), ("service", "execution"), ("gateway", "execution")];

/// One statement of a policy document.
struct Statement {
    sid: String,
    actions: Vec<String>,
    resources: Option<Expression>,
}

impl Statement {
    fn read(body: &Body) -> Self {
        let sid = text(attribute(body, "sid").expect("a statement says its reason")).to_owned();
        let actions = texts(attribute(body, "actions").expect("a statement has actions"));
        Self { sid, actions, resources: attribute(body, "resources").cloned() }
    }
}

/// The statements of a document, those included that depend on a variable.
fn statements(document: &Block) -> Vec<Statement> {
    let bodies = document.body().blocks().map(|block| match block.identifier() {
        "dynamic" => block.body().blocks().next().expect("dynamic has content").body(),
        _ => block.body(),
    });
    bodies.map(Statement::read).collect()
}

/// Every document of a module by its label.
fn documents(module: &Module) -> BTreeMap<String, Vec<Statement>> {
    let documents = module.blocks("data").filter(|block| labels_of(block)[0] == "aws_iam_policy_document");
    documents.map(|block| (labels_of(block)[1].to_owned(), statements(block))).collect()
}

fn actions(statements: &[Statement]) -> BTreeSet<String> {
    statements.iter().flat_map(|statement| statement.actions.iter().cloned()).collect()
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] }).collect()
}

/// `describe_services` as IAM has it.
fn pascal(name: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('_').map(word).collect()
}

/// Every operation that the daemon's source calls on a client of AWS, as an action; what a proxy beside an application calls
/// is a matter of that task's role.
fn called() -> BTreeSet<String> {
    let client = Regex::new(r"aws_sdk_(\w+)::(?:\w+::)*Client\b").unwrap();
    let call = Regex::new(r"\bclient\s*\.(\w+)\(\)").unwrap();
    let mut called = BTreeSet::new();
    let of_daemon = |path: &PathBuf| !path.starts_with(root().join("src/proxy"));
    for path in rust_files(&root().join("src")).into_iter().filter(of_daemon) {
        let text = std::fs::read_to_string(&path).unwrap();
        let services: BTreeSet<&str> =
            client.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()).collect();
        let operations: Vec<&str> = call.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()).collect();
        match (services.first(), services.len()) {
            (Some(service), 1) if !NOT_IAM.contains(service) => {
                called.extend(operations.iter().map(|operation| format!("{service}:{}", pascal(operation))));
            }
            (_, 0 | 1) => {}
            _ => panic!("{}: which client is called here?", path.display()),
        }
    }
    called
}

#[test]
fn the_daemon_may_do_what_its_source_calls_and_nothing_else() {
    let called = called();
    // Services that gave no call at all were not looked for in the right way.
    for service in ["ecs", "cloudwatch", "xray", "sqs", "servicediscovery"] {
        assert!(called.iter().any(|action| action.starts_with(&format!("{service}:"))), "{service}: {called:?}");
    }
    let wanted: BTreeSet<String> =
        called.into_iter().chain(BESIDES.iter().map(|(action, _)| (*action).to_owned())).collect();
    let module = documents(&Module::named("controller"));
    assert_eq!(actions(&module["task"]), wanted);
}

/// What the daemon's role allows, without what is no call of its own.
pub(super) fn daemon_rights() -> BTreeSet<String> {
    let module = documents(&Module::named("controller"));
    let mut rights = actions(&module["task"]);
    BESIDES.iter().for_each(|(action, _)| assert!(rights.remove(*action), "{action} is not allowed"));
    rights
}

#[test]
fn the_page_names_the_same_rights() {
    let page = std::fs::read_to_string(root().join("docs/aws.md")).unwrap();
    let row = Regex::new(r"(?m)^\| `(\w+:\w+)` \|").unwrap();
    let mut named: BTreeSet<String> = row.captures_iter(&page).map(|found| found[1].to_owned()).collect();
    named.extend(allowed("exec-role.json"));
    assert_eq!(actions(&documents(&Module::named("controller"))["task"]), named);
    // As that of the page, the role that starts tasks may do this; a key of one's own is the only thing besides.
    let mut start = allowed("execution-role.json");
    for module in ["service", "gateway"] {
        assert!(start.is_superset(&actions(&documents(&Module::named(module))["execution"])), "{module}");
    }
    start.insert("kms:Decrypt".to_owned());
    assert_eq!(actions(&documents(&Module::named("controller"))["execution"]), start);
}

/// What a policy of examples/aws allows.
fn allowed(file: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("examples/aws").join(file)).unwrap();
    let policy: serde_json::Value = serde_json::from_str(&text).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let of = |statement: &serde_json::Value| match &statement["Action"] {
        serde_json::Value::Array(all) => all.iter().map(|action| action.as_str().unwrap().to_owned()).collect(),
        one => vec![one.as_str().unwrap().to_owned()],
    };
    statements.iter().flat_map(of).collect()
}

#[test]
fn every_statement_has_one_reason_and_as_little_as_it_can() {
    let readme = std::fs::read_to_string(root().join("deploy/terraform/README.md")).unwrap();
    let mut seen = BTreeSet::new();
    for module in modules() {
        let name = module.name().replace("modules/", "");
        for (label, statements) in documents(&module) {
            let place = format!("{name} {label}");
            let sids: BTreeSet<&str> = statements.iter().map(|statement| statement.sid.as_str()).collect();
            assert_eq!(sids.len(), statements.len(), "{place}: a reason stands twice");
            for statement in &statements {
                assert!(!statement.actions.iter().any(|action| action.contains('*')), "{place} {}", statement.sid);
                if statement.resources == Some(Expression::Array(vec!["*".into()])) {
                    let narrow = statement.actions.iter().find(|action| !EVERYWHERE.contains(&action.as_str()));
                    assert_eq!(narrow, None, "{place} {}: it knows resources", statement.sid);
                }
                if (name.as_str(), label.as_str()) == ("controller", "task") {
                    let row = readme.lines().find(|line| line.starts_with(&format!("| {} |", statement.sid)));
                    let row = row.unwrap_or_else(|| panic!("README.md says nothing of {}", statement.sid));
                    let short = |action: &str| action.split(':').nth(1).unwrap().to_owned();
                    let shown = |action: &String| row.contains(&short(action)) || row.contains("four of `ssmmessages`");
                    assert!(statement.actions.iter().all(shown), "README.md: {row}");
                }
            }
            if !ELSEWHERE.contains(&(name.as_str(), label.as_str())) {
                let (_, _, wanted) =
                    OTHERS.iter().find(|(of, which, _)| (*of, *which) == (name.as_str(), label.as_str())).unwrap();
                assert_eq!(actions(&statements), wanted.iter().map(|action| (*action).to_owned()).collect(), "{place}");
            }
            seen.insert((name.clone(), label));
        }
    }
    assert_eq!(seen.len(), OTHERS.len() + ELSEWHERE.len(), "{seen:?}");
}

#[test]
fn envoy_may_be_its_own_gateway_and_no_other() {
    let statements = &documents(&Module::named("gateway"))["task"];
    let [only] = &statements[..] else { panic!("{} statements", statements.len()) };
    let Some(Expression::Array(resources)) = &only.resources else { panic!("no list of resources") };
    let [Expression::TemplateExpr(resource)] = &resources[..] else { panic!("not one resource: {resources:?}") };
    let TemplateExpr::QuotedString(resource) = resource.as_ref() else { panic!("not one line: {resource:?}") };
    // What the task definition names as well: tests/it/deploy/task.rs.
    assert!(resource.ends_with(":${local.resource}") && !resource.contains('*'), "{resource:?}");
}
