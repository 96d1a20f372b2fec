//! With the AWS CLI, the client that people use.

use super::Running;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// The CLI of `.venv`, else the one on PATH; `None` when there is none, and a panic when `CI` says there must be one.
pub(crate) async fn aws() -> Option<PathBuf> {
    let ours = Path::new(".venv/bin/aws");
    let path = if ours.exists() { ours.to_owned() } else { PathBuf::from("aws") };
    let works = Command::new(&path).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    if works.is_ok_and(|status| status.success()) {
        return Some(path);
    }
    crate::program::lacks("aws");
    None
}

/// Runs `aws appmesh …`; what it printed as JSON, or the error text.
pub(crate) async fn run(aws: &Path, url: &str, arguments: &[&str]) -> Result<serde_json::Value, String> {
    run_service(aws, url, "appmesh", arguments).await
}

/// `aws SERVICE …`, ready to run, signing with some key.
pub(super) fn program(aws: &Path, url: &str, service: &str, arguments: &[&str]) -> Command {
    let mut program = Command::new(aws);
    program
        .arg(service)
        .args(arguments)
        .args(["--endpoint-url", url, "--output", "json"])
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_PAGER", "")
        .env("AWS_MAX_ATTEMPTS", "1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("NO_PROXY", "127.0.0.1");
    program
}

/// Runs `aws SERVICE …`.
pub(crate) async fn run_service(
    aws: &Path,
    url: &str,
    service: &str,
    arguments: &[&str],
) -> Result<serde_json::Value, String> {
    let output = program(aws, url, service, arguments).output().await.unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
}

const NODE: &str = r#"{"serviceDiscovery":{"dns":{"hostname":"127.0.0.1"}},
    "listeners":[{"portMapping":{"port":9001,"protocol":"http"},"healthCheck":{"protocol":"http","path":"/health",
    "intervalMillis":5000,"timeoutMillis":2000,"healthyThreshold":2,"unhealthyThreshold":2}}]}"#;
const ROUTER: &str = r#"{"listeners":[{"portMapping":{"port":9000,"protocol":"http"}}]}"#;

fn route(v1: u32, v2: u32) -> String {
    format!(
        r#"{{"httpRoute":{{"match":{{"prefix":"/"}},"action":{{"weightedTargets":[
        {{"virtualNode":"v1","weight":{v1}}},{{"virtualNode":"v2","weight":{v2}}}]}}}}}}"#
    )
}

#[tokio::test]
async fn the_cli_creates_and_shifts() {
    let Some(aws) = aws().await else { return };
    let running = Running::start().await;
    let do_it = async |arguments: &[&str]| run(&aws, &running.url(), arguments).await.unwrap();

    let mesh = do_it(&["create-mesh", "--mesh-name", "shop"]).await;
    assert_eq!(mesh["mesh"]["spec"], serde_json::json!({}));
    assert_eq!(mesh["mesh"]["status"]["status"], "ACTIVE");
    for node in ["v1", "v2"] {
        let made =
            do_it(&["create-virtual-node", "--mesh-name", "shop", "--virtual-node-name", node, "--spec", NODE]).await;
        assert_eq!(made["virtualNode"]["spec"]["listeners"][0]["healthCheck"]["port"], 9001);
    }
    let router = ["--mesh-name", "shop", "--virtual-router-name", "r"];
    do_it(&[&["create-virtual-router"][..], &router, &["--spec", ROUTER]].concat()).await;
    let named = [&router[..], &["--route-name", "x"]].concat();
    do_it(&[&["create-route"][..], &named, &["--spec", &route(100, 0)]].concat()).await;

    let gateway = r#"{"listeners":[{"portMapping":{"port":8088,"protocol":"http"}}]}"#;
    let arguments = ["create-virtual-gateway", "--mesh-name", "shop", "--virtual-gateway-name", "g", "--spec", gateway];
    assert_eq!(do_it(&arguments).await["virtualGateway"]["status"]["status"], "ACTIVE");

    let list = do_it(&[&["list-routes"][..], &router].concat()).await;
    assert_eq!(list["routes"][0]["routeName"], "x");
    assert_eq!(list["routes"][0]["version"], 1);

    // The way the guide shifts traffic: describe, edit, send back as a file.
    let mut input = do_it(&[&["describe-route"][..], &named].concat()).await["route"].take();
    let object = input.as_object_mut().unwrap();
    object.remove("metadata");
    object.remove("status");
    object["spec"]["httpRoute"]["action"]["weightedTargets"][0]["weight"] = 80.into();
    object["spec"]["httpRoute"]["action"]["weightedTargets"][1]["weight"] = 20.into();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), input.to_string()).unwrap();
    let updated = do_it(&["update-route", "--cli-input-json", &format!("file://{}", file.path().display())]).await;
    assert_eq!(updated["route"]["metadata"]["version"], 2);
    assert_eq!(updated["route"]["spec"], input["spec"]);
}

#[tokio::test]
async fn the_cli_shows_our_errors() {
    let Some(aws) = aws().await else { return };
    let running = Running::start().await;
    running.load_example().await;
    let refused = async |arguments: &[&str]| run(&aws, &running.url(), arguments).await.unwrap_err();

    let text = refused(&["describe-mesh", "--mesh-name", "other"]).await;
    assert!(text.contains("(NotFoundException)"), "{text}");
    assert!(text.contains("Mesh with name other is not present for account 000000000000"), "{text}");
    let named =
        ["update-route", "--mesh-name", "shop", "--virtual-router-name", "checkout-router", "--route-name", "checkout"];
    let text = refused(&[&named[..], &["--spec", &route(80, 40)]].concat()).await;
    assert!(text.contains("(BadRequestException)"), "{text}");
    assert!(text.contains("weights must sum to at most 100, not 120"), "{text}");
    let text = refused(&["delete-virtual-node", "--mesh-name", "shop", "--virtual-node-name", "checkout-v1"]).await;
    assert!(text.contains("(ResourceInUseException)"), "{text}");
}
