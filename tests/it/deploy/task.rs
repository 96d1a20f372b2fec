//! What the modules would have ECS start, against the program that is started and the pages that describe it.

use super::evaluate::Evaluated;
use super::reads::{PASSWORD, SECRET, understood, verb};
use super::terraform::{Module, arguments_of, attribute, object_type};
use crate::shell::root;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tidegate::base::access_key::Right;
use tidegate::cli::args::Verb;
use tidegate::config::daemon::DatabaseConfig;
use tidegate::config::{API_PORT, APPMESH_PORT, XDS_PORT};

const TASK: [&str; 2] = ["aws_ecs_task_definition", "this"];

/// What a module needs besides what a test is about.
fn given(more: &Value) -> BTreeMap<String, hcl::Value> {
    let mut all = json!({
        "image": "tidegate:1", "image_repository_arns": [], "cluster_arn": "cluster/prod", "vpc_id": "vpc", "subnet_ids": [],
        "load_balancer_subnet_ids": [], "database_subnet_ids": [], "client_cidr_blocks": [], "certificate_arn": "certificate",
        "workloads": {}, "public_url": "https://tidegate.example.com",
        "mesh": { "endpoint_url": "http://mesh.internal:7071", "signing": "none", "proxies": ["http://a:9901", "http://b:9901"] },
    });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all.as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), serde_json::from_value(value.clone()).unwrap()))
        .collect()
}

/// The containers of a task definition by their names.
fn containers(text: &Value) -> BTreeMap<String, Value> {
    let all: Vec<Value> = serde_json::from_str(text.as_str().unwrap()).unwrap();
    all.into_iter().map(|container| (container["name"].as_str().unwrap().to_owned(), container)).collect()
}

/// A list of `{ name, value }` or `{ name, valueFrom }` as pairs.
fn pairs(list: &Value) -> BTreeMap<String, String> {
    let entries = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let value = |entry: &Value| text(entry.get("value").unwrap_or_else(|| &entry["valueFrom"]));
    entries.iter().map(|entry| (text(&entry["name"]), value(entry))).collect()
}

