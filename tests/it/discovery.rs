//! Endpoints from AWS Cloud Map through the real SDK: against moto, which others wrote, and against a server that answers
//! what a row says.

use crate::ecs::config;
use crate::ecs::moto::moto;
use crate::mesh::cli::{aws, run_service};
use crate::program::until;
use crate::signals::server::{Reply, Server};
use aws_sdk_servicediscovery::Client;
use aws_sdk_servicediscovery::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_servicediscovery::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_servicediscovery::error::BoxError;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tidegate::aws::{CALL_TIMEOUT, retries, timeouts};
use tidegate::base::fault::{Fault, FaultKind};
use tidegate::clock::Monotonic;
use tidegate::discovery::cloudmap::CloudMapSource;
use tidegate::discovery::everywhere::Everywhere;
use tidegate::mesh::snapshot::{Discovery, IpPreference};
use tidegate::ports::EndpointSource;

/// The SDK puts `data-` before the host of this one call, whatever the endpoint; no such name leads to this machine.
#[derive(Debug)]
struct NoPrefix;

impl Intercept for NoPrefix {
    fn name(&self) -> &'static str {
        "NoPrefix"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let uri = request.uri().replacen("http://data-", "http://", 1);
        request.set_uri(uri)?;
        Ok(())
    }
}

fn source(url: &str) -> CloudMapSource {
    let builder = aws_sdk_servicediscovery::config::Builder::from(&config(url));
    let builder = builder.behavior_version(aws_sdk_servicediscovery::config::BehaviorVersion::latest());
    let builder = builder.http_client(tidegate::aws::https()).timeout_config(timeouts()).retry_config(retries());
    CloudMapSource::new(Client::from_conf(builder.interceptor(NoPrefix).build()))
}

fn discovery(service: &str, attributes: &[(&str, &str)]) -> Discovery {
    let attributes: BTreeMap<String, String> =
        attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Discovery::in_cloud_map("shop.local", service, attributes)
}

async fn ask(source: &dyn EndpointSource, service: &str, attributes: &[(&str, &str)]) -> Result<Vec<String>, Fault> {
    let found: Vec<SocketAddr> = source.resolve(&discovery(service, attributes), 8080).await?;
    Ok(found.iter().map(ToString::to_string).collect())
}

/// Shows what a person reads (with `--no-capture`), and compares.
#[expect(clippy::print_stdout, reason = "what a user reads: shown with --no-capture")]
fn expect_fault(what: &str, answer: Result<Vec<String>, Fault>, kind: FaultKind, text: &str) {
    let fault = answer.map_or_else(|fault| fault, |found| panic!("{what}: {found:?}"));
    println!("{what}\n    {fault}");
    assert_eq!(fault.kind, kind, "{what}: {fault}");
    assert!(fault.message.contains(text), "{what}: {fault}");
}

#[tokio::test]
async fn instances_of_a_service_are_found_by_all_attributes_and_by_their_health() {
    let Some(aws) = aws().await else { return };
    let Some((_moto, url)) = moto().await else { return };
    let cli = async |operation: &str, input: Value| {
        run_service(&aws, &url, "servicediscovery", &[operation, "--cli-input-json", &input.to_string()]).await.unwrap()
    };
    cli("create-http-namespace", json!({ "Name": "shop.local" })).await;
    let namespace = until("there is a namespace", async || {
        cli("list-namespaces", json!({})).await["Namespaces"][0]["Id"].as_str().map(str::to_owned)
    })
    .await;
    let create =
        json!({ "Name": "checkout", "NamespaceId": namespace, "HealthCheckCustomConfig": { "FailureThreshold": 1 } });
    let service = cli("create-service", create).await["Service"]["Id"].clone();
    for (id, attributes) in [
        ("a", json!({ "AWS_INSTANCE_IPV4": "10.0.0.2", "AWS_INSTANCE_PORT": "9001", "color": "blue", "zone": "1" })),
        ("b", json!({ "AWS_INSTANCE_IPV4": "10.0.0.1", "color": "blue", "zone": "2" })),
        ("c", json!({ "AWS_INSTANCE_IPV6": "fd00::1", "color": "green" })),
    ] {
        cli("register-instance", json!({ "ServiceId": service, "InstanceId": id, "Attributes": attributes })).await;
    }
    let source = Everywhere::new(source(&url));
    for (attributes, found) in [
        (&[][..], &["10.0.0.1:8080", "10.0.0.2:9001", "[fd00::1]:8080"][..]),
        (&[("color", "blue")], &["10.0.0.1:8080", "10.0.0.2:9001"]),
        (&[("color", "blue"), ("zone", "1")], &["10.0.0.2:9001"]),
        (&[("color", "green"), ("zone", "1")], &[]),
    ] {
        assert_eq!(ask(&source, "checkout", attributes).await.unwrap(), found, "{attributes:?}");
    }
    let says = async |id: &str, status: &str| {
        let input = json!({ "ServiceId": service, "InstanceId": id, "Status": status });
        run_service(
            &aws,
            &url,
            "servicediscovery",
            &["update-instance-custom-health-status", "--cli-input-json", &input.to_string()],
        )
        .await
    };
    says("a", "UNHEALTHY").await.unwrap();
    assert_eq!(ask(&source, "checkout", &[]).await.unwrap(), ["10.0.0.1:8080", "[fd00::1]:8080"]);
    expect_fault("no service", ask(&source, "basket", &[]).await, FaultKind::Permanent, "there is no such service");
    // An instance with both families, and each preference.
    let both = json!({ "AWS_INSTANCE_IPV4": "10.0.0.3", "AWS_INSTANCE_IPV6": "fd00::3", "color": "red" });
    cli("register-instance", json!({ "ServiceId": service, "InstanceId": "d", "Attributes": both })).await;
    for (preference, color, found) in [
        (IpPreference::Unset, "red", &["10.0.0.3:8080"][..]),
        (IpPreference::V4Only, "red", &["10.0.0.3:8080"]),
        (IpPreference::V6Preferred, "red", &["[fd00::3]:8080"]),
        (IpPreference::V6Only, "red", &["[fd00::3]:8080"]),
        (IpPreference::V4Preferred, "green", &["[fd00::1]:8080"]),
    ] {
        let mut place = discovery("checkout", &[("color", color)]);
        if let Discovery::CloudMap { preference: of_place, .. } = &mut place {
            *of_place = preference;
        }
        let addresses: Vec<String> =
            source.resolve(&place, 8080).await.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(addresses, found, "{preference:?}");
    }
    let named = source.resolve(&Discovery::by_name("127.0.0.1", false), 80).await.unwrap();
    assert_eq!(named, ["127.0.0.1:80".parse().unwrap()], "names are no matter of Cloud Map");
}

