//! Weights through the App Mesh API: AWS-compatible endpoints and our own alike, by the same SDK over HTTP.
//!
//! A write is describe, edit, update. What our own endpoint offers beyond AWS travels as headers, and only where it announces
//! them on DescribeRoute, so that a plain endpoint never notices: `x-tidegate-generation` (a stale write is refused), and
//! `x-tidegate-lease` while the traffic is split: when nobody renews the weights, the mesh puts everything back on stable;
//! and `x-tidegate-fuse` then too: what proxies watch the release by.

use super::edit;
use crate::aws;
use crate::base::fault::Fault;
use crate::base::ids::RouteRef;
use crate::base::secret::Redacted;
use crate::base::time::Millis;
use crate::mesh::wire::{
    FEATURES_HEADER, FUSE_HEADER, GENERATION_HEADER, LEASE_HEADER, fuse_renewal_text, fuse_text, lapsed_at,
    lease as lease_text,
};
use crate::ports::{Previews, Traffic};
use crate::rollout::effect::WeightsWrite;
use crate::rollout::event::RouteReading;
use async_trait::async_trait;
use aws_sdk_appmesh::Client;
use aws_sdk_appmesh::config::retry::RetryConfig;
use aws_sdk_appmesh::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_appmesh::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_appmesh::operation::describe_route::DescribeRouteOutput;
use aws_sdk_appmesh::operation::update_route::UpdateRouteError;
use aws_sdk_appmesh::types::{RouteData, RouteSpec};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_types::SdkConfig;
use std::sync::{Arc, Mutex};

/// Name under which faults are reported.
pub(super) const SOURCE: &str = "app mesh";
/// What the API says of a write that comes too late.
const CONFLICT: &str = "ConflictException";
/// The operation that writes.
const UPDATE_ROUTE: &str = "UpdateRoute";

/// How long weights stay without a renewal, where nothing else is said. Longer than a daemon may be away without anything
/// being wrong: a standby takes over within 11 s, a restart takes seconds, and a container that is replaced by ECS or
/// Kubernetes mostly a minute. Not much longer, since a release that nobody judges should not stay half out.
pub const LEASE: Millis = Millis::from_seconds(120);

/// The App Mesh API.
#[derive(Debug, Clone)]
pub struct AppMesh {
    client: Client,
    /// For how long a split of the traffic is asked for, where the endpoint knows leases; `None` for ever.
    lease: Option<Millis>,
}

