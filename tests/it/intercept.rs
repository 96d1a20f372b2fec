//! Traffic that is redirected to a real Envoy, in network namespaces, by the rules that ECS makes of a task definition's
//! `proxyConfiguration`; and the rest of what the guide's task definition asks of that Envoy.

mod gateway;
mod rules;
mod server;
mod task;

use crate::program::until;
use serde_json::json;
use std::net::Ipv4Addr;
use task::{EGRESS, NOWHERE, OUTSIDE, Said, TASK, Task, by, filter, guide, mesh, native, weights};

#[tokio::test]
async fn the_guides_task_definition_runs_a_real_envoy_and_its_health_check_finds_it() {
    let Some(mut task) = Task::prepare().await else { return };
    assert!(!task.is_healthy().await, "nothing runs yet");
    task.start_envoy();
    // Without a control plane it waits, and the application beside it with it.
    until("Envoy's admin answers", async || task.task.get("http://127.0.0.1:9901/server_info").await).await;
    assert!(!task.is_healthy().await, "{}", task.admin("/server_info").await);
    task.start_control().await;
    task.apply(&mesh()).await;
    task.healthy().await;

    // The variables of the definition say which node it is, and the ports are those of its `proxyConfiguration`.
    let info = task.admin("/server_info").await;
    assert!(info.contains("\"mesh/my-mesh/virtualNode/user-service-v1\""), "{info}");
    let ports = [task.interception.ingress_port, task.interception.egress_port];
    assert_eq!(ports, [15000, EGRESS]);
    let listeners = task.admin("/listeners").await;
    for port in ports {
        assert!(listeners.contains(&format!("0.0.0.0:{port}")), "{listeners}");
    }
    for port in task.interception.app_ports.clone() {
        task.serve(Ipv4Addr::UNSPECIFIED, port, "application");
    }
    assert_eq!(task.client("http://user-service.local:8080/", TASK).await, by("application"));
}

#[tokio::test]
async fn what_comes_from_outside_to_the_application_goes_through_its_envoy() {
    let Some(mut task) = Task::start().await else { return };
    assert_eq!(task.client("http://user-service.local:8080/users/7", TASK).await, by("application"));
    let seen = task.server("application").one();
    assert!(seen.by_envoy() && seen.head.starts_with("get /users/7 "), "{seen:?}");
    assert_eq!(seen.peer, Ipv4Addr::LOCALHOST, "Envoy calls it over the loopback interface");
    assert_eq!(task.count("http.ingress.downstream_rq_2xx").await, 1);
    assert_eq!(task.count("cluster.cds_ingress_my-mesh_user-service-v1_http_8080.upstream_rq_total").await, 1);
    until("Envoy writes its access log", async || {
        task.access_log().contains("\"GET /users/7 HTTP/1.1\" 200").then_some(())
    })
    .await;

    // A port that is not among AppPorts is none of Envoy's business.
    task.serve(Ipv4Addr::UNSPECIFIED, 9100, "metrics");
    assert_eq!(task.client("http://user-service.local:9100/", TASK).await, by("metrics"));
    let seen = task.server("metrics").one();
    assert!(!seen.by_envoy() && seen.peer.to_string() == task::WORLD, "{seen:?}");
    // Nor is what stays in the task, whatever address it uses.
    for address in ["127.0.0.1", TASK] {
        assert_eq!(task.application("http://user-service.local:8080/", address).await, by("application"));
        assert!(!task.server("application").one().by_envoy());
    }
    assert_eq!(task.count("http.ingress.downstream_rq_total").await, 1);
    assert_eq!(task.packets("APPMESH_INGRESS").await, [1], "one connection was redirected");
}

