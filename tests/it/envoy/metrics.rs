//! What `deploy/cloudwatch` promises: a dashboard that is one, and an Envoy that sends every metric in it, with the dimensions
//! that it is searched by. The CloudWatch agent in between is in no package registry; its configuration is read here.

use crate::kit::envoy::Envoy;
use crate::kit::ports::steady_port;
use crate::program::service::Service;
use crate::program::{FREE_PORTS, Process, command, until};
use crate::shell::{Page, root};
use regex::Regex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tidegate::bootstrap::{Options, Texts, build};
use tokio::net::UdpSocket;

fn file(name: &str) -> String {
    std::fs::read_to_string(root().join("deploy/cloudwatch").join(name)).unwrap()
}

fn json_file(name: &str) -> Value {
    serde_json::from_str(&file(name)).unwrap()
}

/// A metric as a widget searches for it: its name, and values by dimension. `MESH` stands for the mesh.
type Search = (String, BTreeMap<String, String>);

/// `SEARCH('Namespace="…" MetricName="…" "dimension"="value"', 'Statistic', PERIOD)`.
fn search(expression: &str) -> Search {
    let whole =
        Regex::new(r#"^SEARCH\('((?:"?[\w.]+"?="[\w.]+" ?)+)', '(?:Sum|Average|Minimum|Maximum|p\d\d)', 60\)$"#)
            .unwrap();
    let terms = &whole.captures(expression).unwrap_or_else(|| panic!("no search: {expression}"))[1];
    let term = Regex::new(r#"("?)([\w.]+)("?)="([\w.]+)""#).unwrap();
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for part in term.captures_iter(terms) {
        // Names with anything but letters and digits have to be in quotes.
        assert_eq!(part[2].contains(['.', '_']), &part[1] == "\"", "{expression}");
        found.insert(part[2].to_owned(), part[4].to_owned());
    }
    assert_eq!(found.remove("Namespace").as_deref(), json_file("agent.json")["metrics"]["namespace"].as_str());
    (found.remove("MetricName").expect("a name"), found)
}

/// Everything that the dashboard searches for.
fn searches() -> Vec<Search> {
    let dashboard = json_file("dashboard.json");
    let graphs = dashboard["widgets"].as_array().unwrap().iter().filter(|widget| widget["type"] == "metric");
    let lines = graphs.flat_map(|graph| graph["properties"]["metrics"].as_array().unwrap());
    lines.map(|line| search(line[0]["expression"].as_str().unwrap())).collect()
}

/// After "Dashboard Body Structure and Syntax" of the CloudWatch API reference.
#[test]
fn the_dashboard_is_one() {
    let dashboard = json_file("dashboard.json");
    let known = |value: &Value, names: &[&str]| {
        for name in value.as_object().unwrap().keys() {
            assert!(names.contains(&name.as_str()), "{name} is nothing that it has: {value}");
        }
    };
    known(&dashboard, &["start", "periodOverride", "variables", "widgets"]);
    let variable = &dashboard["variables"][0];
    assert_eq!((&variable["type"], &variable["inputType"]), (&json!("pattern"), &json!("input")));
    let pattern = variable["pattern"].as_str().unwrap();
    let mut taken = BTreeSet::new();
    let widgets = dashboard["widgets"].as_array().unwrap();
    assert!(widgets.len() <= 500);
    for widget in widgets {
        known(widget, &["type", "x", "y", "width", "height", "properties"]);
        let [x, y, width, height] = ["x", "y", "width", "height"].map(|key| widget[key].as_u64().unwrap());
        assert!(x + width <= 24 && width > 0 && (1..=1000).contains(&height), "{widget}");
        // No two at one place.
        for place in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(taken.insert(place), "{widget} lies on another");
        }
        let properties = &widget["properties"];
        match widget["type"].as_str().unwrap() {
            "text" => known(properties, &["markdown"]),
            "metric" => {
                known(properties, &["title", "region", "period", "view", "stacked", "metrics", "yAxis"]);
                assert_eq!((&properties["region"], &properties["period"]), (&json!("REGION"), &json!(60)));
                let mut ids = BTreeSet::new();
                for line in properties["metrics"].as_array().unwrap() {
                    known(&line[0], &["expression", "id", "label"]);
                    assert!(ids.insert(line[0]["id"].as_str().unwrap()), "{properties}");
                }
            }
            other => panic!("a widget of the type {other}"),
        }
    }
    for (name, dimensions) in searches() {
        assert_eq!(dimensions.get("appmesh.mesh").map(String::as_str), Some(pattern), "{name} is of every mesh");
    }
}

/// A mesh of `front`, which listens itself and calls a version that answers and one that is not there.
fn documents(front: u16, alive: u16, dead: u16) -> String {
    let node = |name: &str, port: u16, backends: &Value| {
        json!({ "meshName": "shop", "virtualNodeName": name, "spec": {
            "serviceDiscovery": { "dns": { "hostname": "127.0.0.1", "responseType": "ENDPOINTS" } },
            "listeners": [{ "portMapping": { "port": port, "protocol": "http" } }], "backends": backends,
        } })
    };
    let all = [
        json!({ "meshName": "shop" }),
        node("front", front, &json!([{ "virtualService": { "virtualServiceName": "checkout.local" } }])),
        node("v1", alive, &json!([])),
        node("v2", dead, &json!([])),
        json!({ "meshName": "shop", "virtualRouterName": "r",
            "spec": { "listeners": [{ "portMapping": { "port": 8080, "protocol": "http" } }] } }),
        json!({ "meshName": "shop", "virtualRouterName": "r", "routeName": "x", "spec": { "httpRoute": { "match": { "prefix": "/" },
            "action": { "weightedTargets": [{ "virtualNode": "v1", "weight": 50 }, { "virtualNode": "v2", "weight": 50 }] } } } }),
        json!({ "meshName": "shop", "virtualServiceName": "checkout.local",
            "spec": { "provider": { "virtualRouter": { "virtualRouterName": "r" } } } }),
    ];
    all.map(|document| document.to_string()).join("\n---\n")
}

fn control(folder: &Path, documents: &str) -> Process {
    let mesh = folder.join("mesh.yaml");
    std::fs::write(&mesh, documents).unwrap();
    let mut command = command(&["local", "--output", "json", "--mesh"]);
    command.arg(mesh).arg("--data-dir").arg(folder.join("data")).arg("--policies").arg(folder);
    command.args(FREE_PORTS);
    Process::spawn(command)
}

/// Names with their tags, of one datagram after another: `envoy.cluster.upstream_rq_xx:1|c|#envoy.cluster_name:a,…`.
async fn heard(socket: &UdpSocket, into: &mut BTreeMap<String, BTreeSet<BTreeMap<String, String>>>) {
    let mut bytes = vec![0; 65_536];
    let length = socket.recv(&mut bytes).await.unwrap();
    for line in String::from_utf8_lossy(&bytes[..length]).lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let tags = rest.split_once("|#").map(|(_, tags)| tags).unwrap_or_default();
        let tags = tags.split(',').filter_map(|tag| tag.split_once(':'));
        into.entry(name.to_owned())
            .or_default()
            .insert(tags.map(|(key, value)| (key.to_owned(), value.to_owned())).collect());
    }
}

