//! Looks at everything that the daemon needs, without changing any of it: what a person asks who has just set it up, or
//! who was woken by it.

mod sources;
mod told;

use super::measured::outside;
use super::serve::{aws, mesh};
use crate::base::fault::{Fault, FaultKind};
use crate::base::time::Timestamp;
use crate::base::weight::Slot;
use crate::clock::{Clock, Monotonic, SystemClock};
use crate::config::daemon::{DaemonConfig, DatabaseConfig};
use crate::policy::plan::{Plan, SignalQuery, WorkloadTarget};
use crate::ports::{Journal, Policies, PolicyStore, Telemetry, Traffic};
use crate::signals::proxies::RemoteTelemetry;
use crate::store::directory::PolicyDirectory;
use crate::store::policies::JoinedPolicies;
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;
use crate::trigger::queue::Queue;
use crate::workload::ecs::Ecs;
use aws_credential_types::provider::ProvideCredentials;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// One check takes no longer: somebody sits in front of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// AWS takes signatures whose time is off by five minutes at most; a clock that is off by a tenth of that is drifting.
const CLOCK_OFF_MS: i64 = 30_000;

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub about: String,
    /// What was seen.
    pub text: String,
    /// What to do; `None` where all is well.
    pub remedy: Option<String>,
}

impl Finding {
    /// All is well.
    #[must_use]
    pub fn good(about: impl Into<String>, text: impl Into<String>) -> Self {
        Self { about: about.into(), text: text.into(), remedy: None }
    }

    fn bad(about: impl Into<String>, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { about: about.into(), text: text.into(), remedy: Some(remedy.into()) }
    }
}

/// Every finding, in the order in which a daemon needs the things.
pub async fn examine(config: &DaemonConfig) -> Vec<Finding> {
    let (stored, kept) = database(config).await;
    let mut found = vec![listener(config).await, stored];
    let (plans, finding) = policies(&config.policies, kept).await;
    found.push(finding);
    found.push(proxies(config).await);
    let sdk = aws(config).await;
    let has_ecs = plans.iter().any(|plan| plan.workload.is_some());
    let is_aws = |query: &SignalQuery| matches!(query, SignalQuery::Cloudwatch(_) | SignalQuery::Xray(_));
    let asks_aws = plans.iter().flat_map(Plan::signals).any(|(_, signal)| is_aws(&signal.query));
    let is_elsewhere = config.mesh.host.is_none();
    if is_elsewhere && config.mesh.signed || has_ecs || asks_aws || config.queue.is_some() {
        found.push(credentials(&sdk).await);
    }
    if let Some(url) = &config.queue {
        found.push(queue(url, &sdk).await);
    }
    let traffic = mesh(config, &sdk);
    if let Some(endpoint) = &config.mesh.endpoint_url {
        found.push(clock(endpoint).await);
    }
    // A mesh of its own answers once it runs, and to whoever has a key.
    if let Some(host) = &config.mesh.host {
        found.push(free("mesh listener", "mesh.listen", host.listen, host.tls.is_some()).await);
    }
    for plan in plans.iter().filter(|_| is_elsewhere) {
        found.push(route(plan, &traffic).await);
    }
    match outside(config, &sdk) {
        Ok(outside) => found.extend(sources::sources(&plans, &outside).await),
        Err(fault) => found.push(Finding::bad("signals", fault.message, "correct prometheus.url")),
    }
    found.extend(told::told(&plans, config).await);
    let ecs = Ecs::from_config(&sdk);
    for plan in &plans {
        found.extend(services(plan, &ecs).await);
    }
    found
}

async fn queue(url: &str, sdk: &aws_types::SdkConfig) -> Finding {
    match in_time("sqs", Queue::from_config(sdk, url).waiting()).await {
        Ok(waiting) => Finding::good("queue", format!("{url} answers, about {waiting} messages wait")),
        Err(fault) => {
            let remedy =
                "look at queue.url, aws.region and the role's permissions for sqs (docs/TRIGGERS.md, Amazon ECR)";
            Finding::bad("queue", fault.to_string(), remedy)
        }
    }
}

