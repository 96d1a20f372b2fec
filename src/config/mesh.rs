//! `[mesh]` of a daemon that is the control plane itself, and its access keys.

use super::daemon::{MASKED, Merged, quoted};
use super::file::Given;
use super::keys::{ACCESS_KEYS_VARIABLE, AWS, KEYS, NONE, OFF, TRUE, access_key_variable};
use super::{APPMESH_PORT, Environment, XDS_PORT, loopback};
use crate::base::access_key::{AccessKey, Right};
use crate::base::certificate::{ServerFiles, StandIn};
use crate::base::secret::Redacted;
use crate::base::time::Millis;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

/// How long a lease may be. A shorter one would run out over a slow answer of the mesh; a longer one protects nobody.
const LEASE: std::ops::RangeInclusive<Millis> = Millis::from_seconds(5)..=Millis::from_seconds(3_600);
/// Where no region is given.
const REGION: &str = "us-east-1";
/// A secret has so many characters: 16 are 64 bits and more if they are drawn, and nobody needs more than 512.
const SECRET_CHARS: std::ops::RangeInclusive<usize> = 16..=512;
/// Names longer than this are sentences.
const NAME_MAX_CHARS: usize = 32;
/// Identifiers at AWS have 20 characters, and 128 at most.
const ID_MAX_CHARS: usize = 128;
/// Keys that mean something only with `mesh.listen`.
const OF_HOST: [&str; 9] = [
    "mesh.xds_listen",
    "mesh.certificate",
    "mesh.key",
    "mesh.clients",
    "mesh.auth",
    "mesh.region",
    "mesh.account",
    "mesh.quotas",
    "mesh.strict",
];

/// A mesh of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshHost {
    /// Where the App Mesh API listens.
    pub listen: SocketAddr,
    /// Where proxies get their configuration.
    pub xds_listen: SocketAddr,
    /// Certificate of both listeners, and who may have proxies, for TLS.
    pub tls: Option<ServerFiles>,
    /// Region of ARNs.
    pub region: String,
    /// Account of ARNs.
    pub account: String,
    /// Whether quotas are those of AWS.
    pub has_quotas: bool,
    /// Whether what the data plane cannot do is refused.
    pub strict: bool,
    /// Who may call; `None` for everyone on this machine.
    pub keys: Option<Vec<AccessKey>>,
    /// What stands in for certificates of ACM.
    pub certificates: Vec<StandIn>,
}