#[tokio::test]
async fn an_envoy_sends_every_metric_of_the_dashboard() {
    let folder = tempfile::tempdir().unwrap();
    let (front, alive) = (Service::start("front").await, Service::start("v1").await);
    let [dead, egress, ingress] = [(); 3].map(|()| steady_port());
    let mut control = control(folder.path(), &documents(front.address.port(), alive.address.port(), dead));
    let xds = control.addresses().await["xds"];
    let statsd = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let agent = json_file("agent.json")["metrics"]["metrics_collected"]["statsd"].clone();
    // What the agent is told, and what Envoy sends to by itself.
    assert_eq!((&agent["service_address"], &agent["metric_separator"]), (&json!("127.0.0.1:8125"), &json!(".")));
    let variables = [
        ("ENABLE_ENVOY_STATS_TAGS", "1".to_owned()),
        ("ENABLE_ENVOY_DOG_STATSD", "1".to_owned()),
        ("STATSD_PORT", statsd.local_addr().unwrap().port().to_string()),
        ("ENVOY_STATS_CONFIG_FILE", "stats.yaml".to_owned()),
        ("ENVOY_STATS_FLUSH_INTERVAL", "200ms".to_owned()),
    ];
    let options = Options {
        node: Some("mesh/shop/virtualNode/front".to_owned()),
        control_plane: Some(format!("http://{xds}")),
        admin: Some("127.0.0.1:0".parse().unwrap()),
        egress: Some(format!("127.0.0.1:{egress}").parse().unwrap()),
        ingress: Some(format!("127.0.0.1:{ingress}").parse().unwrap()),
        ..Options::default()
    };
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let made = build(&options, &variables, &Texts::from([("ENVOY_STATS_CONFIG_FILE", file("stats.yaml"))])).unwrap();
    assert!(made.remarks.is_empty(), "{:?}", made.remarks);
    let Some(mut envoy) = Envoy::start(&made.config).await else { return };
    envoy.wait_ready().await;

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async |port: u16| {
        let request = http.get(format!("http://127.0.0.1:{port}/")).header("host", "checkout.local");
        request.send().await.map(|answer| answer.status().as_u16())
    };
    until("the service of this sidecar answers", async || (ask(ingress).await.ok()? == 200).then_some(())).await;
    // So that it answers 5xx as well, to those outside.
    front.behave(crate::program::service::Behaviour::FailsEvery(1));
    let mut known = BTreeMap::new();
    let wanted = searches();
    let is_known = |known: &BTreeMap<String, BTreeSet<BTreeMap<String, String>>>, (name, dimensions): &Search| {
        let fits = |tags: &BTreeMap<String, String>| {
            let value = |wanted: &str| if wanted == "MESH" { "shop".to_owned() } else { wanted.to_owned() };
            dimensions.iter().all(|(key, wanted)| tags.get(key) == Some(&value(wanted)))
                && tags.get("appmesh.virtual_node").is_some_and(|node| node == "front")
        };
        known.get(name).is_some_and(|tags| tags.iter().any(fits))
    };
    let missing = until("every metric was sent", async || {
        let (one, other) = tokio::join!(ask(egress), ask(ingress));
        one.and(other).ok()?;
        heard(&statsd, &mut known).await;
        let missing: Vec<&Search> = wanted.iter().filter(|search| !is_known(&known, search)).collect();
        missing.is_empty().then_some(missing)
    });
    let missing = tokio::time::timeout(std::time::Duration::from_secs(40), missing).await;
    let missing = missing.map(|found| found.len());
    assert!(
        missing.is_ok(),
        "{:?} of {known:#?}",
        wanted.iter().filter(|search| !is_known(&known, search)).collect::<Vec<_>>()
    );
    // What is billed is what is shown: some ten names, and not the hundreds that an Envoy has.
    let shown: BTreeSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    assert!(known.len() <= shown.len() + 4, "{:?} beside {shown:?}", known.keys());
}

