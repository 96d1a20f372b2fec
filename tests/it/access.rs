//! Who may call: every address with every kind of caller over the real router, whose name stands in the audit trail, and
//! that no token is shown. `access/listen.rs` has what a client may take of the listener, `access/pages.rs` the page and
//! signing in, `access/tls.rs` certificates, `access/program.rs` the built program.

mod listen;
mod pages;
mod program;
mod tls;

use crate::kit::memory::MemoryJournal;
use crate::kit::world::{HandClock, Ways, World};
use crate::kit::{directory, plan};
use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use regex::Regex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tidegate::api::auth::Access;
use tidegate::api::auth::rules::{Found, Need, RULES, look_up};
use tidegate::api::hooks::Hooks;
use tidegate::api::status::Status;
use tidegate::api::{ApiState, router};
use tidegate::base::fault::Fault;
use tidegate::base::time::Timestamp;
use tidegate::base::token::{Role, Token, TokenHash, TokenId, TokenRecord};
use tidegate::clock::{Clock, new_token};
use tidegate::dashboard::feed::Feed;
use tidegate::ports::{Deliveries, PolicyStore, TokenError, Tokens};
use tidegate::runner::{Runner, RunnerParts};
use tidegate::store::directory::PolicyDirectory;
use tidegate::store::policies::JoinedPolicies;
use tidegate::store::sqlite::SqliteStore;
use tidegate::trigger::inbox::Inbox;
use tower::ServiceExt;

/// A store that can be down, and counts how often it is asked for a token.
struct Counted {
    store: SqliteStore,
    down: AtomicBool,
    asked: AtomicUsize,
}

#[async_trait]
impl Tokens for Counted {
    async fn find(&self, hash: &TokenHash) -> Result<Option<TokenRecord>, Fault> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match self.down.load(Ordering::SeqCst) {
            true => Err(Fault::transient("store", "down")),
            false => self.store.find(hash).await,
        }
    }

    async fn create(&self, record: &TokenRecord, hash: &TokenHash) -> Result<(), TokenError> {
        self.store.create(record, hash).await
    }

    async fn list(&self) -> Result<Vec<TokenRecord>, Fault> {
        self.store.list().await
    }

    async fn revoke(&self, id: &TokenId, at: Timestamp, by: &str) -> Result<Option<TokenRecord>, Fault> {
        self.store.revoke(id, at, by).await
    }
}

/// The real router over a world in memory and tokens in a real store.
struct Api {
    router: axum::Router,
    tokens: Arc<Counted>,
    _directory: TempDir,
}

struct Answer {
    status: StatusCode,
    challenge: Option<String>,
    headers: String,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The kind of the problem, without its prefix.
    fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap_or_default().trim_start_matches("tidegate:").to_owned()
    }
}

impl Api {
    async fn new(people: &[(&str, &[&str])]) -> Self {
        let directory = directory();
        let store = SqliteStore::open(directory.path()).await.unwrap();
        let tokens = Arc::new(Counted { store, down: AtomicBool::new(false), asked: AtomicUsize::new(0) });
        let clock = HandClock::new();
        let world = World::new(clock.clone(), plan(&[10, 100]), Ways::default());
        let (traffic, live, health, policies) = (world.clone(), world.clone(), world.clone(), world.clone());
        let journal = Arc::new(MemoryJournal::default());
        let pushed: Arc<dyn PolicyStore> = Arc::new(tokens.store.clone());
        let joined = Arc::new(JoinedPolicies::new(PolicyDirectory::new(directory.path().join("policies")), pushed));
        let deliveries: Arc<dyn Deliveries> = journal.clone();
        let times: Arc<dyn Clock> = clock.clone();
        let freezes = journal.clone();
        let parts = RunnerParts {
            clock,
            journal,
            freezes,
            traffic,
            workloads: None,
            signals: None,
            live,
            health,
            policies,
            people: Arc::default(),
        };
        let runner = Runner::new(parts);
        let inbox = Inbox::new(runner.clone(), deliveries, times);
        let hooks = Arc::new(Hooks { secrets: BTreeMap::new(), public_url: None });
        let status = Arc::new(Status::default());
        status.set_ready(true);
        let names = |tokens: &[&str]| tokens.iter().map(|name| (*name).to_owned()).collect();
        let people: BTreeMap<_, _> = people.iter().map(|(name, tokens)| ((*name).to_owned(), names(tokens))).collect();
        let access = Access::tokens(tokens.clone(), people, true);
        let feed = Feed::new(runner.clone());
        Self {
            router: router(ApiState {
                runner,
                access,
                status,
                policies: joined,
                inbox,
                hooks,
                slack: Arc::default(),
                feed,
                mesh: None,
            }),
            tokens,
            _directory: directory,
        }
    }

