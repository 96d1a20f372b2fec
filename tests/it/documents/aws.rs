//! docs/aws.md from nothing to the first canary: its lines against moto, and a daemon in the environment that its task
//! definition gives it, over a PostgreSQL server.
//!
//! moto starts no tasks and asks for no rights, so the release gets as far as its deployment.

use super::{Page, Ports, Terminal, copy_moved, expect, have, root};
use crate::ecs::moto::moto;
use crate::kit::postgres::Server;
use serde_json::Value;
use std::path::Path;
use tidegate::clock::Monotonic;

/// What the page takes for granted: a cluster with two services.
const SERVICES: &str = r#"
aws ecs create-cluster --cluster-name prod
for version in v1 v2; do
  aws ecs register-task-definition --family checkout-$version --network-mode awsvpc --cpu 256 --memory 512 \
    --requires-compatibilities FARGATE --container-definitions '[{ "name": "app", "image": "shop/checkout:v1" }]'
done
service() {
  aws ecs create-service --cluster prod --service-name $1 --task-definition $2 --desired-count $3 --launch-type FARGATE \
    --network-configuration "awsvpcConfiguration={subnets=[$SUBNET],securityGroups=[$GROUP]}"
}
service checkout-a checkout-v1 2
service checkout-b checkout-v2 0
"#;

/// What examples/aws/Dockerfile does, in directories of the test's own.
const IMAGE: &str = "mkdir -p etc/policies; touch etc/tidegate.toml; cp examples/aws/mesh.yaml etc/";

/// The files that the page shows are those that it has people use.
fn shown_as_they_are(page: &Page) {
    let file = |name: &str| std::fs::read_to_string(root().join("examples/aws").join(name)).unwrap();
    for name in ["deploy-role.json", "signals-role.json"] {
        assert_eq!(page.raw(name), file(name).trim_end(), "{name}");
    }
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let definition = json(&file("task-definition.json"));
    assert_eq!(json(page.raw("container")), *container(&definition, "tidegate"));
}

fn container<'a>(definition: &'a Value, name: &str) -> &'a Value {
    let mut all = definition["containerDefinitions"].as_array().unwrap().iter();
    all.find(|container| container["name"] == name).unwrap()
}

/// Directories of the image as those of the test.
fn moved(text: &str) -> String {
    text.replace("/etc/tidegate", "etc").replace("/var/lib/tidegate", "var")
}

/// What ECS would start, as lines for a shell: the variables, then the program. Secrets are fetched as ECS fetches them.
fn lines(container: &Value) -> (String, String) {
    let text = |value: &Value| moved(value.as_str().unwrap());
    let list = |name: &str| container[name].as_array().cloned().unwrap_or_default();
    let mut variables = String::new();
    for variable in list("environment") {
        variables += &format!("export {}='{}'\n", text(&variable["name"]), text(&variable["value"]));
    }
    for secret in list("secrets") {
        let (name, arn) = (text(&secret["name"]), text(&secret["valueFrom"]));
        let ask = format!("aws secretsmanager get-secret-value --secret-id '{arn}' --query SecretString --output text");
        variables += &format!("export {name}=\"$({ask})\"\n");
    }
    let words: Vec<String> = list("command").iter().map(text).collect();
    (variables, format!("tidegate {}", words.join(" ")))
}

