//! The form of a case file: a mesh, what stands around it, and requests with what is expected of each. Nothing here is the
//! word of one data plane.

use crate::kit::ports::steady_port;
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde::Deserialize;
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file: cases that share a mesh, its proxies and its backends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    /// For people.
    #[serde(rename = "about")]
    _about: String,
    /// Data planes that it is tried on; absent for all.
    pub(super) only: Option<Vec<String>>,
    /// Applications; each listens on the port of its placeholder.
    pub(super) backends: BTreeMap<String, Backend>,
    /// Files `NAME.pem` and `NAME.key` in `{dir}`, and `AUTHORITY.pem` beside.
    #[serde(default)]
    pub(super) certificates: BTreeMap<String, Certificate>,
    pub(super) proxies: BTreeMap<String, Proxy>,
    /// What `--discovery` takes; without it the proxies look names up themselves.
    pub(super) discovery: Option<Value>,
    /// What `--mesh` takes.
    pub(super) mesh: Vec<Value>,
    /// What a request has unless it says otherwise.
    pub(super) defaults: Defaults,
    pub(super) cases: Vec<Case>,
}

/// An application.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Backend {
    /// Takes lines instead of requests, and answers each with its name before it.
    pub(super) lines: bool,
    /// Speaks TLS with this certificate.
    pub(super) tls: Option<String>,
    /// Clients have to show a certificate of this authority.
    pub(super) clients: Option<String>,
    /// Fails its health checks.
    pub(super) sick: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    pub(super) names: Vec<String>,
    pub(super) by: String,
}

/// A proxy under test. It listens on `{NAME.egress}` and `{NAME.ingress}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proxy {
    pub(super) node: Option<String>,
    pub(super) gateway: Option<String>,
    pub(super) mesh: String,
    /// How it is told of changes; a data plane may know one way only.
    #[serde(default)]
    pub(super) updates: Updates,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Updates {
    #[default]
    Whole,
    Delta,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Defaults {
    pub(super) to: u16,
    pub(super) host: String,
    #[serde(default)]
    pub(super) protocol: Protocol,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    #[default]
    Http1,
    H2c,
    Grpc,
    /// A line that is sent, and the line that comes back.
    Tcp,
    /// HTTP/1.1 over TLS.
    Tls,
    /// An upgrade, and bytes that are sent through it and come back.
    Websocket,
}

/// A behaviour.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    /// What it is about, for the table.
    pub(super) area: Option<String>,
    /// Data planes that it is tried on; absent for all.
    pub(super) only: Option<Vec<String>>,
    /// Documents that are applied before its requests; what changes by them needs `eventually`.
    #[serde(default)]
    pub(super) change: Vec<Value>,
    /// What takes the place of the group's `discovery` before its requests.
    pub(super) discovery: Option<Value>,
    pub(super) requests: Vec<Request>,
}

/// A request, or several of one kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) to: Option<u16>,
    pub(super) protocol: Option<Protocol>,
    #[serde(default = "get")]
    pub(super) method: String,
    #[serde(default = "root")]
    pub(super) path: String,
    pub(super) host: Option<String>,
    /// A list has one line for each value.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, OneOrMany>,
    #[serde(default)]
    pub(super) body: String,
    /// With `protocol: tcp`, `silent MS`: a second line is sent after so long. Else what a backend does instead of answering 200: `[only BACKEND] [first N] status CODE|delay MS|reset|refuse|grpc CODE`.
    #[serde(rename = "do")]
    pub(super) deed: Option<String>,
    #[serde(default = "once")]
    pub(super) times: usize,
    /// All at once instead of one after the other.
    #[serde(default)]
    pub(super) together: bool,
    /// Repeated until it is as expected.
    #[serde(default)]
    pub(super) eventually: bool,
    /// Name of the certificate that is shown.
    pub(super) certificate: Option<String>,
    #[serde(default)]
    pub(super) expect: Expect,
}

fn get() -> String {
    "GET".into()
}

fn root() -> String {
    "/".into()
}

fn once() -> usize {
    1
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// What is expected of each answer, and of all together. What is not said is not looked at, but for the status, which is 200
/// unless it is said, and for the backend: whoever has a status of 200 was answered by one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Expect {
    pub(super) status: Option<u16>,
    /// Each of them at least once, and no other.
    pub(super) statuses: Vec<u16>,
    /// Backend that answered.
    pub(super) by: Option<String>,
    /// Each of them at least once, and no other.
    pub(super) spread: Vec<String>,
    /// Parts of all requests, in percent.
    pub(super) shares: BTreeMap<String, f64>,
    /// What the backend saw.
    pub(super) path: Option<String>,
    pub(super) host: Option<String>,
    pub(super) method: Option<String>,
    pub(super) received: Option<String>,
    /// `http1` or `http2`.
    pub(super) over: Option<String>,
    /// Headers that the backend saw: the value, `*` for any, nothing for none.
    pub(super) seen: BTreeMap<String, Option<String>>,
    /// How often backends were asked.
    pub(super) attempts: Option<usize>,
    /// The answer: all of its body, or a part.
    pub(super) body: Option<String>,
    pub(super) contains: Option<String>,
    pub(super) headers: BTreeMap<String, Option<String>>,
    pub(super) grpc: Option<i32>,
    /// Milliseconds, at least and at most.
    pub(super) within: Option<[u64; 2]>,
    /// The connection ended without an answer, or before the second one.
    pub(super) closed: bool,
    /// How many of all are answered; the connections of the others end.
    pub(super) answered: Option<usize>,
    /// A file, and a regular expression that one of its lines matches.
    pub(super) logged: Option<[String; 2]>,
}

/// What the placeholders of a file stand for: `{dir}` is a folder, any other a port of its own.
pub(super) struct Places {
    pub(super) folder: PathBuf,
    ports: BTreeMap<String, u16>,
}

impl Places {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), ports: BTreeMap::new() }
    }

    pub(super) fn port(&mut self, name: &str) -> u16 {
        *self.ports.entry(name.to_owned()).or_insert_with(steady_port)
    }

    fn fill(&mut self, text: &str) -> String {
        let placeholder = regex::Regex::new(r"\{([a-z][a-z0-9.-]*)\}").unwrap();
        let filled = placeholder.replace_all(text, |found: &regex::Captures<'_>| match &found[1] {
            "dir" => self.folder.display().to_string(),
            name => self.port(name).to_string(),
        });
        filled.into_owned()
    }
}

/// Reads a file with its placeholders filled in.
pub(super) fn read(file: &Path, places: &mut Places) -> Result<Group, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let text = places.fill(&text);
    let documents = Yaml::load_from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let value = documents.first().map(json).ok_or("it is empty")?;
    serde_json::from_value(value).map_err(|error| format!("{}: {error}", file.display()))
}

fn json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(truth)) => Value::Bool(*truth),
        Yaml::Value(Scalar::Integer(number)) => Value::from(*number),
        Yaml::Value(Scalar::FloatingPoint(number)) => {
            Number::from_f64(number.into_inner()).map_or(Value::Null, Value::Number)
        }
        Yaml::Value(Scalar::String(text)) => Value::String(text.to_string()),
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(map) => {
            let key = |key: &Yaml<'_>| match json(key) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            Value::Object(map.iter().map(|(name, value)| (key(name), json(value))).collect::<Map<_, _>>())
        }
        other => panic!("not a plain value: {other:?}"),
    }
}
