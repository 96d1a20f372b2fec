//! The demo: two real services as processes, real load, mesh, proxy and controller on loopback; then a good release
//! and a bad one, started through the public API like anybody's.
//!
//! It tells what happens as [`Happening`](crate::demo::Happening)s; printing is the command line's.

pub mod load;
pub mod service;

use crate::api::client::{Client, ClientError, segment};
use crate::api::wire::StartBody;
use crate::app::{Addresses, Bound, LocalOptions, StartupError, start_local};
use crate::clock::{Clock, Monotonic, SystemClock};
use crate::rollout::view::RolloutView;
use load::{Load, Seen};
use serde::Serialize;
use service::{Process, ProcessError};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Requests per second: enough for a verdict within seconds, and little for two cores.
const REQUESTS_PER_S: u32 = 300;
/// Share of its requests that the bad release fails.
const BAD_FAIL_SHARE: f64 = 0.05;
/// A scenario takes about 20 s; one that takes this long has failed.
const SCENARIO_TIMEOUT: Duration = Duration::from_secs(60);
/// Services and proxy answer within this time of their start, or never.
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(15);
/// Traffic before a release, so that people see the state before it.
const BEFORE_RELEASE: Duration = Duration::from_secs(1);
/// Time between looks at a rollout.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Name of the demo's virtual service.
pub const SERVICE: &str = "checkout.local";

const POLICY: &str = "\
# The demo's policy: see docs/POLICY.md for every key.
version: 1
name: checkout
route: { mesh: demo, router: checkout-router, route: checkout }
versions: [checkout-a, checkout-b]
steps:
  - { weight: 10, min: 3s, max: 30s, prove_no_worse_than: 3pp }
  - { weight: 50, min: 3s, max: 30s }
  - { weight: 100, min: 3s }
gates:
  - { name: errors, metric: error_rate, compare: stable, tolerate: { ratio: 1.0, add: 0.1pp } }
";

/// A release of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Healthy: walks to 100 %.
    Good,
    /// Fails 5 % of its requests: rolled back.
    Bad,
}

impl Release {
    const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }

    const fn version(self) -> &'static str {
        match self {
            Self::Good => "v2",
            Self::Bad => "v3",
        }
    }

    const fn fail_share(self) -> f64 {
        match self {
            Self::Good => 0.0,
            Self::Bad => BAD_FAIL_SHARE,
        }
    }

    /// The phase in which it must end.
    const fn must_end(self) -> &'static str {
        match self {
            Self::Good => "succeeded",
            Self::Bad => "rolled_back",
        }
    }
}

/// What happens on the stage.
#[derive(Debug)]
pub enum Happening<'a> {
    /// A release begins.
    Scene {
        /// Which.
        name: &'static str,
        /// In a sentence.
        text: String,
    },
    /// Where its rollout stands now.
    Rollout(&'a RolloutView),
    /// It has ended.
    Ended(&'a Played),
}

/// How one release ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Played {
    /// `good` or `bad`.
    pub name: &'static str,
    /// Phase in which the rollout ended, or `timed_out`.
    pub outcome: String,
    /// Whether it ended as it must.
    pub as_it_must: bool,
    /// The rollout.
    pub rollout: String,
    /// Why it ended so.
    pub reason: String,
    /// Requests that the new version answered.
    pub canary_requests: u64,
    /// Of these, failed.
    pub failed_requests: u64,
    /// From the new version's first failure to the decision, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detect_ms: Option<i64>,
    /// From the decision to the start of the last request that the new version got, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_ms: Option<i64>,
    /// From start to end, in milliseconds.
    pub duration_ms: u64,
}

/// How the demo ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Always `summary`.
    pub event: &'static str,
    /// In the order played.
    pub scenarios: Vec<Played>,
    /// Requests sent in all.
    pub requests: u64,
    /// Requests that got no answer of a service: the proxy's own doing.
    pub lost_requests: u64,
}

impl Summary {
    /// Whether every scenario ended as it must and no request was lost.
    #[must_use]
    pub fn is_as_it_must(&self) -> bool {
        self.lost_requests == 0 && self.scenarios.iter().all(|played| played.as_it_must)
    }
}