#[tokio::test]
async fn odd_answers_are_told_and_never_taken_for_no_instances() {
    let server = Server::start(Reply::Body(200, json!({ "Instances": [] }).to_string())).await;
    let at = || source(&server.url);
    assert_eq!(ask(&at(), "checkout", &[]).await.unwrap(), [""; 0], "none is an answer");
    let asked = server.asked().remove(0);
    assert!(asked.contains("Route53AutoNaming_v20170314.DiscoverInstances"), "{asked}");
    let body: Value = serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap();
    let wanted = json!({ "NamespaceName": "shop.local", "ServiceName": "checkout", "MaxResults": 1000,
                         "HealthStatus": "HEALTHY_OR_ELSE_ALL" });
    assert_eq!(body, wanted);

    let instances = |list: Value| Reply::Body(200, json!({ "Instances": list }).to_string());
    server.reply(instances(json!([
        { "InstanceId": "good", "Attributes": { "AWS_INSTANCE_IPV4": "10.0.0.1" } },
        { "InstanceId": "again", "Attributes": { "AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INSTANCE_PORT": "8080" } },
        { "InstanceId": "named", "Attributes": { "AWS_INSTANCE_CNAME": "checkout.example" } },
        { "InstanceId": "bare" },
    ])));
    assert_eq!(ask(&at(), "checkout", &[]).await.unwrap(), ["10.0.0.1:8080"], "what can be used is used");
    server.reply(instances(json!([{ "InstanceId": "named", "Attributes": { "AWS_INSTANCE_CNAME": "a.example" } }])));
    let unusable = "none of 1 instances can be used; correct how they are registered: named: it has no";
    expect_fault("no address", ask(&at(), "checkout", &[]).await, FaultKind::Permanent, unusable);

    let refusal = |code: &str| Reply::Body(400, json!({ "__type": code, "message": "said so" }).to_string());
    let transient = FaultKind::Transient;
    for (what, reply, kind, text) in [
        ("throttled", refusal("RequestLimitExceeded"), transient, "AWS limits the calls of this account"),
        ("429", Reply::Body(429, String::new()), FaultKind::Permanent, "answered with status 429"),
        ("no namespace", refusal("NamespaceNotFound"), FaultKind::Permanent, "no such namespace"),
        ("denied", refusal("AccessDeniedException"), FaultKind::Permanent, "servicediscovery:DiscoverInstances"),
        ("server error", Reply::Body(500, "{}".to_owned()), transient, "DiscoverInstances of checkout.shop.local"),
        ("no JSON", Reply::Body(200, "<html>".to_owned()), transient, "not as AWS does"),
        (
            "half an answer",
            Reply::Raw("HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\n{\"Inst"),
            transient,
            "checkout.shop.local",
        ),
        ("hung up", Reply::Raw(""), transient, "checkout.shop.local"),
    ] {
        server.reply(reply);
        expect_fault(what, ask(&at(), "checkout", &[]).await, kind, text);
    }
}

#[tokio::test]
async fn a_silent_cloud_map_is_given_up_in_time_and_left_alone_for_a_while() {
    let server = Server::start(Reply::Nothing).await;
    let source = source(&server.url);
    let began = Monotonic::now();
    expect_fault("silent", ask(&source, "checkout", &[]).await, FaultKind::Transient, "no answer");
    assert!(began.elapsed() < CALL_TIMEOUT + Duration::from_secs(10), "{:?}", began.elapsed());
    let asked = server.asked().len();
    expect_fault("paused", ask(&source, "checkout", &[]).await, FaultKind::Transient, "no answer");
    assert_eq!(server.asked().len(), asked, "it is left alone");
    // Another service is asked at once, and this one again after a second at most.
    server.reply(Reply::Body(200, json!({ "Instances": [] }).to_string()));
    assert!(ask(&source, "basket", &[]).await.unwrap().is_empty());
    until("it is asked again", async || ask(&source, "checkout", &[]).await.ok()).await;
}
