//! A client of an App Mesh endpoint: reads whole meshes and makes single changes, for the command line.
//!
//! Requests are signed where there is an access key; the endpoint of `tidegate local` asks for none. Nothing is tried twice: whoever asks can ask again, and a change that was made already is then none.

use crate::clock::{Clock, SystemClock};
use crate::mesh::model::{Key, Kind, Resource, Spec};
use crate::mesh::sigv4::Head;
use crate::mesh::validate::{self, SpecPair, Unknown};
use crate::mesh::wire::{FEATURES_HEADER, GENERATION_HEADER, ask};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;

pub use crate::mesh::sigv4::sign::Signer;

/// One call may take so long: an endpoint may take 10 s to store a change.
const TIMEOUT: Duration = Duration::from_secs(15);
/// A connection is made within this time, or nothing is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer. A description is below twice the largest request, a page of a list far below it.
const ANSWER_MAX: usize = 8 * 1024 * 1024;
/// Most pages of one list: ten times what an endpoint without quotas may hold.
const PAGES_MAX: usize = 1_000;
/// Descriptions under way at once: enough to hide a network's delay, and no burden.
const AT_ONCE: usize = 8;

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
    /// Whether a change may have been made all the same.
    pub is_unsure: bool,
    /// Error code of App Mesh, when the endpoint answered with one.
    pub code: Option<String>,
}

impl ClientError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, is_usage: false, is_unsure: false, code: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the endpoint said that something changed since it was read.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code.as_deref() == Some("ConflictException")
    }

    fn is_not_found(&self) -> bool {
        self.code.as_deref() == Some("NotFoundException")
    }
}

/// An App Mesh endpoint. A handle: clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    /// As it is sent, and signed.
    host: String,
    signer: Option<Signer>,
    http: reqwest::Client,
}

/// What an endpoint answered.
struct Answer {
    headers: HeaderMap,
    body: Value,
}

impl Client {
    /// For the endpoint at `url`, signing with this key; of https, `ca_file` has the roots instead of the system's.
    ///
    /// # Errors
    /// When that is no address of an endpoint, or the roots cannot be read.
    pub fn new(url: &str, signer: Option<Signer>, ca_file: Option<&Path>) -> Result<Self, ClientError> {
        let usage = |error: ClientError| ClientError { is_usage: true, ..error };
        let parsed = reqwest::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some((parsed, host)) = parsed.and_then(|url| Some((url.clone(), url.host_str()?.to_owned()))) else {
            let error = ClientError::new(format!("`{url}` is no address of an App Mesh endpoint"));
            return Err(usage(error.hint("for example http://127.0.0.1:7071")));
        };
        let builder = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        let builder = match (parsed.scheme(), ca_file) {
            // Reading the system's roots takes milliseconds that nobody needs.
            ("http", _) => builder.tls_built_in_root_certs(false),
            (_, Some(path)) => believing(builder, path).map_err(|text| {
                usage(ClientError::new(text).hint("TIDEGATE_CA_FILE names a file of certificates in PEM"))
            })?,
            (_, None) => builder,
        };
        let http = builder.build().map_err(|error| ClientError::new(format!("no HTTP client: {error}")))?;
        let host = parsed.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        Ok(Self { base: url.trim_end_matches('/').to_owned(), host, signer, http })
    }

