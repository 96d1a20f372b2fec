//! Calls that fail: whose fault it is said to be, whether trying again may help, and what a user reads.

use super::{Shop, config, deployment, ecs_target, target};
use aws_sdk_ecs::config::SharedCredentialsProvider;
use serde_json::{Value, json};
use tidegate::base::fault::{Fault, FaultKind};
use tidegate::base::weight::Slot;
use tidegate::policy::plan::{EcsTarget, WorkloadTarget};
use tidegate::ports::Workloads;
use tidegate::rollout::effect::Deployment;
use tidegate::workload::ecs::Ecs;

const DEPLOYING: [&str; 5] =
    ["DescribeServices", "DescribeTaskDefinition", "ListTaskDefinitions", "RegisterTaskDefinition", "UpdateService"];

#[expect(clippy::print_stdout, reason = "what a user reads: shown with --no-capture")]
fn show(what: &str, fault: &Fault) {
    println!("{what}\n    {fault}");
}

async fn deploy_fault(shop: &Shop) -> Fault {
    shop.ecs.deploy(&deployment()).await.unwrap_err()
}

/// For a rollout of its own, so that no revision is found.
fn numbered(number: usize) -> Deployment {
    let mut deployment = deployment();
    deployment.rollout.0 = format!("r-{number}");
    deployment
}

#[tokio::test]
async fn a_missing_permission_names_action_and_resource() {
    let Some(shop) = Shop::start().await else { return };
    let arn = "arn:aws:ecs:us-east-1:123456789012:task-definition/checkout-v2:1";
    let on = [
        "checkout-b and checkout-a in cluster prod",
        arn,
        "family checkout-v2",
        "family checkout-v2",
        "service checkout-b in cluster prod",
    ];
    for (operation, resource) in DEPLOYING.into_iter().zip(on) {
        shop.double.fault(operation, "deny", json!({})).await;
        let fault = deploy_fault(&shop).await;
        show(operation, &fault);
        assert_eq!(fault.kind, FaultKind::Permanent);
        let text = format!(
            "not allowed: ecs:{operation} on {resource}; add it to the role that the daemon runs with (docs/aws.md lists \
             all); AWS says: User: arn:aws:sts::123456789012:assumed-role/tidegate/i-1 is not authorized"
        );
        assert!(fault.message.starts_with(&text), "{fault}");
    }
    for operation in ["ListTasks", "DescribeTasks"] {
        shop.double.fault(operation, "deny", json!({})).await;
        let fault = shop.ecs.look(&target(), Slot::First, None).await.unwrap_err();
        show(operation, &fault);
        assert!(fault.message.contains(&format!("not allowed: ecs:{operation} on ")), "{fault}");
    }
    let says = "User: arn:aws:sts::123456789012:assumed-role/tidegate/i-1 is not authorized to perform: iam:PassRole on \
                resource: arn:aws:iam::123456789012:role/ecsTaskRole because no identity-based policy allows the \
                iam:PassRole action";
    for (number, code) in ["AccessDeniedException", "ClientException"].into_iter().enumerate() {
        let refusal = json!({ "code": code, "message": says });
        shop.double.fault("RegisterTaskDefinition", "refuse", refusal).await;
        let fault = shop.ecs.deploy(&numbered(number)).await.unwrap_err();
        show("a role that may not be passed", &fault);
        let text = "not allowed: iam:PassRole on arn:aws:iam::123456789012:role/ecsTaskRole; add it to the role";
        assert!(fault.message.starts_with(text), "{fault}");
    }
}

