//! The only reader of the process environment, and the defaults of the interface.

pub mod certificates;
pub mod daemon;
mod file;
pub mod keys;
pub mod mesh;

pub use file::ConfigError;

use crate::base::secret::Redacted;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// Where clients look for the daemon when `--server` does not say.
pub const SERVER_VARIABLE: &str = "TIDEGATE_SERVER";
/// The token that clients send.
pub const TOKEN_VARIABLE: &str = "TIDEGATE_TOKEN";
/// File of the roots (PEM) that clients believe instead of the system's.
pub const CA_FILE_VARIABLE: &str = "TIDEGATE_CA_FILE";
/// `1` lets a client send its token over a network in clear text.
pub const INSECURE_VARIABLE: &str = "TIDEGATE_INSECURE";
/// Where the App Mesh API is when `--endpoint-url` does not say; the AWS SDKs read it too.
pub const APPMESH_ENDPOINT_VARIABLE: &str = "AWS_ENDPOINT_URL_APP_MESH";
/// What is logged, in the notation of `tracing`'s filters.
pub const LOG_VARIABLE: &str = "TIDEGATE_LOG";
/// The PostgreSQL database: of the daemon as the key `database.url`, and of commands that read it directly.
pub const DATABASE_VARIABLE: &str = "TIDEGATE_DATABASE_URL";
/// Port of the daemon's API.
pub const API_PORT: u16 = 7070;
/// Port of the App Mesh API.
pub const APPMESH_PORT: u16 = 7071;
/// Port where proxies get their configuration.
pub const XDS_PORT: u16 = 7072;
/// Port of the proxy's egress listener.
pub const EGRESS_PORT: u16 = 15001;
/// Port where a proxy takes what is meant for its application.
pub const INGRESS_PORT: u16 = 15000;
/// Port of the proxy's admin listener.
pub const ADMIN_PORT: u16 = 9901;

/// Reads variables; tests give their own.
pub trait Environment {
    /// A variable's value; `None` when it is unset or not valid text.
    fn get(&self, name: &str) -> Option<String>;
}

/// The process's environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// A port on 127.0.0.1.
#[must_use]
pub const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

/// The region in which local mode's resources live: `AWS_REGION`, else us-east-1.
#[must_use]
pub fn region(environment: &dyn Environment) -> String {
    let set = environment.get("AWS_REGION").filter(|region| !region.is_empty());
    set.unwrap_or_else(|| "us-east-1".to_owned())
}

/// Secrets of the hooks by their source's name, from their variables: for local mode, which has no configuration file. An
/// empty variable is one that is not set.
#[must_use]
pub fn hook_secrets(environment: &dyn Environment) -> BTreeMap<String, Vec<Redacted<String>>> {
    let of = |key: &keys::Key| {
        let source = key.path.strip_prefix("hooks.")?;
        let text = environment.get(&key.variable()).filter(|text| !text.is_empty())?;
        let secrets = text.split(',').map(|secret| Redacted::new(secret.trim().to_owned())).collect();
        Some((source.to_owned(), secrets))
    };
    keys::KEYS.iter().filter_map(of).collect()
}

/// Variables that may hold a secret of Tidegate: what it starts does not get them.
#[must_use]
pub fn secret_variables() -> Vec<String> {
    let keys = keys::KEYS.iter().filter(|key| key.shape.is_secret()).map(keys::Key::variable);
    keys.chain([TOKEN_VARIABLE.to_owned()]).chain(access_key_variables()).collect()
}

/// Those of access keys, whose names are whoever configures them's.
fn access_key_variables() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter(|name| name.starts_with(keys::ACCESS_KEY_PREFIX)).collect()
}

/// The login name of whoever runs this, for the audit trail.
#[must_use]
pub fn user(environment: &dyn Environment) -> String {
    let names = ["USER", "LOGNAME", "USERNAME"].into_iter().filter_map(|name| environment.get(name));
    names.into_iter().find(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

/// All variables of the process that are text, for what has to tell a slip from a variable that nobody set.
#[must_use]
pub fn environment_variables() -> BTreeMap<String, String> {
    let texts = std::env::vars_os().map(|(name, value)| (name.into_string(), value.into_string()));
    texts.filter_map(|pair| if let (Ok(name), Ok(value)) = pair { Some((name, value)) } else { None }).collect()
}
