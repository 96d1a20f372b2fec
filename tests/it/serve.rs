//! `tidegate serve` as one daemon: configuration, a release over a mesh in another process, what it says when things are
//! wrong.

use crate::program::controllers::Outside;
use crate::program::service::Behaviour;
use crate::program::world::QUICK;
use crate::program::{command, finish, run};
use std::path::Path;

#[tokio::test]
async fn a_release_goes_through_over_a_mesh_in_another_process() {
    let outside = Outside::start(QUICK, Behaviour::Good).await;
    let config = format!("{}[database]\ndata_dir = \"{}\"\n", outside.config(), outside.files.at("own"));
    let controller = outside.controller(&config, &[]).await;
    let load = controller.api.load();
    let id = controller.api.start_rollout().await;
    let view = controller.api.end(&id).await;
    assert_eq!(view["phase"], "succeeded", "{view}");
    assert_eq!(load.totals().1, 0);
    load.stop().await;
    controller.api.run(&["health"]).await.expect(0);
    assert_eq!(controller.process.terminate().await, Some(0));
    crate::program::world::verify(&outside.files.path("own")).await.expect(0);
}

#[tokio::test]
async fn a_bad_release_is_rolled_back_over_a_mesh_in_another_process() {
    let outside = Outside::start(QUICK, Behaviour::FailsEvery(3)).await;
    let config = format!("{}[database]\ndata_dir = \"{}\"\n", outside.config(), outside.files.at("own"));
    let controller = outside.controller(&config, &[]).await;
    let load = controller.api.load();
    let id = controller.api.start_rollout().await;
    assert_eq!(controller.api.end(&id).await["phase"], "rolled_back");
    assert_eq!(load.totals().1, 0);
    load.stop().await;
}

/// What each mistake is answered with: the place, what is wrong, and what to do.
#[tokio::test]
async fn a_configuration_that_is_wrong_is_told_all_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tidegate.toml");
    let path = path.to_str().unwrap();
    for (text, said) in [
        (
            "[api]\nlistn = \"x\"\n",
            vec!["tidegate.toml:2:1: there is no key `listn` in [api]", "did you mean `listen`?"],
        ),
        (
            "[telemtry]\nproxies = []\n",
            vec!["tidegate.toml:1:2: there is no section `telemtry`", "did you mean `telemetry`?"],
        ),
        ("[api]\nlisten = 7070\n", vec!["tidegate.toml:2:10: `api.listen` must be an address and a port"]),
        (
            "[api]\nlisten = \"7070\"\n",
            vec!["tidegate.toml:2:10: `api.listen` must be an address and a port", "and `7070` is not"],
        ),
        (
            "[api]\nlisten = \"0.0.0.0:1\"\nauth = \"none\"\n",
            vec!["tidegate.toml:3:8: `api.auth = \"none\"` is for loopback addresses"],
        ),
        ("[api]\ncertificate = \"a\"\n", vec!["tidegate.toml:2:15: `api.certificate` needs `api.key`"]),
        (
            "[mesh]\nsigning = \"none\"\n",
            vec!["tidegate.toml:2:11: calls of AWS's own endpoint must be signed", "set mesh.endpoint_url"],
        ),
        ("[mesh]\nendpoint_url = \"127.0.0.1:7071\"\n", vec!["`mesh.endpoint_url` must be an address such as"]),
        ("[telemetry]\nproxies = \"http://a\"\n", vec!["`telemetry.proxies` must be a list of addresses"]),
        ("[hooks]\ngithub = [\"a\", \"b\", \"c\"]\n", vec!["`hooks.github` has 3 secrets, and two is the most"]),
        ("[people.ada]\nphone = \"1\"\n", vec!["a person has no key `phone`", "there are token, os_user"]),
        ("[people]\nada = 1\n", vec!["`people.ada` is a section"]),
        ("api = 1\n", vec!["`api` is a section", "write `[api]` on a line"]),
        ("[api\n", vec!["tidegate.toml:1:", "the file is TOML"]),
        ("[database]\nurl = \"hunter2\"\n", vec!["the database URL is not valid: it does not begin with postgres://"]),
        (
            "[api]\nlistn = \"x\"\n[mesh]\nsigning = \"no\"\n",
            vec!["2:1: there is no key `listn`", "4:11: `mesh.signing` must be one of aws, none, and `no` is not"],
        ),
    ] {
        std::fs::write(path, text).unwrap();
        let mut program = command(&["serve", "--config", path]);
        program.current_dir(directory.path());
        let ran = finish(program).await;
        assert!(matches!(ran.code, Some(1 | 2)), "{text}: {ran:?}");
        assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
        ran.says(&said);
    }
    run(&["serve", "--config", "/nowhere/tidegate.toml"])
        .await
        .expect(2)
        .says(&["cannot be read", "--config names the file"]);
}

