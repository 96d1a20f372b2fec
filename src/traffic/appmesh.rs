//! Weights through the App Mesh API: AWS-compatible endpoints and our own alike, by the same SDK over HTTP.
//!
//! A write is describe, edit, update. What our own endpoint offers beyond AWS travels as headers, so that a plain
//! endpoint never notices: `x-tidegate-generation` on UpdateRoute (a stale one is refused), and on the way back from
//! DescribeRoute.

use super::edit;
use crate::aws;
use crate::base::fault::Fault;
use crate::base::ids::RouteRef;
use crate::base::secret::Redacted;
use crate::ports::Traffic;
use crate::rollout::effect::WeightsWrite;
use crate::rollout::event::RouteReading;
use async_trait::async_trait;
use aws_sdk_appmesh::Client;
use aws_sdk_appmesh::config::retry::RetryConfig;
use aws_sdk_appmesh::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_appmesh::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_appmesh::operation::describe_route::DescribeRouteOutput;
use aws_sdk_appmesh::types::RouteData;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_types::SdkConfig;
use std::sync::{Arc, Mutex};

/// Name under which faults are reported.
pub(super) const SOURCE: &str = "app mesh";
/// The operation that writes.
const UPDATE_ROUTE: &str = "UpdateRoute";

/// The App Mesh API.
#[derive(Debug, Clone)]
pub struct AppMesh {
    client: Client,
}

impl AppMesh {
    /// An endpoint that takes any signature: local mode's. Calls are signed with fixed dummy keys, never with those of
    /// whoever runs the daemon.
    #[must_use]
    pub fn local(endpoint_url: &str, region: &str) -> Self {
        Self::signing(endpoint_url, region, "tidegate", &Redacted::new("local-mode".to_owned()))
    }

    /// An endpoint in clear text whose access key is known: that of a mesh that the daemon itself is the control plane of.
    #[must_use]
    pub fn signing(endpoint_url: &str, region: &str, id: &str, secret: &Redacted<String>) -> Self {
        let http = aws_smithy_http_client::Builder::new().build_http();
        let config = aws_sdk_appmesh::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .endpoint_url(endpoint_url)
            .region(Region::new(region.to_owned()))
            .credentials_provider(Credentials::new(id, secret.reveal(), None, None, "tidegate"))
            // Retries are the executor's, which knows what is still wanted.
            .retry_config(RetryConfig::disabled())
            .timeout_config(aws::timeouts())
            .build();
        Self { client: Client::from_conf(config) }
    }

    /// With the region, credentials and endpoint of a shared set; `endpoint_url` is used instead of the set's where it is
    /// given. The HTTP client is the set's, or one over rustls with the system's certificates.
    #[must_use]
    pub fn from_config(config: &SdkConfig, endpoint_url: Option<&str>) -> Self {
        // Retries are the executor's, which knows what is still wanted.
        let mut builder = aws::builder!(aws_sdk_appmesh, config).retry_config(RetryConfig::disabled());
        builder.set_endpoint_url(endpoint_url.or_else(|| config.endpoint_url()).map(str::to_owned));
        Self { client: Client::from_conf(builder.build()) }
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    async fn describe(&self, route: &RouteRef) -> Result<(RouteData, u64), Fault> {
        let call = self.client.describe_route();
        let call = call.mesh_name(&route.mesh).virtual_router_name(&route.router).route_name(&route.route);
        let generation = Arc::new(Mutex::new(0));
        let seen = HeaderReader { generation: Arc::clone(&generation) };
        let output: DescribeRouteOutput =
            call.customize().interceptor(seen).send().await.map_err(|error| fault(&error, "DescribeRoute", route))?;
        let data = output
            .route
            .ok_or_else(|| Fault::unknown(SOURCE, format!("DescribeRoute of {route} answered no route")))?;
        let generation = generation.lock().map(|number| *number).unwrap_or(0);
        Ok((data, generation))
    }
}

/// Reads the generation that our own endpoint remembers out of an answer's headers.
#[derive(Debug)]
struct HeaderReader {
    generation: Arc<Mutex<u64>>,
}

impl aws_smithy_runtime_api::client::interceptors::Intercept for HeaderReader {
    fn name(&self) -> &'static str {
        "tidegate generation"
    }

    fn read_after_transmit(
        &self,
        context: &aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef<'_>,
        _: &aws_smithy_runtime_api::client::runtime_components::RuntimeComponents,
        _: &mut aws_smithy_types::config_bag::ConfigBag,
    ) -> Result<(), aws_smithy_runtime_api::box_error::BoxError> {
        let header = context.response().headers().get("x-tidegate-generation");
        if let (Some(number), Ok(mut slot)) = (header.and_then(|text| text.parse().ok()), self.generation.lock()) {
            *slot = number;
        }
        Ok(())
    }
}

fn version_of(data: &RouteData) -> u64 {
    data.metadata.as_ref().and_then(|metadata| u64::try_from(metadata.version).ok()).unwrap_or(0)
}

fn reading(data: &RouteData) -> RouteReading {
    let targets = data.spec.as_ref().map(edit::targets).unwrap_or_default();
    RouteReading { version: version_of(data), targets }
}

/// What an error of the SDK comes to. A write whose answer did not come may have been made.
pub(super) fn fault<E>(error: &SdkError<E, HttpResponse>, operation: &str, place: &dyn std::fmt::Display) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let writes = operation == UPDATE_ROUTE;
    aws::Failed { service: SOURCE, operation, writes, place: &place.to_string(), remedy: |_, _| "" }.fault(error)
}

#[async_trait]
impl Traffic for AppMesh {
    async fn read(&self, route: &RouteRef) -> Result<(RouteReading, u64), Fault> {
        let (data, generation) = self.describe(route).await?;
        Ok((reading(&data), generation))
    }

    async fn set_weights(&self, write: &WeightsWrite) -> Result<u64, Fault> {
        let WeightsWrite { route, canary, stable, generation, .. } = write;
        let (data, _) = self.describe(route).await?;
        let spec = data.spec.as_ref().ok_or_else(|| Fault::permanent(SOURCE, format!("{route} has no spec")))?;
        let weights = [(canary.0.as_str(), canary.1), (stable.0.as_str(), stable.1)];
        let edited =
            edit::set_weights(spec, weights).map_err(|error| Fault::permanent(SOURCE, format!("{route}: {error}")))?;
        let generation = generation.to_string();
        let call = self.client.update_route();
        let call = call.mesh_name(&route.mesh).virtual_router_name(&route.router).route_name(&route.route).spec(edited);
        let output = call
            .customize()
            .mutate_request(move |request| {
                request.headers_mut().insert("x-tidegate-generation", generation.clone());
            })
            .send()
            .await
            .map_err(|error| fault(&error, UPDATE_ROUTE, route))?;
        Ok(output.route.as_ref().map(version_of).unwrap_or(0))
    }
}
