//! docs/appmesh-migration.md from the files that AWS left to the last old sidecar: real Envoys, the AWS CLI, and a daemon that
//! hosts the mesh and asks for signatures.
//!
//! AWS's part is played by an Envoy that has its configuration and no control plane, which is what App Mesh left behind.

use super::{Page, Ports, Terminal, copy_moved, expect, have, root};
use serde_json::Value;
use std::time::Duration;
use tidegate::clock::Monotonic;

/// What the terminal with requests printed since it was last looked at: nothing of it may be a failure.
fn only_answers(said: &str) {
    assert!(!said.contains("no answer") && !said.contains("status") && !said.contains("failed"), "{said}");
}

/// The sidecar of the page as ECS would start it: its variables make a bootstrap that Envoy takes, and its health check says
/// of an Envoy that runs that it is well.
fn sidecar_as_ecs_starts_it(page: &Page, ports: &Ports, terminal: &mut Terminal) {
    let containers: Value = serde_json::from_str(&page.text("sidecar.json", ports)).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (first, envoy) = (&containers[0], &containers[1]);
    let variables = first["environment"].as_array().unwrap().iter();
    let variables: Vec<String> =
        variables.map(|one| format!("{}='{}'", text(&one["name"]), text(&one["value"]))).collect();
    let command = text(&first["command"][0]).replace("/envoy/", "");
    // The token is not in the file, so any will do here.
    terminal.run(&format!("( export {} TIDEGATE_TOKEN=ID:SECRET; {command} )", variables.join(" ")));
    let config = text(&envoy["command"][1]).replace("/envoy/", "");
    expect(&terminal.run(&format!("envoy --mode validate -c {config} --log-level error")), &["OK"]);
    let words = envoy["healthCheck"]["command"].as_array().unwrap().iter().skip(1);
    let check: Vec<String> = words.map(|word| format!("'{}'", text(word).replace('\'', "'\\''"))).collect();
    // The Envoy of the page that has been started by then.
    terminal.run(&check.join(" ").replace(&ports.moved("9901"), &ports.moved("9911")));
}

#[test]
fn a_live_mesh_moves_in_ten_steps() {
    if !["bash", "aws", "curl", "openssl", "python3", "envoy"].into_iter().all(have) {
        return;
    }
    let page = Page::of("docs/appmesh-migration.md", "a_live_mesh_moves_in_ten_steps");
    let (ports, directory, began) = (Ports::pick(), tempfile::tempdir().unwrap(), Monotonic::now());
    copy_moved(&root().join("examples"), &directory.path().join("examples"), &ports);
    // The defaults of the API's listener are not in the file; here they are, and are moved with it.
    let config = directory.path().join("examples/migration/tidegate.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let api = ports.moved("[api]\nlisten = \"127.0.0.1:7070\"");
    std::fs::write(&config, text.replace("[api]", &api)).unwrap();
    let open = || Terminal::open(directory.path(), began, &ports);
    let [mut first, mut daemon, mut old, mut new] = [open(), open(), open(), open()];
    let text = |name: &str| page.text(name, &ports);

    // --- 2 to 5: the mesh ---
    expect(
        &first.run(&text("validate")),
        &["appmesh-stack.yaml: valid, 6 resources", "front.json: valid, 1 resource", "skipped"],
    );
    first.run(&text("secrets"));
    let serve = text("serve");
    daemon.stay(&serve);
    daemon.wait_for(&["tidegate is ready"]);
    // Nobody without a key.
    first.enter("tidegate mesh export || echo \"<<refused $?\"");
    expect(&first.wait_for(&["<<refused 1"]), &["set AWS_ACCESS_KEY_ID"]);
    first.run(&text("client"));
    expect(
        &first.run(&text("load")),
        &["7 to create", "exit code 1", "created virtualNode front", "nothing to change: 7 resources as described"],
    );
    expect(
        &first.run(&text("tools")),
        &["arn:aws:appmesh:eu-central-1:123456789012:mesh/shop/virtualNode/front", r#""weight": 100"#],
    );
    expect(&first.run(&text("problems")), &[r#""problems":[]"#]);

    // --- 6 and 7: the sidecars ---
    first.run(&text("before"));
    let answers = ports.moved("curl -sf -H 'Host: checkout.shop.internal' http://127.0.0.1:15201/");
    first.run(&format!("until {answers}; do sleep 0.2; done"));
    old.stay(&text("old load"));
    old.wait_for(&["checkout v1 50"]);
    expect(&first.run(&text("first sidecar")), &["LIVE", "checkout v1"]);
    sidecar_as_ecs_starts_it(&page, &ports, &mut first);
    expect(&first.run(&text("second sidecar")), &["LIVE", "checkout v1"]);
    new.stay(&text("new load"));
    new.wait_for(&["checkout v1 50"]);
    let proxies = first.run(&text("proxies"));
    expect(&proxies, &["mesh/shop/virtualNode/front", "mesh/shop/virtualNode/checkout-v1", r#""known":true"#]);
    assert!(!proxies.contains("\"rejected\":{"), "{proxies}");

    // --- 8: without the control plane ---
    daemon.interrupt();
    expect(&first.run(&text("without")), &["checkout v1"]);
    only_answers(&new.wait_for(&["checkout v1 50"]));
    daemon.stay(&serve);
    daemon.wait_for(&["tidegate is ready"]);

    // --- 9: the canary ---
    expect(&first.run(&text("third sidecar")), &["LIVE"]);
    expect(&first.run(&text("canary")), &["checkout.yaml: valid, 3 steps"]);
    only_answers(&new.wait_for(&["checkout v2"]));
    first.run("until tidegate rollout get checkout | grep judging; do sleep 0.2; done");
    expect(&first.run(&text("look")), &["checkout-v2", "10 %"]);
    first.run(&text("promote"));
    first.run("until tidegate rollout get checkout | grep judging | grep 50; do sleep 0.2; done");
    expect(&first.run(&text("full")), &["succeeded"]);
    only_answers(&new.wait_for(&["checkout v2 50"]));

    // --- 10: the rest ---
    only_answers(&old.wait_for(&["checkout v1 50"]));
    old.interrupt();
    first.run(&text("end old"));
    let pruned = first.run(&text("prune"));
    expect(&pruned, &["delete", "virtualNode forgotten", "exit code 1", "weights stay 0/100"]);
    let exported = std::fs::read_to_string(directory.path().join("shop.yaml")).unwrap();
    expect(&exported, &[r#""weight": 100"#]);
    assert!(!exported.contains("forgotten"), "{exported}");
    only_answers(&new.wait_for(&["checkout v2 50"]));
    page.done();
    // What the test took is what a person waits.
    assert!(began.elapsed() < Duration::from_secs(200));
}