/// Why the demo could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A service.
    #[error(transparent)]
    Service(#[from] ProcessError),
    /// The daemon.
    #[error(transparent)]
    Startup(#[from] StartupError),
    /// A file of its own.
    #[error("cannot write the demo's files: {0}")]
    Files(#[from] std::io::Error),
    /// The API.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nothing answered.
    #[error("the demo's service did not answer through the proxy within {seconds} s: {why}", seconds = WARM_UP_TIMEOUT.as_secs())]
    Silent {
        /// What became of the last request.
        why: String,
    },
}

/// Everything that the demo starts.
pub struct Stage {
    bound: Bound,
    load: Load,
    /// The processes of the two slots.
    slots: [Process; 2],
    /// Policies, mesh file and database; removed with the stage.
    _directory: tempfile::TempDir,
}

fn mesh_document(ports: [u16; 2]) -> String {
    let node = |name: &str, port: u16| {
        format!(
            "meshName: demo\nvirtualNodeName: {name}\nspec:\n  listeners:\n    - portMapping: {{ port: {port}, protocol: http }}\n      \
             healthCheck: {{ protocol: http, path: /health, intervalMillis: 5000, timeoutMillis: 2000, healthyThreshold: 2, \
             unhealthyThreshold: 2 }}\n  serviceDiscovery: {{ dns: {{ hostname: 127.0.0.1 }} }}\n---\n"
        )
    };
    format!(
        "meshName: demo\n---\n{}{}meshName: demo\nvirtualRouterName: checkout-router\nspec:\n  listeners:\n    \
         - portMapping: {{ port: 80, protocol: http }}\n---\nmeshName: demo\nvirtualRouterName: checkout-router\n\
         routeName: checkout\nspec:\n  httpRoute:\n    match: {{ prefix: / }}\n    action:\n      weightedTargets:\n        \
         - {{ virtualNode: checkout-a, weight: 100 }}\n        - {{ virtualNode: checkout-b, weight: 0 }}\n---\n\
         meshName: demo\nvirtualServiceName: {SERVICE}\nspec:\n  provider: {{ virtualRouter: {{ virtualRouterName: \
         checkout-router }} }}\n",
        node("checkout-a", ports[0]),
        node("checkout-b", ports[1])
    )
}

fn write_files(directory: &Path, ports: [u16; 2]) -> std::io::Result<()> {
    std::fs::create_dir(directory.join("policies"))?;
    std::fs::write(directory.join("policies/checkout.yaml"), POLICY)?;
    std::fs::write(directory.join("mesh.yaml"), mesh_document(ports))
}

impl Stage {
    /// Starts the services, the daemon and the load.
    ///
    /// # Errors
    /// [`DemoError`]; whatever was started is ended.
    pub async fn set_up(listen: Addresses, region: String) -> Result<Self, DemoError> {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = Process::start(any_port, "v1", 0.0).await?;
        let second = Process::start(any_port, "v2", 0.0).await?;
        let directory = tempfile::Builder::new().prefix("tidegate-demo-").tempdir()?;
        write_files(directory.path(), [first.address.port(), second.address.port()])?;
        let bound = start_local(LocalOptions {
            mesh: vec![directory.path().join("mesh.yaml")],
            parameters: BTreeMap::new(),
            overwrite_weights: false,
            policies: directory.path().join("policies"),
            data_dir: directory.path().join("data"),
            discovery: None,
            certificates: Vec::new(),
            as_node: None,
            hooks: BTreeMap::new(),
            workers: 0,
            region,
            listen,
        })
        .await?;
        let load = Load::start(bound.addresses.egress, SERVICE, REQUESTS_PER_S);
        Ok(Self { bound, load, slots: [first, second], _directory: directory })
    }

    async fn warm_up(&self) -> Result<(), DemoError> {
        let began = Monotonic::now();
        while self.load.seen("v1").requests == 0 {
            if began.elapsed() > WARM_UP_TIMEOUT {
                return Err(DemoError::Silent { why: self.load.last_loss() });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        // Requests sent before the proxy could answer are the demo's own impatience.
        self.load.forget_losses();
        Ok(())
    }

    /// Where everything listens.
    #[must_use]
    pub const fn addresses(&self) -> Addresses {
        self.bound.addresses
    }

    /// Resolves when someone asked the proxy to quit over its admin pages.
    pub fn quit_requested(&self) -> impl Future<Output = ()> + Send + use<> {
        self.bound.quit_requested()
    }

    /// Waits until answers come, then plays releases one after the other.
    ///
    /// # Errors
    /// [`DemoError`] when one cannot be played at all; ending otherwise than it must is no error but a result.
    pub async fn play(
        &mut self,
        releases: &[Release],
        client: &Client,
        mut tell: impl FnMut(&Happening<'_>),
    ) -> Result<Summary, DemoError> {
        self.warm_up().await?;
        let mut scenarios = Vec::new();
        for release in releases {
            let played = self.play_one(*release, client, &mut tell).await?;
            tell(&Happening::Ended(&played));
            scenarios.push(played);
        }
        let (requests, lost_requests) = self.load.totals();
        Ok(Summary { event: "summary", scenarios, requests, lost_requests })
    }

    async fn play_one(
        &mut self,
        release: Release,
        client: &Client,
        tell: &mut impl FnMut(&Happening<'_>),
    ) -> Result<Played, DemoError> {
        let name = release.name();
        tell(&Happening::Scene { name, text: scene_text(release) });
        self.deploy(release, client).await?;
        tokio::time::sleep(BEFORE_RELEASE).await;
        let began = Monotonic::now();
        let revision = Some(release.version().to_owned());
        let body = StartBody { policy: "checkout".to_owned(), revision, ..StartBody::default() };
        let mut view: RolloutView = client.post("/v1/rollouts", &body).await?;
        while !view.finished && began.elapsed() < SCENARIO_TIMEOUT {
            tell(&Happening::Rollout(&view));
            tokio::time::sleep(LOOK_EVERY).await;
            view = client.get(&format!("/v1/rollouts/{}", segment(&view.id))).await?;
        }
        tell(&Happening::Rollout(&view));
        Ok(played(release, &view, &self.load.seen(release.version()), began.elapsed()))
    }

    /// Puts the release's version into the slot without traffic.
    async fn deploy(&mut self, release: Release, client: &Client) -> Result<(), DemoError> {
        let rollouts: crate::api::wire::RolloutList = client.get("/v1/rollouts").await?;
        let promoted = rollouts.rollouts.iter().find(|view| view.phase == "succeeded");
        let idle = usize::from(promoted.is_none_or(|view| view.canary == "checkout-a"));
        if self.slots[idle].version != release.version() {
            let address = self.slots[idle].address;
            self.slots[idle].end().await;
            self.slots[idle] = Process::start(address, release.version(), release.fail_share()).await?;
        }
        Ok(())
    }

    /// Ends everything: no process and no open port is left.
    pub async fn clear(self) {
        let Self { bound, load, slots, _directory } = self;
        load.stop().await;
        bound.drain().await;
        for mut slot in slots {
            slot.end().await;
        }
    }
}

fn scene_text(release: Release) -> String {
    match release {
        Release::Good => "v2 is healthy: it should walk to 100 %".to_owned(),
        Release::Bad => format!("v3 fails {:.0} % of its requests: it should be rolled back", BAD_FAIL_SHARE * 100.0),
    }
}

fn played(release: Release, view: &RolloutView, seen: &Seen, took: Duration) -> Played {
    let outcome = if view.finished { view.phase.clone() } else { "timed_out".to_owned() };
    let decided = view.decided_at_ms.filter(|_| release == Release::Bad);
    let detect_ms = decided.zip(seen.first_failure_ms).map(|(decided, failed)| (decided - failed).max(0));
    let rollback_ms = decided.zip(seen.last_sent_ms).map(|(decided, sent)| (sent - decided).max(0));
    Played {
        name: release.name(),
        as_it_must: outcome == release.must_end(),
        outcome,
        rollout: view.id.clone(),
        reason: view.reason.clone().unwrap_or_default(),
        canary_requests: seen.requests,
        failed_requests: seen.failed,
        detect_ms,
        rollback_ms,
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Now, for what the demo prints.
#[must_use]
pub fn now_ms() -> i64 {
    SystemClock.now().0
}
