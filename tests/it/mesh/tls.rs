//! The App Mesh API by TLS, and the controller beside it.

use super::cli;
use crate::kit::certificates::Authority;
use crate::kit::ports::steady_port;
use crate::program::world::{Api, Files};
use crate::program::{Process, Ran, command, finish, until};
use serde_json::{Value, json};
use std::process::Stdio;

const SECRET: &str = "admin-secret-admin-secret";

fn config(files: &Files, port: u16) -> String {
    format!(
        "[api]\nlisten = \"127.0.0.1:0\"\nauth = \"none\"\n[database]\ndata_dir = \"{}\"\n[policies]\ndirectory = \"{}\"\n\
         [mesh]\nlisten = \"127.0.0.1:{port}\"\nxds_listen = \"127.0.0.1:0\"\nregion = \"eu-central-1\"\n\
         certificate = \"{}\"\nkey = \"{}\"\n\
         [mesh.keys.admin]\nid = \"AKIDADMIN\"\nsecret = \"{SECRET}\"\nallow = \"write\"\n",
        files.at("data"),
        files.at("policies"),
        files.at("server.crt"),
        files.at("server.key")
    )
}

/// `tidegate mesh` with the key, believing the authority.
async fn mesh(files: &Files, endpoint: &str, words: &[&str]) -> Ran {
    let mut program = command(&[&["mesh"], words, &["--endpoint-url", endpoint]].concat());
    program.env("AWS_ACCESS_KEY_ID", "AKIDADMIN").env("AWS_SECRET_ACCESS_KEY", SECRET);
    program.env("TIDEGATE_CA_FILE", files.at("ca.crt"));
    finish(program).await
}

#[tokio::test]
async fn a_daemon_drives_the_mesh_that_it_serves_by_tls() {
    let files = Files::new([9001, 9002], "");
    let authority = Authority::new();
    // The name leads here by the system's resolver alone, and this daemon believes no authority of the test's.
    let (certificate, key) = authority.issue(&["localhost"]);
    for (name, text) in [("ca.crt", &authority.pem), ("server.crt", &certificate), ("server.key", &key)] {
        files.write(name, text);
    }
    let port = steady_port();
    files.write("tidegate.toml", &config(&files, port));
    let arguments = ["serve", "--output", "json", "--config", &files.at("tidegate.toml")];
    let mut process = Process::spawn(command(&arguments));
    let addresses = process.listening(3).await;
    let endpoint = format!("https://localhost:{port}");
    mesh(&files, &endpoint, &["apply", "--yes", "-f", &files.at("mesh.yaml")]).await.expect(0);
    mesh(&files, &endpoint, &["diff", "-f", &files.at("mesh.yaml")]).await.expect(0);

    // Its controller writes and reads, and the clients see it.
    let api = Api::new(addresses.clone());
    let id = api.start_rollout().await;
    let share = async || {
        let all = mesh(&files, &endpoint, &["export", "--output", "json"]).await.expect(0).stdout;
        let split = "{\"virtualNode\":\"checkout-v2\",\"weight\":";
        let (_, rest) = all.split_once(split).unwrap_or_else(|| panic!("no weight: {all}"));
        rest.split('}').next().unwrap().to_owned()
    };
    until("the first share is in the mesh", async || (share().await == "10").then_some(())).await;
    let (status, _) = api.post(&format!("/v1/rollouts/{id}/abort"), &json!({"reason": "enough"})).await;
    assert_eq!(status, 200);
    until("it went back", async || (share().await == "0").then_some(())).await;

    // Other clients: whoever does not sign, whoever does not believe, and whoever speaks clear text.
    let root = reqwest::Certificate::from_pem(authority.pem.as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().add_root_certificate(root).build().unwrap();
    let unsigned = client.get(format!("{endpoint}/v20190125/meshes")).send().await.unwrap();
    assert_eq!(unsigned.status().as_u16(), 403);
    let unbelieving = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(unbelieving.get(format!("{endpoint}/v20190125/meshes")).send().await.unwrap_err().is_connect());
    assert!(unbelieving.get(format!("http://localhost:{port}/v20190125/meshes")).send().await.is_err());
    if let Some(aws) = cli::aws().await {
        let mut program = cli::program(&aws, &endpoint, "appmesh", &["list-virtual-nodes", "--mesh-name", "shop"]);
        program.env("AWS_ACCESS_KEY_ID", "AKIDADMIN").env("AWS_SECRET_ACCESS_KEY", SECRET);
        program.env("AWS_CA_BUNDLE", files.at("ca.crt")).env("NO_PROXY", "localhost");
        let output = program.stdin(Stdio::null()).output().await.unwrap();
        let nodes: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert_eq!(nodes["virtualNodes"].as_array().map(Vec::len), Some(2), "{output:?}");
    }
    // The doctor knows a daemon that speaks TLS.
    let looked = finish(command(&["doctor", "--config", &files.at("tidegate.toml")])).await;
    assert!(looked.stdout.contains(&format!("a daemon answers at 127.0.0.1:{port}")), "{looked:?}");
    assert_eq!(process.terminate().await, Some(0));
    // With a key of another certificate it does not start, and says which keys to look at.
    files.write("server.key", &authority.issue(&["localhost"]).1);
    let ended = finish(command(&arguments)).await.expect(2);
    ended.says(&["server.key does not belong to the certificate", "mesh.certificate, mesh.key and mesh.clients"]);
}
