//! Stands between a daemon and what it calls, and cuts calls: not passed on at all, passed on without the answer coming
//! back, or answered, each followed by the daemon's death.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Where a call is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Before it is passed on.
    Before,
    /// After it took effect, before its answer arrives.
    During,
    /// When its answer has been sent.
    After,
}

/// A gate for HTTP. Every call that differs from those before in operation or parameters is cut once.
pub(crate) struct Gate {
    pub(crate) url: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    target: String,
    cut: Cut,
    /// Only these operations are cut, by a part of their name; all without one.
    only: &'static [&'static str],
    seen: Mutex<BTreeSet<String>>,
    /// Every call that came, with its parameters.
    came: Mutex<Vec<(String, serde_json::Value)>>,
    open: Mutex<bool>,
    cuts: mpsc::UnboundedSender<String>,
    client: reqwest::Client,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What a call does: of ECS by its target, of App Mesh by method and path.
fn operation(request: &Request) -> String {
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok());
    let named = target.and_then(|target| target.split('.').nth(1)).map(|name| format!("aws {name}"));
    named.unwrap_or_else(|| {
        format!("mesh {} {}", request.method(), request.uri().path().rsplit('/').next().unwrap_or(""))
    })
}

impl Gate {
    /// Before `target`; each cut call is told through `cuts`, and whoever hears it kills the daemon.
    pub(crate) async fn start(
        target: &str,
        cut: Cut,
        only: &'static [&'static str],
        cuts: mpsc::UnboundedSender<String>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let (seen, came, open) = (Mutex::default(), Mutex::default(), Mutex::new(false));
        let shared = Arc::new(Shared { target: target.to_owned(), cut, only, seen, came, open, cuts, client });
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, serving }
    }

    /// Parameters of the calls of one operation that came so far.
    pub(crate) fn came(&self, operation: &str) -> Vec<serde_json::Value> {
        let came = self.shared.came.lock().unwrap();
        came.iter().filter(|(name, _)| name.contains(operation)).map(|(_, parameters)| parameters.clone()).collect()
    }

    /// Cuts nothing any more, or begins to.
    pub(crate) fn cuts(&self, cuts: bool) {
        *self.shared.open.lock().unwrap() = cuts;
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let name = operation(&request);
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    shared.came.lock().unwrap().push((name.clone(), serde_json::from_slice(&body).unwrap_or_default()));
    let cuts = shared.is_cut(&name, &body);
    if cuts && shared.cut == Cut::Before {
        shared.cuts.send(name).unwrap();
        return std::future::pending().await;
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = parts.headers;
    headers.remove("host");
    let call = shared.client.request(parts.method, format!("{}{path}", shared.target)).headers(headers).body(body);
    let Ok(answer) = call.send().await else {
        return Response::builder().status(502).body(Body::empty()).unwrap();
    };
    let (status, headers, body) = (answer.status(), answer.headers().clone(), answer.bytes().await.unwrap());
    if cuts && shared.cut == Cut::During {
        shared.cuts.send(name).unwrap();
        return std::future::pending().await;
    }
    if cuts {
        let (told, cuts) = (name, shared.cuts.clone());
        // The answer is on its way when the death comes, however far it gets.
        tokio::spawn(async move { cuts.send(told) });
    }
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

impl Shared {
    fn is_cut(&self, name: &str, body: &Bytes) -> bool {
        let wanted = self.only.is_empty() || self.only.iter().any(|only| name.contains(only));
        let mut parameters: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        // The SDK makes a new one for each call, the same asked again included.
        if let Some(members) = parameters.as_object_mut() {
            members.remove("clientToken");
        }
        let call = format!("{name} {parameters}");
        *self.open.lock().unwrap() && wanted && self.seen.lock().unwrap().insert(call)
    }
}
