//! The daemon's configuration: file, then environment over it, checked as a whole. All problems are told at once.

use super::Environment;
use super::certificates;
use super::file::{self, ConfigError, Given, Values};
use super::keys::{AWS, KEYS, Key, NONE, OFF, Shape};
use super::mesh::{self, MeshHost};
use crate::base::access_key::AccessKey;
use crate::base::certificate::StandIn;
use crate::base::people::{People, Person};
use crate::base::secret::Redacted;
use crate::base::time::Millis;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What `tidegate serve` runs by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonConfig {
    /// The HTTP API.
    pub api: ApiConfig,
    /// Where rollouts are kept.
    pub database: DatabaseConfig,
    /// Directory of policy files.
    pub policies: PathBuf,
    /// The App Mesh API.
    pub mesh: MeshConfig,
    /// Region of AWS, where the SDK is not to choose.
    pub aws_region: Option<String>,
    /// Admin addresses of proxies.
    pub proxies: Vec<String>,
    /// File that stands in for Cloud Map and DNS.
    pub discovery: Option<PathBuf>,
    /// Prometheus.
    pub prometheus: PrometheusConfig,
    /// GitHub, which is told how rollouts go.
    pub github: GithubConfig,
    /// Slack, where people are told and asked.
    pub slack: SlackConfig,
    /// By what requests to services of one's own are signed.
    pub webhook_secret: Option<Redacted<String>>,
    /// Secrets of the hooks by their source's name, two at most each.
    pub hooks: BTreeMap<String, Vec<Redacted<String>>>,
    /// URL of the queue of SQS with events of Amazon ECR.
    pub queue: Option<String>,
    /// People by the name that policies have for them.
    pub people: People,
}

/// `[api]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How people reach it.
    pub public_url: Option<String>,
    /// How other daemons reach it.
    pub advertise_url: Option<String>,
    /// Certificate chain and key, for TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Roots by which other daemons are believed, instead of the system's.
    pub ca: Option<PathBuf>,
    /// Whether callers need a token.
    pub needs_token: bool,
}

/// `[database]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseConfig {
    /// PostgreSQL by its URL.
    Postgres(Redacted<String>),
    /// SQLite in a directory.
    Sqlite(PathBuf),
}

/// `[mesh]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshConfig {
    /// The endpoint, where the SDK is not to choose.
    pub endpoint_url: Option<String>,
    /// Whether calls are signed with credentials of AWS.
    pub signed: bool,
    /// For how long a split of the traffic is asked for, where the mesh knows leases; `None` for ever.
    pub lease: Option<Millis>,
    /// The mesh of one's own that this daemon is the control plane of, in place of one elsewhere.
    pub host: Option<MeshHost>,
}

/// `[prometheus]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PrometheusConfig {
    /// Where it is.
    pub url: Option<String>,
    /// Bearer token.
    pub token: Option<Redacted<String>>,
    /// A user's name and password instead.
    pub login: Option<(String, Redacted<String>)>,
}

/// `[github]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GithubConfig {
    /// Its API.
    pub api_url: String,
    /// Token; without one nobody is told.
    pub token: Option<Redacted<String>>,
}

/// `[slack]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlackConfig {
    /// Address of its Web API.
    pub api_url: String,
    /// Token of a bot; without one nobody is told.
    pub token: Option<Redacted<String>>,
    /// By what requests from there are believed; without one none is.
    pub signing_secret: Option<Redacted<String>>,
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Default,
    File,
    Environment,
}

/// Values by key after everything was laid over one another.
pub(super) struct Merged<'a> {
    values: BTreeMap<&'static str, (Given, Origin)>,
    errors: Vec<ConfigError>,
    name: &'a str,
}

/// A configuration, and as it was put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What to run by.
    pub config: DaemonConfig,
    /// All of it as a TOML file, with where each value came from; secrets are masked.
    pub effective: String,
}

/// Reads a configuration: `text` of the file called `name`, and the environment over it.
///
/// # Errors
/// Everything that is wrong, each with its place.
pub fn load(name: &str, text: &str, environment: &dyn Environment) -> Result<Loaded, Vec<ConfigError>> {
    let Values { mut keys, people, mut access_keys, certificates, errors } = file::read(name, text);
    let mut merged = Merged { values: BTreeMap::new(), errors, name };
    for key in KEYS {
        let given = keys.remove(key.path).map(|given| (given, Origin::File));
        let given = from_environment(key, environment).map(|given| (given, Origin::Environment)).or(given);
        let default = || {
            let given = Given { values: vec![key.default?.to_owned()], place: name.to_owned(), line: None };
            Some((given, Origin::Default))
        };
        if let Some((given, origin)) = given.or_else(default) {
            merged.errors.extend(given.values.iter().filter_map(|value| wrong(key, value, &given)));
            merged.values.insert(key.path, (given, origin));
        }
    }
    let people = People(people.into_iter().map(|(name, keys)| (name, person(keys))).collect());
    merged.declared(&mut access_keys, environment);
    let access_keys = merged.access_keys(access_keys, environment);
    let (certificates, wrong) = certificates::checked(certificates);
    merged.errors.extend(wrong);
    let config = merged.config(people, access_keys, certificates);
    let effective = merged.effective(&config);
    if merged.errors.is_empty() {
        return Ok(Loaded { config, effective });
    }
    // As people go through the file; variables come last.
    merged.errors.sort_by_key(|error| error.line.unwrap_or(usize::MAX));
    Err(merged.errors)
}

