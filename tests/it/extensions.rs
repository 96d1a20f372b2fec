//! The examples with tags of a route and of a node, in the program: what they add, and that a rehearsal ends as a real rollback does.

use crate::program::world::{HOST, World};
use crate::program::{run, until};
use serde_json::{Value, json};

/// Applies a file to a world's mesh, without asking.
async fn apply(world: &World, file: &str) {
    let endpoint = world.daemon.url("appmesh");
    let ran = run(&["mesh", "apply", "--yes", "-f", file, "--endpoint-url", &endpoint]).await;
    ran.expect(0);
}

#[tokio::test]
async fn a_rehearsed_failure_rolls_a_good_release_back() {
    let world = World::start().await;
    let load = world.daemon.load();
    let id = world.daemon.start_rollout().await;
    world.daemon.until(&id, "it has weight", |view| view["weights"]["checkout-v2"] == 10).await;
    apply(&world, "examples/extensions/rehearsal.yaml").await;
    let end = world.daemon.end(&id).await;
    assert_eq!(end["phase"], "rolled_back", "{end}");
    assert!(world.canary.requests() > 0, "the release itself was well");
    load.stop().await;
}

#[tokio::test]
async fn the_example_with_all_tags_does_what_its_remarks_say() {
    let world = World::start().await;
    apply(&world, "examples/extensions/checkout.yaml").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = world.daemon.url("egress");
    let asked = || client.get(&url).header("host", HOST);
    let first = until("the tags are in force", async || {
        let answer = asked().send().await.ok()?;
        Some(answer.headers().get("set-cookie")?.to_str().unwrap().to_owned())
    })
    .await;
    assert!(first.starts_with("checkout-session=") && first.ends_with("; Path=/; HttpOnly; Max-Age=3600"), "{first}");
    let version = |answer: reqwest::Response| answer.headers()["x-demo-version"].to_str().unwrap().to_owned();
    assert_eq!(version(asked().send().await.unwrap()), "v1");
    assert_eq!(version(asked().header("x-version", "checkout-v2").send().await.unwrap()), "v2");
    assert_eq!(version(asked().header("cookie", "version=checkout-v2").send().await.unwrap()), "v2");
    let before = world.canary.requests();
    until("a copy comes", async || {
        asked().send().await.ok()?;
        (world.canary.requests() > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_example_of_a_node_is_in_force() {
    let world = World::start().await;
    let text = std::fs::read_to_string("examples/extensions/node.yaml").unwrap();
    let fitted = text.replace("port: 9001", &format!("port: {}", world.stable.address.port()));
    assert_ne!(fitted, text);
    world.files.write("node.yaml", &fitted);
    apply(&world, &world.files.at("node.yaml")).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let dump = format!("{}/config_dump", world.daemon.url("admin"));
    let wanted = json!({
        "balance": { "by": "LeastRequest", "slow_start": 30_000 },
        "retry_budget": { "share": 200_000, "least": 3 },
    });
    until("the proxy has them", async || {
        let told: Value = client.get(&dump).send().await.ok()?.json().await.ok()?;
        let clusters = told["node_config"]["clusters"].as_array()?;
        clusters.iter().any(|cluster| cluster["extensions"] == wanted).then_some(())
    })
    .await;
    let answer = client.get(world.daemon.url("egress")).header("host", HOST).send().await.unwrap();
    assert_eq!(answer.headers()["x-demo-version"], "v1");
}

#[tokio::test]
async fn a_wrong_tag_is_refused_with_its_place() {
    let world = World::start().await;
    let text = std::fs::read_to_string("examples/extensions/rehearsal.yaml").unwrap();
    let wrong = text.replace("abort=500", "abort=200");
    assert_ne!(wrong, text);
    world.files.write("wrong.yaml", &wrong);
    let file = world.files.at("wrong.yaml");
    let line = 1 + text.lines().position(|line| line.contains("tidegate:fault\", value")).unwrap();
    let place = format!("wrong.yaml:{line}:");
    let said = "tidegate:fault, character 7: abort must be a whole number from 400 to 599, not \"200\"";
    let all = ["mesh", "validate", "-f", &file];
    run(&all).await.expect(2).says(&[&place, said]);

    let arn = "arn:aws:appmesh:us-east-1:000000000000:mesh/shop/virtualRouter/checkout-router/route/checkout";
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/v20190125/tag?resourceArn={arn}", world.daemon.url("appmesh"));
    for (value, status) in [("abort=200", 400), ("abort=500 target=checkout-v2", 200)] {
        let body = json!({ "tags": [{ "key": "tidegate:fault", "value": value }] });
        let answer = client.put(&url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{value}");
        if status == 400 {
            let text = answer.text().await.unwrap();
            assert!(text.contains("tags[0].value: tidegate:fault, character 7: abort must be"), "{text}");
        }
    }
}
