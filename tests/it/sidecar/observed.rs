//! What the process tells others, by its variables and by the page that names them; and how it ends before it has begun.

use super::{NODE, Plane};
use crate::program::aws_double::AwsDouble;
use crate::program::otlp::OtlpReceiver;
use crate::program::{Process, command, until};
use crate::shell::Page;
use serde_json::Value;
use std::time::Duration;
use tokio::process::Command;

/// A proxy of its own with these variables.
fn proxy(plane: &Plane, node: &str, variables: &[(&str, &str)]) -> Process {
    let control_plane = format!("http://127.0.0.1:{}", plane.ports[1]);
    let mut command: Command =
        command(&["proxy", "--output", "json", "--node", node, "--control-plane", &control_plane]);
    command.args(["--egress", "127.0.0.1:0", "--ingress", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.envs(variables.iter().copied());
    Process::spawn(command)
}

/// The variables that the page exports in its example, with this endpoint.
fn example(endpoint: &str) -> Vec<(String, String)> {
    let page = Page::of("docs/proxy-observability.md", "spans_go_as_the_page_says_and_the_last_minute_to_cloudwatch");
    let text = page.raw("otlp").to_owned();
    page.done();
    let words = text.lines().flat_map(|line| line.strip_prefix("export ").unwrap().split(' '));
    let pairs = words.map(|word| word.split_once('=').unwrap());
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.replace("http://127.0.0.1:4318", endpoint)));
    pairs.collect()
}

#[tokio::test]
async fn spans_go_as_the_page_says_and_the_last_minute_to_cloudwatch() {
    let Some(collector) = OtlpReceiver::start().await else { return };
    let Some(double) = AwsDouble::start().await else { return };
    let plane = Plane::start().await;
    let example = example(&collector.url);
    let mut variables: Vec<(&str, &str)> =
        example.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    variables.extend([
        ("TIDEGATE_CLOUDWATCH", "1"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL_CLOUDWATCH", &double.url),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ]);
    let mut proxy = proxy(&plane, NODE, &variables);
    let egress = proxy.listening(3).await["egress"];
    plane.expect(egress, "v1").await;
    for _ in 0..10 {
        assert_eq!(plane.answers(egress).await, "v1");
    }
    let log = proxy.stderr.text();
    assert!(!log.contains("TOKEN"), "{log}");
    assert_eq!(proxy.terminate().await, Some(0));

    let spans = collector.spans().await;
    let answered: Vec<&Value> =
        spans.iter().filter(|span| span["attributes"]["http.response.status_code"] == "200").collect();
    assert!(answered.len() >= 11, "{spans:?}");
    assert_eq!(answered[0]["resource"]["service.name"], "shop-web");
    assert_eq!(answered[0]["attributes"]["tidegate.route"].as_str().unwrap().split('@').next(), Some("checkout/main"));
    assert_eq!(collector.calls().await[0]["headers"]["authorization"], "Bearer TOKEN");

    // The second report would have come after a minute.
    let calls = double.calls().await;
    let data = calls.iter().flat_map(|call| call["params"]["MetricData"].as_array().unwrap());
    let good = data.filter(|datum| datum["MetricName"] == "envoy.appmesh.HTTPCode_Target_2XX_Count");
    let good: f64 = good.map(|datum| datum["Value"].as_f64().unwrap()).sum();
    assert_eq!(good, answered.len() as f64);
}

#[tokio::test]
async fn wrong_variables_are_said_before_anything_is_listened_on() {
    for (variable, said) in [
        (("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"), "is no URL with http:// or https://"),
        (("TIDEGATE_CLOUDWATCH_NAMESPACE", "AWS/ECS"), "which CloudWatch does not take"),
    ] {
        let mut command = command(&["proxy", "--node", NODE, "--control-plane", "http://127.0.0.1:1"]);
        command.envs([("TIDEGATE_CLOUDWATCH", "1"), variable]);
        crate::program::finish(command).await.expect(2).says(&[said]);
    }
    let mut without_region = command(&["proxy", "--node", NODE, "--control-plane", "http://127.0.0.1:1"]);
    without_region.args(["--egress", "127.0.0.1:0", "--ingress", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    without_region.env("TIDEGATE_CLOUDWATCH", "1").env_remove("AWS_REGION").env_remove("AWS_DEFAULT_REGION");
    without_region.env("AWS_CONFIG_FILE", "/nowhere").env("AWS_PROFILE", "default");
    crate::program::finish(without_region).await.says(&["there is no region; set AWS_REGION"]);
}

#[tokio::test]
async fn a_proxy_that_waits_for_its_configuration_quits_when_it_is_asked() {
    let plane = Plane::start().await;
    let port = crate::kit::ports::steady_port();
    let control_plane = format!("http://127.0.0.1:{}", plane.ports[1]);
    let mut command = command(&["proxy", "--node", "mesh/shop/virtualNode/nobody", "--control-plane", &control_plane]);
    command.args(["--egress", "127.0.0.1:0", "--ingress", "127.0.0.1:0", "--admin", &format!("127.0.0.1:{port}")]);
    let mut waiting = Process::spawn(command);
    let admin = format!("http://127.0.0.1:{port}");
    until("it waits", async || {
        let answer = plane.http.get(format!("{admin}/server_info")).send().await.ok()?;
        answer.text().await.ok()?.contains("INITIALIZING").then_some(())
    })
    .await;
    let answer = plane.http.post(format!("{admin}/quitquitquit")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "OK\n");
    let ended = tokio::time::timeout(Duration::from_secs(60), waiting.ended()).await.unwrap();
    assert_eq!(ended.code(), Some(0), "{}", waiting.stderr.text());
}
