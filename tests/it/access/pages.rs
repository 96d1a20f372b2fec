//! The page over the real router: who sees it, signing in with a browser, what a cookie may do, and the headers that keep
//! other sites out.

use super::{Api, Log, secret};
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tidegate::api::front::{self, Front};
use tidegate::base::time::Timestamp;
use tidegate::base::token::{Role, Token};
use tidegate::ports::{Holder, Tokens};
use tidegate::runner::lease::Turn;
use tokio::sync::watch;
use tower::ServiceExt;

const HOST: &str = "tidegate.example.com";
const ORIGIN: &str = "https://tidegate.example.com";

struct Visited {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Visited {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

async fn visit(api: &Api, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Visited {
    visit_router(&api.router, method, path, headers, body).await
}

async fn visit_router(
    router: &axum::Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Visited {
    let request = Request::builder().method(method).uri(path).header("host", HOST);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let response = router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let is_stream = parts.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
    let bytes = if is_stream { axum::body::Bytes::new() } else { to_bytes(body, 1 << 20).await.unwrap() };
    Visited { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

/// Signs in as the form does; answers the cookie as a browser sends it.
async fn sign_in(api: &Api, token: &Token, to: &str) -> (String, Visited) {
    let form = [("content-type", "application/x-www-form-urlencoded"), ("origin", ORIGIN)];
    let answer = visit(api, "POST", "/sign-in", &form, &format!("token={}&to={to}", token.reveal())).await;
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    (cookie, answer)
}

#[tokio::test]
async fn a_visitor_signs_in_is_let_in_by_the_cookie_and_signs_out() {
    let log = Log::default();
    let _logging = log.begin();
    let api = Api::new(&[]).await;
    let token = api.token("anna", Role::Operator).await;
    let page = [("accept", "text/html,application/xhtml+xml")];
    let sent_away = visit(&api, "GET", "/rollouts/r-1", &page, "").await;
    assert_eq!((sent_away.status.as_u16(), sent_away.header("location")), (303, "/sign-in?to=%2Frollouts%2Fr%2D1"));
    // A script is told what is wrong instead.
    assert_eq!(visit(&api, "GET", "/live", &[("accept", "*/*")], "").await.status, StatusCode::UNAUTHORIZED);
    let form = visit(&api, "GET", sent_away.header("location"), &page, "").await;
    assert!(
        form.status == StatusCode::OK && form.text.contains("name=\"to\" value=\"/rollouts/r-1\""),
        "{}",
        form.text
    );
    assert!(form.text.contains("data-again=\"/sign-in?again=1&#38;to=%2Frollouts%2Fr-1\""), "{}", form.text);
    assert!(!visit(&api, "GET", "/sign-in?again=1", &page, "").await.text.contains("data-again"), "asked once only");

    let (cookie, answer) = sign_in(&api, &token, "/rollouts/r-1").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/rollouts/r-1"));
    for part in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
        assert!(answer.header("set-cookie").contains(part), "{part}");
    }
    let with_cookie = [("cookie", cookie.as_str()), ("accept", "text/html")];
    let list = visit(&api, "GET", "/", &with_cookie, "").await;
    assert!(
        list.status == StatusCode::OK && list.text.contains("Sign out") && list.text.contains("anna"),
        "{}",
        list.text
    );
    for path in ["/live", "/v1/rollouts", "/v1/events"] {
        assert_eq!(visit(&api, "GET", path, &with_cookie[..1], "").await.status, StatusCode::OK, "{path}");
    }
    // Whoever has the cookie is not asked again.
    let again = visit(&api, "GET", "/sign-in?again=1&to=%2Frollouts%2Fr-1", &with_cookie, "").await;
    assert_eq!((again.status.as_u16(), again.header("location")), (303, "/rollouts/r-1"));

    let out = visit(&api, "POST", "/sign-out", &[("cookie", &cookie), ("origin", ORIGIN)], "").await;
    assert_eq!(out.status.as_u16(), 303);
    assert!(out.header("set-cookie").starts_with("tidegate_token=; Path=/; Max-Age=0"), "{}", out.header("set-cookie"));
    api.tokens.revoke(token.id(), Timestamp(1_700_000_001_000), "test").await.unwrap();
    let secret = secret(&token);
    for visited in [&form, &list, &again, &out] {
        assert!(!visited.text.contains(&secret), "a page shows the token");
    }
    assert!(!log.text().contains(&secret), "the log shows the token");
}

#[tokio::test]
async fn a_cookie_changes_something_only_for_a_page_of_this_address() {
    let api = Api::new(&[]).await;
    let token = api.token("anna", Role::Operator).await;
    let (cookie, _) = sign_in(&api, &token, "/").await;
    let bearer = format!("Bearer {}", token.reveal());
    let cookie = ("cookie", cookie.as_str());
    let body = json!({"policy": "checkout"}).to_string();
    for origin in [
        "https://evil.example",
        "null",
        "https://tidegate.example.com:8443",
        "https://tidegate.example.com.evil.example",
    ] {
        let refused = visit(&api, "POST", "/v1/rollouts", &[cookie, ("origin", origin)], &body).await;
        assert!(
            refused.status == StatusCode::FORBIDDEN && refused.text.contains("foreign-origin"),
            "{origin}: {}",
            refused.text
        );
        // Nor may it look, if a browser should ever let it: that is the browser's to refuse, and reading changes nothing.
        let signed_out = visit(&api, "POST", "/sign-out", &[cookie, ("origin", origin)], "").await;
        assert!(signed_out.status == StatusCode::FORBIDDEN && signed_out.header("set-cookie").is_empty(), "{origin}");
        let form = [("content-type", "application/x-www-form-urlencoded"), ("origin", origin)];
        let signed_in = visit(&api, "POST", "/sign-in", &form, &format!("token={}", token.reveal())).await;
        assert!(signed_in.status == StatusCode::FORBIDDEN && signed_in.header("set-cookie").is_empty(), "{origin}");
    }
    let silent = visit(&api, "POST", "/v1/rollouts", &[cookie], &body).await;
    assert!(silent.status == StatusCode::FORBIDDEN && silent.text.contains("Authorization: Bearer"), "{}", silent.text);
    assert_eq!(visit(&api, "DELETE", "/v1/freezes", &[cookie], "").await.status, StatusCode::FORBIDDEN);
    // As a header it is no browser's doing, whatever its Origin.
    let by_header = [("authorization", bearer.as_str()), ("origin", "https://evil.example")];
    assert_eq!(visit(&api, "DELETE", "/v1/freezes", &by_header, "").await.status, StatusCode::NOT_FOUND);
    let started = visit(&api, "POST", "/v1/rollouts", &[cookie, ("origin", ORIGIN)], &body).await;
    assert_eq!(started.status, StatusCode::CREATED, "{}", started.text);
    let started: Value = serde_json::from_str(&started.text).unwrap();
    assert_eq!(started["started_by"], json!({"name": "anna", "via": "token"}));
    // A header that is wrong is not made good by a cookie.
    let both = [("authorization", "Bearer hunter2"), cookie];
    assert_eq!(visit(&api, "GET", "/v1/rollouts", &both, "").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn buttons_are_for_those_who_may_use_them() {
    let api = Api::new(&[("oncall", &["anna"])]).await;
    let viewer = api.token("vera", Role::Viewer).await;
    let operator = api.token("anna", Role::Operator).await;
    let started = api.by(&operator, "POST", "/v1/rollouts", &json!({"policy": "checkout"})).await;
    assert_eq!(started.status, StatusCode::CREATED, "{}", started.text);
    let id = started.json()["id"].as_str().unwrap().to_owned();
    for (token, sees) in [(&viewer, false), (&operator, true)] {
        let (cookie, _) = sign_in(&api, token, "/").await;
        for path in [format!("/rollouts/{id}"), format!("/rollouts/{id}/live"), "/rollouts/checkout".to_owned()] {
            let page = visit(&api, "GET", &path, &[("cookie", &cookie)], "").await;
            assert_eq!(page.status, StatusCode::OK, "{}", page.text);
            assert_eq!(page.text.contains("data-verb=\"abort\""), sees, "{path}: {}", page.text);
            assert!(page.text.contains("start by anna"), "the log tells it: {}", page.text);
        }
    }
}

#[tokio::test]
async fn every_page_keeps_other_sites_out_and_files_are_kept_for_ever() {
    let api = Api::new(&[]).await;
    let token = api.token("vera", Role::Viewer).await;
    let (cookie, _) = sign_in(&api, &token, "/").await;
    let cookie = [("cookie", cookie.as_str())];
    let list = visit(&api, "GET", "/", &cookie, "").await;
    let names = regex::Regex::new("/assets/([a-z]+\\.[0-9a-f]{12}\\.[a-z]+)").unwrap();
    let files: Vec<String> = names.captures_iter(&list.text).map(|name| format!("/assets/{}", &name[1])).collect();
    assert_eq!(files.len(), 3, "{}", list.text);
    for (path, status) in
        [("/", 200), ("/live", 200), ("/rollouts/nope", 404), ("/sign-in", 303), ("/assets/page.js", 404)]
    {
        let page = visit(&api, "GET", path, &cookie, "").await;
        assert_eq!(page.status.as_u16(), status, "{path}");
        if page.header("content-type").starts_with("text/html") {
            let policy = page.header("content-security-policy");
            for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
                assert!(policy.contains(part) && !policy.contains("unsafe"), "{path}: {policy}");
            }
            assert_eq!(page.header("cache-control"), "no-store", "{path}");
            assert_eq!(
                (page.header("x-content-type-options"), page.header("referrer-policy")),
                ("nosniff", "same-origin")
            );
        }
    }
    for path in &files {
        // Also for those who have yet to sign in.
        let file = visit(&api, "GET", path, &[], "").await;
        assert_eq!(
            (file.status, file.header("cache-control")),
            (StatusCode::OK, "public, max-age=31536000, immutable")
        );
        assert_eq!(file.header("x-content-type-options"), "nosniff");
    }
}

#[tokio::test]
async fn what_is_pasted_wrongly_is_said_and_nobody_is_sent_elsewhere() {
    let api = Api::new(&[]).await;
    let token = api.token("vera", Role::Viewer).await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let unknown = tidegate::clock::new_token();
    for (body, says) in [
        (String::new(), "Paste a token"),
        ("token=hunter2".to_owned(), "That is no token"),
        (format!("token={}x", token.reveal()), "That is no token"),
        (format!("token={}", unknown.reveal()), "this daemon knows no token"),
    ] {
        let refused = visit(&api, "POST", "/sign-in", &form, &body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert!(refused.text.contains(says) && refused.header("set-cookie").is_empty(), "{body}: {}", refused.text);
        assert!(!refused.text.contains("hunter2") && !refused.text.contains(&secret(&unknown)), "it is shown again");
    }
    for to in [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/v1/rollouts",
        "/rollouts/..%2F..",
        "javascript:x",
        "",
    ] {
        let encoded: String = to.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (_, answer) = sign_in(&api, &token, &encoded).await;
        let gone_to = answer.header("location");
        assert!(gone_to == "/" || gone_to.starts_with("/rollouts/"), "{to}: {gone_to}");
    }
    // White space around a token is what pasting leaves.
    let padded = visit(&api, "POST", "/sign-in", &form, &format!("token=+{}%0A", token.reveal())).await;
    assert_eq!(padded.status.as_u16(), 303, "{}", padded.text);
}

#[tokio::test]
async fn a_daemon_that_stands_by_hands_a_browser_on_with_its_cookie_and_its_origin() {
    let api = Api::new(&[]).await;
    let token = api.token("anna", Role::Operator).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let driver = tokio::spawn(axum::serve(listener, api.router.clone()).into_future());
    let holder = Holder { id: "driver".into(), address, left: Duration::from_secs(10) };
    let (_turned, turn) = watch::channel(Turn::StandingBy { holder: Some(holder), fault: None });
    let (_ready, is_ready) = watch::channel(true);
    let standby = front::router(Arc::new(Front::new(turn, is_ready, None).expect("a client")));
    let form = [("content-type", "application/x-www-form-urlencoded"), ("origin", ORIGIN)];
    let signed_in = visit_router(&standby, "POST", "/sign-in", &form, &format!("token={}", token.reveal())).await;
    let cookie = signed_in.header("set-cookie").split(';').next().unwrap().to_owned();
    assert_eq!((signed_in.status.as_u16(), signed_in.header("location")), (303, "/"), "{}", signed_in.text);
    let page = visit_router(&standby, "GET", "/", &[("cookie", &cookie)], "").await;
    assert!(page.header("content-security-policy").contains("default-src 'none'"), "{:?}", page.headers);
    let body = json!({"policy": "checkout"}).to_string();
    // The driver has another address; what counts is the one that the browser has.
    for (origin, status) in [("https://evil.example", 403), (ORIGIN, 201)] {
        let headers = [("cookie", cookie.as_str()), ("origin", origin)];
        let answer = visit_router(&standby, "POST", "/v1/rollouts", &headers, &body).await;
        assert_eq!(answer.status.as_u16(), status, "{origin}: {}", answer.text);
    }
    driver.abort();
}