#[tokio::test]
async fn what_may_pass_is_told_from_what_will_not() {
    let rows: [(&str, Value, FaultKind, &str); 9] = [
        (
            "throttle",
            json!({}),
            FaultKind::Transient,
            "AWS limits the calls of this account: ThrottlingException: Rate",
        ),
        (
            "server_error",
            json!({}),
            FaultKind::Transient,
            "ServerException: Service Unavailable. Please try again later.",
        ),
        ("expired", json!({}), FaultKind::Transient, "renew the AWS credentials of the daemon, or look at its clock"),
        (
            "unknown_key",
            json!({}),
            FaultKind::Permanent,
            "AWS does not know the credentials of the daemon: correct them",
        ),
        (
            "refuse",
            json!({ "code": "InvalidSignatureException",
                    "message": "Signature expired: 20260101T000000Z is now earlier than 20260101T010000Z" }),
            FaultKind::Transient,
            "look at its clock",
        ),
        (
            "refuse",
            json!({ "code": "InvalidSignatureException", "message": "The request signature does not match" }),
            FaultKind::Permanent,
            "correct them",
        ),
        (
            "refuse",
            json!({ "code": "ClientException", "message": "The service limit was reached" }),
            FaultKind::Permanent,
            "ClientException: The service limit was reached",
        ),
        (
            "refuse",
            json!({ "code": "ClientException",
                    "message": "Too many concurrent attempts to create a new revision of the specified family." }),
            FaultKind::Transient,
            "Too many concurrent attempts",
        ),
        ("lost", json!({}), FaultKind::Transient, "no answer: "),
    ];
    let Some(shop) = Shop::start().await else { return };
    for (row, (kind, more, expected, text)) in rows.into_iter().enumerate() {
        for (column, operation) in DEPLOYING.into_iter().enumerate() {
            let mut rule = more.clone();
            // As often as the SDK tries by itself; a registration is tried once.
            let once = operation == "RegisterTaskDefinition" || expected == FaultKind::Permanent;
            let tries = if once || kind == "refuse" { 1 } else { 3 };
            rule["times"] = json!(if kind == "expired" { 1 } else { tries });
            shop.double.fault(operation, kind, rule).await;
            let fault = shop.ecs.deploy(&numbered(row * DEPLOYING.len() + column)).await.unwrap_err();
            show(&format!("{kind} {operation}"), &fault);
            let is_lost_write = kind == "lost" && ["RegisterTaskDefinition", "UpdateService"].contains(&operation);
            let expected = if is_lost_write { FaultKind::Unknown } else { expected };
            assert_eq!(fault.kind, expected, "{kind} {operation}: {fault}");
            assert!(fault.message.contains(text), "{kind} {operation}: {fault}");
        }
    }
}

#[tokio::test]
async fn throttling_that_passes_is_not_noticed() {
    let Some(shop) = Shop::start().await else { return };
    for operation in ["DescribeServices", "DescribeTaskDefinition", "UpdateService"] {
        shop.double.fault(operation, "throttle", json!({ "times": 2 })).await;
    }
    assert_eq!(shop.deploy().await.instances, 3);
}

#[tokio::test]
async fn a_read_that_hangs_ends_after_five_seconds() {
    let Some(shop) = Shop::start().await else { return };
    shop.double.fault("DescribeServices", "hang", json!({})).await;
    let fault = deploy_fault(&shop).await;
    show("DescribeServices hangs", &fault);
    assert_eq!(fault.kind, FaultKind::Transient);
    assert!(fault.message.contains("no answer: "), "{fault}");
}

#[tokio::test]
async fn a_write_whose_answer_never_comes_is_looked_up() {
    let Some(shop) = Shop::start().await else { return };
    shop.double.fault("RegisterTaskDefinition", "slow_answer", json!({})).await;
    let fault = deploy_fault(&shop).await;
    show("RegisterTaskDefinition takes effect, and no answer comes", &fault);
    assert_eq!(fault.kind, FaultKind::Unknown);
    assert!(shop.deploy().await.what.ends_with("checkout-v2:2"), "the revision of the first call is found");
    assert_eq!(shop.revisions().await.len(), 2);
}

/// A policy that names what is not there.
#[tokio::test]
async fn wrong_names_are_corrected_in_the_policy() {
    let Some(shop) = Shop::start().await else { return };
    let services = |first: &str, second: &str| [first.to_owned(), second.to_owned()];
    let rows = [
        (
            EcsTarget { cluster: "staging".to_owned(), ..ecs_target() },
            "DescribeServices of checkout-b and checkout-a in cluster staging: no such cluster in this account and \
             region; correct `workload.ecs.cluster`: ClusterNotFoundException: Cluster not found.",
        ),
        (
            EcsTarget { services: services("checkout-a", "chekout-b"), ..ecs_target() },
            "there is no service chekout-b in cluster prod: create it, or correct `workload.ecs.services`",
        ),
        (
            EcsTarget { services: services("chekout-a", "checkout-b"), ..ecs_target() },
            "there is no service chekout-a in cluster prod to be as large as: create it, or correct \
             `workload.ecs.services`",
        ),
        (
            EcsTarget { container: "web".to_owned(), ..ecs_target() },
            "task definition checkout-v2:1: no container `web` (there are: app, envoy); correct `workload.ecs.container`",
        ),
    ];
    for (target, text) in rows {
        let wanted = Deployment { target: WorkloadTarget::Ecs(target), ..deployment() };
        let fault = shop.ecs.deploy(&wanted).await.unwrap_err();
        show("a wrong name", &fault);
        assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::Permanent, text));
    }
    assert_eq!(shop.revisions().await.len(), 1, "nothing was registered");
}

