//! Two services of ECS, by our double, whose tasks are two services of this process: what runs there, and with which image,
//! is what answers requests.
//!
//! An image whose tag begins with `bad` fails every third request; a service without a running task answers nobody.

use super::aws_double::AwsDouble;
use super::controllers::Outside;
use super::service::Behaviour;
use super::world::HOOK_SECRET;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// What runs before any release.
pub(crate) const FIRST_IMAGE: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com/shop/checkout:v1";
/// A step of the double, which takes four for a deployment: a second, where AWS takes a minute or two.
const STEP: Duration = Duration::from_millis(250);

/// The services, which go on by themselves.
pub(crate) struct Fleet {
    pub(crate) double: Arc<AwsDouble>,
    ticking: JoinHandle<()>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.ticking.abort();
    }
}

const REPOSITORY: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com/shop/checkout";

/// A digest that begins with the bytes of a tag.
fn digest(tag: &str) -> String {
    let digits: String = tag.bytes().cycle().take(32).map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// A reference to the image of this tag as whoever pushed it names it.
pub(crate) fn image(tag: &str) -> String {
    format!("{REPOSITORY}:{tag}@{}", digest(tag))
}

/// The same as it is deployed: by its digest alone.
pub(crate) fn pinned(tag: &str) -> String {
    format!("{REPOSITORY}@{}", digest(tag))
}

fn definition(family: &str) -> Value {
    json!({
        "family": family,
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "512",
        "memory": "1024",
        "executionRoleArn": "arn:aws:iam::123456789012:role/ecsTaskExecutionRole",
        "containerDefinitions": [
            { "name": "app", "image": FIRST_IMAGE, "portMappings": [{ "containerPort": 8080 }] },
            { "name": "envoy", "image": "public.ecr.aws/appmesh/aws-appmesh-envoy:v1.29.12.1-prod", "user": "1337",
              "environment": [{ "name": "APPMESH_RESOURCE_ARN", "value": format!("mesh/shop/virtualNode/{family}") }] },
        ],
        "tags": [{ "key": "team", "value": "payments" }],
    })
}

impl Fleet {
    /// `checkout-a` runs three tasks of the first image, `checkout-b` none; `None` without the peers of the double.
    pub(crate) async fn start(outside: &Outside) -> Option<Self> {
        let double = Arc::new(AwsDouble::start().await?);
        double.ecs("CreateCluster", json!({ "clusterName": "prod" })).await;
        for (service, family, count) in [("checkout-a", "checkout-v1", 3), ("checkout-b", "checkout-v2", 0)] {
            double.ecs("RegisterTaskDefinition", definition(family)).await;
            let service = json!({
                "cluster": "prod", "serviceName": service, "taskDefinition": family, "desiredCount": count,
                "launchType": "FARGATE",
                "networkConfiguration": { "awsvpcConfiguration": { "subnets": ["subnet-1"], "securityGroups": ["sg-1"] } },
            });
            double.ecs("CreateService", service).await;
        }
        double.control("ecs/advance", json!({ "steps": 6 })).await;
        let (kept, services) = (Arc::clone(&double), outside.services.clone());
        let bad = pinned("bad")[..pinned("").len() + "bad".len() * 2].to_owned();
        let ticking = tokio::spawn(async move {
            loop {
                kept.control("ecs/advance", json!({})).await;
                let running = kept.control("ecs/running", json!({})).await;
                for (name, service) in ["checkout-a", "checkout-b"].into_iter().zip(services.iter()) {
                    // A service that was deleted has none.
                    let images: Vec<&str> =
                        running[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                    service.behave(match images.as_slice() {
                        [] => Behaviour::Gone,
                        images if images.iter().any(|image| image.starts_with(&bad)) => Behaviour::FailsEvery(3),
                        _ => Behaviour::Good,
                    });
                }
                tokio::time::sleep(STEP).await;
            }
        });
        Some(Self { double, ticking })
    }

    /// A service as anybody sees it.
    pub(crate) async fn service(&self, name: &str) -> Value {
        let answer = self.double.ecs("DescribeServices", json!({ "cluster": "prod", "services": [name] })).await;
        answer["services"][0].clone()
    }

    /// Images of its running tasks.
    pub(crate) async fn running(&self, name: &str) -> Vec<String> {
        let running = self.double.control("ecs/running", json!({})).await;
        running[name].as_array().unwrap().iter().map(super::text).collect()
    }

    /// The definition that a service has, without what ECS gives each one and without tags.
    pub(crate) async fn definition(&self, service: &str) -> Value {
        let name = self.service(service).await["taskDefinition"].clone();
        let answer = self.double.ecs("DescribeTaskDefinition", json!({ "taskDefinition": name })).await;
        let mut definition = answer["taskDefinition"].clone();
        for member in ["taskDefinitionArn", "revision", "registeredAt"] {
            definition.as_object_mut().unwrap().remove(member);
        }
        definition
    }

    /// How many revisions a family has.
    pub(crate) async fn revisions(&self, family: &str) -> usize {
        let answer = self.double.ecs("ListTaskDefinitions", json!({ "familyPrefix": family })).await;
        answer["taskDefinitionArns"].as_array().unwrap().len()
    }

    /// Variables by which a daemon takes the double for AWS, and signed requests of the generic hook.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let url = self.double.url.clone();
        let pairs = [
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_ENDPOINT_URL", url.as_str()),
            ("TIDEGATE_HOOK_SECRET_GENERIC", HOOK_SECRET),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }
}
