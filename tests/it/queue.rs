//! Events of ECR from a queue of SQS: moto keeps the queue, the daemon is the program, ECS is our double.

use crate::ecs::config;
use crate::ecs::moto::moto;
use crate::kit::postgres::Server;
use crate::mesh::cli::{aws, run_service};
use crate::program::controllers::{Controller, Outside};
use crate::program::fleet::Fleet;
use crate::program::gate::{Cut, Gate};
use crate::program::service::Behaviour;
use crate::program::until;
use crate::release::POLICY;
use crate::shell::{Page, Ports, Terminal, expect, have};
use axum::Router;
use axum::http::{HeaderName, StatusCode};
use serde_json::{Value, json};
use tidegate::base::fault::FaultKind;
use tidegate::clock::Monotonic;
use tidegate::trigger::queue::Queue;
use tokio::process::Child;
use tokio::sync::mpsc;

const SECRET: &str = "a secret of the hook ecr";

/// A queue at moto, and what a daemon needs to begin a rollout by it.
struct World {
    _moto: Child,
    moto: String,
    cli: std::path::PathBuf,
    url: String,
    outside: Outside,
    fleet: Fleet,
}

impl World {
    async fn start() -> Option<Self> {
        let cli = aws().await?;
        let (child, moto) = moto().await?;
        let outside = Outside::start(POLICY, Behaviour::Gone).await;
        let fleet = Fleet::start(&outside).await?;
        let made = run_service(&cli, &moto, "sqs", &["create-queue", "--queue-name", "tidegate"]).await.unwrap();
        let url = made["QueueUrl"].as_str().unwrap().to_owned();
        Some(Self { _moto: child, moto, cli, url, outside, fleet })
    }

    async fn sqs(&self, arguments: &[&str]) -> Value {
        let arguments = [&arguments[..1], &["--queue-url", &self.url], &arguments[1..]].concat();
        run_service(&self.cli, &self.moto, "sqs", &arguments).await.unwrap()
    }

    async fn send(&self, body: &str) {
        self.sqs(&["send-message", "--message-body", body]).await;
    }

    /// Waits until nothing is in the queue, hidden or not.
    async fn until_empty(&self) {
        until("an empty queue", async || {
            let answer = self.sqs(&["get-queue-attributes", "--attribute-names", "All"]).await;
            let count = |name: &str| answer["Attributes"][name].as_str().unwrap().to_owned();
            let counts = [count("ApproximateNumberOfMessages"), count("ApproximateNumberOfMessagesNotVisible")];
            (counts == ["0", "0"]).then_some(())
        })
        .await;
    }

    /// A daemon that reads the queue by way of `sqs`, with these variables besides.
    async fn daemon(&self, sqs: &str, more: &[(&str, &str)]) -> Controller {
        let config = self.outside.config().replace("[policies]", "advertise_url = \"http://127.0.0.1:0\"\n[policies]");
        let config = match more.iter().any(|(name, _)| *name == "TIDEGATE_DATABASE_URL") {
            true => config,
            false => format!("{}[database]\ndata_dir = \"{}\"\n", self.outside.config(), self.outside.files.at("own")),
        };
        let variables = self.fleet.variables();
        let mut variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        variables.extend([
            ("TIDEGATE_QUEUE_URL", self.url.as_str()),
            ("AWS_ENDPOINT_URL_SQS", sqs),
            ("TIDEGATE_HOOK_SECRET_ECR", SECRET),
        ]);
        variables.extend_from_slice(more);
        self.outside.controller(&config, &variables).await
    }
}

/// A push of the repository that the policy waits for.
fn push(id: &str) -> String {
    let mut event: Value = serde_json::from_str(include_str!("../golden/hooks/ecr-push.json")).unwrap();
    event["id"] = json!(id);
    event.to_string()
}