/// An empty variable is one that is not set: that is how compose files and task definitions leave one out.
fn from_environment(key: &Key, environment: &dyn Environment) -> Option<Given> {
    let variable = key.variable();
    let text = environment.get(&variable).filter(|text| !text.is_empty())?;
    let values = match key.shape {
        Shape::Urls | Shape::Secrets => text.split(',').map(|entry| entry.trim().to_owned()).collect(),
        _ => vec![text],
    };
    Some(Given { values, place: format!("${variable}"), line: None })
}

/// What is wrong with one value by its shape.
fn wrong(key: &Key, value: &str, given: &Given) -> Option<ConfigError> {
    let is_right = match key.shape {
        Shape::Text | Shape::Path | Shape::Secret | Shape::Secrets => !value.trim().is_empty(),
        Shape::Listen => value.parse::<SocketAddr>().is_ok(),
        Shape::Url | Shape::Urls => is_url(value),
        Shape::Word(words) => words.contains(&value),
        Shape::Flag => matches!(value, "true" | "false"),
        Shape::Span => value == OFF || Millis::read(value).is_some(),
    };
    let shown = if key.shape.is_secret() { String::new() } else { format!(", and `{value}` is not") };
    (!is_right).then(|| ConfigError {
        place: given.place.clone(),
        line: given.line,
        message: format!("`{}` must be {}{shown}", key.path, key.shape.says()),
        hint: format!("for example {}", key.quoted()),
    })
}

/// What stands in for a secret.
pub(super) const MASKED: &str = "\"********\"";

/// A text as TOML has it: its escapes of basic strings are those of JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Scheme and host, and nothing behind the path.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let fits = |rest: &str| {
        let host = rest.split('/').next().unwrap_or("");
        !host.is_empty() && !host.contains('@') && rest.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '?' | '#'))
    };
    rest.is_some_and(fits)
}

fn person(mut keys: BTreeMap<&'static str, Given>) -> Person {
    let mut take = |key| keys.remove(key).and_then(|given: Given| given.values.into_iter().next());
    Person {
        token: take("token"),
        os_user: take("os_user"),
        slack_user: take("slack_user"),
        slack_group: take("slack_group"),
        git_login: take("git_login"),
    }
}