impl Merged<'_> {
    /// Keys that the environment declares, over those of the file: an image needs no file of its own for them.
    pub(super) fn declared(
        &mut self,
        given: &mut BTreeMap<String, BTreeMap<&'static str, Given>>,
        environment: &dyn Environment,
    ) {
        let text = environment.get(ACCESS_KEYS_VARIABLE).unwrap_or_default();
        let place = format!("${ACCESS_KEYS_VARIABLE}");
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let mut parts = entry.split(':');
            let (Some(name), Some(id), Some(allow)) = (parts.next(), parts.next(), parts.next()) else {
                let message = "an access key is NAME:ID:ALLOW or NAME:ID:ALLOW:MESH";
                self.refuse_at(Some((place.clone(), None)), message, "for example ci:AKIDCI:write");
                continue;
            };
            let one = |value: &str| Given { values: vec![value.to_owned()], place: place.clone(), line: None };
            let key = given.entry(name.to_owned()).or_default();
            key.extend([("id", one(id)), ("allow", one(allow))]);
            key.extend(parts.next().map(|mesh| ("mesh", one(mesh))));
        }
    }

    /// The access keys, with their secrets of the environment laid over those of the file.
    pub(super) fn access_keys(
        &mut self,
        given: BTreeMap<String, BTreeMap<&'static str, Given>>,
        environment: &dyn Environment,
    ) -> Vec<AccessKey> {
        let mut keys: Vec<AccessKey> = Vec::new();
        for (name, mut given) in given {
            let place = given.values().next().map(|given| (given.place.clone(), given.line));
            let mut take = |key| given.remove(key).map(|given| given.values).unwrap_or_default();
            let variable = access_key_variable(&name);
            let set = environment.get(&variable).filter(|text| !text.is_empty());
            let written = take("secret");
            let secrets: Vec<String> =
                set.map_or(written, |text| text.split(',').map(|secret| secret.trim().to_owned()).collect());
            let mut one = |key| take(key).into_iter().next();
            let (id, allow, mesh) = (one("id").unwrap_or_default(), one("allow"), one("mesh"));
            let right = allow.as_deref().map_or(Some(Right::Read), Right::of);
            let problem = wrong(&name, &id, &secrets, &variable)
                .or_else(|| {
                    right.is_none().then(|| (format!("`mesh.keys.{name}.allow` must be one of read, write"), ""))
                })
                .or_else(|| {
                    let other = keys.iter().find(|key| key.id == id)?;
                    let message = format!("`mesh.keys.{name}` has the id of `mesh.keys.{}`", other.name);
                    Some((message, "each key has an id of its own; two secrets of one key are a list"))
                });
            if let Some((message, hint)) = problem {
                self.refuse_at(place, message, hint);
            }
            let secrets = secrets.into_iter().map(Redacted::new).collect();
            keys.push(AccessKey { name, id, secrets, right: right.unwrap_or(Right::Read), mesh });
        }
        keys
    }

    /// For how long a split of the traffic is asked for.
    pub(super) fn lease(&mut self) -> Option<Millis> {
        let text = self.one("mesh.lease").filter(|text| text != OFF)?;
        let lease = Millis::read(&text)?;
        if !LEASE.contains(&lease) {
            let message = format!("`mesh.lease` must be from {} to {}, and {lease} is not", LEASE.start(), LEASE.end());
            self.refuse("mesh.lease", message, "longer than a daemon may be away, such as \"2m\"");
        }
        Some(lease)
    }

    /// The mesh of one's own, where there is to be one.
    pub(super) fn host(&mut self, keys: Vec<AccessKey>, certificates: Vec<StandIn>) -> Option<MeshHost> {
        let Some(listen) = self.one("mesh.listen") else {
            self.refuse_without_host(&keys, &certificates);
            return None;
        };
        // What is no address was told already, and nobody gets to see the result.
        let address = |text: String, port| text.parse().unwrap_or_else(|_| loopback(port));
        let listen = address(listen, APPMESH_PORT);
        let xds_listen = self.one("mesh.xds_listen").map_or_else(|| loopback(XDS_PORT), |text| address(text, XDS_PORT));
        for path in ["mesh.endpoint_url", "mesh.signing"] {
            if self.is_given(path) {
                let message =
                    format!("`{path}` is for a mesh elsewhere, and `mesh.listen` for one of this daemon's own");
                self.refuse(path, message, "leave one of them out");
            }
        }
        let account = self.one("mesh.account").unwrap_or_default();
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            self.refuse("mesh.account", "`mesh.account` must be 12 digits", "for example \"123456789012\"");
        }
        let is_open = self.one("mesh.auth").is_some_and(|word| word == NONE);
        if is_open {
            for (path, address) in [("mesh.listen", listen), ("mesh.xds_listen", xds_listen)] {
                if !address.ip().is_loopback() {
                    let message = format!(
                        "`mesh.auth = \"{NONE}\"` is for loopback addresses, and {address} of `{path}` is none"
                    );
                    self.refuse("mesh.auth", message, "leave mesh.auth out, and give each client a key of [mesh.keys]");
                }
            }
        } else if keys.is_empty() {
            let hint =
                "add [mesh.keys.NAME] with id, secret and allow; or set mesh.auth = \"none\" on a loopback address";
            self.refuse("mesh.listen", "`mesh.listen` needs keys of `[mesh.keys]`, or nobody can call", hint);
        }
        let region = self.one("mesh.region").or_else(|| self.one("aws.region")).unwrap_or_else(|| REGION.to_owned());
        Some(MeshHost {
            listen,
            xds_listen,
            tls: self.server_files(),
            region,
            account,
            has_quotas: self.one("mesh.quotas").is_some_and(|word| word == AWS),
            strict: self.one("mesh.strict").is_some_and(|word| word == TRUE),
            keys: (!is_open).then_some(keys),
            certificates,
        })
    }

    /// The files for TLS, which belong together.
    fn server_files(&mut self) -> Option<ServerFiles> {
        let clients = self.path("mesh.clients");
        let (path, message, hint) = match (self.path("mesh.certificate"), self.path("mesh.key"), &clients) {
            (Some(certificate), Some(key), _) => return Some(ServerFiles { certificate, key, clients }),
            (None, None, None) => return None,
            (Some(_), None, _) => {
                ("mesh.certificate", "`mesh.certificate` needs `mesh.key`", "name the file of its private key")
            }
            (None, Some(_), _) => {
                ("mesh.key", "`mesh.key` needs `mesh.certificate`", "name the file of its certificate chain")
            }
            (None, None, Some(_)) => (
                "mesh.clients",
                "`mesh.clients` needs `mesh.certificate` and `mesh.key`",
                "name the files of both: certificates of proxies are asked for where TLS is spoken",
            ),
        };
        self.refuse(path, message, hint);
        None
    }

    /// Keys without effect are mistakes.
    fn refuse_without_host(&mut self, keys: &[AccessKey], certificates: &[StandIn]) {
        let hint = "set mesh.listen, where its App Mesh API is to listen; or leave this out";
        for path in OF_HOST {
            if self.is_given(path) {
                self.refuse(path, format!("`{path}` is for a mesh of this daemon's own"), hint);
            }
        }
        if let Some(key) = keys.first() {
            self.refuse("mesh.listen", format!("`mesh.keys.{}` is for a mesh of this daemon's own", key.name), hint);
        }
        if let Some(StandIn { arn, .. }) = certificates.first() {
            let message = format!("`mesh.certificates.\"{arn}\"` is for a mesh of this daemon's own");
            self.refuse("mesh.listen", message, hint);
        }
    }

    /// Whether it says something else than it does by itself.
    fn is_given(&self, path: &str) -> bool {
        let default = KEYS.iter().find(|key| key.path == path).and_then(|key| key.default);
        self.one(path).is_some_and(|value| default != Some(value.as_str()))
    }
}