#[tokio::test]
async fn services_that_cannot_take_a_release_are_named() {
    for (more, text) in [
        (
            json!({ "deploymentController": { "type": "CODE_DEPLOY" } }),
            "service checkout-b in cluster prod has the deployment controller CODE_DEPLOY: Tidegate needs one of type ECS \
             (a rolling update)",
        ),
        (
            json!({ "schedulingStrategy": "DAEMON" }),
            "service checkout-b in cluster prod is a DAEMON service, which has no number of tasks: it has to be a \
             REPLICA one",
        ),
    ] {
        let Some(shop) = Shop::with(more).await else { return };
        let fault = deploy_fault(&shop).await;
        show("an unfit service", &fault);
        assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::Permanent, text));
    }
}

#[tokio::test]
async fn a_service_or_a_revision_that_was_deleted_is_named() {
    let Some(shop) = Shop::start().await else { return };
    let refusal = json!({ "code": "ClientException", "message": "Unable to describe task definition." });
    shop.double.fault("DescribeTaskDefinition", "refuse", refusal).await;
    let fault = deploy_fault(&shop).await;
    show("a task definition that was deleted", &fault);
    assert_eq!(
        fault.message,
        "DescribeTaskDefinition of arn:aws:ecs:us-east-1:123456789012:task-definition/checkout-v2:1: the task definition \
         does not exist: ClientException: Unable to describe task definition."
    );

    // Deregistered between the registration and the update.
    shop.double.fault("UpdateService", "throttle", json!({ "times": 3 })).await;
    deploy_fault(&shop).await;
    shop.double.ecs("DeregisterTaskDefinition", json!({ "taskDefinition": "checkout-v2:2" })).await;
    assert!(shop.deploy().await.what.ends_with("checkout-v2:3"), "one that is inactive is not taken");

    // The service goes away in the middle of a deployment.
    shop.double.ecs("DeleteService", json!({ "cluster": "prod", "service": "checkout-b", "force": true })).await;
    let fault = deploy_fault(&shop).await;
    show("a service that is being deleted", &fault);
    assert!(
        fault.message.ends_with("is DRAINING: it was deleted; create it, or correct `workload.ecs.services`")
            || fault.message.contains("is INACTIVE"),
        "{fault}"
    );
    let refusal = json!({ "code": "ServiceNotFoundException", "message": "Service not found." });
    shop.double.fault("UpdateService", "refuse", refusal).await;
    let fault = shop.ecs.retire(&target(), Slot::First).await.unwrap_err();
    show("a service that goes while it is retired", &fault);
    assert!(fault.message.contains("no such service; correct `workload.ecs.services`"), "{fault}");
}

#[tokio::test]
async fn without_credentials_or_a_connection_nothing_is_sent() {
    let Some(shop) = Shop::start().await else { return };
    #[derive(Debug)]
    struct Nobody;
    impl aws_sdk_ecs::config::ProvideCredentials for Nobody {
        fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let error =
                aws_credential_types::provider::error::CredentialsError::not_loaded("no key in the environment");
            aws_credential_types::provider::future::ProvideCredentials::ready(Err(error))
        }
    }
    let nobody = config(&shop.double.url).into_builder();
    let nobody = nobody.credentials_provider(SharedCredentialsProvider::new(Nobody)).build();
    let fault = Ecs::from_config(&nobody).deploy(&deployment()).await.unwrap_err();
    show("no credentials", &fault);
    assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
    assert!(fault.message.contains("no credentials for AWS"), "{fault}");
    let fault = Ecs::from_config(&config("http://127.0.0.1:1")).deploy(&deployment()).await.unwrap_err();
    show("nobody listens", &fault);
    assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
}
