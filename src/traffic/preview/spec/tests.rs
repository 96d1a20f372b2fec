//! Each kind of route, and what cannot be one.

use super::*;
use aws_sdk_appmesh::types::{
    Duration, DurationUnit, GrpcRouteAction, GrpcRouteMatch, HttpRetryPolicy, HttpRouteAction, HttpRouteMatch,
    HttpTimeout, TcpRoute, TcpRouteAction,
};

fn header() -> PreviewHeader {
    PreviewHeader { name: "X-Preview".into(), value: "1".into() }
}

fn target(node: &str, weight: i32) -> WeightedTarget {
    WeightedTarget::builder().virtual_node(node).weight(weight).port(8080).build().expect("complete")
}

fn both() -> Option<Vec<WeightedTarget>> {
    Some(vec![target("v1", 100), target("v2", 0)])
}

fn condition(name: &str, value: &str) -> HttpRouteHeader {
    let exact = HeaderMatchMethod::Exact(value.into());
    HttpRouteHeader::builder().name(name).r#match(exact).build().expect("complete")
}

fn http(targets: Option<Vec<WeightedTarget>>, headers: Option<Vec<HttpRouteHeader>>) -> HttpRoute {
    let second = Duration::builder().unit(DurationUnit::S).value(1).build();
    let retry = HttpRetryPolicy::builder().max_retries(2).per_retry_timeout(second.clone()).build();
    HttpRoute::builder()
        .action(HttpRouteAction::builder().set_weighted_targets(targets).build().expect("complete"))
        .r#match(HttpRouteMatch::builder().prefix("/pay").port(8080).set_headers(headers).build())
        .retry_policy(retry.expect("complete"))
        .timeout(HttpTimeout::builder().per_request(second).build())
        .build()
}

fn grpc(targets: Option<Vec<WeightedTarget>>, metadata: Option<Vec<GrpcRouteMetadata>>) -> GrpcRoute {
    GrpcRoute::builder()
        .action(GrpcRouteAction::builder().set_weighted_targets(targets).build().expect("complete"))
        .r#match(GrpcRouteMatch::builder().service_name("shop.Checkout").set_metadata(metadata).build())
        .build()
}

#[test]
fn it_is_the_route_with_a_condition_more_and_all_of_it_to_the_canary_tried_just_before_it() {
    let tenant = condition("x-tenant", "a");
    for (has, priority, takes) in [(None, None, 1000), (None, Some(1), 0), (Some(vec![tenant.clone()]), Some(700), 699)]
    {
        let all = has.clone().unwrap_or_default().into_iter().chain([condition("X-Preview", "1")]).collect();
        let expected = http(Some(vec![target("v1", 0), target("v2", 100)]), Some(all));
        let first = RouteSpec::builder().set_priority(priority).http_route(http(both(), has.clone())).build();
        let made = beside(&first, "v2", &header()).expect("fits");
        assert_eq!(made, RouteSpec::builder().priority(takes).http_route(expected.clone()).build());
        let second = RouteSpec::builder().set_priority(priority).http2_route(http(both(), has)).build();
        let made = beside(&second, "v2", &header()).expect("fits");
        assert_eq!(made, RouteSpec::builder().priority(takes).http2_route(expected).build());
        assert!(fits(&made, "v2", &header()));
    }
    let exact = GrpcRouteMetadataMatchMethod::Exact("1".into());
    let metadata = GrpcRouteMetadata::builder().name("X-Preview").r#match(exact).build().expect("complete");
    let made = beside(&RouteSpec::builder().grpc_route(grpc(both(), None)).build(), "v2", &header()).expect("fits");
    let expected = grpc(Some(vec![target("v1", 0), target("v2", 100)]), Some(vec![metadata]));
    assert_eq!(made, RouteSpec::builder().priority(1000).grpc_route(expected).build());
    assert!(fits(&made, "v2", &header()));
}

#[test]
fn what_can_have_none_says_why() {
    let spec = |http: HttpRoute| RouteSpec::builder().http_route(http).build();
    let full: Vec<HttpRouteHeader> = (0..10).map(|n| condition(&format!("x-{n}"), "a")).collect();
    let doubled = Some(vec![target("v1", 100), target("v2", 0), target("v2", 0)]);
    let tcp = TcpRouteAction::builder().set_weighted_targets(both()).build().expect("complete");
    for (route, expected) in [
        (RouteSpec::builder().priority(0).http_route(http(both(), None)).build(), Unfit::First),
        (spec(http(both(), Some(full))), Unfit::Full),
        (spec(http(Some(vec![target("v1", 100)]), None)), Unfit::NoTarget),
        (spec(http(doubled, None)), Unfit::NoTarget),
        (RouteSpec::builder().tcp_route(TcpRoute::builder().action(tcp).build()).build(), Unfit::Tcp),
        (RouteSpec::builder().build(), Unfit::Tcp),
    ] {
        assert_eq!(beside(&route, "v2", &header()), Err(expected));
        assert!(!expected.hint().is_empty());
    }
}

#[test]
fn a_route_that_leads_elsewhere_or_asks_for_something_else_does_not_fit() {
    let spec = |targets: Vec<WeightedTarget>, headers: Option<Vec<HttpRouteHeader>>| {
        RouteSpec::builder().http_route(http(Some(targets), headers)).build()
    };
    let asks = || Some(vec![condition("x-preview", "1")]);
    let inverted = HttpRouteHeader::builder().name("x-preview").invert(true);
    let inverted = inverted.r#match(HeaderMatchMethod::Exact("1".into())).build().expect("complete");
    let canary = || vec![target("v2", 100)];
    for (spec, expected) in [
        (spec(canary(), asks()), true),
        (spec(canary(), None), false),
        (spec(canary(), Some(vec![condition("x-preview", "0")])), false),
        (spec(canary(), Some(vec![condition("x-other", "1")])), false),
        (spec(canary(), Some(vec![inverted])), false),
        (spec(vec![target("v1", 100)], asks()), false),
        (spec(vec![target("v1", 50), target("v2", 50)], asks()), false),
        (spec(vec![target("v1", 0), target("v2", 1)], asks()), true),
        (spec(vec![target("v1", 0), target("v2", 0)], asks()), false),
        (RouteSpec::builder().build(), false),
    ] {
        assert_eq!(fits(&spec, "v2", &header()), expected, "{spec:?}");
    }
}
