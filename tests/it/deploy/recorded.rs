//! The rights of the daemon's role against the calls that the program makes: a release on ECS that an event of a queue asks
//! for, judged on CloudWatch and X-Ray, and the doctor before it. Every call is recorded by whoever answers it.

use super::iam::daemon_rights;
use crate::program::controllers::Outside;
use crate::program::fleet::Fleet;
use crate::program::service::Behaviour;
use crate::program::until;
use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tidegate::clock::{Clock, SystemClock};

const POLICY: &str = "\
version: 1
name: checkout
route: { mesh: shop, router: checkout-router, route: checkout }
versions: [checkout-v1, checkout-v2]
workload:
  ecs:
    cluster: prod
    services: { checkout-v1: checkout-a, checkout-v2: checkout-b }
    container: app
    keep_for: 1s
start: { on: { image: { repository: shop/checkout, tag: \"*\" } } }
steps:
  - { weight: 50, min: 1s, max: 60s, prove_no_worse_than: 40pp }
  - { weight: 100, min: 1s }
gates:
  - { name: errors, metric: error_rate, compare: stable, tolerate: { ratio: 1.0, add: 0.1pp } }
  - { name: queue, cloudwatch: { namespace: Shop, metric: Depth, stat: Average }, max: 10, dry_run: true }
  - { name: alarm, cloudwatch: { alarm: queue }, dry_run: true }
  - { name: traces, xray: { filter: 'annotation.node = \"{node}\"', measure: fault_rate }, compare: stable, tolerate: { add: 1pp }, dry_run: true }
";

/// A queue with one event in it. That the daemon speaks with the real kind is shown elsewhere; this one keeps what it was
/// called.
#[derive(Default)]
struct Queue {
    called: Mutex<Vec<String>>,
}

async fn queue(queue: Arc<Queue>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = async |State(queue): State<Arc<Queue>>, headers: HeaderMap| {
        let target = headers["x-amz-target"].to_str().unwrap().to_owned();
        let operation = target.split_once('.').unwrap().1.to_owned();
        let earlier = {
            let mut called = queue.called.lock().unwrap();
            let earlier = called.iter().filter(|name| **name == operation).count();
            called.push(operation.clone());
            earlier
        };
        let answer = match operation.as_str() {
            "ReceiveMessage" if earlier == 0 => json!({ "Messages": [message()] }),
            // There is no other message, and whoever waits for one waits until the end.
            "ReceiveMessage" => std::future::pending().await,
            "GetQueueAttributes" => json!({ "Attributes": { "ApproximateNumberOfMessages": "1" } }),
            _ => json!({}),
        };
        ([("content-type", "application/x-amz-json-1.0")], answer.to_string())
    };
    let router = Router::new().fallback(answer).with_state(queue);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// What EventBridge puts into a queue when an image was pushed.
fn message() -> Value {
    let event = json!({
        "version": "0",
        "id": "b1f6a7e2-4c3d-4e5f-8a9b-0c1d2e3f4a5b",
        "detail-type": "ECR Image Action",
        "source": "aws.ecr",
        "account": "123456789012",
        "time": SystemClock.now().rfc3339(),
        "region": "us-east-1",
        "resources": [],
        "detail": {
            "result": "SUCCESS",
            "repository-name": "shop/checkout",
            "image-digest": format!("sha256:{}", "7632".repeat(16)),
            "action-type": "PUSH",
            "image-tag": "v2",
        },
    });
    json!({ "MessageId": "m-1", "ReceiptHandle": "r-1", "Body": event.to_string() })
}

#[tokio::test]
async fn the_daemon_may_do_what_it_was_seen_to_do_and_nothing_else() {
    let outside = Outside::start(POLICY, Behaviour::Gone).await;
    let Some(fleet) = Fleet::start(&outside).await else { return };
    fleet.double.control("cloudwatch/alarm", json!({ "name": "queue", "state": "OK", "kind": "metric" })).await;
    let recorder = Arc::<Queue>::default();
    let url = queue(Arc::clone(&recorder)).await;
    let mut set = fleet.variables();
    set.push(("AWS_ENDPOINT_URL_SQS".to_owned(), url.clone()));
    set.push(("TIDEGATE_QUEUE_URL".to_owned(), format!("{url}/123456789012/tidegate")));
    let set: Vec<(&str, &str)> = set.iter().map(|(name, value)| (&**name, &**value)).collect();
    let config = format!("{}[database]\ndata_dir = \"{}\"\n", outside.config(), outside.files.at("own"));
    let since = fleet.double.calls().await.len();

    outside.files.write("tidegate.toml", &config);
    let mut doctor = crate::program::command(&["doctor", "--config", &outside.files.at("tidegate.toml")]);
    doctor.envs(set.iter().copied());
    crate::program::finish(doctor).await;
    let daemon = outside.controller(&config, &set).await;
    let load = outside.mesh.load();
    let id = until("a rollout", async || {
        let (_, answer) = daemon.api.try_api("/v1/rollouts").await?;
        answer["rollouts"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let view = daemon.api.end(&id).await;
    assert_eq!(view["phase"], "succeeded", "{view}");
    load.stop().await;

    let mut seen = BTreeSet::new();
    for call in &fleet.double.calls().await[since..] {
        seen.insert(format!("{}:{}", call["service"].as_str().unwrap(), call["operation"].as_str().unwrap()));
    }
    seen.extend(recorder.called.lock().unwrap().iter().map(|operation| format!("sqs:{operation}")));
    let service = |action: &String| action.replace("monitoring:", "cloudwatch:");
    let seen: BTreeSet<String> = seen.iter().map(service).collect();
    // Its nodes have names here; that call is made in `it::discovery`, against moto. The other one is for versions that have
    // traces, as in `it::signals`.
    let elsewhere = ["servicediscovery:DiscoverInstances", "xray:GetTraceGraph"].map(str::to_owned);
    let seen: BTreeSet<String> = seen.into_iter().chain(elsewhere).collect();
    assert_eq!(seen, daemon_rights(), "seen, and allowed without those that are no call");
}