/// What an answer to DescribeRoute says beyond App Mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Beyond {
    /// The highest generation that the endpoint remembers, and 0 for none; `None` where it knows none.
    generation: Option<u64>,
    knows_leases: bool,
    knows_fuses: bool,
    /// When the route's lease ran out.
    lapsed: Option<String>,
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
        Self { client: Client::from_conf(config), lease: Some(LEASE) }
    }

    /// The same with another lease, or with none.
    #[must_use]
    pub fn with_lease(self, lease: Option<Millis>) -> Self {
        Self { lease, ..self }
    }

    /// With the region, credentials and endpoint of a shared set; `endpoint_url` is used instead of the set's where it is
    /// given. The HTTP client is the set's, or one over rustls with the system's certificates.
    #[must_use]
    pub fn from_config(config: &SdkConfig, endpoint_url: Option<&str>) -> Self {
        // Retries are the executor's, which knows what is still wanted.
        let mut builder = aws::builder!(aws_sdk_appmesh, config).retry_config(RetryConfig::disabled());
        builder.set_endpoint_url(endpoint_url.or_else(|| config.endpoint_url()).map(str::to_owned));
        Self { client: Client::from_conf(builder.build()), lease: Some(LEASE) }
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    async fn describe(&self, route: &RouteRef) -> Result<(RouteData, Beyond), Fault> {
        let call = self.client.describe_route();
        let call = call.mesh_name(&route.mesh).virtual_router_name(&route.router).route_name(&route.route);
        let beyond = Arc::new(Mutex::new(Beyond::default()));
        let seen = HeaderReader { beyond: Arc::clone(&beyond) };
        let output: DescribeRouteOutput =
            call.customize().interceptor(seen).send().await.map_err(|error| fault(&error, "DescribeRoute", route))?;
        let data = output
            .route
            .ok_or_else(|| Fault::unknown(SOURCE, format!("DescribeRoute of {route} answered no route")))?;
        let beyond = beyond.lock().map(|beyond| beyond.clone()).unwrap_or_default();
        Ok((data, beyond))
    }

    /// A route as it is.
    pub(super) async fn route(&self, route: &RouteRef) -> Result<RouteData, Fault> {
        Ok(self.describe(route).await?.0)
    }

    /// Writes a route's spec; answers the route's version from then on.
    async fn update(
        &self,
        route: &RouteRef,
        spec: RouteSpec,
        headers: Vec<(&'static str, String)>,
    ) -> Result<u64, Failed> {
        let call = self.client.update_route();
        let call = call.mesh_name(&route.mesh).virtual_router_name(&route.router).route_name(&route.route).spec(spec);
        let output = call
            .customize()
            .mutate_request(move |request| {
                for (name, value) in &headers {
                    request.headers_mut().insert(*name, value.clone());
                }
            })
            .send()
            .await?;
        Ok(output.route.as_ref().map(version_of).unwrap_or(0))
    }

    /// Headers of a write, or of a renewal of the version of that number.
    fn headers(&self, write: &WeightsWrite, beyond: &Beyond, renews: Option<u64>) -> Vec<(&'static str, String)> {
        let generation = beyond.generation.map(|_| (GENERATION_HEADER, write.generation.to_string()));
        // Where one version has everything there is nothing half out: weight 0 is where a lease would lead, and a release
        // that has been given everything must not be taken back because the daemon is away.
        let is_split = !matches!(write.canary.1, 0 | 100);
        let lease = self.lease.filter(|_| beyond.knows_leases && is_split).map(|span| {
            let fallback = [(write.stable.0.as_str(), 100), (write.canary.0.as_str(), 0)];
            (LEASE_HEADER, lease_text(span, fallback, renews))
        });
        let fuse =
            write.fuse.as_ref().filter(|_| beyond.knows_fuses).map(|fuse| match renews.filter(|_| lease.is_none()) {
                Some(version) => (FUSE_HEADER, fuse_renewal_text(fuse, version)),
                None => (FUSE_HEADER, fuse_text(fuse)),
            });
        generation.into_iter().chain(lease).chain(fuse).collect()
    }
}

type Failed = SdkError<UpdateRouteError, HttpResponse>;

/// Reads what our own endpoint says beyond App Mesh out of an answer's headers.
#[derive(Debug)]
struct HeaderReader {
    beyond: Arc<Mutex<Beyond>>,
}

impl Beyond {
    fn read<'a>(header: impl Fn(&'static str) -> Option<&'a str>) -> Self {
        let knows = |feature: &str| {
            header(FEATURES_HEADER).is_some_and(|words| words.split([',', ' ']).any(|word| word == feature))
        };
        let generation = header(GENERATION_HEADER).and_then(|text| text.parse().ok()).unwrap_or(0);
        let lapsed = header(LEASE_HEADER).and_then(lapsed_at).map(str::to_owned);
        let (knows_leases, knows_fuses) = (knows("lease"), knows("fuse"));
        Self { generation: knows("generation").then_some(generation), knows_leases, knows_fuses, lapsed }
    }
}

impl aws_smithy_runtime_api::client::interceptors::Intercept for HeaderReader {
    fn name(&self) -> &'static str {
        "tidegate extensions"
    }

    fn read_after_transmit(
        &self,
        context: &aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef<'_>,
        _: &aws_smithy_runtime_api::client::runtime_components::RuntimeComponents,
        _: &mut aws_smithy_types::config_bag::ConfigBag,
    ) -> Result<(), aws_smithy_runtime_api::box_error::BoxError> {
        let headers = context.response().headers();
        if let Ok(mut slot) = self.beyond.lock() {
            *slot = Beyond::read(|name| headers.get(name));
        }
        Ok(())
    }
}

pub(super) fn version_of(data: &RouteData) -> u64 {
    data.metadata.as_ref().and_then(|metadata| u64::try_from(metadata.version).ok()).unwrap_or(0)
}

fn reading(data: &RouteData, lapsed: Option<String>) -> RouteReading {
    let targets = data.spec.as_ref().map(edit::targets).unwrap_or_default();
    RouteReading { version: version_of(data), targets, lapsed }
}