#[tokio::test]
async fn the_configuration_is_printed_as_it_takes_effect_with_secrets_masked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tidegate.toml");
    std::fs::write(
        &path,
        "[hooks]\ngithub = [\"old-hunter2-old-hunter2\", \"new-hunter2-new-hunter2\"]\n[people.ada]\ntoken = \"ada\"\n",
    )
    .unwrap();
    let mut program = command(&["serve", "--print-config", "--config", path.to_str().unwrap()]);
    program
        .env("TIDEGATE_DATABASE_URL", "postgres://app:hunter2@db/tidegate")
        .env("TIDEGATE_API_LISTEN", "0.0.0.0:7070");
    let printed = finish(program).await.expect(0).stdout;
    assert!(!printed.contains("hunter2"), "{printed}");
    for line in [
        "listen = \"0.0.0.0:7070\"  # $TIDEGATE_API_LISTEN",
        "auth = \"tokens\"  # default",
        "url = \"********\"  # $TIDEGATE_DATABASE_URL",
        "github = [\"********\", \"********\"]",
        "[people.ada]\ntoken = \"ada\"",
    ] {
        assert!(printed.contains(line), "no `{line}` in {printed}");
    }
    // What is printed is a configuration again.
    std::fs::write(&path, printed.replace("********", "0123456789abcdef")).unwrap();
    let again = run(&["serve", "--print-config", "--config", path.to_str().unwrap()]).await.expect(0).stdout;
    assert_eq!(
        again.replace("  # default", ""),
        printed
            .replace("  # default", "")
            .lines()
            .map(|line| line.split("  # $").next().unwrap())
            .collect::<Vec<_>>()
            .join("\n")
            + "\n"
    );
}

#[test]
fn the_example_has_every_key_and_is_valid() {
    struct Nothing;
    impl tidegate::config::Environment for Nothing {
        fn get(&self, _: &str) -> Option<String> {
            None
        }
    }
    let path = Path::new("deploy/tidegate.toml");
    let example = tidegate::config::keys::example();
    #[expect(clippy::disallowed_methods, reason = "the switch of whoever runs the tests")]
    if std::env::var("UPDATE_GOLDEN").is_ok() {
        std::fs::write(path, &example).unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(text, example, "deploy/tidegate.toml: run with UPDATE_GOLDEN=1 if this is meant");
    tidegate::config::daemon::load("tidegate.toml", &text, &Nothing).expect("valid as it stands");
    // With every key in force, but for those of a mesh elsewhere.
    let is_elsewhere = |line: &String| line.starts_with("signing") || line.starts_with("endpoint_url");
    let in_force = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => key.to_owned(),
        _ => line.to_owned(),
    };
    let all: Vec<String> = text.lines().map(in_force).filter(|line| !is_elsewhere(line)).collect();
    tidegate::config::daemon::load("tidegate.toml", &all.join("\n"), &Nothing).expect("valid with every key");
}

/// `tidegate doctor` with JSON: what it found, by what it looked at.
async fn examined(
    path: &str,
    variables: &[(&str, &str)],
    code: i32,
) -> std::collections::BTreeMap<String, serde_json::Value> {
    let mut program = command(&["doctor", "--output", "json", "--config", path]);
    program.envs(variables.iter().copied());
    let found = finish(program).await.expect(code).json();
    found.into_iter().map(|finding| (crate::program::text(&finding["check"]), finding)).collect()
}

#[tokio::test]
async fn the_doctor_finds_nothing_amiss_where_a_daemon_can_run() {
    let outside = Outside::start(QUICK, Behaviour::Good).await;
    outside.files.write(
        "tidegate.toml",
        &format!("{}[database]\ndata_dir = \"{}\"\n", outside.config(), outside.files.at("own")),
    );
    let found = examined(&outside.files.at("tidegate.toml"), &[], 0).await;
    let text = |check: &str| crate::program::text(&found[check]["text"]);
    assert_eq!(text("proxies"), "1 of them report");
    assert_eq!(text("route of checkout"), "shop/checkout-router/checkout: checkout-v1 100, checkout-v2 0");
    assert!(text("clock").starts_with("as that of http://127.0.0.1"), "{found:?}");
    assert!(!outside.files.path("own").exists(), "it changes nothing");
}

