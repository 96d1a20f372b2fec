//! Endpoints that fail, are others than expected, or change in the meantime.

use super::harness::{EXAMPLE, Local, folder, tidegate, with_variables, write};
use super::route;
use crate::mesh::Running;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidegate::mesh::model;
use tokio::net::TcpListener;

/// Serves a router for the rest of the test; its address.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_said_to_be() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nothing = format!("http://{free}");
    for verb in ["diff", "apply"] {
        // Nothing is to be taken for "something would change".
        let code = if verb == "diff" { 2 } else { 1 };
        let ran = tidegate(&["mesh", verb, "-f", EXAMPLE, "--endpoint-url", &nothing]).await.expect(code);
        ran.says(&[&format!("no App Mesh at {nothing}: nothing answers there"), "tidegate local", "--endpoint-url"]);
    }
    let variable = [("AWS_ENDPOINT_URL_APP_MESH", nothing.as_str())];
    with_variables(&["mesh", "export"], &variable).await.expect(1).says(&[&nothing]);
    let ran = tidegate(&["mesh", "export", "--endpoint-url", "127.0.0.1:7071", "--output", "json"]).await.expect(2);
    assert!(ran.stdout.is_empty() && ran.stderr.starts_with("{\"error\":"), "{ran:?}");
    // What is wrong in the file is said first, with its place; no endpoint is needed for that.
    let folder = folder();
    let wrong = write(&folder, "wrong.yaml", "meshName: a b\n");
    let ran = tidegate(&["mesh", "apply", "-f", &wrong, "--endpoint-url", &nothing]).await.expect(2);
    ran.says(&["wrong.yaml:1:11: meshName: may hold only letters"]);

    // The daemon's own API has no meshes, but that does not mean that there are none.
    let local = Local::start().await;
    let ran = tidegate(&["mesh", "diff", "-f", EXAMPLE, "--endpoint-url", &local.api]).await.expect(2);
    ran.says(&["does not answer like App Mesh", "not of the daemon's API"]);
    local.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_wants_signatures_is_told_apart() {
    let refuse = || async {
        let error = [("x-amzn-errortype", "MissingAuthenticationTokenException:http://internal")];
        (StatusCode::FORBIDDEN, error, Json(json!({ "message": "Missing Authentication Token" })))
    };
    let url = serve(Router::new().fallback(refuse)).await;
    let ran = tidegate(&["mesh", "apply", "-f", EXAMPLE, "--endpoint-url", &url]).await.expect(1);
    ran.says(&[
        "MissingAuthenticationTokenException: Missing Authentication Token",
        "this endpoint asks for signed requests: set AWS_ACCESS_KEY_ID",
    ]);
}

/// A control plane whose n-th write, from 1, meets with something.
async fn with_nth_write<F>(
    running: &Running,
    nth: usize,
    meets: impl Fn(Request, Next) -> F + Clone + Send + Sync + 'static,
) -> String
where
    F: Future<Output = Response> + Send + 'static,
{
    let writes = Arc::new(AtomicUsize::new(0));
    let layer = from_fn(move |request: Request, next: Next| {
        let is_nth = request.method() == Method::PUT && writes.fetch_add(1, Ordering::SeqCst) + 1 == nth;
        let meets = meets.clone();
        async move { if is_nth { meets(request, next).await } else { next.run(request).await } }
    });
    serve(running.control.router(tidegate::mesh::http::Callers::Anyone).layer(layer)).await
}

#[tokio::test]
async fn a_failure_in_the_middle_says_what_is_done_and_can_be_repeated() {
    let running = Running::start().await;
    let url = with_nth_write(&running, 3, |_, _| async {
        let error = [("x-amzn-errortype", "ServiceUnavailableException")];
        (StatusCode::SERVICE_UNAVAILABLE, error, Json(json!({ "message": "not now" }))).into_response()
    })
    .await;
    let apply = ["mesh", "apply", "-f", EXAMPLE, "--endpoint-url", &url];
    let ran = tidegate(&apply).await.expect(1);
    assert!(ran.stdout.ends_with("created mesh shop\ncreated virtualNode checkout-v1\n"), "{ran:?}");
    ran.says(&[
        "could not create virtualNode checkout-v2",
        "ServiceUnavailableException: not now",
        "2 of 6 changes done; not done: virtualNode checkout-v2, virtualRouter checkout-router, ",
        "the same apply can be run again",
    ]);
    let again = tidegate(&apply).await.expect(0);
    assert!(again.stdout.contains("4 to create, 0 to update, 2 unchanged\n"), "{again:?}");
    tidegate(&["mesh", "diff", "-f", EXAMPLE, "--endpoint-url", &url]).await.expect(0);
}

