//! Who a proxy is: the node of its first message.

use crate::mesh::compile::View;
use crate::mesh::model::{Key, Kind};
use crate::xds::translate::Options;
use envoy_types::pb::envoy::config::core::v3::{Node, node::UserAgentVersionType};
use envoy_types::pb::google::protobuf::{Struct, value};
use std::net::SocketAddr;

/// Characters of what a proxy says of itself that are kept.
const TEXT_MAX: usize = 300;

/// A proxy that said who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// Its own words.
    pub(super) node: String,
    /// `mesh/M/virtualNode/N` or `mesh/M/virtualGateway/G`.
    pub(super) resource: String,
    /// What it sees of the mesh.
    pub(super) view: View,
    /// Where it listens, and what it can do.
    pub(super) options: Options,
    /// What it is.
    pub(super) build: String,
}

impl Caller {
    /// Name of the mesh that it is in.
    pub(super) fn mesh(&self) -> &str {
        match &self.view {
            View::Node { mesh, .. } | View::Gateway { mesh, .. } => mesh,
            View::AllServices => "",
        }
    }

    /// Reads it; the error says what a bootstrap should have.
    pub(super) fn read(node: Option<&Node>) -> Result<Self, String> {
        let node = node.ok_or("the first message of a stream says no node; the bootstrap needs node.id")?;
        let id: String = node.id.chars().take(TEXT_MAX).collect();
        let view = view(&node.id).ok_or_else(|| {
            format!(
                "node.id {id:?} is no mesh/MESH/virtualNode/NAME or mesh/MESH/virtualGateway/NAME, nor the ARN of one"
            )
        })?;
        // A view of a resource has its key.
        let resource = view.key().map(|key| key.path()).unwrap_or_default();
        let version = match &node.user_agent_version_type {
            Some(UserAgentVersionType::UserAgentVersion(version)) => version.clone(),
            Some(UserAgentVersionType::UserAgentBuildVersion(build)) => {
                build.version.map_or_else(String::new, |version| {
                    format!("{}.{}.{}", version.major_number, version.minor_number, version.patch)
                })
            }
            None => String::new(),
        };
        let build = format!("{} {version}", node.user_agent_name);
        let build = build.trim().chars().take(TEXT_MAX).collect();
        Ok(Self { node: id, resource, view, options: options(node.metadata.as_ref())?, build })
    }
}

/// A node is named by the short form or by an ARN (appmesh "How an Envoy was configured").
fn view(id: &str) -> Option<View> {
    let path = if id.starts_with("arn:") { id.splitn(6, ':').nth(5)? } else { id };
    let key = Key::from_path(path)?;
    match key.kind {
        Kind::VirtualNode => Some(View::Node { mesh: key.mesh, node: key.name }),
        Kind::VirtualGateway => Some(View::Gateway { mesh: key.mesh, gateway: key.name }),
        _ => None,
    }
}

/// Where it listens, when its bootstrap says so (`metadata.tidegate`): several on one machine need several ports. And by
/// which of its clusters it can tell of its requests.
fn options(metadata: Option<&Struct>) -> Result<Options, String> {
    let mut options = Options::default();
    let Some(value::Kind::StructValue(ours)) =
        metadata.and_then(|metadata| metadata.fields.get("tidegate")).and_then(|value| value.kind.as_ref())
    else {
        return Ok(options);
    };
    for (name, place) in [("ingress", &mut options.ingress), ("egress", &mut options.egress)] {
        if let Some(value::Kind::StringValue(text)) = ours.fields.get(name).and_then(|value| value.kind.as_ref()) {
            *place = text.parse::<SocketAddr>().map_err(|_| {
                let text: String = text.chars().take(TEXT_MAX).collect();
                format!("metadata.tidegate.{name} {text:?} is no address with a port, such as 127.0.0.1:15001")
            })?;
        }
    }
    if let Some(value::Kind::StringValue(cluster)) = ours.fields.get("reports_to").and_then(|value| value.kind.as_ref())
    {
        if cluster.is_empty() || cluster.len() > TEXT_MAX {
            let what = "metadata.tidegate.reports_to is the name of the bootstrap's cluster for the control plane";
            return Err(format!("{what}: 1 to {TEXT_MAX} bytes, and not {}", cluster.len()));
        }
        options.reports_to = Some(cluster.clone());
    }
    let native = ours.fields.get("native").and_then(|value| value.kind.as_ref());
    options.is_native = matches!(native, Some(value::Kind::BoolValue(true)));
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_by_path_or_arn() {
        let node = |mesh: &str, node: &str| Some(View::Node { mesh: mesh.into(), node: node.into() });
        assert_eq!(view("mesh/shop/virtualNode/a"), node("shop", "a"));
        assert_eq!(view("arn:aws:appmesh:us-west-2:1:mesh/shop/virtualNode/a"), node("shop", "a"));
        let gateway = View::Gateway { mesh: "shop".into(), gateway: "in".into() };
        assert_eq!(view("mesh/shop/virtualGateway/in"), Some(gateway));
        for wrong in ["", "shop/a", "mesh/shop", "mesh/shop/virtualRouter/r", "arn:aws:appmesh", "mesh//virtualNode"] {
            assert_eq!(view(wrong), None, "{wrong}");
        }
    }
}