    async fn token(&self, name: &str, role: Role) -> Token {
        let token = new_token();
        let record = TokenRecord {
            id: token.id().clone(),
            name: name.to_owned(),
            role,
            created_at: Timestamp(1_700_000_000_000),
            created_by: "test".to_owned(),
            revoked: None,
        };
        self.tokens.create(&record, &token.hash()).await.unwrap();
        token
    }

    async fn send(&self, method: &str, path: &str, authorization: Option<&str>, body: &Value) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "tidegate.example.com");
        if let Some(text) = authorization {
            request = request.header("authorization", text);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = request.header("x-tidegate-user", "mallory").body(body).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let challenge = parts.headers.get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        let headers = format!("{:?}", parts.headers);
        // A stream of events has no end; its beginning is what is wanted.
        let is_stream = parts.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let bytes = if is_stream { axum::body::Bytes::new() } else { to_bytes(body, 1 << 20).await.unwrap() };
        Answer { status: parts.status, challenge, headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    async fn by(&self, token: &Token, method: &str, path: &str, body: &Value) -> Answer {
        self.send(method, path, Some(&format!("Bearer {}", token.reveal())), body).await
    }
}

/// What is logged, all of it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn begin(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber =
            tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || log.clone());
        tracing::subscriber::set_default(subscriber.finish())
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// The part of a token that is secret.
fn secret(token: &Token) -> String {
    token.reveal().rsplit('_').next().unwrap()[..64].to_owned()
}

/// An address of a rule, with something that does not exist in the place of names.
fn address(pattern: &str) -> String {
    Regex::new(r"\{[a-z]+\}").unwrap().replace_all(pattern, "nope").into_owned()
}

fn body_of(method: &str, path: &str) -> Value {
    match (method, path) {
        ("POST", "/v1/tokens") => json!({"name": "new", "role": "viewer"}),
        _ => Value::Null,
    }
}

