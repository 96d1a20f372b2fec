//! A client of the API, for the command line and the demo.

use super::wire::{INVALID_POLICY, Problem, USER_HEADER};
use crate::base::loopback::is_this_machine;
use crate::base::token::Token;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
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

/// By what a client proves itself, and whom it believes.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The token, where the daemon asks for one.
    pub token: Option<Token>,
    /// File of the roots (PEM) that are believed instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether the token may go over a network in clear text.
    pub insecure: bool,
}

/// A daemon at an address.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    user: String,
    token: Option<Token>,
    http: reqwest::Client,
}

impl Client {
    /// For the daemon at `base`; `user` is who asks, for its audit trail.
    ///
    /// # Errors
    /// When `base` is no address of HTTP, or no HTTP client can be made.
    pub fn new(base: &str, user: &str) -> Result<Self, ClientError> {
        Self::with(base, user, Credentials::default())
    }

    /// The same with a token, for a daemon that asks for one.
    ///
    /// # Errors
    /// As [`Client::new`]; also when the token would go over a network in clear text, and when the roots cannot be read.
    pub fn with(base: &str, user: &str, credentials: Credentials) -> Result<Self, ClientError> {
        let url = check_address(base)?;
        let Credentials { token, ca_file, insecure } = credentials;
        if token.is_some() && !insecure {
            check_secrecy(&url)?;
        }
        // Nobody redirects here, and a token must not follow to where someone else points.
        let builder =
            reqwest::Client::builder().timeout(TIMEOUT).no_proxy().redirect(reqwest::redirect::Policy::none());
        let builder = match url.scheme() {
            "https" => believing(builder, ca_file.as_deref()).map_err(|text| ClientError {
                is_usage: true,
                ..ClientError::new(text).hint("TIDEGATE_CA_FILE names a file of certificates in PEM")
            })?,
            // Reading the system's roots takes milliseconds that nobody needs.
            _ => builder.tls_built_in_root_certs(false),
        };
        let http = builder.build();
        let http = http.map_err(|error| ClientError::new(format!("no HTTP client: {error}")))?;
        // Header values are visible ASCII: a login with anything else is shown without it.
        let user = user.chars().filter(char::is_ascii_graphic).collect();
        Ok(Self { base: base.trim_end_matches('/').to_owned(), user, token, http })
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
        let answer =
            self.known(self.http.get(self.url(path))).send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() { Ok(text) } else { Err(self.problem(status.as_u16(), &text)) }
    }

    /// Something answers, but not as a daemon of this version would.
    #[must_use]
    pub fn stranger(&self, what: &str) -> ClientError {
        ClientError::new(format!("{} {what}", self.base)).hint("is it a tidegate daemon, and of this version?")
    }

    /// DELETE.
    ///
    /// # Errors
    /// [`ClientError`]: not reachable, or the problem that it answered.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(self.http.delete(self.url(path))).await
    }

    /// With who asks. The header is marked as one that is not to be logged.
    fn known(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let request = request.header(USER_HEADER, &self.user);
        match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn call<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, ClientError> {
        let answer = self.known(request).send().await.map_err(|error| self.unreachable(&error))?;
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
        if root_cause(error).contains("certificate") {
            let message = format!("the daemon at {} is not believed: {}", self.base, root_cause(error));
            return ClientError::new(message).hint(
                "TIDEGATE_CA_FILE names the roots to believe; its certificate must have the name in the address",
            );
        }
        ClientError::new(format!("no daemon at {}: {why}", self.base))
            .hint("start one with `tidegate local`, or say where it is with --server URL or TIDEGATE_SERVER")
    }
}

/// Roots to believe: those of a file and no others, or the system's.
pub(super) fn believing(
    builder: reqwest::ClientBuilder,
    ca_file: Option<&Path>,
) -> Result<reqwest::ClientBuilder, String> {
    let Some(path) = ca_file else { return Ok(builder) };
    let file = path.display();
    let pem = std::fs::read(path).map_err(|error| format!("the roots {file} cannot be read: {error}"))?;
    let roots = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if roots.is_empty() {
        return Err(format!("the roots {file} are no certificates in PEM"));
    }
    let builder = builder.tls_built_in_root_certs(false);
    Ok(roots.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate))
}

fn check_address(base: &str) -> Result<reqwest::Url, ClientError> {
    let url = reqwest::Url::parse(base).ok();
    let fits =
        url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty());
    fits.ok_or_else(|| {
        let error = ClientError::new(format!("`{base}` is no address of a daemon"));
        ClientError {
            is_usage: true,
            ..error.hint("for example http://127.0.0.1:7070 or https://tidegate.example.com")
        }
    })
}

/// A token opens the daemon to whoever reads it on the way, for as long as it is not revoked. Within this machine nobody
/// does.
fn check_secrecy(url: &reqwest::Url) -> Result<(), ClientError> {
    let host = url.host_str().unwrap_or_default();
    if url.scheme() == "https" || is_this_machine(host) {
        return Ok(());
    }
    let message = format!("TIDEGATE_TOKEN is not sent to {host} in clear text: whoever reads it on the way can use it");
    let hint =
        "use an https:// address; where the network itself is private and encrypted, TIDEGATE_INSECURE=1 allows it";
    Err(ClientError { is_usage: true, ..ClientError::new(message).hint(hint) })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn with_token(base: &str, insecure: bool) -> Result<Client, ClientError> {
        let token = Some(Token::new([1; 6], [2; 32]));
        Client::with(base, "ann", Credentials { token, ca_file: None, insecure })
    }

    #[test]
    fn a_token_goes_over_no_network_in_clear_text_unless_that_is_asked_for() {
        for base in
            ["http://127.0.0.1:7070", "http://localhost:7070", "http://[::1]:7070", "https://tidegate.example.com"]
        {
            assert!(with_token(base, false).is_ok(), "{base}");
        }
        for base in
            ["http://tidegate.example.com", "http://10.0.0.5:7070", "http://localhost.example.com", "http://[::2]"]
        {
            let error = with_token(base, false).map(drop).expect_err(base);
            assert!(error.is_usage && error.message.contains("in clear text"), "{error:?}");
            assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("TIDEGATE_INSECURE=1")), "{error:?}");
            assert!(with_token(base, true).is_ok(), "{base}");
            assert!(Client::new(base, "ann").is_ok(), "{base}: there is nothing to keep secret");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for base in ["", "127.0.0.1:7070", "ftp://x", "http://", "unix:/x", "http://user:hunter2@x"] {
            let error = Client::new(base, "ann").map(drop).expect_err(base);
            assert!(error.is_usage && error.message.contains("is no address of a daemon"), "{error:?}");
        }
    }

    #[test]
    fn roots_that_cannot_be_used_are_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ca.pem");
        let with = |path: &Path| {
            let credentials = Credentials { ca_file: Some(path.to_owned()), ..Credentials::default() };
            Client::with("https://tidegate.example.com", "ann", credentials).map(drop).expect_err("no roots")
        };
        let error = with(&path);
        assert!(error.is_usage && error.message.contains("ca.pem cannot be read"), "{error:?}");
        std::fs::write(&path, "nothing of the kind").expect("written");
        let error = with(&path);
        assert!(error.is_usage && error.message.contains("ca.pem are no certificates"), "{error:?}");
    }
}
