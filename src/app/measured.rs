//! What a daemon measures outside of the data plane: signals of others, and the health of the versions.

use crate::base::fault::Fault;
use crate::config::daemon::{DaemonConfig, PrometheusConfig};
use crate::ports::EndpointSource;
use crate::signals::cloudwatch::CloudWatch;
use crate::signals::health::EndpointHealth;
use crate::signals::http::HttpNumber;
use crate::signals::outside::Outside;
use crate::signals::prometheus::{Prometheus, PrometheusSettings};
use crate::signals::tasks::TaskHealth;
use crate::signals::webhook::Webhook;
use crate::signals::xray::Xray;
use crate::traffic::appmesh::AppMesh;
use crate::traffic::nodes::Nodes;
use std::sync::Arc;

/// Measurements from outside the mesh.
pub(super) fn outside(config: &DaemonConfig, sdk: &aws_types::SdkConfig) -> Result<Outside, Fault> {
    let PrometheusConfig { url, token, login } = config.prometheus.clone();
    Ok(Outside {
        cloudwatch: Some(CloudWatch::from_config(sdk)),
        xray: Some(Xray::from_config(sdk)),
        prometheus: Some(Prometheus::new(&PrometheusSettings { url, token, login })?),
        http: Some(HttpNumber::new()?),
        webhook: Some(Webhook::new()?),
    })
}

/// Checks of the versions' endpoints, and of their tasks.
pub(super) fn health(
    traffic: AppMesh,
    endpoints: Arc<dyn EndpointSource>,
    sdk: &aws_types::SdkConfig,
) -> Result<EndpointHealth, Fault> {
    let endpoints = EndpointHealth::new(Arc::new(Nodes::new(traffic, endpoints)))?;
    Ok(endpoints.with_tasks(TaskHealth::from_config(sdk)))
}