async fn rollouts(daemon: &Controller) -> Vec<Value> {
    let (status, list) = daemon.api.try_api("/v1/rollouts").await.unwrap();
    assert_eq!(status, 200, "{list}");
    list["rollouts"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_push_begins_one_rollout_whichever_ways_it_comes() {
    let Some(world) = World::start().await else { return };
    let daemon = world.daemon(&world.moto, &[]).await;
    world.send("{ no event").await;
    world
        .send(r#"{"source":"aws.ec2","detail-type":"EC2 Instance State-change Notification","id":"1","detail":{}}"#)
        .await;
    world.send(&push("one")).await;
    world.send(&push("one")).await;
    world.until_empty().await;
    let bearer = format!("Bearer {SECRET}");
    let (status, answer) = daemon.api.text("POST", "/v1/hooks/ecr", &[("authorization", &bearer)], push("one")).await;
    assert_eq!((status, &answer["repeated"]), (200, &json!(true)), "{answer}");
    let list = rollouts(&daemon).await;
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!((&list[0]["policy"], &list[0]["started_by"]["via"]), (&json!("checkout"), &json!("queue:ecr")));
    assert!(
        list[0]["image"]
            .as_str()
            .unwrap()
            .ends_with("/shop/checkout@sha256:5f0c1de6a2b9f8c04d7be1735a90c2846e1f3bd7c8a95b20614fd3e7982ac1b0")
    );
    let log = daemon.process.stderr.text();
    assert!(log.contains("a message of the queue was not understood, and is deleted"), "{log}");
}

/// The daemon dies after the event was kept and before its message is deleted: it comes again, and begins nothing more.
#[tokio::test]
async fn a_daemon_that_dies_before_it_deletes_a_message_begins_once() {
    let Some(world) = World::start().await else { return };
    let (told, mut cuts) = mpsc::unbounded_channel();
    let gate = Gate::start(&world.moto, Cut::Before, &["DeleteMessage"], told).await;
    gate.cuts(true);
    let daemon = world.daemon(&gate.url, &[]).await;
    world.send(&push("one")).await;
    cuts.recv().await.unwrap();
    daemon.process.kill().await;
    // As if its minute of being hidden were over.
    let receipt = gate.came("DeleteMessage")[0]["ReceiptHandle"].as_str().unwrap().to_owned();
    world.sqs(&["change-message-visibility", "--receipt-handle", &receipt, "--visibility-timeout", "0"]).await;
    gate.cuts(false);
    let daemon = world.daemon(&gate.url, &[]).await;
    world.until_empty().await;
    let list = rollouts(&daemon).await;
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!(list[0]["started_by"]["via"], "queue:ecr");
}

#[tokio::test]
async fn only_whoever_drives_reads_the_queue() {
    let Some(server) = Server::start().await else { return };
    let Some(world) = World::start().await else { return };
    let (told, _cuts) = mpsc::unbounded_channel();
    let url = server.url();
    let more = [("TIDEGATE_DATABASE_URL", url.reveal().as_str())];
    let gates = [
        Gate::start(&world.moto, Cut::Before, &[], told.clone()).await,
        Gate::start(&world.moto, Cut::Before, &[], told).await,
    ];
    let driver = world.daemon(&gates[0].url, &more).await;
    until("it drives", async || driver.drives().then_some(())).await;
    let standby = world.daemon(&gates[1].url, &more).await;
    world.send(&push("one")).await;
    world.until_empty().await;
    assert!(gates[1].came("").is_empty(), "a daemon that stands by asked");
    driver.process.kill().await;
    until("the other one drives", async || standby.drives().then_some(())).await;
    world.send(&push("two")).await;
    world.until_empty().await;
    assert!(!gates[1].came("ReceiveMessage").is_empty());
    // The second push is of the image that is live, and starts nothing more.
    let list = until("it takes commands", async || {
        let (status, list) = standby.api.try_api("/v1/rollouts").await?;
        (status == 200).then(|| list["rollouts"].as_array().unwrap().clone())
    })
    .await;
    assert_eq!(list.len(), 1, "{list:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_lines_make_a_queue_for_the_rule_alone() {
    if !["bash", "aws"].into_iter().all(have) {
        return;
    }
    let Some((_moto, aws)) = moto().await else { return };
    let page = Page::of("docs/TRIGGERS.md", "the_documented_lines_make_a_queue_for_the_rule_alone");
    let (ports, directory) = (Ports::pick(), tempfile::tempdir().unwrap());
    let mut terminal = Terminal::open(directory.path(), Monotonic::now(), &ports);
    // The CLI of .venv takes no endpoint of SQS from the environment.
    terminal.enter(&format!(
        "set -e; export AWS_ACCESS_KEY_ID=AKIDEXAMPLE AWS_SECRET_ACCESS_KEY=secret AWS_DEFAULT_REGION=eu-central-1; \
         aws() {{ command aws --endpoint-url {aws} \"$@\"; }}"
    ));
    expect(&terminal.run(&page.text("queue", &ports)), &["\"FailedEntryCount\": 0", "queue.url = http", "/tidegate"]);
    let policy =
        "aws sqs get-queue-attributes --queue-url \"$QUEUE_URL\" --attribute-names Policy --query Attributes.Policy";
    let said = terminal.run(policy);
    let line = said.lines().find(|line| line.starts_with('"')).unwrap();
    let policy: Value = serde_json::from_str(&serde_json::from_str::<String>(line).unwrap()).unwrap();
    let statement = &policy["Statement"][0];
    assert_eq!(statement["Resource"], "arn:aws:sqs:eu-central-1:123456789012:tidegate");
    let source = &statement["Condition"]["ArnEquals"]["aws:SourceArn"];
    assert_eq!(source, "arn:aws:events:eu-central-1:123456789012:rule/tidegate");
    let targets = terminal.run("aws events list-targets-by-rule --rule tidegate");
    expect(&targets, &["arn:aws:sqs:eu-central-1:123456789012:tidegate"]);
    page.done();
}

/// What a queue answers instead: status, headers, body.
type Answer = (u16, &'static [(&'static str, &'static str)], &'static str);

async fn asked(answer: Answer) -> tidegate::base::fault::Fault {
    let (status, headers, body) = answer;
    let router = Router::new().fallback(async move || {
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), *value));
        let headers: Vec<(HeaderName, &str)> = headers.collect();
        let mut response = axum::response::Response::new(axum::body::Body::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let fault = Queue::from_config(&config(&url), &format!("{url}/123456789012/tidegate")).waiting().await.unwrap_err();
    serving.abort();
    fault
}

#[tokio::test]
async fn a_queue_that_is_not_read_says_why() {
    const JSON: (&str, &str) = ("content-type", "application/x-amz-json-1.0");
    let gone = r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue does not exist."}"#;
    let denied = r#"{"__type":"com.amazon.coral.service#AccessDeniedException","message":"User: arn:aws:sts::123456789012:assumed-role/tidegate/i-1 is not authorized to perform: sqs:getqueueattributes on resource: arn:aws:sqs:us-east-1:123456789012:tidegate because no identity-based policy allows the sqs:getqueueattributes action"}"#;
    let busy = r#"{"__type":"com.amazonaws.sqs#RequestThrottled","message":"Rate exceeded"}"#;
    let rows: [(Answer, FaultKind, &str); 6] = [
        (
            (400, &[JSON, ("x-amzn-query-error", "AWS.SimpleQueueService.NonExistentQueue;Sender")], gone),
            FaultKind::Permanent,
            "there is no such queue: correct queue.url, or create it in that region",
        ),
        ((400, &[JSON], gone), FaultKind::Permanent, "there is no such queue: correct queue.url"),
        ((400, &[JSON], denied), FaultKind::Permanent, "not allowed: sqs:getqueueattributes on arn:aws:sqs"),
        ((400, &[JSON], busy), FaultKind::Transient, "AWS limits the calls of this account"),
        ((500, &[JSON], r#"{"__type":"com.amazonaws.sqs#InternalFailure"}"#), FaultKind::Transient, "InternalFailure"),
        ((404, &[("content-type", "text/html")], "<html>"), FaultKind::Permanent, "status 404"),
    ];
    for (answer, kind, says) in rows {
        let fault = asked(answer).await;
        assert!(fault.kind == kind && fault.message.contains(says), "{answer:?}\n{fault}");
        assert_eq!(fault.source, "sqs");
    }
}
