//! Against moto, which others wrote: a task definition registered by the AWS CLI comes back in the next revision.
//!
//! moto starts no tasks and has no deployments that go on, so only deploying is asked of it here.

use super::{IMAGE, config, definition, deployment, service};
use crate::mesh::cli::{aws, run_service};
use crate::program::lacks;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tidegate::ports::Workloads;
use tidegate::workload::ecs::Ecs;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Starts moto on a free port and answers its URL, unless it is missing.
pub(crate) async fn moto() -> Option<(Child, String)> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/moto_server");
    if !program.exists() && !lacks("moto_server of .venv (make peers)") {
        return None;
    }
    let mut command = Command::new(program);
    command.args(["-H", "127.0.0.1", "-p", "0"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, url)) = line.split_once("Running on ") {
            let url = url.trim().to_owned();
            // It writes a line for each request, and would stop when nobody reads them.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Some((child, url));
        }
    }
    panic!("moto_server ended at once");
}

#[tokio::test]
async fn a_definition_registered_by_the_cli_comes_back_with_another_image() {
    let Some(aws) = aws().await else { return };
    let Some((_moto, url)) = moto().await else { return };
    // moto knows the default network of an account, and refuses others.
    let network = async |operation: &str, list: &str, member: &str| {
        run_service(&aws, &url, "ec2", &[operation]).await.unwrap()[list][0][member].clone()
    };
    let subnet = network("describe-subnets", "Subnets", "SubnetId").await;
    let group = network("describe-security-groups", "SecurityGroups", "GroupId").await;
    let network = json!({ "awsvpcConfiguration": { "subnets": [subnet], "securityGroups": [group] } });
    let cli = async |operation: &str, input: Value| {
        run_service(&aws, &url, "ecs", &[operation, "--cli-input-json", &input.to_string()]).await.unwrap()
    };
    cli("create-cluster", json!({ "clusterName": "prod" })).await;
    for (name, family, count) in [("checkout-a", "checkout-v1", 2), ("checkout-b", "checkout-v2", 0)] {
        cli("register-task-definition", definition(family)).await;
        cli("create-service", service(name, family, count, &json!({ "networkConfiguration": network }))).await;
    }
    let ecs = Ecs::from_config(&config(&url));
    let deployed = ecs.deploy(&deployment()).await.unwrap();
    assert!(deployed.what.ends_with(":task-definition/checkout-v2:2"), "{deployed:?}");
    assert_eq!(deployed.instances, 2);
    assert_eq!(ecs.deploy(&deployment()).await.unwrap(), deployed, "the second call finds the first one's revision");

    let described = async |revision: &str| {
        cli("describe-task-definition", json!({ "taskDefinition": revision, "include": ["TAGS"] })).await
    };
    let (mut before, after) = (described("checkout-v2:1").await, described("checkout-v2:2").await);
    before["taskDefinition"]["containerDefinitions"][0]["image"] = json!(IMAGE);
    let changed = ["taskDefinitionArn", "revision", "registeredAt"];
    let members = before["taskDefinition"].as_object().unwrap().clone();
    for (member, expected) in members.iter().filter(|(member, _)| !changed.contains(&member.as_str())) {
        assert_eq!(&after["taskDefinition"][member], expected, "{member}");
    }
    let names =
        |described: &Value| described["taskDefinition"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before));
    let mut tags: Vec<String> =
        after["tags"].as_array().unwrap().iter().map(|tag| format!("{}={}", tag["key"], tag["value"])).collect();
    tags.sort();
    assert_eq!(
        tags,
        [
            r#""team"="payments""#,
            r#""tidegate:revision"="v2 _commit 4f2a_""#,
            r#""tidegate:rollout"="r-0123456789abcdef""#
        ]
    );
    let listed = cli("list-task-definitions", json!({ "familyPrefix": "checkout-v2" })).await;
    assert_eq!(listed["taskDefinitionArns"].as_array().unwrap().len(), 2, "{listed}");
}
