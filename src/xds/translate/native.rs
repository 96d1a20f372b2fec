//! A node's configuration for a native proxy in a process of its own: itself, as one resource. Nothing is translated, so the
//! proxy beside the control plane and the one far from it cannot drift apart.
//!
//! On the wire it is one message of protobuf with the configuration as JSON in it: a proxy of another version reads what it
//! knows of it, and people can.

use super::{Resources, Type};
use crate::mesh::snapshot::{ClusterKey, NodeConfig};
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
}

/// The form that this version writes and reads. It rises with everything that a proxy must not overlook.
const FORMAT: u32 = 1;

/// A configuration as the one resource that a native proxy takes.
#[must_use]
pub fn whole(config: &NodeConfig) -> Resources {
    let mut resources = Resources::default();
    match serde_json::to_vec(config) {
        Ok(json) => {
            let value = Message { json, format: FORMAT }.encode_to_vec();
            resources.add(Type::Native, NAME, Any { type_url: URL.to_owned(), value });
        }
        // Nothing in it can fail to be written; were it to, the proxy keeps what it has and people are told.
        Err(error) => resources.problems.push(format!("the configuration cannot be written: {error}")),
    }
    let secured = config.clusters.values().filter(|cluster| cluster.ports.iter().any(|port| port.tls.is_some()));
    resources.problems.extend(secured.map(|cluster| {
        let ClusterKey { mesh, node } = &cluster.key;
        format!(
            "mesh/{mesh}/virtualNode/{node}: is not called: the mesh wants TLS, which the native proxy does not speak"
        )
    }));
    resources
}

/// The configuration in a resource.
///
/// # Errors
/// What is wrong with it, for the control plane.
pub fn read(any: &Any) -> Result<NodeConfig, String> {
    if any.type_url != URL {
        return Err(format!("{} is not {URL}", any.type_url));
    }
    let Message { json, format } = Message::decode(&*any.value).map_err(|error| error.to_string())?;
    if format != FORMAT {
        return Err(format!(
            "form {format} of a configuration, and this proxy knows {FORMAT}: it is of another version"
        ));
    }
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_configuration_is_refused_with_the_reason() {
        let any = |url: &str, value: Vec<u8>| Any { type_url: url.to_owned(), value };
        let message = |text: &str, format| Message { json: text.as_bytes().to_vec(), format }.encode_to_vec();
        let json = |text: &str| message(text, FORMAT);
        for (bad, reason) in [
            (any("type.googleapis.com/x", Vec::new()), "is not type.googleapis.com/tidegate.v1"),
            (any(URL, vec![0xff; 3]), "invalid"),
            (any(URL, json("{")), "EOF while parsing"),
            (any(URL, message("{}", FORMAT + 1)), "it is of another version"),
            (any(URL, json("{\"version\":1}")), "missing field `services`"),
        ] {
            let error = read(&bad).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        let empty = whole(&NodeConfig::default());
        assert_eq!(read(&empty.of(Type::Native)[NAME].any), Ok(NodeConfig::default()));
    }
}