/// A list of plain texts.
fn words(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_daemon_understands_everything_that_the_module_gives_it() {
    let more = json!({
        "hook_secret_arns": { "generic": "arn-of-generic", "ecr": "arn-of-ecr" },
        "queue": { "url": "https://sqs.eu-central-1.amazonaws.com/123456789012/tidegate", "arn": "arn-of-queue" },
    });
    let module = Evaluated::new(Module::named("controller"), given(&more));
    let all = containers(&module.argument(TASK, &["container_definitions"], &[]));
    let daemon = &all["tidegate"];
    assert!(matches!(verb(&words(&daemon["command"])), Verb::Serve(_)));
    assert_eq!(daemon["readonlyRootFilesystem"], true);

    let mut variables = pairs(&daemon["environment"]);
    let secrets = pairs(&daemon["secrets"]);
    assert_eq!(secrets[PASSWORD], "aws_secretsmanager_secret.database.arn");
    assert_eq!(secrets["TIDEGATE_HOOK_SECRET_ECR"], "arn-of-ecr");
    variables.extend(secrets.keys().map(|name| (name.clone(), SECRET.to_owned())));
    // The values are those that the daemon runs by, not only words that it knows.
    let config = understood(variables);
    assert!(config.api.needs_token && config.api.listen.ip().is_unspecified());
    assert_eq!(config.api.listen.port(), API_PORT);
    assert_eq!(daemon["portMappings"], json!([{ "containerPort": API_PORT, "protocol": "tcp" }]));
    assert_eq!(config.api.advertise_url.unwrap(), format!("http://{{host}}:{API_PORT}"));
    let DatabaseConfig::Postgres(url) = config.database else { panic!("no database") };
    let url = url.reveal();
    assert!(url.contains("@aws_db_instance.this.address:5432/") && url.contains("sslmode=verify-full"), "{url}");
    assert!(!url.contains("tidegate:"), "{url} has a password");
    assert_eq!(config.hooks.keys().collect::<Vec<_>>(), ["ecr", "generic"]);
    assert_eq!(config.proxies, ["http://a:9901", "http://b:9901"]);
    assert!(config.queue.is_some() && !config.mesh.signed);
}

#[test]
fn a_mesh_of_the_daemons_own_is_where_clients_and_envoys_are_led() {
    let more = json!({
        "mesh": { "proxies": [] },
        "host_mesh": {
            "certificate_arn": "certificate", "client_security_group_ids": { "callers": "group" }, "secret_version": 1,
            "keys": {
                "ci": { "id": "AKIDCI", "allow": "write", "mesh": null },
                "proxies": { "id": "AKIDPROXIES", "allow": "read", "mesh": "shop" },
            },
        },
    });
    let module = Evaluated::new(Module::named("controller"), given(&more));
    let daemon = containers(&module.argument(TASK, &["container_definitions"], &[])).remove("tidegate").unwrap();
    let mut variables = pairs(&daemon["environment"]);
    assert_eq!(variables["TIDEGATE_MESH_REGION"], "aws_region.this.region");
    // What only an account knows.
    variables.insert("TIDEGATE_MESH_ACCOUNT".to_owned(), "123456789012".to_owned());
    let secrets = pairs(&daemon["secrets"]);
    assert_eq!(secrets["TIDEGATE_MESH_KEY_SECRET_CI"], "aws_secretsmanager_secret.mesh_key.arn");
    variables.extend(secrets.keys().map(|name| (name.clone(), SECRET.to_owned())));
    let host = understood(variables).mesh.host.expect("a mesh of its own");
    let keys = host.keys.expect("it asks for signatures");
    let keys: Vec<_> = keys.iter().map(|key| (key.id.as_str(), key.right, key.mesh.as_deref())).collect();
    assert_eq!(keys, [("AKIDCI", Right::Write, None), ("AKIDPROXIES", Right::Read, Some("shop"))]);
    // The daemon listens where the task lets in what the load balancer sends on, and it listens there itself.
    let port = |container_port: u16| json!({ "containerPort": container_port, "protocol": "tcp" });
    assert_eq!(daemon["portMappings"], json!([port(API_PORT), port(APPMESH_PORT), port(XDS_PORT)]));
    for (key, listens) in [("api", host.listen), ("xds", host.xds_listen)] {
        assert!(listens.ip().is_unspecified());
        let each = [("each", hcl::value!({ "key" = key, "value" = (listens.port()) }))];
        for resource in ["aws_lb_target_group", "aws_lb_listener"] {
            assert_eq!(module.argument([resource, "mesh"], &["port"], &each), listens.port(), "{resource}");
        }
        for rule in [
            ["aws_vpc_security_group_egress_rule", "mesh_to_daemon"],
            ["aws_vpc_security_group_ingress_rule", "from_mesh_load_balancer"],
        ] {
            assert_eq!(module.argument(rule, &["to_port"], &each), listens.port(), "{rule:?}");
        }
        // Envoy's gRPC needs HTTP/2 to be agreed on.
        let protocol = if key == "xds" { "HTTP2Only" } else { "HTTP1Only" };
        assert_eq!(module.argument(["aws_lb_listener", "mesh"], &["alpn_policy"], &each), protocol);
    }
}

/// `tidegate local` beside the daemon has a network with it: what it is not told to move listens at its defaults.
#[test]
fn the_containers_of_one_task_listen_at_different_ports() {
    let text = std::fs::read_to_string(root().join("examples/aws/task-definition.json")).unwrap();
    let page: Value = serde_json::from_str(&text).unwrap();
    let containers = containers(&json!(page["containerDefinitions"].to_string()));
    let Verb::Local(local) = verb(&words(&containers["mesh"]["command"])) else { panic!("not `local`") };
    let local = local.listen;
    let listens = [local.api, local.appmesh, local.xds, local.egress, local.admin].map(|address| address.port());
    let variables = pairs(&containers["tidegate"]["environment"]);
    let address: std::net::SocketAddr = variables["TIDEGATE_API_LISTEN"].parse().unwrap();
    let ports = listens.into_iter().chain([address.port()]);
    // Of the third container.
    let ports: Vec<u64> =
        ports.map(u64::from).chain(containers["front"]["portMappings"][0]["containerPort"].as_u64()).collect();
    let different: std::collections::BTreeSet<&u64> = ports.iter().collect();
    assert_eq!(different.len(), ports.len(), "{ports:?}");
    // And the daemon looks for the mesh where it is.
    assert_eq!(variables["TIDEGATE_MESH_ENDPOINT_URL"], format!("http://{}", local.appmesh));
    assert_eq!(variables["TIDEGATE_TELEMETRY_PROXIES"], format!("http://{}", local.admin));
}

/// Members that the page leaves out, or has otherwise: names of logs, and where the database's password comes from.
const ASIDE: &[&str] = &["logConfiguration", "readonlyRootFilesystem", "environment", "secrets", "command"];

#[test]
fn the_example_with_one_task_is_the_one_of_the_page() {
    let text = std::fs::read_to_string(root().join("examples/aws/task-definition.json")).unwrap();
    let page: Value = serde_json::from_str(&text).unwrap();
    let image = |name: &str| format!("ACCOUNT.dkr.ecr.REGION.amazonaws.com/{name}:1");
    let more = json!({ "tidegate_image": image("tidegate"), "front_image": image("front"), "private_subnet_ids": [] });
    let example = Evaluated::new(Module::read(&root().join("deploy/terraform/examples/one-task")), given(&more));
    let module = example.call("controller", Module::named("controller"));
    let of = |name: &str| module.argument(TASK, &[name], &[]);
    assert_eq!(of("requires_compatibilities"), page["requiresCompatibilities"]);
    assert_eq!((of("cpu").to_string(), of("memory").to_string()), ("512".to_owned(), "1024".to_owned()));
    assert_eq!((&page["cpu"], &page["memory"]), (&json!("512"), &json!("1024")));

    let ours = containers(&of("container_definitions"));
    let theirs = containers(&json!(page["containerDefinitions"].to_string()));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (name, theirs) in &theirs {
        let ours = &ours[name];
        let rest = |container: &Value| {
            let members = container.as_object().unwrap().iter().filter(|(member, _)| !ASIDE.contains(&member.as_str()));
            members.map(|(member, value)| (member.clone(), value.clone())).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(rest(ours), rest(theirs), "{name}");
        let ours = pairs(&ours["environment"]);
        let missing: Vec<String> =
            pairs(&theirs["environment"]).into_keys().filter(|name| !ours.contains_key(name)).collect();
        assert_eq!(missing, Vec::<String>::new(), "{name}");
    }
    assert_eq!(ours["mesh"]["command"], theirs["mesh"]["command"]);
    assert!(matches!(verb(&words(&ours["mesh"]["command"])), Verb::Local(_)));
}

#[test]
fn a_slot_with_a_sidecar_is_the_task_definition_of_app_mesh() {
    let text = std::fs::read_to_string(root().join("tests/golden/guide-task-definition.json")).unwrap();
    let guide: Value = serde_json::from_str(&text).unwrap();
    let more = json!({
        "name": "user-service", "slots": { "a": "user-service-v1", "b": "user-service-v2" }, "mesh_name": "my-mesh",
        "sidecar": { "image": "envoy:1", "xds_endpoint": "tidegate.internal:7072" }, "namespace_id": "namespace",
        "caller_security_group_ids": {},
    });
    let module = Evaluated::new(Module::named("service"), given(&more));
    let slot = ["aws_ecs_task_definition", "slot"];
    let each = [("each", hcl::value!({ "key" = "a", "value" = "user-service-v1" }))];
    let ours = containers(&module.argument(slot, &["container_definitions"], &each));
    let theirs = containers(&json!(guide["containerDefinitions"].to_string()));
    let (app, envoy) = (&ours["app"], &ours["envoy"]);
    for member in ["portMappings", "dependsOn", "environment"] {
        assert_eq!(app[member], theirs["user-service"][member], "{member}");
    }
    for member in ["user", "healthCheck"] {
        assert_eq!(envoy[member], theirs["envoy"][member], "{member}");
    }
    let variables = pairs(&envoy["environment"]);
    assert_eq!(variables["APPMESH_XDS_ENDPOINT"], "tidegate.internal:7072");
    assert!(pairs(&theirs["envoy"]["environment"]).into_iter().all(|(name, value)| variables[&name] == value));

    let proxy = |name: &str| module.argument(slot, &["proxy_configuration", "content", name], &each);
    let properties = &guide["proxyConfiguration"]["properties"];
    let properties: Value = pairs(properties).into_iter().map(|(name, value)| (name, Value::from(value))).collect();
    assert_eq!(proxy("properties"), properties);
    assert_eq!(proxy("type"), guide["proxyConfiguration"]["type"]);
    assert_eq!(proxy("container_name"), guide["proxyConfiguration"]["containerName"]);
}

#[test]
fn the_counts_of_a_sidecar_go_to_the_agent_and_to_the_dashboard_of_the_page() {
    let more = json!({
        "name": "checkout", "slots": { "a": "checkout-v1", "b": "checkout-v2" }, "mesh_name": "store",
        "sidecar": { "image": "envoy:1", "xds_endpoint": "tidegate.internal:7072", "metrics": "cloudwatch-agent:1" },
        "namespace_id": "namespace", "caller_security_group_ids": {},
    });
    let module = Evaluated::new(Module::named("service"), given(&more));
    let each = [("each", hcl::value!({ "key" = "a", "value" = "checkout-v1" }))];
    let all = containers(&module.argument(["aws_ecs_task_definition", "slot"], &["container_definitions"], &each));
    let variables = pairs(&all["envoy"]["environment"]);
    assert_eq!((&*variables["ENABLE_ENVOY_STATS_TAGS"], &*variables["ENABLE_ENVOY_DOG_STATSD"]), ("1", "1"));
    let agent = &all["cloudwatch-agent"];
    assert_eq!((&agent["image"], &agent["essential"]), (&json!("cloudwatch-agent:1"), &json!(false)));
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let file = |name: &str| std::fs::read_to_string(root().join("deploy/cloudwatch").join(name)).unwrap();
    assert_eq!(parsed(&pairs(&agent["environment"])["CW_CONFIG_CONTENT"]), parsed(&file("agent.json")));
    let body = module.argument(["aws_cloudwatch_dashboard", "mesh"], &["dashboard_body"], &[]);
    let mut wanted = parsed(&file("dashboard.json").replace("REGION", "aws_region.this.region"));
    wanted["variables"][0]["defaultValue"] = json!("store");
    assert_eq!(parsed(body.as_str().unwrap()), wanted);
}

#[test]
fn a_slot_without_a_sidecar_waits_for_none() {
    let more = json!({
        "name": "checkout", "slots": { "a": "checkout-v1", "b": "checkout-v2" }, "mesh_name": "shop",
        "namespace_id": "namespace", "caller_security_group_ids": {},
    });
    let module = Evaluated::new(Module::named("service"), given(&more));
    let count = |slot: &str| {
        let each = [("each", hcl::value!({ "key" = (slot) }))];
        let all = containers(&module.argument(["aws_ecs_task_definition", "slot"], &["container_definitions"], &each));
        assert_eq!(all.keys().collect::<Vec<_>>(), ["app"]);
        assert_eq!(all["app"].get("dependsOn"), None);
        module.argument(["aws_ecs_service", "slot"], &["desired_count"], &each)
    };
    // The route begins with all its weight at the first slot, and an idle one has no tasks.
    assert_eq!((count("a"), count("b")), (json!(2), json!(0)));
}

#[test]
fn a_gateway_is_envoy_by_itself_behind_a_load_balancer() {
    let text = std::fs::read_to_string(root().join("tests/golden/guide-task-definition.json")).unwrap();
    let guide: Value = serde_json::from_str(&text).unwrap();
    let theirs = containers(&json!(guide["containerDefinitions"].to_string()));
    let of = |more: &Value| {
        let mut all = json!({
            "name": "user-gateway", "mesh_name": "my-mesh", "virtual_gateway": "ingress", "port": 8088,
            "xds_endpoint": "tidegate.internal:7072",
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Evaluated::new(Module::named("gateway"), given(&all))
    };
    let module = of(&json!({}));
    let all = containers(&module.argument(TASK, &["container_definitions"], &[]));
    assert_eq!(all.keys().collect::<Vec<_>>(), ["envoy"]);
    let envoy = &all["envoy"];
    assert_eq!(envoy["healthCheck"], theirs["envoy"]["healthCheck"]);
    // The guide of App Mesh: a gateway has neither a user nor a proxy configuration.
    assert_eq!(envoy.get("user"), None);
    assert!(
        Module::named("gateway")
            .blocks("resource")
            .all(|block| { !block.body().blocks().any(|inner| inner.identifier() == "proxy_configuration") })
    );
    let variables = pairs(&envoy["environment"]);
    assert_eq!(variables["APPMESH_RESOURCE_ARN"], "mesh/my-mesh/virtualGateway/ingress");
    assert_eq!(variables["APPMESH_XDS_ENDPOINT"], "tidegate.internal:7072");

    // Requests arrive where the virtual gateway listens; the admin port is asked by the health check and nobody else.
    assert_eq!(envoy["portMappings"], json!([{ "containerPort": 8088, "protocol": "tcp" }]));
    let service = |name: &str| module.argument(["aws_ecs_service", "this"], &["load_balancer", name], &[]);
    assert_eq!((service("container_name"), service("container_port")), (json!("envoy"), json!(8088)));
    let target = |path: &[&str]| module.argument(["aws_lb_target_group", "this"], path, &[]);
    assert_eq!((target(&["port"]), target(&["health_check", "port"])), (json!(8088), json!(9901)));
    for rule in [
        ["aws_vpc_security_group_egress_rule", "to_envoy"],
        ["aws_vpc_security_group_ingress_rule", "from_load_balancer"],
    ] {
        let open = module.argument(rule, &["for_each"], &[]);
        assert_eq!(open, json!({ "Requests": 8088, "Health check": 9901 }), "{rule:?}");
    }

    // What may be written is a volume, or else the whole file system.
    let volumes = |module: &Evaluated| module.argument(TASK, &["volume", "for_each"], &[]);
    assert_eq!(envoy["readonlyRootFilesystem"], true);
    assert_eq!(
        envoy["mountPoints"],
        json!([{ "sourceVolume": "scratch", "containerPath": "/tmp", "readOnly": false }])
    );
    assert_eq!(volumes(&module), json!({ "scratch": "/tmp" }));
    let module = of(&json!({ "read_only_root": false }));
    let all = containers(&module.argument(TASK, &["container_definitions"], &[]));
    assert_eq!((&all["envoy"]["readonlyRootFilesystem"], &all["envoy"]["mountPoints"]), (&json!(false), &json!([])));
    assert_eq!(volumes(&module), json!({}));
}

#[test]
fn what_a_service_leaves_open_of_its_gateway_has_a_default_there() {
    let (service, gateway) = (Module::named("service"), Module::named("gateway"));
    let variable = service.block("variable", &["gateway"]).unwrap();
    let members = object_type(attribute(variable.body(), "type").unwrap()).unwrap();
    for (name, of) in members {
        let body = gateway.block("variable", &[name]).unwrap_or_else(|| panic!("gateway has no {name}")).body();
        let default = attribute(body, "default");
        match arguments_of(of, "optional") {
            None => assert_eq!(default, None, "{name} may be left out"),
            // Null is what Terraform hands on; it stands for the default only where null itself is no value.
            Some(optional) => {
                assert_eq!(optional.len(), 1, "{name} has two defaults");
                let null_is_default = default == Some(&hcl::Expression::Null);
                let nullable = attribute(body, "nullable") != Some(&hcl::Expression::Bool(false));
                assert!(default.is_some() && null_is_default == nullable, "{name}");
            }
        }
    }
}

#[test]
fn the_rule_of_pushes_is_the_one_of_the_page() {
    let page = std::fs::read_to_string(root().join("docs/TRIGGERS.md")).unwrap();
    let shown =
        page.split("```json\n").find(|block| block.starts_with("{ \"source\"")).expect("the page shows the rule");
    let shown: Value = serde_json::from_str(shown.split("```").next().unwrap()).unwrap();
    let module = Evaluated::new(Module::named("webhook"), given(&json!({})));
    let each = [("each", hcl::value!({ "value" = ["shop/checkout"] }))];
    let ours = module.argument(["aws_cloudwatch_event_rule", "push"], &["event_pattern"], &each);
    assert_eq!(serde_json::from_str::<Value>(ours.as_str().unwrap()).unwrap(), shown);
}

#[test]
fn alarms_wait_for_words_that_the_daemon_writes() {
    let source = |file: &str| std::fs::read_to_string(root().join("src").join(file)).unwrap();
    assert!(source("runner/driver.rs").contains("phase = %view.phase"));
    assert!(source("runner/driver.rs").contains("\"rollout moved\""));
    let module = Evaluated::new(Module::named("controller"), given(&json!({})));
    for phase in ["stuck", "paused"] {
        assert!(source("rollout/view.rs").contains(&format!("\"{phase}\"")), "no phase is called {phase}");
        let each = [("each", hcl::value!({ "key" = (phase) }))];
        let pattern = module.argument(["aws_cloudwatch_log_metric_filter", "waiting"], &["pattern"], &each);
        let expected = format!(r#"{{ $.fields.message = "rollout moved" && $.fields.phase = "{phase}" }}"#);
        assert_eq!(pattern, json!(expected));
    }
}