    /// The endpoint's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Names of all meshes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn meshes(&self) -> Result<Vec<String>, ClientError> {
        self.list(&Key::mesh("")).await
    }

    /// A mesh and all that is in it, in no order; nothing when there is no such mesh. Tags only of what `with_tags`
    /// asks for, since each costs a call.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn read(&self, mesh: &str, with_tags: impl Fn(&Key) -> bool) -> Result<Vec<Resource>, ClientError> {
        let Some(root) = self.describe(Key::mesh(mesh), with_tags(&Key::mesh(mesh))).await? else {
            return Ok(Vec::new());
        };
        let mut keys = Vec::new();
        for kind in [Kind::VirtualNode, Kind::VirtualRouter, Kind::VirtualService, Kind::VirtualGateway] {
            keys.extend(self.children(Key::child(mesh, kind, "")).await?);
        }
        let is_parent = |kind| [Kind::Route, Kind::GatewayRoute].into_iter().find(|child| child.parent() == Some(kind));
        let parents: Vec<Key> =
            keys.iter().filter_map(|key| Some(Key::grandchild(mesh, is_parent(key.kind)?, &key.name, ""))).collect();
        let below = side_by_side(parents.into_iter().map(|key| {
            let client = self.clone();
            async move { client.children(key).await }
        }));
        keys.extend(below.await?.into_iter().flatten());
        let described = side_by_side(keys.into_iter().map(|key| {
            let (client, with_tags) = (self.clone(), with_tags(&key));
            async move { client.describe(key, with_tags).await }
        }));
        // What was deleted since it was listed is not there.
        let mut resources: Vec<Resource> = described.await?.into_iter().flatten().collect();
        resources.push(root);
        Ok(resources)
    }

    /// Creates a resource, with its tags.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create(&self, resource: &Resource) -> Result<(), ClientError> {
        let path = ask::collection_path(&resource.key);
        self.call(Method::PUT, &path, Some(&ask::create_body(resource)), None).await.map(drop)
    }

    /// Replaces a resource's spec. An update of a route is refused when a rollout wrote it since it was read, where the
    /// endpoint can tell.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn update(&self, resource: &Resource) -> Result<(), ClientError> {
        let path = ask::resource_path(&resource.key);
        let body = json!({ "spec": resource.raw });
        self.call(Method::PUT, &path, Some(&body), resource.generation).await.map(drop)
    }

    /// Deletes a resource; one that is gone already is deleted.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete(&self, key: &Key) -> Result<(), ClientError> {
        match self.call(Method::DELETE, &ask::resource_path(key), None, None).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Adds tags to a resource, or gives them other values.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tag(&self, resource: &Resource, tags: &BTreeMap<String, String>) -> Result<(), ClientError> {
        let body = json!({ "tags": ask::tag_list(tags) });
        self.call(Method::PUT, &ask::tags_path("tag", &resource.arn), Some(&body), None).await.map(drop)
    }

    /// Siblings of the key; none when their parent is gone.
    async fn children(&self, within: Key) -> Result<Vec<Key>, ClientError> {
        match self.list(&within).await {
            Ok(names) => Ok(names.into_iter().map(|name| Key { name, ..within.clone() }).collect()),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, within: &Key) -> Result<Vec<String>, ClientError> {
        let path = ask::collection_path(within);
        self.pages(&path, '?', |body| ask::names(within.kind, body)).await
    }

    /// All pages of a list. `mark` is what comes between the path and a query member.
    async fn pages<T>(
        &self,
        path: &str,
        mark: char,
        read: impl Fn(&Value) -> Result<ask::Page<T>, String>,
    ) -> Result<Vec<T>, ClientError> {
        let mut all = Vec::new();
        let mut page = path.to_owned();
        for _ in 0..PAGES_MAX {
            let answer = self.call(Method::GET, &page, None, None).await?;
            let (items, next) = read(&answer.body).map_err(|missing| self.foreign(&missing))?;
            all.extend(items);
            let Some(next) = next else { return Ok(all) };
            page = format!("{path}{mark}nextToken={}", ask::encoded(&next));
        }
        Err(ClientError::new(format!("{}{path}: the list has not ended after {PAGES_MAX} pages", self.base)))
    }

    async fn describe(&self, key: Key, with_tags: bool) -> Result<Option<Resource>, ClientError> {
        let answer = match self.call(Method::GET, &ask::resource_path(&key), None, None).await {
            Err(error) if error.is_not_found() => return Ok(None),
            answer => answer?,
        };
        let spec = &answer.body["spec"];
        // An endpoint may hold what our rules refuse; what can be read will do.
        let pair = validate::spec(key.kind, spec, Unknown::Drop).or_else(|violations| {
            let read = Spec::read(key.kind, spec).map(|typed| SpecPair { raw: spec.clone(), typed });
            let first = violations.first().map_or_else(String::new, ToString::to_string);
            read.map_err(|_| self.foreign(&format!("{}: {first}", key.describe())))
        })?;
        let mut resource = ask::resource(&key, &answer.body, pair.raw, pair.typed);
        if key.kind == Kind::Route {
            resource.generation = generation(&answer.headers);
        }
        if with_tags {
            let path = ask::tags_path("tags", &resource.arn);
            match self.pages(&path, '&', ask::tags).await {
                Ok(tags) => resource.tags = tags.into_iter().collect(),
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(resource))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        generation: Option<u64>,
    ) -> Result<Answer, ClientError> {
        let url = format!("{}{path}", self.base);
        // `.` and `..` are legal names of virtual services, and steps of a path, even encoded.
        if reqwest::Url::parse(&url).is_ok_and(|parsed| !parsed.as_str().ends_with(path)) {
            return Err(ClientError::new(format!("{path}: a name of nothing but dots cannot be asked for over HTTP")));
        }
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let generation = generation.map(|generation| generation.to_string());
        let headers = self.headers(method.as_str(), path, &bytes, generation.as_deref())?;
        let mut request = self.http.request(method, url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if body.is_some() {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(bytes);
        }
        let mut answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreachable(&error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_MAX {
                return Err(ClientError::new(format!("{}: an answer is larger than {ANSWER_MAX} bytes", self.base)));
            }
        }
        let (status, headers) = (answer.status(), answer.headers().clone());
        let read: Option<Value> = serde_json::from_slice(&bytes).ok();
        match read {
            Some(body) if status.is_success() => Ok(Answer { headers, body }),
            read => Err(self.refused(status.as_u16(), &headers, &read.unwrap_or_default())),
        }
    }

    /// What is sent besides the body: the generation, and a signature over everything.
    fn headers(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
        generation: Option<&str>,
    ) -> Result<Vec<(&'static str, String)>, ClientError> {
        let given: Vec<_> = generation.map(|number| (GENERATION_HEADER, number.to_owned())).into_iter().collect();
        let Some(signer) = &self.signer else { return Ok(given) };
        let mut own = vec![("host", self.host.as_bytes())];
        own.extend(given.iter().map(|(name, value)| (*name, value.as_bytes())));
        let (bare, query) = path.split_once('?').unwrap_or((path, ""));
        // An endpoint behind a load balancer may have a path of its own.
        let prefix = self.base.splitn(4, '/').nth(3).map(|prefix| format!("/{prefix}")).unwrap_or_default();
        let head = Head { method, path: &format!("{prefix}{bare}"), query, headers: &own };
        let signed = signer.headers(&head, body, SystemClock.now());
        let signed = signed.ok_or_else(|| ClientError::new(format!("{path}: such a path cannot be signed")))?;
        Ok(given.into_iter().chain(signed).collect())
    }

    fn refused(&self, status: u16, headers: &HeaderMap, body: &Value) -> ClientError {
        let Some(code) = error_code(headers, body).filter(|code| code != "UnknownOperationException") else {
            if matches!(status, 401 | 403) {
                return self.not_believed(ClientError::new(format!("{}: refused with status {status}", self.base)));
            }
            return self.foreign(&format!("status {status}"));
        };
        let message = body["message"].as_str().or_else(|| body["Message"].as_str()).unwrap_or("no message");
        let error = ClientError::new(format!("{code}: {}", message.chars().take(2000).collect::<String>()));
        let error = ClientError { code: Some(code), ..error };
        if matches!(status, 401 | 403) { self.not_believed(error) } else { error }
    }

    /// What to do about a caller that is refused.
    fn not_believed(&self, error: ClientError) -> ClientError {
        match &self.signer {
            None => error.hint(
                "this endpoint asks for signed requests: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key of \
                 [mesh.keys] of its daemon",
            ),
            Some(signer) => error.hint(format!(
                "it was signed with the access key {} of AWS_ACCESS_KEY_ID; the endpoint knows those of [mesh.keys] of its daemon",
                signer.id
            )),
        }
    }

    /// Something answers, but not in the way of App Mesh.
    fn foreign(&self, what: &str) -> ClientError {
        ClientError::new(format!("{} does not answer like App Mesh: {what}", self.base)).hint(
            "--endpoint-url is the address of the App Mesh API (`tidegate local` has it on port 7071), not of the daemon's API",
        )
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        let why = match error {
            error if error.is_timeout() => "it does not answer in time",
            error if error.is_connect() && self.base.starts_with("https:") => {
                "nothing answers there, or its certificate is not believed (TIDEGATE_CA_FILE names roots)"
            }
            error if error.is_connect() => "nothing answers there",
            _ => "the connection broke",
        };
        // Without a connection nothing was sent.
        ClientError {
            is_unsure: !error.is_connect(),
            ..ClientError::new(format!("no App Mesh at {}: {why}", self.base))
        }
        .hint(
            "start one with `tidegate local`, or say where it is with --endpoint-url URL or AWS_ENDPOINT_URL_APP_MESH",
        )
    }
}

/// With the roots of a file, and no others.
fn believing(builder: reqwest::ClientBuilder, path: &Path) -> Result<reqwest::ClientBuilder, String> {
    let file = path.display();
    let pem = std::fs::read(path).map_err(|error| format!("the roots {file} cannot be read: {error}"))?;
    let roots = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if roots.is_empty() {
        return Err(format!("the roots {file} are no certificates in PEM"));
    }
    let builder = builder.tls_built_in_root_certs(false);
    Ok(roots.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate))
}

/// Code in the way of REST-JSON: `x-amzn-errortype`, which may go on after a colon, else a member of the body, which may
/// begin with a namespace.
fn error_code(headers: &HeaderMap, body: &Value) -> Option<String> {
    let header = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let code = header.or_else(|| ["code", "Code", "__type"].iter().find_map(|name| body[*name].as_str()))?;
    let code = code.split(':').next().unwrap_or(code);
    let code = code.rsplit('#').next().unwrap_or(code).trim();
    (!code.is_empty()).then(|| code.chars().take(200).collect())
}

/// The generation that an update must carry not to overwrite a later write of a rollout; `None` when the endpoint knows
/// no generations.
fn generation(headers: &HeaderMap) -> Option<u64> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let knows = text(FEATURES_HEADER)?.split([',', ' ']).any(|word| word == "generation");
    knows.then(|| text(GENERATION_HEADER).and_then(|number| number.parse().ok()).unwrap_or(0))
}

