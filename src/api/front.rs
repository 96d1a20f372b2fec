//! Who answers: this process while it drives rollouts, else the one that does.
//!
//! Of several daemons on one database one drives. The others hand every request on to it, streams of events and hooks
//! included, so that a load balancer may send anything to any of them. Authentication is the driver's, who gets the
//! request as it came. A request is handed on once: daemons that take each other for the driver (for the second in which
//! a lease changes hands) answer 503 instead of sending it in circles.

use super::client::believing;
use super::error::ApiError;
use crate::ports::Holder;
use crate::runner::lease::Turn;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tower::ServiceExt;

/// The driver is in the same network: a connection takes milliseconds, and one that hangs should cost a client little.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Without a byte for so long the driver is gone. Streams of events send a comment every 15 s.
const READ_TIMEOUT: Duration = Duration::from_secs(40);
/// A request waits so long for somebody who drives: a lease that is given back is taken within a second. One whose holder
/// died takes ten, for which a client had better come back.
const PATIENCE: Duration = Duration::from_secs(3);
/// When to come back while nobody drives: a lease changes hands within seconds.
const RETRY_AFTER_S: &str = "2";
/// Marks a request that was handed on, and says what the daemon that did was called: a page's orders are compared with it.
pub(super) const FORWARDED: HeaderName = HeaderName::from_static("x-tidegate-forwarded");
/// Headers of one connection (RFC 9110, 7.6.1), and those that the next one sets itself.
const OF_A_CONNECTION: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
];

/// The door that stays while drivers change.
pub struct Front {
    driving: watch::Sender<Option<Router>>,
    turn: watch::Receiver<Turn>,
    client: reqwest::Client,
    /// Whether the process takes part: not while it stops.
    ready: watch::Receiver<bool>,
}

/// Who is to answer.
enum Answerer {
    Here(Router),
    There(Holder),
}

impl Front {
    /// A door behind which nobody drives yet. `turn` says who does elsewhere; `ready` whether this process takes part. `ca_file` has
    /// the roots that other daemons are believed by, instead of the system's.
    ///
    /// # Errors
    /// The roots cannot be read, or no HTTP client can be made on this system.
    pub fn new(
        turn: watch::Receiver<Turn>,
        ready: watch::Receiver<bool>,
        ca_file: Option<&Path>,
    ) -> Result<Self, String> {
        let builder = believing(reqwest::Client::builder(), ca_file)?;
        let client = builder
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()
            .map_err(|error| format!("no HTTP client: {error}"))?;
        Ok(Self { driving: watch::Sender::new(None), turn, client, ready })
    }

    /// This process drives from now on, by this router; or it does not any more.
    pub fn set(&self, router: Option<Router>) {
        self.driving.send_replace(router);
    }

    async fn answer(&self, request: Request) -> Response {
        let handed_on = request.headers().contains_key(&FORWARDED);
        let answered = match self.answerer(handed_on).await {
            // A router's error type has no values.
            Ok(Answerer::Here(router)) => return router.oneshot(request).await.into_response(),
            Ok(Answerer::There(holder)) => self.hand_on(&holder, request).await,
            Err(error) => Err(error),
        };
        answered.unwrap_or_else(|error| ([(header::RETRY_AFTER, RETRY_AFTER_S)], error).into_response())
    }

    /// Who answers now, or within a moment: a request that comes while the lease changes hands waits for it.
    async fn answerer(&self, handed_on: bool) -> Result<Answerer, ApiError> {
        let (mut driving, mut turn) = (self.driving.subscribe(), self.turn.clone());
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        loop {
            if let Some(router) = driving.borrow_and_update().clone() {
                return Ok(Answerer::Here(router));
            }
            if !*self.ready.borrow() {
                return Err(stopping());
            }
            let now = turn.borrow_and_update().clone();
            let why_not = match elsewhere(now, handed_on) {
                Ok(holder) => return Ok(Answerer::There(holder)),
                Err(why_not) => why_not,
            };
            tokio::select! {
                () = &mut patience => return Err(why_not),
                changed = driving.changed() => if changed.is_err() { return Err(why_not) },
                changed = turn.changed() => if changed.is_err() { return Err(why_not) },
            }
        }
    }