#[tokio::test]
async fn what_the_application_sends_goes_by_the_routes_of_its_mesh() {
    let Some(task) = Task::start().await else { return };
    // By the name, wherever it leads: to nobody, or to the wrong one.
    for address in [NOWHERE, "10.99.0.13"] {
        assert_eq!(task.application("http://payments.local:8080/pay", address).await, by("payments-v1"));
        let seen = task.server("payments-v1").one();
        assert!(seen.by_envoy() && seen.peer.to_string() == TASK, "{seen:?}");
    }
    assert_eq!(task.application("http://orders.local:8080/", NOWHERE).await, by("orders"));
    // Connections that are no requests go by their port; whoever speaks first is waited for by nobody.
    assert_eq!(task.first_words(NOWHERE, 5432).await, "database");

    task.apply(&[weights(0, 100)]).await;
    until("the other version has everything", async || {
        (task.application("http://payments.local:8080/", NOWHERE).await == by("payments-v2")).then_some(())
    })
    .await;
    task.apply(&[weights(50, 50)]).await;
    until("the first one has a share again", async || {
        (task.application("http://payments.local:8080/", NOWHERE).await == by("payments-v1")).then_some(())
    })
    .await;
    let mut answered = Vec::new();
    for _ in 0..40 {
        answered.push(task.application("http://payments.local:8080/", NOWHERE).await);
    }
    // One of them alone is a coin that falls on the same side 40 times.
    for version in ["payments-v1", "payments-v2"] {
        assert!(answered.contains(&by(version)), "{answered:?}");
    }
    assert!(answered.iter().all(|said| [by("payments-v1"), by("payments-v2")].contains(said)), "{answered:?}");
    assert_eq!(task.count("cluster.cds_egress_my-mesh_orders-v1_http_8080.upstream_rq_total").await, 1);
}

#[tokio::test]
async fn envoys_own_traffic_and_ignored_addresses_are_not_redirected() {
    let Some(task) = Task::start().await else { return };
    // The same request: redirected for the application's user, and refused by the mesh; let through for Envoy's.
    let stranger = "http://stranger.local:8080/";
    assert_eq!(task.application(stranger, "10.99.0.11").await, Said::Answered(404, String::new()));
    assert_eq!(task.as_envoy(stranger, "10.99.0.11").await, by("payments-v1"));
    assert!(!task.server("payments-v1").one().by_envoy());
    // Its own requests leave once: a loop would be a second connection to its egress port.
    let before = task.count("listener.0.0.0.0_15001.downstream_cx_total").await;
    assert_eq!(task.application("http://payments.local:8080/", NOWHERE).await, by("payments-v1"));
    assert!(task.server("payments-v1").one().by_envoy());
    assert_eq!(task.count("listener.0.0.0.0_15001.downstream_cx_total").await, before + 1);

    for (name, address) in [("credentials", "169.254.170.2"), ("metadata", "169.254.169.254")] {
        assert_eq!(task.application(&format!("http://{address}/v2"), address).await, by(name));
        let seen = task.server(name).one();
        assert!(!seen.by_envoy() && seen.peer.to_string() == TASK, "{seen:?}");
    }
    assert_eq!(task.count("listener.0.0.0.0_15001.downstream_cx_total").await, before + 1);
    let [own, credentials, metadata, redirected] = task.packets("APPMESH_EGRESS").await[..] else {
        panic!("four rules")
    };
    assert!(own > 0 && credentials == 1 && metadata == 1, "{own} {credentials} {metadata}");
    assert_eq!(redirected, before + 1, "each connection of the application was redirected once");
}

#[tokio::test]
async fn the_egress_filter_decides_about_addresses_outside_of_the_mesh() {
    let Some(task) = Task::start().await else { return };
    let refused = Said::Answered(404, String::new());
    // On a port of the mesh by Host, on others by there being no listener for them.
    assert_eq!(task.application("http://outside.test:8080/", OUTSIDE).await, refused);
    assert_eq!(task.application("http://outside.test:9090/", OUTSIDE).await, Said::Nothing);
    assert_eq!(task.application("https://outside.test/", OUTSIDE).await, Said::Nothing);
    assert_eq!(task.first_words(OUTSIDE, 3306).await, "");
    // AWS itself is let through, by the name in the TLS handshake.
    assert_eq!(task.application("https://sqs.us-west-2.amazonaws.com/", OUTSIDE).await, by("outside-443"));

    task.apply(&[filter("ALLOW_ALL")]).await;
    until("the filter is open", async || {
        (task.application("http://outside.test:9090/", OUTSIDE).await == by("outside-9090")).then_some(())
    })
    .await;
    assert_eq!(task.application("http://outside.test:8080/", OUTSIDE).await, by("outside"));
    assert!(task.server("outside").one().by_envoy());
    assert_eq!(task.application("https://outside.test/", OUTSIDE).await, by("outside-443"));
    assert_eq!(task.first_words(OUTSIDE, 3306).await, "outside-3306");
    assert!(task.count("cluster.cds_egress_my-mesh_mesh-allow-all.upstream_cx_total").await >= 4);
    // What the mesh knows goes by its routes as before.
    assert_eq!(task.application("http://payments.local:8080/", OUTSIDE).await, by("payments-v1"));

    task.apply(&[filter("DROP_ALL")]).await;
    until("the filter is closed", async || {
        (task.application("http://outside.test:9090/", OUTSIDE).await == Said::Nothing).then_some(())
    })
    .await;
    assert_eq!(task.application("http://outside.test:8080/", OUTSIDE).await, refused);
}

