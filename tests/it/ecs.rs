//! The ECS adapter through the real SDK, against our double of ECS and, for task definitions, against moto.
//!
//! The double checks every request and every answer against the service model of botocore; `tests/peers/README.md` says
//! where it differs from AWS.

mod deploy;
mod faults;
mod health;
mod look;
mod model;
pub(crate) mod moto;

use crate::program::aws_double::AwsDouble;
use aws_sdk_ecs::config::{Credentials, Region, SharedCredentialsProvider};
use aws_types::SdkConfig;
use serde_json::{Value, json};
use tidegate::base::ids::RolloutId;
use tidegate::base::weight::Slot;
use tidegate::policy::plan::{EcsTarget, Scale, WorkloadTarget};
use tidegate::ports::Workloads;
use tidegate::rollout::effect::Deployment;
use tidegate::rollout::event::{Deployed, WorkloadReading};
use tidegate::workload::ecs::Ecs;

const OLD_IMAGE: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com/shop/checkout:v1";
const IMAGE: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com/shop/checkout:v2@sha256:\
                     0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The double with the guide's service in two slots: `checkout-a` runs three tasks, `checkout-b` none.
struct Shop {
    double: AwsDouble,
    ecs: Ecs,
}

pub(crate) fn config(url: &str) -> SdkConfig {
    let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
    SdkConfig::builder()
        .endpoint_url(url)
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

/// The task definition of the guide, for one slot.
fn definition(family: &str) -> Value {
    let node = format!("mesh/shop/virtualNode/{family}");
    json!({
        "family": family,
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "512",
        "memory": "1024",
        "executionRoleArn": "arn:aws:iam::123456789012:role/ecsTaskExecutionRole",
        "taskRoleArn": "arn:aws:iam::123456789012:role/ecsTaskRole",
        "runtimePlatform": { "cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX" },
        "ephemeralStorage": { "sizeInGiB": 30 },
        "volumes": [{ "name": "scratch", "host": {} }],
        "proxyConfiguration": {
            "type": "APPMESH",
            "containerName": "envoy",
            "properties": [
                { "name": "IgnoredUID", "value": "1337" },
                { "name": "ProxyIngressPort", "value": "15000" },
                { "name": "ProxyEgressPort", "value": "15001" },
                { "name": "AppPorts", "value": "8080" },
            ],
        },
        "containerDefinitions": [
            {
                "name": "app",
                "image": OLD_IMAGE,
                "portMappings": [{ "containerPort": 8080, "protocol": "tcp" }],
                "environment": [{ "name": "APPMESH_VIRTUAL_NODE_NAME", "value": node }],
                "dependsOn": [{ "containerName": "envoy", "condition": "HEALTHY" }],
            },
            {
                "name": "envoy",
                "image": "840364872350.dkr.ecr.us-west-2.amazonaws.com/aws-appmesh-envoy:v1.22.2.1-prod",
                "user": "1337",
                "healthCheck": { "command": ["CMD-SHELL", "curl -s http://localhost:9901/server_info"], "interval": 5 },
                "environment": [{ "name": "APPMESH_VIRTUAL_NODE_NAME", "value": node }],
            },
        ],
        "tags": [{ "key": "team", "value": "payments" }, { "key": "tidegate:rollout", "value": "r-before" }],
    })
}

/// A service, as many tasks as given, and what else.
fn service(name: &str, family: &str, count: u32, more: &Value) -> Value {
    let mut service = json!({
        "cluster": "prod",
        "serviceName": name,
        "taskDefinition": family,
        "desiredCount": count,
        "launchType": "FARGATE",
        "networkConfiguration": { "awsvpcConfiguration": { "subnets": ["subnet-1"], "securityGroups": ["sg-1"] } },
    });
    for (key, value) in more.as_object().unwrap() {
        service[key] = value.clone();
    }
    service
}

impl Shop {
    /// With these members in the canary's service beside the usual ones.
    async fn with(more: Value) -> Option<Self> {
        let double = AwsDouble::start().await?;
        double.ecs("CreateCluster", json!({ "clusterName": "prod" })).await;
        for family in ["checkout-v1", "checkout-v2"] {
            double.ecs("RegisterTaskDefinition", definition(family)).await;
        }
        double.ecs("CreateService", service("checkout-a", "checkout-v1", 3, &json!({}))).await;
        double.ecs("CreateService", service("checkout-b", "checkout-v2", 0, &more)).await;
        let ecs = Ecs::from_config(&config(&double.url));
        let shop = Self { double, ecs };
        shop.advance(6).await;
        Some(shop)
    }

    async fn start() -> Option<Self> {
        Self::with(json!({})).await
    }

    async fn advance(&self, steps: u32) {
        self.double.control("ecs/advance", json!({ "steps": steps })).await;
    }

    /// What tasks do that run the release's image.
    async fn behave(&self, kind: &str, more: Value) {
        let mut rule = json!({ "image": "*:v2@*", "kind": kind });
        for (key, value) in more.as_object().unwrap() {
            rule[key] = value.clone();
        }
        self.double.control("ecs/behave", rule).await;
    }

    async fn deploy(&self) -> Deployed {
        self.ecs.deploy(&deployment()).await.unwrap()
    }

    /// How the canary's slot stands.
    async fn look(&self, wanted: &Deployed) -> WorkloadReading {
        self.ecs.look(&target(), Slot::Second, Some(wanted)).await.unwrap()
    }

    /// A service as anybody sees it.
    async fn service(&self, name: &str) -> Value {
        let answer = self.double.ecs("DescribeServices", json!({ "cluster": "prod", "services": [name] })).await;
        answer["services"][0].clone()
    }

    /// A revision with its tags.
    async fn definition(&self, name: &str) -> Value {
        let ask = json!({ "taskDefinition": name, "include": ["TAGS"] });
        self.double.ecs("DescribeTaskDefinition", ask).await
    }

    /// ARNs of the revisions of the canary's family, oldest first.
    async fn revisions(&self) -> Vec<Value> {
        let answer = self.double.ecs("ListTaskDefinitions", json!({ "familyPrefix": "checkout-v2" })).await;
        answer["taskDefinitionArns"].as_array().unwrap().clone()
    }
}

fn ecs_target() -> EcsTarget {
    EcsTarget {
        cluster: "prod".to_owned(),
        services: ["checkout-a".to_owned(), "checkout-b".to_owned()],
        container: "app".to_owned(),
        scale: Scale::SameAsStable,
    }
}

fn target() -> WorkloadTarget {
    WorkloadTarget::Ecs(ecs_target())
}

/// The release of the tests: into the second slot.
fn deployment() -> Deployment {
    Deployment {
        rollout: RolloutId("r-0123456789abcdef".to_owned()),
        target: target(),
        slot: Slot::Second,
        image: IMAGE.to_owned(),
        revision: Some("v2 (commit 4f2a)".to_owned()),
        share: None,
    }
}
