//! Endpoints from a file that stands in for AWS Cloud Map and for DNS: the `--discovery FILE` of local mode.
//!
//! ```yaml
//! services:
//!   - namespace: shop.local
//!     service: checkout
//!     instances:
//!       - { ip: 127.0.0.1, port: 9001, attributes: { ECS_TASK_DEFINITION_FAMILY: blue } }
//! dns:
//!   checkout-v1.local: [127.0.0.1:9001]
//! ```
//!
//! The file is read again when its time or length has changed. A file that became malformed is reported with its line
//! and column, and the last good one stays. Names that the file does not list are asked of DNS.

use super::dns::DnsSource;
use crate::base::fault::Fault;
use crate::mesh::snapshot::Discovery;
use crate::ports::EndpointSource;
use async_trait::async_trait;
use saphyr::{LoadableYamlNode, MarkedYaml, Marker, Scalar, YamlData};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::Mutex;

/// The file and what it said last.
pub struct FileSource {
    path: PathBuf,
    dns: DnsSource,
    read: Mutex<Read>,
}

struct Read {
    stamp: Stamp,
    table: Arc<Table>,
}

/// What tells a changed file from an unchanged one; `None` when it could not be looked at.
type Stamp = Option<(SystemTime, u64)>;

/// Why a discovery file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// It cannot be read.
    #[error("cannot read the discovery file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It says something that makes no sense.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
}

/// What a discovery file says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    services: Vec<Service>,
    /// By lower-case name.
    dns: BTreeMap<String, Vec<Endpoint>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Service {
    namespace: String,
    service: String,
    instances: Vec<Instance>,
}

#[derive(Debug, PartialEq, Eq)]
struct Instance {
    endpoint: Endpoint,
    attributes: BTreeMap<String, String>,
}

/// An address, and its port where it differs from the node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Endpoint {
    ip: IpAddr,
    port: Option<u16>,
}

impl Endpoint {
    fn at(self, default_port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(default_port))
    }
}

// === impl FileSource ===

impl FileSource {
    /// Reads the file for the first time; here a malformed one is an error.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, DiscoveryError> {
        let path = path.into();
        let stamp = stamp_of(&path).await;
        let table = Arc::new(load(&path).await?);
        Ok(Self { path, dns: DnsSource, read: Mutex::new(Read { stamp, table }) })
    }

    /// What the file says now, or said when it last made sense.
    async fn table(&self) -> Arc<Table> {
        let mut read = self.read.lock().await;
        let stamp = stamp_of(&self.path).await;
        if stamp != read.stamp {
            // Remembered for a bad file too, so that each version is reported once.
            read.stamp = stamp;
            match load(&self.path).await {
                Ok(table) => read.table = Arc::new(table),
                Err(error) => tracing::warn!(%error, "the discovery file's last good version stays in use"),
            }
        }
        Arc::clone(&read.table)
    }
}

#[async_trait]
impl EndpointSource for FileSource {
    async fn resolve(&self, discovery: &Discovery, default_port: u16) -> Result<Vec<SocketAddr>, Fault> {
        let table = self.table().await;
        match discovery {
            Discovery::None => Ok(Vec::new()),
            Discovery::Dns { hostname, .. } => match table.dns.get(&hostname.to_ascii_lowercase()) {
                Some(endpoints) => Ok(endpoints.iter().map(|endpoint| endpoint.at(default_port)).collect()),
                None => self.dns.resolve(discovery, default_port).await,
            },
            Discovery::CloudMap { namespace, service, attributes, .. } => {
                let found =
                    table.services.iter().find(|known| known.namespace == *namespace && known.service == *service);
                let found = found.ok_or_else(|| {
                    let path = self.path.display();
                    Fault::permanent("discovery", format!("{path} lists no service {service} in namespace {namespace}"))
                })?;
                let carries =
                    |instance: &&Instance| attributes.iter().all(|(k, v)| instance.attributes.get(k) == Some(v));
                Ok(found.instances.iter().filter(carries).map(|instance| instance.endpoint.at(default_port)).collect())
            }
        }
    }
}

async fn stamp_of(path: &Path) -> Stamp {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

async fn load(path: &Path) -> Result<Table, DiscoveryError> {
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|source| DiscoveryError::Unreadable { path: path.to_owned(), source })?;
    parse(&text).map_err(|Wrong { at, message }| DiscoveryError::Malformed {
        path: path.to_owned(),
        line: at.line(),
        column: at.col() + 1,
        message,
    })
}

// === The file's text ===

/// What is wrong and where.
struct Wrong {
    at: Marker,
    message: String,
}

type Node<'a> = MarkedYaml<'a>;

fn wrong<T>(node: &Node<'_>, message: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { at: node.span.start, message: message.into() })
}