#[tokio::test]
async fn the_egress_port_is_for_the_task_alone_whatever_the_filter() {
    let Some(task) = Task::start().await else { return };
    let direct = format!("http://payments.local:{EGRESS}/");
    assert_eq!(task.application(&direct, "127.0.0.1").await, by("payments-v1"));
    assert_eq!(task.client(&direct, TASK).await, Said::Nothing);
    task.apply(&[filter("ALLOW_ALL")]).await;
    until("the filter is open", async || {
        (task.application("http://outside.test:9090/", OUTSIDE).await == by("outside-9090")).then_some(())
    })
    .await;
    task.server("payments-v1").take();
    assert_eq!(task.client(&direct, TASK).await, Said::Nothing);
    assert_eq!(task.server("payments-v1").take().len(), 0, "a stranger called with this node's identity");
}

#[tokio::test]
async fn the_guides_task_definition_runs_the_native_proxy_in_the_place_of_envoy() {
    // Nothing but the container itself is another one.
    let (mut guide, native) = (guide(), native());
    guide["containerDefinitions"][1] = native["containerDefinitions"][1].clone();
    assert_eq!(guide, native);
    let Some(mut task) = Task::prepare_as(native).await else { return };
    task.start_native();
    task.start_control().await;
    assert!(!task.is_healthy().await, "it has no configuration yet");
    task.apply(&mesh()).await;
    task.healthy().await;
    for port in task.interception.app_ports.clone() {
        task.serve(Ipv4Addr::UNSPECIFIED, port, "application");
    }
    // In from the world.
    assert_eq!(task.client("http://user-service.local:8080/users/7", TASK).await, by("application"));
    let seen = task.server("application").one();
    assert!(seen.by_envoy() && seen.head.starts_with("get /users/7 "), "{seen:?}");
    assert_eq!(seen.peer, Ipv4Addr::LOCALHOST);
    // Out by name, wherever that leads, and by weight.
    for address in [NOWHERE, "10.99.0.13"] {
        assert_eq!(task.application("http://payments.local:8080/pay", address).await, by("payments-v1"));
        let seen = task.server("payments-v1").one();
        assert!(seen.by_envoy() && seen.peer.to_string() == TASK, "{seen:?}");
    }
    assert_eq!(task.application("http://orders.local:8080/", NOWHERE).await, by("orders"));
    assert_eq!(task.first_words(NOWHERE, 5432).await, "database");
    task.apply(&[weights(0, 100)]).await;
    until("the other version has everything", async || {
        (task.application("http://payments.local:8080/", NOWHERE).await == by("payments-v2")).then_some(())
    })
    .await;
    // What is ignored is not redirected, and its own traffic leaves once.
    for (name, address) in [("credentials", "169.254.170.2"), ("metadata", "169.254.169.254")] {
        assert_eq!(task.application(&format!("http://{address}/v2"), address).await, by(name));
        assert!(!task.server(name).one().by_envoy());
    }
    assert_eq!(task.as_envoy("http://stranger.local:8080/", "10.99.0.11").await, by("payments-v1"));
    // Nobody else may call with this node's identity.
    let direct = format!("http://payments.local:{EGRESS}/");
    assert_eq!(task.application(&direct, "127.0.0.1").await, by("payments-v2"));
    assert_eq!(task.client(&direct, TASK).await, Said::Nothing);
    // What is no part of the mesh is let out or not, and AWS's own names are.
    let refused = Said::Answered(404, String::new());
    assert_eq!(task.application("http://outside.test:8080/", OUTSIDE).await, refused);
    assert_eq!(task.application("http://outside.test:9090/", OUTSIDE).await, Said::Nothing);
    assert_eq!(task.first_words(OUTSIDE, 3306).await, "");
    assert_eq!(task.application("https://outside.test/", OUTSIDE).await, Said::Nothing);
    assert_eq!(task.application("https://sqs.us-west-2.amazonaws.com/", OUTSIDE).await, by("outside-443"));
    task.apply(&[filter("ALLOW_ALL")]).await;
    until("the filter is open", async || {
        (task.application("http://outside.test:9090/", OUTSIDE).await == by("outside-9090")).then_some(())
    })
    .await;
    assert_eq!(task.application("https://outside.test/", OUTSIDE).await, by("outside-443"));
    assert_eq!(task.first_words(OUTSIDE, 3306).await, "outside-3306");
    assert_eq!(task.application("http://payments.local:8080/", OUTSIDE).await, by("payments-v2"));
    // On a port of the mesh too, request by request.
    assert_eq!(task.application("http://outside.test:8080/x", OUTSIDE).await, by("outside"));
    let seen = task.server("outside").one();
    assert!(seen.by_envoy() && seen.head.contains("\r\nhost: outside.test:8080\r\n"), "{seen:?}");
    assert!(!seen.head.contains("x-envoy-expected-rq-timeout-ms"), "{seen:?}");
    assert_eq!(task.application("http://hidden.local:8080/", NOWHERE).await, Said::Answered(503, String::new()));
    // Nobody is judged by it.
    assert!(!task.admin("/tidegate/report").await.contains("stranger"));
}

