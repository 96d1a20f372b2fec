//! The commands of a guide to App Mesh (`tests/reference/appmesh-guide.sh`), pasted into a shell with the real AWS CLI, and
//! their specs as files of `tidegate mesh apply`.

use super::harness::{Local, folder, write};
use crate::mesh::cli::aws;
use serde_json::{Value, json};
use std::path::Path;
use tidegate::mesh::model::{Key, Kind};
use tokio::process::Command;

/// Commands that the CLI refuses before it asks anybody: what they contain, how the CLI says so, and what to write instead
/// (docs/MESH.md, "App Mesh guides").
const REFUSED: [(&str, &str, &str); 2] = [
    (
        "--spec egressFilter='{allowAll=true}'",
        "Missing required parameter in spec.egressFilter: \"type\"",
        "--spec egressFilter='{type=ALLOW_ALL}'",
    ),
    (
        "\"unhealthyThreshold\": 3\n",
        "Missing required parameter in spec.listeners[0].healthCheck: \"timeoutMillis\"",
        "\"unhealthyThreshold\": 3, \"intervalMillis\": 30000, \"timeoutMillis\": 5000\n",
    ),
];

fn commands() -> Vec<String> {
    let text = std::fs::read_to_string("tests/reference/appmesh-guide.sh").unwrap();
    let blocks = text.split("\n\n").filter(|block| block.starts_with("aws "));
    blocks.map(str::to_owned).collect()
}

/// What a command creates: its key and its spec as JSON, or as the informal text that it is.
fn described(command: &str) -> (Key, Result<Value, String>) {
    let value = |flag: &str| {
        let rest = command.split_once(&format!("--{flag} "))?.1;
        rest.split_whitespace().next().map(str::to_owned)
    };
    let verb = command.strip_prefix("aws appmesh create-").and_then(|rest| rest.split_whitespace().next()).unwrap();
    let kind = Kind::ALL.into_iter().find(|kind| kind.word().to_lowercase() == verb.replace('-', "")).unwrap();
    let name = |kind: Kind| {
        let title = kind.title();
        let words = title.char_indices().map(|(at, c)| {
            let dash = if at > 0 && c.is_uppercase() { "-" } else { "" };
            format!("{dash}{}", c.to_lowercase())
        });
        value(&format!("{}-name", words.collect::<String>())).unwrap_or_default()
    };
    let parent = kind.parent().map(name).unwrap_or_default();
    let key = Key { mesh: name(Kind::Mesh), kind, parent, name: name(kind) };
    let spec = command.split_once("--spec ").unwrap().1;
    let spec = match spec.strip_prefix('\'') {
        Some(json) => Ok(serde_json::from_str(json.split('\'').next().unwrap()).unwrap()),
        None => Err(spec.split_whitespace().next().unwrap().to_owned()),
    };
    (key, spec)
}

