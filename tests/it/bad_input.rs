//! What people get wrong: files, flags, requests, directories. Each time the answer says what, where and what to do, and
//! nothing was changed.

mod places;
mod requests;

use crate::program::service::Service;
use crate::program::world::{Daemon, Files, QUICK, World, mesh, strs};
use crate::program::{run, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Starts `checkout` and expects a refusal with this status; the problem document.
async fn refused(daemon: &Daemon, body: &Value, status: u16) -> Value {
    let (answered, problem) = daemon.post("/v1/rollouts", body).await;
    assert_eq!(answered, status, "{problem}");
    assert_eq!(problem["status"], status);
    assert!(problem["type"].as_str().unwrap().starts_with("tidegate:"), "{problem}");
    assert!(problem["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{problem}");
    problem
}

async fn no_rollouts(daemon: &Daemon) {
    let (_, list) = daemon.try_api("/v1/rollouts").await.unwrap();
    assert_eq!(list["rollouts"], json!([]));
}

#[tokio::test]
async fn a_policy_is_refused_with_every_problem_and_its_place() {
    let world = World::start().await;
    let file = world.files.at("policies/checkout.yaml");
    let contradictory = QUICK
        .replace("weight: 50, min: 1s", "weight: 5, min: 2m")
        .replace("tolerate: { ratio: 1.0, add: 0.1pp }", "tolerate: { ratio: 0.5, add: 0.1pp }, colour: red");
    let cases: [(&str, &str, &[&str]); 4] = [
        ("malformed", "version: 1\nname: checkout\nsteps: [1, 2\nroute: }\n", &[":4:6: not valid YAML"]),
        ("unknown key", &QUICK.replace("versions:", "version_s:"), &[":4:1: ", "`versions`"]),
        ("not rising", &QUICK.replace("weight: 50", "weight: 10"), &[":7:", "10"]),
        ("contradictory", &contradictory, &[":7:", ":10:", "colour"]),
    ];
    for (what, text, parts) in cases {
        world.files.write("policies/checkout.yaml", text);
        let problem = refused(&world.daemon, &json!({"policy": "checkout"}), 422).await;
        assert_eq!(problem["type"], "tidegate:invalid-policy", "{what}");
        let detail = problem["detail"].as_str().unwrap();
        for part in parts {
            let part = if part.starts_with(':') { format!("{file}{part}") } else { (*part).to_owned() };
            assert!(detail.contains(&part), "{what}: no `{part}` in {detail}");
        }
        let ran = world.daemon.run(&["rollout", "start", "checkout"]).await.expect(2);
        assert_eq!(ran.stdout, "", "{what}");
    }
    // By what the file says and by what it is called: a slip in quick-start.yaml is no "no such policy".
    std::fs::rename(world.files.path("policies/checkout.yaml"), world.files.path("policies/quick.yaml")).unwrap();
    for name in ["checkout", "quick"] {
        refused(&world.daemon, &json!({"policy": name}), 422).await;
    }
    let unknown = refused(&world.daemon, &json!({"policy": "chekout"}), 404).await;
    assert!(unknown["detail"].as_str().unwrap().contains("not valid: checkout"), "{unknown}");
    world.files.write("policies/one.yaml", QUICK);
    world.files.write("policies/two.yaml", QUICK);
    let twice = refused(&world.daemon, &json!({"policy": "checkout"}), 422).await;
    assert!(twice["detail"].as_str().unwrap().contains("one.yaml has the same name"), "{twice}");
    no_rollouts(&world.daemon).await;
}

#[tokio::test]
async fn a_route_that_cannot_take_a_rollout_refuses_it() {
    let world = World::start().await;
    let daemon = &world.daemon;
    let start = json!({"policy": "checkout"});

    let stable = refused(daemon, &json!({"policy": "checkout", "to": "checkout-v1"}), 409).await;
    assert!(stable["detail"].as_str().unwrap().contains("`checkout-v1` is stable"), "{stable}");
    assert!(stable["hint"].as_str().unwrap().contains("--to checkout-v2"), "{stable}");
    let stranger = refused(daemon, &json!({"policy": "checkout", "to": "cart"}), 409).await;
    assert!(stranger["hint"].as_str().unwrap().contains("checkout-v1 and checkout-v2"), "{stranger}");

    daemon.set_weights(30, 70).await;
    let both = refused(daemon, &start, 409).await;
    assert!(both["detail"].as_str().unwrap().contains("checkout-v1 has 30, checkout-v2 has 70"), "{both}");
    let hint = both["hint"].as_str().unwrap();
    assert!(
        hint.contains("aws appmesh update-route --mesh-name shop") && hint.contains("`checkout-v2` at 100"),
        "{hint}"
    );
    daemon.run(&["rollout", "start", "checkout"]).await.expect(1).says(&["no version holds all the weight"]);
    daemon.set_weights(100, 0).await;

    for (from, to, says) in [
        ("[checkout-v1, checkout-v2]", "[checkout-v1, checkout-v3]", "`checkout-v3` is no target of the route"),
        ("route: checkout }", "route: cart }", "cart"),
        ("mesh: shop", "mesh: mall", "mall"),
    ] {
        world.files.write("policies/checkout.yaml", &QUICK.replace(from, to));
        let problem = refused(daemon, &start, 409).await;
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }
    no_rollouts(daemon).await;

    world.files.write("policies/checkout.yaml", QUICK);
    let id = daemon.start_rollout().await;
    let started = daemon.view(&id).await["started_at"].as_str().unwrap().to_owned();
    // Before its weights are written, and after: then the route would be refused too, with advice that would undo it.
    for weight in [None, Some(10)] {
        let reached = async || daemon.weights().await.unwrap()["checkout-v2"];
        until("its first step", async || (weight.is_none() || weight == Some(reached().await)).then_some(())).await;
        let live = refused(daemon, &start, 409).await;
        let detail = live["detail"].as_str().unwrap();
        for part in [id.as_str(), "is live since", &started, "someone on this machine (os_user)"] {
            assert!(detail.contains(part), "no `{part}` in {detail}");
        }
        assert!(live["hint"].as_str().unwrap().contains(&format!("tidegate rollout watch {id}")), "{live}");
    }
}

#[tokio::test]
async fn files_that_are_wrong_are_named_and_load_nothing() {
    let service = Service::start("v1").await;
    let port = service.address.port();
    let files = Files::new([port, port], "");
    let at = |name: &str| files.at(name);
    files.write("mesh.yaml", &mesh([port, port], "").replace("virtualNode: checkout-v2", "virtualNode: checkout-v9"));
    files.write("syntax.yaml", "meshName: shop\n---\nmeshName: [\n");
    files.write("discovery.yaml", "services:\n  - namespace: a\n    servce: b\n");
    let mut dangling = files.local(&BTreeMap::new());
    let ran = run(&strs(&dangling)).await.expect(2);
    assert_eq!(ran.stdout, "");
    ran.says(&[&at("mesh.yaml"), "checkout-v9", "nothing was loaded"]);
    // All problems of all files at once.
    dangling.extend(["--mesh".into(), at("syntax.yaml"), "--mesh".into(), at("missing.yaml")]);
    run(&strs(&dangling)).await.expect(2).says(&["syntax.yaml:", "missing.yaml: cannot be read"]);

    files.write("mesh.yaml", &mesh([port, port], ""));
    let good = files.local(&BTreeMap::new());
    for (name, says) in [("missing.yaml", "cannot read the discovery file"), ("discovery.yaml", "discovery.yaml:3:5: ")]
    {
        let with = [good.clone(), vec!["--discovery".to_owned(), at(name)]].concat();
        run(&strs(&with)).await.expect(2).says(&[says]);
    }
    for node in ["checkout-v1", "/checkout-v1", "shop/", "shop/a/b", ""] {
        let with = [good.clone(), vec!["--as".to_owned(), node.to_owned()]].concat();
        run(&strs(&with)).await.expect(2).says(&[&format!("--as {node}: not MESH/NODE"), "--as shop/checkout-v1"]);
    }
    // What the first try could have left behind would have weight on a node that does not exist.
    let daemon = Daemon::start(&[good, vec!["--as".to_owned(), "shop/checkout-v9".to_owned()]].concat()).await;
    let remark = "--as shop/checkout-v9: there is no such virtual node yet";
    until(remark, async || daemon.process.stderr.text().contains(remark).then_some(())).await;
    assert_eq!(daemon.weights().await.unwrap()["checkout-v2"], 0);
}

#[tokio::test]
async fn a_missing_policy_directory_is_said_at_the_start_and_at_a_rollout() {
    let files = Files::new([1, 2], "");
    std::fs::remove_dir_all(files.path("policies")).unwrap();
    let daemon = Daemon::start(&files.local(&BTreeMap::new())).await;
    let remark = "there is no directory";
    until(remark, async || daemon.process.stderr.text().contains(remark).then_some(())).await;
    let problem = refused(&daemon, &json!({"policy": "checkout"}), 404).await;
    assert!(problem["detail"].as_str().unwrap().contains("there is no directory"), "{problem}");
    assert_eq!(daemon.try_api("/v1/policies").await.unwrap(), (200, json!({"policies": []})));
    // It need not be there from the start.
    std::fs::create_dir(files.path("policies")).unwrap();
    files.write("policies/checkout.yaml", QUICK);
    daemon.start_rollout().await;
}

#[tokio::test]
async fn a_policy_that_is_not_valid_is_told_when_the_daemon_starts() {
    let files = Files::new([1, 2], "");
    files.write("policies/checkout.yaml", &QUICK.replace("versions:", "version_s:"));
    let daemon = Daemon::start(&files.local(&BTreeMap::new())).await;
    let told = until("it is told", async || {
        let said = daemon.process.stderr.text();
        said.contains("did you mean").then_some(said)
    })
    .await;
    assert!(told.contains("checkout is not valid") && told.contains("checkout.yaml:4:1"), "{told}");
    assert_eq!(daemon.process.terminate().await, Some(0));
}