#[tokio::test]
async fn the_lines_of_the_page_about_metrics_work() {
    use crate::kit::envoy::{binary, validate_text};
    use crate::shell::{Ports, Terminal, copy_moved, expect, have};
    if !["bash", "aws"].into_iter().all(have) {
        return;
    }
    let Some((_moto, aws)) = crate::ecs::moto::moto().await else { return };
    let page = Page::of("docs/envoy.md", "the_lines_of_the_page_about_metrics_work");
    let (ports, directory) = (Ports::pick(), tempfile::tempdir().unwrap());
    copy_moved(&root().join("deploy/cloudwatch"), &directory.path().join("deploy/cloudwatch"), &ports);
    let mut terminal = Terminal::open(directory.path(), tidegate::clock::Monotonic::now(), &ports);
    terminal.run(&page.text("stats bootstrap", &ports));
    let made = std::fs::read_to_string(directory.path().join("envoy.yaml")).unwrap();
    expect(&made, &["inclusion_list", "dog_statsd", "appmesh.virtual_node"]);
    if let Some(envoy) = binary().await {
        assert_eq!(validate_text(&envoy, "envoy.yaml", &made).await, Ok(()));
    }
    terminal.enter(&format!(
        "export AWS_ENDPOINT_URL={aws} AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b AWS_DEFAULT_REGION=eu-central-1"
    ));
    terminal.run(&page.text("dashboard", &ports));
    expect(&terminal.run("aws cloudwatch get-dashboard --dashboard-name mesh"), &["envoy.cluster.upstream_rq_xx"]);
    page.done();
}