fn parse(text: &str) -> Result<Table, Wrong> {
    let documents =
        MarkedYaml::load_from_str(text).map_err(|error| Wrong { at: *error.marker(), message: error.info().into() })?;
    let mut table = Table::default();
    for document in &documents {
        for (key, value) in entries(document, &["services", "dns"])? {
            match key {
                "services" => {
                    for node in items(value)? {
                        table.services.push(service(node)?);
                    }
                }
                _ => table.dns.extend(dns(value)?),
            }
        }
    }
    Ok(table)
}

fn service(node: &Node<'_>) -> Result<Service, Wrong> {
    let fields = entries(node, &["namespace", "service", "instances"])?;
    let instances = match optional(&fields, "instances") {
        Some(list) => items(list)?.iter().map(instance).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    let text_of = |name| text(needed(node, &fields, name)?);
    Ok(Service { namespace: text_of("namespace")?, service: text_of("service")?, instances })
}

fn instance(node: &Node<'_>) -> Result<Instance, Wrong> {
    let fields = entries(node, &["ip", "port", "attributes"])?;
    let ip = needed(node, &fields, "ip")?;
    let Ok(address) = text(ip)?.parse() else { return wrong(ip, "this is not an IP address") };
    let port = optional(&fields, "port").map(port).transpose()?;
    let attributes = match optional(&fields, "attributes") {
        Some(map) => pairs(map)?.into_iter().map(|(k, v)| Ok((k.to_owned(), text(v)?))).collect::<Result<_, _>>()?,
        None => BTreeMap::new(),
    };
    Ok(Instance { endpoint: Endpoint { ip: address, port }, attributes })
}

fn dns(node: &Node<'_>) -> Result<Vec<(String, Vec<Endpoint>)>, Wrong> {
    let endpoint = |node: &Node<'_>| {
        let text = text(node)?;
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Endpoint { ip: address.ip(), port: Some(address.port()) });
        }
        match text.parse() {
            Ok(ip) => Ok(Endpoint { ip, port: None }),
            Err(_) => wrong(node, "this is neither an IP address nor ip:port"),
        }
    };
    let list = |(name, list): (&str, &Node<'_>)| {
        let endpoints = items(list)?.iter().map(endpoint).collect::<Result<_, _>>()?;
        Ok((name.to_ascii_lowercase(), endpoints))
    };
    pairs(node)?.into_iter().map(list).collect()
}

fn port(node: &Node<'_>) -> Result<u16, Wrong> {
    match &node.data {
        YamlData::Value(Scalar::Integer(number)) if let Ok(port @ 1..) = u16::try_from(*number) => Ok(port),
        _ => wrong(node, "this is not a port (1 to 65535)"),
    }
}

/// A scalar as text. Numbers and truth values are taken as they are usually written; anything else needs quotes.
fn text(node: &Node<'_>) -> Result<String, Wrong> {
    match &node.data {
        YamlData::Value(Scalar::String(text)) => Ok(text.to_string()),
        YamlData::Value(Scalar::Integer(number)) => Ok(number.to_string()),
        YamlData::Value(Scalar::Boolean(truth)) => Ok(truth.to_string()),
        YamlData::Value(_) => wrong(node, "this is not text; put it in quotes"),
        _ => wrong(node, "text is expected here"),
    }
}

fn items<'a, 'b>(node: &'a Node<'b>) -> Result<&'a [Node<'b>], Wrong> {
    match &node.data {
        YamlData::Sequence(items) => Ok(items),
        YamlData::Value(Scalar::Null) => Ok(&[]),
        _ => wrong(node, "a list is expected here"),
    }
}

fn pairs<'a>(node: &'a Node<'_>) -> Result<Vec<(&'a str, &'a Node<'a>)>, Wrong> {
    let map = match &node.data {
        YamlData::Mapping(map) => map,
        YamlData::Value(Scalar::Null) => return Ok(Vec::new()),
        _ => return wrong(node, "a mapping (key: value) is expected here"),
    };
    map.iter()
        .map(|(key, value)| match &key.data {
            YamlData::Value(Scalar::String(name)) => Ok((name.as_ref(), value)),
            _ => wrong(key, "this key is not text; put it in quotes"),
        })
        .collect()
}

/// The entries of a mapping that may only have these keys.
fn entries<'a>(node: &'a Node<'_>, known: &[&str]) -> Result<Vec<(&'a str, &'a Node<'a>)>, Wrong> {
    let pairs = pairs(node)?;
    if let YamlData::Mapping(map) = &node.data {
        for ((name, _), (key, _)) in pairs.iter().zip(map) {
            if !known.contains(name) {
                let nearest = known.iter().min_by_key(|known| strsim::levenshtein(known, name));
                let nearest = nearest.map(|nearest| format!(" (nearest: `{nearest}`)")).unwrap_or_default();
                return wrong(key, format!("unknown key `{name}`{nearest}"));
            }
        }
    }
    Ok(pairs)
}