/// What is wrong with a key, and what to do; holds no secret.
fn wrong(name: &str, id: &str, secrets: &[String], variable: &str) -> Option<(String, &'static str)> {
    let is_word = |text: &str, most: usize| {
        (1..=most).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if !is_word(name, NAME_MAX_CHARS) {
        let message = format!("a name in [mesh.keys] has up to {NAME_MAX_CHARS} letters, digits, - and _");
        return Some((message, "for example [mesh.keys.ci]"));
    }
    if !is_word(id, ID_MAX_CHARS) {
        let message = format!("`mesh.keys.{name}.id` must be up to {ID_MAX_CHARS} letters, digits, - and _");
        return Some((message, "for example id = \"AKIDEXAMPLE\""));
    }
    match secrets.len() {
        0 => {
            let message = format!("`mesh.keys.{name}` has no secret, neither in the file nor in ${variable}");
            return Some((message, "make one with `openssl rand -base64 30`"));
        }
        1 | 2 => {}
        count => {
            let message = format!("`mesh.keys.{name}` has {count} secrets, and two is the most");
            return Some((message, "drop the old ones"));
        }
    }
    let fits = |secret: &String| SECRET_CHARS.contains(&secret.chars().count());
    (!secrets.iter().all(fits)).then(|| {
        let message = format!(
            "a secret of `mesh.keys.{name}` must have {} to {} characters",
            SECRET_CHARS.start(),
            SECRET_CHARS.end()
        );
        (message, "make one with `openssl rand -base64 30`")
    })
}

/// A key as the file would have it, with its secrets masked.
pub(super) fn effective(text: &mut String, key: &AccessKey) {
    let secrets = vec![MASKED; key.secrets.len()];
    let secrets = if secrets.len() == 1 { MASKED.to_owned() } else { format!("[{}]", secrets.join(", ")) };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "\n[mesh.keys.{}]\nid = {}\nsecret = {secrets}\nallow = \"{}\"",
        key.name,
        quoted(&key.id),
        key.right
    );
    if let Some(mesh) = &key.mesh {
        let _ = writeln!(text, "mesh = {}", quoted(mesh));
    }
}
