//! Endpoints that AWS Cloud Map keeps: the instances of a service that carry all attributes of the virtual node.
//!
//! **Health.** `HEALTHY_OR_ELSE_ALL`: an instance that Cloud Map calls unhealthy is left out, as App Mesh did, unless all
//! are; then all count, as they do in Envoy when most are unhealthy, since a health checker that is broken must not take the
//! service down with it.
//!
//! **Every look-up is a call.** `DiscoverInstancesRevision` is cheaper and would tell that nothing came or went, but health
//! does not change the revision, so what is asked is what is wanted. Two look-ups of one service do not overlap.
//!
//! **Ports.** `AWS_INSTANCE_PORT` where an instance has it, else the listener's: a node with several listeners should
//! register its instances without a port.

use super::choose::pick;
use crate::aws::{self, Failed};
use crate::base::fault::{Fault, FaultKind};
use crate::base::pause::pause_after;
use crate::clock::{Monotonic, seed};
use crate::mesh::snapshot::{Discovery, IpPreference};
use crate::ports::EndpointSource;
use async_trait::async_trait;
use aws_sdk_servicediscovery::Client;
use aws_sdk_servicediscovery::types::{HealthStatusFilter, HttpInstanceSummary};
use aws_types::SdkConfig;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

/// Name under which faults are reported; also the prefix of the actions in IAM.
const SOURCE: &str = "servicediscovery";
const DISCOVER: &str = "DiscoverInstances";
/// So many instances Cloud Map names at most, and there are no further pages.
const MOST_INSTANCES: i32 = 1000;
/// After a call that failed for now, the service is left alone for so long; twice as long each further time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause. The last known endpoints stay meanwhile, so a minute more is no outage.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Services whose failures are remembered: more than the virtual nodes that a mesh may have (200).
const MOST_REMEMBERED: usize = 1024;

/// AWS Cloud Map.
#[derive(Debug)]
pub struct CloudMapSource {
    client: Client,
    /// Services that failed for now, by namespace and name.
    pauses: Mutex<BTreeMap<(String, String), Pause>>,
}

/// A service that is left alone.
#[derive(Debug, Clone)]
struct Pause {
    failures: u32,
    began: Monotonic,
    length: Duration,
    fault: Fault,
}

impl CloudMapSource {
    /// Over a client that is already bounded as its owner wants it.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, pauses: Mutex::default() }
    }

    /// With the region, credentials and endpoint of a shared set.
    #[must_use]
    pub fn from_config(config: &SdkConfig) -> Self {
        Self::new(Client::from_conf(aws::builder!(aws_sdk_servicediscovery, config).build()))
    }

    /// The instances' endpoints in a stable order.
    ///
    /// # Errors
    /// Whatever the call comes to; and a permanent one where not a single instance of those that there are has an address
    /// that can be used.
    async fn discover(
        &self,
        (namespace, service): (&str, &str),
        (attributes, preference): (&BTreeMap<String, String>, IpPreference),
        default_port: u16,
    ) -> Result<Vec<SocketAddr>, Fault> {
        let place = format!("{service}.{namespace}");
        tracing::debug!(target: "tidegate::aws", service = SOURCE, operation = DISCOVER, place, "call");
        // The SDK's own type.
        let query: HashMap<String, String> = attributes.clone().into_iter().collect();
        let answer = self
            .client
            .discover_instances()
            .namespace_name(namespace)
            .service_name(service)
            .set_query_parameters((!query.is_empty()).then_some(query))
            .health_status(HealthStatusFilter::HealthyOrElseAll)
            .max_results(MOST_INSTANCES)
            .send()
            .await;
        let failed = Failed { service: SOURCE, operation: DISCOVER, writes: false, place: &place, remedy };
        let answer = answer.map_err(|error| failed.fault(&error))?;
        let instances = answer.instances();
        if usize::try_from(MOST_INSTANCES).is_ok_and(|most| instances.len() >= most) {
            tracing::warn!(place, "Cloud Map names 1,000 instances at a time: any further ones get no requests");
        }
        let mut endpoints = Vec::new();
        let mut unusable = Vec::new();
        for instance in instances {
            match endpoint(instance, default_port, preference) {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(why) => unusable.push(format!("{}: {why}", instance.instance_id().unwrap_or("?"))),
            }
        }
        if let Some(first) = unusable.first() {
            let count = unusable.len();
            if endpoints.is_empty() {
                let text = format!(
                    "{DISCOVER} of {place}: none of {count} instances can be used; correct how they are registered: {}",
                    aws::bounded(first)
                );
                return Err(Fault::permanent(SOURCE, text));
            }
            tracing::warn!(place, count, first = %aws::bounded(first), "instances of Cloud Map that cannot be used");
        }
        endpoints.sort_by_key(|address| (address.is_ipv6(), *address));
        endpoints.dedup();
        Ok(endpoints)
    }

    /// The fault of the last call, while the service is left alone.
    fn paused(&self, key: &(String, String)) -> Option<Fault> {
        let pauses = self.pauses.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let pause = pauses.get(key)?;
        (pause.began.elapsed() < pause.length).then(|| pause.fault.clone())
    }

    /// Remembers how a call went.
    fn note(&self, key: (String, String), result: &Result<Vec<SocketAddr>, Fault>) {
        let mut pauses = self.pauses.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match result {
            Err(fault) if fault.kind == FaultKind::Transient => {
                if pauses.len() >= MOST_REMEMBERED && !pauses.contains_key(&key) {
                    pauses.clear();
                }
                let failures = pauses.get(&key).map_or(0, |pause| pause.failures).saturating_add(1);
                let pause = Pause {
                    failures,
                    began: Monotonic::now(),
                    length: pause_after(failures, FIRST_PAUSE, LONGEST_PAUSE, seed()),
                    fault: fault.clone(),
                };
                pauses.insert(key, pause);
            }
            _ => {
                pauses.remove(&key);
            }
        }
    }
}