/// The command by which ECS asks a container how it is, until it is well.
fn health(container: &Value) -> String {
    let words: Vec<&str> =
        container["healthCheck"]["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    // As ECS does: again and again, until it is well.
    format!("until {}; do sleep 0.2; done", words.join(" ").strip_prefix("CMD ").unwrap())
}

/// Nothing is left to fill in.
fn all_filled_in(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let (path, text) = {
            let path = entry.unwrap().path();
            (path.clone(), std::fs::read_to_string(path).unwrap())
        };
        for placeholder in [":REGION:", "\"REGION\"", ".REGION.", "ACCOUNT", "DATABASE-SECRET", "HOOK-SECRET"] {
            assert!(!text.contains(placeholder), "{}: {placeholder}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_canary_of_the_aws_page_is_deployed() {
    if !["bash", "aws", "curl", "openssl"].into_iter().all(have) {
        return;
    }
    let Some(mut server) = Server::prepare() else { return };
    let Some((_moto, aws)) = moto().await else { return };
    let page = Page::of("docs/aws.md", "the_first_canary_of_the_aws_page_is_deployed");
    shown_as_they_are(&page);
    let (ports, directory, began) = (Ports::pick(), tempfile::tempdir().unwrap(), Monotonic::now());
    server.listen_at(ports.moved("5432").parse().unwrap());
    server.run(&["-clisten_addresses=127.0.0.1"]).await;
    for statement in ["CREATE USER tidegate PASSWORD 'choose-one'", "CREATE DATABASE tidegate OWNER tidegate"] {
        server.sql(statement).await;
    }
    copy_moved(&root().join("examples"), &directory.path().join("examples"), &ports);
    let text = |name: &str| page.text(name, &ports);
    let account = format!(
        "export AWS_ENDPOINT_URL={aws} AWS_ACCESS_KEY_ID=AKIDEXAMPLE AWS_SECRET_ACCESS_KEY=secret \
         AWS_REGION=eu-central-1 AWS_DEFAULT_REGION=eu-central-1"
    );
    let open = || {
        let mut terminal = Terminal::open(directory.path(), began, &ports);
        terminal.enter(&account);
        terminal
    };
    let [mut first, mut mesh, mut daemon, mut inside] = [(); 4].map(|()| open());

    // --- what is created ---
    first.enter("set -e");
    first.run(&text("names"));
    first.run(SERVICES);
    expect(&first.run(&text("registry")), &["repository/tidegate"]);
    first.run(&text("database"));
    // The database of the test stands in for that of RDS, which has TLS.
    first.enter("DATABASE_HOST=127.0.0.1");
    first.run(&text("secrets").replace("?sslmode=verify-full&sslrootcert=/etc/ssl/rds/global-bundle.pem", ""));
    first.run(&text("files"));
    all_filled_in(&directory.path().join("made"));
    expect(&first.run(&text("roles")), &["role/tidegate-task", "role/tidegate-execution"]);
    expect(&first.run(&text("service")), &["task-definition/tidegate:1"]);

    // --- what ECS would start ---
    first.run("aws ecs describe-task-definition --task-definition tidegate --query taskDefinition > registered.json");
    let registered = std::fs::read_to_string(directory.path().join("registered.json")).unwrap();
    let registered: Value = serde_json::from_str(&registered).unwrap();
    let (_, local) = lines(container(&registered, "mesh"));
    let listen =
        ports.moved("--appmesh 127.0.0.1:7071 --xds 127.0.0.1:7072 --egress 127.0.0.1:15001 --admin 127.0.0.1:9901");
    first.run(IMAGE);
    mesh.stay(&format!("{local} {listen}"));
    mesh.wait_for(&["Ctrl-C stops it"]);
    first.run(&health(container(&registered, "mesh")));
    let (variables, serve) = lines(container(&registered, "tidegate"));
    for terminal in [&mut daemon, &mut inside] {
        terminal.enter(&variables);
    }
    daemon.stay(&serve);
    daemon.wait_for(&["this daemon drives"]);
    first.run(&health(container(&registered, "tidegate")));

    // --- token, doctor, policy, release ---
    inside.run("tidegate token create --role admin --name anna --database > token");
    let doctor = "tidegate doctor --config etc/tidegate.toml";
    expect(&inside.run(doctor), &["PostgreSQL answers", "none in etc/policies and pushed yet", "1 of them report"]);
    first.run("export TIDEGATE_TOKEN=$(cat token)");
    expect(&first.run(&text("push")), &["checkout.yaml: valid, 4 steps"]);
    expect(
        &inside.run(doctor),
        &[
            "1 in etc/policies and pushed, all valid",
            "found, for eu-central-1",
            "shop/checkout-router/checkout: checkout-v1 100, checkout-v2 0",
            "service checkout-a of checkout",
            "service checkout-b of checkout",
        ],
    );
    expect(&first.run(&text("release")), &["deploying"]);
    let asked = "aws ecs describe-services --cluster prod --services checkout-b --query 'services[0].taskDefinition'";
    first.run(&format!("until {asked} | grep checkout-v2:2; do sleep 0.2; done"));
    let image = "aws ecs describe-task-definition --task-definition checkout-v2 --query 'taskDefinition.containerDefinitions[0].image'";
    expect(&first.run(image), &["123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/checkout:v2"]);
    expect(&first.run("tidegate rollout abort checkout --reason enough"), &["checkout"]);
    page.done();
}
