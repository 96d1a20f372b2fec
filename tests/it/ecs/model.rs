//! "Every other member is copied exactly": compared with the service model of botocore, so that a member that AWS adds is
//! noticed here, and carried over until then.

use super::{Shop, deployment, ecs_target, service};
use crate::program::aws_double::python;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use tidegate::policy::plan::WorkloadTarget;
use tidegate::ports::Workloads;
use tidegate::rollout::effect::Deployment;
use tokio::process::Command;

/// Members of a described task definition that ECS gives and a registration has not: `GIVEN_BY_ECS` of the adapter.
const GIVEN_BY_ECS: [&str; 9] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "deregisteredAt",
    "deleteRequestedAt",
    "registeredBy",
];

/// What botocore knows, see the script.
async fn model() -> Option<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/ecs_definition_model.py");
    let output = Command::new(python()?).arg(script).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn names(list: &Value) -> BTreeSet<&str> {
    list.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_is_left_out_is_what_a_registration_does_not_take() {
    let Some(model) = model().await else { return };
    let (described, registered) = (names(&model["described"]), names(&model["registered"]));
    let given: BTreeSet<&str> = described.difference(&registered).copied().collect();
    assert_eq!(given, BTreeSet::from(GIVEN_BY_ECS), "compare with GIVEN_BY_ECS in src/workload/ecs/revision.rs");
    let asked: BTreeSet<&str> = registered.difference(&described).copied().collect();
    assert_eq!(asked, BTreeSet::from(["tags"]), "a registration takes something that describing does not tell");
}

#[tokio::test]
async fn a_definition_with_every_member_of_the_model_is_carried_over() {
    let Some(model) = model().await else { return };
    let Some(shop) = Shop::start().await else { return };
    shop.double.ecs("RegisterTaskDefinition", model["sample"].clone()).await;
    shop.double.ecs("CreateService", service("everything", "everything", 0, &json!({}))).await;
    let services = ["checkout-a".to_owned(), "everything".to_owned()];
    let target = WorkloadTarget::Ecs(tidegate::policy::plan::EcsTarget { services, ..ecs_target() });
    shop.ecs.deploy(&Deployment { target, ..deployment() }).await.unwrap();

    let registrations: Vec<Value> =
        shop.double.calls().await.into_iter().filter(|call| call["operation"] == "RegisterTaskDefinition").collect();
    let sent = &registrations.last().unwrap()["params"];
    let before = shop.definition("everything:1").await["taskDefinition"].clone();
    for member in names(&model["registered"]) {
        let mut expected = before[member].clone();
        if member == "containerDefinitions" {
            expected[0]["image"] = json!(super::IMAGE);
        }
        if member != "tags" {
            assert_eq!(sent[member], expected, "{member}");
        }
    }
    assert_eq!(sent["tags"][0], model["sample"]["tags"][0]);
}