#[tokio::test]
async fn every_address_asks_every_caller_for_its_role_and_shows_no_token() {
    let log = Log::default();
    let _logging = log.begin();
    let api = Api::new(&[]).await;
    let mut secrets = Vec::new();
    let mut callers: Vec<(&str, Option<Role>, Option<String>)> = vec![
        ("no token", None, None),
        ("bad token", None, Some("Bearer hunter2-hunter2".to_owned())),
        ("other scheme", None, Some("Basic aHVudGVyMjpodW50ZXIy".to_owned())),
    ];
    let stranger = new_token();
    let revoked = api.token("gone", Role::Admin).await;
    api.tokens.revoke(revoked.id(), Timestamp(1_700_000_001_000), "test").await.unwrap();
    for (name, token) in [("unknown token", stranger), ("revoked token", revoked)] {
        secrets.push(secret(&token));
        callers.push((name, None, Some(format!("Bearer {}", token.reveal()))));
    }
    for role in Role::ALL {
        let token = api.token(role.name(), role).await;
        secrets.push(secret(&token));
        callers.push((role.name(), Some(role), Some(format!("bearer {}", token.reveal()))));
    }
    let mut tried = 0;
    for rule in RULES {
        for (caller, role, authorization) in &callers {
            let (path, body) = (address(rule.path), body_of(rule.method, rule.path));
            let answer = api.send(rule.method, &path, authorization.as_deref(), &body).await;
            let says = format!("{} {path} by {caller}: {} {}", rule.method, answer.status, answer.text);
            match (rule.need, role) {
                (Need::Role(_), None) => {
                    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{says}");
                    let wanted = if authorization.is_some() { "token-invalid" } else { "token-missing" };
                    assert_eq!(answer.kind(), wanted, "{says}");
                    let challenge = answer.challenge.as_deref().unwrap_or_default();
                    assert!(challenge.starts_with("Bearer realm=\"tidegate\""), "{says}: {challenge}");
                    assert_eq!(challenge.contains("invalid_token"), authorization.is_some(), "{says}");
                }
                (Need::Role(needed), Some(role)) if *role < needed => {
                    assert_eq!(
                        (answer.status, answer.kind()),
                        (StatusCode::FORBIDDEN, "role-missing".into()),
                        "{says}"
                    );
                    assert!(answer.text.contains(&format!("needs the role {needed}")), "{says}");
                }
                _ => {
                    let let_in = ![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&answer.status);
                    assert!(let_in && answer.status != StatusCode::INTERNAL_SERVER_ERROR, "{says}");
                }
            }
            let made = answer.status == StatusCode::CREATED;
            for secret in &secrets {
                assert!(!answer.text.contains(secret) && !answer.headers.contains(secret), "{says}");
            }
            if made && rule.path == "/v1/tokens" {
                let token = Token::parse(answer.json()["token"].as_str().unwrap()).unwrap();
                secrets.push(secret(&token));
            }
            tried += 1;
        }
    }
    assert_eq!((tried, secrets.len()), (RULES.len() * 8, 6), "one token was made on the way, by the admin");
    let logged = log.text();
    assert!(logged.contains("token made"), "nothing was logged: {logged}");
    for secret in secrets {
        assert!(!logged.contains(&secret), "the log shows a token");
    }
    assert!(!logged.contains("hunter2"), "the log shows what was sent as one");
}

#[tokio::test]
async fn what_is_not_in_the_table_is_refused_and_strangers_learn_nothing_of_it() {
    let api = Api::new(&[]).await;
    let admin = api.token("root", Role::Admin).await;
    for (method, path, kind) in [
        ("GET", "/v1/nope", "no-such-address"),
        ("GET", "/nope", "no-such-address"),
        ("DELETE", "/v1/rollouts", "no-such-method"),
        ("TRACE", "/v1/tokens", "no-such-method"),
    ] {
        assert_eq!(api.send(method, path, None, &Value::Null).await.kind(), "token-missing", "{method} {path}");
        assert_eq!(api.by(&admin, method, path, &Value::Null).await.kind(), kind, "{method} {path}");
    }
}

/// Methods and addresses of the routers in a source text.
fn routes(text: &str) -> Vec<(String, String)> {
    let methods = Regex::new(r"\b(get|post|put|delete|patch)\(").unwrap();
    let mut found = Vec::new();
    for (at, _) in text.match_indices(".route(") {
        let rest = &text[at + ".route(".len()..];
        // To its closing bracket.
        let mut depth = 1;
        let end = rest.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let call = &rest[..end.unwrap_or(rest.len())];
        let Some(path) = call.split('"').nth(1).filter(|path| path.starts_with('/')) else { continue };
        let named = methods.captures_iter(call).map(|method| (method[1].to_uppercase(), path.to_owned()));
        found.extend(named);
    }
    found
}

fn rust_files(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] }).collect()
}

#[test]
fn every_route_of_the_source_has_a_rule() {
    let example = r#"Router::new().route("/a/{b}", get(list).post(create)).route("/c", put(f))"#;
    let pair = |method: &str, path: &str| (method.to_owned(), path.to_owned());
    assert_eq!(routes(example), [pair("GET", "/a/{b}"), pair("POST", "/a/{b}"), pair("PUT", "/c")]);

    // The mesh, the proxies' pages and the demo's services are listeners of their own.
    let elsewhere = ["src/mesh", "src/proxy", "src/demo"];
    let files = rust_files(Path::new("src"));
    let ours = files.iter().filter(|path| !elsewhere.iter().any(|other| path.to_string_lossy().starts_with(other)));
    let mut seen = 0;
    for path in ours {
        for (method, address) in routes(&std::fs::read_to_string(path).unwrap()) {
            let ruled = RULES.iter().any(|rule| (rule.method, rule.path) == (method.as_str(), address.as_str()));
            assert!(ruled, "{}: {method} {address} has no line in src/api/auth/rules.rs", path.display());
            assert!(matches!(look_up(&method, &address), Found::Needs(_)), "{method} {address}");
            seen += 1;
        }
    }
    assert!(seen >= 16, "{seen}");
}