#[tokio::test]
async fn a_lost_answer_is_not_called_a_failure() {
    let running = Running::start().await;
    // The write happens and its answer is cut off.
    let url = with_nth_write(&running, 1, |request, next| async move {
        next.run(request).await;
        Response::builder().header("content-length", "100").body("{".into()).unwrap()
    })
    .await;
    let apply = ["mesh", "apply", "-f", EXAMPLE, "--endpoint-url", &url, "--output", "json"];
    let ran = tidegate(&apply).await.expect(1);
    let summary = ran.json().pop().unwrap();
    assert_eq!((&summary["applied"], &summary["unsure"]), (&json!(0), &json!(["mesh/shop"])));
    assert_eq!(summary["not_applied"].as_array().map(Vec::len), Some(6));
    ran.says(&["whether that was done is not known"]);
    assert_eq!(tidegate(&apply).await.expect(0).json()[0]["changes"], 5);
}

#[tokio::test]
async fn weights_that_a_rollout_wrote_meanwhile_are_not_overwritten() {
    let running = Running::start().await;
    running.load_example().await;
    let control = running.control.clone();
    let key = model::Key::grandchild("shop", model::Kind::Route, "checkout-router", "checkout");
    // Between the read and the write, a rollout raises the canary.
    let url = with_nth_write(&running, 1, move |request, next| {
        let (control, key) = (control.clone(), key.clone());
        async move {
            let body = serde_json::from_str(&route(90, 10, "/")).unwrap();
            let extensions = model::Extensions { generation: Some(1), ..model::Extensions::default() };
            let write = model::Request::Update { key, owner: None, body, extensions };
            control.execute(write).await.unwrap();
            next.run(request).await
        }
    })
    .await;
    let folder = folder();
    let moved = write(&folder, "moved.json", &route(100, 0, "/shop"));
    let apply = ["mesh", "apply", "-f", &moved, "--endpoint-url", &url];
    tidegate(&apply)
        .await
        .expect(1)
        .says(&["ConflictException", "it was changed after it was read, perhaps by a rollout"]);
    let again = tidegate(&apply).await.expect(0);
    assert!(again.stdout.contains("weights stay 90/10 (the file says 100/0)"), "{again:?}");
}

#[tokio::test]
async fn changes_that_need_a_step_between_are_refused_before_the_first() {
    let running = Running::start().await;
    running.load_example().await;
    let node = json!({ "meshName": "shop", "virtualNodeName": "checkout-v1", "spec": {
        "serviceDiscovery": { "dns": { "hostname": "127.0.0.1" } },
        "listeners": [{ "portMapping": { "port": 9001, "protocol": "http" } },
                      { "portMapping": { "port": 9005, "protocol": "http" } }] } });
    let folder = folder();
    let with_port = |port: &str| {
        let route = route(100, 0, "/").replace("\"checkout-v1\"", &format!("\"checkout-v1\",\"port\":{port}"));
        write(&folder, "both.json", &format!("[{node},{route}]"))
    };
    let url = running.url();
    let file = with_port("9005");
    tidegate(&["mesh", "diff", "-f", &file, "--endpoint-url", &url])
        .await
        .expect(1)
        .says(&["`apply` would refuse this"]);
    let ran = tidegate(&["mesh", "apply", "-f", &file, "--endpoint-url", &url]).await.expect(1);
    ran.says(&["the API takes one at a time", "route checkout-router/checkout", "a state in between first"]);
    // With such a step the order is found.
    for port in ["9001", "9005"] {
        tidegate(&["mesh", "apply", "-f", &with_port(port), "--endpoint-url", &url]).await.expect(0);
    }
}