fn optional<'a>(fields: &[(&str, &'a Node<'a>)], name: &str) -> Option<&'a Node<'a>> {
    fields.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
}

fn needed<'a>(node: &Node<'_>, fields: &[(&str, &'a Node<'a>)], name: &str) -> Result<&'a Node<'a>, Wrong> {
    match optional(fields, name) {
        Some(value) => Ok(value),
        None => wrong(node, format!("`{name}` is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "
services:
  - namespace: shop.local
    service: checkout
    instances:
      - { ip: 127.0.0.1, port: 9001, attributes: { color: blue, zone: 1 } }
      - { ip: '::1', attributes: { color: green } }
dns:
  V1.local: [127.0.0.1:9001, 10.0.0.1, '[::1]:80']
";

    fn discovered(attributes: &[(&str, &str)]) -> Discovery {
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Discovery::in_cloud_map("shop.local", "checkout", attributes)
    }

    async fn texts(source: &FileSource, discovery: &Discovery) -> Vec<String> {
        let found = source.resolve(discovery, 8080).await.unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn instances_are_chosen_by_all_attributes_and_names_are_overridden() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("discovery.yaml");
        std::fs::write(&path, GOOD).unwrap();
        let source = FileSource::open(&path).await.unwrap();
        for (attributes, found) in [
            (&[][..], &["127.0.0.1:9001", "[::1]:8080"][..]),
            (&[("color", "blue"), ("zone", "1")], &["127.0.0.1:9001"]),
            (&[("color", "green")], &["[::1]:8080"]),
            (&[("color", "green"), ("zone", "1")], &[]),
        ] {
            assert_eq!(texts(&source, &discovered(attributes)).await, found, "{attributes:?}");
        }
        let name = |hostname: &str| Discovery::by_name(hostname, false);
        assert_eq!(texts(&source, &name("v1.LOCAL")).await, ["127.0.0.1:9001", "10.0.0.1:8080", "[::1]:80"]);
        assert_eq!(texts(&source, &name("127.0.0.9")).await, ["127.0.0.9:8080"]);
        let other = Discovery::in_cloud_map("x", "y", BTreeMap::new());
        assert!(source.resolve(&other, 1).await.unwrap_err().message.contains("no service y in namespace x"));
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_a_bad_one_leaves_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("discovery.yaml");
        let name = Discovery::by_name("a", false);
        std::fs::write(&path, "dns: { a: [127.0.0.1] }").unwrap();
        let source = FileSource::open(&path).await.unwrap();
        assert_eq!(texts(&source, &name).await, ["127.0.0.1:8080"]);
        for (text, found) in [
            ("dns: { a: [127.0.0.22] }", "127.0.0.22:8080"),
            ("dns: { a: [127.0.0.333] }", "127.0.0.22:8080"),
            ("dns: {", "127.0.0.22:8080"),
            ("dns: { a: [127.0.0.4444, 1]", "127.0.0.22:8080"),
            ("dns: { a: ['127.0.0.5:5'] }", "127.0.0.5:5"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(texts(&source, &name).await, [found], "{text}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(texts(&source, &name).await, ["127.0.0.5:5"], "a vanished file leaves the last");
        assert!(FileSource::open(&path).await.is_err());
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, place, message) in [
            ("servces: []", (1, 1), "unknown key `servces` (nearest: `services`)"),
            ("services:\n  - namespace: a\n    instances: []", (2, 5), "`service` is missing"),
            ("services: 3", (1, 11), "a list is expected here"),
            (
                "services: [{namespace: a, service: b, instances: [{ip: nowhere}]}]",
                (1, 56),
                "this is not an IP address",
            ),
            ("dns: { a: [1.2.3.4:99999] }", (1, 12), "this is neither an IP address nor ip:port"),
            ("dns: { a: 1 }", (1, 11), "a list is expected here"),
            ("- 1", (1, 1), "a mapping (key: value) is expected here"),
            (
                "services: [{namespace: a, service: b, instances: [{ip: ::1, port: 0}]}]",
                (1, 67),
                "this is not a port (1 to 65535)",
            ),
        ] {
            let Err(Wrong { at, message: told }) = parse(text) else { panic!("{text} was taken") };
            assert_eq!(((at.line(), at.col() + 1), told.as_str()), (place, message), "{text}");
        }
        assert!(parse("").is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}:,a-z0-9 \n'\"&*!|>-]{0,80}") {
            let _ = parse(&text);
        }
    }
}
