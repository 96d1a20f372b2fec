//! The two forms of the protocol on the wire.

use crate::xds::session::{Ask, Form, Push, Wanted};
use crate::xds::translate::Type;
use envoy_types::pb::envoy::config::core::v3::{ControlPlane, Node};
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use std::sync::Arc;

/// Reads and writes the messages of one form.
pub(super) trait StreamForm: Send + 'static {
    /// What a proxy sends.
    type Request: Send + 'static;
    /// What it is sent.
    type Response: Send + 'static;
    /// Which form it is.
    const FORM: Form;
    /// Its name for people.
    const WORD: &'static str;
    /// Path of its call.
    const PATH: &'static str;

    /// Who sends it; in the first message of a stream.
    fn node(request: &Self::Request) -> Option<&Node>;
    /// What it says; `None` for a type that is not handed out here.
    fn ask(request: Self::Request) -> Option<Ask>;
    /// A push as a message.
    fn reply(push: Push) -> Self::Response;
}

/// State of the world.
pub(super) struct WholeForm;

/// Incremental.
pub(super) struct DeltaForm;

fn control_plane() -> Option<ControlPlane> {
    Some(ControlPlane { identifier: concat!("tidegate ", env!("CARGO_PKG_VERSION")).to_owned() })
}

impl StreamForm for WholeForm {
    type Request = pb::DiscoveryRequest;
    type Response = pb::DiscoveryResponse;
    const FORM: Form = Form::Whole;
    const WORD: &'static str = "state-of-the-world";
    const PATH: &'static str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn ask(request: Self::Request) -> Option<Ask> {
        Some(Ask {
            kind: Type::from_url(&request.type_url)?,
            nonce: request.response_nonce,
            refusal: request.error_detail.map(|status| status.message),
            version: request.version_info,
            wanted: Wanted::Names(request.resource_names.into_iter().collect()),
        })
    }

    fn reply(push: Push) -> Self::Response {
        pb::DiscoveryResponse {
            version_info: push.version,
            resources: push.resources.iter().map(|(_, encoded)| encoded.any.clone()).collect(),
            type_url: push.kind.url().to_owned(),
            nonce: push.nonce,
            control_plane: control_plane(),
            ..Default::default()
        }
    }
}

impl StreamForm for DeltaForm {
    type Request = pb::DeltaDiscoveryRequest;
    type Response = pb::DeltaDiscoveryResponse;
    const FORM: Form = Form::Delta;
    const WORD: &'static str = "delta";
    const PATH: &'static str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn ask(request: Self::Request) -> Option<Ask> {
        Some(Ask {
            kind: Type::from_url(&request.type_url)?,
            nonce: request.response_nonce,
            refusal: request.error_detail.map(|status| status.message),
            version: String::new(),
            wanted: Wanted::Change {
                subscribe: request.resource_names_subscribe.into_iter().collect(),
                unsubscribe: request.resource_names_unsubscribe.into_iter().collect(),
                has: request.initial_resource_versions.into_iter().collect(),
            },
        })
    }

    fn reply(push: Push) -> Self::Response {
        let resource = |(name, encoded): (String, Arc<crate::xds::translate::Encoded>)| pb::Resource {
            name,
            version: encoded.version.clone(),
            resource: Some(encoded.any.clone()),
            ..Default::default()
        };
        pb::DeltaDiscoveryResponse {
            system_version_info: push.version,
            resources: push.resources.into_iter().map(resource).collect(),
            type_url: push.kind.url().to_owned(),
            removed_resources: push.removed,
            nonce: push.nonce,
            control_plane: control_plane(),
            ..Default::default()
        }
    }
}

/// What the bytes of a message ask for, if they are one; for the fuzzer.
#[cfg(feature = "testing")]
#[must_use]
pub fn asked(form: Form, bytes: &[u8]) -> Option<Ask> {
    use prost::Message as _;
    match form {
        Form::Whole => pb::DiscoveryRequest::decode(bytes).ok().and_then(WholeForm::ask),
        Form::Delta => pb::DeltaDiscoveryRequest::decode(bytes).ok().and_then(DeltaForm::ask),
    }
}