/// Pastes a command into a shell.
async fn paste(aws: &Path, url: &str, command: &str) -> Result<(), String> {
    let directory = std::path::absolute(aws).unwrap();
    let path = format!("{}:/usr/bin:/bin", directory.parent().unwrap().display());
    let output = Command::new("bash")
        .args(["-c", command])
        .env("PATH", path)
        .env("AWS_ENDPOINT_URL_APP_MESH", url)
        .env("AWS_ACCESS_KEY_ID", "any")
        .env("AWS_SECRET_ACCESS_KEY", "any")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_PAGER", "")
        .env("AWS_MAX_ATTEMPTS", "1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .await
        .unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

async fn get(url: &str) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.get(url).send().await.unwrap().json().await.unwrap()
}

/// Where the API describes a resource.
fn address(local: &Local, key: &Key) -> String {
    let base = format!("{}/v20190125/meshes/{}", local.appmesh(), key.mesh);
    match key.kind {
        Kind::Mesh => base,
        Kind::Route => format!("{base}/virtualRouter/{}/routes/{}", key.parent, key.name),
        kind => format!("{base}/{}/{}", kind.plural(), key.name),
    }
}

/// The spec with what App Mesh adds to one: a health check has the port of its listener.
fn echoed(mut spec: Value) -> Value {
    let listeners = spec.get_mut("listeners").and_then(Value::as_array_mut);
    for listener in listeners.into_iter().flatten() {
        let port = listener["portMapping"]["port"].clone();
        if let Some(check) = listener.get_mut("healthCheck") {
            check["port"] = port;
        }
    }
    spec
}

#[tokio::test]
async fn the_guides_commands_run_as_they_are_pasted_and_describe_back_what_they_put() {
    let Some(aws) = aws().await else { return };
    let local = Local::start().await;
    let all = commands();
    assert_eq!(all.len(), 15);
    let mut refused = 0;
    for command in &all {
        let Err(error) = paste(&aws, &local.appmesh(), command).await else { continue };
        let known = REFUSED.iter().find(|(part, ..)| command.contains(part) && !command.contains("intervalMillis"));
        let Some((part, says, instead)) = known else { panic!("{command}\n{error}") };
        // By the CLI, which asked nobody.
        assert!(error.contains("Parameter validation failed") && error.contains(says), "{command}\n{error}");
        paste(&aws, &local.appmesh(), &command.replace(part, instead)).await.unwrap();
        refused += 1;
    }
    assert_eq!(refused, REFUSED.len());

    for command in &all {
        let (key, spec) = described(command);
        let mut spec = spec.unwrap_or_else(|_| json!({ "egressFilter": { "type": "ALLOW_ALL" } }));
        if key.name == "user-service" {
            spec["listeners"][0]["healthCheck"]["intervalMillis"] = 30_000.into();
            spec["listeners"][0]["healthCheck"]["timeoutMillis"] = 5_000.into();
        }
        let found = get(&address(&local, &key)).await;
        assert_eq!(found["spec"], echoed(spec), "{key}");
        assert_eq!(found["metadata"]["version"], 1, "{key}");
    }

    // What the guide leaves open is told, and that alone: a service whose node it never makes, and nodes without discovery.
    let problems = get(&format!("{}/v1/mesh/problems", local.api)).await;
    let told: Vec<String> = problems["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| {
            let message = problem["message"].as_str().unwrap();
            format!(
                "{}: {}",
                problem["resource"].as_str().unwrap(),
                message.split(": ").take(2).collect::<Vec<_>>().join(": ")
            )
        })
        .filter(|line| line.contains("unresolved"))
        .collect();
    assert_eq!(
        told,
        [
            "mesh/my-mesh/virtualNode/resilient-service: unresolved: spec.serviceDiscovery",
            "mesh/my-mesh/virtualNode/secure-service: unresolved: spec.serviceDiscovery",
            "mesh/my-mesh/virtualNode/user-service: unresolved: spec.serviceDiscovery",
            "mesh/my-mesh/virtualService/database-service.local: unresolved: spec.provider.virtualNode.virtualNodeName",
        ],
        "{problems}"
    );
    local.stop().await;
}

#[tokio::test]
async fn the_guides_specs_are_applied_as_files_and_what_they_leave_out_is_told() {
    let local = Local::start().await;
    let folder = folder();
    for (at, command) in commands().iter().enumerate() {
        let (key, spec) = described(command);
        // In the shell `{allowAll=true}` is the CLI's short way of writing an object.
        let spec = spec.unwrap_or_else(|text| {
            assert_eq!(text, "egressFilter='{allowAll=true}'");
            json!({ "egressFilter": { "allowAll": true } })
        });
        let mut document = json!({ "meshName": key.mesh, key.kind.name_member(): key.name, "spec": spec });
        if let Some(parent) = key.kind.parent() {
            document[parent.name_member()] = key.parent.into();
        }
        write(&folder, &format!("{at:02}.json"), &document.to_string());
    }
    let directory = folder.path().to_str().unwrap();
    let applied = local.mesh(&["apply", "-f", directory]).await.expect(0);
    assert!(applied.stdout.contains("15 to create, 0 to update, 0 unchanged\n"), "{applied:?}");
    let applied = applied.says(&[
        "spec.egressFilter.allowAll: is no member of the API: {\"type\": \"ALLOW_ALL\"} is taken",
        "spec.listeners[0].healthCheck.intervalMillis: is not said, and the API requires it: 30000 is taken",
        "spec.listeners[0].healthCheck.timeoutMillis: is not said, and the API requires it: 5000 is taken",
        "unresolved: spec.provider.virtualNode.virtualNodeName: virtualNode database-node does not exist yet",
    ]);
    assert_eq!(applied.stderr.matches("is taken").count(), 3, "{applied:?}");
    let again = local.mesh(&["apply", "-f", directory]).await.expect(0);
    assert!(again.stdout.ends_with("nothing to change: 15 resources as described\n"), "{again:?}");
    // The same files are refused where AWS's rules are asked for.
    let strict = super::harness::tidegate(&["mesh", "validate", "--strict", "-f", directory]).await.expect(2);
    strict.says(&["spec.serviceDiscovery: is required", "VirtualNode with name database-node is not present"]);
    super::harness::tidegate(&["mesh", "validate", "-f", directory]).await.expect(0);
    local.stop().await;
}