/// Does calls, a few at a time. The first that fails ends the others.
async fn side_by_side<T, F>(calls: impl Iterator<Item = F>) -> Result<Vec<T>, ClientError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ClientError>> + Send + 'static,
{
    let mut calls = calls.fuse();
    let mut running: JoinSet<Result<T, ClientError>> = JoinSet::new();
    let mut done = Vec::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(call) = calls.next()
        {
            running.spawn(call);
        }
        match running.join_next().await {
            None => return Ok(done),
            Some(Ok(result)) => done.push(result?),
            Some(Err(_)) => return Err(ClientError::new("an internal error while the endpoint was read")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_be_asked_are_said_to_be() {
        for (url, message) in [
            ("ftp://127.0.0.1", "is no address"),
            ("127.0.0.1:7071", "is no address"),
            ("localhost", "is no address"),
            ("", "is no address"),
        ] {
            let error = Client::new(url, None, None).expect_err(url);
            assert!(error.is_usage && error.message.contains(message), "{url}: {error}");
        }
        assert_eq!(Client::new("http://127.0.0.1:7071/", None, None).expect("is one").url(), "http://127.0.0.1:7071");
    }

    #[tokio::test]
    async fn names_that_no_address_can_hold_are_said_to_be() {
        let client = Client::new("http://127.0.0.1:7071", None, None).expect("is one");
        for name in [".", ".."] {
            let key = Key::child("shop", Kind::VirtualService, name);
            let error = client.describe(key, false).await.expect_err("is not asked for");
            assert!(error.message.contains("nothing but dots"), "{error}");
        }
    }

    #[test]
    fn error_codes_are_read_in_every_form() {
        let header = |text: &str| {
            HeaderMap::from_iter([("x-amzn-errortype".parse().expect("a name"), text.parse().expect("a value"))])
        };
        let none = HeaderMap::new();
        for (headers, body, code) in [
            (header("NotFoundException"), json!({}), Some("NotFoundException")),
            (header("NotFoundException:http://internal/"), json!({}), Some("NotFoundException")),
            (none.clone(), json!({ "__type": "com.amazon#AccessDenied" }), Some("AccessDenied")),
            (none.clone(), json!({ "code": "X" }), Some("X")),
            (none.clone(), json!({ "title": "not found" }), None),
            (none, Value::Null, None),
        ] {
            assert_eq!(error_code(&headers, &body).as_deref(), code);
        }
    }

    #[test]
    fn a_generation_is_sent_only_where_it_is_known() {
        let headers = |pairs: &[(&'static str, &str)]| -> HeaderMap {
            pairs
                .iter()
                .map(|(name, value)| (reqwest::header::HeaderName::from_static(name), value.parse().expect("a value")))
                .collect()
        };
        assert_eq!(generation(&headers(&[])), None);
        assert_eq!(generation(&headers(&[("x-tidegate-generation", "7")])), None);
        assert_eq!(generation(&headers(&[("x-tidegate-features", "generation")])), Some(0));
        let both = [("x-tidegate-features", "lease, generation"), ("x-tidegate-generation", "7")];
        assert_eq!(generation(&headers(&both)), Some(7));
    }
}