    async fn hand_on(&self, holder: &Holder, request: Request) -> Result<Response, ApiError> {
        self.send(&holder.address, request).await.map_err(|error| {
            let detail = format!("daemon {} drives, and it does not answer at {}: {error}", holder.id, holder.address);
            nobody(detail).hint("try again in a moment; when it stays so, look at that daemon and at api.advertise_url")
        })
    }

    async fn send(&self, address: &str, request: Request) -> Result<Response, reqwest::Error> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = passed(&parts.headers);
        let host = parts.headers.get(header::HOST).cloned();
        headers.insert(FORWARDED, host.unwrap_or(header::HeaderValue::from_static("-")));
        let answer = self
            .client
            .request(parts.method, format!("{}{path}", address.trim_end_matches('/')))
            .headers(headers)
            .body(reqwest::Body::wrap_stream(body.into_data_stream()))
            .send()
            .await?;
        let (status, headers) = (answer.status(), passed(answer.headers()));
        let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// The daemon to hand a request on to, or why there is none.
fn elsewhere(turn: Turn, handed_on: bool) -> Result<Holder, ApiError> {
    let again = "try again in a moment";
    match turn {
        Turn::Driving { .. } => Err(nobody("this daemon is just taking over".to_owned()).hint(again)),
        Turn::StandingBy { fault: Some(fault), .. } => {
            Err(nobody(format!("who drives cannot be found out: {fault}")).hint("look at the database"))
        }
        Turn::StandingBy { holder: None, .. } => Err(nobody("no daemon drives at the moment".to_owned()).hint(again)),
        Turn::StandingBy { .. } if handed_on => Err(nobody("the driver is changing".to_owned()).hint(again)),
        Turn::StandingBy { holder: Some(holder), .. } if holder.address.is_empty() => {
            let detail = format!("daemon {} drives, and it does not say where it is", holder.id);
            Err(nobody(detail).hint("set api.advertise_url in its configuration, or ask it directly"))
        }
        Turn::StandingBy { holder: Some(holder), .. } => Ok(holder),
    }
}

fn nobody(detail: String) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "nobody-drives", detail)
}

/// Headers that are about the message and not about the connection.
fn passed(headers: &HeaderMap) -> HeaderMap {
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<String> =
        named.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect();
    let is_passed =
        |name: &HeaderName| !OF_A_CONNECTION.contains(name) && !named.iter().any(|each| each == name.as_str());
    let kept = headers.iter().filter(|(name, _)| is_passed(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn stopping() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "this daemon is stopping")
        .hint("ask another one, or again")
}

/// Every address: health of this process, and everything else by whoever drives.
pub fn router(front: Arc<Front>) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).fallback(any).with_state(front)
}

async fn any(State(front): State<Arc<Front>>, request: Request) -> Response {
    front.answer(request).await
}

/// Alive: the process answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready: it drives and the store answers, or it stands by for one that drives.
async fn readyz(State(front): State<Arc<Front>>, request: Request) -> Response {
    if !*front.ready.borrow() {
        return stopping().into_response();
    }
    let router = front.driving.borrow().clone();
    if let Some(router) = router {
        return router.oneshot(request).await.into_response();
    }
    let turn = front.turn.borrow().clone();
    match turn {
        Turn::StandingBy { holder: Some(holder), .. } => {
            format!("ready, standing by: {} drives\n", holder.id).into_response()
        }
        Turn::StandingBy { fault: Some(fault), .. } => ApiError::from(fault).into_response(),
        Turn::StandingBy { .. } | Turn::Driving { .. } => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "starting", "the lease is changing hands").into_response()
        }
    }
}