/// Each with a remedy that says what to do.
#[tokio::test]
async fn the_doctor_has_a_remedy_for_whatever_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let policies = directory.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    std::fs::write(policies.join("checkout.yaml"), crate::release::POLICY).unwrap();
    std::fs::write(policies.join("broken.yaml"), "version: 1\nname: broken\n").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let path = directory.path().join("tidegate.toml");
    let config = format!(
        "[api]\nlisten = \"{}\"\n[policies]\ndirectory = \"{}\"\n[mesh]\nendpoint_url = \"http://127.0.0.1:9\"\n[telemetry]\n\
         proxies = [\"http://127.0.0.1:9\"]\n",
        taken.local_addr().unwrap(),
        policies.display()
    );
    std::fs::write(&path, config).unwrap();
    drop(taken);
    let variables = [
        ("TIDEGATE_DATABASE_URL", "postgres://app:hunter2@127.0.0.1:9/tidegate"),
        ("HOME", "/nowhere"),
        ("AWS_REGION", ""),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let found = examined(path.to_str().unwrap(), &variables, 1).await;
    for (check, said, remedy) in [
        ("database", "cannot reach the database `tidegate` as `app` at 127.0.0.1:9", "where to look"),
        ("policies", "broken.yaml", "tidegate policy lint"),
        ("proxies", "it takes no connection", "telemetry.proxies"),
        ("credentials", "no region of AWS is known", "AWS_REGION"),
        ("route of checkout", "DescribeRoute", "mesh.endpoint_url"),
        ("notices of checkout by GitHub", "there is no token for it", "TIDEGATE_GITHUB_TOKEN"),
        ("service checkout-a of checkout", "", "docs/aws.md"),
    ] {
        let finding = &found[check];
        assert_eq!(finding["ok"], false, "{check}: {finding}");
        assert!(finding["text"].as_str().unwrap().contains(said), "{check}: {finding}");
        assert!(finding["remedy"].as_str().unwrap().contains(remedy), "{check}: {finding}");
        assert!(!finding.to_string().contains("hunter2"));
    }
}

/// A policy whose gates ask everything that the doctor can ask for them.
const SIGNALS: &str = "\
gates:
  - { name: queue, cloudwatch: { namespace: Shop, metric: Depth, stat: Average }, max: 10 }
  - { name: alarm, cloudwatch: { alarm: queue } }
  - { name: traces, xray: { filter: 'annotation.node = \"{node}\"', measure: fault_rate }, compare: stable, tolerate: { add: 1pp } }
  - { name: series, prometheus: { query: 'sum(errors)' }, max: 1 }
";

#[tokio::test]
async fn the_doctor_asks_the_sources_of_gates() {
    let Some(double) = crate::program::aws_double::AwsDouble::start().await else { return };
    let (steps, _) = QUICK.split_once("gates:").unwrap();
    let outside = Outside::start(&format!("{steps}{SIGNALS}"), Behaviour::Good).await;
    let config = format!("{}[database]\ndata_dir = \"{}\"\n", outside.config(), outside.files.at("own"));
    let config = format!("{config}[prometheus]\nurl = \"http://127.0.0.1:9\"\n");
    outside.files.write("tidegate.toml", &config);
    let variables = [
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_ENDPOINT_URL", double.url.as_str()),
    ];
    double.control("cloudwatch/alarm", serde_json::json!({ "name": "queue", "state": "OK", "kind": "metric" })).await;
    let path = outside.files.at("tidegate.toml");
    let found = examined(&path, &variables, 1).await;
    for check in ["credentials", "cloudwatch metrics", "cloudwatch alarms", "x-ray"] {
        assert_eq!(found[check]["ok"], true, "{check}: {found:?}");
    }
    let prometheus = &found["prometheus"];
    assert_eq!(prometheus["ok"], false, "{prometheus}");
    assert!(prometheus["remedy"].as_str().unwrap().contains("prometheus.url"), "{prometheus}");
    for (service, operation, check, action) in [
        ("cloudwatch", "GetMetricData", "cloudwatch metrics", "cloudwatch:GetMetricData"),
        ("cloudwatch", "DescribeAlarms", "cloudwatch alarms", "cloudwatch:DescribeAlarms"),
        ("xray", "GetTraceSummaries", "x-ray", "xray:GetTraceSummaries"),
    ] {
        double.fault_of(service, operation, "deny", serde_json::json!({})).await;
        let found = examined(&path, &variables, 1).await;
        let text = found[check]["text"].as_str().unwrap();
        assert!(found[check]["ok"] == false && text.contains(&format!("not allowed: {action}")), "{check}: {found:?}");
    }
}
