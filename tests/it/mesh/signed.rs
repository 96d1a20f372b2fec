//! Signed by clients that are not ours, and refused in their words when it is not by the right key.

use super::Running;
use super::sdk::client_with;
use aws_sdk_appmesh::error::ProvideErrorMetadata;
use std::process::Stdio;
use std::sync::Arc;
use tidegate::base::access_key::{AccessKey, Right};
use tidegate::base::secret::Redacted;
use tidegate::mesh::access::Keys;
use tidegate::mesh::http::Callers;

pub(super) fn keys() -> Callers {
    let key = |name: &str, secrets: &[&str], right, mesh: Option<&str>| AccessKey {
        name: name.into(),
        id: format!("AKID{}", name.to_uppercase()),
        secrets: secrets.iter().map(|secret| Redacted::new((*secret).to_owned())).collect(),
        right,
        mesh: mesh.map(str::to_owned),
    };
    Callers::Signed(Arc::new(Keys::new(vec![
        key("admin", &["old-secret", "new-secret"], Right::Write, None),
        key("reader", &["secret"], Right::Read, None),
        key("shop", &["secret"], Right::Write, Some("shop")),
    ])))
}

#[tokio::test]
async fn the_sdk_signs_and_is_let_in_as_far_as_its_key_goes() {
    let running = Running::for_callers(Arc::default(), keys()).await;
    for (secret, region) in [("old-secret", "us-east-1"), ("new-secret", "eu-central-1")] {
        let admin = client_with(&running, "AKIDADMIN", secret, region);
        super::sdk::create_all(&admin).await;
        // A name with a slash and a blank is in the path, limits and tokens are in the query.
        let name = "shop/checkout local";
        admin.describe_virtual_service().mesh_name("shop").virtual_service_name(name).send().await.unwrap();
        let nodes = admin.list_virtual_nodes().mesh_name("shop").mesh_owner("000000000000").limit(1);
        let pages: Vec<_> = nodes.into_paginator().send().collect::<Result<Vec<_>, _>>().await.unwrap();
        assert_eq!(pages.len(), 2);
        super::sdk::tear_down(&admin).await;
    }

    let reader = client_with(&running, "AKIDREADER", "secret", "us-east-1");
    reader.list_meshes().send().await.unwrap();
    let refused = reader.create_mesh().mesh_name("other").send().await.unwrap_err().into_service_error();
    assert!(refused.is_forbidden_exception(), "{refused:?}");
    assert!(refused.message().unwrap().contains("appmesh:CreateMesh: it may only read"), "{refused:?}");

    let shop = client_with(&running, "AKIDSHOP", "secret", "us-east-1");
    shop.create_mesh().mesh_name("shop").send().await.unwrap();
    let refused = shop.create_mesh().mesh_name("other").send().await.unwrap_err().into_service_error();
    assert!(refused.message().unwrap().contains("on mesh other: it is for mesh shop alone"), "{refused:?}");

    for (id, secret, code) in [
        ("AKIDADMIN", "older-secret", "InvalidSignatureException"),
        ("AKIDNOBODY", "secret", "UnrecognizedClientException"),
    ] {
        let error = client_with(&running, id, secret, "us-east-1").list_meshes().send().await.unwrap_err();
        assert_eq!(error.code(), Some(code));
        assert_eq!(error.raw_response().unwrap().status().as_u16(), 403);
    }
}

#[tokio::test]
async fn whoever_does_not_sign_learns_how() {
    let running = Running::for_callers(Arc::default(), keys()).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    // Also for what is no operation: nobody learns what there is.
    for path in ["/v20190125/meshes", "/", "/v20190125/nothing"] {
        let answer = client.get(format!("{}{path}", running.url())).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 403);
        assert_eq!(answer.headers()["x-amzn-errortype"], "MissingAuthenticationTokenException");
        let body: serde_json::Value = answer.json().await.unwrap();
        assert!(body["message"].as_str().unwrap().contains("[mesh.keys]"), "{body}");
    }
    // A body is not waited for from a stranger.
    let request = client.put(format!("{}/v20190125/meshes", running.url()));
    let endless = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let answer = request.body(reqwest::Body::wrap_stream(endless)).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 403);
}

#[tokio::test]
async fn the_aws_cli_signs() {
    let Some(aws) = super::cli::aws().await else { return };
    let running = Running::for_callers(Arc::default(), keys()).await;
    let run = async |id: &str, secret: &str, arguments: &[&str]| {
        let output = super::cli::program(&aws, &running.url(), "appmesh", arguments)
            .env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let create = ["create-mesh", "--mesh-name", "shop", "--tags", "key=a b,value=ä/+"];
    assert_eq!(run("AKIDADMIN", "new-secret", &create).await, (true, String::new()));
    let list = ["list-meshes", "--page-size", "1", "--max-items", "1"];
    assert_eq!(run("AKIDREADER", "secret", &list).await, (true, String::new()));
    for (id, secret, code) in [
        ("AKIDADMIN", "wrong", "(InvalidSignatureException)"),
        ("AKIDNOBODY", "wrong", "(UnrecognizedClientException)"),
    ] {
        let (done, said) = run(id, secret, &list).await;
        assert!(!done && said.contains(code), "{said}");
    }
    let (done, said) = run("AKIDREADER", "secret", &["delete-mesh", "--mesh-name", "shop"]).await;
    assert!(!done && said.contains("(ForbiddenException)") && said.contains("appmesh:DeleteMesh"), "{said}");
}