async fn in_time<T>(source: &str, asked: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let late = || Fault::transient(source, format!("no answer within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()))
}

/// Asks as the daemon would: by no proxy of the environment. It tells nobody anything, so any certificate will do: that of an
/// own listener is for another name than its address.
async fn ask(url: String) -> Result<reqwest::Response, Fault> {
    let client = reqwest::Client::builder().no_proxy().danger_accept_invalid_certs(true).build();
    let answer = async { client?.get(url).send().await };
    answer.await.map_err(|error: reqwest::Error| Fault::transient("http", error))
}

async fn listener(config: &DaemonConfig) -> Finding {
    free("listener", "api.listen", config.api.listen, config.api.tls.is_some()).await
}

/// Whether an address is free, or a daemon's.
async fn free(about: &'static str, key: &str, address: SocketAddr, is_tls: bool) -> Finding {
    match tokio::net::TcpListener::bind(address).await {
        Ok(_) => Finding::good(about, format!("{address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let scheme = if is_tls { "https" } else { "http" };
            let answer = in_time("api", ask(format!("{scheme}://{address}/healthz")));
            match answer.await {
                // The App Mesh API answers strangers that they have to sign.
                Ok(answer) if answer.status().is_success() || answer.headers().contains_key("x-amzn-errortype") => {
                    Finding::good(about, format!("a daemon answers at {address}"))
                }
                _ => Finding::bad(
                    about,
                    format!("{address} is taken, and not by a daemon"),
                    format!("move this one with {key}"),
                ),
            }
        }
        Err(error) => {
            let remedy =
                format!("name an address of this machine in {key}; ports below 1024 take a right of their own");
            Finding::bad(about, format!("cannot listen on {address}: {error}"), remedy)
        }
    }
}

/// How the database is; with what was pushed into it, where it can be read.
async fn database(config: &DaemonConfig) -> (Finding, Option<Arc<dyn PolicyStore>>) {
    let (about, began) = ("database", Monotonic::now());
    let asked = match &config.database {
        DatabaseConfig::Postgres(url) => match PostgresStore::open_read_only(url).await {
            Ok(store) => match in_time("postgresql", store.position()).await {
                Ok(position) => Ok((position, store)),
                Err(fault) => Err((
                    fault.to_string(),
                    "start a daemon once: it creates the tables, if its user may (docs/operations.md, PostgreSQL)",
                )),
            },
            Err(error) => Err((error.to_string(), "the sentence above says where to look")),
        },
        DatabaseConfig::Sqlite(directory) => return sqlite(directory).await,
    };
    match asked {
        Ok((position, store)) => {
            let took = began.elapsed().as_millis();
            let text = format!("PostgreSQL answers, {position} inputs so far, connected and asked in {took} ms");
            (Finding::good(about, text), Some(Arc::new(store)))
        }
        Err((text, remedy)) => (Finding::bad(about, text, remedy), None),
    }
}

async fn sqlite(directory: &Path) -> (Finding, Option<Arc<dyn PolicyStore>>) {
    let about = "database";
    let place = directory.display();
    if !directory.join("tidegate.db").exists() {
        return (Finding::good(about, format!("SQLite, to be created in {place}")), None);
    }
    let asked = match SqliteStore::open_read_only(directory).await {
        Ok(store) => match in_time("sqlite", store.position()).await {
            Ok(position) => Ok((position, store)),
            Err(fault) => Err(fault.to_string()),
        },
        Err(error) => Err(error.to_string()),
    };
    match asked {
        Ok((position, store)) => {
            (Finding::good(about, format!("SQLite in {place}, {position} inputs so far")), Some(Arc::new(store)))
        }
        Err(text) => (Finding::bad(about, text, "mend or move what is there, or name another database.data_dir"), None),
    }
}

/// The plans of a directory and those that were pushed, and what is wrong with the others.
async fn policies(directory: &Path, kept: Option<Arc<dyn PolicyStore>>) -> (Vec<Plan>, Finding) {
    let (about, place) = ("policies", directory.display());
    let (files, pushed) = (PolicyDirectory::new(directory), if kept.is_some() { " and pushed" } else { "" });
    let all = match kept {
        Some(store) => in_time(about, JoinedPolicies::new(files, store).all()).await,
        None => files.all().await,
    };
    let all = match all {
        Ok(all) => all,
        Err(fault) => return (Vec::new(), Finding::bad(about, fault.to_string(), "correct policies.directory")),
    };
    let (mut plans, mut wrong) = (Vec::new(), Vec::new());
    for (name, plan) in all {
        match plan {
            Ok(plan) => plans.push(plan),
            Err(problems) => wrong.push(format!("{name}: {problems}")),
        }
    }
    let finding = match (wrong.is_empty(), plans.len()) {
        (false, _) => {
            let remedy = "correct the files, or push others; `tidegate policy lint` checks them";
            Finding::bad(about, wrong.join("\n"), remedy)
        }
        (true, 0) => Finding::good(about, format!("none in {place}{pushed} yet")),
        (true, count) => Finding::good(about, format!("{count} in {place}{pushed}, all valid")),
    };
    (plans, finding)
}

async fn proxies(config: &DaemonConfig) -> Finding {
    let about = "proxies";
    if config.proxies.is_empty() && config.mesh.host.is_some() {
        return Finding::good(about, "none are named; Envoys of the mesh here tell of their requests by themselves");
    }
    if config.proxies.is_empty() {
        let text = "none are named, so no release gets beyond its first step by what requests say";
        return Finding::bad(about, text, "name the proxies' admin addresses in telemetry.proxies");
    }
    let asked = async { RemoteTelemetry::new(&config.proxies)?.reports().await };
    match in_time("live telemetry", asked).await {
        Ok(reports) => Finding::good(about, format!("{} of them report", reports.len())),
        Err(fault) => {
            let remedy = "correct telemetry.proxies; may this machine connect to the proxies' admin port?";
            Finding::bad(about, fault.message, remedy)
        }
    }
}

async fn credentials(sdk: &aws_types::SdkConfig) -> Finding {
    let about = "credentials";
    let remedy =
        "on ECS give the task a task role; elsewhere set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile";
    let Some(region) = sdk.region() else {
        return Finding::bad(about, "no region of AWS is known", "set aws.region or AWS_REGION");
    };
    let Some(provider) = sdk.credentials_provider() else {
        return Finding::bad(about, "there are no credentials of AWS", remedy);
    };
    let asked = async { provider.provide_credentials().await.map_err(|error| Fault::permanent("credentials", error)) };
    match in_time("credentials", asked).await {
        Ok(_) => Finding::good(about, format!("found, for {region}")),
        Err(fault) => Finding::bad(about, format!("there are no credentials of AWS: {}", fault.message), remedy),
    }
}

/// Compares with the time that the mesh's endpoint gives in its answers.
async fn clock(endpoint: &str) -> Finding {
    let about = "clock";
    let asked = in_time("mesh", async {
        let answer = ask(endpoint.to_owned()).await?;
        let date = answer.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
        date.ok_or_else(|| Fault::permanent("mesh", "its answer has no time"))
    });
    let now = SystemClock.now();
    match asked.await.map(|date| http_date(&date)) {
        Ok(Some(there)) if (there.0 - now.0).abs() > CLOCK_OFF_MS => {
            let off_s = (now.0 - there.0) / 1000;
            Finding::bad(
                about,
                format!("off by {off_s} s against {endpoint}"),
                "synchronise it (chrony, systemd-timesyncd)",
            )
        }
        Ok(Some(_)) => Finding::good(about, format!("as that of {endpoint}")),
        Ok(None) => Finding::good(about, format!("not compared: {endpoint} tells no time")),
        Err(fault) => Finding::good(about, format!("not compared with that of {endpoint}: {}", fault.message)),
    }
}

/// A date of HTTP (RFC 9110, 5.6.7), in its one form that is sent today.
fn http_date(text: &str) -> Option<Timestamp> {
    let time = aws_smithy_types::DateTime::from_str(text, aws_smithy_types::date_time::Format::HttpDate).ok()?;
    time.to_millis().ok().map(Timestamp)
}

async fn route(plan: &Plan, traffic: &dyn Traffic) -> Finding {
    let about = format!("route of {}", plan.name);
    match in_time("app mesh", traffic.read(&plan.route)).await {
        Ok((reading, _)) => {
            let weights: Vec<String> =
                plan.versions.iter().map(|node| format!("{node} {}", reading.weight_of(node))).collect();
            Finding::good(about, format!("{}: {}", plan.route, weights.join(", ")))
        }
        Err(fault) => {
            let remedy = match fault.kind {
                FaultKind::Permanent => {
                    "create it, or correct `route` in the policy; grant appmesh:DescribeRoute and appmesh:UpdateRoute"
                }
                FaultKind::Transient | FaultKind::Unknown => {
                    "is mesh.endpoint_url right, and may this machine connect to it?"
                }
            };
            Finding::bad(about, fault.message, remedy)
        }
    }
}

/// Both services, by the calls that a release begins with; what changes something is not tried.
async fn services(plan: &Plan, ecs: &Ecs) -> Vec<Finding> {
    let Some(workload) = &plan.workload else { return Vec::new() };
    let WorkloadTarget::Ecs(target) = &workload.target else {
        let text = "its versions are processes, which only `tidegate local` runs";
        let remedy = "give it `workload.ecs`, or take `workload` out and run the versions yourself";
        return vec![Finding::bad(format!("workload of {}", plan.name), text, remedy)];
    };
    let mut found = Vec::new();
    for (slot, service) in [Slot::First, Slot::Second].into_iter().zip(&target.services) {
        let about = format!("service {service} of {}", plan.name);
        found.push(match in_time("ecs", ecs.examine(target, slot)).await {
            Ok(reading) => Finding::good(about, reading.note),
            Err(fault) => {
                let remedy = "docs/aws.md has the rights that the daemon's role needs, and what a service must be like";
                Finding::bad(about, fault.message, remedy)
            }
        });
    }
    found
}