#[tokio::test]
async fn a_transparent_proxy_makes_the_rules_itself_and_leaves_none_behind() {
    let Some(mut task) = Task::prepare_without_rules(native()).await else { return };
    task.start_control().await;
    task.apply(&mesh()).await;
    task.serve(Ipv4Addr::UNSPECIFIED, 8080, "application");
    let untouched = task.nat().await;
    assert_eq!(task.application("http://payments.local:8080/", NOWHERE).await, Said::Nothing, "nothing redirects");
    task.start_transparent().await;
    assert_eq!(task.application("http://payments.local:8080/", NOWHERE).await, by("payments-v1"));
    assert_eq!(task.client("http://user-service.local:8080/", TASK).await, by("application"));
    assert!(task.server("application").one().by_envoy());
    // The addresses of AWS's metadata, without being named.
    assert_eq!(task.application("http://169.254.170.2/v2", "169.254.170.2").await, by("credentials"));
    assert!(!task.server("credentials").one().by_envoy());

    // Another port of the node: the rules follow.
    let node = |port: u16| {
        let spec = json!({
            "listeners": [{ "portMapping": { "port": port, "protocol": "http" } }],
            "serviceDiscovery": { "dns": { "hostname": TASK } },
            "backends": [{ "virtualService": { "virtualServiceName": "payments.local" } }],
        });
        ("meshes/my-mesh/virtualNodes/user-service-v1".to_owned(), json!({ "spec": spec }))
    };
    task.apply(&[node(9100)]).await;
    task.serve(Ipv4Addr::UNSPECIFIED, 9100, "other");
    until("the other port is redirected", async || task.nat().await.contains("--dports 9100").then_some(())).await;
    assert_eq!(task.client("http://user-service.local:9100/", TASK).await, by("other"));
    assert!(task.server("other").one().by_envoy());
    task.server("application").take();
    assert_eq!(task.client("http://user-service.local:8080/", TASK).await, by("application"));
    assert!(!task.server("application").one().by_envoy(), "this one is no listener any more");

    // Killed, it leaves its rules to the next one, which takes them over and removes them in the end.
    task.stop_proxy(false).await;
    assert_eq!(task.application("http://payments.local:8080/", NOWHERE).await, Said::Nothing);
    assert!(task.nat().await.contains("TIDEGATE_EGRESS"));
    // It ran as another user, whose connections alone get through: the next one has to reach its control plane all the same.
    task.iptables("-R TIDEGATE_EGRESS 1 -m owner --uid-owner 4242 -j RETURN").await;
    task.start_transparent().await;
    assert!(!task.nat().await.contains("4242"), "{}", task.nat().await);
    assert_eq!(task.application("http://payments.local:8080/", NOWHERE).await, by("payments-v1"));
    assert_eq!(task.nat().await.matches("-j TIDEGATE_EGRESS").count(), 1);
    // Somebody else doubles a link, and takes the other one away.
    task.iptables("-A OUTPUT -p tcp -m addrtype ! --dst-type LOCAL -j TIDEGATE_EGRESS").await;
    task.iptables("-F PREROUTING").await;
    task.stop_proxy(true).await;
    assert_eq!(task.nat().await, untouched);
    // Asked twice to stop, it leaves nothing in force; chains that nothing leads to may stay.
    task.start_transparent().await;
    task.interrupt_proxy_twice().await;
    let left = task.nat().await;
    assert!(!left.contains("-j TIDEGATE_"), "{left}");
}