#[async_trait]
impl EndpointSource for CloudMapSource {
    async fn resolve(&self, discovery: &Discovery, default_port: u16) -> Result<Vec<SocketAddr>, Fault> {
        let Discovery::CloudMap { namespace, service, attributes, preference } = discovery else {
            return Err(Fault::permanent(SOURCE, "a node that is found by other means was looked for in Cloud Map"));
        };
        let key = (namespace.clone(), service.clone());
        if let Some(fault) = self.paused(&key) {
            return Err(fault);
        }
        let result = self.discover((namespace, service), (attributes, *preference), default_port).await;
        self.note(key, &result);
        result
    }
}

/// Where an instance is.
fn endpoint(instance: &HttpInstanceSummary, default_port: u16, preference: IpPreference) -> Result<SocketAddr, String> {
    let attribute =
        |name: &'static str| instance.attributes().and_then(|attributes| attributes.get(name)).map(String::as_str);
    let wrong = |name: &str, value: &str| format!("{name} is `{value}`");
    let read = |name: &'static str| attribute(name).map(|value| (value, name));
    let v4 =
        read("AWS_INSTANCE_IPV4").map(|(value, name)| value.parse().map_err(|_| wrong(name, value))).transpose()?;
    let v6 =
        read("AWS_INSTANCE_IPV6").map(|(value, name)| value.parse().map_err(|_| wrong(name, value))).transpose()?;
    let port = match read("AWS_INSTANCE_PORT") {
        None => default_port,
        Some((value, name)) => value.parse().ok().filter(|port| *port > 0).ok_or_else(|| wrong(name, value))?,
    };
    let ip = pick(v4, v6, preference);
    let missing = match preference {
        IpPreference::V4Only => "it has no AWS_INSTANCE_IPV4, and `ipPreference` wants no other",
        IpPreference::V6Only => "it has no AWS_INSTANCE_IPV6, and `ipPreference` wants no other",
        _ => "it has no AWS_INSTANCE_IPV4 or AWS_INSTANCE_IPV6",
    };
    ip.map(|ip| SocketAddr::new(ip, port)).ok_or_else(|| missing.to_owned())
}

/// What to do about a refusal, where that is known; ends in `: `.
fn remedy(code: &str, _: &str) -> &'static str {
    match code {
        "NamespaceNotFound" => "there is no such namespace in this account and region; correct the virtual node: ",
        "ServiceNotFound" => "there is no such service in the namespace; correct the virtual node: ",
        "InvalidInput" => "Cloud Map does not take this question; correct `awsCloudMap` of the virtual node: ",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(attributes: &[(&str, &str)]) -> HttpInstanceSummary {
        let builder = HttpInstanceSummary::builder().instance_id("i-1");
        attributes.iter().fold(builder, |builder, (name, value)| builder.attributes(*name, *value)).build()
    }

    #[test]
    fn an_instance_is_where_its_attributes_say() {
        for (attributes, found) in [
            (&[("AWS_INSTANCE_IPV4", "10.0.0.1")][..], Ok("10.0.0.1:80")),
            (
                &[("AWS_INSTANCE_IPV4", "10.0.0.1"), ("AWS_INSTANCE_PORT", "8080"), ("color", "blue")],
                Ok("10.0.0.1:8080"),
            ),
            (&[("AWS_INSTANCE_IPV6", "fd00::1"), ("AWS_INSTANCE_IPV4", "10.0.0.1")], Ok("10.0.0.1:80")),
            (&[("AWS_INSTANCE_IPV6", "fd00::1")], Ok("[fd00::1]:80")),
            (&[("AWS_INSTANCE_CNAME", "a.example")], Err("it has no AWS_INSTANCE_IPV4")),
            (&[("AWS_INSTANCE_IPV4", "10.0.0")], Err("AWS_INSTANCE_IPV4 is `10.0.0`")),
            (&[("AWS_INSTANCE_IPV4", "10.0.0.1"), ("AWS_INSTANCE_PORT", "0")], Err("AWS_INSTANCE_PORT is `0`")),
            (&[("AWS_INSTANCE_IPV4", "10.0.0.1"), ("AWS_INSTANCE_PORT", "99999")], Err("AWS_INSTANCE_PORT is `99999`")),
        ] {
            match (endpoint(&instance(attributes), 80, IpPreference::Unset), found) {
                (Ok(address), Ok(wanted)) => assert_eq!(address.to_string(), wanted),
                (Err(why), Err(wanted)) => assert!(why.contains(wanted), "{why}"),
                (found, wanted) => panic!("{attributes:?}: {found:?} instead of {wanted:?}"),
            }
        }
    }
}
