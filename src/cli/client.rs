//! Calls the daemon's API.

use super::Failure;
use crate::api::wire::{Problem, USER_HEADER};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// A daemon answers within one commit; a start also reads the route.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A daemon at an address.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    user: String,
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new(base: &str, user: &str) -> Result<Self, Failure> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build();
        let http = http.map_err(|error| Failure::new(format!("no HTTP client: {error}")))?;
        // Header values are visible ASCII: a login with anything else is shown without it.
        let user = user.chars().filter(char::is_ascii_graphic).collect();
        Ok(Self { base: base.trim_end_matches('/').to_owned(), user, http })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(self.http.get(self.url(path))).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.call(self.http.post(self.url(path)).json(body)).await
    }

    /// An answer's text, for addresses that do not speak JSON.
    pub(crate) async fn text(&self, path: &str) -> Result<String, Failure> {
        let answer = self.http.get(self.url(path)).send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() { Ok(text) } else { Err(problem(status.as_u16(), &text)) }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn call<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Failure> {
        let request = request.header(USER_HEADER, &self.user);
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
        if !status.is_success() {
            return Err(problem(status.as_u16(), &text));
        }
        serde_json::from_str(&text).map_err(|error| {
            Failure::new(format!("{} answered something else than this version expects: {error}", self.base))
                .hint("is it a tidegate daemon, and of this version?")
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        if error.is_builder() {
            return Failure::new(format!("`{}` is no address of a daemon", self.base)).hint("for example http://127.0.0.1:7070").usage();
        }
        let why = if error.is_timeout() { "it does not answer in time" } else { "nothing answers there" };
        Failure::new(format!("no daemon at {}: {why}", self.base))
            .hint("start one with `tidegate local`, or say where it is with --server URL or TIDEGATE_SERVER")
    }
}

fn problem(status: u16, text: &str) -> Failure {
    match serde_json::from_str::<Problem>(text) {
        Ok(problem) => Failure { code: super::FAILED, message: problem.detail, hint: problem.hint },
        Err(_) => Failure::new(format!("status {status}: {}", text.chars().take(500).collect::<String>())),
    }
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}
