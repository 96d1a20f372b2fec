//! A double of the part of GitHub's REST API (version 2022-11-28) by which commits and deployments get statuses. There is no
//! server of it to test against. It refuses what GitHub's documentation says that it refuses.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The token that it believes.
pub(crate) const TOKEN: &str = "github_pat_of_the_tests";
/// The repository that it has.
pub(crate) const REPOSITORY: &str = "shop/checkout";

/// A server that is told.
pub(crate) struct Github {
    pub(crate) url: String,
    inside: Arc<Mutex<Inside>>,
    serving: JoinHandle<()>,
}

/// What it does with one call instead of the usual.
#[derive(Debug, Clone)]
pub(crate) enum Instead {
    /// It refuses with a status and these headers.
    Refuses(u16, Vec<(&'static str, &'static str)>),
    /// It does what was asked, and its answer is lost.
    Loses,
}

#[derive(Default)]
struct Inside {
    /// Full names of commits by what they are called besides.
    commits: BTreeMap<String, String>,
    /// States and descriptions by commit and context, oldest first.
    statuses: Vec<(String, String, String, String)>,
    deployments: Vec<Value>,
    /// States and descriptions by deployment.
    deployment_statuses: Vec<(u64, String, String)>,
    links: Vec<String>,
    calls: usize,
    instead: Vec<(&'static str, Instead)>,
}

impl Drop for Github {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Github {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inside = Arc::<Mutex<Inside>>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&inside));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, inside, serving }
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    /// It has a commit that is also called so.
    pub(crate) fn knows(&self, name: &str, commit: &str) {
        self.inside().commits.insert(name.to_owned(), commit.to_owned());
    }

    /// The next calls whose method and path contain a text are answered so, each once.
    pub(crate) fn instead(&self, of: &'static str, what: Instead) {
        self.inside().instead.push((of, what));
    }

    /// States of a commit under a context with their descriptions, oldest first.
    pub(crate) fn statuses(&self, commit: &str, context: &str) -> Vec<(String, String)> {
        let inside = self.inside();
        let of = inside.statuses.iter().filter(|(name, of, ..)| name == commit && of == context);
        of.map(|(_, _, state, description)| (state.clone(), description.clone())).collect()
    }

    /// Deployments, each with its states.
    pub(crate) fn deployments(&self) -> Vec<(Value, Vec<String>)> {
        let inside = self.inside();
        let states = |id: &Value| {
            let of = inside.deployment_statuses.iter().filter(|(of, ..)| id == of);
            of.map(|(_, state, _)| state.clone()).collect()
        };
        inside.deployments.iter().map(|deployment| (deployment.clone(), states(&deployment["id"]))).collect()
    }

    /// Where its links lead.
    pub(crate) fn links(&self) -> Vec<String> {
        self.inside().links.clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.inside().calls
    }
}

async fn answer(State(inside): State<Arc<Mutex<Inside>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1024 * 1024).await.unwrap();
    let path = parts.uri.path().to_owned();
    let call = format!("{} {path}", parts.method);
    let instead = {
        let mut inside = inside.lock().unwrap();
        inside.calls += 1;
        let found = inside.instead.iter().position(|(of, _)| call.contains(of));
        found.map(|at| inside.instead.remove(at).1)
    };
    if let Some(Instead::Refuses(status, headers)) = &instead {
        let mut response = said(StatusCode::from_u16(*status).unwrap(), "as the test wants it");
        for (name, value) in headers {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        return response;
    }
    let query = parts.uri.query().map(pairs).unwrap_or_default();
    let done = inside.lock().unwrap().take(&parts.method, &path, &query, &parts.headers, &body);
    if instead.is_some() {
        // Whoever waits for it sees the connection end.
        return Response::new(axum::body::Body::from_stream(futures_util::stream::once(async {
            Err::<Bytes, _>(std::io::Error::other("lost"))
        })));
    }
    done.unwrap_or_else(|(status, message)| said(status, message))
}

fn pairs(query: &str) -> BTreeMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://x/?{query}")).unwrap();
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

fn said(status: StatusCode, message: &str) -> Response {
    (status, axum::Json(json!({ "message": message }))).into_response()
}

type Refusal = (StatusCode, &'static str);

const fn invalid(message: &'static str) -> Refusal {
    (StatusCode::UNPROCESSABLE_ENTITY, message)
}

fn text<'a>(body: &'a Value, member: &str) -> &'a str {
    body[member].as_str().unwrap_or("")
}

