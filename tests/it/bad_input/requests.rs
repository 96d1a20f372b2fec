//! Requests that nobody should send: absurd bodies, addresses, methods, and pages of other sites.

use crate::program::text;
use crate::program::world::{Daemon, Files, World};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn http() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

/// Sends, and expects a problem document of this status and kind.
async fn problem(request: RequestBuilder, status: u16, kind: &str) -> Value {
    let answer = request.send().await.unwrap();
    let headers = answer.headers().clone();
    assert_eq!(answer.status().as_u16(), status, "{kind}");
    assert_eq!(headers["content-type"], "application/problem+json", "{kind}");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((&problem["type"], &problem["status"]), (&format!("tidegate:{kind}").into(), &status.into()));
    assert!(!text(&problem["detail"]).is_empty() && problem["retryable"] == (status >= 500), "{problem}");
    problem
}

#[tokio::test]
async fn bodies_that_make_no_sense_are_answered_with_what_is_wrong() {
    let world = World::start().await;
    let url = format!("{}/v1/rollouts", world.daemon.url("api"));
    let post = |body: Vec<u8>| http().post(&url).body(body);
    for (body, says) in [
        ("not json", "line 1 column 2"),
        ("", "missing field `policy`"),
        ("{}", "missing field `policy`"),
        ("[]", "the body is not what this address takes"),
        ("null", "the body is not what this address takes"),
        ("{\"policy\": 7}", "invalid type: integer `7`, expected a string"),
        ("{\"policy\": \"checkout\", \"polcy\": 1}", "unknown field `polcy`, expected one of `policy`"),
        ("{\"policy\": \"checkout\"} trailing", "trailing characters"),
        ("{\"policy\": \"checkout\", \"policy\": \"checkout\"}", "duplicate field"),
    ] {
        let problem = problem(post(body.into()), 400, "bad-body").await;
        assert!(text(&problem["detail"]).contains(says), "{body}: {problem}");
    }
    problem(post(b"{\"policy\": \"\xff\"}".to_vec()), 400, "bad-body").await;
    problem(post("[".repeat(60_000).into()), 400, "bad-body").await;
    problem(post(vec![b' '; 64 * 1024 + 1]), 413, "body-too-large").await;
    problem(post(b"{\"policy\": \"checkout\", \"image\": \"a:1\"}".to_vec()), 409, "refused").await;
    let strange = format!("{{\"policy\": \"{}\"}}", "../../etc/passwd\\u0000\\u001b[2J");
    problem(post(strange.into()), 404, "no-such-policy").await;
    world.daemon.run(&["rollout", "start", "../../etc/passwd"]).await.expect(1).says(&["there is no policy"]);
    assert!(world.daemon.run(&["rollout", "list"]).await.expect(0).stdout.contains("[]"));
}

#[tokio::test]
async fn addresses_methods_and_names_that_are_not_there() {
    let files = Files::new([1, 2], "");
    let daemon = Daemon::start(&files.local(&BTreeMap::new())).await;
    let at = |path: &str| format!("{}{path}", daemon.url("api"));
    let get = |path: &str| http().get(at(path));
    for path in ["/nope", "/v1", "/v1/rollouts/", "/v1/rollouts/a/b/c", "/..%2fetc"] {
        problem(get(path), 404, "no-such-address").await;
    }
    for name in ["r-0000000000000000", "nope", "%00", "%22%3b--", "a%2fb", &"x".repeat(5000)] {
        problem(get(&format!("/v1/rollouts/{name}")), 404, "no-such-rollout").await;
        problem(http().post(at(&format!("/v1/rollouts/{name}/abort"))), 404, "no-such-rollout").await;
        problem(get(&format!("/v1/policies/{name}")), 404, "no-such-policy").await;
    }
    problem(get("/v1/rollouts/%ff"), 400, "bad-request").await;
    problem(http().post(at("/v1/rollouts/x/fly")), 404, "no-such-verb").await;
    problem(http().post(at("/v1/rollouts/x/promote")), 400, "reason-missing").await;
    problem(http().post(at("/v1/rollouts/x/abort")).body("{\"reson\": \"x\"}"), 400, "bad-body").await;
    for (method, path) in
        [("DELETE", "/v1/rollouts"), ("PUT", "/v1/policies"), ("GET", "/v1/rollouts/x/abort"), ("POST", "/readyz")]
    {
        let request = http().request(Method::from_bytes(method.as_bytes()).unwrap(), at(path));
        problem(request, 405, "no-such-method").await;
    }
    // What is no HTTP at all ends its connection and nothing else.
    let mut stream = tokio::net::TcpStream::connect(daemon.addresses["api"]).await.unwrap();
    stream.write_all(b"\x16\x03\x01 hello\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    for words in [["rollout", "get", "nope"], ["rollout", "pause", "nope"], ["rollout", "watch", "../x"]] {
        daemon.run(&words).await.expect(1).says(&["there is no rollout", "tidegate rollout list"]);
    }
    daemon.run(&["health"]).await.expect(0);
}

#[tokio::test]
async fn pages_of_other_sites_reach_neither_the_api_nor_the_mesh() {
    let files = Files::new([1, 2], "");
    let daemon = Daemon::start(&files.local(&BTreeMap::new())).await;
    let mesh = format!("{}/v20190125/meshes", daemon.url("appmesh"));
    for url in [format!("{}/v1/rollouts", daemon.url("api")), mesh] {
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", "[::2]"] {
            problem(http().get(&url).header("host", host), 403, "foreign-host").await;
        }
        for origin in ["http://evil.example", "null", "https://127.0.0.1.evil.example", "file://"] {
            problem(http().get(&url).header("origin", origin), 403, "foreign-origin").await;
        }
        for host in ["localhost", "localhost:7070", "127.0.0.1:1", "[::1]:80"] {
            let answer = http().get(&url).header("host", host).header("origin", "http://localhost:3000").send().await;
            assert_eq!(answer.unwrap().status(), 200, "{host}");
        }
    }
}
