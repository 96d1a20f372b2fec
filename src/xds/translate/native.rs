//! A node's configuration for a native proxy in a process of its own: itself, as one resource. Nothing is translated, so the
//! proxy beside the control plane and the one far from it cannot drift apart.
//!
//! On the wire it is one message of protobuf with the configuration as JSON in it: a proxy of another version reads what it
//! knows of it, and people can. Beside it stand the certificates of AWS Certificate Manager that it names.

use super::tls::no_stand_in;
use super::{Resources, Type};
use crate::base::certificate::{SecretFiles, SecretPem};
use crate::base::secret::Redacted;
use crate::mesh::snapshot::NodeConfig;
use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;

/// Its type.
pub(super) const URL: &str = "type.googleapis.com/tidegate.v1.NodeConfig";
/// Name of the one resource.
pub const NAME: &str = "node";

/// The message.
#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    /// The configuration as JSON.
    #[prost(bytes = "vec", tag = "1")]
    json: Vec<u8>,
    /// Its form: one that a proxy does not know says something that the proxy would leave out.
    #[prost(uint32, tag = "2")]
    format: u32,
    /// What stands in for the ARNs that it names.
    #[prost(message, repeated, tag = "3")]
    secrets: Vec<Secret>,
}

/// PEMs of an ARN. Without `Debug`: one of them is a key.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Secret {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    chain: String,
    #[prost(string, tag = "3")]
    key: String,
    #[prost(string, tag = "4")]
    authorities: String,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The form of a configuration. It rises with everything that a proxy must not overlook.
const FORMAT: u32 = 1;
/// The form of one with extensions of routes or nodes: a proxy that does not know them keeps what it has, and the others go on.
const FORMAT_EXTENDED: u32 = 2;

/// The form of a configuration: one that does not know it would overlook something.
#[must_use]
pub fn form(config: &NodeConfig) -> u32 {
    let mut routes = config.services.values().flat_map(|service| &service.routes);
    let is_extended = routes.any(|route| route.extensions.is_some())
        || config.clusters.values().any(|cluster| !cluster.extensions.is_empty());
    if is_extended { FORMAT_EXTENDED } else { FORMAT }
}

/// Whether this version knows a form.
#[must_use]
pub const fn is_known(form: u32) -> bool {
    FORMAT <= form && form <= FORMAT_EXTENDED
}

/// A configuration as the one resource that a native proxy takes.
#[must_use]
pub fn whole(config: &NodeConfig, secrets: &SecretFiles) -> Resources {
    let mut resources = Resources::default();
    let mut named = Vec::new();
    for arn in config.certificate_arns() {
        match secrets.by_name.get(arn) {
            Some(SecretPem { chain, key, authorities }) => named.push(Secret {
                name: arn.to_owned(),
                chain: chain.clone(),
                key: key.reveal().clone(),
                authorities: authorities.clone(),
            }),
            None => resources.problems.push(no_stand_in(arn)),
        }
    }
    match serde_json::to_vec(config) {
        Ok(json) => {
            let value = Message { json, format: form(config), secrets: named }.encode_to_vec();
            resources.add(Type::Native, NAME, Any { type_url: URL.to_owned(), value });
        }
        // Nothing in it can fail to be written; were it to, the proxy keeps what it has and people are told.
        Err(error) => resources.problems.push(format!("the configuration cannot be written: {error}")),
    }
    resources.problems.extend(config.own.as_ref().and_then(|own| super::access_log::problem(own)));
    resources
}

/// The configuration in a resource, and the certificates with it.
///
/// # Errors
/// What is wrong with it, for the control plane.
pub fn read(any: &Any) -> Result<(NodeConfig, SecretFiles), String> {
    if any.type_url != URL {
        return Err(format!("{} is not {URL}", any.type_url));
    }
    let Message { json, format, secrets } = Message::decode(&*any.value).map_err(|error| error.to_string())?;
    if !is_known(format) {
        return Err(format!(
            "form {format} of a configuration, and this proxy knows up to {FORMAT_EXTENDED}: it is of another version"
        ));
    }
    let config = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
    let secrets = secrets.into_iter().map(|Secret { name, chain, key, authorities }| {
        (name, SecretPem { chain, key: Redacted::new(key), authorities })
    });
    Ok((config, SecretFiles { by_name: secrets.collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_configuration_is_refused_with_the_reason() {
        let any = |url: &str, value: Vec<u8>| Any { type_url: url.to_owned(), value };
        let message = |text: &str, format| {
            Message { json: text.as_bytes().to_vec(), format, secrets: Vec::new() }.encode_to_vec()
        };
        let json = |text: &str| message(text, FORMAT);
        for (bad, reason) in [
            (any("type.googleapis.com/x", Vec::new()), "is not type.googleapis.com/tidegate.v1"),
            (any(URL, vec![0xff; 3]), "invalid"),
            (any(URL, json("{")), "EOF while parsing"),
            (any(URL, message("{}", FORMAT_EXTENDED + 1)), "it is of another version"),
            (any(URL, json("{\"version\":1}")), "missing field `services`"),
        ] {
            let error = read(&bad).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        let empty = whole(&NodeConfig::default(), &SecretFiles::default());
        assert_eq!(read(&empty.of(Type::Native)[NAME].any), Ok((NodeConfig::default(), SecretFiles::default())));
    }
}
