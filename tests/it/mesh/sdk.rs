//! With the AWS SDK for Rust, the client that the controller itself uses.

use super::Running;
use aws_sdk_appmesh::Client;
use aws_sdk_appmesh::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_appmesh::error::ProvideErrorMetadata;
use aws_sdk_appmesh::types::builders::{RouteSpecBuilder, VirtualNodeSpecBuilder, VirtualRouterSpecBuilder};
use aws_sdk_appmesh::types::{
    DnsServiceDiscovery, HttpRoute, HttpRouteAction, HttpRouteMatch, Listener, PortMapping, PortProtocol, RouteSpec,
    ServiceDiscovery, TagRef, VirtualNodeSpec, VirtualRouterListener, VirtualRouterServiceProvider, VirtualRouterSpec,
    VirtualServiceProvider, VirtualServiceSpec, WeightedTarget,
};
use aws_smithy_http_client::tls;

fn client(running: &Running) -> Client {
    client_with(running, "AKIDEXAMPLE", "secret", "us-east-1")
}

/// One that signs with these.
pub(super) fn client_with(running: &Running, id: &str, secret: &str, region: &'static str) -> Client {
    client_at(&running.url(), id, secret, region)
}

/// The same for any endpoint.
pub(super) fn client_at(url: &str, id: &str, secret: &str, region: &'static str) -> Client {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let config = aws_sdk_appmesh::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .endpoint_url(url)
        .region(Region::new(region))
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .retry_config(aws_sdk_appmesh::config::retry::RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}

fn mapping(port: i32) -> PortMapping {
    PortMapping::builder().port(port).protocol(PortProtocol::Http).build().unwrap()
}

fn node(port: i32) -> VirtualNodeSpec {
    VirtualNodeSpecBuilder::default()
        .service_discovery(ServiceDiscovery::Dns(DnsServiceDiscovery::builder().hostname("127.0.0.1").build().unwrap()))
        .listeners(Listener::builder().port_mapping(mapping(port)).build())
        .build()
}

fn router() -> VirtualRouterSpec {
    VirtualRouterSpecBuilder::default()
        .listeners(VirtualRouterListener::builder().port_mapping(mapping(9000)).build())
        .build()
}

pub(super) fn route(targets: &[(&str, i32)]) -> RouteSpec {
    let targets = targets
        .iter()
        .map(|(node, weight)| WeightedTarget::builder().virtual_node(*node).weight(*weight).build().unwrap())
        .collect();
    RouteSpecBuilder::default()
        .http_route(
            HttpRoute::builder()
                .r#match(HttpRouteMatch::builder().prefix("/").build())
                .action(HttpRouteAction::builder().set_weighted_targets(Some(targets)).build().unwrap())
                .build(),
        )
        .build()
}

/// Creates what the example mesh holds.
pub(super) async fn create_all(client: &Client) {
    client.create_mesh().mesh_name("shop").send().await.unwrap();
    for (name, port) in [("v1", 9001), ("v2", 9002)] {
        client.create_virtual_node().mesh_name("shop").virtual_node_name(name).spec(node(port)).send().await.unwrap();
    }
    client.create_virtual_router().mesh_name("shop").virtual_router_name("r").spec(router()).send().await.unwrap();
    client
        .create_route()
        .mesh_name("shop")
        .virtual_router_name("r")
        .route_name("x")
        .spec(route(&[("v1", 100), ("v2", 0)]))
        .send()
        .await
        .unwrap();
    let provider = VirtualRouterServiceProvider::builder().virtual_router_name("r").build().unwrap();
    let spec = VirtualServiceSpec::builder().provider(VirtualServiceProvider::VirtualRouter(provider)).build();
    // A name with a slash and a space: it is one segment of the path, encoded.
    let name = "shop/checkout local";
    client.create_virtual_service().mesh_name("shop").virtual_service_name(name).spec(spec).send().await.unwrap();
}

#[tokio::test]
async fn the_sdk_creates_shifts_and_tears_down() {
    let running = Running::start().await;
    let client = client(&running);
    create_all(&client).await;

    let described = client.describe_route().mesh_name("shop").virtual_router_name("r").route_name("x");
    let route_data = described.clone().send().await.unwrap().route.unwrap();
    let metadata = route_data.metadata.unwrap();
    assert_eq!(metadata.arn, "arn:aws:appmesh:us-east-1:000000000000:mesh/shop/virtualRouter/r/route/x");
    assert_eq!(metadata.version, 1);
    assert_eq!(metadata.mesh_owner, "000000000000");
    assert_eq!(route_data.spec.unwrap(), route(&[("v1", 100), ("v2", 0)]));

    let update = client.update_route().mesh_name("shop").virtual_router_name("r").route_name("x");
    let updated = update.spec(route(&[("v1", 90), ("v2", 10)])).send().await.unwrap().route.unwrap();
    assert_eq!(updated.metadata.unwrap().version, 2);

    let service = client.describe_virtual_service().mesh_name("shop").virtual_service_name("shop/checkout local");
    assert_eq!(service.send().await.unwrap().virtual_service.unwrap().virtual_service_name, "shop/checkout local");
    let nodes = client.list_virtual_nodes().mesh_name("shop").limit(1).into_paginator().items().send();
    let nodes: Vec<_> = nodes.collect::<Result<Vec<_>, _>>().await.unwrap();
    assert_eq!(nodes.iter().map(|node| node.virtual_node_name.as_str()).collect::<Vec<_>>(), ["v1", "v2"]);

    tear_down(&client).await;
    assert!(running.store.rows().is_empty(), "{:?}", running.store.rows());
}

pub(super) async fn tear_down(client: &Client) {
    let refused = client.delete_mesh().mesh_name("shop").send().await.unwrap_err();
    assert_eq!(refused.code(), Some("ResourceInUseException"));
    let name = "shop/checkout local";
    client.delete_virtual_service().mesh_name("shop").virtual_service_name(name).send().await.unwrap();
    client.delete_route().mesh_name("shop").virtual_router_name("r").route_name("x").send().await.unwrap();
    client.delete_virtual_router().mesh_name("shop").virtual_router_name("r").send().await.unwrap();
    for name in ["v1", "v2"] {
        client.delete_virtual_node().mesh_name("shop").virtual_node_name(name).send().await.unwrap();
    }
    let gone = client.delete_mesh().mesh_name("shop").send().await.unwrap().mesh.unwrap();
    assert_eq!(gone.status.unwrap().status.unwrap().as_str(), "DELETED");
    assert_eq!(gone.metadata.unwrap().version, 1);
}

#[tokio::test]
async fn the_sdk_reads_our_errors() {
    let running = Running::start().await;
    let client = client(&running);
    create_all(&client).await;

    let missing = client.describe_virtual_node().mesh_name("shop").virtual_node_name("v9").send().await.unwrap_err();
    let missing = missing.into_service_error();
    assert!(missing.is_not_found_exception());
    let message = "VirtualNode with name v9 is not present under mesh shop for account 000000000000";
    assert_eq!(missing.message(), Some(message));

    let update = client.update_route().mesh_name("shop").virtual_router_name("r").route_name("x");
    let wrong = update.spec(route(&[("v1", 90), ("v1", 101)])).send().await.unwrap_err().into_service_error();
    assert!(wrong.is_bad_request_exception());
    let text = wrong.message().unwrap();
    assert!(text.contains("spec.httpRoute.action.weightedTargets[1].weight: "), "{text}");

    let again = client.create_mesh().mesh_name("shop").send().await.unwrap_err().into_service_error();
    assert!(again.is_conflict_exception());
    let dangling = client.create_route().mesh_name("shop").virtual_router_name("r").route_name("y");
    let dangling = dangling.spec(route(&[("v9", 1)])).send().await.unwrap_err().into_service_error();
    assert!(dangling.is_not_found_exception());
    assert_eq!(dangling.message(), Some(message));
}

#[tokio::test]
async fn the_sdk_tags() {
    let running = Running::start().await;
    let client = client(&running);
    let mesh = client.create_mesh().mesh_name("shop").send().await.unwrap().mesh.unwrap();
    let arn = mesh.metadata.unwrap().arn;
    for (key, value) in [("team", "payments"), ("stage", "test"), ("team", "checkout")] {
        let tag = TagRef::builder().key(key).value(value).build().unwrap();
        client.tag_resource().resource_arn(&arn).tags(tag).send().await.unwrap();
    }
    client.untag_resource().resource_arn(&arn).tag_keys("stage").send().await.unwrap();
    let tags = client.list_tags_for_resource().resource_arn(&arn).send().await.unwrap().tags;
    assert_eq!(tags.len(), 1);
    assert_eq!((tags[0].key(), tags[0].value()), ("team", "checkout"));
    let missing = client.list_tags_for_resource().resource_arn(format!("{arn}-x")).send().await.unwrap_err();
    assert!(missing.into_service_error().is_not_found_exception());
}
