//! A client of the API, for the command line and the demo.

use super::wire::{INVALID_POLICY, Problem, USER_HEADER};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// A daemon answers within one commit; a start also reads the route.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A call that did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ClientError {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether it lies in what was given on the command line.
    pub is_usage: bool,
}

impl ClientError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, is_usage: false }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A daemon at an address.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    user: String,
    http: reqwest::Client,
}

impl Client {
    /// For the daemon at `base`; `user` is who asks, for its audit trail.
    ///
    /// # Errors
    /// When `base` is no address of HTTP, or no HTTP client can be made.
    pub fn new(base: &str, user: &str) -> Result<Self, ClientError> {
        check_address(base)?;
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build();
        let http = http.map_err(|error| ClientError::new(format!("no HTTP client: {error}")))?;
        // Header values are visible ASCII: a login with anything else is shown without it.
        let user = user.chars().filter(char::is_ascii_graphic).collect();
        Ok(Self { base: base.trim_end_matches('/').to_owned(), user, http })
    }

    /// GET.
    ///
    /// # Errors
    /// [`ClientError`]: not reachable, or the problem that it answered.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(self.http.get(self.url(path))).await
    }

    /// POST of a JSON body.
    ///
    /// # Errors
    /// [`ClientError`]: not reachable, or the problem that it answered.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.call(self.http.post(self.url(path)).json(body)).await
    }

    /// PUT of a text, such as a policy file.
    ///
    /// # Errors
    /// [`ClientError`]: not reachable, or the problem that it answered.
    pub async fn put<T: DeserializeOwned>(&self, path: &str, text: String) -> Result<T, ClientError> {
        let request = self.http.put(self.url(path)).header(reqwest::header::CONTENT_TYPE, "application/yaml");
        self.call(request.body(text)).await
    }

    /// GET of an address that does not speak JSON.
    ///
    /// # Errors
    /// [`ClientError`]: not reachable, or the problem that it answered.
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let answer = self.http.get(self.url(path)).send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() { Ok(text) } else { Err(self.problem(status.as_u16(), &text)) }
    }

    /// Something answers, but not as a daemon of this version would.
    #[must_use]
    pub fn stranger(&self, what: &str) -> ClientError {
        ClientError::new(format!("{} {what}", self.base)).hint("is it a tidegate daemon, and of this version?")
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn call<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, ClientError> {
        let request = request.header(USER_HEADER, &self.user);
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
        if !status.is_success() {
            return Err(self.problem(status.as_u16(), &text));
        }
        serde_json::from_str(&text)
            .map_err(|error| self.stranger(&format!("answered something else than this version expects: {error}")))
    }

    fn problem(&self, status: u16, text: &str) -> ClientError {
        match serde_json::from_str::<Problem>(text) {
            // A file that is not valid is the caller's, wherever it is read.
            Ok(Problem { detail, hint, kind, .. }) => {
                ClientError { message: detail, hint, is_usage: kind == INVALID_POLICY }
            }
            Err(_) => {
                let text: String = text.trim().chars().take(500).collect();
                self.stranger(&format!("answered with status {status}: {text}"))
            }
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        let why = match error {
            _ if error.is_timeout() => "it does not answer in time".to_owned(),
            _ if error.is_connect() => format!("nothing answers there ({})", root_cause(error)),
            _ => format!("it broke off ({})", root_cause(error)),
        };
        ClientError::new(format!("no daemon at {}: {why}", self.base))
            .hint("start one with `tidegate local`, or say where it is with --server URL or TIDEGATE_SERVER")
    }
}

fn check_address(base: &str) -> Result<(), ClientError> {
    let url = reqwest::Url::parse(base);
    let wrong = match &url {
        Ok(url) if url.scheme() == "https" => "is HTTPS, which this version does not speak",
        Ok(url) if url.scheme() == "http" && url.has_host() => return Ok(()),
        _ => "is no address of a daemon",
    };
    let error = ClientError::new(format!("`{base}` {wrong}"));
    Err(ClientError { is_usage: true, ..error.hint("for example http://127.0.0.1:7070") })
}

/// What the system said, without the layers above it.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// A name as one segment of a path.
#[must_use]
pub fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}