/// A state among these, and a description that is not too long.
fn status<'a>(body: &'a Value, states: &[&str]) -> Result<(&'a str, &'a str), Refusal> {
    let (state, description) = (text(body, "state"), text(body, "description"));
    if !states.contains(&state) {
        return Err(invalid("state is not included in the list"));
    }
    if description.chars().count() > 140 {
        return Err(invalid("description is too long (maximum is 140 characters)"));
    }
    Ok((state, description))
}

impl Inside {
    fn take(
        &mut self,
        method: &Method,
        path: &str,
        query: &BTreeMap<String, String>,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Response, Refusal> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        if header("user-agent").is_empty() {
            return Err((StatusCode::FORBIDDEN, "Request forbidden by administrative rules."));
        }
        if header("authorization") != format!("Bearer {TOKEN}") {
            return Err((StatusCode::UNAUTHORIZED, "Bad credentials"));
        }
        assert_eq!((header("accept"), header("x-github-api-version")), ("application/vnd.github+json", "2022-11-28"));
        let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(body).unwrap() };
        let rest = path.strip_prefix(&format!("/repos/{REPOSITORY}/")).ok_or((StatusCode::NOT_FOUND, "Not Found"))?;
        match (method.as_str(), rest.split('/').collect::<Vec<_>>().as_slice()) {
            ("GET", ["commits", name @ ..]) => {
                let name = name.join("/");
                let commit = self.commits.get(&name).ok_or_else(|| invalid("No commit found for SHA"))?;
                Ok(axum::Json(json!({ "sha": commit })).into_response())
            }
            ("POST", ["statuses", commit]) => self.set_status(commit, &body),
            ("GET", ["deployments"]) => {
                let fits = |deployment: &&Value| query.iter().all(|(name, value)| text(deployment, name) == value);
                let found: Vec<&Value> = self.deployments.iter().rev().filter(fits).collect();
                Ok(axum::Json(json!(found)).into_response())
            }
            ("POST", ["deployments"]) => self.deploy(&body),
            ("POST", ["deployments", id, "statuses"]) => self.set_deployment_status(id, &body),
            _ => Err((StatusCode::NOT_FOUND, "Not Found")),
        }
    }

    fn has(&self, commit: &str) -> bool {
        self.commits.values().any(|known| known == commit)
    }

    fn set_status(&mut self, commit: &str, body: &Value) -> Result<Response, Refusal> {
        if !self.has(commit) {
            return Err(invalid("No commit found for SHA"));
        }
        let (state, description) = status(body, &["error", "failure", "pending", "success"])?;
        let status = (commit.to_owned(), text(body, "context").to_owned(), state.to_owned(), description.to_owned());
        self.statuses.push(status);
        self.links.extend(body["target_url"].as_str().map(str::to_owned));
        Ok((StatusCode::CREATED, axum::Json(json!({ "id": self.statuses.len() }))).into_response())
    }

    fn deploy(&mut self, body: &Value) -> Result<Response, Refusal> {
        let commit = text(body, "ref");
        if !self.has(commit) {
            return Err(invalid("No ref found for ref"));
        }
        if body["auto_merge"] != json!(false) || body["required_contexts"] != json!([]) {
            // As for a branch without a pull request and with checks under way.
            return Err((StatusCode::CONFLICT, "Conflict: Commit status checks failed"));
        }
        let id = 100 + self.deployments.len();
        let (task, environment) = (text(body, "task"), text(body, "environment"));
        self.deployments.push(json!({ "id": id, "sha": commit, "task": task, "environment": environment }));
        Ok((StatusCode::CREATED, axum::Json(json!({ "id": id }))).into_response())
    }

    fn set_deployment_status(&mut self, id: &str, body: &Value) -> Result<Response, Refusal> {
        let id: u64 = id.parse().unwrap();
        if !self.deployments.iter().any(|deployment| deployment["id"] == id) {
            return Err((StatusCode::NOT_FOUND, "Not Found"));
        }
        let states = ["error", "failure", "inactive", "in_progress", "queued", "pending", "success"];
        let (state, description) = status(body, &states)?;
        self.deployment_statuses.push((id, state.to_owned(), description.to_owned()));
        self.links.extend(body["log_url"].as_str().map(str::to_owned));
        Ok((StatusCode::CREATED, axum::Json(json!({ "id": self.deployment_statuses.len() }))).into_response())
    }
}