impl Merged<'_> {
    pub(super) fn one(&self, path: &str) -> Option<String> {
        self.values.get(path).and_then(|(given, _)| given.values.first().cloned())
    }

    fn all(&self, path: &str) -> Vec<String> {
        self.values.get(path).map(|(given, _)| given.values.clone()).unwrap_or_default()
    }

    pub(super) fn path(&self, path: &str) -> Option<PathBuf> {
        self.one(path).map(PathBuf::from)
    }

    fn url(&self, path: &str) -> Option<String> {
        self.one(path).map(|url| url.trim_end_matches('/').to_owned())
    }

    pub(super) fn refuse(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        let given = self.values.get(path).map(|(given, _)| (given.place.clone(), given.line));
        self.refuse_at(given, message, hint);
    }

    /// About something at a place; the file as a whole where there is none.
    pub(super) fn refuse_at(
        &mut self,
        place: Option<(String, Option<usize>)>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (place, line) = place.unwrap_or_else(|| (self.name.to_owned(), None));
        self.errors.push(ConfigError { place, line, message: message.into(), hint: hint.into() });
    }

    /// Puts it together and checks what concerns several keys. Where something was wrong, any value stands in for it:
    /// nobody gets to see the result.
    fn config(&mut self, people: People, access_keys: Vec<AccessKey>, certificates: Vec<StandIn>) -> DaemonConfig {
        let api = self.api();
        let database = match self.one("database.url") {
            Some(url) => DatabaseConfig::Postgres(Redacted::new(url)),
            None => DatabaseConfig::Sqlite(self.path("database.data_dir").unwrap_or_default()),
        };
        if let (DatabaseConfig::Sqlite(_), Some(_)) = (&database, &api.advertise_url) {
            let hint = "set database.url, or leave api.advertise_url out";
            self.refuse(
                "api.advertise_url",
                "a SQLite database belongs to one daemon, so no other hands requests on",
                hint,
            );
        }
        let mesh = self.mesh(access_keys, certificates);
        let hooks = KEYS.iter().filter_map(|key| Some((key.path, key.path.strip_prefix("hooks.")?)));
        let hooks: BTreeMap<String, Vec<Redacted<String>>> = hooks
            .map(|(path, source)| (source.to_owned(), self.all(path).into_iter().map(Redacted::new).collect()))
            .filter(|(_, secrets): &(String, Vec<_>)| !secrets.is_empty())
            .collect();
        for (source, secrets) in &hooks {
            if secrets.len() > 2 {
                let message = format!("`hooks.{source}` has {} secrets, and two is the most", secrets.len());
                self.refuse(&format!("hooks.{source}"), message, "drop the old ones");
            }
        }
        DaemonConfig {
            api,
            database,
            policies: self.path("policies.directory").unwrap_or_default(),
            mesh,
            aws_region: self.one("aws.region"),
            proxies: self.all("telemetry.proxies").iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
            discovery: self.path("discovery.file"),
            prometheus: PrometheusConfig {
                url: self.url("prometheus.url"),
                token: self.one("prometheus.token").map(Redacted::new),
                login: self.one("prometheus.user").zip(self.one("prometheus.password").map(Redacted::new)),
            },
            github: GithubConfig {
                api_url: self.url("github.api_url").unwrap_or_default(),
                token: self.one("github.token").map(Redacted::new),
            },
            slack: SlackConfig {
                api_url: self.url("slack.api_url").unwrap_or_default(),
                token: self.one("slack.token").map(Redacted::new),
                signing_secret: self.one("slack.signing_secret").map(Redacted::new),
            },
            webhook_secret: self.one("webhook.secret").map(Redacted::new),
            hooks,
            queue: self.url("queue.url"),
            people,
        }
    }

    fn mesh(&mut self, access_keys: Vec<AccessKey>, certificates: Vec<StandIn>) -> MeshConfig {
        let signed = self.one("mesh.signing").is_some_and(|word| word == AWS);
        let endpoint_url = self.url("mesh.endpoint_url");
        let host = self.host(access_keys, certificates);
        if host.is_none() && !signed && endpoint_url.is_none() {
            let hint = "set mesh.endpoint_url, or leave mesh.signing out";
            self.refuse("mesh.signing", "calls of AWS's own endpoint must be signed", hint);
        }
        MeshConfig { endpoint_url, signed, lease: self.lease(), host }
    }

    fn api(&mut self) -> ApiConfig {
        let listen = self.one("api.listen").and_then(|text| text.parse().ok());
        let listen: SocketAddr = listen.unwrap_or_else(|| super::loopback(super::API_PORT));
        let needs_token = self.one("api.auth").is_none_or(|word| word != NONE);
        if !needs_token && !listen.ip().is_loopback() {
            let message = format!("`api.auth = \"{NONE}\"` is for loopback addresses, and {listen} is none");
            self.refuse("api.auth", message, "leave api.auth out and make a token with `tidegate token create`");
        }
        let tls = match (self.path("api.certificate"), self.path("api.key")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                self.refuse("api.certificate", "`api.certificate` needs `api.key`", "name the file of its private key");
                None
            }
            (None, Some(_)) => {
                self.refuse("api.key", "`api.key` needs `api.certificate`", "name the file of its certificate chain");
                None
            }
        };
        let (public_url, advertise_url) = (self.url("api.public_url"), self.url("api.advertise_url"));
        ApiConfig { listen, public_url, advertise_url, tls, ca: self.path("api.ca"), needs_token }
    }

    /// A file that would say the same.
    fn effective(&self, config: &DaemonConfig) -> String {
        let (mut text, mut section) = (String::new(), "");
        // Writing to a string cannot fail.
        for (path, (given, origin)) in KEYS.iter().filter_map(|key| self.values.get_key_value(key.path)) {
            let Some((of, name)) = path.split_once('.') else { continue };
            if of != section {
                let _ = writeln!(text, "{}[{of}]", if section.is_empty() { "" } else { "\n" });
                section = of;
            }
            let key = KEYS.iter().find(|key| key.path == *path);
            let is_secret = key.is_some_and(|key| key.shape.is_secret());
            let is_flag = key.is_some_and(|key| key.shape == Shape::Flag);
            let quote = |value: &String| match (is_secret, is_flag) {
                (true, _) => MASKED.to_owned(),
                (_, true) => value.clone(),
                _ => quoted(value),
            };
            let quoted: Vec<String> = given.values.iter().map(quote).collect();
            let is_list = key.is_some_and(|key| key.shape == Shape::Urls) || quoted.len() > 1;
            let value = if is_list { format!("[{}]", quoted.join(", ")) } else { quoted.join("") };
            let from = match origin {
                Origin::Default => "  # default".to_owned(),
                Origin::File => String::new(),
                Origin::Environment => format!("  # {}", given.place),
            };
            let _ = writeln!(text, "{name} = {value}{from}");
        }
        for key in config.mesh.host.iter().flat_map(|host| host.keys.iter().flatten()) {
            mesh::effective(&mut text, key);
        }
        for stand_in in config.mesh.host.iter().flat_map(|host| &host.certificates) {
            certificates::effective(&mut text, stand_in);
        }
        for (name, person) in &config.people.0 {
            let _ = writeln!(text, "\n[people.{name}]");
            let known = [
                ("token", &person.token),
                ("os_user", &person.os_user),
                ("slack_user", &person.slack_user),
                ("slack_group", &person.slack_group),
                ("git_login", &person.git_login),
            ];
            for (key, value) in known {
                if let Some(value) = value {
                    let _ = writeln!(text, "{key} = {}", quoted(value));
                }
            }
        }
        text
    }
}
