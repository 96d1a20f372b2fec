//! Which virtual node or gateway an Envoy is.

use super::variables::Reader;
use super::{Options, Report};

/// The variables that name it, the first one that is set counts.
pub(super) const VARIABLES: [&str; 3] = ["APPMESH_RESOURCE_ARN", "APPMESH_RESOURCE_NAME", "APPMESH_VIRTUAL_NODE_NAME"];
/// Longest name that App Mesh allows, in bytes.
const NAME_MAX: usize = 255;

/// A virtual node or gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// As it was given: the control plane finds the resource by it.
    pub id: String,
    /// Name of the mesh.
    pub mesh: String,
    /// Whether it is a gateway.
    pub is_gateway: bool,
    /// Its own name.
    pub name: String,
}

impl Node {
    /// Reads `mesh/M/virtualNode/N`, `mesh/M/virtualGateway/G`, or an ARN that ends in one of them.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let path = match id.strip_prefix("arn:") {
            // arn:PARTITION:appmesh:REGION:ACCOUNT:PATH
            Some(rest) => match rest.splitn(5, ':').collect::<Vec<_>>()[..] {
                [_, "appmesh", _, _, path] => path,
                _ => return None,
            },
            None => id,
        };
        let ["mesh", mesh, kind, name] = path.split('/').collect::<Vec<_>>()[..] else { return None };
        let is_gateway = match kind {
            "virtualNode" => false,
            "virtualGateway" => true,
            _ => return None,
        };
        let is_name = |text: &str| {
            (1..=NAME_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        // A mesh of another account is named `NAME@ACCOUNT` in ARNs of resources that were shared.
        let is_mesh = match mesh.split_once('@') {
            Some((mesh, owner)) => is_name(mesh) && owner.bytes().all(|byte| byte.is_ascii_digit()),
            None => is_name(mesh),
        };
        (is_mesh && is_name(name)).then(|| Self { id: id.into(), mesh: mesh.into(), is_gateway, name: name.into() })
    }
}

pub(super) fn read(options: &Options, reader: &Reader<'_>, report: &mut Report) -> Option<Node> {
    let from_variable = || VARIABLES.iter().find_map(|name| Some((*name, reader.text(name)?)));
    let (place, id) = match (&options.node, from_variable()) {
        (Some(id), _) => ("--node", id.as_str()),
        (None, Some(found)) => found,
        (None, None) => {
            report.problem(
                "it is not said which virtual node or gateway the Envoy is: --node mesh/MESH/virtualNode/NAME \
                 (or APPMESH_RESOURCE_ARN)",
            );
            return None;
        }
    };
    let node = Node::parse(id);
    if node.is_none() {
        report.problem(format!(
            "{place} is `{id}`; it is mesh/MESH/virtualNode/NAME, mesh/MESH/virtualGateway/NAME, or the ARN of one"
        ));
    }
    node
}