#[tokio::test]
async fn whoever_has_the_token_stands_in_the_audit_trail_and_not_who_they_say() {
    let api = Api::new(&[]).await;
    let ci = api.token("ci", Role::Operator).await;
    let started = api.by(&ci, "POST", "/v1/rollouts", &json!({"policy": "checkout"})).await;
    assert_eq!(started.status, StatusCode::CREATED, "{}", started.text);
    assert_eq!(started.json()["started_by"], json!({"name": "ci", "via": "token"}));
}

#[tokio::test]
async fn people_speak_for_themselves_and_for_whom_the_configuration_says() {
    let api = Api::new(&[("alice", &["alice-laptop", "alice-phone"]), ("bob", &["bob-laptop"])]).await;
    let tokens = [("alice-laptop", Role::Operator), ("carol", Role::Admin)];
    let [alice, carol] = [api.token(tokens[0].0, tokens[0].1).await, api.token(tokens[1].0, tokens[1].1).await];
    for (token, person, may) in [
        (&alice, Some("alice"), true),
        (&alice, Some("alice-laptop"), true),
        (&alice, None, true),
        (&alice, Some("bob"), false),
        (&alice, Some("alice-phone"), false),
        (&alice, Some(""), false),
        (&carol, Some("carol"), true),
        (&carol, Some("alice"), false),
        (&carol, Some("nobody"), false),
    ] {
        for verb in ["approve", "reject"] {
            let body = person.map_or(json!({}), |person| json!({ "person": person }));
            let answer = api.by(token, "POST", &format!("/v1/rollouts/nope/{verb}"), &body).await;
            // Nobody gets beyond that there is no such rollout.
            let expected = if may { (404, "no-such-rollout") } else { (403, "not-that-person") };
            assert_eq!((answer.status.as_u16(), answer.kind().as_str()), expected, "{person:?}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn tokens_are_made_shown_and_revoked_by_admins() {
    let api = Api::new(&[]).await;
    let admin = api.token("root", Role::Admin).await;
    let made = api.by(&admin, "POST", "/v1/tokens", &json!({"name": "ci", "role": "operator"})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert!(made.headers.contains("no-store"), "{}", made.headers);
    let made = made.json();
    let token = Token::parse(made["token"].as_str().unwrap()).unwrap();
    assert_eq!((&made["name"], &made["role"]), (&json!("ci"), &json!("operator")));
    assert_eq!(made["created_by"], "root (token)");
    assert_eq!(api.by(&token, "GET", "/v1/rollouts", &Value::Null).await.status, StatusCode::OK, "it works at once");

    let path = format!("/v1/tokens/{}", token.id());
    let revoked = api.by(&admin, "DELETE", &path, &Value::Null).await;
    assert_eq!((revoked.status, &revoked.json()["revoked_by"]), (StatusCode::OK, &json!("root (token)")));
    let refused = api.by(&token, "GET", "/v1/rollouts", &Value::Null).await;
    assert_eq!((refused.status.as_u16(), refused.kind()), (401, "token-invalid".into()), "from now on");
    assert!(refused.text.contains("was revoked at"), "{}", refused.text);
    let list = api.by(&admin, "GET", "/v1/tokens", &Value::Null).await.json();
    let names: Vec<_> = list["tokens"].as_array().unwrap().iter().map(|token| token["name"].clone()).collect();
    assert_eq!(names, ["root", "ci"]);

    for (body, status, kind, says) in [
        (json!({"name": "two words", "role": "viewer"}), 400, "bad-name", "letters, digits"),
        (json!({"name": "", "role": "viewer"}), 400, "bad-name", "needs a name"),
        (json!({"name": "x", "role": "root"}), 400, "bad-body", "unknown variant `root`"),
        (json!({"name": "x"}), 400, "bad-body", "missing field `role`"),
        (json!({"name": "x", "role": "viewer", "for": "ever"}), 400, "bad-body", "unknown field `for`"),
    ] {
        let answer = api.by(&admin, "POST", "/v1/tokens", &body).await;
        assert_eq!((answer.status.as_u16(), answer.kind().as_str()), (status, kind), "{body}: {}", answer.text);
        assert!(answer.text.contains(says), "{body}: {}", answer.text);
    }
    let missing = api.by(&admin, "DELETE", "/v1/tokens/nope", &Value::Null).await;
    assert_eq!((missing.status.as_u16(), missing.kind()), (404, "no-such-token".into()));
}

#[tokio::test]
async fn what_is_sent_instead_of_a_token_is_refused_without_asking_the_store() {
    let api = Api::new(&[]).await;
    let token = api.token("ci", Role::Viewer).await;
    let text = token.reveal();
    let long = "x".repeat(20_000);
    for authorization in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        &format!("Token {text}"),
        text,
        &format!("Bearer {text}x"),
        &format!("Bearer {}", &text[..87]),
        &format!("Bearer {text} {text}"),
        "Bearer \u{e4}",
        &long,
        "Negotiate",
    ] {
        let answer = api.send("GET", "/v1/rollouts", Some(authorization), &Value::Null).await;
        assert_eq!((answer.status.as_u16(), answer.kind()), (401, "token-invalid".into()), "{authorization}");
    }
    assert_eq!(api.tokens.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn guessing_costs_the_store_a_bounded_number_of_reads_and_nobody_else_their_access() {
    let api = Api::new(&[]).await;
    let token = api.token("ci", Role::Viewer).await;
    assert_eq!(api.by(&token, "GET", "/v1/rollouts", &Value::Null).await.status, StatusCode::OK);
    let mut limited = 0;
    for _ in 0..300 {
        let answer = api.by(&new_token(), "GET", "/v1/rollouts", &Value::Null).await;
        match answer.status.as_u16() {
            401 => {}
            429 => {
                limited += 1;
                assert!(
                    answer.headers.contains("retry-after") && answer.json()["retryable"] == true,
                    "{}",
                    answer.text
                );
            }
            other => panic!("{other}: {}", answer.text),
        }
        assert_eq!(api.by(&token, "GET", "/v1/rollouts", &Value::Null).await.status, StatusCode::OK);
    }
    let asked = api.tokens.asked.load(Ordering::SeqCst);
    assert!(limited > 0 && asked + limited == 301, "{asked} reads, {limited} refused without one");
}

#[tokio::test]
async fn a_store_that_is_down_keeps_nobody_out_who_was_known() {
    let api = Api::new(&[]).await;
    let (known, new) = (api.token("anna", Role::Operator).await, api.token("ci", Role::Operator).await);
    assert_eq!(
        api.by(&known, "POST", "/v1/rollouts", &json!({"policy": "checkout"})).await.status,
        StatusCode::CREATED
    );
    api.tokens.down.store(true, Ordering::SeqCst);
    let aborted = api.by(&known, "POST", "/v1/rollouts/checkout/abort", &Value::Null).await;
    assert_eq!(aborted.status, StatusCode::OK, "{}", aborted.text);
    let unknown = api.by(&new, "GET", "/v1/rollouts", &Value::Null).await;
    assert_eq!((unknown.status.as_u16(), unknown.kind()), (503, "unavailable".into()), "{}", unknown.text);
    assert_eq!(unknown.json()["retryable"], true);
    api.tokens.down.store(false, Ordering::SeqCst);
    assert_eq!(api.by(&new, "GET", "/v1/rollouts", &Value::Null).await.status, StatusCode::OK);
}