/// Whether a route has the weights that were written, and no other target any: only then are they anybody's to renew.
fn has(spec: &RouteSpec, write: &WeightsWrite) -> bool {
    let written = [&write.canary, &write.stable];
    let targets = edit::targets(spec);
    let is_written = |node: &str, weight: u32| {
        written.iter().find(|(name, _)| name == node).map_or(weight == 0, |(_, wanted)| u32::from(*wanted) == weight)
    };
    written.iter().all(|(name, _)| targets.iter().any(|(node, _)| node == name))
        && targets.iter().all(|(node, weight)| is_written(node, *weight))
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
        let (data, beyond) = self.describe(route).await?;
        Ok((reading(&data, beyond.lapsed), beyond.generation.unwrap_or(0)))
    }

    async fn set_weights(&self, write: &WeightsWrite) -> Result<u64, Fault> {
        let WeightsWrite { route, canary, stable, .. } = write;
        let (data, beyond) = self.describe(route).await?;
        let spec = data.spec.as_ref().ok_or_else(|| Fault::permanent(SOURCE, format!("{route} has no spec")))?;
        let weights = [(canary.0.as_str(), canary.1), (stable.0.as_str(), stable.1)];
        let edited =
            edit::set_weights(spec, weights).map_err(|error| Fault::permanent(SOURCE, format!("{route}: {error}")))?;
        let headers = self.headers(write, &beyond, None);
        self.update(route, edited, headers).await.map_err(|error| fault(&error, UPDATE_ROUTE, route))
    }

    fn lease(&self) -> Option<Millis> {
        self.lease
    }

    fn previews(&self) -> Option<&dyn Previews> {
        Some(self)
    }

    async fn renew(&self, write: &WeightsWrite) -> Result<(), Fault> {
        let route = &write.route;
        let (data, beyond) = self.describe(route).await?;
        // Without a lease there may be a fuse to renew.
        let renews = self.lease.is_some() && beyond.knows_leases || write.fuse.is_some() && beyond.knows_fuses;
        let Some(spec) = data.spec.clone().filter(|spec| renews && has(spec, write)) else {
            return Ok(());
        };
        let headers = self.headers(write, &beyond, Some(version_of(&data)));
        match self.update(route, spec, headers).await {
            Ok(_) => Ok(()),
            // Somebody wrote the route since it was read: what that means is for whoever reads it next.
            Err(error) if error.code() == Some(CONFLICT) => Ok(()),
            Err(error) => Err(fault(&error, UPDATE_ROUTE, route)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fuse::{Decimal, Fuse};

    fn write(canary: u8) -> WeightsWrite {
        WeightsWrite {
            route: RouteRef { mesh: "shop".into(), router: "r".into(), route: "x".into() },
            canary: ("v2".into(), canary),
            stable: ("v1".into(), 100 - canary),
            generation: 7,
            urgent: false,
            fuse: Some(Fuse {
                failures: 5,
                canary: "v2".into(),
                rollout: "r-1".into(),
                threshold: Decimal::at_least(5.73),
                ratio: Decimal::whole(1),
                add: Decimal::at_least(0.001),
            }),
        }
    }

    #[test]
    fn headers_go_where_they_are_announced() {
        let mesh = AppMesh::local("http://127.0.0.1:9", "us-east-1");
        let read = |features: Option<&'static str>| Beyond::read(|name| features.filter(|_| name == FEATURES_HEADER));
        let sent = |mesh: &AppMesh, canary, features| -> Vec<String> {
            let headers = mesh.headers(&write(canary), &read(features), None);
            headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
        };
        let (generation, lease) = ("x-tidegate-generation: 7", "x-tidegate-lease: 2m; fallback=v1=100,v2=0");
        assert_eq!(sent(&mesh, 10, None), Vec::<String>::new());
        assert_eq!(sent(&mesh, 10, Some("generation")), [generation]);
        assert_eq!(sent(&mesh, 10, Some("generation, lease")), [generation, lease]);
        assert_eq!(sent(&mesh, 10, Some("lease")), [lease]);
        let fuse = "x-tidegate-fuse: 5; canary=v2; rollout=r-1; threshold=5.73; ratio=1; add=0.001";
        assert_eq!(sent(&mesh, 10, Some("fuse,lease")), [lease, fuse]);
        for end in [0, 100] {
            assert_eq!(sent(&mesh, end, Some("generation, lease")), [generation], "nothing is half out");
        }
        // What is renewed is said once: by the lease, or by the fuse where there is none.
        let renewed = |mesh: &AppMesh| {
            let headers = mesh.headers(&write(10), &read(Some("lease, fuse")), Some(12));
            headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
        };
        assert_eq!(renewed(&mesh), [format!("{lease}; renews=12"), fuse.to_owned()]);
        let mesh = mesh.with_lease(None);
        assert_eq!(renewed(&mesh), [format!("{fuse}; renews=12")]);
        assert_eq!(sent(&mesh, 10, Some("generation, lease")), [generation]);
    }

    #[test]
    fn only_weights_that_are_still_there_are_renewed() {
        let spec = |targets: &[(&str, i32)]| {
            let targets = targets.iter().map(|(node, weight)| {
                aws_sdk_appmesh::types::WeightedTarget::builder()
                    .virtual_node(*node)
                    .weight(*weight)
                    .build()
                    .expect("complete")
            });
            let action = aws_sdk_appmesh::types::TcpRouteAction::builder()
                .set_weighted_targets(Some(targets.collect()))
                .build()
                .expect("complete");
            RouteSpec::builder().tcp_route(aws_sdk_appmesh::types::TcpRoute::builder().action(action).build()).build()
        };
        for (targets, is_there) in [
            (&[("v1", 90), ("v2", 10)][..], true),
            (&[("v2", 10), ("v1", 90), ("old", 0)][..], true),
            (&[("v1", 90), ("v2", 10), ("old", 1)][..], false),
            (&[("v1", 95), ("v2", 5)][..], false),
            (&[("v1", 100)][..], false),
        ] {
            assert_eq!(has(&spec(targets), &write(10)), is_there, "{targets:?}");
        }
    }
}
